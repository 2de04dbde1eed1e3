"""Data sets from files: MedMNIST archives, folders, CSV lists, boxes in images."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._checks import check_int, check_number
from ..errors import DataError, MissingDependencyError, ParameterError
from ..progress import track
from .datasets import Dataset, split_dataset
from .images import IMAGE_SUFFIXES, crop_boxes, image_size, read_images
from .tissue import load_tissue

__all__ = ["load_boxes", "load_csv", "load_folder", "load_medmnist", "load_npz", "open_dataset"]

Array = NDArray[Any]

_CORNERS = ["xmin", "ymin", "xmax", "ymax"]


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
    path = Path(path)
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


def load_folder(
    path: str | Path, *, size: int | None = None, verbose: int = 0, **split: Any
) -> Dataset:
    """Read a folder with one subfolder of images per class.

    Where the folder holds ``train`` and ``test``, each with the classes inside, that is the split;
    else one is drawn.

    Parameters
    ----------
    path : path-like
        The folder.
    size : int, optional
        Height and width in pixels to which the middle square of each image is scaled; needed
        where images differ in size.
    verbose : int, default=0
        1 shows a progress bar.
    **split
        ``test_fraction``, ``max_pool``, ``max_test`` and ``random_state`` of `split_dataset`.

    Returns
    -------
    Dataset
        Labels are the names of the subfolders.

    Raises
    ------
    DataError
        If there are no images, or some cannot be read.
    """
    path = Path(path)
    sides = [path / "train", path / "test"]
    given = all(side.is_dir() for side in sides)
    found = [
        (file, file.relative_to(root).parts[0], root.name == "test")
        for root in (sides if given else [path])
        for file in sorted(root.glob("*/**/*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
        # Hidden files and folders are left behind by file managers.
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
    ]
    if not found:
        raise DataError(
            f"{path} holds no images in subfolders; expected one subfolder per class with "
            f"{', '.join(IMAGE_SUFFIXES[:4])} ... files. Boxes in images: boxes:{path}."
        )
    files, labels, is_test = zip(*found, strict=True)
    return split_dataset(
        path.name,
        read_images(files, size=size, verbose=verbose),
        np.array(labels),
        is_test=np.array(is_test) if given else None,
        description=f"{len(files)} images of the folder {path.name}, a subfolder per class.",
        source=str(path),
        **split,
    )


def load_csv(
    path: str | Path, *, size: int | None = None, verbose: int = 0, **split: Any
) -> Dataset:
    """Read a CSV file that lists images with their labels.

    Parameters
    ----------
    path : path-like
        CSV file with a header: ``path`` (relative to the CSV file, or absolute) and ``label``,
        and, if you have them, ``group`` (patient, slide) and ``split`` ("train" or "test").
    size : int, optional
        As of `load_folder`.
    verbose : int, default=0
        1 shows a progress bar.
    **split
        ``test_fraction``, ``max_pool``, ``max_test`` and ``random_state`` of `split_dataset`.

    Returns
    -------
    Dataset
        No group is on both sides.

    Raises
    ------
    DataError
        If a column is missing or a row is incomplete, or images cannot be read.
    """
    path = Path(path)
    table = _read_csv(path, ["path", "label"])
    is_test = None
    if "split" in table:
        is_test = (table["split"] == "test").to_numpy()
        odd = sorted(set(table["split"]) - {"train", "test"})
        if odd or not is_test.any() or is_test.all():
            raise DataError(
                f"{path}: the column split holds {sorted(set(table['split']))}; expected 'train' "
                "and 'test', both of them. Leave the column out to have a split drawn."
            )
    groups = table["group"].to_numpy().astype(str) if "group" in table else None
    return split_dataset(
        path.stem,
        read_images([path.parent / file for file in table["path"]], size=size, verbose=verbose),
        table["label"].to_numpy(),
        groups=groups,
        is_test=is_test,
        description=f"{len(table)} images that {path.name} lists.",
        source=str(path),
        **split,
    )


def load_boxes(
    path: str | Path,
    *,
    size: int = 64,
    context: float = 1.5,
    field: float | None = None,
    verbose: int = 0,
    **split: Any,
) -> Dataset:
    """Read labelled boxes in images: each box is a candidate, each image a group.

    Parameters
    ----------
    path : path-like
        Folder with ``boxes.csv`` (columns image, xmin, ymin, xmax, ymax in pixels, label, and
        perhaps group, such as the patient) and the images, in it or in its subfolder ``images``.
    size : int, default=64
        Height and width of the candidates in pixels.
    context : float, default=1.5
        Side of the square that is cut, as a multiple of the longer side of the box: rotated and
        shifted patches then see real surroundings. Beyond the image its mirror image is seen.
    field : float, optional
        Side of the square in pixels of the image, the same for every box, instead of ``context``:
        for classes that differ in size.
    verbose : int, default=0
        1 shows a progress bar.
    **split
        ``test_fraction``, ``max_pool``, ``max_test`` and ``random_state`` of `split_dataset`.

    Returns
    -------
    Dataset
        No image (or group) is on both sides. Boxes without area, and those outside their image,
        are left out and named in ``notes``.

    Raises
    ------
    DataError
        If the table or an image is missing or damaged, or no box is left.
    """
    path = Path(path)
    check_int("size", size, minimum=4)
    check_number("context", context, low=0.1, high=100)
    if field is not None:
        check_number("field", field, low=1)
    table = _read_csv(path / "boxes.csv", ["image", *_CORNERS, "label"])
    corners = table[_CORNERS].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    folder = path / "images" if (path / "images").is_dir() else path
    names, of_image = np.unique(table["image"].to_numpy().astype(str), return_inverse=True)
    sizes = np.array(_sizes(folder, names))
    good = _usable(corners, sizes[of_image])
    if not good.any():
        raise DataError(f"{path / 'boxes.csv'} holds no usable box among {len(table)}.")
    crops: dict[int, Array] = {}
    for k in track(range(len(names)), "cutting boxes", enabled=bool(verbose)):
        rows = np.flatnonzero(good & (of_image == k))
        cut = crop_boxes(folder / names[k], corners[rows], size=size, context=context, field=field)
        crops.update(zip(rows.tolist(), cut, strict=True))
    kept = np.flatnonzero(good)
    groups = table["group" if "group" in table else "image"].to_numpy().astype(str)
    return split_dataset(
        path.name,
        _one_mode([crops[int(row)] for row in kept]),
        table["label"].to_numpy()[kept],
        groups=groups[kept],
        description=(
            f"{len(kept)} boxes in {len(names)} images, cut with "
            + (f"a field of {field:g} pixels" if field else f"{context:g} times the box's side")
            + f" and scaled to {size} x {size}. Split by "
            + ("group." if "group" in table else "image.")
        ),
        source=str(path),
        notes=_left_out(table, good),
        **split,
    )


def open_dataset(source: str | Path, *, size: int | None = None, **options: Any) -> Dataset:
    """Open a data set by what the command line takes.

    Parameters
    ----------
    source : str or path-like
        "tissue"; a MedMNIST archive ``FILE.npz``; a list ``FILE.csv``; a folder with a subfolder
        per class; ``boxes:FOLDER`` for boxes in images; ``medmnist:NAME``.
    size : int, optional
        Height and width of the candidates, where they can be scaled.
    **options
        Of the loader: ``max_pool``, ``test_fraction``, ``random_state``, ``verbose`` ...

    Returns
    -------
    Dataset
        Pool and test set.

    Raises
    ------
    ParameterError
        If the source is none of these, or an option does not fit it.
    DataError
        If it cannot be read.

    Examples
    --------
    >>> open_dataset("tissue").n_candidates
    342
    """
    text = str(source)
    sized = {} if size is None else {"size": size}
    if text == "tissue":
        options = {k: v for k, v in options.items() if k != "verbose" and v is not None}
        return _call(load_tissue, text, **sized, **options)
    kind, _, rest = text.partition(":")
    if kind == "boxes" and rest:
        return _call(load_boxes, text, Path(rest), **sized, **options)
    if kind == "medmnist" and rest:
        options.pop("verbose", None)
        return _call(load_medmnist, text, rest, **sized, **options)
    path = Path(text)
    if path.is_dir():
        return _call(load_folder, text, path, **sized, **options)
    if path.suffix.lower() == ".csv":
        return _call(load_csv, text, path, **sized, **options)
    if path.suffix.lower() == ".npz":
        options.pop("verbose", None)
        return _call(load_npz, text, path, **sized, **options)
    raise ParameterError(
        f"data {text!r} is not known; expected tissue, FILE.npz, FILE.csv, FOLDER with a "
        "subfolder per class, boxes:FOLDER, or medmnist:NAME"
        + ("." if path.exists() else " (there is no such file or folder).")
    )


def _call(load: Callable[..., Dataset], text: str, *args: Any, **options: Any) -> Dataset:
    try:
        return load(*args, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        name = str(error).split("'")[1]
        raise ParameterError(f"the option {name} does not apply to the data {text!r}.") from error


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


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        # A byte-order mark is dropped, and spreadsheets of many countries write semicolons.
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(",;\t", key=header.count)
        table = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            sep=separator,
            encoding="utf-8-sig",
        )
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV in UTF-8.") from error
    except (ValueError, OSError) as error:  # pandas' own parser errors are ValueErrors
        raise DataError(f"{path} is not a readable CSV file: {error}") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise DataError(
            f"{path} lacks the columns {missing} and has {list(table.columns)}; expected a header "
            f"with {columns}."
        )
    if table.empty:
        raise DataError(f"{path} lists nothing; expected a row per candidate.")
    kept = [name for name in (*columns, "group", "split") if name in table]
    empty = (table[kept] == "").any(axis=1)
    if empty.any():
        row = int(np.flatnonzero(empty)[0])
        raise DataError(
            f"{path}, line {row + 2}: a value is missing among {kept}; fill it in, or remove the "
            f"row ({int(empty.sum())} such rows)."
        )
    return table[kept]


def _sizes(folder: Path, names: Array) -> list[tuple[int, int]]:
    """Width and height of every image, all unreadable ones named at once."""
    sizes, broken = [], []
    for name in names:
        try:
            sizes.append(image_size(folder / name))
        except Exception:  # Pillow raises what its decoders do
            broken.append(str(folder / name))
    if broken:
        raise DataError(
            f"{len(broken)} of {len(names)} images are missing or damaged, such as {broken[0]}."
        )
    return sizes


def _usable(corners: Array, sizes: Array) -> NDArray[np.bool_]:
    """Boxes (n, 4) with an area, that overlap their image (n, 2)."""
    with np.errstate(invalid="ignore"):
        sides = corners[:, 2:] - corners[:, :2]
        inside = (corners[:, 2:] > 0).all(axis=1) & (corners[:, :2] < sizes).all(axis=1)
        good = np.isfinite(corners).all(axis=1) & (sides > 0).all(axis=1) & inside
    return np.asarray(good)


def _left_out(table: pd.DataFrame, good: NDArray[np.bool_]) -> list[str]:
    rows = np.flatnonzero(~good)
    if not len(rows):
        return []
    listed = ", ".join(f"{table['image'].iloc[row]} (line {row + 2})" for row in rows[:5])
    more = ", ..." if len(rows) > 5 else ""
    plural = "box" if len(rows) == 1 else "boxes"
    return [f"{len(rows)} {plural} without area or outside the image left out: {listed}{more}"]


def _one_mode(crops: list[Array]) -> NDArray[np.uint8]:
    """Stack crops (C, size, size); grey ones are repeated where others have colour."""
    channels = max(len(crop) for crop in crops)
    return np.stack([np.broadcast_to(c, (channels, *c.shape[1:])) for c in crops])
