"""Columns of lists of candidates: names that stay in their folder, numbers, ids and groups."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, DataTypeError, ParameterError

__all__ = [
    "as_numbers",
    "columns_in_memory",
    "groups_of_rows",
    "inside_folder",
    "names_inside",
    "number_names",
    "refuse_repeated_ids",
]


def as_numbers(
    source: str,
    name: str,
    values: Sequence[Any],
    where: Sequence[str],
    unit: str = "a number of pixels",
) -> NDArray[np.float64]:
    """Return a column as numbers, or name the first row that has none."""
    try:
        numbers = np.array(values, dtype=np.float64)
        # Lists of one number each are none.
        return numbers.reshape(len(where)) if numbers.ndim == 1 else np.array([*map(float, values)])
    except (TypeError, ValueError, OverflowError):
        for value, place in zip(values, where, strict=True):
            try:
                float(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(
                    f"{source}, {place}: {name} is {value!r:.80}; expected {unit}, with a point "
                    "before decimals."
                ) from error
        raise


def inside_folder(name: str) -> str | None:
    """Return a relative name with slashes; None where it may lead out of its folder.

    Examples
    --------
    >>> inside_folder("a/../b.png"), inside_folder("../b.png"), inside_folder("C:b.png")
    ('b.png', None, None)
    """
    plain = posixpath.normpath(name.replace("\\", "/"))
    # A drive, or a share, is none of the folder's on any system.
    outside = plain.startswith(("/", "../")) or plain == ".." or PureWindowsPath(name).drive
    return None if outside else plain


def names_inside(source: str, kind: str, names: Sequence[str], where: Sequence[str]) -> list[str]:
    """Return relative names with slashes, or name the first row whose file may lie elsewhere."""
    safe = {name: inside_folder(name) for name in set(names)}
    for name, place in zip(names, where, strict=True):
        if safe[name] is None:
            raise DataError(
                f"{source}, {place}: the {kind} {name!r} may lie outside of the folder of {kind}s; "
                "expected a name relative to that folder. Write such names, and link what lies "
                "elsewhere into it."
            )
    return [safe[name] or "" for name in names]


def refuse_repeated_ids(
    source: str, ids: Sequence[str], where: Sequence[str], kind: str = "boxes"
) -> None:
    """Refuse an id that several rows have, and name two of them."""
    first: dict[str, str] = {}
    for name, place in zip(ids, where, strict=True):
        if name in first:
            raise DataError(
                f"{source}: the id {name!r} is given to several {kind}, {first[name]} and {place}; "
                "expected another for each."
            )
        first[name] = place


def number_names(names: Sequence[str]) -> list[str]:
    """Ids of candidates that have none: what they lie in, and their number among those there.

    Examples
    --------
    >>> number_names(["a.png", "b.png", "a.png"])
    ['a.png#1', 'b.png#1', 'a.png#2']
    """
    found: Counter[str] = Counter()
    ids = []
    for name in names:
        found[name] += 1
        ids.append(f"{name}#{found[name]}")
    return ids


def groups_of_rows(
    groups: Any, kind: str, listed: Sequence[str], what: str, source: str
) -> Sequence[str] | None:
    """Group of each row that is listed, as a user asks for it.

    Parameters
    ----------
    groups : str, sequence or None
        ``kind``, a group for each, or None.
    kind : str
        What groups are called that are taken as they are listed: "image".
    listed : sequence of str, length n
        Those.
    what, source : str
        What is listed, and where, for messages.

    Examples
    --------
    >>> groups_of_rows("image", "image", ["a.png", "a.png"], "boxes", "boxes.csv")
    ['a.png', 'a.png']
    """
    if groups is None:
        return None
    if isinstance(groups, str):
        if groups != kind:
            raise ParameterError(
                f"groups={groups!r}; expected {kind!r}, None, or a group for each of the {what}."
            )
        return listed
    if len(groups) != len(listed):
        raise DataError(
            f"{len(groups)} groups for {len(listed)} {what} that {source} lists; expected one for "
            "each, whether it can be used or not."
        )
    return [str(group) for group in groups]


def columns_in_memory(
    table: Any,
    what: str,
    kind: str,
    columns_of: Callable[[Iterable[str]], tuple[list[str], list[str]]],
    expected: str,
) -> dict[str, list[Any]]:
    """Columns of a table in memory, their names in lower case, and ``where`` their rows are.

    Parameters
    ----------
    table : mapping, sequence of mappings, or DataFrame
        The table.
    what : str
        What it lists, for messages.
    kind : str
        Column that names a file.
    columns_of : callable
        Names of columns → those that are needed, and those that are read where they are there.
    expected : str
        Columns, as a message names them.
    """
    if not hasattr(table, "keys") and not hasattr(table, "columns"):
        table = _columns_of_rows(table, what, expected)
    names = table.columns if hasattr(table, "columns") else table.keys()
    columns = {str(name).strip().lower(): list(table[name]) for name in names}
    needed, optional = columns_of(columns)
    missing = [name for name in needed if name not in columns]
    if missing:
        raise DataError(
            f"{what} lack the columns {missing} and have {list(columns)}; expected {expected}."
        )
    kept = {c: columns[c] for c in (*needed, *optional) if c in columns}
    lengths = {name: len(values) for name, values in kept.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{what} have columns of several lengths: {lengths}; expected one.")
    if not lengths[needed[0]]:
        raise DataError(f"{what} list nothing; expected a row per candidate.")
    kept["where"] = [f"row {k}" for k in range(lengths[needed[0]])]
    for name, place in zip(kept.get(kind, ()), kept["where"], strict=False):
        if not isinstance(name, (str, os.PathLike)):
            raise DataError(f"{what}, {place}: {kind} is {name!r:.80}; expected a file name.")
    if kind in kept:
        kept[kind] = [os.fspath(name) for name in kept[kind]]
    return kept


def _columns_of_rows(rows: Any, what: str, columns: str) -> dict[str, list[Any]]:
    expected = f"expected a path, or columns or rows with {columns}"
    if not isinstance(rows, Iterable):
        raise DataTypeError(f"{what} is of type {type(rows).__name__}; {expected}.")
    rows = list(rows)
    for k, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataTypeError(f"{what}, row {k} is of type {type(row).__name__}; {expected}.")
        if row.keys() != rows[0].keys():
            raise DataError(
                f"{what}, row {k} has {list(row)}; expected {list(rows[0])}, as the first has."
            )
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
