"""Batches that cover the pool: greedy kernel coverage on embeddings, weighted by scores.

A candidate covers those that lie near it, and those that are labelled cover theirs. The next to ask
for is the one that covers most weight which nothing covers yet.

Letters: n candidates, l labelled, b to ask for, r references that stand for the candidates.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, ParameterError
from ._checks import check_scores
from ._points import as_directions, as_standardised
from .top import Indices

__all__ = ["coverage", "kernel_width", "shares_of_pool", "systematic_sample"]

Floats = NDArray[np.float32]

# Of more candidates, a sample of this many can be asked for, and this many of them are covered: a
# kernel of 256 MiB.
_MOST_CANDIDATES, _MOST_REFERENCES = 2**14, 2**12
# Below this squared distance labelled candidates are duplicates, and tell nothing of the width.
_NARROWEST = 1e-3
# Numbers of a kernel that are computed at once.
_BLOCK = 2**22
# Relative difference of gains that are equal but for the order of summation.
_ROUNDING = 1e-5


def coverage(
    weights: ArrayLike,
    n_instances: int,
    embeddings: Any,
    known: ArrayLike | None = None,
    *,
    candidates: ArrayLike | None = None,
    directions: bool = True,
    width: float | None = None,
    rng: np.random.Generator | None = None,
) -> Indices:
    """Pick b candidates that cover the weight of the pool, with those that are labelled.

    Greedily, the candidate x with the highest gain is picked b times,

        gain(x) = Σ_i w_i · max(0, k(i, x) − c_i),   k(i, x) = exp(−‖e_i − e_x‖² / h²),

    where c_i tells how far i is covered: its largest k to what is labelled or picked.

    Parameters
    ----------
    weights : array-like of shape (n,)
        w, 0 or more: how much it matters that a candidate is covered.
    n_instances : int
        How many to pick, b.
    embeddings : array-like of shape (n, E), or callable
        Where the candidates lie: an array, or a function from indices (k,) to rows (k, E), so that
        of a large pool only a sample needs to be embedded.
    known : array-like of shape (l, E), optional
        Where the labelled candidates lie.
    candidates : array-like of shape (k,), optional
        Indices of those that can be picked, all different; the others are covered only. By default
        all.
    directions : bool, default=True
        Compare embeddings by their direction from the middle of the pool, as suits a CNN's. False
        standardises each dimension instead, as suits a table of features.
    width : float, optional
        h²; by default `kernel_width` of what is labelled, or, without any, of b candidates drawn at
        random, always the same.
    rng : numpy.random.Generator, optional
        Seeds the samples of large pools.

    Returns
    -------
    ndarray of shape (b,)
        Indices, in the order in which they were picked. Ties go to the higher weight, then to the
        lower index.

    Raises
    ------
    ParameterError, DataError
        If b < 1, fewer than b can be picked, a weight is below 0 or not finite, or the width is
        not above 0.

    Notes
    -----
    The gain of a set is submodular, so that the greedy choice reaches at least 63 % of the best
    set's. Of more than 16,384 candidates a systematic sample, drawn by weight, can be picked, and
    4,096 of them stand for the weight: O(n + 16,384 · 4,096) time, whatever n.

    References
    ----------
    Bae et al., Generalized Coverage for More Robust Low-Budget Active Learning, ECCV 2024, and
    Uncertainty Herding, ICLR 2025.

    Examples
    --------
    >>> angles = np.array([0, .1, .2, 2, 2.1, 4])
    >>> points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> coverage(np.ones(6), 3, points, width=0.1)
    array([1, 3, 5])
    >>> coverage(np.ones(6), 2, points, known=points[:1], width=0.1)
    array([3, 5])
    """
    w = check_scores(weights, n_instances)
    if (w < 0).any():
        raise DataError(f"a weight is {w.min()}; expected numbers from 0 on.")
    if width is not None and not 0 < width < np.inf:
        raise ParameterError(f"width={width!r}; expected a number above 0.")
    rng = np.random.default_rng(0) if rng is None else rng
    rows, targets, counts = _rows(w, n_instances, candidates, rng)
    embedded, where = np.unique(np.concatenate([rows, targets]), return_inverse=True)
    points = embeddings(embedded) if callable(embeddings) else np.asarray(embeddings)[embedded]
    points, labelled = _place(points, known, directions)
    if width is None:
        known_points = labelled
        if len(labelled) < 2:
            drawn = np.random.default_rng(0).choice(
                len(points), min(max(n_instances, 2), len(points)), replace=False
            )
            known_points = points[drawn]
        width = kernel_width(known_points)
    picks, covered = points[where[: len(rows)]], points[where[len(rows) :]]
    return rows[_pick(picks, w[rows], covered, counts, labelled, n_instances, width)]


def _rows(
    weights: NDArray[np.float64], n_instances: int, candidates: Any, rng: np.random.Generator
) -> tuple[Indices, Indices, Floats]:
    """Candidates that can be picked, rising; those that stand for the weight of all; how much."""
    most = max(_MOST_CANDIDATES, n_instances)
    if candidates is not None:
        rows = np.asarray(candidates)
        whole = rows.ndim == 1 and (rows.dtype.kind in "iu" or not rows.size)
        rows = np.unique(rows) if whole else rows
        valid = whole and len(rows) == np.size(candidates)
        if not valid or (len(rows) and not 0 <= rows[0] <= rows[-1] < len(weights)):
            raise ParameterError(
                f"candidates={candidates!r:.80}; expected different indices into {len(weights)} "
                "candidates."
            )
        if len(rows) < n_instances:
            raise ParameterError(
                f"n_instances={n_instances} of {len(rows)} candidates that can be picked."
            )
        if len(rows) > most:
            rows = rows[_sample(weights[rows], most, rng)[0]]
        return rows, *_references(weights, rng)
    if len(weights) <= most:
        return np.arange(len(weights)), *_references(weights, rng)
    # What is covered is picked from what is embedded anyway.
    rows, counts = _sample(weights, most, rng)
    references, each = _references(counts, rng)
    return rows, rows[references], each


def kernel_width(points: ArrayLike) -> float:
    """Mean squared distance of points to the nearest other one: h².

    Parameters
    ----------
    points : array-like of shape (l, E)
        Where candidates lie.

    Returns
    -------
    float
        At least 0.001, which it also is of fewer than two points.

    Examples
    --------
    >>> kernel_width([[0, 0], [0, 2], [3, 0]])
    5.666666666666667
    """
    points = np.asarray(points, dtype=np.float32)
    if len(points) < 2:
        return _NARROWEST
    # Of more points, every second, third …; each against all.
    rows = np.arange(0, len(points), -(-len(points) // _MOST_REFERENCES))
    nearest = np.empty(len(rows))
    for block in _blocks(len(rows), len(points)):
        distance = _squared_distances(points[rows[block]], points)
        distance[np.arange(len(distance)), rows[block]] = np.inf
        nearest[block] = distance.min(axis=1)
    return max(float(nearest.mean()), _NARROWEST)


def shares_of_pool(
    embeddings: ArrayLike, known: ArrayLike, *, directions: bool = True, n: int | None = None
) -> NDArray[np.float64]:
    """Share of a pool that lies nearest to each labelled candidate, with mean 1.

    What was asked for is no random sample of the pool. Weighted by these shares it stands for it.

    Parameters
    ----------
    embeddings : array-like of shape (r, E)
        Of the candidates of the pool, or of a sample of them.
    known : array-like of shape (l, E)
        Of the labelled candidates.
    directions : bool, default=True
        As of `coverage`.
    n : int, optional
        Candidates of the pool, where ``embeddings`` are those of a sample.

    Returns
    -------
    ndarray of shape (l,), float64
        Each labelled candidate stands for itself, and for those nearest to it.

    Examples
    --------
    >>> pool = np.array([[0.0], [0.1], [0.2], [9.0]])
    >>> shares_of_pool(pool, pool[[0, 3]], directions=False)
    array([1.33333333, 0.66666667])
    """
    points, labelled = _place(embeddings, known, directions)
    nearest = np.empty(len(points), dtype=np.intp)
    for block in _blocks(len(points), len(labelled)):
        nearest[block] = _squared_distances(points[block], labelled).argmin(axis=1)
    each = (len(points) if n is None else n) / max(1, len(points))
    counts = 1 + each * np.bincount(nearest, minlength=len(labelled))
    return np.asarray(counts / counts.mean())


def systematic_sample(weights: ArrayLike, size: int, rng: np.random.Generator) -> Indices:
    """Draw with probability proportional to weight, at equal steps along the candidates.

    Every stretch of a pool, such as a slide, gets its share.

    Parameters
    ----------
    weights : array-like of shape (n,)
        0 or more, not all 0.
    size : int
        How many draws.
    rng : numpy.random.Generator
        Draws where the first step begins.

    Returns
    -------
    ndarray of shape (size,)
        Indices, rising; one that weighs more than a step is drawn again.

    Examples
    --------
    >>> systematic_sample([1, 1, 0, 6], 4, np.random.default_rng(0))
    array([1, 3, 3, 3])
    """
    reached = np.cumsum(np.asarray(weights, dtype=np.float64))
    steps = (np.arange(size) + rng.random()) * (reached[-1] / size)
    drawn = np.searchsorted(reached, steps, side="right")
    return np.asarray(np.minimum(drawn, len(reached) - 1))


def _sample(
    weights: NDArray[np.float64], size: int, rng: np.random.Generator
) -> tuple[Indices, NDArray[np.float64]]:
    """Draw candidates by weight; each stands for the same weight as often as it was drawn."""
    if not weights.any():
        weights = np.ones_like(weights)
    drawn = systematic_sample(weights, size, rng)
    rows, counts = np.unique(drawn, return_counts=True)
    missing = size - len(rows)
    if missing:
        # A few weigh nearly all: the others can be picked too, but count for nothing.
        others = np.setdiff1d(np.arange(len(weights)), rows, assume_unique=True)
        rows = np.concatenate([rows, rng.choice(others, missing, replace=False)])
        counts = np.concatenate([counts, np.zeros(missing, counts.dtype)])
        order = np.argsort(rows)
        rows, counts = rows[order], counts[order]
    return rows, counts.astype(np.float64)


def _place(points: Any, known: Any, directions: bool) -> tuple[Floats, Floats]:
    """Bring candidates and labelled ones to one scale."""
    points = np.asarray(points, dtype=np.float32)
    points = points.reshape(len(points), -1)
    n = len(points)
    # What all candidates have in common tells none apart, and would make all directions alike.
    centre = points.mean(axis=0, dtype=np.float64).astype(np.float32) if directions else 0
    if known is not None and len(known):
        known = np.asarray(known, dtype=np.float32)
        known = known.reshape(len(known), -1)
        if known.shape[1] != points.shape[1]:
            raise DataError(
                f"the labelled candidates have {known.shape[1]} numbers each, and those of the "
                f"pool {points.shape[1]}; expected embeddings by the same model."
            )
        points = np.concatenate([points, known])
    placed = as_directions(points - centre) if directions else as_standardised(points)
    return placed[:n], placed[n:]


def _pick(
    picks: Floats,
    weights: NDArray[np.float64],
    targets: Floats,
    w: Floats,
    labelled: Floats,
    n_instances: int,
    width: float,
) -> Indices:
    """Pick greedily; gains only fall, so that few of them are computed again for each pick."""
    covered = np.zeros(len(targets), dtype=np.float32)
    for block in _blocks(len(labelled), len(targets)):
        covered = np.maximum(covered, _kernel(labelled[block], targets, width).max(axis=0))
    kernel = np.empty((len(picks), len(targets)), dtype=np.float32)
    bounds = np.empty(len(picks))
    for block in _blocks(len(picks), len(targets)):
        kernel[block] = _kernel(picks[block], targets, width)
        bounds[block] = np.maximum(kernel[block] - covered, 0) @ w
    # Whole blocks are summed in another order than single rows.
    bounds *= 1 + _ROUNDING
    # The highest first, ties by weight and then by index.
    waiting = [(-bounds[x], -weights[x], x) for x in range(len(picks))]
    heapq.heapify(waiting)
    n_picked_then = np.full(len(picks), -1)
    picked: list[int] = []
    while len(picked) < n_instances:
        _, weight, x = waiting[0]
        if n_picked_then[x] == len(picked):
            heapq.heappop(waiting)
            picked.append(x)
            covered = np.maximum(covered, kernel[x])
        else:
            gain = float(np.maximum(kernel[x] - covered, 0) @ w)
            n_picked_then[x] = len(picked)
            heapq.heapreplace(waiting, (-gain, weight, x))
    return np.array(picked, dtype=np.intp)


def _references(weights: NDArray[np.float64], rng: np.random.Generator) -> tuple[Indices, Floats]:
    """Candidates that stand for the weight of all, and what each stands for."""
    if len(weights) <= _MOST_REFERENCES or not weights.any():
        references = np.arange(min(len(weights), _MOST_REFERENCES))
        return references, weights[references].astype(np.float32)
    drawn = systematic_sample(weights, _MOST_REFERENCES, rng)
    references, counts = np.unique(drawn, return_counts=True)
    return references, counts.astype(np.float32)


def _blocks(n: int, width: int) -> list[slice]:
    step = max(1, _BLOCK // max(1, width))
    return [slice(start, start + step) for start in range(0, n, step)]


def _kernel(a: Floats, b: Floats, width: float) -> Floats:
    return np.asarray(np.exp(_squared_distances(a, b) / np.float32(-width)))


def _squared_distances(a: Floats, b: Floats) -> Floats:
    """‖a_i − b_j‖², of shape (len(a), len(b))."""
    lengths = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    return np.asarray(np.maximum(lengths - 2 * (a @ b.T), 0))
