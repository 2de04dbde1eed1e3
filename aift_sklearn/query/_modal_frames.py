"""modAL's functions on tables, for frames of current pandas and arrays of current SciPy.

pandas dropped ``DataFrame.append``; a frame was given back as None (side by side), picked by its
column names (rows), or dropped by its index where a position was meant. What is neither a frame nor
a sparse array goes to modAL's own functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import modAL.batch
import modAL.utils.data
import numpy as np
import scipy.sparse as sp

__all__ = ["replacements"]


def replacements() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return modAL's functions that fail on frames, and what stands in for each."""
    data, batch = modAL.utils.data, modAL.batch
    return {
        data.data_vstack: _data_vstack(data.data_vstack),
        data.data_hstack: _data_hstack(data.data_hstack),
        data.retrieve_rows: _retrieve_rows(data.retrieve_rows),
        data.drop_rows: _drop_rows(data.drop_rows),
        data.enumerate_data: _enumerate_data(data.enumerate_data),
        batch.select_instance: _of_arrays(batch.select_instance),
        batch.select_cold_start_instance: _of_arrays(batch.select_cold_start_instance),
    }


def _is_frame(X: Any) -> bool:
    return hasattr(X, "iloc") and getattr(X, "ndim", 0) == 2


def _data_vstack(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def data_vstack(blocks: Sequence[Any]) -> Any:
        first = blocks[0]
        if not hasattr(first, "iloc") or any(sp.issparse(block) for block in blocks):
            return original(blocks)
        pandas = modAL.utils.data.pd
        if _is_frame(first):
            return pandas.concat([_rows_like(first, block) for block in blocks])
        return pandas.concat([pandas.Series(block, name=first.name) for block in blocks])

    return data_vstack


def _rows_like(frame: Any, block: Any) -> Any:
    """One or more rows as a frame of the same columns, and of its types where none is lost."""
    pandas = modAL.utils.data.pd
    if _is_frame(block):
        return block
    if not hasattr(block, "iloc"):
        return pandas.DataFrame(np.atleast_2d(block), columns=frame.columns)
    row = block.to_frame().T.infer_objects()
    try:
        typed = row.astype(frame.dtypes)
        return typed if (typed == row).all(axis=None) else row
    except (TypeError, ValueError):
        return row


def _data_hstack(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def data_hstack(blocks: Sequence[Any]) -> Any:
        if any(sp.issparse(block) for block in blocks) or not any(map(_is_frame, blocks)):
            return original(blocks)
        if all(map(_is_frame, blocks)):
            return modAL.utils.data.pd.concat(blocks, axis=1)
        return np.hstack([np.asarray(block) for block in blocks])

    return data_hstack


def _retrieve_rows(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def retrieve_rows(X: Any, I: Any) -> Any:  # noqa: E741 (modAL's name)
        return X.iloc[I] if hasattr(X, "iloc") else original(X, I)

    return retrieve_rows


def _drop_rows(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def drop_rows(X: Any, I: Any) -> Any:  # noqa: E741 (modAL's name)
        if hasattr(X, "iloc"):
            return X.iloc[np.delete(np.arange(len(X)), I)]
        return original(X, I)

    return drop_rows


def _enumerate_data(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def enumerate_data(X: Any) -> Iterator[tuple[int, Any]]:
        if _is_frame(X):
            return enumerate(row for _, row in X.iterrows())
        if sp.issparse(X):
            # Iterating over a sparse array, unlike a sparse matrix, gives rows of one dimension.
            rows = X.tocsr()
            return ((i, rows[[i]]) for i in range(rows.shape[0]))
        pairs: Iterator[tuple[int, Any]] = original(X)
        return pairs

    return enumerate_data


def _of_arrays(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def of_arrays(*args: Any, **kwargs: Any) -> Any:
        plain = {k: np.asarray(v) if _is_frame(v) else v for k, v in kwargs.items()}
        return original(*(np.asarray(v) if _is_frame(v) else v for v in args), **plain)

    return of_arrays
