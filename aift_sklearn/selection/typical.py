"""The first batch, before anything was learnt: typical candidates. No model, embeddings only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

from ._checks import check_n_instances
from ._points import as_directions, as_standardised

__all__ = ["most_typical"]

# Neighbours are looked for among this many members of a cluster, since search is quadratic.
_MAX_SEARCHED = 4096
# Above this many clusters, full k-means takes minutes.
_MAX_FULL_KMEANS = 64
_NEIGHBOURS = 20


def most_typical(
    embeddings: ArrayLike,
    n_instances: int,
    *,
    known: ArrayLike | None = None,
    directions: bool = True,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Pick the most typical candidate of each of b clusters.

    With few labels, typical candidates teach more than uncertain ones; and from b clusters they
    cover the pool.

    Parameters
    ----------
    embeddings : array-like of shape (n, E)
        Embeddings of the candidates.
    n_instances : int
        How many to pick, b.
    known : array-like of shape (l, E), optional
        Embeddings of candidates that were labelled before: there are l more clusters, and those
        that hold a labelled candidate come last.
    directions : bool, default=True
        Compare embeddings by direction, as suits a CNN's. False standardises each dimension
        instead, as suits a table of features.
    rng : numpy.random.Generator
        Seeds the clustering.

    Returns
    -------
    ndarray of shape (b,)
        Indices, from the largest cluster to the smallest.

    Notes
    -----
    Typical means the smallest mean distance to the 20 nearest neighbours in the cluster.

    References
    ----------
    Hacohen, Dekel and Weinshall, Active Learning on a Budget: Opposite Strategies Suit High and
    Low Budgets, ICML 2022 (TypiClust).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> angles = np.array([0, .01, .02, 1.5, 1.51, 1.52, 1.53])
    >>> most_typical(np.stack([np.cos(angles), np.sin(angles)], 1), 2, rng=rng)
    array([4, 1])
    """
    embeddings = np.asarray(embeddings, dtype=np.float32)
    check_n_instances(n_instances, len(embeddings))
    everything = embeddings
    if known is not None:
        everything = np.concatenate([embeddings, np.asarray(known, dtype=np.float32)])
    everything = as_directions(everything) if directions else as_standardised(everything)
    points, n_known = everything[: len(embeddings)], len(everything) - len(embeddings)
    # Never more clusters than distinct points, of which k-means would warn.
    n_clusters = min(n_instances + n_known, len(np.unique(everything, axis=0)))
    method = KMeans if n_clusters <= _MAX_FULL_KMEANS else MiniBatchKMeans
    kmeans = method(n_clusters, n_init=3, random_state=int(rng.integers(2**31)))
    cluster = kmeans.fit_predict(everything)
    taken = np.bincount(cluster[len(points) :], minlength=n_clusters)
    cluster = cluster[: len(points)]
    typicality = _typicality(points, cluster)
    return _take_turns(cluster, typicality, taken, n_instances)


def _typicality(points: NDArray[np.float32], cluster: NDArray[np.intp]) -> NDArray[np.float64]:
    """Minus the mean distance to the nearest neighbours in the cluster."""
    typicality = np.zeros(len(points))
    for c in np.unique(cluster):
        members = np.flatnonzero(cluster == c)
        searched = members[:: -(-len(members) // _MAX_SEARCHED)]
        k = min(_NEIGHBOURS, len(searched) - 1)
        if k > 0:
            search = NearestNeighbors(n_neighbors=k + 1).fit(points[searched])
            distance, _ = search.kneighbors(points[members])
            # A point that is searched finds itself first.
            itself = np.isin(members, searched)
            mean = np.where(itself, distance[:, 1:].mean(axis=1), distance[:, :-1].mean(axis=1))
            typicality[members] = -mean
    return typicality


def _take_turns(
    cluster: NDArray[np.intp],
    typicality: NDArray[np.float64],
    taken: NDArray[np.intp],
    n_instances: int,
) -> NDArray[np.intp]:
    """Most typical first from clusters with the fewest labels, the larger cluster first."""
    size = np.bincount(cluster)
    order = np.lexsort((np.arange(len(cluster)), -typicality, cluster))
    starts = np.concatenate([[0], np.cumsum(size)])[:-1]
    rank = np.empty_like(cluster)
    rank[order] = np.arange(len(cluster)) - starts[cluster[order]]
    turn = taken[cluster] + rank
    first = np.lexsort((np.arange(len(cluster)), -size[cluster], turn))
    return np.asarray(first[:n_instances])
