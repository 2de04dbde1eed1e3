"""Scores of candidates from the probabilities of their patches. NumPy only, no model, no state.

``P`` holds patch probabilities with shape (..., m, K): any leading axes (usually the n
candidates), m patches, K classes. Every function reduces the last two axes, and none depends on
the order of the patches beyond rounding; `patch_consistency` not even by that, so that ties between
candidates stay ties.

The scores are those of AIFT (Zhou et al., CVPR 2017) and ACFT (Zhou et al., Medical Image
Analysis 71:101997, 2021). With e_j the entropy of patch j and d_jl the symmetric Kullback-Leibler
divergence of patches j and l, a candidate's score is the sum of all entries of the matrix that
has λ1·e_j on its diagonal and λ2·d_jl off it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import DataError, ParameterError

__all__ = [
    "diversity",
    "entropy",
    "mutual_information",
    "patch_consistency",
    "prediction_pattern",
    "select_majority",
]

Floats = NDArray[np.float64]

EPS = 2.0**-52
"""Added to each probability inside logarithms: MATLAB's ``eps``, as in the authors' code."""

# Means are compared after rounding, so that an exact .5 is a tie whatever the order of summation;
# single precision does not keep more than six decimals of it.
_MEAN_DECIMALS = 12
_MEAN_DECIMALS_SINGLE = 6

_PATTERNS = "ABCDEFG"
_TEMPLATES: Floats = np.array(
    [
        [0.4, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.6],
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.6, 0.7, 0.8, 1.0, 1.0],
        [0.0, 0.0, 0.0, 0.1, 0.1, 0.9, 0.9, 1.0, 1.0, 1.0, 1.0],
        [0.9, 0.9, 0.9, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1],
        [0.0, 0.0, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.3, 0.9, 1.0],
        [0.0, 0.1, 0.7, 0.8, 0.8, 0.9, 0.9, 0.9, 0.9, 1.0, 1.0],
    ]
)


def _check_probabilities(P: ArrayLike) -> Floats:
    P = np.asarray(P)
    if P.ndim < 2 or 0 in P.shape[-2:]:
        raise DataError(
            f"P has shape {P.shape}; expected patch probabilities of shape (..., m, K) with at "
            "least one patch and one class. For one candidate pass P[None] or P of shape (m, K)."
        )
    if P.dtype.kind not in "fiub":
        raise DataError(f"P has dtype {P.dtype}; expected real numbers, probabilities in [0, 1].")
    P = P.astype(np.float64, copy=False)
    if P.size == 0:
        return P
    # A NaN fails every comparison, so this one test refuses NaN, inf, logits and percentages.
    if not (P.min() >= -1e-6 and P.max() <= 1 + 1e-6):
        raise DataError(
            f"P ranges from {P.min():g} to {P.max():g}; expected probabilities in [0, 1]. "
            "Pass the output of predict_patch_proba, not logits."
        )
    total = P.sum(axis=-1)
    if not np.allclose(total, 1.0, rtol=0, atol=1e-3):
        worst = total.flat[np.abs(total - 1).argmax()]
        raise DataError(
            f"the probabilities of a patch sum to {worst:g} over the last axis (P has shape "
            f"{P.shape}); expected 1. Classes go last: for two classes pass both, "
            "np.stack([1 - p, p], axis=-1)."
        )
    return P.clip(0.0, 1.0)


def _check_eps(eps: float | None) -> float:
    if eps is None:
        return EPS
    if not (isinstance(eps, (int, float, np.number)) and 0 < eps < 1):
        raise ParameterError(f"eps={eps!r}; expected a number in (0, 1), such as 2**-52.")
    return float(eps)


def _majority_size(n_patches: int, alpha: float) -> int:
    """Patches kept of m, with .5 rounded away from zero (``round`` would go to the even one)."""
    if not (isinstance(alpha, (int, float, np.number)) and 0 < alpha <= 1):
        raise ParameterError(
            f"alpha={alpha!r}; expected a fraction of the patches in (0, 1], such as 0.25."
        )
    # 0.29 * 50 is 14.499999999999998 in binary; the decimal that was meant is 14.5.
    return max(1, math.floor(round(n_patches * float(alpha), 9) + 0.5))


def n_kept(n_patches: int, alpha: float, diversity_weight: float) -> int:
    """Patches that enter the score of `patch_consistency`, s of m.

    Examples
    --------
    >>> n_kept(16, 0.25, 1.0), n_kept(4, 0.25, 1.0), n_kept(4, 0.25, 0.0)
    (4, 2, 1)
    """
    size = _majority_size(n_patches, alpha)
    # A single patch contradicts nothing.
    return min(max(size, 2), n_patches) if diversity_weight > 0 else size


def _decimals(P: ArrayLike) -> int:
    """Decimals of a mean that the precision of the probabilities supports."""
    dtype = np.asarray(P).dtype
    single = dtype.kind == "f" and dtype.itemsize <= 4
    return _MEAN_DECIMALS_SINGLE if single else _MEAN_DECIMALS


def _keep_majority(P: Floats, size: int, decimals: int) -> Floats:
    """Keep the ``size`` patches that agree most with the majority, in a canonical order."""
    # Sorted before summing: the mean is then the same for every order of the patches.
    mean = np.sort(P, axis=-2).mean(axis=-2).round(decimals)
    majority = mean.argmax(axis=-1)[..., None, None]
    leading = np.take_along_axis(P, majority, axis=-1)[..., 0]
    order = np.argsort(-leading, kind="stable")
    ranked = np.take_along_axis(leading, order, axis=-1)
    # Ties are rare; only their candidates pay for the sort over all classes.
    tied = (ranked[..., 1:] == ranked[..., :-1]).any(axis=-1)
    if P.shape[-1] > 2 and tied.any():
        keys = [P[tied][..., c] for c in reversed(range(P.shape[-1]))]
        order[tied] = np.lexsort([*keys, -leading[tied]])
    elif P.shape[-1] == 2 and tied.any():
        other = np.take_along_axis(P, 1 - majority, axis=-1)[..., 0]
        order[tied] = np.lexsort([other[tied], -leading[tied]])
    return np.take_along_axis(P, order[..., :size, None], axis=-2)


def _entropy(P: Floats, eps: float) -> Any:
    # With eps inside the logarithm a certain patch has -2e-16 instead of 0.
    return np.maximum(-(P * np.log(P + eps)).sum(axis=(-2, -1)), 0.0)


def _diversity(P: Floats, eps: float) -> Any:
    # Measured from the first patch, the centred form is exactly 0 for identical patches: their
    # mean, rounded, may differ from each of them.
    logs = np.log(P + eps)
    shifted, shifted_logs = P - P[..., :1, :], logs - logs[..., :1, :]
    centred = shifted - shifted.mean(axis=-2, keepdims=True)
    centred_logs = shifted_logs - shifted_logs.mean(axis=-2, keepdims=True)
    total = (centred * centred_logs).sum(axis=(-2, -1))
    return np.maximum(2.0 * P.shape[-2] * total, 0.0)


def entropy(P: ArrayLike, *, eps: float | None = None) -> Floats:
    """Summed entropy of a candidate's patches: how uncertain the model is about them.

    Parameters
    ----------
    P : array-like of shape (..., m, K)
        Patch probabilities.
    eps : float, default=2**-52
        Added to each probability inside the logarithm. It hardly matters here; see `diversity`.

    Returns
    -------
    ndarray of shape (...), float64, in nats
        Σ_j e_j with e_j = −Σ_c P[j,c]·log P[j,c]; from 0 (every patch certain) to m·log K (every
        patch undecided). It grows with the number of patches m.

    Raises
    ------
    DataError
        If ``P`` has fewer than two axes, holds a NaN, or is not made of probabilities.

    References
    ----------
    Zhou et al., CVPR 2017, eq. 1; Zhou et al., Medical Image Analysis 71, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([.4, .4, .4, .5, .5, .5, .5, .5, .5, .6, .6])   # pattern A: undecided
    >>> P = np.stack([1 - p, p], axis=-1)
    >>> P.shape, entropy(P).round(2)
    ((11, 2), np.float64(7.52))
    """
    result: Floats = _entropy(_check_probabilities(P), _check_eps(eps))
    return result


def diversity(P: ArrayLike, *, eps: float | None = None) -> Floats:
    """Symmetric Kullback-Leibler divergence summed over all pairs of a candidate's patches.

    It tells how much the patches of one candidate, which share one label, contradict each other.

    Parameters
    ----------
    P : array-like of shape (..., m, K)
        Patch probabilities.
    eps : float, default=2**-52
        Added to each probability inside the logarithm. **It decides the result where
        probabilities saturate**: the two-camp pattern C scores 2816.7 with 2**-52, 1302.3 with
        1e-7 and 602.1 with 1e-3. A larger value makes contradictions between certain patches
        count less.

    Returns
    -------
    ndarray of shape (...), float64, in nats
        Σ_j Σ_l d_jl with d_jl = Σ_c (P[j,c] − P[l,c])·log(P[j,c] / P[l,c]); every pair counts
        twice. 0 for identical patches and for a single one; it grows with m².

    Raises
    ------
    DataError
        If ``P`` has fewer than two axes, holds a NaN, or is not made of probabilities.

    Notes
    -----
    Computed in O(m·K) as 2·m·Σ_c Σ_j (P[j,c] − P̄[c])·(L[j,c] − L̄[c]) with L = log(P + eps). The
    algebraically equal form without centring cancels: identical patches would score 1e-13.

    References
    ----------
    Zhou et al., CVPR 2017, eq. 2; Zhou et al., Medical Image Analysis 71, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([0, 0, 0, .1, .1, .9, .9, 1, 1, 1, 1])   # pattern C: two camps
    >>> diversity(np.stack([1 - p, p], axis=-1)).round(2)
    np.float64(2816.66)
    """
    result: Floats = _diversity(_check_probabilities(P), _check_eps(eps))
    return result


def select_majority(P: ArrayLike, alpha: float) -> Floats:
    """Keep the fraction of a candidate's patches that agree most with its majority prediction.

    Random augmentation spoils some patches (the lesion is cut off, say). Their predictions are
    noise, and the majority vote leaves them out before the candidate is scored.

    Parameters
    ----------
    P : array-like of shape (..., m, K)
        Patch probabilities.
    alpha : float in (0, 1]
        Fraction kept; 1 keeps every patch. A smaller value forgives more contradiction.

    Returns
    -------
    ndarray of shape (..., s, K), float64
        The s = max(1, round(alpha·m)) patches, .5 rounding away from zero, with the highest
        probability of the class ŷ = argmax_c Σ_j P[j,c], highest first. A tie in ŷ goes to the
        lower class; patches that tie are ordered by their other probabilities.

    Raises
    ------
    ParameterError
        If ``alpha`` is outside (0, 1].
    DataError
        If ``P`` is not made of probabilities of shape (..., m, K).

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([0, 0, .1, .1, .1, .1, .2, .2, .3, .9, 1])   # low, with two outliers
    >>> select_majority(np.stack([1 - p, p], axis=-1), alpha=1/4)[:, 1].round(2)
    array([0. , 0. , 0.1])
    """
    decimals = _decimals(P)
    P = _check_probabilities(P)
    return _keep_majority(P, _majority_size(P.shape[-2], alpha), decimals)


def patch_consistency(
    P: ArrayLike,
    *,
    alpha: float = 0.25,
    entropy_weight: float = 1.0,
    diversity_weight: float = 1.0,
    reduction: Literal["sum", "mean"] = "sum",
    eps: float | None = None,
) -> Floats:
    """Score candidates by the uncertainty and contradiction of their patches (the AIFT score).

    Parameters
    ----------
    P : array-like of shape (..., m, K)
        Patch probabilities.
    alpha : float in (0, 1], default=0.25
        Fraction of the patches that enters the score, after majority selection. With 1 all enter,
        those that augmentation spoiled included.
    entropy_weight : float ≥ 0, default=1
        λ1. A larger value asks for candidates that the model is unsure of.
    diversity_weight : float ≥ 0, default=1
        λ2. A larger value asks for candidates whose patches contradict each other. Where it
        counts, at least two patches are kept, whatever ``alpha``.
    reduction : {"sum", "mean"}, default="sum"
        "sum" is the paper's: the entropy grows with the number s of patches kept, the diversity
        with s², so that for large s the score is nearly all diversity. "mean" divides the entropy
        by s and the diversity by the s(s − 1) ordered pairs: the balance does not depend on s.
    eps : float, default=2**-52
        See `diversity`.

    Returns
    -------
    ndarray of shape (...), float64
        λ1·Σ_j e_j + λ2·Σ_j Σ_l d_jl over the patches kept. Higher: label it sooner.

    Raises
    ------
    ParameterError
        If a parameter is outside its range.
    DataError
        If ``P`` is not made of probabilities of shape (..., m, K).

    References
    ----------
    Zhou et al., CVPR 2017, eq. 3 and Alg. 1; Zhou et al., Medical Image Analysis 71, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([0, .1, .2, .3, .4, .4, .6, .7, .8, 1, 1])   # pattern B: most useful
    >>> P = np.stack([1 - p, p], axis=-1)
    >>> patch_consistency(P).round(2), patch_consistency(P, alpha=1).round(2)
    (np.float64(21.62), np.float64(1241.77))
    """
    decimals = _decimals(P)
    P, eps = _check_probabilities(P), _check_eps(eps)
    for name, weight in (
        ("entropy_weight", entropy_weight),
        ("diversity_weight", diversity_weight),
    ):
        if not (isinstance(weight, (int, float, np.number)) and 0 <= weight < math.inf):
            raise ParameterError(f"{name}={weight!r}; expected a finite number ≥ 0.")
    if reduction not in ("sum", "mean"):
        raise ParameterError(f"reduction={reduction!r}; expected 'sum' or 'mean'.")
    size = n_kept(P.shape[-2], alpha, diversity_weight)
    kept = _keep_majority(P, size, decimals)
    n_pairs = max(size * (size - 1), 1)
    per_patch, per_pair = (1, 1) if reduction == "sum" else (size, n_pairs)
    score = np.zeros(P.shape[:-2])
    if entropy_weight > 0:
        score = score + entropy_weight * _entropy(kept, eps) / per_patch
    if diversity_weight > 0:
        score = score + diversity_weight * _diversity(kept, eps) / per_pair
    return score[()]


def mutual_information(P: ArrayLike, *, eps: float | None = None) -> Floats:
    """Entropy of the mean prediction minus the mean entropy: the BALD score of the patches.

    Parameters
    ----------
    P : array-like of shape (..., m, K)
        Patch probabilities; the patches take the place of BALD's posterior samples.
    eps : float, default=2**-52
        Added to each probability inside the logarithm.

    Returns
    -------
    ndarray of shape (...), float64, in nats
        From 0 (all patches predict the same) to log K (each is certain, all differ). It does not
        grow with m.

    Raises
    ------
    DataError
        If ``P`` is not made of probabilities of shape (..., m, K).

    References
    ----------
    Houlsby et al., Bayesian Active Learning for Classification and Preference Learning, 2011.

    Examples
    --------
    >>> mutual_information([[1, 0], [0, 1]]).round(4), mutual_information([[.5, .5], [.5, .5]])
    (np.float64(0.6931), np.float64(0.0))
    """
    P, eps = _check_probabilities(P), _check_eps(eps)
    # The mean of sorted columns is the same for every order of the patches.
    mean = np.sort(P, axis=-2).mean(axis=-2, keepdims=True)
    gained: Floats = np.maximum(_entropy(mean, eps) - _entropy(P, eps) / P.shape[-2], 0.0)
    return gained


def prediction_pattern(P: ArrayLike) -> NDArray[np.str_]:
    """Name the typical shape of a candidate's patch probabilities, "A" to "G".

    Parameters
    ----------
    P : array-like of shape (..., m, K)
        Patch probabilities.

    Returns
    -------
    ndarray of shape (...), str
        "A" uncertain everywhere; "B" flat: uncertain and contradictory, the most useful; "C" two
        camps, usually augmentation noise; "D" and "E" certain, high or low; "F" and "G" certain
        but with outliers, low or high. The nearest of seven templates by the distance between
        the sorted probabilities of class 1 (K = 2), or of the leading class and the runner-up,
        each against the rest (K > 2; "high" then means that the leading class is predicted).

    Raises
    ------
    DataError
        If ``P`` is not made of probabilities of shape (..., m, K), or has only one class.

    References
    ----------
    Zhou et al., CVPR 2017, table 1.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([[.45, .5, .55, .5], [0, 0, 1, 1], [1, 1, .95, 1]])
    >>> prediction_pattern(np.stack([1 - p, p], axis=-1))
    array(['A', 'C', 'D'], dtype='<U1')
    """
    decimals = _decimals(P)
    P = _check_probabilities(P)
    if P.shape[-1] < 2:
        raise DataError(f"P has shape {P.shape}; a pattern needs at least two classes.")
    if P.shape[-1] == 2:
        distance = _template_distance(P[..., 1], _TEMPLATES)
    else:
        mean = np.sort(P, axis=-2).mean(axis=-2).round(decimals)
        first_two = np.argsort(-mean, kind="stable")[..., None, :2]
        leading = np.take_along_axis(P, first_two, axis=-1)
        mirrored = (1.0 - _TEMPLATES)[:, ::-1]
        distance = _template_distance(leading[..., 0], _TEMPLATES)
        distance = distance + _template_distance(leading[..., 1], mirrored)
    nearest: NDArray[np.str_] = np.array(list(_PATTERNS))[distance.argmin(axis=-1)]
    return nearest


def _template_distance(p: Floats, templates: Floats) -> Floats:
    """Squared distance (..., 7) between p (..., m) and the templates (7, 11) as quantiles."""
    m, n_quantiles = p.shape[-1], templates.shape[-1]
    position = np.linspace(0.0, m - 1.0, n_quantiles)
    below = np.minimum(position.astype(int), max(m - 2, 0))
    weight = position - below
    ranked = np.sort(p)
    upper = ranked[..., np.minimum(below + 1, m - 1)]
    quantiles = ranked[..., below] * (1 - weight) + upper * weight
    distance: Any = ((quantiles[..., None, :] - templates) ** 2).sum(axis=-1)
    return np.asarray(distance, dtype=np.float64)
