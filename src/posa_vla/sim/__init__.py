"""The tabletop suite: a Panda picks what the sentence names, under the paper's five test conditions."""

import os

# Before mujoco is imported anywhere below: headless rendering, and one thread for software OpenGL, which
# gives the same pixels for less processor time.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
