"""Where the candidates of a pool lie, and for how many of them each label stands."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from .._candidates import embedder
from .._saving import transient_attributes
from .._warnings import warn_caller
from ..errors import BackendWarning
from ..learning.weights import embeds_alike
from ..selection import shares_of_pool, systematic_sample
from .pool import embeddings, pool_length
from .unwrapping import unwrapped

__all__ = ["PoolPlaces", "places_of", "untaught"]

# Of a larger pool, so many stand for all.
_MOST = 2**14


class PoolPlaces:
    """Embeddings of a pool, or of a sample of a large one, by the model before it was taught.

    What it has learnt since makes candidates of one class alike. A model that is not pre-trained
    embeds as it does now, whatever it learns later.

    Parameters
    ----------
    estimator : estimator
        Embeds; not changed.
    X_pool : array-like of shape (n, ...)
        Candidates.

    Attributes
    ----------
    X_pool : array-like
        The pool, which is read when it is embedded, and not again.
    n : int
        How many candidates it has.
    directions : bool
        Whether embeddings are compared by direction: features of no CNN have none to speak of.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> places = PoolPlaces(LogisticRegression(), np.array([[0.0], [0.1], [0.2], [9.0]]))
    >>> places.shares(np.array([[0.1], [9.0]]))
    array([1.33333333, 0.66666667])
    """

    def __init__(self, estimator: Any, X_pool: Any) -> None:
        self._taught, self._before = estimator, untaught(estimator)
        self.X_pool, self.n = X_pool, pool_length(X_pool)
        is_table = len(np.shape(X_pool)) <= 2
        self.directions = (
            not is_table or embedder(getattr(estimator, "estimator", None)) is not None
        )
        self._rows = None
        if self.n > _MOST:
            drawn = systematic_sample(np.ones(self.n), _MOST, np.random.default_rng(0))
            self._rows = np.unique(drawn)
        self._embedded: NDArray[np.float32] | None = None
        # Of a small pool: which candidates were embedded already.
        self._known = np.zeros(self.n if self.n <= _MOST else 0, dtype=bool)

    def embed(self, X: Any, rows: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Embed other candidates in the same way, or some of them."""
        try:
            return embeddings(self._before, X, rows)
        except (ImportError, OSError) as error:
            if self._before is self._taught or self._embedded is not None:
                raise
            warn_caller(
                f"the pre-trained network cannot be made again ({error}); candidates are embedded "
                "by the network as it is.",
                BackendWarning,
            )
            self._before = self._taught
            return embeddings(self._before, X, rows)

    def embed_pool(self, rows: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Embed candidates of the pool, those at hand by default; each of a small pool once."""
        if self.n > _MOST:
            if rows is not None:
                return self.embed(self.X_pool, rows if len(rows) < self.n else None)
            if self._embedded is None:
                self._embedded = self.embed(self.X_pool, self._rows)
            return self._embedded
        wanted = np.arange(self.n) if rows is None else rows
        missing = np.setdiff1d(wanted, np.flatnonzero(self._known))
        if len(missing):
            found = self.embed(self.X_pool, missing if len(missing) < self.n else None)
            if self._embedded is None:
                self._embedded = np.empty((self.n, *found.shape[1:]), found.dtype)
            self._embedded[missing] = found
            self._known[missing] = True
        # All of it is not copied.
        return self._embedded if rows is None else self._embedded[rows]  # type: ignore[return-value, index]

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
        pool = self.embed_pool()
        return shares_of_pool(pool, self.embed(X), directions=self.directions, n=self.n)


def places_of(classifier: Any, X_pool: Any) -> PoolPlaces:
    """Take the places that a learner has of the pool that it is asked of, or make them."""
    known = getattr(classifier, "_places", None)
    if known is not None and known.X_pool is X_pool and not classifier._stands_for_one_pool:
        return known  # type: ignore[no-any-return]
    return PoolPlaces(unwrapped(classifier), X_pool)


def untaught(estimator: Any) -> Any:
    """Find an estimator as it was before it was taught, where it is pre-trained.

    Parameters
    ----------
    estimator : estimator
        One whose embedding does not change by learning, such as a pipeline that begins with
        `CNNFeatures`, is its own; of another that is not pre-trained a copy is taken.

    Returns
    -------
    estimator
        Of an AIFTClassifier the same one every time, so that its network is exported once.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, CNNClassifier
    >>> cnn, head = AIFTClassifier(CNNClassifier()), AIFTClassifier(LogisticRegression())
    >>> untaught(cnn) is cnn, untaught(cnn) is untaught(cnn), untaught(head) is head
    (False, True, True)
    """
    inner = getattr(estimator, "estimator", None)
    if embeds_alike(estimator) or not callable(getattr(estimator, "embed", None)):
        return estimator
    if not (hasattr(inner, "partial_fit") and getattr(inner, "pretrained", False)):
        return copy.deepcopy(estimator)
    # Values that were not set since are the same objects.
    params = estimator.get_params()
    params_then, before = vars(estimator).get("_untaught", ({}, None))
    if before is None or any(params_then.get(k, params) is not v for k, v in params.items()):
        before = clone(estimator)
        if "_untaught" in transient_attributes(estimator):
            estimator._untaught = params, before
    return before
