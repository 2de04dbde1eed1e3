"""Input checks, called at public entries only."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d, validate_data

from .errors import DataError, DataTypeError, LabelError, ParameterError, TrainingInterrupted

Array = NDArray[Any]


def image_shape(X: Any) -> tuple[int, ...] | None:
    """Shape of ``X`` if it is a pool of images (ndim 4) or of cut patches (ndim 5), else None."""
    shape = getattr(X, "shape", None)
    if shape is None:
        try:
            shape = np.asarray(X).shape
        except ValueError as error:
            raise DataError(
                "the candidates differ in shape and do not form one array; crop or resize them "
                "to one shape (C, H, W) first."
            ) from error
    return tuple(shape) if len(shape) in (4, 5) else None


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
    X = np.asarray(X)
    expected = "(n, C, H, W)" if ndim == 4 else "(n, m, C, h, w)"
    if X.ndim != ndim or 0 in X.shape[1:]:
        raise DataError(
            f"images have shape {X.shape}; expected {expected}, channels first. "
            "One image: X[None]; grey images (n, H, W): X[:, None]; channels last: "
            "X.transpose(0, 3, 1, 2)."
        )
    if X.shape[-3] > 16 and X.shape[-1] in (1, 3, 4):
        raise DataError(
            f"images have shape {X.shape}, which looks like channels last; expected {expected}. "
            "Pass X.transpose(0, 3, 1, 2)."
        )
    if X.dtype == np.uint8:
        return X
    if X.dtype.kind == "f":
        X = X.astype(np.float32, copy=False)
        if X.size and not np.isfinite(X).all():
            row = int(np.flatnonzero(~np.isfinite(X).reshape(len(X), -1).all(axis=1))[0])
            raise DataError(
                f"image {row} holds NaN or infinite pixels; expected finite values in [0, 1]. "
                "Leave the image out or mend it before asking for labels."
            )
        if X.size and (X.min() < 0 or X.max() > 1):
            raise DataError(
                f"float images range from {X.min():g} to {X.max():g}; expected [0, 1]. "
                "Divide 8-bit values by 255, or pass them as uint8."
            )
        return X
    if X.dtype == np.bool_:
        return X.astype(np.uint8) * np.uint8(255)
    raise DataTypeError(
        f"images have dtype {X.dtype}; expected uint8 in [0, 255] or float in [0, 1]. Map other "
        "ranges (16-bit, Hounsfield units) to [0, 1] with a fixed window first."
    )


def check_int(name: str, value: Any, *, minimum: int) -> int:
    """Refuse anything but a whole number from ``minimum`` on."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise ParameterError(f"{name}={value!r}; expected a whole number from {minimum} on.")
    return int(value)


def check_number(name: str, value: Any, *, low: float, high: float = math.inf) -> float:
    """Refuse anything but a finite number in [low, high]."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not (low <= value <= high) or not math.isfinite(value):
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise ParameterError(f"{name}={value!r}; expected a number of at least {low:g}{upper}.")
    return float(value)


def check_option(name: str, value: Any, options: tuple[Any, ...]) -> None:
    """Refuse a value that is not one of the options."""
    if not any(value is option or value == option for option in options):
        listed = ", ".join(repr(option) for option in options)
        raise ParameterError(f"{name}={value!r}; expected one of {listed}.")


def check_labels(y: Any, X: Array) -> Array:
    """Return ``y`` as an array of one class per candidate."""
    if y is None:
        raise LabelError(
            "this estimator requires y to be passed, but the target y is None; expected one "
            "class per candidate, shape (n,)."
        )
    try:
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        # Labels of mixed types cannot be sorted.
        np.unique(y)
    except (ValueError, TypeError) as error:
        raise LabelError(f"{error} Expected one class per candidate, shape (n,).") from error
    if len(y) != len(X):
        raise LabelError(
            f"{len(X)} candidates (X has shape {X.shape}) and {len(y)} labels; expected one label "
            "per candidate, in the same order."
        )
    return np.asarray(y)


def check_known_labels(y: Array, classes: Array) -> None:
    """Refuse a label that is not among the classes."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise LabelError(
            f"y holds {unknown.tolist()}, not among the classes {classes.tolist()}. Pass all "
            "classes at the start: AIFTClassifier(classes=[...]), or classes=[...] in the first "
            "partial_fit."
        )


def check_same_classes(given: Any, classes: Array) -> None:
    """Refuse classes that contradict those that are fixed already."""
    if given is not None and not np.array_equal(np.unique(given), np.unique(classes)):
        raise LabelError(
            f"classes={np.unique(given).tolist()} differ from those fixed before, "
            f"{np.unique(classes).tolist()}; leave classes out, or fit anew."
        )


def check_weights(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    """Return the weights of n candidates as float64, or None where there are none."""
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight)
    if weight.dtype.kind not in "biuf" or weight.shape != (n,):
        raise DataError(
            f"sample_weight has shape {weight.shape} and dtype {weight.dtype}; expected one number "
            f"per candidate, shape ({n},)."
        )
    weight = weight.astype(np.float64)
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise DataError(
            f"sample_weight ranges from {weight.min()} to {weight.max()}; expected finite numbers "
            "from 0 on, not all of them 0."
        )
    return weight


def check_groups(groups: Any, n: int) -> Array | None:
    """Return the groups of n candidates, or None where there are none."""
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise DataError(
            f"groups have shape {groups.shape}; expected one per candidate, shape ({n},)."
        )
    return groups


def check_features(estimator: Any, X: Any, *, dtype: Any, reset: bool) -> Array:
    """Return feature vectors (n, f), checked by scikit-learn."""
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
    shape = np.asarray(X, dtype=object).shape if shape is None else shape
    if len(shape) == 3:
        raise DataError(
            f"X has shape {tuple(shape)}; Found array with dim 3, expected features (n, f) or "
            "images (n, C, H, W). For one image pass X[None]; for grey images (n, H, W) pass "
            "X[:, None]."
        )


@contextlib.contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Let a call that fails leave the estimator's attributes as they were."""
    before = dict(vars(estimator))
    try:
        yield
    except TrainingInterrupted:
        # What was learnt until then is kept on purpose.
        raise
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
