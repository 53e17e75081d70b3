"""Exported folders: half the size, the same policy."""

import json

import pytest
import torch
from policy_fakes import batch_of, small_policy
from safetensors.torch import load_file, save_file

from posa_vla.errors import PosaError
from posa_vla.evaluation.runner import WEIGHTS
from posa_vla.policy.export import export
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy


@pytest.fixture
def saved(tmp_path):
    policy = small_policy()
    policy.steps.fill_(70_000)  # more than float16 can count
    policy.save_pretrained(tmp_path / "policy")
    return policy, tmp_path / "policy"


def test_half_precision_halves_the_file_and_keeps_the_policy(saved, tmp_path):
    policy, folder = saved
    export(folder, tmp_path / "half")
    before, after = (load_file(path / WEIGHTS) for path in (folder, tmp_path / "half"))
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.55 * (folder / WEIGHTS).stat().st_size
    assert {t.dtype for t in after.values() if t.is_floating_point()} == {torch.float16}
    assert after["steps"] == before["steps"] == 70_000
    assert {file.name for file in folder.iterdir()} == {file.name for file in (tmp_path / "half").iterdir()}
    loaded = PosaVLAPolicy.from_pretrained(tmp_path / "half").eval()
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    noise = torch.randn(4, policy.config.chunk_size, 7, generator=torch.Generator().manual_seed(1))
    chunks = [p.predict_action_chunk(batch_of(policy), noise=noise) for p in (policy.eval(), loaded)]
    torch.testing.assert_close(*chunks, atol=5e-3, rtol=0)


def test_where_training_began_stays_at_home(saved, tmp_path):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pretrained_path": "/home/me/start"}))
    export(folder, tmp_path / "half")
    assert json.loads((tmp_path / "half" / "config.json").read_text()) == config


def test_a_weight_that_overflows_is_named_and_nothing_is_written(saved, tmp_path):
    _, folder = saved
    weights = load_file(folder / WEIGHTS)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name] = weights[name] + 1e6
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(PosaError, match=name):
        export(folder, tmp_path / "half")
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    export(folder, tmp_path / "full", "float32")


def test_a_folder_inside_the_checkpoint_is_refused(saved):
    _, folder = saved
    before = sorted(folder.iterdir())
    with pytest.raises(PosaError, match="lies inside the checkpoint"):
        export(folder, folder / "half")
    assert sorted(folder.iterdir()) == before


def test_an_existing_folder_and_an_unknown_type_are_refused(saved, tmp_path):
    _, folder = saved
    (tmp_path / "taken").mkdir()
    with pytest.raises(PosaError, match="taken in place"):
        export(folder, tmp_path / "taken")
    with pytest.raises(PosaError, match="choose one of bfloat16, float16, float32"):
        export(folder, tmp_path / "half", "int8")
