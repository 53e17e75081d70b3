import numpy as np
import pytest
from lerobot.envs.configs import EnvConfig
from lerobot.envs.factory import make_env, make_env_config

from posa_vla.contract import STATE, image_key
from posa_vla.errors import PosaError
from posa_vla.sim.lerobot_env import TabletopEnvConfig


def test_registered_under_its_type():
    config = make_env_config("posa_tabletop", condition="lights", image_size=32)
    assert isinstance(config, TabletopEnvConfig)
    assert EnvConfig.get_choice_class("posa_tabletop") is TabletopEnvConfig
    assert config.features["pixels/head"].shape == (32, 32, 3)
    assert config.features_map["pixels/wrist"] == image_key("wrist")
    assert config.features_map["agent_pos"] == STATE


def test_lerobot_s_vector_environment_steps():
    config = TabletopEnvConfig(image_size=32, categories="cube, can,bowl", colours="red,green,blue")
    vector = make_env(config, n_envs=2)["posa_tabletop"][0]
    observation, _ = vector.reset(seed=[4, 5])
    assert observation["pixels"]["head"].shape == (2, 32, 32, 3)
    assert observation["agent_pos"].shape == (2, 8)
    sentences = vector.call("task_description")
    assert all(any(k in s for k in ("cube", "can", "bowl")) for s in sentences)
    _, _, _, _, info = vector.step(np.zeros((2, 7), np.float32))
    assert not np.any(info["is_success"])
    assert vector.call("_max_episode_steps")[0] == 150
    vector.close()


def test_held_out_pairs_reach_the_environment():
    config = TabletopEnvConfig(image_size=16, condition="objects", held_out="cyan cube, purple bottle")
    vector = make_env(config, n_envs=1)["posa_tabletop"][0]
    vector.reset(seed=[4])
    assert set(vector.envs[0].unwrapped.options.pairs.held_out) == {("cyan", "cube"), ("purple", "bottle")}
    vector.close()


def test_the_family_is_an_option_of_lerobot_s_environment():
    vector = make_env(TabletopEnvConfig(image_size=16, family="box"), n_envs=1)["posa_tabletop"][0]
    vector.reset(seed=[4])
    assert "box" in vector.call("task_description")[0]
    assert vector.call("task")[0] == "Box-v0"
    assert vector.call("_max_episode_steps")[0] == 400
    _, _, _, _, info = vector.step(np.zeros((1, 7), np.float32))
    assert set(info["stages"]) >= {"opened", "picked", "placed"}
    vector.close()


def test_a_family_given_as_the_task_says_where_it_belongs():
    with pytest.raises(PosaError, match="found 'box': choose by --env"):
        TabletopEnvConfig(task="box")
