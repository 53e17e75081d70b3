"""Pick up the named object: the suite's first task."""

from posa_vla.sim.families.family import Family


class Pick(Family):
    """Done when the named object has been 10 cm above where it stood for half a second."""

    name, index = "pick", 0
