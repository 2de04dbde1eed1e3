"""Where the candidates of a pool lie, and for how many of them each label stands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from .._candidates import embedder, pick_rows
from ..selection import shares_of_pool, systematic_sample
from .pool import embeddings, pool_length

__all__ = ["PoolPlaces", "compares_directions", "untaught"]

# Of a larger pool, so many stand for all.
_MOST = 2**14


class PoolPlaces:
    """Embeddings of a pool, or of a sample of a large one, by the model before it was taught.

    What it has learnt since makes candidates of one class alike.

    Parameters
    ----------
    estimator : estimator
        Embeds; not changed.
    X_pool : array-like of shape (n, ...)
        Candidates.

    Attributes
    ----------
    estimator : estimator
        As before it was taught, where it can embed so.
    X_pool : array-like
        The pool.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> places = PoolPlaces(LogisticRegression(), np.array([[0.0], [0.1], [0.2], [9.0]]))
    >>> places.shares(np.array([[0.1], [9.0]]))
    array([1.33333333, 0.66666667])
    """

    def __init__(self, estimator: Any, X_pool: Any) -> None:
        self.estimator, self.X_pool = untaught(estimator, X_pool), X_pool
        n = pool_length(X_pool)
        self._rows = None
        if n > _MOST:
            self._rows = np.unique(systematic_sample(np.ones(n), _MOST, np.random.default_rng(0)))
        self._embedded: NDArray[np.float32] | None = None

    def embed(self, X: Any) -> NDArray[np.float32]:
        """Embed other candidates in the same way."""
        return embeddings(self.estimator, X)

    def embed_pool(self, rows: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Embed candidates of the pool, those at hand by default; all of a small pool once."""
        if rows is not None and (self._rows is not None or len(rows) < pool_length(self.X_pool)):
            return embeddings(self.estimator, self.X_pool, rows)
        if self._embedded is None:
            self._embedded = embeddings(self.estimator, self.X_pool, self._rows)
        return self._embedded

    def shares(self, X: Any) -> NDArray[np.float64]:
        """Share of the pool that lies nearest to each of the candidates X, with mean 1.

        Parameters
        ----------
        X : array-like of shape (l, ...)
            Labelled candidates.

        Returns
        -------
        ndarray of shape (l,), float64
            Weights; each candidate stands for itself at least.
        """
        return shares_of_pool(
            self.embed_pool(),
            self.embed(X),
            directions=compares_directions(self.estimator, self.X_pool),
            n=pool_length(self.X_pool),
        )


def compares_directions(estimator: Any, X_pool: Any) -> bool:
    """Whether embeddings are compared by direction: features of no CNN have none to speak of."""
    is_table = len(np.shape(X_pool)) <= 2
    return not is_table or embedder(getattr(estimator, "estimator", None)) is not None


def untaught(estimator: Any, X_pool: Any) -> Any:
    """Copy an estimator as it was before it was taught, if it can embed the pool so; else itself.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> class Embeds(LogisticRegression):
    ...     def embed(self, X): return X
    >>> hasattr(untaught(Embeds().fit([[0.0], [1.0]], [0, 1]), np.zeros((5, 1))), "classes_")
    False
    """
    if not callable(getattr(estimator, "embed", None)):
        return estimator
    try:
        before = clone(estimator)
        before.embed(pick_rows(X_pool, np.arange(1)))
    except (NotFittedError, TypeError):  # it has no pre-trained weights, or cannot be cloned
        return estimator
    return before
