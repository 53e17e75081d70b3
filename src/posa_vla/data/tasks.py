"""The sentences of a dataset, and which of them mean the same goal."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from posa_vla.contract import TASK_IDS_FILE, TASK_INDEX
from posa_vla.errors import PosaError


def read_sentences(root: Path) -> dict[int, str]:
    """Sentences by task_index, from meta/tasks.parquet."""
    path = root / "meta/tasks.parquet"
    try:
        tasks = pq.read_table(path)
        (sentences,) = (name for name in tasks.column_names if name != TASK_INDEX)  # pandas' index: its name varies
        return dict(zip(tasks[TASK_INDEX].to_pylist(), tasks[sentences].to_pylist(), strict=True))
    except FileNotFoundError:
        raise PosaError(f"there is no {path} with the dataset's sentences: copy the dataset again") from None
    except (OSError, ValueError, KeyError) as error:
        raise PosaError(f"cannot read the sentences in {path}: {str(error).splitlines()[0]}") from error


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
