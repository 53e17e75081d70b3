"""Procedural surfaces, uint8 (TEXTURE_SIZE, TEXTURE_SIZE, 3).

A small set to train on; endless ones of other patterns that only the test condition shows; and endless ones of
a third kind for randomised training, which shares no pattern with the test's.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

TEXTURE_SIZE = 256  # pixels
Rng = np.random.Generator

TRAINING_TABLES = ("grey", "oak", "walnut", "slate", "sand", "felt")
TRAINING_WALLS = ("white", "cream", "mist", "stone")
_PLAIN = {
    "grey": (165, 165, 168),
    "slate": (112, 118, 126),
    "sand": (196, 182, 156),
    "felt": (126, 138, 128),
    "white": (224, 224, 222),
    "cream": (222, 214, 196),
    "mist": (190, 200, 208),
    "stone": (168, 164, 158),
}
_WOOD = {"oak": ((190, 156, 116), (164, 128, 90)), "walnut": ((128, 98, 76), (98, 72, 54))}


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """(x, y) in [0, 1), each (S, S)."""
    axis = np.arange(TEXTURE_SIZE) / TEXTURE_SIZE
    x, y = np.meshgrid(axis, axis)
    return x, y


def _cloud(rng: Rng, octaves: int = 4) -> np.ndarray:
    """Smooth noise in [0, 1], (S, S): random grids of doubling resolution, interpolated and summed."""
    total = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE))
    for octave in range(octaves):
        cells = 2 ** (octave + 2)
        coarse = rng.random((cells, cells))
        at = np.arange(TEXTURE_SIZE) * cells / TEXTURE_SIZE
        low, part = at.astype(int), at - at.astype(int)
        part = part * part * (3 - 2 * part)
        rows = coarse[low] * (1 - part)[:, None] + coarse[(low + 1) % cells] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, (low + 1) % cells] * part) / 2**octave
    return (total - total.min()) / np.ptp(total)


def _muted(colour: np.ndarray) -> np.ndarray:
    """Half the saturation: a surface as vivid as the objects would hide them rather than test the policy."""
    return 0.5 * colour + 0.5 * colour.mean()


def _blend(amount: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(S, S) weights and two RGB colours (3,) to an image, float (S, S, 3)."""
    return amount[..., None] * second + (1 - amount[..., None]) * first


def _planks(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = _grid()
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * (6 * y + 1.2 * _cloud(rng, 3) + 0.3 * np.sin(2 * np.pi * x)))
    return _blend(0.6 * grain + 0.4 * _cloud(rng), first, second)


def _checks(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = _grid()
    count = int(rng.integers(3, 9))
    return _blend(((x * count).astype(int) + (y * count).astype(int)) % 2, first, second)


def _stripes(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = _grid()
    kx, ky = rng.integers(-6, 7), rng.integers(3, 9)
    return _blend((np.sin(2 * np.pi * (kx * x + ky * y)) > rng.uniform(-0.5, 0.5)).astype(float), first, second)


def _dots(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = _grid()
    count, radius = int(rng.integers(4, 9)), rng.uniform(0.2, 0.4)
    inside = np.hypot((x * count) % 1 - 0.5, (y * count) % 1 - 0.5) < radius
    return _blend(inside.astype(float), first, second)


def _bricks(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = _grid()
    rows = int(rng.integers(4, 9))
    shifted = x * rows / 2 + 0.5 * ((y * rows).astype(int) % 2)
    mortar = ((y * rows) % 1 < 0.1) | (shifted % 1 < 0.05)
    return _blend(mortar.astype(float), first, second) * (0.9 + 0.2 * _cloud(rng))[..., None]


def _marble(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = _grid()
    return _blend(np.abs(np.sin(2 * np.pi * (2 * x + y + 1.5 * _cloud(rng)))) ** 0.5, first, second)


def _clouds(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return _blend(_cloud(rng), first, second)


UNSEEN_PATTERNS: tuple[Callable[[Rng, np.ndarray, np.ndarray], np.ndarray], ...] = (
    _checks, _stripes, _dots, _bricks, _marble, _clouds,
)  # fmt: skip


def _plain(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first * (0.95 + 0.1 * _cloud(rng, 5))[..., None]


def _gradient(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = _grid()
    angle = rng.uniform(0, 2 * np.pi)
    ramp = x * np.cos(angle) + y * np.sin(angle)
    return _blend((ramp - ramp.min()) / np.ptp(ramp), first, second)


def _speckles(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Terrazzo: square grains of random sizes."""
    cells = int(rng.choice((32, 64, 128)))
    grains = (rng.random((cells, cells)) < rng.uniform(0.1, 0.4)).astype(float)
    return _blend(np.kron(grains, np.ones((TEXTURE_SIZE // cells,) * 2)), first, second)


def _rings(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = _grid()
    centre = rng.uniform(-0.2, 1.2, 2)
    wave = np.sin(2 * np.pi * rng.uniform(3, 9) * np.hypot(x - centre[0], y - centre[1]))
    return _blend(0.5 + 0.5 * wave, first, second)


def _patches(rng: Rng, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Crazy paving: each point has the shade of its nearest of a few random sites."""
    x, y = _grid()
    sites, shades = rng.random((int(rng.integers(6, 24)), 2)), rng.random(24)
    nearest = np.argmin([(x - u) ** 2 + (y - v) ** 2 for u, v in sites], axis=0)
    return _blend(shades[nearest], first, second)


RANDOMISED_PATTERNS: tuple[Callable[[Rng, np.ndarray, np.ndarray], np.ndarray], ...] = (
    _plain, _planks, _gradient, _speckles, _rings, _patches,
)  # fmt: skip


@lru_cache
def training_surface(name: str) -> np.ndarray:
    """One of `TRAINING_TABLES` or `TRAINING_WALLS`; the same pixels every time."""
    rng = np.random.default_rng(sum(name.encode()))
    if name in _WOOD:
        image = _planks(rng, *(np.array(c, float) for c in _WOOD[name]))
    else:
        image = np.array(_PLAIN[name]) * (0.97 + 0.06 * _cloud(rng, 5))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def unseen_surface(rng: Rng) -> np.ndarray:
    """A pattern and two colours that training never shows."""
    return _surface(rng, UNSEEN_PATTERNS)


def randomised_surface(rng: Rng) -> np.ndarray:
    """A pattern and two colours for randomised training; none of the unseen patterns."""
    return _surface(rng, RANDOMISED_PATTERNS)


def _surface(rng: Rng, patterns: tuple[Callable[[Rng, np.ndarray, np.ndarray], np.ndarray], ...]) -> np.ndarray:
    pattern = patterns[rng.integers(len(patterns))]
    first = rng.uniform(50, 230, 3)
    second = np.clip(first + rng.choice((-1, 1), 3) * rng.uniform(30, 110, 3), 20, 245)
    image = pattern(rng, _muted(first), _muted(second))
    return np.clip(image, 0, 255).astype(np.uint8)
