"""LeRobot's view of the suite: env type ``posa_tabletop``.

``gym.register`` stands here, beside the config, because LeRobot's asynchronous workers unpickle only that.
"""

from dataclasses import dataclass, field

import gymnasium as gym
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import OBS_STATE

from posa_vla.contract import ACTION, CAMERAS, image_key
from posa_vla.errors import PosaError
from posa_vla.options import listed

PACKAGE, TASK = "posa_tabletop", "Pick-v0"
GYM_ID = f"{PACKAGE}/{TASK}"

if GYM_ID not in gym.registry:
    gym.register(id=GYM_ID, entry_point="posa_vla.sim.env:TabletopEnv", order_enforce=False)


@EnvConfig.register_subclass(PACKAGE)
@dataclass
class TabletopEnvConfig(EnvConfig):
    """The tabletop suite.

    Args:
        task: what LeRobot calls the one registered environment, whatever the family; leave it.
        condition: basic, background, lights, distractors, objects or occlusion (or randomised, to train in).
        split: train, val or eval: disjoint ranges of scenes. The default is eval, so that no evaluator runs
            on training scenes by accident.
        image_size: side of the square pictures, pixels.
        categories, colours: comma-separated names that restrict the objects; empty allows all.
        held_out: comma-separated pairs (cyan cube) that only the condition objects shows; empty: a diagonal of the
            table of categories and colours.
        num_distractors: other objects on the table; more in the conditions distractors and randomised.
        episode_length: control steps at 20 Hz until truncation; the family's own if not given.
        family: what there is to do: pick, box, place …; an unknown name lists them all.
    """

    task: str | None = TASK
    fps: int = 20
    episode_length: int | None = None
    family: str = "pick"
    condition: str = "basic"
    split: str = "eval"
    image_size: int = 128
    categories: str = ""
    colours: str = ""
    held_out: str = ""
    num_distractors: int = 4
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(7,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(8,)),
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            ACTION: ACTION,
            "agent_pos": OBS_STATE,
            **{f"pixels/{camera}": image_key(camera) for camera in CAMERAS},
        }
    )

    def __post_init__(self) -> None:
        if self.task != TASK:
            raise PosaError(f"the task of {PACKAGE} is always {TASK!r}, found {self.task!r}: choose by --env.family")
        shape = (self.image_size, self.image_size, 3)
        for camera in CAMERAS:
            self.features[f"pixels/{camera}"] = PolicyFeature(type=FeatureType.VISUAL, shape=shape)

    @property
    def package_name(self) -> str:
        return PACKAGE

    @property
    def gym_id(self) -> str:
        return f"{PACKAGE}/{self.task}"

    @property
    def gym_kwargs(self) -> dict:
        return {
            "condition": self.condition,
            "split": self.split,
            "image_size": self.image_size,
            "categories": listed(self.categories) or None,
            "colours": listed(self.colours) or None,
            "held_out": listed(self.held_out) or None,
            "num_distractors": self.num_distractors,
            "episode_length": self.episode_length,
            "family": self.family,
        }
