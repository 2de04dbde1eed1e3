"""What counts as an array of candidates, and what to do about what does not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, DataTypeError

__all__ = [
    "as_array",
    "image_shape",
    "refuse_channels_last",
    "refuse_what_is_no_array",
    "without_tensors",
]

Array = NDArray[Any]

_SUFFIXES = "bmp dcm dicom gif gz jp2 jpeg jpg nii npy npz nrrd png svs tif tiff webp"


def as_array(X: Any) -> Array:
    """NumPy array of what holds numbers; a torch tensor may lie on any device.

    Examples
    --------
    >>> import torch
    >>> as_array(torch.ones(2, requires_grad=True)), as_array([torch.zeros(1), torch.ones(1)])
    (array([1., 1.], dtype=float32), array([[0.], [1.]], dtype=float32))
    """
    return np.asarray(without_tensors(X))


def without_tensors(X: Any) -> Any:
    """Torch tensors, alone or in a list, as arrays; anything else as it is."""
    if _is_tensor(X):
        X = X.detach().cpu()
        # NumPy has no bfloat16.
        return np.asarray(X.float() if str(X.dtype) == "torch.bfloat16" else X)
    if isinstance(X, (list, tuple)) and any(_is_tensor(x) for x in X):
        return [without_tensors(x) for x in X]
    return X


def _is_tensor(X: Any) -> bool:
    # Told by what it can do, so that torch need not be loaded.
    return hasattr(X, "detach") and hasattr(X, "cpu")


def image_shape(X: Any) -> tuple[int, ...] | None:
    """Shape of ``X`` if it is a pool of images (ndim 4) or of cut patches (ndim 5), else None.

    Raises
    ------
    DataError, DataTypeError
        If ``X`` is no array and does not form one, or is of channels last.
    """
    refuse_what_is_no_array(X)
    _refuse_columns(X)
    shape = getattr(X, "shape", None)
    if shape is None:
        try:
            array = as_array(X)
        except (ValueError, TypeError) as error:
            raise DataError(
                "the candidates differ in shape and do not form one array; crop or resize them "
                "to one shape (C, H, W) first."
            ) from error
        _refuse_objects(array, "X")
        shape = array.shape
    if len(shape) not in (4, 5):
        return None
    refuse_channels_last(tuple(shape))
    return tuple(shape)


def refuse_channels_last(shape: tuple[int, ...]) -> None:
    """Refuse images (n, H, W, C) or patches (n, m, h, w, C).

    Images have up to four channels as a rule, so that a last axis of at most four behind a second
    that is longer is taken for channels. Channels first of any width are told by their number.

    Examples
    --------
    >>> refuse_channels_last((24, 3, 32, 2))
    >>> refuse_channels_last((24, 32, 32, 2))
    Traceback (most recent call last):
        ...
    aift_sklearn.errors.DataError: images have shape (24, 32, 32, 2), which looks like channels ...
    """
    if shape[-1] <= 4 < shape[-3]:
        axes = "0, 3, 1, 2" if len(shape) == 4 else "0, 1, 4, 2, 3"
        expected = "(n, C, H, W)" if len(shape) == 4 else "(n, m, C, h, w)"
        raise DataError(
            f"images have shape {shape}, which looks like channels last; expected {expected}. "
            f"Pass X.transpose({axes}). If these are {shape[-3]} channels of images that are "
            f"{shape[-1]} pixels wide, repeat or pad them to 5 pixels, or pass feature vectors: "
            "X.reshape(len(X), -1)."
        )


def refuse_what_is_no_array(X: Any) -> None:
    """Refuse data sets of any kind, loaders, generators, mappings, sets and paths.

    >>> refuse_what_is_no_array(x for x in [1, 2])
    Traceback (most recent call last):
        ...
    aift_sklearn.errors.DataTypeError: X is of type builtins.generator; expected an array, or ...
    """
    if isinstance(X, (str, bytes, os.PathLike)):
        raise DataTypeError(f"X is {X!r:.80}, of type {_name(X)}; expected candidates. {_LOADERS}")
    if hasattr(X, "shape"):
        return
    modules = {base.__module__.partition(".data")[0] for base in type(X).__mro__}
    if hasattr(getattr(X, "X", None), "shape"):
        # As this package's Dataset, which holds labels too.
        advice = "Pass its candidates, dataset.X."
    elif "torch.utils" in modules:
        advice = (
            "Of a TensorDataset pass its images, dataset.tensors[0]; of any other, "
            "np.stack([np.asarray(image) for image, *_ in dataset]); of a DataLoader, "
            "torch.cat([images for images, *_ in loader])."
        )
    elif hasattr(X, "keys"):
        advice = f"Pass the array in it, such as X[{next(iter(X.keys()), 'images')!r}]."
    elif isinstance(X, Sequence) or hasattr(X, "__array__") or hasattr(X, "__array_interface__"):
        return
    elif hasattr(X, "__iter__"):
        advice = "Pass np.stack(list(X)); candidates need an order and are read more than once."
    elif hasattr(X, "__getitem__"):
        advice = "Give it a shape (n, C, H, W), so that it can be read in parts, or pass an array."
    else:
        # Numbers and None are refused as what they are.
        return
    raise DataTypeError(
        f"X is of type {type(X).__module__}.{_name(X)}; expected an array, or anything that has a "
        f"shape and takes slices. {advice}"
    )


def _refuse_columns(X: Any) -> None:
    """Refuse frames and series that hold images or paths."""
    if not hasattr(X, "iloc"):
        if isinstance(X, np.ndarray):
            _refuse_objects(X, "X")
        return
    if len(X.shape) == 1:
        _refuse_objects(np.asarray(X.iloc[:1]), "X")
        return
    for k, column in enumerate(X.columns):
        if X.dtypes.iloc[k].kind not in "biufc":
            _refuse_objects(np.asarray(X.iloc[:1, k]), f"X[{column!r}]")


def _refuse_objects(X: Array, name: str) -> None:
    """Refuse an array whose elements are images or paths."""
    if X.dtype.kind not in "OUS" or X.size == 0 or X.ndim > 2 or (X.ndim == 2 and X.shape[1] > 1):
        return
    first = X.ravel()[0]
    if isinstance(first, os.PathLike) or (isinstance(first, (str, bytes)) and _is_path(first)):
        raise DataTypeError(f"{name} holds paths, such as {str(first)!r}; expected candidates. "
                            f"{_LOADERS}")  # fmt: skip
    if isinstance(first, (str, bytes)):
        return
    shapes = {np.shape(x) for x in X.ravel() if hasattr(x, "__len__") or hasattr(x, "__array__")}
    if len(shapes) > 1:
        raise DataError(
            f"the candidates differ in shape ({sorted(shapes)[:3]}) and do not form one array; "
            "crop or resize them to one shape (C, H, W) first."
        )
    if shapes and len(next(iter(shapes))) >= 1:
        stacked = name if X.ndim == 1 or name != "X" else "X.ravel()"
        raise DataTypeError(
            f"{name} is a column of {_name(first)}s of shape {next(iter(shapes))}; expected one "
            f"array. Pass np.stack({stacked})."
        )


def _is_path(text: str | bytes) -> bool:
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    suffix = text.lower().rpartition(".")[2]
    return suffix in _SUFFIXES.split() or "/" in text or "\\" in text


def _name(value: Any) -> str:
    return type(value).__name__


_LOADERS = (
    "Read the files first: aift_sklearn.study.load_folder reads class folders and load_csv a table "
    "of paths; aift_sklearn.study.images.read_images reads a list of paths."
)
