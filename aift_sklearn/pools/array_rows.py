"""Rows of an array that lies in a file or a store, by as few requests as it can serve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_rows"]

Array = NDArray[Any]
Rows = NDArray[np.intp]


def read_rows(array: Any, rows: Rows) -> Array:
    """Read rows in any order, with repeats.

    Rows that follow each other are one slice. Of others a NumPy array and a Zarr array take a list;
    anything else, such as HDF5, is read chunk by chunk.

    Parameters
    ----------
    array : sliceable of shape (n, ...)
        The array.
    rows : ndarray of int, shape (k,)
        Positions from 0 on.

    Returns
    -------
    ndarray of shape (k, ...)
        May share memory with the array.

    Examples
    --------
    >>> read_rows(np.arange(10) ** 2, np.array([7, 2, 2])).tolist()
    [49, 4, 4]
    """
    if not len(rows):
        return np.empty((0, *array.shape[1:]), dtype=array.dtype)
    first, n = int(rows[0]), len(rows)
    if np.array_equal(rows, np.arange(first, first + n)):
        return np.asarray(array[first : first + n])
    if isinstance(array, np.ndarray):
        return np.asarray(array[rows])
    wanted, places = np.unique(rows, return_inverse=True)
    first, n = int(wanted[0]), len(wanted)
    if int(wanted[-1]) == first + n - 1:
        block = np.asarray(array[first : first + n])
    elif hasattr(array, "oindex"):
        block = np.asarray(array.oindex[wanted])
    else:
        spans = _spans(wanted, _rows_per_chunk(array))
        parts = [np.asarray(array[int(s[0]) : int(s[-1]) + 1])[s - s[0]] for s in spans]
        block = np.concatenate(parts)
    return np.asarray(block[places])


def _spans(wanted: Rows, chunk: int) -> list[Rows]:
    """Cut rising rows where a gap leads into another chunk: those of one chunk are one request."""
    apart = (np.diff(wanted) > 1) & (np.diff(wanted // chunk) > 0)
    return np.split(wanted, np.flatnonzero(apart) + 1)


def _rows_per_chunk(array: Any) -> int:
    chunks: Any = getattr(array, "chunks", None)
    # Other libraries call something else so.
    known = isinstance(chunks, tuple) and len(chunks) and isinstance(chunks[0], int)
    return int(chunks[0]) if known else 1
