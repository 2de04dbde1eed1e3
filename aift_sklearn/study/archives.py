"""Data sets from MedMNIST archives, in files and by name."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._writing import as_path
from ..errors import DataError, MissingDependencyError, ParameterError
from .datasets import Dataset, split_dataset

__all__ = ["load_medmnist", "load_npz"]

Array = NDArray[Any]


def load_npz(
    path: str | Path, *, class_names: Sequence[str] | None = None, **split: Any
) -> Dataset:
    """Read an archive in the format of MedMNIST.

    It holds ``train_images`` of shape (n, H, W) or (n, H, W, 3), uint8, ``train_labels`` of shape
    (n, 1), and the same for ``test`` and, perhaps, ``val``. The pool is made of ``train``;
    ``val`` is left out.

    Parameters
    ----------
    path : path-like
        The ``.npz`` file. Pickled objects in it are refused.
    class_names : sequence of str, optional
        Names of the classes 0, 1, 2 ...: ``["normal", "pneumonia"]``.
    **split
        ``max_pool``, ``max_test`` and ``random_state`` of `split_dataset`.

    Returns
    -------
    Dataset
        Labels are the names, or else the numbers of the file as text.

    Raises
    ------
    DataError
        If the file is missing, damaged, or does not hold what is described.

    Examples
    --------
    >>> import tempfile
    >>> images, labels = np.arange(32, dtype=np.uint8).reshape(8, 2, 2), np.arange(8)[:, None] % 2
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/cells.npz", train_images=images[:5], train_labels=labels[:5],
    ...              test_images=images[5:], test_labels=labels[5:])
    ...     load_npz(f"{folder}/cells.npz")
    Dataset 'cells', candidates of shape (1, 2, 2)
      pool  5: 3 0 (60%), 2 1 (40%)
      test  3: 1 0 (33%), 2 1 (67%)
    """
    path = as_path(path)
    names = [f"{side}_{what}" for side in ("train", "test") for what in ("images", "labels")]
    arrays = _read_npz(path, names)
    images = [_channels_first(path, name, arrays[name]) for name in names[::2]]
    labels = [
        _one_label_each(path, name, arrays[name], len(X))
        for name, X in zip(names[1::2], images, strict=True)
    ]
    if images[0].shape[1:] != images[1].shape[1:]:
        raise DataError(f"{path}: train and test images differ in shape or channels.")
    y = np.concatenate(labels)
    if class_names is not None:
        if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(class_names):
            raise ParameterError(
                f"class_names has {len(class_names)} names; {path} holds the classes "
                f"{np.unique(y).tolist()}. Expected a name for each number from 0 on."
            )
        y = np.asarray(class_names)[y]
    return split_dataset(
        path.stem,
        np.concatenate(images),
        y,
        is_test=np.repeat([False, True], [len(X) for X in images]),
        description=f"Images of {path.name}: train is the pool, test the test set.",
        source=str(path),
        **split,
    )


def load_medmnist(name: str, *, size: int = 28, **split: Any) -> Dataset:
    """Read a data set of MedMNIST by its name; the ``medmnist`` package downloads it once.

    Parameters
    ----------
    name : str
        Such as "pneumoniamnist" or "bloodmnist": 2-D, one label per image.
    size : int, default=28
        Height and width in pixels: 28, 64, 128 or 224.
    **split
        ``max_pool``, ``max_test`` and ``random_state`` of `split_dataset`.

    Returns
    -------
    Dataset
        Labels are the class names.

    Raises
    ------
    MissingDependencyError
        If ``medmnist`` is not installed.
    ParameterError
        If there is no 2-D data set of that name with one label per image.
    """
    try:
        import medmnist
    except ImportError as error:
        raise MissingDependencyError(
            "medmnist", purpose="load_medmnist()", command="pip install medmnist"
        ) from error
    known = {
        key: info
        for key, info in medmnist.INFO.items()
        if not key.endswith("3d") and info["task"] != "multi-label, binary-class"
    }
    if name not in known:
        raise ParameterError(f"data set {name!r} is unknown; expected one of {sorted(known)}.")
    info = known[name]
    read = getattr(medmnist, info["python_class"])
    X: list[Array] = []
    y: list[str] = []
    is_test: list[Array] = []
    for side in ("train", "test"):
        part = read(split=side, download=True, size=size)
        X.append(_channels_first(Path(name), side, np.asarray(part.imgs)))
        y.extend(info["label"][str(k)] for k in np.asarray(part.labels).ravel())
        is_test.append(np.full(len(part.imgs), side == "test"))
    return split_dataset(
        name,
        np.concatenate(X),
        np.array(y),
        is_test=np.concatenate(is_test),
        description=info["description"],
        source=info.get("url", "https://medmnist.com"),
        licence=info.get("license", "not stated"),
        **split,
    )


def _read_npz(path: Path, names: list[str]) -> dict[str, Array]:
    try:
        # Opened here, since NumPy leaves a file open that it cannot read.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array; expected an .npz archive.")
            missing = sorted(set(names) - set(archive.files))
            if missing:
                raise DataError(
                    f"{path} lacks {missing} and holds {sorted(archive.files)}; expected the "
                    "format of MedMNIST: train_images, train_labels, test_images, test_labels."
                )
            return {name: archive[name] for name in names}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}.") from error
    except DataError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error).lower():
            raise DataError(
                f"{path} is no .npz archive of plain arrays: it holds pickled objects, which "
                "could run code and are never loaded. Save images as uint8 and labels as integers."
            ) from error
        raise DataError(f"{path} is damaged or truncated: {error}") from error


def _channels_first(path: Path, name: str, images: Array) -> NDArray[np.uint8]:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError(
            f"{path}: {name} has dtype {images.dtype} and shape {images.shape}; expected uint8 of "
            "shape (n, H, W) or (n, H, W, 3). Volumes are not supported: cut slices first."
        )
    if images.ndim == 3:
        return images[:, None]
    if images.shape[-1] not in (1, 3):
        raise DataError(
            f"{path}: {name} has shape {images.shape}; expected 1 or 3 channels, last. Volumes "
            "are not supported: cut slices first."
        )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _one_label_each(path: Path, name: str, labels: Array, n: int) -> Array:
    if labels.ndim not in (1, 2) or labels.size != n or len(labels) != n:
        raise DataError(
            f"{path}: {name} has shape {labels.shape} for {n} images; expected one label per "
            "image, shape (n,) or (n, 1). Of several labels per image, keep one column."
        )
    if labels.dtype.kind not in "biuU":
        raise DataError(f"{path}: {name} has dtype {labels.dtype}; expected integers or text.")
    return labels.reshape(n)
