"""What `posa-vla validate` reports: one thing that is wrong, the file it is in and the episodes it concerns."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a dataset.

    Args:
        kind: short name of the check that found it, e.g. ``truncated-video``.
        file: path of the file, relative to the dataset.
        message: what was expected and what was found.
        episodes: the episodes that are concerned, ascending; empty where it is the whole dataset.
    """

    kind: str
    file: str
    message: str
    episodes: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "file": self.file, "episodes": list(self.episodes), "message": self.message}


def as_episodes(numbers: Iterable[int] | np.ndarray) -> tuple[int, ...]:
    """Different episode numbers in ascending order."""
    return tuple(sorted({int(number) for number in numbers}))


def ranges(numbers: tuple[int, ...]) -> str:
    """Ascending numbers as text: ``0-3, 7``."""
    parts, start = [], 0
    for position, number in enumerate(numbers):
        if position + 1 < len(numbers) and numbers[position + 1] == number + 1:
            continue
        first = numbers[start]
        parts.append(str(number) if first == number else f"{first}-{number}")
        start = position + 1
    return ", ".join(parts)


def as_table(findings: list[Finding], limit: int = 100) -> str:
    """The findings in columns; after ``limit`` of them only their number."""
    rows = [("kind", "episodes", "file", "what is wrong")]
    rows += [(f.kind, _shorten(ranges(f.episodes)) or "all", f.file, f.message) for f in findings[:limit]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(row[c].ljust(widths[c]) for c in range(3)), row[3]]) for row in rows]
    if len(findings) > limit:
        lines.append(f"... and {len(findings) - limit} more: --json=true lists all")
    return "\n".join(lines)


def _shorten(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else text[: longest - 4].rpartition(",")[0] + ", ..."
