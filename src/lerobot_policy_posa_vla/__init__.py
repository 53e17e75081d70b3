"""LeRobot discovers this package by its distribution name and imports it: that registers PosA-VLA.

The processor module registers a `ProcessorStep`, so it must be imported too or a saved checkpoint would not
load. The benchmark environment is registered only where its simulator is installed (``pip install
'lerobot_policy_posa_vla[sim]'``); elsewhere the env type ``posa_tabletop`` is simply unknown.
"""

from importlib.util import find_spec

from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.policy.processor_posa_vla import make_posa_vla_pre_post_processors

SIMULATOR = ("mujoco", "mink", "robosuite")

if all(find_spec(package) for package in SIMULATOR):
    import posa_vla.sim.lerobot_env  # noqa: F401

__all__ = ["PosaVLAConfig", "make_posa_vla_pre_post_processors"]
