"""The candidates that were labelled, wherever a learner or classifier keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .unwrapping import unwrapped

__all__ = ["labelled_candidates"]


def labelled_candidates(classifier: Any) -> tuple[Any, NDArray[Any]]:
    """Find the candidates that were labelled, and their labels.

    Parameters
    ----------
    classifier : learner or classifier
        An `AIFTClassifier` remembers them, and so does a learner.

    Returns
    -------
    X : array-like of shape (l, ...)
        Candidates; None where nobody remembers them.
    y : ndarray of shape (l,)
        Their labels.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier
    >>> X, y = np.arange(6.0).reshape(3, 2), ["a", "b", "a"]
    >>> labelled_candidates(AIFTClassifier(LogisticRegression()).fit(X, y))[1].tolist()
    ['a', 'b', 'a']
    """
    memory = getattr(unwrapped(classifier), "memory_", None)
    if memory is not None:
        return memory.X, np.asarray(memory.y)
    X = getattr(classifier, "X_training", None)
    y = getattr(classifier, "y_training", None)
    return (None, np.empty(0)) if X is None else (X, np.asarray(y))
