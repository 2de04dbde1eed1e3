"""How far a model is to be trusted: its skill over chance on the labelled candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

__all__ = ["trust"]

_FOLDS = 5


def trust(embeddings: ArrayLike, y: ArrayLike) -> float:
    """Root of the skill over chance of a logistic regression on embeddings, out of fold: τ.

    Parameters
    ----------
    embeddings : array-like of shape (l, E)
        Of the labelled candidates.
    y : array-like of shape (l,)
        Their classes.

    Returns
    -------
    float
        0 where candidates of a class are told no better than by chance, or too few are labelled to
        tell; 1 where all are told right. Chance is the balanced accuracy of one in K classes.

    Notes
    -----
    Five folds, or as many as the second rarest class has candidates. The folds do not change with a
    seed.

    Examples
    --------
    >>> trust([[0.0], [0.1], [5.0], [5.1]], ["a", "a", "b", "b"]), trust([[0.0]], ["a"])
    (1.0, 0.0)
    """
    X, labels = np.asarray(embeddings, dtype=np.float64), np.asarray(y)
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return 0.0
    n_folds = min(_FOLDS, int(np.sort(counts)[1]), len(labels) // 2)
    if n_folds < 2:
        return 0.0
    folds = _folds(codes, n_folds)
    predicted = np.empty_like(codes)
    for fold in range(n_folds):
        inside = folds == fold
        predicted[inside] = _predict(X[~inside], codes[~inside], X[inside])
    recalls = [np.mean(predicted[codes == k] == k) for k in range(len(classes))]
    chance = 1 / len(classes)
    return float(np.sqrt(max(0.0, (np.mean(recalls) - chance) / (1 - chance))))


def _folds(codes: NDArray[np.intp], n_folds: int) -> NDArray[np.intp]:
    """Folds that the candidates of each class are dealt to in turn, in a random order."""
    rng = np.random.default_rng(0)
    folds = np.empty_like(codes)
    for k in np.unique(codes):
        members = rng.permutation(np.flatnonzero(codes == k))
        folds[members] = (np.arange(len(members)) + rng.integers(n_folds)) % n_folds
    return folds


def _predict(X: NDArray[Any], y: NDArray[Any], X_new: NDArray[Any]) -> NDArray[Any]:
    if len(np.unique(y)) == 1:
        return np.full(len(X_new), y[0])
    # Of embeddings of about unit variance in all.
    centre = X.mean(axis=0)
    scale = np.sqrt(((X - centre) ** 2).sum(axis=1).mean()) or 1.0
    head = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    head.fit((X - centre) / scale, y)
    found: NDArray[Any] = head.predict((X_new - centre) / scale)
    return found
