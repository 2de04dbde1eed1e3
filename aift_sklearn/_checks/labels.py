"""Labels and classes, checked and brought to one type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

from ..errors import LabelError
from .arrays import as_array, without_tensors

__all__ = [
    "check_classes",
    "check_known_labels",
    "check_labels",
    "check_same_classes",
    "labels_of_classes",
]

Array = NDArray[Any]

# Rows that a message names; of more it says how many there are.
_NAMED = 10


def check_labels(y: Any, X: Array, *, warn_of_column: bool = True) -> Array:
    """Return ``y`` as an array of one class per candidate.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, 1)
        Text, whole numbers or booleans; an object array or a list holds one kind of these.
    X : ndarray of shape (n, ...)
        The candidates.
    warn_of_column : bool, default=True
        Whether a column (n, 1) is flattened with scikit-learn's DataConversionWarning.

    Returns
    -------
    ndarray of shape (n,)
        Labels, of the dtype of what they are.

    Raises
    ------
    LabelError
        If labels are missing, of several kinds, no classes, or not as many as candidates.
    """
    if y is None:
        raise LabelError(
            "this estimator requires y to be passed, but the target y is None; expected one "
            "class per candidate, shape (n,)."
        )
    y = _as_object_array(y)
    try:
        y = column_or_1d(y, warn=warn_of_column)
        y = _of_one_kind(y, "y")
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
    except LabelError:
        raise
    except (ValueError, TypeError) as error:
        raise LabelError(f"{error} Expected one class per candidate, shape (n,).") from error
    if len(y) != len(X):
        raise LabelError(
            f"{len(X)} candidates (X has shape {X.shape}) and {len(y)} labels; expected one label "
            "per candidate, in the same order."
        )
    return y


def check_classes(classes: Any) -> Array:
    """Return all classes, sorted, each once.

    Parameters
    ----------
    classes : iterable
        Text, whole numbers or booleans: an array, list, tuple, set, series, or the keys of a dict.

    Returns
    -------
    ndarray of shape (K,)
        Classes.

    Raises
    ------
    LabelError
        If these are no classes.

    Examples
    --------
    >>> check_classes({"cyst", "tumour"}), check_classes({1: "benign", 0: "malignant"}.keys())
    (array(['cyst', 'tumour'], dtype='<U6'), array([0, 1]))
    """
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
        raise LabelError(
            f"classes={classes!r}; expected all classes, such as classes=['benign', 'malignant']."
        )
    if not hasattr(classes, "shape"):
        classes = list(classes)
    labels = _as_object_array(classes)
    if labels.ndim != 1 or len(labels) == 0:
        raise LabelError(f"classes has shape {labels.shape}; expected (K,), K from 1 on.")
    labels = _of_one_kind(labels, "classes")
    try:
        assert_all_finite(labels, input_name="classes")
        return np.unique(labels)
    except (ValueError, TypeError) as error:
        raise LabelError(f"classes={classes!r:.80}: {error}") from error


def check_known_labels(y: Array, classes: Array) -> None:
    """Refuse a label that is not among the classes."""
    known = set(classes.tolist())
    unknown = [label for label in np.unique(y).tolist() if label not in known]
    if unknown:
        raise LabelError(
            f"y holds {unknown}, not among the classes {classes.tolist()}. Pass all "
            "classes at the start: AIFTClassifier(classes=[...]), or classes=[...] in the first "
            "partial_fit."
        )


def labels_of_classes(y: Array, classes: Array) -> Array:
    """Return known labels in the type of the classes.

    Examples
    --------
    >>> labels_of_classes(np.array([1.0, 0.0]), np.array([0, 1]))
    array([1, 0])
    """
    check_known_labels(y, classes)
    return np.asarray(classes[np.searchsorted(classes, y)])


def check_same_classes(given: Any, classes: Any) -> None:
    """Refuse classes that contradict those that are fixed already."""
    if given is None:
        return
    now, before = check_classes(given).tolist(), check_classes(classes).tolist()
    if now != before:
        raise LabelError(
            f"classes={now} differ from those fixed before, {before}; leave classes out, or fit "
            "anew."
        )


def _as_object_array(y: Any) -> Array:
    """Labels as they are: NumPy would make text of a list that holds a number, or None."""
    if isinstance(y, np.ma.MaskedArray):
        labels = np.array(y.data, dtype=object)
        labels[np.ma.getmaskarray(y)] = None
        return labels
    if not isinstance(y, (list, tuple)):
        return as_array(y)
    y = without_tensors(y)
    y = [label.item() if hasattr(label, "item") and np.ndim(label) == 0 else label for label in y]
    try:
        return np.array(y, dtype=object)
    except ValueError as error:
        raise LabelError(f"y is ragged ({error}); expected one class per candidate.") from error


def _of_one_kind(labels: Array, name: str) -> Array:
    """Refuse missing and mixed labels; numbers and booleans among objects become arrays of such."""
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise _missing(np.flatnonzero(np.isnan(labels)), name)
    if labels.dtype != object:
        return labels
    kinds = np.array([_kind(label) for label in labels.tolist()], dtype=object)
    if (kinds == "missing").any():
        raise _missing(np.flatnonzero(kinds == "missing"), name)
    found, counts = np.unique(kinds.astype(str), return_counts=True)
    if len(found) > 1:
        rare = found[counts.argmin()]
        rows = np.flatnonzero(kinds == rare)
        raise LabelError(
            f"{name} mixes {' and '.join(found)}: {_rows(rows)} {'are' if len(rows) > 1 else 'is'} "
            f"{rare}, such as {labels[rows[0]]!r}. Expected labels of one kind, text or whole "
            "numbers."
        )
    if list(found) == ["text"]:
        return labels.astype(str)
    if list(found) in ([], ["number"], ["boolean"]):
        return np.array(labels.tolist())
    raise LabelError(
        f"Unknown label type: {name} holds {found[0]}, such as {labels[0]!r:.40}; expected text, "
        "whole numbers or booleans."
    )


def _kind(label: Any) -> str:
    if isinstance(label, str):
        return "text"
    if isinstance(label, (bool, np.bool_)):
        return "boolean"
    if label is None or type(label).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return "missing"
    if isinstance(label, (int, float, np.integer, np.floating)):
        return "missing" if label != label else "number"  # noqa: PLR0124
    return f"values of type {type(label).__name__}"


def _missing(rows: NDArray[np.intp], name: str) -> LabelError:
    if name != "y":
        return LabelError(f"{name} holds None or NaN at {_rows(rows)}; expected classes only.")
    return LabelError(
        f"y holds None or NaN: {_rows(rows)} {'have' if len(rows) > 1 else 'has'} no label. Leave "
        "out the candidates that were not answered, or skipped."
    )


def _rows(rows: NDArray[np.intp]) -> str:
    listed = ", ".join(map(str, rows[:_NAMED].tolist()))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {listed}{more}"
