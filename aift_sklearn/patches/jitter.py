"""Jittered copies of feature vectors: patches for tables instead of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .._checks import check_int, check_number, check_weights

__all__ = ["JitterPatches"]


class JitterPatches(TransformerMixin, BaseEstimator):
    """m jittered copies of each feature vector, for tables instead of images.

    Parameters
    ----------
    n_patches : int, default=8
        m. Patch 0 is the vector itself.
    scale : float, default=0.05
        Standard deviation of the jitter, in units of each feature's standard deviation in `fit`
        (of 1 where that is 0).
    random_state : int, RandomState or None, default=0
        Seed of the jitter. With None it is drawn anew in each `fit`.

    Attributes
    ----------
    offsets_ : ndarray of shape (m, f)
        What is added; the same for every candidate.

    Examples
    --------
    >>> JitterPatches(n_patches=4).fit_transform([[0., 1.], [2., 3.], [4., 5.]]).shape
    (3, 4, 2)
    """

    def __init__(self, n_patches: int = 8, scale: float = 0.05, random_state: Any = 0) -> None:
        self.n_patches = n_patches
        self.scale = scale
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Draw the jitter in units of the features' standard deviations.

        Parameters
        ----------
        X : array-like of shape (n, f)
            Feature vectors.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), optional
            Weights of the vectors in the standard deviations.

        Returns
        -------
        JitterPatches
            Itself.
        """
        n_patches = check_int("n_patches", self.n_patches, minimum=1)
        scale = check_number("scale", self.scale, low=0)
        X = validate_data(self, X, dtype=np.float64)
        rng = check_random_state(self.random_state)
        noise = rng.standard_normal((n_patches, X.shape[1]))
        noise[0] = 0
        weight = check_weights(sample_weight, len(X))
        mean = np.average(X, axis=0, weights=weight)
        spread = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
        # As StandardScaler does: of one candidate, or a constant, nothing is known.
        self.offsets_ = noise * scale * np.where(spread > 0, spread, 1.0)
        return self

    def transform(self, X: ArrayLike, views: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Add the jitter.

        Parameters
        ----------
        X : array-like of shape (n, f)
            Feature vectors.
        views : sequence of int, optional
            Positions of the patches that are wanted, in the order wanted; by default all m.

        Returns
        -------
        ndarray of shape (n, m, f), float64
            Patch 0 is the vector itself.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        wanted = slice(None) if views is None else np.asarray(views, dtype=np.intp)
        return np.asarray(X[:, None] + self.offsets_[wanted])
