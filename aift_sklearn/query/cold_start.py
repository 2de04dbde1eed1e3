"""The first batch: what to ask for while labels of fewer than two classes are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..selection import most_typical, spread_over_groups
from .places import PoolPlaces, places_of
from .pool import pool_length
from .unwrapping import unwrapped

__all__ = ["first_batch"]

Indices = NDArray[np.intp]

# Clustering more candidates than this takes longer and finds the same clusters.
_MAX_EMBEDDED = 50_000
# There are no scores to weigh against variety yet, so groups take turns among this many times b.
_RANKED_FOR_GROUPS = 4


def first_batch(
    cold_start: str,
    classifier: Any,
    X_pool: Any,
    n_instances: int,
    *,
    groups: Any = None,
    rng: np.random.Generator,
) -> Indices:
    """Choose b candidates without scores.

    Parameters
    ----------
    cold_start : {"typical", "random"}
        The most typical candidate of each of b clusters of the embeddings, or b at random.
    classifier : learner or classifier
        Embeds the candidates where it can, and tells which were labelled before.
    X_pool : array-like of shape (n, ...)
        Unlabelled candidates.
    n_instances : int
        How many, b.
    groups : array-like of shape (n,), optional
        No group gives another candidate while one with fewer is left among the first 4·b.
    rng : numpy.random.Generator
        Seeds the clustering or the draw.

    Returns
    -------
    ndarray of shape (b,)
        Indices into the pool, in the order in which to ask.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> table = np.array([[0.0], [0.1], [0.2], [9.0], [9.1]])
    >>> first_batch(
    ...     "typical", LogisticRegression(), table, 2, rng=np.random.default_rng(0)
    ... ).tolist()
    [1, 3]
    """
    if cold_start == "random":

        def rank(k: int) -> Indices:
            return rng.choice(pool_length(X_pool), k, replace=False)
    else:
        places = places_of(classifier, X_pool)

        def rank(k: int) -> Indices:
            return _typical(unwrapped(classifier), places, k, rng)

    if groups is None:
        return rank(n_instances)
    n_ranked = min(_RANKED_FOR_GROUPS * n_instances, pool_length(X_pool))
    ranked = rank(n_ranked)
    by_rank = -np.arange(n_ranked)
    members = np.asarray(groups)[ranked]
    return np.asarray(ranked[spread_over_groups(by_rank, n_instances, members)])


def _typical(
    estimator: Any, places: PoolPlaces, n_ranked: int, rng: np.random.Generator
) -> Indices:
    """Rank the most typical candidates, of a random subset where the pool is large."""
    n, size = places.n, max(_MAX_EMBEDDED, n_ranked)
    subset = np.arange(n) if n <= size else np.sort(rng.choice(n, size, replace=False))
    embedded = places.embed_pool(subset)
    labelled = getattr(estimator, "memory_", None)
    known = None if labelled is None else places.embed(labelled.X)
    typical = most_typical(embedded, n_ranked, known=known, directions=places.directions, rng=rng)
    return np.asarray(subset[typical])
