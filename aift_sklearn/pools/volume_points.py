"""Points in volumes, as files and tables list them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._writing import as_path
from ..errors import DataError
from .image_headers import list_some
from .listings import read_listing
from .table_columns import as_numbers, columns_in_memory, refuse_repeated_ids

__all__ = ["ListedPoints", "find_points", "read_points"]

_AXES, _OPTIONAL = ["x", "y", "z"], ["id", "group"]


@dataclass(frozen=True)
class ListedPoints:
    """Points in volumes, in the order in which they are listed.

    Attributes
    ----------
    source : str
        Where they are listed.
    points : ndarray of float, shape (n, 3)
        x, y and z of each.
    where : list of str, length n
        Where each stands, such as "line 7".
    volumes : list of str, length n, or None
        Volume of each, as it is written; None where they are of one that need not be named.
    ids, groups : list of str, length n, or None
        As far as they are listed.
    """

    source: str
    points: NDArray[np.float64]
    where: list[str]
    volumes: list[str] | None = None
    ids: list[str] | None = None
    groups: list[str] | None = None


def read_points(points: Any, *, named: bool = True) -> ListedPoints:
    """Read points in volumes.

    Parameters
    ----------
    points : path-like, mapping, sequence of mappings, DataFrame, or array-like of shape (n, 3)
        A CSV file with the columns volume, x, y, z, and perhaps id and group; such columns, or
        rows, in memory; or x, y and z of each.
    named : bool, default=True
        Whether each has to name its volume.

    Raises
    ------
    DataError
        If there are none, or what is listed is damaged.

    Examples
    --------
    >>> read_points({"volume": ["a.nii"], "x": [3], "y": [4.5], "z": [7]}).points.tolist()
    [[3.0, 4.5, 7.0]]
    """
    if isinstance(points, (str, os.PathLike)):
        return _from_table(*_read_csv(as_path(points), named=named))
    if _is_table(points):

        def columns_of(names: Iterable[str]) -> tuple[list[str], list[str]]:
            return (["volume", *_AXES], _OPTIONAL) if named else (_AXES, ["volume", *_OPTIONAL])

        expected = "volume, x, y, z" if named else "x, y, z"
        return _from_table(
            "points", columns_in_memory(points, "points", "volume", columns_of, expected)
        )
    array = _as_array(points)
    if named:
        raise DataError(
            f"points is an array of shape {array.shape}, and there may be several volumes; "
            "expected a table that names the volume of each: volume, x, y, z."
        )
    return ListedPoints("points", array, [f"row {k}" for k in range(len(array))])


def find_points(path: Path) -> Path:
    """Find what lists the points of a folder: its points.csv, or the one CSV file that it has.

    Parameters
    ----------
    path : Path
        A folder, or a file, which is returned as it is.

    Raises
    ------
    DataError
        If there is none, or several that could be meant.
    """
    if not path.is_dir():
        return path
    if (path / "points.csv").is_file():
        return path / "points.csv"
    found = [file for file in sorted(path.glob("*.[cC][sS][vV]")) if file.name[0] != "."]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(
            f"{path} lists no points; expected a file points.csv in it, with the columns volume, "
            "x, y, z."
        )
    raise DataError(
        f"{path} holds {len(found)} CSV files that could list the points: "
        f"{list_some([file.name for file in found])}; name one, such as volumes:{found[0]}."
    )


def _is_table(points: Any) -> bool:
    if hasattr(points, "keys") or hasattr(points, "columns"):
        return True
    return isinstance(points, (list, tuple)) and bool(points) and isinstance(points[0], Mapping)


def _as_array(points: Any) -> NDArray[np.float64]:
    expected = "expected an array (n, 3) of x, y and z, a CSV file, or columns or rows with them"
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"points is of type {type(points).__name__}; {expected}.") from error
    if array.ndim != 2 or array.shape[1] != 3 or not len(array):
        raise DataError(f"points is an array of shape {array.shape}; {expected}.")
    return array


def _read_csv(path: Path, *, named: bool) -> tuple[str, dict[str, list[Any]]]:
    needed = ["volume", *_AXES] if named else _AXES
    table: dict[str, list[Any]] = dict(read_listing(path, needed, ["volume", *_OPTIONAL]))
    table["where"] = [f"line {line}" for line in table.pop("line")]
    return str(path), table


def _from_table(source: str, table: Mapping[str, list[Any]]) -> ListedPoints:
    where = table["where"]
    axes = [as_numbers(source, name, table[name], where, "a number") for name in _AXES]
    ids, groups = ([str(v) for v in table[c]] if c in table else None for c in _OPTIONAL)
    if ids is not None:
        refuse_repeated_ids(source, ids, where, "points")
    return ListedPoints(source, np.stack(axes, axis=1), where, table.get("volume"), ids, groups)
