"""Test sets that are drawn: whole groups on one side, every class on both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

__all__ = ["draw_test"]

Array = NDArray[Any]
Ints = NDArray[np.intp]

# Orders of the groups that are tried for a split.
_SPLIT_DRAWS = 16


def draw_test(y: Array, groups: Array | None, fraction: float, seed: int) -> Ints:
    """Draw a test set: classes in proportion, as far as groups, which stay whole, allow.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Classes, each with two members at least.
    groups : ndarray of shape (n,), or None
        Patient, slide or image of each candidate.
    fraction : float
        Share of the test set.
    seed : int
        Of the draw.

    Returns
    -------
    ndarray of int
        Positions of the test set, rising.

    Raises
    ------
    DataError
        If there is one group only, or a class would be missing on a side.
    """
    rng = np.random.default_rng(seed)
    if groups is not None:
        return _draw_test_groups(y, groups, fraction, rng)
    # By hand, since every class, however rare, must have a member on either side.
    test: list[int] = []
    for members in (np.flatnonzero(y == c) for c in np.unique(y)):
        n_test = min(max(1, round(fraction * len(members))), len(members) - 1)
        test.extend(rng.permutation(members)[:n_test].tolist())
    return np.sort(test)


def _draw_test_groups(y: Array, groups: Array, fraction: float, rng: np.random.Generator) -> Ints:
    """Draw whole groups, as near as they allow to the fraction in all and in every class."""
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"all {len(y)} candidates are of the group {names.tolist()[0]!r}; expected two groups "
            "or more, since none may be on both sides. Pass no groups if candidates are unrelated."
        )
    classes, class_of = np.unique(y, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group_of.ravel(), class_of.ravel()), 1)
    in_test = _move_groups(_fill_test_side(counts, fraction, rng), counts, fraction)
    drawn = in_test[group_of.ravel()]
    for side, rows in (("test set", drawn), ("pool", ~drawn)):
        missing = np.setdiff1d(y, y[rows])
        if len(missing):
            raise DataError(
                f"no candidate of {missing.tolist()} is in the {side} when whole groups are "
                "split; try another random_state, or leave the class out."
            )
    return np.flatnonzero(drawn)


def _fill_test_side(
    counts: NDArray[np.float64], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Take groups in random order where that helps; the best of several orders.

    ``counts`` are those of groups by class, (G, K).
    """
    orders = np.stack([rng.permutation(len(counts)) for _ in range(_SPLIT_DRAWS)])
    in_test = np.zeros(orders.shape, dtype=bool)
    inside = np.zeros((_SPLIT_DRAWS, counts.shape[1]))
    for groups in orders.T:
        added = inside + counts[groups]
        better = _split_error(added, counts, fraction) < _split_error(inside, counts, fraction)
        in_test[np.arange(_SPLIT_DRAWS), groups] = better
        inside[better] = added[better]
    return np.asarray(in_test[_split_error(inside, counts, fraction).argmin()])


def _move_groups(
    in_test: NDArray[np.bool_], counts: NDArray[np.float64], fraction: float
) -> NDArray[np.bool_]:
    """Move single groups to the other side as long as that helps."""
    inside = counts[in_test].sum(axis=0)
    for _ in range(len(counts)):
        moved = inside + np.where(in_test, -1, 1)[:, None] * counts
        errors = _split_error(moved, counts, fraction)
        best = int(errors.argmin())
        if not errors[best] < _split_error(inside, counts, fraction) - 1e-12:
            break
        in_test[best] = ~in_test[best]
        inside = moved[best]
    return in_test


def _split_error(inside: NDArray[np.float64], counts: NDArray[np.float64], fraction: float) -> Any:
    """How far a test set with these class counts (..., K) is from what was asked.

    A class missing on a side counts most, then the share of all candidates, then that of each
    class.
    """
    per_class, n = counts.sum(axis=0), counts.sum()
    missing = (inside < 1).sum(axis=-1) + (per_class - inside < 1).sum(axis=-1)
    in_all = np.abs(inside.sum(axis=-1) / n - fraction)
    in_classes = np.abs(inside / per_class - fraction).mean(axis=-1)
    # Beyond the largest group the share outweighs the classes, which differ by 1 at most.
    beyond = np.maximum(0, in_all - counts.sum(axis=1).max() / n)
    return 1e6 * missing + 1e3 * beyond + 2 * in_all + in_classes
