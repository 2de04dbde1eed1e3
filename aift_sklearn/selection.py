"""From scores to the candidates to ask for. NumPy only, no model.

Every rule takes scores of shape (n,), higher meaning "ask sooner", and returns b distinct indices,
score descending, ties by index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import DataError, ParameterError

__all__ = ["diversified", "random_extension", "spread_over_groups", "top"]

Indices = NDArray[np.intp]


def _check(scores: ArrayLike, n_instances: int) -> NDArray[np.float64]:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        state = f"has shape {scores.shape}" if scores.ndim != 1 else "holds NaN or infinity"
        raise DataError(f"scores {state}; expected one finite number per candidate, shape (n,).")
    check_n_instances(n_instances, len(scores))
    return scores


def check_n_instances(n_instances: int, n_candidates: int) -> None:
    """Refuse a number of candidates to ask for that is not in 1 ... n."""
    integer = isinstance(n_instances, (int, np.integer)) and not isinstance(n_instances, bool)
    if not integer or n_instances < 1:
        raise ParameterError(f"n_instances={n_instances!r}; expected a whole number from 1 on.")
    if n_instances > n_candidates:
        raise DataError(
            f"asked for n_instances={n_instances} of a pool of {n_candidates} candidates; pass "
            f"n_instances=min(b, len(pool)), or stop when the pool is used up."
        )


def check_extension(name: str, omega: float) -> None:
    """Refuse a shortlist factor ω below 1."""
    if not (isinstance(omega, (int, float, np.number)) and 1 <= omega < np.inf):
        raise ParameterError(
            f"{name}={omega!r}; expected ω ≥ 1: the shortlist holds the top ω·b candidates."
        )


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
    scores = _check(scores, n_instances)
    if n_instances < len(scores):
        cut = np.partition(scores, -n_instances)[-n_instances]
        above, at = np.flatnonzero(scores > cut), np.flatnonzero(scores == cut)
        taken = np.sort(np.concatenate([above, at[: n_instances - len(above)]]))
    else:
        taken = np.arange(len(scores))
    return _ranked(taken, scores)


def _ranked(indices: Indices, scores: NDArray[np.float64]) -> Indices:
    indices = np.sort(indices)
    return indices[np.argsort(-scores[indices], kind="stable")]


def _shortlist(scores: NDArray[np.float64], n_instances: int, omega: float) -> Indices:
    return top(scores, min(len(scores), int(np.ceil(round(omega * n_instances, 9)))))


def random_extension(
    scores: ArrayLike, n_instances: int, omega: float, random_state: Any = None
) -> Indices:
    """Draw b candidates at random from the top ω·b, with probability rising with the score.

    Parameters
    ----------
    scores : array-like of shape (n,)
        One score per candidate.
    n_instances : int
        How many to draw, b.
    omega : float ≥ 1
        Length of the shortlist in units of b. 1 is the plain top b; a larger value trades score
        for variety.
    random_state : None, int or numpy.random.Generator
        Seed of the draw.

    Returns
    -------
    ndarray of shape (b,)
        Indices, score descending.

    Notes
    -----
    Candidate i is drawn with probability proportional to a_i − a_floor, where a_floor is the next
    score below the shortlist (0, or the lowest score if that is negative, where the shortlist is
    the whole pool). With the shortlist's own last score as floor, as printed in the paper, that
    candidate could never be drawn. Equal scores are drawn uniformly.

    References
    ----------
    Zhou et al., Medical Image Analysis 71, 2021, eq. 5.

    Examples
    --------
    >>> random_extension([9, 1, 8, 7, 0, 6], 2, omega=2, random_state=1)
    array([2, 5])
    """
    scores = _check(scores, n_instances)
    check_extension("random_extension", omega)
    rng = np.random.default_rng(random_state)
    shortlist = _shortlist(scores, n_instances, omega)
    if len(shortlist) < len(scores):
        floor = np.partition(scores, -len(shortlist) - 1)[-len(shortlist) - 1]
    else:
        floor = min(0.0, scores.min())
    weight = scores[shortlist] - floor
    possible = np.count_nonzero(weight)
    if possible == 0:
        drawn = rng.choice(len(shortlist), n_instances, replace=False)
    elif possible >= n_instances:
        drawn = rng.choice(len(shortlist), n_instances, replace=False, p=weight / weight.sum())
    else:
        rest = rng.choice(np.flatnonzero(weight == 0), n_instances - possible, replace=False)
        drawn = np.concatenate([np.flatnonzero(weight), rest])
    return _ranked(shortlist[drawn], scores)


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
    scores = _check(scores, n_instances)
    check_extension("diversify", omega)
    shortlist = _shortlist(scores, n_instances, omega)
    rows = embeddings(shortlist) if callable(embeddings) else np.asarray(embeddings)[shortlist]
    rows = np.asarray(rows, dtype=np.float64).reshape(len(shortlist), -1)
    members = None if groups is None else group_codes(groups, len(scores))[shortlist]
    picked: list[int] = []
    distance = np.full(len(shortlist), np.inf)
    free = np.ones(len(shortlist), dtype=bool)
    for _ in range(n_instances):
        allowed = free if members is None else _least_used(free, members, picked)
        # argmax takes the first of equals, and the shortlist is in order of score.
        best = int(np.where(allowed, distance, -1.0).argmax())
        picked.append(best)
        free[best] = False
        distance = np.minimum(distance, np.linalg.norm(rows - rows[best], axis=1))
    return _ranked(shortlist[picked], scores)


def spread_over_groups(
    scores: ArrayLike, n_instances: int, groups: ArrayLike, omega: float = 4.0
) -> Indices:
    """Pick b of the top ω·b so that no group gives another while one with fewer is left.

    Parameters
    ----------
    scores : array-like of shape (n,)
        One score per candidate.
    n_instances : int
        How many to pick, b.
    groups : array-like of shape (n,)
        Patient, slide or video of each candidate.
    omega : float ≥ 1, default=4
        Length of the shortlist in units of b; outside it no candidate is taken for variety's sake.

    Returns
    -------
    ndarray of shape (b,)
        Indices, score descending.

    Examples
    --------
    >>> spread_over_groups([.9, .8, .7, .6], 2, groups=["video 1", "video 1", "video 2", "video 3"])
    array([0, 2])
    """
    scores = _check(scores, n_instances)
    check_extension("omega", omega)
    shortlist = _shortlist(scores, n_instances, omega)
    members = group_codes(groups, len(scores))[shortlist]
    # The k-th best of its group, for every candidate: all firsts come before any second.
    turn = np.zeros(len(shortlist), dtype=np.intp)
    for group in np.unique(members):
        inside = members == group
        turn[inside] = np.arange(inside.sum())
    return _ranked(shortlist[np.argsort(turn, kind="stable")[:n_instances]], scores)


def group_codes(groups: ArrayLike, n_candidates: int) -> Indices:
    """Number the groups of the candidates from 0 on, shape (n,)."""
    groups = np.asarray(groups)
    if groups.shape != (n_candidates,):
        raise DataError(
            f"groups has shape {groups.shape}; expected one group per candidate of the pool, "
            f"shape ({n_candidates},)."
        )
    try:
        codes: Indices = np.unique(groups, return_inverse=True)[1].astype(np.intp)
    except TypeError as error:
        raise DataError(
            f"groups cannot be told apart: {error}; pass strings or integers."
        ) from error
    return codes


def _least_used(free: NDArray[np.bool_], members: Indices, picked: list[int]) -> NDArray[np.bool_]:
    used = np.bincount(members[picked], minlength=members.max() + 1)[members]
    allowed: NDArray[np.bool_] = free & (used == used[free].min())
    return allowed
