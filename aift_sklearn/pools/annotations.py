"""Boxes and points in images, as files of several formats list them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._writing import as_path
from ..errors import DataError
from .annotation_files import read_coco, read_voc, voc_files
from .image_headers import list_some
from .listings import read_listing, read_rows
from .table_columns import as_numbers, columns_in_memory, names_inside, refuse_repeated_ids

__all__ = ["CORNERS", "Annotations", "find_annotations", "read_annotations"]

Array = NDArray[Any]

CORNERS = ["xmin", "ymin", "xmax", "ymax"]
"""Columns of a box, in pixels."""

# What tells where something is: the first of which a table has every column counts.
_KINDS = (CORNERS, ["xmin", "ymin", "width", "height"], ["x", "y", "radius"], ["x", "y"])
_OPTIONAL = ("id", "group")
_COLUMNS = "image, xmin, ymin, xmax, ymax, or image, x, y and perhaps radius"
_FORMATS = ".csv, .json (COCO) or .xml (Pascal VOC)"


@dataclass(frozen=True)
class Annotations:
    """Boxes or points in images, in the order in which they are listed.

    Attributes
    ----------
    source : str
        Where they are listed.
    images : list of str, length n
        Image of each: a path with slashes that stays inside its folder.
    corners : ndarray of float, shape (n, 4)
        xmin, ymin, xmax, ymax in pixels. Of a point without a radius two and two are the same.
    where : list of str, length n
        Where each stands, such as "line 7".
    points : bool
        Whether they are points without a radius.
    ids, groups : list of str, length n, or None
        As far as they are listed.
    """

    source: str
    images: list[str]
    corners: NDArray[np.float64]
    where: list[str]
    points: bool = False
    ids: list[str] | None = None
    groups: list[str] | None = None

    def __len__(self) -> int:
        """Number of boxes or points, n."""
        return len(self.images)


def read_annotations(boxes: Any) -> Annotations:
    """Read boxes or points of whatever format.

    Parameters
    ----------
    boxes : path-like, mapping, sequence of mappings, or DataFrame
        A CSV file with the columns image, xmin, ymin, xmax, ymax, or image, x, y and perhaps
        radius, and perhaps id and group; a COCO file, JSON; a Pascal VOC file, XML, or a folder of
        them; or such columns, or rows, in memory.

    Returns
    -------
    Annotations
        All that are listed, usable or not.

    Raises
    ------
    DataError
        If there are none, what is listed is damaged, or an image lies outside of its folder.
    DataTypeError
        If it is none of these.

    Examples
    --------
    >>> found = read_annotations({"image": ["a.png"], "x": [9], "y": [20], "radius": [4]})
    >>> found.images, found.corners.tolist()
    (['a.png'], [[5.0, 16.0, 13.0, 24.0]])
    """
    if not isinstance(boxes, (str, os.PathLike)):
        return _from_table("boxes", _as_columns(boxes))
    path = as_path(boxes)
    if path.is_dir():
        files = voc_files(path)
        if not files:
            raise DataError(f"{path} holds no .xml files of Pascal VOC; name the list in it.")
        return _from_table(str(path), read_voc(files))
    if not path.exists():
        raise DataError(f"there is no file or folder {path}.")
    kind = path.suffix.lower()
    if kind == ".json":
        return _from_table(str(path), read_coco(path))
    if kind == ".xml":
        return _from_table(str(path), read_voc([path]))
    if kind in (".csv", ".tsv", ".txt"):
        return _from_table(str(path), _read_csv(path))
    raise DataError(f"{path} is no list of boxes that is read; expected {_FORMATS}.")


def find_annotations(path: Path) -> Path:
    """Find what lists the boxes of a folder: its boxes.csv, or the one file or set that it has.

    Parameters
    ----------
    path : Path
        A folder, or a file, which is returned as it is.

    Returns
    -------
    Path
        The file; the folder itself where it holds files of Pascal VOC.

    Raises
    ------
    DataError
        If there is none, or several that could be meant.
    """
    if not path.is_dir():
        return path
    if (path / "boxes.csv").is_file():
        return path / "boxes.csv"
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    found = [file for file in files if file.suffix.lower() in (".csv", ".json")]
    voc = voc_files(path)
    if len(found) + bool(voc) == 1:
        return found[0] if found else path
    if not found:
        raise DataError(f"{path} lists no boxes; expected a file boxes.csv, {_FORMATS} in it.")
    names = [file.name for file in found] + [f"{len(voc)} .xml"] * bool(voc)
    raise DataError(
        f"{path} holds {len(names)} lists of boxes that could be meant: {list_some(names)}; name "
        f"the file, such as boxes:{found[0]}."
    )


def _from_table(source: str, table: Mapping[str, Sequence[Any]]) -> Annotations:
    """Turn columns into what every format becomes; a column ``where`` tells where rows stand."""
    where = list(table["where"])
    kept = next(kind for kind in _KINDS if all(name in table for name in kind))
    numbers = np.stack([as_numbers(source, name, table[name], where) for name in kept], axis=1)
    start, rest = numbers[:, :2], numbers[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        if "xmax" in kept:
            corners = numbers
        elif "width" in kept:
            corners = np.hstack([start, start + rest])
        else:
            radius = rest if rest.size else np.zeros((len(start), 1))
            corners = np.hstack([start - radius, start + radius])
    images = names_inside(source, "image", table["image"], where)
    ids, groups = ([str(v) for v in table[c]] if c in table else None for c in _OPTIONAL)
    if ids is not None:
        refuse_repeated_ids(source, ids, where)
    return Annotations(source, images, corners, where, kept == ["x", "y"], ids, groups)


def _read_csv(path: Path) -> dict[str, list[str]]:
    rows, _ = read_rows(path)
    header = {name.strip().lower() for name in rows[0][1]} if rows else set()
    columns = _columns_of(header)
    table = read_listing(path, ["image", *columns], [*_OPTIONAL, *_radius(columns)])
    table["where"] = [f"line {line}" for line in table.pop("line")]
    return table


def _as_columns(boxes: Any) -> dict[str, list[Any]]:
    def columns_of(names: Iterable[str]) -> tuple[list[str], list[str]]:
        columns = _columns_of(names)
        return ["image", *columns], [*_OPTIONAL, *_radius(columns)]

    return columns_in_memory(boxes, "boxes", "image", columns_of, _COLUMNS)


def _columns_of(header: Iterable[str]) -> list[str]:
    """Columns that a table must have besides its images; those of boxes go first."""
    known = set(header)
    return ["x", "y"] if {"x", "y"} <= known and not set(CORNERS) <= known else CORNERS


def _radius(columns: Sequence[str]) -> list[str]:
    return [] if columns == CORNERS else ["radius"]
