"""What a classifier starts from: an estimator and patches, chosen or by default."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import has_fit_parameter

from .._candidates import seeded
from ..errors import ParameterError
from ..patches import AffinePatches, JitterPatches

__all__ = ["choose_estimator", "fit_patches"]


def choose_estimator(estimator: Any, n_dims: int) -> Any:
    """Estimator that was chosen, or the default for candidates of so many axes; to be cloned."""
    if estimator is not None:
        return estimator
    if n_dims == 2:
        return LogisticRegression(max_iter=1000)
    from ..networks.cnn import CNNClassifier

    return CNNClassifier()


def fit_patches(patches: Any, X: Any, rng: np.random.RandomState, weight: Any = None) -> Any:
    """Fit patches that were chosen, or the default ones, to candidates.

    Parameters
    ----------
    patches : transformer or None
        As of `AIFTClassifier`; never changed.
    X : array or pool of shape (n, ...)
        Candidates.
    rng : RandomState
        Seeds patches without a random state.
    weight : ndarray of shape (n,), optional
        Weights of the candidates, for patches that take them.

    Returns
    -------
    transformer or None
        None of candidates that are patches already.
    """
    if len(X.shape) == 5:
        if patches is not None:
            raise ParameterError(
                f"patches={patches!r} and X of shape {X.shape}, which holds patches that "
                "were cut already; pass patches=None, or candidates of shape (n, C, H, W)."
            )
        return None
    if patches is None:
        own: Any = JitterPatches() if len(X.shape) == 2 else AffinePatches()
    else:
        own = seeded(clone(patches), rng)
    weighs = weight is not None and has_fit_parameter(own, "sample_weight")
    return own.fit(X, **({"sample_weight": weight} if weighs else {}))
