"""Strategies of scikit-activeml on the embeddings and predictions of this package."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression

from .._checks import check_option
from ..errors import MissingDependencyError, ParameterError
from ..selection import check_n_instances
from ._modal import query_result
from .cold_start import first_batch
from .labelled import labelled_candidates
from .places import places_of
from .pool import embeddings, pool_length, random_generator
from .unwrapping import knows_two_classes, unwrapped

__all__ = ["SkactivemlStrategy", "from_skactiveml"]

# What a query of scikit-activeml may demand besides X and y, and can be given.
_CLASSIFIERS = {"clf": "fit_clf", "estimator": "fit_estimator"}
# Those that take one classifier only, which is then fitted to the embeddings.
_OF_ITS_OWN = {
    "ProbabilisticAL": "ParzenWindowClassifier",
    "EpistemicUncertaintySampling": "ParzenWindowClassifier",
    "FourDs": "MixtureModelClassifier",
}
_GIVEN = {*_CLASSIFIERS, "ensemble", "discriminator"}


def from_skactiveml(
    strategy: Any, *, cold_start: Literal["typical", "random", "own"] = "typical"
) -> SkactivemlStrategy:
    """Make a modAL strategy of a pool strategy of scikit-activeml.

    It is given the embeddings of the labelled and the unlabelled candidates as X, their labels as
    0 … K − 1 in the order of the estimator's ``classes_``, and the estimator's own probabilities
    where it asks for a classifier; committees are the estimator on each of the patches (BALD and
    vote entropy over the patches). Where it predicts other points than the candidates, or trains
    on trial, a logistic regression on the embeddings answers.

    Parameters
    ----------
    strategy : object of ``skactiveml.pool``
        Such as ``Badge()`` or ``CoreSet()``.
    cold_start : {"typical", "random", "own"}, default="typical"
        What to ask for while labels of fewer than two classes are known, as of `aift_sampling`;
        "own": what the strategy chooses where it needs no classifier (TypiClust, ProbCover,
        CoreSet, MaxHerding ...), and at random where it does.

    Returns
    -------
    SkactivemlStrategy
        strategy(classifier, X_pool, n_instances=1, *, random_state=None).

    Raises
    ------
    MissingDependencyError
        If scikit-activeml is not installed.
    ParameterError
        If the strategy is none of scikit-activeml's pool strategies, or needs what there is not,
        such as a regressor.

    Examples
    --------
    >>> from skactiveml.pool import CoreSet
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, AIFTLearner
    >>> X, y = make_blobs(200, centers=2, random_state=0)
    >>> learner = AIFTLearner(AIFTClassifier(LogisticRegression()), from_skactiveml(CoreSet()))
    >>> learner.teach(X[:20], y[:20])
    >>> learner.query(X, n_instances=5, random_state=0)[0].shape
    (5,)
    """
    made = SkactivemlStrategy(strategy, cold_start=cold_start)
    made._check()
    return made


class SkactivemlStrategy(BaseEstimator):
    """A query strategy of scikit-activeml; built and checked by `from_skactiveml`.

    Parameters
    ----------
    strategy : object of ``skactiveml.pool``
        What chooses.
    cold_start : {"typical", "random", "own"}, default="typical"
        As of `from_skactiveml`.
    """

    def __init__(
        self, strategy: Any, *, cold_start: Literal["typical", "random", "own"] = "typical"
    ) -> None:
        self.strategy = strategy
        self.cold_start = cold_start

    def __call__(
        self, classifier: Any, X_pool: Any, n_instances: int = 1, *, random_state: Any = None
    ) -> Any:
        """Ask for the candidates that the strategy of scikit-activeml chooses.

        Parameters
        ----------
        classifier : modAL learner or classifier
            What was taught.
        X_pool : array-like of shape (n, ...)
            Unlabelled candidates.
        n_instances : int, default=1
            How many to ask for, b.
        random_state : int, RandomState, Generator or None, default=None
            Seeds the strategy, whose own ``random_state`` is not used.

        Returns
        -------
        ndarray of shape (b,), or tuple of ndarrays of shape (b,)
            Indices into the pool, in the order of the strategy. modAL from 0.4.2 on is given
            (indices, NaN).
        """
        self._check()
        n = pool_length(X_pool)
        check_n_instances(n_instances, n)
        rng = random_generator(random_state)
        estimator = unwrapped(classifier)
        if not knows_two_classes(estimator):
            if self.cold_start == "own" and not _demands(self.strategy):
                return self._begin(estimator, classifier, X_pool, n_instances, rng)
            how = "random" if self.cold_start == "own" else self.cold_start
            return query_result(first_batch(how, classifier, X_pool, n_instances, rng=rng), None)
        known, y = labelled_candidates(classifier)
        if known is None:
            raise ParameterError(
                f"strategies of scikit-activeml need the labelled candidates, and no "
                f"{type(classifier).__name__} remembers any here. Query an AIFTLearner or an "
                "AIFTClassifier; one that was saved without them: load(folder, memory=(X, y))."
            )
        E = [embeddings(estimator, known), embeddings(estimator, X_pool)]
        X = np.concatenate(E).astype(np.float64)
        classes = np.asarray(estimator.classes_)
        codes = np.full(len(X), np.nan)
        codes[: len(y)] = np.searchsorted(classes, y)
        seed = int(rng.integers(2**31))
        strategy = _seeded(self.strategy, seed)
        wanted = {"X": X, "y": codes, "batch_size": int(n_instances)}
        chosen = strategy.query(
            **wanted, **_arguments(strategy, estimator, [known, X_pool], X, codes, seed)
        )
        return query_result(np.asarray(chosen, dtype=np.intp) - len(y), None)

    def _begin(
        self, estimator: Any, classifier: Any, X_pool: Any, n_instances: int, rng: Any
    ) -> Any:
        """Let the strategy choose from what is labelled of one class, or not at all."""
        places = places_of(classifier, X_pool)
        memory = getattr(estimator, "memory_", None)
        known = [] if memory is None else [places.embed(memory.X)]
        X = np.concatenate([*known, places.embed_pool()]).astype(np.float64)
        n_known = len(X) - places.n
        y = np.full(len(X), np.nan)
        y[:n_known] = 0
        strategy = _seeded(self.strategy, int(rng.integers(2**31)))
        chosen = strategy.query(X=X, y=y, batch_size=int(n_instances))
        return query_result(np.asarray(chosen, dtype=np.intp) - n_known, None)

    def _check(self) -> None:
        try:
            from skactiveml.base import PoolQueryStrategy
        except ImportError as error:
            raise MissingDependencyError(
                "scikit-activeml", extra="skactiveml", purpose="from_skactiveml()"
            ) from error
        check_option("cold_start", self.cold_start, ("typical", "random", "own"))
        if not isinstance(self.strategy, PoolQueryStrategy):
            raise ParameterError(
                f"strategy={self.strategy!r}; expected an object of skactiveml.pool, such as "
                "Badge()."
            )
        missing = sorted(_demands(self.strategy) - _GIVEN)
        if missing:
            raise ParameterError(
                f"{type(self.strategy).__name__} needs {', '.join(missing)}, which a classifier "
                "of candidates cannot give; choose another strategy of skactiveml.pool."
            )


def _seeded(strategy: Any, seed: int) -> Any:
    """Copy a strategy with one seed for all that draws inside it, its clustering too."""
    copied = clone(strategy)
    for name, value in copied.get_params(deep=True).items():
        if name.endswith("random_state"):
            copied.set_params(**{name: seed})
        elif name.endswith("cluster_algo_dict"):
            copied.set_params(**{name: {"random_state": seed, **(value or {})}})
    return copied


def _innermost(strategy: Any) -> Any:
    """What a wrapper such as SubSamplingWrapper asks."""
    inner = getattr(strategy, "query_strategy", None)
    return strategy if inner is None else _innermost(inner)


def _demands(strategy: Any) -> set[str]:
    parameters = inspect.signature(_innermost(strategy).query).parameters
    return {
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in ("self", "X", "y")
    }


def _arguments(
    strategy: Any, estimator: Any, parts: list[Any], X: NDArray[Any], y: NDArray[Any], seed: int
) -> dict[str, Any]:
    """What a strategy demands besides X and y."""
    demands = _demands(strategy)
    if not demands:
        return {}
    # None of them demands two.
    (name,) = demands
    if name == "discriminator":
        return {name: _head(2, seed)}
    import skactiveml.classifier

    n_classes, inner = len(estimator.classes_), _innermost(strategy)
    own = _OF_ITS_OWN.get(type(inner).__name__)
    if own is not None:
        made = getattr(skactiveml.classifier, own)
        own_classifier = made(classes=list(range(n_classes)), random_state=seed)
        return {name: own_classifier, _CLASSIFIERS[name]: True}
    head = _head(n_classes, seed)
    head.fit(X, y)
    if "ignore_partial_fit" in inspect.signature(inner.query).parameters:
        # It trains on trial, candidate by candidate.
        return {name: head, _CLASSIFIERS[name]: True}
    predict = getattr(estimator, "predict_patch_proba", None)
    if predict is None:
        P = np.concatenate([estimator.predict_proba(part)[:, None] for part in parts])
    else:
        P = np.concatenate([predict(part) for part in parts])
    if name == "ensemble":
        members = [_known_probabilities(X, P[:, j], head, n_classes) for j in range(P.shape[1])]
        return {name: members, "fit_ensemble": False}
    known = _known_probabilities(X, P.mean(axis=1), head, n_classes)
    return {name: known, _CLASSIFIERS[name]: False}


def _head(n_classes: int, seed: int) -> Any:
    from skactiveml.classifier import SklearnClassifier

    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    return SklearnClassifier(regression, classes=list(range(n_classes)), random_state=seed)


def _known_probabilities(X: NDArray[Any], proba: NDArray[Any], head: Any, n_classes: int) -> Any:
    """Make a classifier that tells the probabilities of known points, and asks a head of others."""
    from skactiveml.base import SkactivemlClassifier

    table = {row.tobytes(): p for row, p in zip(X, proba.astype(np.float64), strict=True)}

    class Known(SkactivemlClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            return self

        def predict_proba(self, X: Any) -> Any:
            rows = np.ascontiguousarray(X, dtype=np.float64)
            found = [p for row in rows if (p := table.get(row.tobytes())) is not None]
            P = np.stack(found) if len(found) == len(rows) else head.predict_proba(rows)
            return P / P.sum(axis=1, keepdims=True)

        def predict(self, X: Any) -> Any:
            return self.predict_proba(X).argmax(axis=1)

    known = Known(classes=list(range(n_classes)))
    known.classes_ = np.arange(n_classes)
    return known
