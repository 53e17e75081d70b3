"""Records whose attention takes a course that is written down by name."""

from posa_vla.evaluation.records import SUCCESS, EpisodeRecord, Motion

NAMES = ("red cube", "red bottle", "blue cube", "yellow lemon")
"""The target first; then one of its colour, one of its category, one of neither."""

PLACES = {name: (0.2 + 0.2 * index, 0.5) for index, name in enumerate(NAMES)}


def episode(
    course: list[str | None],
    seed: int = 0,
    outcome: str = SUCCESS,
    error: float = 0.02,
    contrast: float = 0.9,
    grasped: int | None = None,
    **known,
) -> EpisodeRecord:
    """The task anchor lies `error` above each named object in turn (None: far from all), until `grasped`."""
    predicted, true = [], []
    for step, name in enumerate(course):
        u, v = PLACES[name] if name else (0.5, 0.05)
        predicted.append([[[u, v - error if name else v], [0.5, 0.5]]])
        over = grasped is not None and step >= grasped
        true.append([[[None, None] if over else list(PLACES[NAMES[0]]), [0.5, 0.5]]])
    anchors = {
        "cameras": ["head"],
        "image_sizes": [[100, 100]],
        "steps": list(range(len(course))),
        "predicted": predicted,
        "true": true,
        "random_object": [[[0.3, 0.3]]] * len(course),
        "confidence": [[[0.95, 0.95]]] * len(course),
        "contrast": [[[contrast, 0.9]]] * len(course),
        "objects": list(NAMES),
        "ahead": [grasped is None or step < grasped for step in range(len(course))],
        "object_uv": [[[list(place) for place in PLACES.values()]]] * len(course),
    }
    return EpisodeRecord(
        "basic", seed, outcome, target=NAMES[0], motion=Motion(40, 1.0, -8.0), anchors=anchors, **known
    )
