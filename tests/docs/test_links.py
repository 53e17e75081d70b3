"""Links between the pages lead somewhere: files, pictures, and headings."""

import re
from pathlib import Path

import pytest
from documented import FENCE, PAGES, ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def headings(page: str) -> set[str]:
    """GitHub's anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if link.startswith("http"):
            continue
        if not target.exists() or (anchor and anchor not in headings(target.read_text())):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert not dead_links(page)


def test_a_dead_link_would_be_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title, here\n[a](#a-title-here) [b](#nowhere) [c](none.md) ![d](none.png)")
    assert dead_links(page) == ["#nowhere", "none.md", "none.png"]


def test_every_picture_is_shown_somewhere():
    shown = {
        (page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text()) if "images/" in link
    }
    assert set((ROOT / "docs" / "images").rglob("*.*")) <= shown
