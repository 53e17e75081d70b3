"""``posa-vla analyse``: how the anchor error relates to success, and what the attention does when it fails."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import numpy as np
from draccus.utils import DecodingError
from scipy import optimize, stats

from posa_vla.errors import PosaError, unknown_name
from posa_vla.evaluation import attention_kind as kinds
from posa_vla.evaluation import bootstrap
from posa_vla.evaluation.anchor_table import markdown
from posa_vla.evaluation.attention_kind import attention_kind, task_errors
from posa_vla.evaluation.command import RESULTS
from posa_vla.evaluation.intervals import Z_95
from posa_vla.evaluation.metrics import LOST, MISSED, NOT_HELD, WRONG_OBJECT, failure_reason, rate
from posa_vla.evaluation.records import ERROR, SUCCESS, EpisodeRecord, from_json, write_atomically

FIRST, REACH = "first frame", "until the grasp"
ODDS_STEP = 0.01
"""Error, in fractions of the image's short side, by which the odds ratio is quoted."""

AT_TARGET, LIFTED_OTHER, ELSEWHERE = "failed at the target", WRONG_OBJECT, "never reached the target"
ENDS = (AT_TARGET, LIFTED_OTHER, ELSEWHERE)
ROWS = (
    kinds.ON_TARGET,
    *(f"{kinds.ON_OTHER}, {relation}" for relation in kinds.RELATIONS),
    kinds.JUMPING,
    kinds.NOWHERE,
)


@dataclass
class AnalyseConfig:
    """Relate the task anchor's error to success; write analysis.json, analysis.md and anchors.svg.

    Args:
        report: output folder of a finished `posa-vla eval` with anchor samples.
        output: folder of the analysis.
        condition: one test condition; all of the evaluation pooled if not given.
        bins: groups of equal size, by error, whose success rates are compared.
    """

    report: Path
    output: Path
    condition: str | None = None
    bins: int = 4


def main(argv: list[str]) -> int:
    try:
        config = draccus.parse(config_class=AnalyseConfig, args=argv)
    except DecodingError as error:
        raise PosaError(f"{error}: posa-vla analyse --help lists the options") from error
    if config.bins < 2:
        raise PosaError(f"expected --bins of at least 2, found {config.bins}")
    results = read_results(config.report)
    records = [from_json(record) for record in results["records"]]
    if config.condition is not None:
        found = dict.fromkeys(record.condition for record in records)
        if config.condition not in found:
            raise unknown_name("condition of this evaluation", config.condition, found)
        records = [record for record in records if record.condition == config.condition]
    analysis = {name: results.get(name) for name in ("policy_name", "split", "command", "git")} | analyse(
        records, config.bins
    )
    from posa_vla.evaluation.anchor_figure import figure

    picture, text = figure(analysis), markdown(analysis)
    config.output.mkdir(parents=True, exist_ok=True)
    write_atomically(config.output / "analysis.json", json.dumps(analysis, indent=1, allow_nan=False))
    write_atomically(config.output / "analysis.md", text)
    write_atomically(config.output / "anchors.svg", picture)
    print(text)
    return 0


def read_results(folder: Path) -> dict[str, Any]:
    """The results of a finished evaluation."""
    try:
        return json.loads((folder / RESULTS).read_text())
    except FileNotFoundError:
        raise PosaError(
            f"expected a finished evaluation in {folder}, found no {RESULTS}: pass the --output of posa-vla eval"
        ) from None
    except ValueError as error:
        raise PosaError(f"{folder / RESULTS} is not JSON ({error}): run the evaluation again") from error


def analyse(records: Sequence[EpisodeRecord], bins: int = 4) -> dict[str, Any]:
    """Everything the command writes, from the records of episodes with anchor samples; errors are left out."""
    sampled = [record for record in records if record.outcome != ERROR and record.anchors]
    if not sampled:
        raise PosaError(
            "expected episodes with anchor samples, found none: evaluate a policy that has an attention, with "
            "--attention_every of at least 1"
        )
    attentions = [attention_kind(record) for record in sampled]
    cameras = sampled[0].anchors["cameras"] if sampled[0].anchors else []
    success = np.array([record.outcome == SUCCESS for record in sampled])
    errors = {
        (camera, frames): np.array([_error(record, view, frames) for record in sampled])
        for view, camera in enumerate(cameras)
        for frames in (FIRST, REACH)
    }
    table = _cross_table(sampled, attentions)
    return {
        "conditions": list(dict.fromkeys(record.condition for record in sampled)),
        "privileged": next((record.privileged for record in sampled if record.privileged), None),
        "success": rate(int(success.sum()), len(sampled)),
        "relations": [
            {"view": camera, "frames": frames, **relate(values, success, bins)}
            for (camera, frames), values in errors.items()
        ],
        "view": cameras[0],
        "attention": table,
        "failures": _failures(table),
        "lifted_instead": _lifted_instead(sampled),
        "episodes": [
            {
                "condition": record.condition,
                "seed": record.seed,
                "outcome": record.outcome,
                "attention": attention.kind,
                "object": attention.object,
                **{f"{camera}, {frames}": _or_none(values[index]) for (camera, frames), values in errors.items()},
            }
            for index, (record, attention) in enumerate(zip(sampled, attentions, strict=True))
        ],
    }


def _error(record: EpisodeRecord, view: int, frames: str) -> float:
    """Mean task-anchor error of an episode in one view, NaN where the target was never in the picture."""
    assert record.anchors is not None
    errors = task_errors(record.anchors, view)
    errors = errors[:1] if frames == FIRST else errors
    errors = errors[~np.isnan(errors)]
    return float(errors.mean()) if len(errors) else float("nan")


# ---- error and success ----------------------------------------------------------------------------------------------


def relate(errors: np.ndarray, success: np.ndarray, bins: int = 4) -> dict[str, Any]:
    """Errors (n,) and successes (n,) of episodes: rates by group of error, rank correlation, odds ratio.

    Episodes without an error (NaN) are left out.
    """
    known = ~np.isnan(errors)
    errors, success = errors[known], success[known].astype(np.float64)
    groups = [group for group in np.array_split(np.argsort(errors, kind="stable"), bins) if len(group)]
    return {
        "episodes": len(errors),
        "groups": [
            {
                "low": float(errors[group].min()),
                "median": float(np.median(errors[group])),
                "high": float(errors[group].max()),
                "episodes": len(group),
                "success": rate(int(success[group].sum()), len(group)),
            }
            for group in groups
        ],
        "rank_correlation": _rank_correlation(errors, success),
        "odds_ratio": odds_ratio(errors, success),
    }


def _rank_correlation(errors: np.ndarray, success: np.ndarray) -> dict[str, Any] | None:
    """Spearman's, of error and success; None where either is constant."""
    if len(errors) < 3 or np.ptp(errors) == 0 or np.ptp(success) == 0:
        return None
    low, high = bootstrap.interval(_spearman, errors, success) or (None, None)
    return {"value": float(_spearman(errors, success)), "low": low, "high": high}


def _spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    x, y = (stats.rankdata(values, axis=axis) for values in (x, y))
    x, y = (values - values.mean(axis=axis, keepdims=True) for values in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample may hold successes alone
        return (x * y).sum(axis=axis) / np.sqrt((x * x).sum(axis=axis) * (y * y).sum(axis=axis))


def odds_ratio(errors: np.ndarray, success: np.ndarray) -> dict[str, Any] | None:
    """Factor on the odds of success per `ODDS_STEP` of error, from a logistic regression, with its Wald interval.

    The likelihood is Firth's (1993): it stays finite where an error separates success from failure perfectly
    (Heinze & Schemper 2002). None where error or success is constant.
    """
    if len(errors) < 3 or np.ptp(errors) == 0 or np.ptp(success) == 0:
        return None
    scale = errors.std()
    design = np.stack([np.ones_like(errors), (errors - errors.mean()) / scale], axis=1)  # (n, 2)

    def information(weights: np.ndarray) -> np.ndarray:
        chance = 1 / (1 + np.exp(-design @ weights))
        return design.T @ (design * (chance * (1 - chance))[:, None])

    def loss(weights: np.ndarray) -> float:
        score = design @ weights
        likelihood = (success * score - np.logaddexp(0, score)).sum()
        return -likelihood - 0.5 * np.linalg.slogdet(information(weights))[1]

    weights = optimize.minimize(loss, np.zeros(2), method="BFGS").x
    margin = Z_95 * np.sqrt(np.linalg.inv(information(weights))[1, 1])
    slopes = np.array([weights[1], weights[1] - margin, weights[1] + margin]) * ODDS_STEP / scale
    return dict(zip(("value", "low", "high"), np.exp(slopes).tolist(), strict=True))


# ---- attention and outcome ------------------------------------------------------------------------------------------


def _cross_table(records: Sequence[EpisodeRecord], attentions: Sequence[kinds.Attention]) -> list[dict[str, Any]]:
    """What the attention did × how the episode ended."""
    cells = Counter((_row(a), _end(r)) for r, a in zip(records, attentions, strict=True))
    table = []
    for row in ROWS:
        failures = {end: cells[row, end] for end in ENDS}
        total = cells[row, SUCCESS] + sum(failures.values())
        table.append(
            {"attention": row, "episodes": total, "success": rate(cells[row, SUCCESS], total), "failures": failures}
        )
    return table


def _row(attention: kinds.Attention) -> str:
    return f"{attention.kind}, {attention.relation}" if attention.relation else attention.kind


def _end(record: EpisodeRecord) -> str:
    if record.outcome == SUCCESS:
        return SUCCESS
    reason = failure_reason(record)
    if reason == WRONG_OBJECT:
        return LIFTED_OTHER
    return AT_TARGET if reason in (NOT_HELD, LOST, MISSED) else ELSEWHERE


def _failures(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each failed episode under what its attention did, most frequent first."""
    counts: dict[str, int] = {}
    for row in table:
        total = sum(row["failures"].values())
        if row["attention"] == kinds.ON_TARGET:
            at_target = row["failures"][AT_TARGET]
            counts["on the target until the grasp, which failed"] = at_target
            counts["on the target all along, the hand was not"] = total - at_target
        else:
            counts[row["attention"]] = total
    failed = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [{"what": what, "share": rate(count, failed)} for what, count in ordered]


def _lifted_instead(records: Sequence[EpisodeRecord]) -> list[dict[str, Any]]:
    """Episodes in which another object was lifted, by what it has in common with the target."""
    counts = Counter(kinds.relation(r.wrong_object, r.target) for r in records if r.wrong_object is not None)
    return [{"what": relation, "share": rate(counts[relation], counts.total())} for relation in kinds.RELATIONS]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
