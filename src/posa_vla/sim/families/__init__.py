"""Task families of the suite, by name. One file each; `family` says what a family is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posa_vla.errors import unknown_name
from posa_vla.sim.families.box import BoxTask
from posa_vla.sim.families.family import Family
from posa_vla.sim.families.pick import Pick
from posa_vla.sim.families.place import Place
from posa_vla.sim.families.push import Push
from posa_vla.sim.families.stack import Stack

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

_FAMILIES: dict[str, Family] = {family.name: family for family in (Pick(), BoxTask(), Place(), Push(), Stack())}
FAMILIES = tuple(_FAMILIES)


def get_family(name: str) -> Family:
    if name not in _FAMILIES:
        raise unknown_name("task family", name, FAMILIES)
    return _FAMILIES[name]


def make_expert(env: TabletopEnv) -> Any:
    """The scripted expert of the environment's family."""
    return env.family.expert(env)


__all__ = ["FAMILIES", "Family", "get_family", "make_expert"]
