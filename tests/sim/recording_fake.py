"""A stand-in for the tabletop: a coloured square drifts over the picture; importable by spawned processes."""

from types import SimpleNamespace

import numpy as np

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 220)}


class FakeEnv:
    """The hand must reach a target 1-D distance away; a seed divisible by `fail_every` can never succeed."""

    metadata = {"render_fps": 20}  # noqa: RUF012

    def __init__(self, image_size=32, episode_length=40, fail_every=None):
        self.image_size, self._max_episode_steps, self.fail_every = image_size, episode_length, fail_every

    def reset(self, seed):
        rng = np.random.default_rng(seed)
        self.seed, self.steps, self.position = seed, 0, np.zeros(3)
        self.goal = rng.uniform(0.5, 0.8, 3)
        self.task_id = seed % len(COLOURS)
        self.colour = list(COLOURS)[self.task_id]
        self.task_description = f"{('pick up', 'grab')[seed % 2]} the {self.colour} can"
        self.executed = []
        return self._observation(), {"is_success": False}

    def step(self, action):
        self.executed.append(action)
        self.steps += 1
        self.position = self.position + 0.05 * action[:3]
        hopeless = self.fail_every is not None and self.seed % self.fail_every == 0
        success = not hopeless and bool(np.linalg.norm(self.goal - self.position) < 0.03)
        truncated = self.steps >= self._max_episode_steps
        return self._observation(), 0.0, success, truncated, {"is_success": success}

    def close(self):
        pass

    def ground_truth(self):
        return SimpleNamespace(task_id=self.task_id, ee_pose=np.array([*self.position, 1, 0, 0, 0]))

    def _observation(self):
        size = self.image_size
        self.buffer = getattr(self, "buffer", np.empty((size, size, 3), dtype=np.uint8))
        self.buffer[:] = np.linspace(40, 200, size)[None, :, None]  # reused, as a renderer's buffer may be
        row, column = (np.clip(self.position[:2], 0, 0.75) * size).astype(int)
        self.buffer[row : row + size // 4, column : column + size // 4] = COLOURS[self.colour]
        state = np.concatenate([self.position, np.zeros(5)]).astype(np.float32)
        return {"pixels": {"head": self.buffer, "wrist": self.buffer[::-1]}, "agent_pos": state}


class FakeExpert:
    def __init__(self, env):
        self.env = env

    def reset(self):
        pass

    def act(self):
        step = np.clip((self.env.goal - self.env.position) / 0.05, -0.5, 0.5)
        return np.array([*step, 0, 0, 0, -1], dtype=np.float32)


def make_fake(config):
    env = FakeEnv(config.image_size, config.episode_length, fail_every=3)
    return env, FakeExpert(env)
