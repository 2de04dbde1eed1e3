"""Batches of candidates that lie far apart: greedy k-centre on embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_extension, check_scores
from .groups import group_codes
from .top import Indices, ranked, shortlisted

__all__ = ["diversified"]


def diversified(
    scores: ArrayLike,
    n_instances: int,
    omega: float,
    embeddings: Any,
    groups: ArrayLike | None = None,
) -> Indices:
    """Pick b of the top ω·b that lie far apart: greedy k-centre on embeddings.

    The b highest scores can be near-duplicates, such as neighbouring frames of a video, and the
    second label of a duplicate teaches nothing.

    Parameters
    ----------
    scores : array-like of shape (n,)
        One score per candidate.
    n_instances : int
        How many to pick, b.
    omega : float ≥ 1
        Length of the shortlist in units of b. 1 is the plain top b; a larger value trades score
        for variety.
    embeddings : array-like of shape (n, E), or callable
        Where the candidates of the shortlist lie: an array with one row per candidate of the
        whole pool, or a function from indices (k,) to rows (k, E), so that only the
        shortlist needs to be embedded.
    groups : array-like of shape (n,), optional
        Patient, slide or video of each candidate: no group of the shortlist gives another
        candidate while one with fewer is left.

    Returns
    -------
    ndarray of shape (b,)
        Indices, score descending. The highest score is always among them.

    References
    ----------
    Gonzalez, Clustering to minimize the maximum intercluster distance, 1985; Sener and Savarese,
    Active Learning for CNNs: A Core-Set Approach, ICLR 2018.

    Examples
    --------
    >>> near_duplicates = [[0, 0], [0, .1], [5, 5], [0, .2]]
    >>> diversified([.9, .8, .7, .6], 2, omega=2, embeddings=near_duplicates)
    array([0, 2])
    """
    scores = check_scores(scores, n_instances)
    check_extension("omega", omega)
    shortlist = shortlisted(scores, n_instances, omega)
    rows = embeddings(shortlist) if callable(embeddings) else np.asarray(embeddings)[shortlist]
    rows = np.asarray(rows, dtype=np.float64).reshape(len(shortlist), -1)
    members = None if groups is None else group_codes(groups, len(scores))[shortlist]
    picked: list[int] = []
    distance = np.full(len(shortlist), np.inf)
    free = np.ones(len(shortlist), dtype=bool)
    for _ in range(n_instances):
        allowed = free if members is None else _least_used(free, members, picked)
        # argmax takes the first of equals, and the shortlist is in order of score.
        best = int(np.where(allowed, distance, -np.inf).argmax())
        picked.append(best)
        free[best] = False
        distance = np.minimum(distance, np.linalg.norm(rows - rows[best], axis=1))
    return ranked(shortlist[picked], scores)


def _least_used(free: NDArray[np.bool_], members: Indices, picked: list[int]) -> NDArray[np.bool_]:
    used = np.bincount(members[picked], minlength=members.max() + 1)[members]
    allowed: NDArray[np.bool_] = free & (used == used[free].min())
    return allowed
