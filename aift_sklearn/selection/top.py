"""The b highest scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_scores

__all__ = ["ranked", "shortlist_length", "shortlisted", "top"]

Indices = NDArray[np.intp]


def top(scores: ArrayLike, n_instances: int) -> Indices:
    """Return the ``n_instances`` highest scores.

    Parameters
    ----------
    scores : array-like of shape (n,)
        One score per candidate.
    n_instances : int
        How many to take, b ≤ n.

    Returns
    -------
    ndarray of shape (b,)
        Indices, score descending, ties by index.

    Raises
    ------
    ParameterError, DataError
        If b < 1, b > n, or a score is NaN.

    Examples
    --------
    >>> top([.1, .7, .3, .7], 3)
    array([1, 3, 2])
    """
    scores = check_scores(scores, n_instances)
    if n_instances < len(scores):
        cut = np.partition(scores, -n_instances)[-n_instances]
        above, at = np.flatnonzero(scores > cut), np.flatnonzero(scores == cut)
        taken = np.sort(np.concatenate([above, at[: n_instances - len(above)]]))
    else:
        taken = np.arange(len(scores))
    return ranked(taken, scores)


def ranked(indices: Indices, scores: NDArray[np.float64]) -> Indices:
    """Order chosen candidates by score, ties by index."""
    indices = np.sort(indices)
    return indices[np.argsort(-scores[indices], kind="stable")]


def shortlist_length(n_instances: int, n_candidates: int, omega: float) -> int:
    """Return how many candidates the top ω·b are, rounded up, and at most all of them.

    Examples
    --------
    >>> shortlist_length(3, 100, 1.5), shortlist_length(3, 4, 1.5)
    (5, 4)
    """
    # 3 · 1.1 is a little more than 3.3 in floating point.
    return min(n_candidates, int(np.ceil(round(omega * n_instances, 9))))


def shortlisted(scores: NDArray[np.float64], n_instances: int, omega: float) -> Indices:
    """Return the top ω·b."""
    return top(scores, shortlist_length(n_instances, len(scores), omega))
