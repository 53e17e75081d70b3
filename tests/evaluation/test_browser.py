"""The report in a real browser: nothing complains, films play, both widths and both colour schemes hold up."""

import cv2
import numpy as np
import pytest
from browser import OPT_OUT, Browser, find

from posa_vla.evaluation.film import GAP, TILE

WIDTHS = (1280, 390)
PLAY = """
return Promise.all([...document.querySelectorAll('video')].map(async video => {
  await video.play();
  const begun = video.currentTime;
  for (let i = 0; i < 100 && !(video.readyState >= 2 && video.currentTime > begun); i++)
    await new Promise(done => setTimeout(done, 50));
  const answer = [video.readyState, video.currentTime - begun, video.videoWidth, video.error && video.error.message];
  video.pause();
  return answer;
}));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def test_every_film_plays(browser, evaluation):
    browser.open(evaluation.folder / "report.html", 1280, dark=False)
    played = browser.run(PLAY)
    assert len(played) == len(evaluation.results["films"])
    for ready, advanced, width, error in played:
        assert error is None
        assert ready >= 2
        assert advanced > 0
        assert width == 2 * TILE + GAP


def test_nothing_is_fetched_and_nothing_complains(browser, evaluation):
    browser.console()  # of earlier pages
    browser.open(evaluation.folder / "report.html", 1280, dark=False)
    names = browser.run("return performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 60))")
    assert [name for name in names if not name.startswith("data:")] == []
    assert browser.run("return [...document.images].filter(i => i.loading != 'lazy' && !i.naturalWidth).length") == 0
    assert browser.console() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_is_readable(browser, evaluation, width, dark):
    browser.open(evaluation.folder / "report.html", width, dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.querySelector('h1').getBoundingClientRect().height") > 20
    picture = cv2.imdecode(np.frombuffer(browser.screenshot(width, 900), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (900, width, 3)
    background = picture[5, 5].astype(int)
    assert (background.max() < 60) if dark else (background.min() > 200)
    assert (np.abs(picture.astype(int) - background).max(axis=2) > 60).mean() > 0.02  # ink
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500  # the filmstrip is there


def test_console_errors_would_be_seen(browser, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<script>missing()</script><img src='data:image/png;base64,xx'>")
    browser.console()
    browser.open(broken, 1280, dark=False)
    assert any("missing is not defined" in entry["message"] for entry in browser.console())


def test_a_missing_browser_fails_with_the_packages_name(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv(OPT_OUT, raising=False)
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium chromium-driver"):
        find()
    monkeypatch.setenv(OPT_OUT, "1")
    with pytest.raises(pytest.skip.Exception):
        find()
