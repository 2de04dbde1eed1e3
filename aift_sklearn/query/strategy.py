"""Queries as objects: a utility, and how candidates are chosen by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .._checks import check_option
from ..errors import ParameterError
from .asking import ask
from .choosing import Choice

__all__ = ["QueryStrategy", "make_query_strategy"]


class QueryStrategy(BaseEstimator):
    """A query strategy that asks by a utility; built and checked by `make_query_strategy`.

    It is called as any strategy of modAL's, has ``get_params`` and ``set_params`` as estimators
    do, and can be pickled where its utility can. Inside a learner its parameters are searched over
    as ``query_strategy__omega``.

    Parameters
    ----------
    utility : callable
        f(classifier, X_pool) → array of shape (n,), higher is better.
    selection, omega
        As of `aift_sampling`.
    cold_start : {"typical", "random"}, default="typical"
        As of `aift_sampling`.

    Examples
    --------
    >>> from aift_sklearn import patch_entropy
    >>> QueryStrategy(patch_entropy, omega=3).set_params(omega=2).get_params()["omega"]
    2
    """

    def __init__(
        self,
        utility: Callable[[Any, Any], Any],
        *,
        selection: str = "top",
        omega: float | None = None,
        cold_start: Literal["typical", "random"] = "typical",
    ) -> None:
        self.utility = utility
        self.selection = selection
        self.omega = omega
        self.cold_start = cold_start

    def __call__(
        self,
        classifier: Any,
        X_pool: Any,
        n_instances: int = 1,
        *,
        groups: Any = None,
        random_state: Any = None,
    ) -> Any:
        """Ask for the candidates of highest utility.

        Parameters
        ----------
        classifier : modAL learner, committee or classifier
            What the utility is asked about.
        X_pool : array-like of shape (n, ...)
            Unlabelled candidates.
        n_instances : int, default=1
            How many to ask for, b.
        groups : array-like of shape (n,), optional
            As of `aift_sampling`.
        random_state : int, RandomState, Generator or None, default=None
            As of `aift_sampling`.

        Returns
        -------
        ndarray of shape (b,), or tuple of ndarrays of shape (b,)
            Indices into the pool, highest utility first. modAL from 0.4.2 on is given (indices,
            utilities).
        """
        self._check()

        def highest(n_scores: int, n: int) -> tuple[NDArray[np.intp], Any]:
            return np.arange(n), np.asarray(self.utility(classifier, X_pool))

        return ask(
            classifier,
            X_pool,
            n_instances,
            highest,
            Choice(self.selection, self.omega, groups),
            cold_start=self.cold_start,
            random_state=random_state,
        )

    def _check(self) -> None:
        if not callable(self.utility):
            raise ParameterError(
                f"utility={self.utility!r}; expected a function of (classifier, X_pool)."
            )
        check_option("cold_start", self.cold_start, ("typical", "random"))
        Choice(self.selection, self.omega).check(0)


def make_query_strategy(
    utility: Callable[[Any, Any], Any],
    *,
    selection: str = "top",
    omega: float | None = None,
    cold_start: Literal["typical", "random"] = "typical",
) -> QueryStrategy:
    """Make a query strategy of a utility, as modAL's function of this name does.

    Unlike modAL's, what it returns takes ``n_instances``, and knows the cold start, batches of
    variety and groups.

    Parameters
    ----------
    utility : callable
        f(classifier, X_pool) → array of shape (n,), higher is better: `patch_entropy`, a measure
        of ``modAL.uncertainty``, or a combination from modAL's ``make_linear_combination`` or
        ``make_product``.
    selection, omega
        As of `aift_sampling`.
    cold_start : {"typical", "random"}, default="typical"
        What to ask for while labels of fewer than two classes are known, as of `aift_sampling`.

    Returns
    -------
    QueryStrategy
        strategy(classifier, X_pool, n_instances=1, *, groups=None, random_state=None).

    Raises
    ------
    ParameterError
        If a parameter is outside its range.

    Examples
    --------
    >>> from modAL.utils.combination import make_product
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, AIFTLearner, patch_diversity, patch_entropy
    >>> X, y = make_blobs(200, centers=2, random_state=0)
    >>> utility = make_product(patch_entropy, patch_diversity)
    >>> strategy = make_query_strategy(utility, selection="k-centre")
    >>> learner = AIFTLearner(AIFTClassifier(LogisticRegression()), strategy)
    >>> learner.teach(X[:20], y[:20])
    >>> learner.query(X, n_instances=5)[0].shape
    (5,)
    """
    strategy = QueryStrategy(utility, selection=selection, omega=omega, cold_start=cold_start)
    strategy._check()
    return strategy
