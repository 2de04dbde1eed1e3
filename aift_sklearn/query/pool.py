"""Pools and seeds of any kind, as the strategies take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from .._candidates import pick_rows
from .._checks import refuse_what_is_no_array
from ..errors import DataError, NonFiniteOutputError, ParameterError

__all__ = ["embeddings", "pool_length", "random_generator"]

# Bytes of float64 features that are read at once.
_CHUNK_BYTES = 2**26


def pool_length(X_pool: Any) -> int:
    """Return how many candidates a pool has, reading none of them."""
    refuse_what_is_no_array(X_pool)
    shape = getattr(X_pool, "shape", None)
    if shape is not None and len(shape):
        return int(shape[0])
    try:
        return len(X_pool)
    except TypeError as error:
        raise DataError(
            f"the pool is a {type(X_pool).__name__} without a length; expected an array, a list, "
            "or anything that has a shape and slices, such as a memory-mapped file."
        ) from error


def random_generator(random_state: Any) -> np.random.Generator:
    """Make a generator of a seed, a RandomState, a Generator, or None."""
    if random_state is np.random:
        random_state = np.random.mtrand._rand
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31)
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"random_state={random_state!r}; expected None, a whole number from 0 on, a "
            "RandomState or a Generator."
        ) from error


def embeddings(
    estimator: Any, X_pool: Any, rows: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Embed candidates of a pool, or flatten the features of an estimator that has no embedding.

    Parameters
    ----------
    estimator : estimator
        Whose ``embed`` is asked, where it has one and it can already answer.
    X_pool : array-like of shape (n, ...)
        The pool.
    rows : ndarray of shape (k,), optional
        Which candidates; all by default.

    Returns
    -------
    ndarray of shape (k, E), float32

    Raises
    ------
    DataError
        If a candidate's embedding holds NaN or infinity, or features are no numbers.
    """
    X = X_pool if rows is None else pick_rows(X_pool, rows)
    embedded = None
    embed = getattr(estimator, "embed", None)
    if embed is not None:
        try:
            embedded = np.asarray(embed(X), dtype=np.float32)
        except NotFittedError:
            pass
        except NonFiniteOutputError as error:
            # Told by the place among those that were embedded.
            raise _not_finite(error.index, rows, "") from error
    embedded = _flat_features(X) if embedded is None else embedded
    embedded = embedded.reshape(len(embedded), -1)
    finite = np.isfinite(embedded).all(axis=1)
    if not finite.all():
        in_all = f", and that of {np.count_nonzero(~finite)} in all"
        raise _not_finite(int(np.flatnonzero(~finite)[0]), rows, in_all)
    return embedded


def _not_finite(row: int, rows: NDArray[np.intp] | None, in_all: str) -> NonFiniteOutputError:
    place = row if rows is None else int(rows[row])
    return NonFiniteOutputError(
        f"the embedding of candidate {place} of the pool holds NaN or infinity{in_all}; leave such "
        "candidates out, or mend them.",
        index=place,
    )


def _flat_features(X: Any) -> NDArray[np.float32]:
    n = pool_length(X)
    sparse = hasattr(X, "tocsr")
    rows = X.tocsr() if sparse else getattr(X, "iloc", X)
    shape = getattr(X, "shape", ())
    step = max(1, _CHUNK_BYTES // (8 * max(1, int(np.prod(shape[1:])))))
    parts = []
    for start in range(0, n, step):
        part = rows[start : start + step]
        try:
            values = np.asarray(part.toarray() if sparse else part, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"the pool cannot be read as numbers: {error}. Expected images (n, C, H, W) or "
                "features (n, f)."
            ) from error
        parts.append(values.reshape(len(values), -1))
    return np.concatenate(parts)
