"""Pictures that look a little like chest radiographs, for measurements that must not need data.

A bright trunk with two dark lungs, ribs, a spine, a heart, and grain. Their diagnostic content is nil.
"""

import numpy as np
from numpy.typing import NDArray

#: Part of what names a cached bundle: change it when the pictures change.
VERSION = 1


def phantoms(count: int, size: int, *, seed: int = 0) -> list[NDArray[np.float32]]:
    """Grey pictures [size, size] from 0 to 255; equal arguments give equal pictures."""
    return [_phantom(size, np.random.default_rng((seed, index))) for index in range(count)]


def _phantom(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    x = x + rng.uniform(-0.06, 0.06)
    y = y + rng.uniform(-0.06, 0.06)

    def blob(cx: float, cy: float, rx: float, ry: float, edge: float) -> NDArray[np.float64]:
        distance = np.hypot((x - cx) / rx, (y - cy) / ry)
        return np.asarray(1 / (1 + np.exp((distance - 1) / edge)))

    width = rng.uniform(0.34, 0.44)
    lungs = blob(-0.45, 0.0, width, rng.uniform(0.6, 0.75), 0.07)
    lungs += blob(0.45, 0.0, width, rng.uniform(0.6, 0.75), 0.07)
    ribs = 0.5 + 0.5 * np.cos(2 * np.pi * (rng.uniform(4, 6) * (y - 0.5 * x**2) + rng.uniform()))
    picture = 0.78 * blob(0, 0.1, rng.uniform(0.9, 1.05), 1.2, 0.06)
    picture -= (0.55 - 0.12 * ribs) * lungs
    picture += rng.uniform(0.1, 0.2) * blob(0, 0, 0.09, 1.3, 0.2)
    picture += rng.uniform(0.2, 0.35) * blob(rng.uniform(0.1, 0.25), 0.35, 0.33, 0.38, 0.08)
    for _ in range(rng.integers(0, 4)):  # shadows
        radius = rng.uniform(0.03, 0.2)
        shadow = blob(rng.uniform(-0.7, 0.7), rng.uniform(-0.5, 0.6), radius, radius, 0.3)
        picture += rng.uniform(0.05, 0.2) * shadow
    picture += rng.normal(0, 0.012, picture.shape)
    return np.asarray(np.clip(picture, 0, 1) * 255, np.float32)
