"""The loop of docs/your-robot.md runs as it stands there."""

import re

import numpy as np
from documented import ROOT

from posa_vla import reference


def test_the_loop_acts():
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/your-robot.md").read_text(), re.MULTILINE | re.DOTALL)
    code, folders = re.subn(r'^folder = ".*"$', f"folder = {str(reference.FOLDER)!r}", code, flags=re.MULTILINE)
    assert folders == 1
    picture = np.zeros((128, 128, 3), np.uint8)
    observation = {"observation.images.head": picture, "observation.images.wrist": picture}
    sent: list[np.ndarray] = []
    exec(
        code,
        {
            "running": lambda: len(sent) < 3,
            "observe": lambda: {**observation, "observation.state": np.zeros(8, np.float32)},
            "send": sent.append,
        },
    )
    assert all(action.shape == (7,) and action.dtype == np.float32 and np.isfinite(action).all() for action in sent)
    assert len(sent) == 3 and not np.array_equal(sent[0], sent[1])
