"""Random asking: what any strategy has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..selection import check_n_instances
from ._modal import query_result
from .pool import pool_length, random_generator

__all__ = ["random_sampling"]


def random_sampling(
    classifier: Any, X_pool: Any, n_instances: int = 1, *, random_state: Any = None
) -> Any:
    """Ask for candidates drawn at random: what any strategy has to beat.

    Parameters
    ----------
    classifier : object
        Not used.
    X_pool : array-like of shape (n, ...)
        Unlabelled candidates.
    n_instances : int, default=1
        How many to ask for, b.
    random_state : int, RandomState, Generator or None, default=None
        Seeds the draw.

    Returns
    -------
    ndarray of shape (b,), or tuple of ndarrays of shape (b,)
        Indices into the pool, rising. modAL from 0.4.2 on is given (indices, NaN).

    Raises
    ------
    DataError, ParameterError
        If b exceeds the pool, or a parameter is outside its range.

    Examples
    --------
    >>> from aift_sklearn import AIFTLearner
    >>> learner = AIFTLearner(None, random_sampling)
    >>> learner.query(np.zeros((50, 3)), 4, random_state=0)[0]
    array([13, 25, 30, 39])
    """
    n = pool_length(X_pool)
    check_n_instances(n_instances, n)
    rng = random_generator(random_state)
    return query_result(np.sort(rng.choice(n, n_instances, replace=False)), None)
