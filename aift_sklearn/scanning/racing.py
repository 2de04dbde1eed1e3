"""The b best candidates without scoring every patch of every candidate.

A few patches of each candidate already tell that most will not be asked for. All candidates begin
with few patches; those that look best are scored in full, which sets the bar; who cannot plausibly
reach the bar drops out; the rest are given twice as many patches, and so on. Returned scores are
always those of all m patches.

Letters: n candidates, m patches of each, s patches kept by majority selection, t patches seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..scores import n_kept, patch_consistency
from ..selection import top

__all__ = ["Race", "optimistic_scores", "race", "stages"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# With majority selection a subset's score is nearly an upper bound already (see
# `optimistic_scores`); what is added was chosen on fine-tuned and frozen networks over three pools
# (docs/performance.md).
_SLACK = 1.1
_SPREADS = 1.0
# Candidates that are scored in full in each stage to set the bar, as multiples of b.
_FINALISTS = 1.5


class Race(NamedTuple):
    """Outcome of `race`.

    Attributes
    ----------
    indices : ndarray of shape (b,)
        Candidates, the highest score first.
    scores : ndarray of shape (b,)
        Their scores over all m patches.
    cost : float
        Patches that were evaluated, as a fraction of n·m.
    """

    indices: Ints
    scores: Floats
    cost: float


def stages(n_patches: int, size: int) -> list[int]:
    """Patches that candidates have seen after each stage before the last.

    Parameters
    ----------
    n_patches : int
        m.
    size : int
        s; the first stage sees three quarters of it, at least two.

    Returns
    -------
    list of int
        Empty where a race would cost more than it saves.

    Examples
    --------
    >>> stages(16, 4), stages(32, 8), stages(16, 16)
    ([3, 6], [6, 12], [])
    """
    t = max(2, math.ceil(0.75 * size))
    seen = []
    while t <= n_patches // 2:
        seen.append(t)
        t *= 2
    return seen


def optimistic_scores(
    P: NDArray[Any],
    size: int,
    *,
    entropy_weight: float = 1.0,
    diversity_weight: float = 1.0,
    reduction: str = "sum",
    eps: float | None = None,
) -> Floats:
    """How high the scores of candidates may turn out, by the patches seen so far.

    Majority selection keeps the s patches that agree most. Of t ≥ s patches it keeps s that agree
    less than the s of all m would, so their score is nearly an upper bound: it is one as long as
    the majority stays. Fewer patches are scaled to s. On top come a tenth and one standard error,
    by leaving out each patch in turn.

    Parameters
    ----------
    P : ndarray of shape (n, t, K)
        Probabilities of the patches seen.
    size : int
        s.
    entropy_weight, diversity_weight, reduction, eps
        As of `patch_consistency`.

    Returns
    -------
    ndarray of shape (n,), float64
        What few candidates exceed.

    Examples
    --------
    >>> sure, torn = [[.99, .01]] * 3, [[.9, .1], [.1, .9], [.5, .5]]
    >>> optimistic_scores(np.array([sure, torn]), size=4).round(1)
    array([ 0.2, 45.8])
    """
    consistency: dict[str, Any] = {"reduction": reduction, "eps": eps}

    def of(P: NDArray[Any]) -> Floats:
        t = P.shape[1]
        kept = min(size, t)
        score = np.zeros(len(P))
        grows = reduction == "sum"
        if entropy_weight > 0:
            part = patch_consistency(
                P, alpha=kept / t, entropy_weight=1.0, diversity_weight=0.0, **consistency
            )
            score += entropy_weight * part * (size / kept if grows else 1)
        if diversity_weight > 0 and kept > 1:
            part = patch_consistency(
                P, alpha=kept / t, entropy_weight=0.0, diversity_weight=1.0, **consistency
            )
            pairs = size * (size - 1) / (kept * (kept - 1))
            score += diversity_weight * part * (pairs if grows else 1)
        return score

    t = P.shape[1]
    without = np.stack([of(np.delete(P, j, axis=1)) for j in range(t)])
    spread = np.sqrt((t - 1) * without.var(axis=0))
    hopes: Floats = _SLACK * of(P) + _SPREADS * spread
    return hopes


def race(
    evaluate: Callable[[Ints, list[int]], NDArray[np.float32]],
    n: int,
    n_patches: int,
    b: int,
    **consistency: Any,
) -> Race:
    """Find the b best of n candidates.

    Parameters
    ----------
    evaluate : callable
        f(rows, views) → probabilities (len(rows), len(views), K) of those patches of those
        candidates; rows rise.
    n, n_patches, b : int
        Candidates, patches of each, and how many are wanted.
    **consistency
        As of `patch_consistency`.

    Returns
    -------
    Race
        The b best of those that were scored in full.

    Notes
    -----
    Guaranteed: the scores are exact, and no candidate that was scored in full and left out has a
    higher one. Not guaranteed: that nobody who dropped out would have scored higher.

    Examples
    --------
    >>> p = np.random.default_rng(0).random((500, 1, 1)) * np.ones((500, 16, 1))
    >>> P = np.concatenate([p, 1 - p], axis=2).astype(np.float32)
    >>> outcome = race(lambda rows, views: P[rows][:, views], 500, 16, b=5)
    >>> sorted(outcome.indices) == sorted(np.abs(p[:, 0, 0] - .5).argsort()[:5])
    True
    >>> outcome.cost < 0.5
    True
    """
    consistency = {"alpha": 0.25, "diversity_weight": 1.0, **consistency}
    alpha = consistency.pop("alpha")
    size = n_kept(n_patches, alpha, consistency["diversity_weight"])
    scores = np.full(n, -np.inf)
    alive = np.arange(n)
    P: Any = None
    evaluated, seen = 0, 0

    def complete(rows: Ints, known: Any) -> None:
        nonlocal evaluated
        if len(rows) == 0:
            return
        rest = evaluate(rows, list(range(seen, n_patches)))
        evaluated += len(rows) * (n_patches - seen)
        whole = rest if known is None else np.concatenate([known, rest], axis=1)
        scores[rows] = patch_consistency(whole, alpha=alpha, **consistency)

    for t in stages(n_patches, size):
        if len(alive) <= _FINALISTS * b:
            break
        new = evaluate(alive, list(range(seen, t)))
        evaluated += len(alive) * (t - seen)
        P, seen = (new if P is None else np.concatenate([P, new], axis=1)), t
        hopes = optimistic_scores(P, size, **consistency)
        is_finalist = np.zeros(len(alive), dtype=bool)
        is_finalist[top(hopes, math.ceil(_FINALISTS * b))] = True
        complete(alive[is_finalist], P[is_finalist])
        bar = np.partition(scores, n - b)[n - b]
        stays = ~is_finalist & (hopes >= bar)
        alive, P = alive[stays], P[stays]
    complete(alive, P)
    scored = np.flatnonzero(np.isfinite(scores))
    indices = scored[top(scores[scored], b)]
    return Race(indices, scores[indices], evaluated / (n * n_patches))
