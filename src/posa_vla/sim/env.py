"""The gymnasium environment of the tabletop suite. Robot constants are LIBERO's; control is our own."""

from typing import Any

import gymnasium as gym
import numpy as np

from posa_vla.contract import CAMERAS, FPS
from posa_vla.errors import PosaError
from posa_vla.sim.conditions import (
    EXTRA_DISTRACTORS,
    OCCLUSION,
    check_condition,
    check_numbers,
    chosen_pairs,
    episode_seed,
)
from posa_vla.sim.episode import Options
from posa_vla.sim.families import get_family
from posa_vla.sim.fixtures import add_screen
from posa_vla.sim.ground_truth import GroundTruth, ObjectState
from posa_vla.sim.kinematics import axis_angle_from_quaternion
from posa_vla.sim.robot import FINGER_OPEN
from posa_vla.sim.tabletop import Tabletop

HOLD_STEPS = 10  # 0.5 s


class TabletopEnv(Tabletop, gym.Env):
    """A Panda, a table, and one object among several that a sentence names, with something to do to it.

    Observation: ``{"pixels": {"head", "wrist"}: uint8 (S, S, 3), "agent_pos": float32 (8,)}``, the state being
    EE position (m), EE axis-angle (rad) and two finger positions (m), world frame. Action, float32 (7,) in
    [-1, 1]: delta position (±1 = 0.05 m), delta axis-angle (±1 = 0.5 rad, world frame, left-multiplied),
    gripper (-1 open, +1 close). The goal is the measured pose plus the delta, kept within reach of the table.

    Args:
        condition: one of `conditions.TESTS`, or `conditions.RANDOMISED`.
        split: which disjoint range of scenes a seed maps to: train, val or eval.
        image_size: side of both square pictures, pixels.
        categories, colours: restrict the objects; None allows all.
        held_out: pairs ("cyan cube") that only the condition `objects` shows; None: see `conditions.split_pairs`.
        num_distractors: other objects on the table (2 to 4 more in the condition `distractors`).
        episode_length: steps until truncation; None for the family's own.
        family: what there is to do, one of `families.FAMILIES`.
        contacts: measure how hard the hand presses on things, also in a family that does not need it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 (gymnasium's own name)
    render_mode = "rgb_array"

    def __init__(
        self,
        condition: str = "basic",
        split: str = "eval",
        image_size: int = 128,
        categories: tuple[str, ...] | None = None,
        colours: tuple[str, ...] | None = None,
        num_distractors: int = 4,
        episode_length: int | None = None,
        render_mode: str = "rgb_array",
        family: str = "pick",
        contacts: bool = False,
        held_out: tuple[str, ...] | None = None,
    ):
        episode_seed(split, 0)  # raises on an unknown split
        pairs = chosen_pairs(categories, colours, held_out)
        check_numbers(image_size, num_distractors, episode_length)
        self.options = Options(check_condition(condition), split, pairs, num_distractors)
        self.family = get_family(family)
        self.task = f"{family.capitalize()}-v0"  # LeRobot's name of it
        self.render_mode = render_mode
        self._max_episode_steps = episode_length or self.family.episode_length
        screens = (add_screen,) if condition == OCCLUSION else ()  # other conditions' scenes do not contain it
        super().__init__(
            slots=1 + num_distractors + EXTRA_DISTRACTORS[1],
            fixtures=(*self.family.fixtures, *screens),
            image_size=image_size,
            contacts=contacts or self.family.contacts,
        )
        self.task_description = ""
        self.observation_space, self.action_space = _spaces(image_size)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        episode = self.family.sample(self.options, seed)
        self.task_description = episode.instruction
        self.lay_out(episode, finger=FINGER_OPEN if self.family.gripper_open else 0.0)
        self._held = 0
        self.peak = 0.0  # m that the named object has risen at most
        self.stages = dict.fromkeys(self.family.stages, False)
        return self._observation(), {"is_success": False, **self._progress(), "seed": seed}

    def step(self, action: np.ndarray):
        if self.episode is None:
            raise PosaError("call reset() before step()")
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise PosaError(f"an action is 7 finite numbers in [-1, 1], found shape {action.shape}: {action}")
        self.robot.command(np.clip(action, -1, 1))
        self.advance()
        self.peak = max(self.peak, self.rise(0))
        reached = self.family.reached(self)
        self.stages = {stage: self.stages[stage] or reached[stage] for stage in self.family.stages}
        self._held = self._held + 1 if reached[self.family.stages[-1]] else 0
        success = self._held >= HOLD_STEPS and all(self.stages.values())
        info = {"is_success": success, **self._progress()}
        truncated = not success and self.steps >= self._max_episode_steps
        return self._observation(), float(success), success, truncated, info

    def render(self) -> np.ndarray:
        """Both cameras side by side, for people, uint8 (V, 2 V, 3)."""
        return np.hstack(list(self.views().values()))

    def ground_truth(self) -> GroundTruth:
        if self.episode is None:
            raise PosaError("call reset() before ground_truth()")
        objects = []
        for slot, placed in enumerate(self.episode.objects):
            name = f"{placed.colour} {placed.category}"
            objects.append(ObjectState(name, placed.category, placed.colour, *self.object_pose(slot)))
        focus = self.family.focus(self)
        return GroundTruth(
            target=self.episode.target,
            task_id=self.episode.task_id,
            objects=tuple(objects),
            ee_pose=np.concatenate(self.ee_pose()),
            cameras={name: self.camera_matrices(name) for name in CAMERAS},
            lifted=self.lifted(),
            held_out_phrasing=self.episode.held_out_phrasing,
            stages=dict(self.stages),
            focus=None if focus is None else focus.position,
        )

    def focus_visibility(self) -> dict[str, float]:
        """`visibility` of what the hand acts on next (`Family.focus`); -1 when nothing is left to do."""
        focus = self.family.focus(self)
        return dict.fromkeys(CAMERAS, -1.0) if focus is None else self.visibility(focus.geoms)

    def _observation(self) -> dict[str, Any]:
        position, quaternion = self.ee_pose()
        state = np.concatenate([position, axis_angle_from_quaternion(quaternion), self.robot.fingers])
        pixels = {camera: self.renderer.render(self.data, camera) for camera in CAMERAS}
        return {"pixels": pixels, "agent_pos": state.astype(np.float32)}

    def _progress(self) -> dict[str, Any]:
        return {"lifted": self.lifted() or "", "stages": dict(self.stages), "mistake": self.family.mistake(self)}


def _spaces(size: int) -> tuple[gym.spaces.Dict, gym.spaces.Box]:
    picture = gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
    state = gym.spaces.Box(-np.inf, np.inf, (8,), np.float32)
    pixels = gym.spaces.Dict(dict.fromkeys(CAMERAS, picture))
    return gym.spaces.Dict({"pixels": pixels, "agent_pos": state}), gym.spaces.Box(-1, 1, (7,), np.float32)
