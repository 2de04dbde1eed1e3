"""The b best candidates without scoring every patch of every candidate.

A few patches of each candidate already tell that most will not be asked for. All candidates begin
with few patches; those that look best are scored in full, which sets the bar; who cannot plausibly
reach the bar drops out; the rest are given twice as many patches, and so on. In the end some of
those who dropped out are scored in full, to see whether the race has misjudged them: where it has,
more are, and where patches tell little of each other it becomes a full pass. Returned scores are
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
from .race_store import EvaluatedPatches, RaceStore

__all__ = ["Race", "plausible_scores", "race", "stages"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# Candidates that are scored in full in each stage to set the bar, as multiples of b: with b alone
# the lowest of those that merely looked best would be the bar.
_FINALISTS = 1.5
# Of those who dropped out in a stage, the nearest to the bar are checked: a hundredth of the pool,
# which costs no more than that, and more for each of the b best that rose above what was plausible
# in that stage, a surprise, since others may have risen unseen: half of b, ten at least. Where half
# of the b best are surprises the stage has told little, and an eighth of the pool is checked, where
# all are, half of it. All were chosen on fine-tuned, frozen and simulated networks
# (docs/performance.md).
_CHECKED = 0.01
_CHECKED_PER_SURPRISE = 0.5
_FEWEST_PER_SURPRISE = 10
_CHECKED_WHERE_ALL_SURPRISE = 0.5
# Patches that were seen, as a share of all, from which on nobody is left out: where patches of a
# candidate differ as much as candidates do (a strongly regularised head), so many of them have to
# be seen that no race saves half, and it still loses winners.
_LITTLE_IS_SAVED = 0.7
# Standard errors by which the majority must lead to be taken for granted.
_DOUBTS = 2.0
# Relative difference of scores that are equal but for the order of summation.
_ROUNDING = 1e-9
# Probabilities that are scored at once: NumPy's intermediate results then stay in the cache.
_PIECE = 2**17


class Race(NamedTuple):
    """Outcome of `race`.

    Attributes
    ----------
    indices : ndarray of shape (b,)
        Candidates, the highest score first.
    scores : ndarray of shape (b,)
        Their scores over all m patches.
    cost : float
        Patches that were evaluated, as a fraction of n·m. What a store held is not among them.
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
    ([3, 6, 12], [6, 12, 24], [])
    """
    t = max(2, math.ceil(0.75 * size))
    seen: list[int] = []
    # One that begins in the middle ends at once; one that has begun gains by a last look.
    while t <= (0.75 if seen else 0.5) * n_patches:
        seen.append(t)
        t *= 2
    return seen


def plausible_scores(
    P: NDArray[Any],
    size: int,
    *,
    entropy_weight: float = 1.0,
    diversity_weight: float = 1.0,
    reduction: str = "sum",
    eps: float | None = None,
) -> tuple[Floats, Floats]:
    """How low and how high the scores of candidates may turn out, by the patches seen so far.

    Majority selection keeps the s patches that agree most. Of t ≥ s patches it keeps s that agree
    less than the s of all m would, so their score is nearly an upper bound: it is one as long as
    the majority stays; where that is in doubt, the score under the class in second place counts
    too. Fewer patches are scaled to s. What the choice of patches may add is measured by leaving
    out each in turn: it is small where all scores are alike, so that a race among them is a race
    too.

    Parameters
    ----------
    P : ndarray of shape (n, t, K)
        Probabilities of the patches seen, two or more.
    size : int
        s.
    entropy_weight, diversity_weight, reduction, eps
        As of `patch_consistency`.

    Returns
    -------
    low : ndarray of shape (n,), float64
        The score, or that without one of the patches, whichever is lowest.
    high : ndarray of shape (n,), float64
        The score and one jackknife standard error, or the score under another majority: what few
        candidates exceed.

    Examples
    --------
    >>> sure, torn = [[.99, .01]] * 3, [[.9, .1], [.1, .9], [.5, .5]]
    >>> low, high = plausible_scores(np.array([sure, torn]), size=4)
    >>> low.round(1), high.round(1)
    (array([ 0.2, 12.6]), array([ 0.2, 43.5]))
    """
    # Entropies grow with s, contradictions with its pairs, so that means are scaled each by its
    # own.
    scale = (size, size * (size - 1)) if reduction == "sum" else (1, 1)

    def scaled_score(P: NDArray[Any]) -> Floats:
        t = P.shape[-2]
        score: Floats = patch_consistency(
            P,
            alpha=min(size, t) / t,
            entropy_weight=entropy_weight * scale[0],
            diversity_weight=diversity_weight * scale[1],
            reduction="mean",
            eps=eps,
        )
        return score

    t = P.shape[1]
    others = np.array([[j for j in range(t) if j != left_out] for left_out in range(t)])

    def bounds(piece: NDArray[Any]) -> Floats:
        without, score = scaled_score(piece[:, others]), scaled_score(piece)
        high = score + np.sqrt((t - 1) * without.var(axis=1))
        patches, is_contested = _keep_second_majority(piece, size)
        high[is_contested] = np.maximum(high[is_contested], scaled_score(patches))
        # Rounding may leave all of them a little above the score of all.
        return np.stack([np.minimum(without.min(axis=1), score), high], axis=1)

    low, high = _piecewise(bounds, P, n_copies=t).T
    return low, high


def _keep_second_majority(P: NDArray[Any], size: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Patches (k, s, K) that are kept where the class in second place may have the majority.

    Also tells of which k of the n candidates that is in doubt.
    """
    n, t, K = P.shape
    order = np.argsort(-P.mean(axis=1), axis=1, kind="stable")
    leading, second = (P[np.arange(n), :, order[:, k]] for k in (0, min(1, K - 1)))
    lead = leading - second
    doubt = lead.std(axis=1, ddof=1) / math.sqrt(t)
    is_contested = lead.mean(axis=1) <= _DOUBTS * doubt
    kept = np.argsort(-second[is_contested], axis=1, kind="stable")[:, :size]
    return np.take_along_axis(P[is_contested], kept[..., None], axis=1), is_contested


def race(
    evaluate: Callable[[Ints, list[int]], NDArray[np.float32]],
    n: int,
    n_patches: int,
    b: int,
    *,
    store: RaceStore | None = None,
    **consistency: Any,
) -> Race:
    """Find the b best of n candidates.

    Parameters
    ----------
    evaluate : callable
        f(rows, views) → probabilities (len(rows), len(views), K) of those patches of those
        candidates; rows rise.
    n, n_patches, b : int
        Candidates, patches of each, and how many are wanted, b ≤ n.
    store : RaceStore, optional
        Keeps what is finished: a race that is interrupted goes on from there, with the same
        outcome. It must hold nothing of another pool or model; another b or other parameters of
        the score take over what they can.
    **consistency
        As of `patch_consistency`.

    Returns
    -------
    Race
        The b best of those that were scored in full.

    Raises
    ------
    ParameterError
        If a parameter of the score is outside its range.

    Notes
    -----
    Guaranteed: the scores are exact, and no candidate that was scored in full and left out has a
    higher one. Not guaranteed: that nobody who dropped out would have scored higher. Where all
    patches count (``alpha`` from two thirds on), or the first patches of a candidate tell little of
    the others, as under a strongly regularised head, it becomes a full pass, which is exact.

    At most half a gigabyte of P is kept, and a few numbers for each candidate. Beyond that,
    patches of some candidates are evaluated twice.

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
    # Wrong parameters are refused before anything is evaluated.
    patch_consistency(np.full((1, 1, 2), 0.5), **consistency)
    course = _Course(EvaluatedPatches(evaluate, n_patches, store), n, b, consistency)
    for k in range(len(course.stages)):
        if len(course.alive) <= _FINALISTS * b:
            break
        course.run_stage(k)
    course.finish_alive()
    for k in range(len(course.stages)):
        course.check_dropped(k)
    if course.share_seen > _LITTLE_IS_SAVED:
        course.finish_dropped()
    indices = course.best()
    return Race(indices, course.scores[indices], course.patches.n_evaluated / (n * n_patches))


class _Course:
    """Where the candidates of a race stand."""

    def __init__(self, patches: EvaluatedPatches, n: int, b: int, consistency: Any) -> None:
        self.patches, self.n, self.b = patches, n, b
        self._consistency = {"alpha": 0.25, "diversity_weight": 1.0, **consistency}
        m = patches.n_patches
        self._size = n_kept(m, self._consistency["alpha"], self._consistency["diversity_weight"])
        # Rounded, few of few patches may be less than two thirds.
        self.stages = stages(m, self._size) if self._consistency["alpha"] < 2 / 3 else []
        self.alive: Ints = np.arange(n)
        self.scores: Floats = np.full(n, -np.inf)
        self._high: Floats = np.full(n, np.inf)
        # Patches seen before a candidate dropped out, or was scored in full.
        self._seen = np.zeros(n, dtype=np.intp)
        # Stages in which a candidate that was scored in full was thought unable to score so high.
        self._surprises = np.zeros((n, len(self.stages)), dtype=bool)

    @property
    def bar(self) -> float:
        """The b-th highest score so far."""
        return float(np.partition(self.scores, self.n - self.b)[self.n - self.b])

    def best(self) -> Ints:
        """The b best of those that were scored in full."""
        scored = np.flatnonzero(np.isfinite(self.scores))
        return scored[top(self.scores[scored], self.b)]

    def run_stage(self, k: int) -> None:
        """Look at more patches of those in the race, score the best in full, drop others."""
        t, low = self.stages[k], []
        for i, rows in enumerate(self.patches.blocks(self.alive)):
            P = self.patches.look(f"stage-{t}-{i}", rows, [0, *self.stages[: k + 1]])
            of_rows, self._high[rows] = self._plausible(P)
            low.append(of_rows)
        self._seen[self.alive] = t
        # Those that are high for certain set a high bar; those that only may be do not.
        finalists = top(np.concatenate(low), math.ceil(_FINALISTS * self.b))
        self._score_in_full(f"finalists-{t}", self.alive[np.sort(finalists)])
        # Who can only draw level, up to rounding, has lost to the finalists.
        may_win = self._high[self.alive] > self.bar * (1 + _ROUNDING)
        self.alive = self.alive[may_win & ~np.isfinite(self.scores[self.alive])]
        self.patches.keep_only(self.alive)

    def finish_alive(self) -> None:
        """Score in full who is still in the race."""
        self._score_in_full("last", self.alive)

    def check_dropped(self, k: int) -> None:
        """Score in full who dropped out of a stage near the bar, until nobody gets above it."""
        t = self.stages[k]
        dropped = np.flatnonzero((self._seen == t) & ~np.isfinite(self.scores))
        dropped = dropped[np.argsort(-self._high[dropped], kind="stable")]
        start = 0
        while start < len(dropped):
            bar = self.bar
            surprises = int(self._surprises[self.best(), k].sum())
            for_each = max(_CHECKED_PER_SURPRISE * self.b, _FEWEST_PER_SURPRISE)
            share = _CHECKED + _CHECKED_WHERE_ALL_SURPRISE * (surprises / self.b) ** 2
            size = math.ceil(share * self.n + for_each * surprises)
            group = np.sort(dropped[start : start + size])
            self._score_in_full(f"check-{t}-{start}", group)
            if not (self.scores[group] > bar).any():
                break
            start += len(group)

    @property
    def share_seen(self) -> float:
        """Patches that were seen, as a share of all, whoever evaluated them."""
        m = self.patches.n_patches
        seen = np.where(np.isfinite(self.scores), m, self._seen)
        return float(seen.sum() / (self.n * m))

    def finish_dropped(self) -> None:
        """Score in full all who dropped out."""
        for t in self.stages:
            dropped = np.flatnonzero((self._seen == t) & ~np.isfinite(self.scores))
            self._score_in_full(f"rest-{t}", dropped)

    def _plausible(self, P: NDArray[np.float32]) -> tuple[Floats, Floats]:
        consistency = {name: v for name, v in self._consistency.items() if name != "alpha"}
        return plausible_scores(P, self._size, **consistency)

    def _score_in_full(self, name: str, rows: Ints) -> None:
        """Score candidates that have seen equally many patches over all of theirs."""
        for i, block in enumerate(self.patches.blocks(rows)):
            P = self._evaluate_in_full(f"{name}-{i}", block)
            bar = self.bar
            scores = _piecewise(lambda part: patch_consistency(part, **self._consistency), P)
            self.scores[block] = scores
            # Only of those that may be among the best it matters.
            best = np.flatnonzero(scores >= bar)
            for k, t in enumerate(self.stages):
                high = self._plausible(P[best, :t])[1]
                self._surprises[block[best], k] = scores[best] > high * (1 + _ROUNDING)

    def _evaluate_in_full(self, name: str, rows: Ints) -> NDArray[np.float32]:
        t = int(self._seen[rows[0]])
        if t == 0:
            return self.patches.evaluate(name, rows, 0, self.patches.n_patches)
        bounds = [0, *(stage for stage in self.stages if stage <= t)]
        known = self.patches.look(name, rows, bounds)
        rest = self.patches.evaluate(name, rows, t, self.patches.n_patches)
        return np.concatenate([known, rest], axis=1)


def _piecewise(
    function: Callable[[NDArray[Any]], Floats], P: NDArray[Any], *, n_copies: int = 1
) -> Floats:
    """Apply a function of candidates to a few at a time."""
    step = max(1, _PIECE // max(1, P.shape[1] * P.shape[2] * n_copies))
    if len(P) <= step:
        return function(P)
    return np.concatenate([function(P[at : at + step]) for at in range(0, len(P), step)])
