"""The honest yardstick: candidates drawn at random, labelled, and never trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Performance", "Yardstick", "draw_yardstick", "measure"]

Array = NDArray[Any]

# Most of the groups that are kept from training.
_SHARE = 0.2
# Fewer groups than these tell little; so many are set aside of three times as many.
_FEW = 5
_RESAMPLES, _LEVEL = 2000, 0.95


class Yardstick(NamedTuple):
    """What is set aside.

    Attributes
    ----------
    ids : list of str
        Candidates to label, in the order in which they are asked for.
    groups : list of str
        Groups, such as patients, of which nothing is trained on; empty where there are none.
    note : str
        What should be known of it; may be empty.
    """

    ids: list[str]
    groups: list[str]
    note: str = ""


class Performance(NamedTuple):
    """How well a model does on the yardstick, with 95 % intervals of the bootstrap.

    Attributes
    ----------
    n : int
        Labelled candidates of the yardstick.
    accuracy, accuracy_low, accuracy_high : float
        Share that is predicted as it was labelled.
    balanced, balanced_low, balanced_high : float
        Mean over the classes of the share that is found.
    """

    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    balanced: float
    balanced_low: float
    balanced_high: float


def draw_yardstick(
    ids: Sequence[str] | Array, groups: Array | None, n: int, rng: np.random.Generator
) -> Yardstick:
    """Draw candidates for the yardstick, whole groups apart.

    Parameters
    ----------
    ids : sequence of str, length n
        The pool.
    groups : ndarray of str, or None
        Patient or slide of each. A fifth of the groups, or five where there are few, and no more
        than ``n``, are set aside; candidates are drawn from them at random.
    n : int
        How many. At most a half of the pool is taken.
    rng : Generator
        Draws.

    Examples
    --------
    >>> ids, groups = list("abcdefgh"), np.array(list("11223344"))
    >>> drawn = draw_yardstick(ids, groups, 2, np.random.default_rng(0))
    >>> len(drawn.ids), len(drawn.groups)
    (2, 1)
    """
    ids = np.asarray(ids, dtype=str)
    n = min(n, len(ids) // 2)
    if n == 0:
        return Yardstick([], [])
    names = None if groups is None else np.unique(groups)
    if groups is None or names is None or len(names) < 2:
        note = "" if groups is None else "all candidates are of one group, which training sees too"
        return Yardstick(ids[rng.choice(len(ids), n, replace=False)].tolist(), [], note)
    chosen = _choose_groups(groups, n, rng)
    rows = np.flatnonzero(np.isin(groups, chosen))
    drawn = rng.choice(rows, min(n, len(rows)), replace=False)
    notes = []
    if len(drawn) < n:
        notes.append(f"{len(drawn)} candidates, all there are in the groups set aside")
    if len(chosen) < _FEW:
        notes.append(f"of {len(chosen)} groups, which tell little: intervals are wide")
    return Yardstick(ids[drawn].tolist(), sorted(chosen), "; ".join(notes))


def _choose_groups(groups: Array, n: int, rng: np.random.Generator) -> list[str]:
    """Draw groups to set aside, with at most half of all candidates; at least the smallest."""
    names, sizes = np.unique(groups, return_counts=True)
    size_of = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    share = math.ceil(_SHARE * len(names))
    most = max(1, min(n, max(share, min(_FEW, len(names) // 3))))
    chosen: list[str] = []
    room = len(groups) // 2
    for name in rng.permutation(names).tolist():
        if size_of[name] <= room and len(chosen) < most:
            chosen.append(name)
            room -= size_of[name]
    return chosen or [min(names.tolist(), key=lambda name: (size_of[name], name))]


def measure(
    labels: Mapping[str, str],
    predicted: Mapping[str, str],
    groups: Mapping[str, str] | None = None,
    *,
    n_resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Performance | None:
    """Compare predictions with labels of the yardstick.

    Parameters
    ----------
    labels, predicted : mapping of str to str
        Id → class.
    groups : mapping of str to str, optional
        Id → group: groups are drawn together, since their candidates are alike.
    n_resamples : int, default=2000
        Draws of the bootstrap.
    seed : int, default=0
        Seeds them.

    Returns
    -------
    Performance or None
        None where nothing was both labelled and predicted.

    Examples
    --------
    >>> found = measure({"a": "x", "b": "y", "c": "y"}, {"a": "x", "b": "y", "c": "x"})
    >>> found.n, round(found.accuracy, 3), found.balanced
    (3, 0.667, 0.75)
    """
    known = sorted(labels.keys() & predicted.keys())
    if not known:
        return None
    truth, y = np.unique([labels[name] for name in known], return_inverse=True)
    right = np.array([labels[name] == predicted[name] for name in known])
    own = [name if groups is None else groups.get(name, name) for name in known]
    _, group = np.unique(own, return_inverse=True)
    # Of each group and class: how many, and how many of them are right.
    counts = np.zeros((group.max() + 1, len(truth), 2))
    np.add.at(counts, (group, y), np.stack([np.ones(len(right)), right], axis=1))
    rng = np.random.default_rng(seed)
    n_groups = len(counts)
    times = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)
    drawn = np.einsum("rg,gkc->rkc", times.astype(np.float64), counts)
    widen = _Widening(counts)
    right_of, of_each = counts.sum(axis=0)[:, 1], counts.sum(axis=0)[:, 0]
    accuracy, balanced = float(right.mean()), float(np.mean(right_of / of_each))
    centre, half = widen.wilson(np.array([right.sum()]), np.array([len(right)]))
    drawn_accuracy = drawn[..., 1].sum(axis=1) / drawn[..., 0].sum(axis=1)
    low, high = _interval(drawn_accuracy, accuracy, centre[0], half[0])
    # The mean over the classes: centres are averaged, and halves add up as errors do.
    centres, halves = widen.wilson(right_of, of_each)
    combined = float(np.sqrt((halves**2).sum())) / len(halves)
    balanced_low, balanced_high = _interval(
        _recalls(drawn), balanced, float(centres.mean()), combined
    )
    return Performance(len(right), accuracy, low, high, balanced, balanced_low, balanced_high)


def _recalls(counts: Array) -> Array:
    """Mean share that is found over the classes that occur: (..., K, 2) → (...)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanmean(counts[..., 1] / counts[..., 0], axis=-1))


class _Widening:
    """Wilson's intervals for candidates that come in groups.

    Candidates of a group are alike, so they count for fewer: by the design effect, of the
    correlation within groups that an analysis of variance finds. Few groups tell little of it, so
    quantiles are those of Student's t.

    Parameters
    ----------
    counts : ndarray of shape (G, K, 2)
        Candidates of each group and class, and those of them that are right.
    """

    def __init__(self, counts: Array) -> None:
        from scipy.stats import t

        of, right = counts.sum(axis=1).T
        self._share = _effective(of, right) / of.sum()
        n_groups = len(of)
        self._z = float(t.ppf((1 + _LEVEL) / 2, n_groups - 1)) if n_groups > 1 else np.inf

    def wilson(self, right: Array, of: Array) -> tuple[Array, Array]:
        """Centres and halves of the intervals of shares."""
        if not np.isfinite(self._z):
            return np.full(len(of), 0.5), np.full(len(of), 0.5)
        n, value, z2 = of * self._share, right / of, self._z**2
        centre = (value + z2 / (2 * n)) / (1 + z2 / n)
        half = self._z / (1 + z2 / n) * np.sqrt(value * (1 - value) / n + z2 / (4 * n * n))
        return centre, half


def _effective(of: Array, right: Array) -> float:
    """Independent candidates that so many of groups are worth."""
    n, n_groups = of.sum(), len(of)
    if n_groups < 2 or n_groups == n:
        return float(n_groups if n_groups < 2 else n)
    shares, mean = right / of, right.sum() / n
    between = (of * (shares - mean) ** 2).sum() / (n_groups - 1)
    within = (of * shares * (1 - shares)).sum() / (n - n_groups)
    typical = (n - (of**2).sum() / n) / (n_groups - 1)
    total = between + (typical - 1) * within
    # Where all are right, or all wrong, nothing tells how alike they are.
    alike = 1.0 if total == 0 else float(np.clip((between - within) / total, 0, 1))
    return float(n / (1 + ((of**2).sum() / n - 1) * alike))


def _interval(drawn: Array, value: float, centre: float, half: float) -> tuple[float, float]:
    """Interval of the bootstrap, not narrower than the other one.

    Where all are right, or few are labelled, every draw of the bootstrap is alike, and tells
    nothing.
    """
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    low, high = min(low, centre - half, value), max(high, centre + half, value)
    return max(0.0, float(low)), min(1.0, float(high))
