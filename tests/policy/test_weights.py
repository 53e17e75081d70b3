"""Files of tensors that cannot be read; whole checkpoints are in test_modeling."""

import pytest

from posa_vla.errors import PosaError
from posa_vla.policy.weights import read_tensors


def test_unreadable_tensors_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not tensors")
    with pytest.raises(PosaError, match=r"expected a complete weights\.safetensors in .* cannot be read"):
        read_tensors(path)
    with pytest.raises(PosaError, match=r"complete none\.safetensors in .*: restore it or use another checkpoint"):
        read_tensors(tmp_path / "none.safetensors")
