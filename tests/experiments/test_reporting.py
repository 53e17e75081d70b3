"""The committed file, and the tables and plots made from it alone."""

import json
import shutil

import pytest
from experiment_content import CONTENT

from posa_vla.errors import PosaError
from posa_vla.evaluation.intervals import difference_interval, wilson
from posa_vla.experiments import committed, tables
from posa_vla.experiments.anchor_tables import UNKNOWN, attention_table, auc, space_table
from posa_vla.experiments.markdown import replace_section
from posa_vla.experiments.numbers import groups
from posa_vla.experiments.plots import training_figure
from posa_vla.experiments.reporting import project_of

MOST, FEW = ({seed: (4 * (seed < solved), 4) for seed in range(4)} for solved in (3, 1))
"""Scenes of the toy: each is met under two conditions by two trainings, always alike."""
FOUR_SCENES = "75.0 % [{:.1f}, {:.1f}]".format(*(100 * bound for bound in wilson(3, 4)))
LESS = "-50.0 [{:+.1f}, {:+.1f}]".format(*(100 * bound for bound in difference_interval(FEW, MOST)))

PAGE = "# Results\n\n<!-- experiment:toy -->\nold\n<!-- /experiment:toy -->\n\nThe end.\n"


@pytest.fixture
def reported(project):
    """A finished experiment; full solves 3 of 4 in each of two conditions, blind 1 of 4."""
    project.write(tables=["success", "efficiency", "anchors", "space", "look", "attention"])
    (project.root / "docs" / "results.md").write_text(PAGE)
    assert project.run(workers=2) == 0
    assert project.run(report=True) == 0
    return project


def section(project):
    return (project.root / "docs" / "results.md").read_text()


def row(text, name, table=0):
    lines = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in lines[table].strip("|").split("|")]


def test_the_table_pools_seeds_and_compares_with_the_reference(reported):
    text = section(reported)
    assert text.startswith("# Results\n\n<!-- experiment:toy -->\n*Does it matter?*") and text.endswith("The end.\n")
    assert "old" not in text and "A laptop." in text
    full = row(text, "full")
    assert full[1:5] == ["16", FOUR_SCENES, "75 %, 75 %", "–"]
    assert full[6:9] == ["40 (30)", "1.10", "0.090"]  # 0.75 * 0.02 + 0.25 * 0.3
    assert row(text, "blind")[4] == LESS and "| over trainings |" not in text
    assert row(text, "blind", table=1)[1:] == [tables.rate(groups(read(reported))[1].success("basic"))] * 2


def test_three_trainings_have_an_interval_of_their_own(project):
    project.write(seeds=[0, 1, 2])
    assert project.run(workers=2) == 0 and project.run(report=True) == 0
    text = tables.render(read(project))
    assert "| over trainings |" in text
    assert row(text, "full")[5] == "–" and row(text, "blind")[5] == "[-50, -50]"  # every training of the toy is alike


def test_speed_and_anchor_tables(reported):
    text = section(reported)
    speed = row(text, "full", table=2)
    # 12 episodes of 40 steps and 0.4 s, 4 of 150 and 1.5 s: 10 ms per action, chunks of two actions
    assert speed[1:4] == ["2", "10.0", "20.0"] and speed[5:9] == ["40", "0.40", "0.660", "-5.00"]
    for first_or_mean in (3, 4):
        quarter = row(text, "full", table=first_or_mean)
        assert quarter[1:3] == ["0.020 – 0.020", "4"] and quarter[3].startswith("100.0 % [") and quarter[4] == "1.00"
    assert row(text, "full", table=5)[1:] == ["success", "12", "0.020", "0.020", "0.020", "100 %"]
    assert "reached the target, no grasp | 4 | 0.300 | 0.300 | 0.300 | 0 %" in text


def test_errors_in_space_are_in_centimetres_and_pooled_over_seeds(reported):
    lines = [line for line in section(reported).splitlines() if "| all views | task |" in line]
    assert lines[0] == "|  | all views | task | 9.0 | 9.5 | 32 | 10.0, 10.0 |"  # 0.75 * 2 + 0.25 * 30; and 10 later
    assert row(section(reported), "full", table=7)[1:] == ["head", "task", "9.0", "9.0", "16", "2.0, 2.0"]
    assert "| wrist | task |" not in section(reported)  # nowhere seen


def test_variants_without_depths_have_no_place_in_space(reported):
    content = read(reported)
    for cell in content["cells"]:
        del cell["anchors"]["space"]
    assert space_table(groups(content)) == ["No variant tells depths, so no anchor has a place in space."]


def test_the_first_look_counts_scenes_whose_anchor_is_near_the_target(reported):
    text = section(reported)
    full = row(text, "full", table=8)
    assert full[1:5] == ["16", FOUR_SCENES, "75 %, 75 %", "–"]
    assert full[5:7] == ["0.020", "0.090"]
    assert row(text, "blind", table=8)[4] == LESS


def test_attention_says_how_often_it_looks_at_the_target_and_what_that_is_worth(reported):
    solved, failed = "100.0 % [43.9, 100.0]", "0.0 % [0.0, 79.3]"  # Wilson's of 3 of 3 scenes and of 0 of 1
    found = row(section(reported), "full", table=6)
    assert found[1:] == ["16", FOUR_SCENES, FOUR_SCENES, solved, failed, "1.00", "1.00"]


def test_variants_that_tell_no_anchors_have_no_attention(reported):
    content = read(reported)
    for cell in content["cells"]:
        columns = cell["episodes"]["columns"]
        for values in cell["episodes"]["rows"]:
            values[columns.index("head_mean")] = None
    assert attention_table(groups(content)) == [UNKNOWN]


def read(project):
    return json.loads((project.root / "experiments" / "results" / "toy.json").read_text())


def test_the_file_alone_is_enough_and_gives_the_same_bytes(reported):
    images = reported.root / "docs" / "images" / "experiments"
    before = {path: path.read_bytes() for path in [*images.iterdir(), *(reported.root / "docs").glob("*.md")]}
    assert {path.name for path in images.iterdir()} == {"toy-look.svg", "toy-success.svg", "toy-training.svg"}
    file = committed.results_path(reported.load())
    content = file.read_bytes()
    shutil.rmtree(reported.output)
    assert reported.run(report=True) == 0
    assert file.read_bytes() == content
    assert {path: path.read_bytes() for path in before} == before


def test_the_file_is_compact_sorted_and_names_no_folder_of_this_machine(reported):
    text = (reported.root / "experiments" / "results" / "toy.json").read_text()
    assert [cell["cell"] for cell in read(reported)["cells"]] == sorted(c["cell"] for c in read(reported)["cells"])
    assert str(reported.root) not in text and "--output_dir=outputs/experiments/toy/full-tabletop-0/train" in text
    assert sum(line.startswith("{") for line in text.splitlines()) == 5  # one line per cell, and the first


def test_cells_of_changed_options_are_refused_or_dropped(reported):
    reported.write(eval=CONTENT["eval"] | {"split": "val"})
    with pytest.raises(PosaError, match=r"full-tabletop-0.*--rerun_stale=true"):
        reported.run(report=True)
    shutil.rmtree(reported.output)
    with pytest.raises(PosaError, match="no cell of toy is finished"):
        reported.run(report=True)


def test_an_unfinished_cell_is_named(project, capsys):
    assert project.run(seeds="0") == 0
    assert project.run(report=True) == 0
    printed = capsys.readouterr().out
    assert "has no <!-- experiment:toy --> … <!-- /experiment:toy -->: add both lines" in printed
    assert "**Not finished: seed 1 of full, blind.**" in printed


def test_columns_without_a_value_are_left_out_and_long_tables_are_folded(project):
    project.write(tables=["success", "anchors"], variants={"full": {}})
    assert project.run() == 0
    content = committed.collect(project.load(), project.output)
    for cell in content["cells"]:
        cell["training"] = None
    text = tables.render(content)
    assert "| variant | episodes | success [95 %] | each seed | wrong object |" in text
    assert "training" not in text and "| – |" not in text
    assert text.count("<details><summary>") == text.count("</details>") == 3


def test_the_docs_that_a_file_reports_to(tmp_path):
    assert project_of(tmp_path / "experiments" / "mine.yaml") == tmp_path
    assert project_of(tmp_path / "mine.yaml") == tmp_path


def test_unfinished_cells_are_named_by_the_seeds_they_lack(project):
    project.write(datasets={"few": {}, "many": {"record": {"episodes": 20}}}, seeds=[0, 2, 10])
    assert project.run(seeds="0", only="full", datasets="many") == 0 and project.run(report=True) == 0
    text = tables.render(read(project))
    assert "**Not finished: seeds 0, 2, 10 of full few, blind few, blind many; seeds 2, 10 of full many.**" in text


def test_stages_of_a_long_task_are_pooled_in_their_order(project, tmp_path):
    assert project.run(seeds="0") == 0 and project.run(report=True) == 0
    content = read(project)
    assert "Stages of the task" not in tables.render(content)  # one stage is the success itself
    for cell in content["cells"]:
        for line in cell["conditions"]:
            line["stages"] = {"touched": {"count": 4}, "pushed": {"count": 2}}
    committed.write(content, tmp_path / "toy.json")
    text = tables.render(json.loads((tmp_path / "toy.json").read_text()))
    assert "| variant | touched | pushed |" in text and "| full | 100.0 % [51.0, 100.0] | 50.0 % [15.0, 85.0] |" in text


def test_success_against_demonstrations_is_drawn(project):
    datasets = {"few": {"record": {"episodes": 2}}, "many": {"record": {"episodes": 20}}}
    project.write(datasets=datasets, seeds=[0], tables=["success", "efficiency", "anchors"])
    assert project.run(workers=2) == 0 and project.run(report=True) == 0
    assert (project.root / "docs" / "images" / "experiments" / "toy-data.svg").stat().st_size > 1000
    text = tables.render(read(project))
    rows = [line.split(" | ")[1:3] for line in text.splitlines() if line.startswith("| full |")]
    assert rows[:2] == [["few", "2 (1)"], ["many", "20 (10)"]]  # two categories
    assert sum(line.startswith("| full, few |") for line in text.splitlines()) == 4  # speed, two quarters, endings
    figure = training_figure(pytest.importorskip("matplotlib.pyplot"), groups(read(project)))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 4  # a colour per variant, a dash per dataset


def test_variants_that_know_one_number_of_demonstrations_each_draw_no_line(project):
    datasets = {"few": {"record": {"episodes": 2}}, "many": {"record": {"episodes": 20}}}
    variants = {"full": {"datasets": ["few"]}, "blind": {"datasets": ["many"]}}
    project.write(datasets=datasets, variants=variants, seeds=[0])
    assert project.run(workers=2) == 0 and project.run(report=True) == 0
    assert not (project.root / "docs" / "images" / "experiments" / "toy-data.svg").exists()


def test_a_policy_that_logs_one_loss_has_its_curve_among_the_action_losses(project):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    assert project.run(seeds="0") == 0 and project.run(report=True) == 0
    found = groups(read(project))
    peer = found[1].cells[0]["training"]
    peer["curve"] = [{"step": step, "loss": 1 / step} for step in (50, 100)]
    figure = training_figure(pyplot, found)
    losses = next(axis for axis in figure.axes if axis.get_title() == "action loss")
    assert [list(line.get_xdata()) for line in losses.lines][1:] == [[50, 100]]
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == [g.variant for g in found]


def test_a_variant_may_be_compared_with_another_than_the_reference(project):
    project.write(variants=CONTENT["variants"] | {"dim": {"against": "blind"}}, seeds=[0], eval={"solved": 3})
    assert project.run() == 0 and project.run(report=True) == 0
    content = read(project)
    assert content["against"] == {"full": "full", "blind": "full", "dim": "blind"}
    text = tables.render(content)
    assert "| against, points |" in text and row(text, "full")[4] == "–"
    assert row(text, "blind")[4].endswith("] full") and row(text, "dim")[4].startswith("+50.0 [")
    assert row(text, "dim")[4].endswith("] blind")


def test_auc_counts_pairs_and_ties_half():
    episodes = [("success", 0.1), ("success", 0.2), ("failure", 0.2), ("failure", 0.4)]
    rows = [{"outcome": outcome, "head_mean": error} for outcome, error in episodes]
    assert auc([*rows, {"outcome": "failure", "head_mean": None}], "head_mean") == (1 + 1 + 1 + 0.5) / 4
    assert auc(rows[:2], "head_mean") is None


def test_another_training_of_a_cell_is_named_when_it_replaces_one_and_where_it_is_evaluated(project, capsys):
    assert project.run(seeds="0") == 0 and project.run(report=True) == 0
    assert "replaced" not in capsys.readouterr().out
    file = committed.results_path(project.load())
    file.write_text(file.read_text().replace("0" * 64, "1" * 64))  # as if full and blind came from another machine

    project.write(
        "speed",
        policies_from="toy",
        reference="often",
        variants={"often": {"policy": "full", "eval": {"n_action_steps": 1}}},
        **dict.fromkeys(("record", "label", "train", "seeds")),
    )
    assert project.run("speed", seeds="0") == 0 and project.run("speed", report=True) == 0
    assert "**Trained again, not the policies of the table of toy: seed 0 of often.**" in capsys.readouterr().out

    assert project.run(report=True) == 0
    assert "replaced: full-tabletop-0, by another training" in capsys.readouterr().out
    assert project.run("speed", report=True) == 0
    assert "Trained again" not in capsys.readouterr().out


def test_a_section_without_its_end_is_refused(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("<!-- experiment:toy -->\n")
    with pytest.raises(PosaError, match="no <!-- /experiment:toy -->"):
        replace_section(page, "toy", "text")
    assert not replace_section(page, "other", "text") and not replace_section(tmp_path / "none.md", "toy", "text")
