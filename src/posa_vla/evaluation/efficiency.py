"""What acting costs (the paper's Table 3): times, steps, way and smoothness, each with its interval.

Times of the policy are wall-clock with its processors, over every episode that ended. Steps, seconds, way and
smoothness of an episode are means over the successes: a failure lasts as long as the limit allows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from posa_vla.contract import FPS
from posa_vla.evaluation.bootstrap import mean, ratio
from posa_vla.evaluation.records import ERROR, SUCCESS, EpisodeRecord


def efficiency(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """Each number as {mean, low, high} with a 95 % bootstrap interval over episodes, or None.

    ms_per_action: the policy's wall-clock over all executed actions, overheads and queue pops included.
    chunk_ms: of the calls alone in which a chunk was computed, with their p50, p95 and number (calls).
    action_steps; policy_seconds: the policy's wall-clock; robot_seconds: the steps at the robot's control rate;
    total_seconds: both, as on a robot that waits for its policy (the simulator's own time enters nothing);
    path_length: metres; path_ratio: over the expert's on the same scene; smoothness: log dimensionless jerk.
    """
    ended = [record for record in records if record.outcome != ERROR and record.motion]
    successes = [record for record in ended if record.outcome == SUCCESS]
    robot = [record.motion.steps / FPS for record in successes if record.motion]
    policy = [record.policy_seconds for record in successes]
    return {
        "ms_per_action": ratio(
            [1000 * record.policy_seconds for record in ended], [r.motion.steps for r in ended if r.motion]
        ),
        "chunk_ms": _chunks(ended),
        "action_steps": _mean(r.motion.steps for r in successes if r.motion),
        "policy_seconds": mean(policy),
        "robot_seconds": mean(robot),
        "total_seconds": mean([p + r for p, r in zip(policy, robot, strict=True)]),
        "path_length": _mean(r.motion.path_length for r in successes if r.motion),
        "path_ratio": _mean(
            r.motion.path_length / r.expert.path_length
            for r in successes
            if r.motion and r.expert and r.expert.path_length > 0
        ),
        "smoothness": _mean(r.motion.smoothness for r in successes if r.motion),
    }


def _mean(values: Iterable[float | None]) -> dict[str, Any] | None:
    return mean([value for value in values if value is not None])


def _chunks(records: Sequence[EpisodeRecord]) -> dict[str, Any] | None:
    latencies = [[1000 * seconds for seconds in record.chunk_seconds] for record in records]
    average = ratio([sum(calls) for calls in latencies], [len(calls) for calls in latencies])
    if average is None:
        return None
    calls = np.concatenate(latencies)
    p50, p95 = np.percentile(calls, (50, 95)).tolist()
    return {**average, "p50": p50, "p95": p95, "calls": len(calls)}
