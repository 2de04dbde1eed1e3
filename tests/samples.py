"""Small data shared by the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared"

# The pattern table published with AIFT: p of 11 patches, then E, E^1/4, D, D^1/4, E+D, (E+D)^1/4.
GOLDEN = {
    "A": (
        [0.4, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.6],
        [7.52, 2.02, 4.38, 0, 11.9, 2.02],
    ),
    "B": (
        [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.6, 0.7, 0.8, 1, 1],
        [4.57, 0.83, 1237.21, 20.79, 1241.77, 21.62],
    ),
    "C": (
        [0, 0, 0, 0.1, 0.1, 0.9, 0.9, 1, 1, 1, 1],
        [1.3, 0, 2816.66, 0, 2817.96, 0],
    ),
    "D": (
        [1, 1, 1, 1, 1, 1, 1, 0.9, 0.9, 0.9, 0.9],
        [1.3, 0, 189.54, 0, 190.84, 0],
    ),
    "E": (
        [0, 0, 0, 0, 0, 0, 0, 0.1, 0.1, 0.1, 0.1],
        [1.3, 0, 189.54, 0, 190.84, 0],
    ),
    "F": (
        [0, 0, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.3, 0.9, 1],
        [3.24, 0.33, 1076.87, 13.54, 1080.11, 13.86],
    ),
    "G": (
        [0, 0.1, 0.7, 0.8, 0.8, 0.9, 0.9, 0.9, 0.9, 1, 1],
        [3.24, 0.33, 1076.87, 13.54, 1080.11, 13.86],
    ),
}


def binary(p):
    """Patch probabilities (..., m) of class 1 as P (..., m, 2)."""
    p = np.asarray(p, dtype=float)
    return np.stack([1 - p, p], axis=-1)


def make_blobs(n, seed=0, size=16):
    rng = np.random.default_rng(seed)
    X = rng.integers(60, 110, (n, 3, size, size)).astype(np.uint8)
    y = rng.permutation(np.arange(n) % 2)
    rows, columns = np.mgrid[:size, :size]
    for i in np.flatnonzero(y):
        r, c = rng.uniform(size * 0.35, size * 0.65, 2)
        X[i, :, (rows - r) ** 2 + (columns - c) ** 2 < (size / 5) ** 2] += 100
    return X, np.where(y == 1, "disc", "empty")
