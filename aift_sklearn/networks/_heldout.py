"""Images held out of training: which they are, and how sure they allow a network to be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

__all__ = ["best_temperature", "hold_out"]

# Fewer held-out images tell nothing.
_FEWEST = 4

# A few held-out images, all of them right, would ask for a temperature of 0. Such probabilities
# hide how unsure the network is of candidates that are not labelled yet.
_SHARPEST, _FLATTEST = 0.2, 20.0


def hold_out(
    y: NDArray[Any],
    fraction: float,
    rng: np.random.Generator,
    groups: NDArray[Any] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose what is held out, of each class in proportion.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Classes.
    fraction : float
        Share of each class, rounded; one group of each is always trained on.
    rng : numpy Generator
        Draws.
    groups : ndarray of shape (n,), optional
        Rows of one group stay together, and count as one, of the class of the first. By default
        each row is its own.

    Returns
    -------
    kept, held : ndarray of int
        Rows to train on and rows held out, both rising. Nothing is held out where that would be
        fewer than four groups, or of one class.

    Examples
    --------
    >>> kept, held = hold_out(np.repeat(["a", "b"], [10, 15]), 0.2, np.random.default_rng(0))
    >>> len(kept), (held < 10).sum().item(), (held >= 10).sum().item()
    (20, 2, 3)
    """
    groups = np.arange(len(y)) if groups is None else groups
    _, firsts, of_row = np.unique(groups, return_index=True, return_inverse=True)
    labels = y[firsts]
    is_held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        is_held[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    if is_held.sum() < _FEWEST or len(np.unique(labels[is_held])) < 2:
        is_held[:] = False
    return np.flatnonzero(~is_held[of_row]), np.flatnonzero(is_held[of_row])


def best_temperature(
    logits: NDArray[np.floating[Any]],
    y: NDArray[np.int64],
    weight: NDArray[np.float64] | None = None,
) -> float:
    """Temperature T by which logits are divided to predict y best.

    Parameters
    ----------
    logits : ndarray of shape (n, K)
        Of examples that were not trained on.
    y : ndarray of shape (n,), int64
        Their class indices.
    weight : ndarray of shape (n,), optional
        Their weights.

    Returns
    -------
    float
        T in [0.2, 20] with the smallest mean log loss. Above 1 the network was too sure.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Examples
    --------
    >>> logits = np.array([[4.0, 0.0]] * 4)  # always sure, and right three times in four
    >>> T = best_temperature(logits, np.array([0, 0, 0, 1]))
    >>> round(float(1 / (1 + np.exp(-4 / T))), 2)
    0.75
    """
    logits = np.asarray(logits, dtype=np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)

    # The loss is convex in 1/T, so that it has one minimum in log T.
    def loss(log_temperature: float) -> float:
        scaled = logits * math.exp(-log_temperature)
        right = np.take_along_axis(scaled, y[:, None], axis=1)[:, 0]
        return float(np.average(np.log(np.exp(scaled).sum(axis=1)) - right, weights=weight))

    bounds = math.log(_SHARPEST), math.log(_FLATTEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x)
