"""Which columns of a table hold images, ids and groups."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import DataError, DataTypeError, ParameterError
from .table_parts import load_pyarrow

__all__ = ["GROUPS", "IDS", "choose_image_column", "choose_named_column"]

IDS, GROUPS = ("id", "ids"), ("group", "groups", "patient")
"""Columns that are taken for ids and groups, in lower case, the first of them that is there."""

_EXPECTED = "expected bytes of an encoded image, or Hugging Face's {bytes, path}"


def choose_image_column(schema: Any, column: str | None, source: str) -> str:
    """Find the column of images.

    Parameters
    ----------
    schema : Schema of pyarrow
        Columns of the table.
    column : str, optional
        The column; by default that of which Hugging Face's metadata says that it holds images,
        else the only one that could.
    source : str
        Where the table lies, for messages.

    Raises
    ------
    ParameterError
        If there is no such column, or several could be meant.
    DataTypeError
        If it does not hold encoded images.

    Examples
    --------
    >>> import pyarrow
    >>> columns = {"file": pyarrow.string(), "png": pyarrow.binary(), "label": pyarrow.int8()}
    >>> choose_image_column(pyarrow.schema(columns), None, "cells.parquet")
    'png'
    """
    names = list(schema.names)
    if column is not None:
        _check_column(schema, column, "column", source)
        if not _holds_images(schema.field(column).type):
            raise DataTypeError(
                f"the column {column!r} of {source} is of type {schema.field(column).type}; "
                f"{_EXPECTED}."
            )
        return column
    possible = [name for name in names if _holds_images(schema.field(name).type)]
    told = [name for name in _told_images(schema) if name in possible]
    found = told or possible
    if len(found) == 1:
        return str(found[0])
    if not found:
        types = ", ".join(f"{one.name} ({one.type})" for one in schema)
        raise DataError(f"no column of {source} holds images: {types}; {_EXPECTED}.")
    raise ParameterError(
        f"{source} has {len(found)} columns that could be the images: {', '.join(found)}; pass "
        f"column={found[0]!r}, say."
    )


def choose_named_column(
    schema: Any, column: str | None, usual: Sequence[str], option: str, source: str
) -> str | None:
    """Find the column of ids or groups.

    Parameters
    ----------
    schema : Schema of pyarrow
        Columns of the table.
    column : str or None
        The column; "auto" takes the first of the usual ones that there is.
    usual : sequence of str
        Those, in lower case.
    option : str
        What ``column`` is called, for messages.
    source : str
        Where the table lies.

    Returns
    -------
    str or None
        None where there is none.
    """
    pyarrow = load_pyarrow()

    def is_text(name: str) -> bool:
        kind = schema.field(name).type
        if pyarrow.types.is_dictionary(kind):
            kind = kind.value_type
        text = (pyarrow.types.is_string, pyarrow.types.is_large_string)
        return any(is_kind(kind) for is_kind in (*text, pyarrow.types.is_integer))

    if column is None:
        return None
    if column == "auto":
        lower = {name.lower(): name for name in reversed(schema.names)}
        found = next((lower[name] for name in usual if name in lower), None)
        return found if found is not None and is_text(found) else None
    _check_column(schema, column, option, source)
    if not is_text(column):
        raise DataTypeError(
            f"the column {column!r} of {source} is of type {schema.field(column).type}; expected "
            "text or whole numbers."
        )
    return column


def _check_column(schema: Any, column: str, option: str, source: str) -> None:
    if schema.names.count(column) != 1:
        raise ParameterError(
            f"{option}={column!r} is no column of {source}, which has {', '.join(schema.names)}."
        )


def _told_images(schema: Any) -> list[str]:
    """Columns of images, as Hugging Face's metadata tells."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])
        features = told["info"]["features"].items()
        return [name for name, one in features if one.get("_type") == "Image"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def _holds_images(kind: Any) -> bool:
    types = load_pyarrow().types
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    types = load_pyarrow().types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))
