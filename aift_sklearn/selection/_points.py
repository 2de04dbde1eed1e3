"""Embeddings brought to one scale, so that their distances can be compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_directions", "as_standardised"]

Floats = NDArray[np.float32]


def as_directions(embeddings: Floats) -> Floats:
    """Scale embeddings (n, E) to unit length, as suits a CNN's."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12))


def as_standardised(features: Floats) -> Floats:
    """Scale each feature of (n, f) to mean 0 and standard deviation 1, as suits a table."""
    spread = features.std(axis=0)
    return np.asarray((features - features.mean(axis=0)) / np.where(spread > 0, spread, 1))
