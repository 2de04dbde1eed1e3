"""Paired comparisons over seeds: t intervals, p-values, and Holm's correction. Arrays only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from ..errors import ParameterError

__all__ = ["LEAST_RANKED", "PairedTest", "holm", "paired_interval", "paired_test"]

Floats = NDArray[np.float64]

LEAST_RANKED = 6
"""Differences from which on the Wilcoxon signed-rank test can reach p < 0.05 at all."""


class PairedTest(NamedTuple):
    """Two-sided p-values of paired differences; see `paired_test`."""

    t: float
    wilcoxon: float


def _differences(a: ArrayLike, b: ArrayLike) -> Floats:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 1 or first.shape != second.shape or first.size == 0:
        raise ParameterError(
            f"a has shape {first.shape} and b {second.shape}; expected two vectors of the same "
            "length, one value per seed, in the same order of seeds."
        )
    difference = first - second
    if not np.isfinite(difference).all():
        raise ParameterError("a or b holds NaN or infinity; expected a number for every seed.")
    # What remains of equal differences by rounding is no spread.
    scale = max(np.abs(first).max(), np.abs(second).max())
    if np.ptp(difference) <= 8 * np.finfo(np.float64).eps * scale:
        difference = np.full_like(difference, difference.mean())
    return difference


def paired_interval(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean difference of paired values with its t interval (Student).

    The interval holds the true mean difference in ``level`` of all studies where the differences
    are about normal, however few the pairs. Resampling a handful of pairs would not: the
    percentile bootstrap of five of them covers about 85 % in the place of 95.

    Parameters
    ----------
    a, b : array-like of shape (n_seeds,)
        One value per seed, in the same order. The difference is a − b.
    level : float
        Confidence in (0, 1). A larger value widens the interval.

    Returns
    -------
    tuple of float
        (mean difference, low end, high end). A single pair has no interval: both ends are NaN.
        Where all differences are equal both ends are the mean.

    Raises
    ------
    ParameterError
        If the vectors differ in length, are empty or hold NaN, or level is outside (0, 1).

    Examples
    --------
    >>> mean, low, high = paired_interval([0.9, 0.8, 0.85], [0.8, 0.75, 0.7])
    >>> round(mean, 3), round(low, 3), round(high, 3)
    (0.1, -0.024, 0.224)
    """
    difference = _differences(a, b)
    if not 0 < level < 1:
        raise ParameterError(f"level is {level}; expected a number in (0, 1), such as 0.95.")
    n, mean = difference.size, float(difference.mean())
    if n == 1:
        return mean, float("nan"), float("nan")
    half = float(special.stdtrit(n - 1, (1 + level) / 2) * difference.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def paired_test(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """Two-sided p-values for no difference: paired t-test and Wilcoxon signed-rank test.

    The t-test agrees with `paired_interval`: p < 0.05 where the 95 % interval leaves out 0. The
    signed-rank test needs no normal differences, and is exact for few.

    Parameters
    ----------
    a, b : array-like of shape (n_seeds,)
        One value per seed, in the same order.

    Returns
    -------
    PairedTest
        ``t``, NaN for a single pair, and ``wilcoxon``, NaN for fewer than six differences other
        than 0, which could not reach 0.05 whatever they are.

    Raises
    ------
    ParameterError
        As of `paired_interval`.

    Examples
    --------
    >>> paired_test([5, 4, 6, 7, 5, 8], [1, 2, 3, 2, 4, 2]).wilcoxon  # all up: 2 of 2⁶ signs
    0.03125
    """
    difference = _differences(a, b)
    return PairedTest(_t_p_value(difference), _wilcoxon_p_value(difference))


def _t_p_value(difference: Floats) -> float:
    n = difference.size
    if n == 1:
        return float("nan")
    error = difference.std(ddof=1) / np.sqrt(n)
    if error == 0:
        return float(difference.mean() == 0)
    return float(2 * special.stdtr(n - 1, -abs(difference.mean()) / error))


def _wilcoxon_p_value(difference: Floats) -> float:
    moved = difference[difference != 0]
    if moved.size < LEAST_RANKED:
        return float("nan")
    return float(stats.wilcoxon(moved).pvalue)


def holm(p_values: ArrayLike) -> Floats:
    """Correct the p-values of several comparisons for their number, after Holm (1979).

    The smallest of k is multiplied by k, the next by k − 1, and so on; none may fall below one
    before it. The chance that any true "no difference" is called one stays below the level.

    Parameters
    ----------
    p_values : array-like of shape (k,)
        In [0, 1]; NaN stands for a comparison that was not made, and is not counted.

    Returns
    -------
    ndarray of shape (k,), float64
        Corrected p-values in the order given, at most 1.

    Raises
    ------
    ParameterError
        If a value is outside [0, 1] or there is more than one dimension.

    References
    ----------
    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 6:65–70, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03, 0.005]).round(3).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    p = np.asarray(p_values, np.float64)
    made = ~np.isnan(p)
    if p.ndim != 1 or not ((p[made] >= 0) & (p[made] <= 1)).all():
        raise ParameterError(
            f"p_values is {p_values!r:.80}; expected a vector of numbers in [0, 1]."
        )
    order = np.flatnonzero(made)[np.argsort(p[made], kind="stable")]
    corrected = np.full(p.shape, np.nan)
    factors = np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return corrected
