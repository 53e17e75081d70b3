"""The anchor analysis as Markdown."""

from typing import Any

from posa_vla.evaluation.report import DASH, number, percent


def markdown(analysis: dict[str, Any]) -> str:
    """The analysis' four tables, each with the sentence that says how to read it."""
    success = analysis["success"]
    privileged = f" Privileged: {analysis['privileged']}." if analysis["privileged"] else ""
    return "\n".join(
        [
            "# Anchor error and success",
            "",
            f"{analysis.get('policy_name') or 'A policy'} on {', '.join(analysis['conditions'])}"
            f"{_split(analysis)}: {success['count']} successes, {_rate(success)}.{privileged}",
            "",
            "Success by the episode's mean task-anchor error (fractions of the image's short side), in groups of equal "
            "size with Wilson 95 % intervals; Spearman's ρ with a bootstrap interval over episodes; and the factor on "
            "the odds of success for each 0.01 of error (Firth's logistic regression, Wald interval).",
            "",
            *_relations(analysis["relations"]),
            "",
            f"What the task anchor did in the {analysis['view']} view until the grasp, and how the episode ended.",
            "",
            *_attention(analysis["attention"]),
            "",
            "Failures by what the attention did.",
            "",
            *_shares("attention in failures", analysis["failures"]),
            "",
            "Episodes in which another object was lifted, by what it has in common with the target.",
            "",
            *_shares("lifted instead", analysis["lifted_instead"]),
            "",
        ]
    )


def _split(analysis: dict[str, Any]) -> str:
    return f", split {analysis['split']}" if analysis.get("split") else ""


def _relations(relations: list[dict[str, Any]]) -> list[str]:
    groups = max(len(row["groups"]) for row in relations)
    heads = " | ".join(f"group {index + 1}: error, success" for index in range(groups))
    lines = [f"| view, frames | {heads} | ρ | odds × per 0.01 | episodes |", "|---" * (groups + 4) + "|"]
    for row in relations:
        cells = [f"{group['median']:.3f}: {_rate(group['success'])}" for group in row["groups"]]
        cells += [DASH] * (groups - len(cells))
        correlation, odds = _estimate(row["rank_correlation"]), _estimate(row["odds_ratio"])
        lines.append(
            f"| {row['view']}, {row['frames']} | {' | '.join(cells)} | {correlation} | {odds} | {row['episodes']} |"
        )
    return lines


def _attention(rows: list[dict[str, Any]]) -> list[str]:
    ends = list(rows[0]["failures"])
    lines = [f"| attention | episodes | success | {' | '.join(ends)} |", "|---" * (3 + len(ends)) + "|"]
    for row in rows:
        counts = " | ".join(str(row["failures"][end]) for end in ends)
        lines.append(f"| {row['attention']} | {row['episodes']} | {_rate(row['success'])} | {counts} |")
    return lines


def _shares(title: str, rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"| {title} | episodes | share |", "|---|---|---|"]
    return lines + [f"| {row['what']} | {row['share']['count']} | {_rate(row['share'])} |" for row in rows]


def _rate(rate: dict[str, Any]) -> str:
    if rate["rate"] is None:
        return DASH
    return f"{percent(rate['rate'])} [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"


def _estimate(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return DASH
    return f"{estimate['value']:.2f} [{number(estimate['low'], 2)}, {number(estimate['high'], 2)}]"
