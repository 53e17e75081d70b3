"""One HTML file that opens offline: numbers, films with the attention drawn in, and how they were made."""

import base64
from pathlib import Path
from typing import Any

from posa_vla import pages
from posa_vla.evaluation.metrics import failure_reason
from posa_vla.evaluation.records import ERROR, FAILURE, SUCCESS, from_json, write_atomically

REPORT = "report.html"
MEDIA_TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg"}
DASH = "–"

EXPLANATIONS = {
    "basic": "objects, textures and lights as in training; unseen placements",
    "background": "unseen table and wall textures",
    "lights": "unseen light positions, intensities and colours",
    "distractors": "unseen and more objects beside the target",
    "objects": "targets of held-out colour and category pairs",
}


def write_report(results: dict[str, Any], folder: Path) -> Path:
    """Write FOLDER/report.html from an evaluation's results; films are read from the folder and embedded."""
    write_atomically(folder / REPORT, render(results, folder))
    return folder / REPORT


def render(results: dict[str, Any], folder: Path) -> str:
    summary = results["summary"]
    return pages.render(
        REPORT,
        filters={"percent": percent, "number": number},
        results=results,
        summary=summary,
        pooled=summary["pooled"],
        explanations=EXPLANATIONS,
        films=[_embedded(film, folder) for film in results["films"]],
        hero=_hero(results["films"], folder),
        tiles=[_tiles(row["condition"], results["records"]) for row in summary["conditions"]],
        reasons=_reasons(summary),
        errors=[record for record in results["records"] if record["outcome"] == ERROR],
        headline_anchor=_headline_anchor(summary["anchors"]),
        anchor_scale=_anchor_scale(summary["anchors"]),
    )


def percent(value: float | None, digits: int = 0) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{value:,.{digits}f}"


def _embedded(film: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**film, **{kind: data_uri(folder / film[kind]) for kind in ("video", "strip")}}


def data_uri(path: Path) -> str:
    return f"data:{MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _hero(films: list[dict[str, Any]], folder: Path) -> dict[str, Any] | None:
    """The film to open with: the first success, or the first there is."""
    ordered = sorted(films, key=lambda film: film["outcome"] != SUCCESS)
    return _embedded(ordered[0], folder) if ordered else None


def _tiles(condition: str, records: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One coloured square per episode."""
    tiles = []
    for record in (record for record in records if record["condition"] == condition):
        kind, text = record["outcome"], record["outcome"]
        if kind == FAILURE:
            text = failure_reason(from_json(record))
            kind = "wrong" if record["wrong_object"] else FAILURE
        tiles.append({"kind": kind, "title": f"seed {record['seed']}: {record['task']}: {text}"})
    return tiles


def _reasons(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Every way to fail that occurred, most frequent first, with its count in each condition."""
    total = sum(summary["pooled"]["failures"].values())
    return [
        {
            "reason": reason,
            "count": count,
            "share": count / total,
            "by_condition": [row["failures"].get(reason, 0) for row in summary["conditions"]],
        }
        for reason, count in summary["pooled"]["failures"].items()
    ]


def _headline_anchor(anchors: dict[str, Any] | None) -> dict[str, Any] | None:
    """The task anchor in the fixed view at the first frame: the point that nothing but the sentence gives."""
    rows = [row for row in (anchors or {}).get("rows", []) if row["anchor"] == "task"]
    return {"camera": rows[0]["camera"], **rows[0]["first"]} if rows else None


def _anchor_scale(anchors: dict[str, Any] | None) -> float:
    """The longest bar of the anchor table."""
    kinds = ("error", "constant", "random_object")
    rows = (anchors or {}).get("rows", [])
    values = [row[frames][kind] or 0.0 for row in rows for frames in ("first", "episode") for kind in kinds]
    return max([*values, 1e-6])
