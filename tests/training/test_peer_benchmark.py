"""Sizes and speeds of the policies that are compared."""

import pytest

from posa_vla.errors import PosaError
from posa_vla.training.peer_benchmark import build, count_parameters, latencies, main


def test_the_peer_is_about_as_large_as_ours_and_its_text_tower_is_never_trained():
    """Comparable in what is trained: what the `small` recipe promises for multi_task_dit."""
    ours, peer = count_parameters(build("posa_vla").policy), count_parameters(build("multi_task_dit").policy)
    assert ours.frozen == 0 and 0.8 < peer.trained / ours.trained < 1.25
    policy = build("multi_task_dit").policy
    text = policy.observation_encoder.text_encoder.text_encoder
    assert peer.frozen == sum(p.numel() for p in text.parameters()) > 0
    assert 0 < peer.images < peer.trained


@pytest.mark.parametrize("name", ["posa_vla", "multi_task_dit"])
def test_image_encoders_are_found(name):
    size = count_parameters(build(name).policy)
    assert 0 < size.images < size.trained


def test_a_wider_network_has_more():
    narrow, wide = (
        count_parameters(build("act", ("--policy.dim_model=64",)).policy),
        count_parameters(build("act").policy),
    )
    assert narrow.trained < wide.trained and narrow.images == wide.images


@pytest.mark.parametrize("name", ["posa_vla", "multi_task_dit", "act"])
def test_every_timed_chunk_is_planned_anew(name):
    contender, planned = build(name), []
    predict = contender.policy.predict_action_chunk

    def counted(*args, **kwargs):
        planned.append(name)
        return predict(*args, **kwargs)

    contender.policy.predict_action_chunk = counted
    (milliseconds,) = latencies([contender], repeats=3)
    assert milliseconds > 0 and len(planned) == 4  # the first one is not timed


def test_the_table_has_a_row_for_each_policy(capsys):
    main(["--policies=posa_vla,act", "--repeats=1", "--integration_steps=[30,1]"])
    header, _, ours, act = capsys.readouterr().out.splitlines()
    assert ours.startswith("| posa_vla |") and act.startswith("| act |")
    assert len(header.split("|")) == len(ours.split("|")) == len(act.split("|"))
    many, one = (float(cell) for cell in ours.split("|")[-3:-1])
    assert many > one > 0


def test_no_chunk_to_time_is_refused():
    with pytest.raises(PosaError, match="at least 1, found 1 and 0"):
        main(["--repeats=0"])
    with pytest.raises(PosaError, match=r"integration_steps such as \[10,2\], found none"):
        main(["--integration_steps=[]"])
