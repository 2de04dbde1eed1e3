"""What AIFTClassifier is given: candidates checked at the door, rows, embeddings, seeds.

Candidates are images (n, C, H, W), patches that were cut already (n, m, C, h, w), or feature
vectors (n, f).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import (
    as_array,
    check_features,
    check_images,
    check_labels,
    image_shape,
    refuse_three_axes,
)
from .errors import DataError

__all__ = [
    "check_not_empty",
    "check_pool",
    "check_training",
    "embedder",
    "first_step",
    "join",
    "pick_rows",
    "seeded",
    "softmax",
    "with_columns",
]

Array = NDArray[Any]


def check_training(
    classifier: Any, X: Any, y: Any, *, reset: bool, warn_of_column: bool = True
) -> tuple[Array, Array]:
    """Check labelled candidates and copy them: memory must not change with the caller's.

    Parameters
    ----------
    classifier : AIFTClassifier
        Compared with, or, with ``reset``, told what it is fitted on.
    X, y : array-like
        Candidates and their classes.
    reset : bool
        Whether the classifier starts anew.
    warn_of_column : bool, default=True
        Whether labels (n, 1) are flattened with a warning.

    Returns
    -------
    X, y : ndarray
        Copies.
    """
    shape = image_shape(X)
    if not reset:
        _check_kind(classifier, X, shape)
    if shape is None:
        checked = check_features(classifier, X, dtype=np.float64, reset=reset)
    else:
        checked = check_images(X, ndim=len(shape))
        if not reset:
            _check_channels(classifier, shape)
    y = check_labels(y, checked, warn_of_column=warn_of_column)
    if len(y) == 0:
        raise DataError(f"X has shape {checked.shape}; expected at least one candidate.")
    if reset:
        classifier._n_dims = checked.ndim
        classifier.n_features_in_ = int(checked.shape[1 if checked.ndim == 2 else -3])
    # What was converted from another type is a copy already.
    own = isinstance(X, list) or (isinstance(X, np.ndarray) and not np.may_share_memory(checked, X))
    return checked if own else np.array(checked), np.array(y)


def check_pool(classifier: Any, X: Any) -> Any:
    """Check a pool against what a classifier was fitted on, as far as that needs no reading."""
    shape = image_shape(X)
    _check_kind(classifier, X, shape)
    if shape is None:
        return check_features(classifier, X, dtype=np.float64, reset=False)
    _check_channels(classifier, shape)
    return X if hasattr(X, "shape") else as_array(X)


def _check_kind(classifier: Any, X: Any, shape: tuple[int, ...] | None) -> None:
    kinds = {2: "features (n, f)", 4: "images (n, C, H, W)", 5: "patches (n, m, C, h, w)"}
    if shape is None:
        refuse_three_axes(X)
    n_dims = 2 if shape is None else len(shape)
    if n_dims != classifier._n_dims:
        raise DataError(
            f"X holds {kinds[n_dims]}, but the classifier was fitted on "
            f"{kinds[classifier._n_dims]}."
        )


def _check_channels(classifier: Any, shape: tuple[int, ...]) -> None:
    check_not_empty(shape)
    if shape[-3] != classifier.n_features_in_:
        raise DataError(
            f"X has shape {shape}, that is {shape[-3]} channels; the classifier was fitted on "
            f"{classifier.n_features_in_}."
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
        return as_array(X)[indices]
    if isinstance(X, np.ndarray):
        return X[indices]
    if hasattr(X, "tocsr"):
        return X.tocsr()[indices]
    if hasattr(X, "iloc"):
        return X.iloc[indices]
    # Files are read in rising order only.
    order = np.argsort(indices)
    return as_array(X[indices[order]])[np.argsort(order)]


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
