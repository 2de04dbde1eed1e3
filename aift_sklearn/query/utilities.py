"""Parts of AIFT's score as utilities, for modAL's combinations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pool import pool_length
from .unwrapping import candidate_scorer, knows_two_classes

__all__ = ["patch_diversity", "patch_entropy"]

Floats = NDArray[np.float64]


def patch_entropy(classifier: Any, X: Any, *, alpha: float = 0.25) -> Floats:
    """Entropy of each candidate's patches, as a utility for modAL's combinations.

    Parameters
    ----------
    classifier : AIFTLearner, modAL learner, or AIFTClassifier
        What scores the candidates.
    X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
        Unlabelled candidates.
    alpha : float in (0, 1], default=0.25
        Fraction of the patches kept by majority selection.

    Returns
    -------
    ndarray of shape (n,), float64
        Summed entropy in nats; 1 for every candidate before labels of two classes are known.

    Examples
    --------
    >>> from modAL.utils.combination import make_linear_combination
    >>> utility = make_linear_combination(patch_entropy, patch_diversity, weights=[1.0, 0.1])
    """
    return _utility(classifier, X, alpha=alpha, diversity_weight=0.0)


def patch_diversity(classifier: Any, X: Any, *, alpha: float = 0.25) -> Floats:
    """Contradiction among each candidate's patches, as a utility for modAL's combinations.

    Parameters
    ----------
    classifier : AIFTLearner, modAL learner, or AIFTClassifier
        What scores the candidates.
    X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
        Unlabelled candidates.
    alpha : float in (0, 1], default=0.25
        Fraction of the patches kept by majority selection, at least two.

    Returns
    -------
    ndarray of shape (n,), float64
        Summed symmetric Kullback-Leibler divergence in nats; 1 for every candidate before labels
        of two classes are known.

    Examples
    --------
    >>> from modAL.utils.combination import make_product
    >>> utility = make_product(patch_entropy, patch_diversity)
    """
    return _utility(classifier, X, alpha=alpha, entropy_weight=0.0)


def _utility(classifier: Any, X: Any, **consistency: Any) -> Floats:
    estimator = candidate_scorer(classifier)
    if not knows_two_classes(estimator):
        return np.ones(pool_length(X))
    return np.asarray(estimator.score_candidates(X, **consistency))
