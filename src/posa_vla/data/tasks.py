"""Which sentences mean the same goal."""

import json
from pathlib import Path

import numpy as np

from posa_vla.contract import TASK_IDS_FILE
from posa_vla.errors import PosaError


def task_ids(root: Path, tasks: list[str]) -> np.ndarray:
    """Goal id of each sentence, int64 (len(tasks),), from contract `TASK_IDS_FILE`.

    Without the file every sentence is its own goal; with it, every sentence must stand in it.
    """
    path = Path(root) / TASK_IDS_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return np.arange(len(tasks), dtype=np.int64)
    except (OSError, ValueError) as error:
        raise PosaError(f"cannot read {path}: {error}") from error
    if not isinstance(known, dict) or not all(type(goal) is int for goal in known.values()):
        raise PosaError(f"expected {{sentence: goal number}} in {path}: write it so, or remove the file")
    missing = [task for task in tasks if task not in known]
    if missing:
        raise PosaError(f"{path} lacks the sentence {missing[0]!r} ({len(missing)} in all): add it, or remove the file")
    return np.array([known[task] for task in tasks], dtype=np.int64)
