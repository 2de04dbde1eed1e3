"""Where the candidates of a pool lie, and for how many of them each label stands."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from .._candidates import embedder
from ..selection import shares_of_pool, systematic_sample
from .pool import embeddings, pool_length
from .unwrapping import unwrapped

__all__ = ["PoolPlaces", "compares_directions", "places_of", "untaught"]

# Of a larger pool, so many stand for all.
_MOST = 2**14
# Kept, so that a network is exported once.
_UNTAUGHT: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


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
        self.estimator, self.X_pool = untaught(estimator), X_pool
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
        is_part = rows is not None and len(rows) < pool_length(self.X_pool)
        if rows is not None and (is_part or self._rows is not None):
            return embeddings(self.estimator, self.X_pool, rows if is_part else None)
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


def places_of(classifier: Any, X_pool: Any) -> PoolPlaces:
    """Take the places that a learner has of this pool, or make them."""
    known = getattr(classifier, "_places", None)
    if known is not None and known.X_pool is X_pool:
        return known  # type: ignore[no-any-return]
    return PoolPlaces(unwrapped(classifier), X_pool)


def compares_directions(estimator: Any, X_pool: Any) -> bool:
    """Whether embeddings are compared by direction: features of no CNN have none to speak of."""
    is_table = len(np.shape(X_pool)) <= 2
    return not is_table or embedder(getattr(estimator, "estimator", None)) is not None


def untaught(estimator: Any) -> Any:
    """Find an estimator as it was before it was taught, where it is pre-trained; else itself.

    Parameters
    ----------
    estimator : estimator
        One whose embedding does not change by learning, such as a pipeline that begins with
        `CNNFeatures`, is its own.

    Returns
    -------
    estimator
        The same one every time.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, CNNClassifier
    >>> cnn, head = AIFTClassifier(CNNClassifier()), AIFTClassifier(LogisticRegression())
    >>> untaught(cnn) is cnn, untaught(cnn) is untaught(cnn), untaught(head) is head
    (False, True, True)
    """
    inner = getattr(estimator, "estimator", None)
    if not (hasattr(inner, "partial_fit") and getattr(inner, "pretrained", False)):
        return estimator
    if estimator not in _UNTAUGHT:
        _UNTAUGHT[estimator] = clone(estimator)
    return _UNTAUGHT[estimator]
