"""modAL query strategies: which candidates to ask an expert about.

A strategy takes the learner, the pool and the number of candidates b. Importing this module makes
modAL's own learners work with current releases of scikit-learn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from .._candidates import embedder, pick_rows
from .._checks import check_option
from ..errors import DataError, DataTypeError, ParameterError
from ..scores import patch_consistency
from ..selection import (
    check_extension,
    check_n_instances,
    diversified,
    group_codes,
    most_typical,
    spread_over_groups,
    top,
)
from ..selection import (
    random_extension as draw_extension,
)
from ._modal import query_result

__all__ = ["aift_sampling", "make_query_strategy", "patch_diversity", "patch_entropy"]

Floats = NDArray[np.float64]

# Clustering more candidates than this takes longer and finds the same clusters.
_MAX_EMBEDDED = 50_000


def aift_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    *,
    alpha: float = 0.25,
    entropy_weight: float = 1.0,
    diversity_weight: float = 1.0,
    reduction: Literal["sum", "mean"] = "sum",
    random_extension: float | None = None,
    diversify: float | None = None,
    cold_start: Literal["typical", "pretrained", "random"] = "typical",
    groups: Any = None,
    eps: float | None = None,
    random_state: Any = None,
) -> Any:
    """Ask for the candidates whose patches the model finds uncertain and contradictory.

    Parameters
    ----------
    classifier : AIFTLearner, modAL learner, or AIFTClassifier
        What to ask for: an `AIFTClassifier`, or a learner around one.
    X_pool : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
        Unlabelled candidates.
    n_instances : int, default=1
        How many to ask for, b.
    alpha : float in (0, 1], default=0.25
        Fraction of the patches that enters the score, after majority selection.
    entropy_weight, diversity_weight : float ≥ 0, default=1
        λ1 and λ2 of `patch_consistency`.
    reduction : {"sum", "mean"}, default="sum"
        As of `patch_consistency`; "mean" does not let the diversity outweigh the entropy.
    random_extension : float ≥ 1, optional
        ω: draw b at random from the top ω·b instead of taking the top b (ACFT).
    diversify : float ≥ 1, optional
        ω: pick b that lie far apart among the top ω·b, by greedy k-centre on the embeddings.
        Against near-duplicates, such as neighbouring frames.
    cold_start : {"typical", "pretrained", "random"}, default="typical"
        What to ask for while labels of fewer than two classes are known. "typical": the most
        typical candidate of each of b clusters of the pre-trained embeddings, away from those
        already labelled (of more than 50,000 candidates, a random subset is embedded);
        "pretrained": the highest scores of the pre-training classes'
        probabilities; "random".
    groups : array-like of shape (n,), optional
        Patient, slide or video of each candidate of the pool: within the top ω·b (``diversify``,
        by default 4), no group gives another candidate while one with fewer is left.
    eps : float, default=2**-52
        As of `patch_consistency`.
    random_state : int, RandomState, Generator or None, default=None
        Seeds the random extension, the clustering and the random cold start.

    Returns
    -------
    ndarray of shape (b,), or tuple of ndarrays of shape (b,)
        Indices into the pool, highest score first. modAL from 0.4.2 on is given (indices, scores).

    Raises
    ------
    DataError
        If b exceeds the pool, or the pool does not fit the classifier.
    DataTypeError
        If the classifier cannot score candidates.
    ParameterError
        If a parameter is outside its range.

    References
    ----------
    Zhou et al., CVPR 2017, Alg. 1; Zhou et al., Medical Image Analysis 71, 2021; Hacohen et al.,
    Active Learning on a Budget, ICML 2022 (the typical cold start).

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, AIFTLearner
    >>> X, y = make_blobs(200, centers=2, random_state=0)
    >>> learner = AIFTLearner(AIFTClassifier(LogisticRegression(), classes=[0, 1]))
    >>> for _ in range(3):
    ...     indices, _ = learner.query(X, n_instances=5, random_state=0)
    ...     learner.teach(X[indices], y[indices])
    >>> learner.score(X, y) > 0.9
    True
    """
    consistency: dict[str, Any] = {
        "alpha": alpha,
        "entropy_weight": entropy_weight,
        "diversity_weight": diversity_weight,
        "reduction": reduction,
        "eps": eps,
    }
    # Parameters are checked before the pool is read, and in the cold start too.
    patch_consistency(np.full((1, 1, 2), 0.5), **consistency)
    estimator = _estimator(classifier)

    def score(classifier: Any, X: Any) -> Floats:
        if _knows_two_classes(estimator):
            return np.asarray(estimator.score_candidates(X, **consistency))
        return _pretrained_scores(estimator, X, consistency)

    return _query(
        score,
        classifier,
        X_pool,
        n_instances,
        random_extension=random_extension,
        diversify=diversify,
        cold_start=cold_start,
        groups=groups,
        random_state=random_state,
    )


def make_query_strategy(
    utility: Callable[[Any, Any], Any],
    *,
    random_extension: float | None = None,
    diversify: float | None = None,
    cold_start: Literal["typical", "random"] = "typical",
) -> Callable[..., Any]:
    """Make a query strategy of a utility, as modAL's function of this name does.

    Unlike modAL's, what it returns takes ``n_instances``, and knows the cold start, batches of
    variety and groups.

    Parameters
    ----------
    utility : callable
        f(classifier, X_pool) → array of shape (n,), higher is better: `patch_entropy`, a measure
        of ``modAL.uncertainty``, or a combination from modAL's ``make_linear_combination`` or
        ``make_product``.
    random_extension, diversify : float ≥ 1, optional
        As of `aift_sampling`.
    cold_start : {"typical", "random"}, default="typical"
        What to ask for while labels of fewer than two classes are known, as of `aift_sampling`.

    Returns
    -------
    callable
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
    >>> from aift_sklearn import AIFTClassifier, AIFTLearner
    >>> X, y = make_blobs(200, centers=2, random_state=0)
    >>> strategy = make_query_strategy(make_product(patch_entropy, patch_diversity), diversify=3)
    >>> learner = AIFTLearner(AIFTClassifier(LogisticRegression()), strategy)
    >>> learner.teach(X[:20], y[:20])
    >>> learner.query(X, n_instances=5)[0].shape
    (5,)
    """
    if not callable(utility):
        raise ParameterError(f"utility={utility!r}; expected a function of (classifier, X_pool).")
    check_option("cold_start", cold_start, ("typical", "random"))
    _check_variety(random_extension, diversify, None, 0)

    def strategy(
        classifier: Any,
        X_pool: Any,
        n_instances: int = 1,
        *,
        groups: Any = None,
        random_state: Any = None,
    ) -> Any:
        return _query(
            utility,
            classifier,
            X_pool,
            n_instances,
            random_extension=random_extension,
            diversify=diversify,
            cold_start=cold_start,
            groups=groups,
            random_state=random_state,
        )

    strategy.__doc__ = (
        f"Ask for the candidates of highest {getattr(utility, '__name__', 'utility')}."
    )
    return strategy


def _query(
    score: Callable[[Any, Any], Any],
    classifier: Any,
    X_pool: Any,
    n_instances: int,
    *,
    random_extension: float | None,
    diversify: float | None,
    cold_start: str,
    groups: Any,
    random_state: Any,
) -> Any:
    """Score the pool, or start cold, and choose b candidates."""
    estimator, n = _unwrapped(classifier), _length(X_pool)
    check_n_instances(n_instances, n)
    check_option("cold_start", cold_start, ("typical", "pretrained", "random"))
    _check_variety(random_extension, diversify, groups, n)
    rng = _generator(random_state)
    if not _knows_two_classes(estimator) and cold_start != "pretrained":
        draw = _draw if cold_start == "random" else _typical
        return query_result(_unscored(draw, estimator, X_pool, n_instances, groups, rng), None)
    scores = np.asarray(score(classifier, X_pool), dtype=np.float64)
    if scores.shape != (n,):
        raise DataError(
            f"the utility gave shape {scores.shape} for {n} candidates; expected one number for "
            "each, higher being better."
        )
    if np.isnan(scores).any():
        raise DataError(
            f"the utility gave NaN for {int(np.isnan(scores).sum())} of {n} candidates; expected "
            "numbers. Was the model trained on features that hold NaN?"
        )
    if random_extension is not None:
        indices = draw_extension(scores, n_instances, random_extension, rng)
    elif diversify is not None:

        def embed(shortlist: NDArray[np.intp]) -> NDArray[np.float32]:
            return _embed(estimator, pick_rows(X_pool, shortlist))

        indices = diversified(scores, n_instances, diversify, embed, groups)
    elif groups is not None:
        indices = spread_over_groups(scores, n_instances, groups)
    else:
        indices = top(scores, n_instances)
    return query_result(indices, scores)


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
    estimator = _estimator(classifier)
    if not _knows_two_classes(estimator):
        return np.ones(_length(X))
    return np.asarray(estimator.score_candidates(X, **consistency))


def _unwrapped(classifier: Any) -> Any:
    """Unwrap a learner; a classifier may be passed without one."""
    if hasattr(classifier, "score_candidates"):
        return classifier
    return getattr(classifier, "estimator", classifier)


def _estimator(classifier: Any) -> Any:
    estimator = _unwrapped(classifier)
    if not hasattr(estimator, "score_candidates"):
        raise DataTypeError(
            f"{type(estimator).__name__} cannot score candidates by their patches. Wrap it: "
            f"AIFTClassifier({type(estimator).__name__}(...)), which takes any classifier with "
            "predict_proba."
        )
    return estimator


def _knows_two_classes(estimator: Any) -> bool:
    # Before the first label, NotFittedError is an AttributeError. Other classifiers than
    # AIFTClassifier do not tell which of their classes they were taught.
    seen = getattr(estimator, "classes_seen_", None)
    return len(getattr(estimator, "classes_", ()) if seen is None else seen) > 1


def _pretrained_scores(estimator: Any, X_pool: Any, consistency: dict[str, Any]) -> Floats:
    predict = getattr(estimator, "pretrained_patch_proba", None)
    if predict is None:
        raise ParameterError(
            "cold_start='pretrained' needs a CNN with a pre-training head, such as "
            "CNNClassifier('efficientnet_lite0'); use cold_start='typical' or 'random'."
        )
    return patch_consistency(predict(X_pool), **consistency)


def _check_variety(random_extension: Any, diversify: Any, groups: Any, n: int) -> None:
    if random_extension is not None and (diversify is not None or groups is not None):
        raise ParameterError(
            "random_extension draws at random, diversify and groups choose for variety; pass "
            f"one of them, not random_extension={random_extension!r} with the others."
        )
    for name, omega in (("random_extension", random_extension), ("diversify", diversify)):
        if omega is not None:
            check_extension(name, omega)
    if groups is not None:
        group_codes(groups, n)


def _unscored(
    rank: Any, estimator: Any, X_pool: Any, n_instances: int, groups: Any, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Choose without scores: there is nothing to weigh against variety yet."""
    if groups is None:
        return np.asarray(rank(estimator, X_pool, n_instances, rng))
    n_ranked = min(4 * n_instances, _length(X_pool))
    ranked = rank(estimator, X_pool, n_ranked, rng)
    by_rank = -np.arange(n_ranked)
    chosen = spread_over_groups(by_rank, n_instances, np.asarray(groups)[ranked])
    return np.asarray(ranked[chosen])


def _draw(estimator: Any, X_pool: Any, n_ranked: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return rng.choice(_length(X_pool), n_ranked, replace=False)


def _typical(estimator: Any, X_pool: Any, n_ranked: int, rng: np.random.Generator) -> Any:
    """Rank the most typical candidates, of a random subset where the pool is large."""
    n, size = _length(X_pool), max(_MAX_EMBEDDED, n_ranked)
    subset = np.arange(n) if n <= size else np.sort(rng.choice(n, size, replace=False))
    pool = X_pool if n <= size else pick_rows(X_pool, subset)
    labelled = getattr(estimator, "memory_", None)
    known = None if labelled is None else _embed(estimator, labelled.X)
    # Features of no CNN have no direction to speak of.
    images = len(getattr(X_pool, "shape", np.shape(X_pool))) > 2 or embedder(
        getattr(estimator, "estimator", None)
    )
    embeddings = _embed(estimator, pool)
    return subset[most_typical(embeddings, n_ranked, known=known, directions=bool(images), rng=rng)]


def _embed(estimator: Any, X: Any) -> NDArray[np.float32]:
    """Embeddings, or the flattened features of an estimator that has none, or none yet."""
    embed = getattr(estimator, "embed", None)
    if embed is not None:
        with contextlib.suppress(NotFittedError):
            return np.asarray(embed(X), dtype=np.float32)
    readable = isinstance(X, list) or hasattr(X, "__array__")
    features = np.asarray(X if readable else X[0 : _length(X)], dtype=np.float32)
    return features.reshape(len(features), -1)


def _length(X: Any) -> int:
    shape = getattr(X, "shape", None)
    return len(X) if shape is None else int(shape[0])


def _generator(random_state: Any) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31)
    return np.random.default_rng(random_state)
