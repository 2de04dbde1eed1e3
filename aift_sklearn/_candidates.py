"""What AIFTClassifier is given: candidates checked at the door, pools read in parts.

Candidates are images (n, C, H, W), patches that were cut already (n, m, C, h, w), or feature
vectors (n, f).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import (
    check_features,
    check_images,
    check_labels,
    image_shape,
    refuse_three_axes,
)
from .errors import DataError

__all__ = [
    "CandidateInput",
    "check_not_empty",
    "embedder",
    "first_step",
    "join",
    "pick_rows",
    "seeded",
    "softmax",
    "with_columns",
]

Array = NDArray[Any]


class CandidateInput:
    """Check candidates against those of the first call, and read pools slice by slice."""

    verbose: int
    n_features_in_: int
    _n_dims: int

    def _check_training(self, X: Any, y: Any, *, reset: bool) -> tuple[Array, Array]:
        """Check labelled candidates and copy them: memory must not change with the caller's."""
        shape = image_shape(X)
        if not reset:
            self._check_kind(X, shape)
        if shape is None:
            X = check_features(self, X, dtype=np.float64, reset=reset)
        else:
            X = check_images(X, ndim=len(shape))
            if not reset:
                self._check_shape(shape)
        y = check_labels(y, X)
        if len(y) == 0:
            raise DataError(f"X has shape {X.shape}; expected at least one candidate.")
        if reset:
            self._n_dims = X.ndim
            self.n_features_in_ = int(X.shape[1] if X.ndim == 2 else X.shape[-3])
        return np.array(X), np.array(y)

    def _check_pool(self, X: Any) -> Any:
        """Check what can be checked without reading the pool."""
        shape = image_shape(X)
        self._check_kind(X, shape)
        if shape is None:
            return check_features(self, X, dtype=np.float64, reset=False)
        self._check_shape(shape)
        return X if hasattr(X, "shape") else np.asarray(X)

    def _check_kind(self, X: Any, shape: tuple[int, ...] | None) -> None:
        kinds = {2: "features (n, f)", 4: "images (n, C, H, W)", 5: "patches (n, m, C, h, w)"}
        if shape is None:
            refuse_three_axes(X)
        n_dims = 2 if shape is None else len(shape)
        if n_dims != self._n_dims:
            raise DataError(
                f"X holds {kinds[n_dims]}, but the classifier was fitted on {kinds[self._n_dims]}."
            )

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        check_not_empty(shape)
        if shape[-3] != self.n_features_in_:
            raise DataError(
                f"X has shape {shape}, that is {shape[-3]} channels; the classifier was fitted on "
                f"{self.n_features_in_}."
            )


def check_not_empty(shape: tuple[int, ...]) -> None:
    """Refuse a pool without candidates."""
    if shape[0] == 0:
        raise DataError(f"X has shape {shape}; expected at least one candidate.")


def join(old: Array, new: Array) -> Array:
    """Append candidates to those seen before, uint8 and float images on one scale."""
    if old.shape[1:] != new.shape[1:]:
        raise DataError(
            f"candidates have shape {new.shape[1:]}, those labelled before {old.shape[1:]}; crop "
            "or resize all candidates to one shape."
        )
    if new.dtype != old.dtype and np.uint8 in (old.dtype, new.dtype) and new.ndim > 2:
        old, new = (
            X.astype(np.float32) / np.float32(255) if X.dtype == np.uint8 else X for X in (old, new)
        )
    return np.concatenate([old, new])


def pick_rows(X: Any, indices: NDArray[np.intp]) -> Any:
    """Take rows of an array, list, frame, or lazy pool, in the order of the indices."""
    if isinstance(X, list):
        return np.asarray(X)[indices]
    if isinstance(X, np.ndarray):
        return X[indices]
    if hasattr(X, "tocsr"):
        return X.tocsr()[indices]
    if hasattr(X, "iloc"):
        return X.iloc[indices]
    # Files are read in rising order only.
    order = np.argsort(indices)
    return np.asarray(X[indices[order]])[np.argsort(order)]


def embedder(estimator: Any) -> Callable[[Array], Array] | None:
    """Find the embedding of an estimator, or of the first step of a pipeline."""
    embed = getattr(first_step(estimator), "embed", None)
    return embed if callable(embed) else None


def first_step(estimator: Any) -> Any:
    """Return what sees the patches: the first step of a pipeline, or the estimator itself."""
    steps = getattr(estimator, "steps", None)
    return steps[0][1] if steps else estimator


def seeded(estimator: Any, rng: np.random.RandomState) -> Any:
    """Give a random state to the estimator and its parts where they have none."""
    for name, value in sorted(estimator.get_params(deep=True).items()):
        if value is None and (name == "random_state" or name.endswith("__random_state")):
            estimator.set_params(**{name: int(rng.randint(2**31 - 1))})
    return estimator


def with_columns(proba: Array, present: Array, classes: Array) -> Array:
    """Give every known class a column, 0 for those that the estimator has not seen."""
    if np.array_equal(present, classes):
        return np.asarray(proba)
    full = np.zeros((len(proba), len(classes)), dtype=np.float32)
    full[:, np.searchsorted(classes, present)] = proba
    return full


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Probabilities (k, K) of logits (k, K).

    Examples
    --------
    >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    proba: NDArray[np.float32] = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return proba
