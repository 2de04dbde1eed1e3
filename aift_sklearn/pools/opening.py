"""Pools by what they lie in: one call for whatever a user points at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._writing import as_path
from ..errors import DataError, ParameterError
from .annotations import find_annotations
from .array_stores import as_address, holds_array
from .arrays import open_array
from .base import Pool
from .boxed import BoxedImages
from .dicom import DicomFolder
from .dicom_files import is_dicom
from .folder_contents import files_below, sort_out_images
from .image_folder import ImageFolder
from .image_tables import ImageTable
from .slide_files import SLIDE_SUFFIXES, VENDOR_SUFFIXES
from .slides import SlideTiles
from .table_parts import is_saved_dataset, is_table_file
from .volume_points import find_points
from .volumes import VolumePatches

__all__ = ["open_pool", "open_sized"]

# Pixels to which images are scaled that differ in size, or are larger than the limit.
_USUAL, _LARGE = 64, 256


def open_pool(source: str | os.PathLike[str], size: int | None = None, **options: Any) -> Pool:
    """Open a pool of unlabelled candidates.

    Parameters
    ----------
    source : str or path-like
        A folder of images, in it and below (`ImageFolder`); one of DICOM files and no images, or
        ``dicom:FOLDER`` whatever else it holds (`DicomFolder`); ``boxes:FOLDER`` or ``boxes:FILE``
        for boxes or points in images (`BoxedImages`): a folder with boxes.csv, or with one other
        list of boxes, or such a list, .csv, .json (COCO) or .xml (Pascal VOC); ``volumes:FOLDER``
        or ``volumes:FILE.csv`` for points in volumes (`VolumePatches`): a folder with points.csv,
        or with one other CSV file, or such a file; ``slides:FOLDER`` for tiles of whole-slide
        images (`SlideTiles`), or a slide, .svs, .ndpi, .mrxs, .tif ...; a file .parquet, a folder
        of such files and no images, or a folder that ``save_to_disk`` of Hugging Face's datasets
        wrote, with a column of images (`ImageTable`); or an array in a file .npy, .npz, .h5 or
        .hdf5, in a folder .zarr, or at a URL such as "s3://bucket/cells.zarr" (`open_array`).
    size : int, optional
        Height and width of the candidates in pixels, where they can be scaled; those of an array
        cannot. Tiles of slides are scaled to it; ``tile`` is what they show.
    **options
        Others of the kind of pool: ``groups``, ``window``, ``strict``, ``verbose`` ...; of boxes
        ``context``, ``field``, and ``images``, their folder, by default that of the list, or its
        subfolder ``images``; of points ``width``, ``coordinates``, and ``volumes``, their folder;
        of slides ``tile``, ``stride``, ``level``, ``mpp``, ``tissue`` and ``channels``; of tables
        ``column``, ``id_column``, ``group_column`` and ``split``; ``key``, the name of an array
        among several.

    Returns
    -------
    Pool
        Nothing but headers was read.

    Raises
    ------
    ParameterError
        If the source is none of these, or an option does not fit it.
    DataError
        If there is nothing in it that can be read.
    """
    if holds_array(address := as_address(source)):
        return _open_array(address, size, **options)
    kind, _, rest = str(source).partition(":")
    if rest and kind in _BY_NAME:
        return _BY_NAME[kind](str(source), as_path(rest), size, **options)
    path = as_path(source)
    if found := _kind_of(path):
        return _open(found, str(path), path, size=size, **options)
    if path.is_dir():
        return _open_folder(path, size=size, **options)
    raise ParameterError(
        f"source {os.fspath(source)!r} is not known; expected a folder of images or of "
        "DICOM files, dicom:FOLDER, boxes:FOLDER or boxes:FILE for boxes in images, "
        "volumes:FOLDER or volumes:FILE.csv for points in volumes, a slide or slides:FOLDER, "
        ".parquet, or an array in .npy, .npz, .h5, .hdf5 or .zarr"
        + ("." if path.exists() else " (there is no such file or folder).")
    )


def open_sized(source: str | os.PathLike[str], size: int | None = None, **options: Any) -> Pool:
    """Open a pool at a size that suits a network, where none is given.

    Images that are alike in size, square, and not above 256 pixels stay as they are; others are
    scaled to 64, which is fast; give a larger one where small things matter. Arrays and tiles of
    slides stay as they are.

    Parameters
    ----------
    source, size, **options
        As of `open_pool`.
    """
    if size is not None or holds_array(as_address(source)):
        return open_pool(source, size, **options)
    slides = str(source).startswith("slides:") or _kind_of(as_path(source)) is SlideTiles
    pool = open_pool(source, None if slides else _USUAL, **options)
    alike = set(getattr(pool, "original_sizes", []))
    if len(alike) != 1:
        return pool
    ((width, height),) = alike
    fits = width == height <= _LARGE and width != _USUAL
    return open_pool(source, width, **options) if fits else pool


def _open_folder(path: Path, **options: Any) -> Pool:
    # What cannot be listed is told by the pool.
    images, others = sort_out_images(files_below(path, lambda error: None))
    if not images and any(file.suffix.lower() in VENDOR_SUFFIXES for file in others):
        raise DataError(
            f'{path} holds slides and no images; open_pool("slides:FOLDER") cuts tiles.'
        )
    has_dicom = any(map(_seems_dicom, others))
    if has_dicom and not images:
        return _open_dicom("", path, **options)
    if not images and any(map(is_table_file, others)):
        return _open(ImageTable, str(path), path, **options)
    pool = _open(ImageFolder, str(path), path, **options)
    if has_dicom:
        pool.notes.append(
            'DICOM files beside images are left out; open_pool("dicom:FOLDER") reads them'
        )
    return pool


def _open_array(address: str, size: int | None, **options: Any) -> Pool:
    # Nothing takes so long that it would be shown.
    options.pop("verbose", None)
    pool = _open(open_array, address, address, **options)
    if size is not None and pool.shape[2:] != (size, size):
        shape = " x ".join(map(str, pool.shape[1:]))
        raise ParameterError(
            f"size={size}, but the candidates of {address} are {shape} and arrays are not scaled; "
            "leave it out."
        )
    return pool


def _open_dicom(source: str, path: Path, size: int | None = None, **options: Any) -> Pool:
    # The folder may be called by a patient's name.
    return _open(DicomFolder, "a folder of DICOM files", path, size=size, **options)


def _seems_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except OSError:
        return False


def _kind_of(path: Path) -> type[Pool] | None:
    """Kind of pool that a path is by its name, or what lies beside."""
    if path.suffix.lower() in SLIDE_SUFFIXES and path.is_file():
        return SlideTiles
    if is_saved_dataset(path) or (path.is_file() and is_table_file(path)):
        return ImageTable
    return None


def _open_slides(source: str, path: Path, size: int | None, **options: Any) -> Pool:
    return _open(SlideTiles, source, path, size=size, **options)


def _open_boxes(
    source: str, path: Path, size: int | None, images: Any = None, **options: Any
) -> Pool:
    boxes = find_annotations(path)
    if images is None:
        folder = boxes if boxes.is_dir() else boxes.parent
        images = folder / "images" if (folder / "images").is_dir() else folder
    sized = {} if size is None else {"size": size}
    return _open(BoxedImages, source, images, boxes, **sized, **options)


def _open_volumes(
    source: str, path: Path, size: int | None, volumes: Any = None, **options: Any
) -> Pool:
    points = find_points(path)
    sized = {} if size is None else {"size": size}
    folder = points.parent if volumes is None else volumes
    return _open(VolumePatches, source, folder, points, **sized, **options)


_BY_NAME: dict[str, Callable[..., Pool]] = {
    "boxes": _open_boxes,
    "dicom": _open_dicom,
    "slides": _open_slides,
    "volumes": _open_volumes,
}


def _open(kind: Callable[..., Pool], source: str, *args: Any, **options: Any) -> Pool:
    try:
        return kind(*args, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        name = str(error).split("'")[1]
        raise ParameterError(f"the option {name} does not apply to {source!r}.") from error
