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
        Patient or slide of each. At most a fifth of the groups, and no more than ``n``, are set
        aside; candidates are drawn from them at random.
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
    most = max(1, min(n, math.ceil(_SHARE * len(names))))
    chosen: list[str] = []
    inside = np.zeros(len(ids), dtype=bool)
    for name in rng.permutation(names)[:most]:
        of_group = groups == name
        if chosen and (inside | of_group).sum() > len(ids) // 2:
            continue
        chosen.append(str(name))
        inside |= of_group
    rows = np.flatnonzero(inside)
    drawn = rng.choice(rows, min(n, len(rows)), replace=False)
    note = (
        "" if len(drawn) == n else f"{len(drawn)} candidates, all there are in the groups set aside"
    )
    return Yardstick(ids[drawn].tolist(), sorted(chosen), note)


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
    n = len(counts)
    times = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float64)
    drawn = np.einsum("rg,gkc->rkc", times, counts)
    accuracy = drawn[..., 1].sum(axis=1) / drawn[..., 0].sum(axis=1)
    low, high = _widened(accuracy, right.mean(), len(right))
    recalls = _recalls(drawn)
    balanced_low, balanced_high = _widened(recalls, float(_recalls(counts.sum(axis=0))), len(y))
    return Performance(
        len(right),
        float(right.mean()),
        low,
        high,
        float(_recalls(counts.sum(axis=0))),
        balanced_low,
        balanced_high,
    )


def _recalls(counts: Array) -> Array:
    """Mean share that is found over the classes that occur: (..., K, 2) → (...)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanmean(counts[..., 1] / counts[..., 0], axis=-1))


def _widened(drawn: Array, value: float, n: int) -> tuple[float, float]:
    """Interval of the bootstrap, not narrower than Wilson's of as many candidates.

    Where all are right, or few are labelled, every draw of the bootstrap is alike, and tells
    nothing.
    """
    from scipy.stats import norm

    z = float(norm.ppf((1 + _LEVEL) / 2))
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return max(0.0, min(float(low), centre - half)), min(1.0, max(float(high), centre + half))
