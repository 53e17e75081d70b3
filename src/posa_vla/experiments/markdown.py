"""Numbers and tables as markdown, and the marked section of a document they go to."""

from collections.abc import Sequence
from pathlib import Path

from posa_vla.data.files import write_bytes
from posa_vla.errors import PosaError
from posa_vla.evaluation.intervals import Interval
from posa_vla.experiments.numbers import Rate

DASH = "–"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def folded(summary: str, text: str) -> str:
    """`text` behind a line that opens it on a click."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def number(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def rate(value: Rate) -> str:
    """``71.0 % [65.2, 76.2]``."""
    return DASH if value.value is None else within(value.value, value.interval)


def within(share: float, interval: Interval) -> str:
    low, high = interval
    return f"{100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def points(difference: float, interval: Interval) -> str:
    """``-12.0 [-24.9, +1.2]``."""
    low, high = interval
    return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def markers(name: str) -> tuple[str, str]:
    return f"<!-- experiment:{name} -->", f"<!-- /experiment:{name} -->"


def replace_section(document: Path, name: str, text: str) -> bool:
    """Put `text` between the markers of experiment `name`; False, and nothing written, where there are none."""
    begin, end = markers(name)
    content = document.read_text() if document.is_file() else ""
    if begin not in content:
        return False
    before, _, rest = content.partition(begin)
    _, closing, after = rest.partition(end)
    if not closing:
        raise PosaError(f"{document} has {begin} but no {end} after it: add it where the section ends")
    write_bytes(document, f"{before}{begin}\n{text}\n{end}{after}".encode())
    return True
