"""Candidates: images, features, and what comes with each of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from ..errors import DataError, DataTypeError
from .arrays import as_array, image_shape, refuse_channels_last, without_tensors

__all__ = [
    "candidate_shape",
    "check_features",
    "check_groups",
    "check_images",
    "check_weights",
    "refuse_three_axes",
]

Array = NDArray[Any]

# How far beyond [0, 1] cubic interpolation and rounding lead.
_OVERSHOOT = 0.25


def candidate_shape(X: Any) -> tuple[int, ...]:
    """Shape (C, H, W) of the candidates of a pool of images, reading none of them."""
    shape = image_shape(X)
    if shape is None or len(shape) != 4:
        raise DataError(
            f"images have shape {np.shape(X)}; expected (n, C, H, W), channels first. "
            "One image: X[None]; grey images (n, H, W): X[:, None]."
        )
    return shape[1:]


def check_images(X: Any, *, ndim: int = 4) -> Array:
    """Return ``X`` as an array of uint8 in [0, 255] or float32 in [0, 1], channels first.

    A pool is checked slice by slice as it is read, so ``X`` may be one slice of it.
    """
    X = as_array(X)
    if X.ndim != ndim or 0 in X.shape[1:]:
        expected = "(n, C, H, W)" if ndim == 4 else "(n, m, C, h, w)"
        raise DataError(
            f"images have shape {X.shape}; expected {expected}, channels first. "
            "One image: X[None]; grey images (n, H, W): X[:, None]; channels last: "
            "X.transpose(0, 3, 1, 2)."
        )
    refuse_channels_last(X.shape)
    if X.dtype == np.uint8:
        return X
    if X.dtype.kind == "f":
        return _check_floats(X.astype(np.float32, copy=False))
    if X.dtype == np.bool_:
        return X.astype(np.uint8) * np.uint8(255)
    raise DataTypeError(
        f"images have dtype {X.dtype}; expected uint8 in [0, 255] or float in [0, 1]. Map other "
        "ranges (16-bit, Hounsfield units) to [0, 1] with a fixed window first."
    )


def _check_floats(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Refuse values outside [0, 1], and say what they look like."""
    if X.size == 0:
        return X
    low, high = float(X.min()), float(X.max())
    # A NaN makes both of them NaN.
    if low >= 0 and high <= 1:
        return X
    if not (math.isfinite(low) and math.isfinite(high)):
        row = next(i for i, image in enumerate(X) if not np.isfinite(image).all())
        raise DataError(
            f"image {row} holds NaN or infinite pixels; expected finite values in [0, 1]. "
            "Leave the image out or mend it before asking for labels."
        )
    if low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT:
        advice = "Interpolation overshoots by a little: np.clip(X, 0, 1)."
    elif low >= -1 and high <= 1:
        advice = "Values normalised to [-1, 1] go back by (X + 1) / 2."
    elif low < 0:
        advice = (
            "Pass images from before normalisation, which is the network's; Hounsfield units are "
            "mapped to [0, 1] with a fixed window."
        )
    elif high <= 255 * (1 + _OVERSHOOT):
        advice = "Divide 8-bit values by 255, or pass them as uint8."
    else:
        advice = "Map 16-bit values to [0, 1] with a fixed window; divide 8-bit values by 255."
    raise DataError(f"float images range from {low:.9g} to {high:.9g}; expected [0, 1]. {advice}")


def check_weights(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    """Return the weights of n candidates as float64, or None where there are none."""
    if sample_weight is None:
        return None
    weight = as_array(sample_weight)
    if weight.dtype.kind not in "biuf" or weight.shape != (n,):
        raise DataError(
            f"sample_weight has shape {weight.shape} and dtype {weight.dtype}; expected one number "
            f"per candidate, shape ({n},)."
        )
    weight = weight.astype(np.float64)
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise DataError(
            f"sample_weight ranges from {weight.min()} to {weight.max()}; expected finite numbers "
            "from 0 on, not all of them zero."
        )
    return weight


def check_groups(groups: Any, n: int) -> Array | None:
    """Return the groups of n candidates, or None where there are none."""
    if groups is None:
        return None
    groups = as_array(groups)
    if groups.shape != (n,):
        raise DataError(
            f"groups have shape {groups.shape}; expected one per candidate, shape ({n},)."
        )
    return groups


def check_features(estimator: Any, X: Any, *, dtype: Any, reset: bool) -> Array:
    """Return feature vectors (n, f), checked by scikit-learn."""
    # A frame keeps the names of its columns, and a sparse matrix is refused as what it is.
    X = without_tensors(X)
    refuse_three_axes(X)
    try:
        return np.asarray(validate_data(estimator, X, dtype=dtype, reset=reset))
    except ValueError as error:
        raise DataError(str(error)) from error
    except TypeError as error:
        raise DataTypeError(str(error)) from error


def refuse_three_axes(X: Any) -> None:
    """Refuse what is neither features nor images, with a hint at what was meant."""
    shape = getattr(X, "shape", None)
    shape = np.asarray(without_tensors(X), dtype=object).shape if shape is None else shape
    if len(shape) == 3:
        raise DataError(
            f"X has shape {tuple(shape)}; Found array with dim 3, expected features (n, f) or "
            "images (n, C, H, W). For one image pass X[None]; for grey images (n, H, W) pass "
            "X[:, None]."
        )
