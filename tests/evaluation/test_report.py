"""The report as a file: well-formed, self-contained, honest."""

import copy
from html.parser import HTMLParser

import pytest

from posa_vla.evaluation.report import number, percent, render

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Checker(HTMLParser):
    """Collects elements and text; raises on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(evaluation) -> str:
    return (evaluation.folder / "report.html").read_text()


@pytest.fixture
def results(evaluation) -> dict:
    return copy.deepcopy(evaluation.results)


def test_it_nests_and_loads_nothing_from_elsewhere(page):
    checker = Checker(page)
    for name, attributes in checker.elements:
        for attribute in ("src", "href", "poster", "srcset", "data"):
            assert attributes.get(attribute, "data:").startswith("data:"), (name, attribute)
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert checker.all("script") == []


def test_every_film_can_be_played_and_has_its_sentence(page, results):
    checker = Checker(page)
    videos = checker.all("video")
    assert len(videos) == len(results["films"]) > 0
    for video, film in zip(videos, results["films"], strict=True):
        assert {"controls", "muted", "loop", "playsinline"} <= set(video)
        assert video["src"].startswith("data:video/mp4;base64,")
        assert film["task"] in checker.text


def test_the_numbers_are_those_of_the_json(page, results):
    text = Checker(page).text
    for row in results["summary"]["conditions"]:
        assert percent(row["success"]["rate"], 1) in text
        assert percent(row["success"]["low"], 1) in text
    task = results["summary"]["anchors"]["rows"][0]["first"]
    for kind in ("error", "constant", "random_object"):
        assert number(task[kind], 3) in text
    assert results["command"] in text
    assert "RuntimeError: the scene cannot be built" in text
    assert results["summary"]["anchors"]["constant_is"] in text
    tiles = [a["class"] for a in Checker(page).all("i") if "title" in a]
    assert len(tiles) == len(results["records"])
    assert tiles.count("error") == 1


def test_what_comes_from_outside_is_escaped(results, evaluation):
    nasty = "<script>alert('pick & place')</script>"
    for item in results["records"] + results["films"]:
        item["task"] = nasty
    results["records"][8]["message"] = nasty
    page = render(results, evaluation.folder)
    assert "<script" not in page
    assert Checker(page).text.count(nasty) > len(results["films"])


def test_without_films_anchors_expert_or_any_ended_episode(results, evaluation):
    results["films"] = []
    results["summary"]["anchors"] = None
    for row in [results["summary"]["pooled"], *results["summary"]["conditions"]]:
        for name in ("steps_to_success", "expert_steps", "path_ratio", "smoothness", "expert_smoothness"):
            row[name] = None
        row.update(ms_per_action=None, env_ms_per_step=None, episodes=0, failures={})
        for name in ("success", "wrong_object"):
            row[name] = {"count": 0, "rate": None, "low": 0.0, "high": 1.0}
    text = Checker(render(results, evaluation.folder)).text
    assert "No episode ended" in text
    assert "None" not in text
    assert "No episode failed" in text


def test_scenes_of_the_training_split_are_not_called_unseen(results, evaluation):
    assert "unseen scenes solved" in render(results, evaluation.folder)
    results["split"] = "train"
    assert "unseen scenes solved" not in render(results, evaluation.folder)


def test_a_task_of_several_stages_has_a_table_of_them(results, evaluation, page):
    assert "<h3>Stages</h3>" not in page
    results["task"] = {"family": "box", "aim": "open it", "success": "it lies in the box", "stages": ["opened", "in"]}
    share = {"count": 3, "rate": 0.375, "low": 0.1, "high": 0.7}
    for row in [results["summary"]["pooled"], *results["summary"]["conditions"]]:
        row["stages"] = {"opened": share, "in": share}
    results["summary"]["pooled"]["mistakes"] = {"put it on the other side": 2}
    text = Checker(render(results, evaluation.folder)).text
    assert "Stages" in text
    assert text.count("37.5 %") == 2 * (1 + len(results["summary"]["conditions"]))
    assert f"2 of {results['summary']['pooled']['episodes']} episodes put it on the other side" in text
    assert "more on a table; open it." in text
    assert "it lies in the box, and that for half a second" in text
