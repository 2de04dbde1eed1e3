"""Weights of candidates on their way to the estimator, with and without metadata routing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import has_fit_parameter

from .._checks import check_weights
from ..errors import ParameterError

__all__ = [
    "accepts_weights",
    "check_candidate_weights",
    "embeds_alike",
    "last_step",
    "route_weights",
    "step_parameter",
    "weighs_by_repetition",
]


def check_candidate_weights(
    classifier: Any, method: str, sample_weight: Any, n: int
) -> NDArray[np.float64] | None:
    """Check the weights of n candidates, and that the estimator inside wants them.

    Parameters
    ----------
    classifier : AIFTClassifier
        Holds the estimator.
    method : str
        "fit" or "partial_fit".
    sample_weight : array-like of shape (n,) or None
        Weights.
    n : int
        Number of candidates.

    Returns
    -------
    ndarray of shape (n,), float64, or None
        Weights; None where none were given.
    """
    weight = check_weights(sample_weight, n)
    if weight is None:
        return None
    if get_config()["enable_metadata_routing"]:
        # Refuses weights that no step of the estimator has requested.
        process_routing(classifier, method, sample_weight=weight)
        return weight
    last = last_step(classifier.estimator)
    if not _takes_weights(last) and not weighs_by_repetition(classifier, weight):
        raise ParameterError(
            f"sample_weight was given, but {type(last).__name__} does not take it; leave it out, "
            "or use another estimator."
        )
    return weight


def weighs_by_repetition(classifier: Any, weight: NDArray[np.float64]) -> bool:
    """Whether weights count how often each candidate was drawn, for an estimator without weights.

    Bagging hands such counts to whatever has ``sample_weight`` in its signature; a candidate that
    is given as often as it counts weighs the same.
    """
    if get_config()["enable_metadata_routing"] or _takes_weights(last_step(classifier.estimator)):
        return False
    return bool((weight == np.round(weight)).all() and 0 < weight.sum() <= len(weight))


def _takes_weights(last: Any) -> bool:
    # What is chosen by default takes them.
    return last is None or has_fit_parameter(last, "sample_weight")


def accepts_weights(estimator: Any) -> bool:
    """Whether an estimator can be taught with ``sample_weight``, and an AIFTClassifier its own.

    With metadata routing a user says who is given weights, and nothing is given unasked.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> accepts_weights(LogisticRegression()), accepts_weights(KNeighborsClassifier())
    (True, False)
    """
    if get_config()["enable_metadata_routing"] or not has_fit_parameter(estimator, "sample_weight"):
        return False
    inner = getattr(estimator, "estimator", None)
    return not hasattr(estimator, "score_candidates") or _takes_weights(last_step(inner))


def embeds_alike(estimator: Any) -> bool:
    """Whether an AIFTClassifier embeds by pre-trained features that no learning changes.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from aift_sklearn import AIFTClassifier, CNNClassifier, CNNFeatures
    >>> embeds_alike(AIFTClassifier(make_pipeline(CNNFeatures(), LogisticRegression())))
    True
    >>> embeds_alike(AIFTClassifier(CNNClassifier())), embeds_alike(LogisticRegression())
    (False, False)
    """
    inner = getattr(estimator, "estimator", None)
    steps = getattr(inner, "steps", None)
    if not steps or not hasattr(estimator, "score_candidates"):
        return False
    first = steps[0][1]
    return callable(getattr(first, "embed", None)) and bool(getattr(first, "pretrained", False))


def route_weights(classifier: Any) -> MetadataRouter:
    """Route ``sample_weight`` of a classifier's ``fit`` and ``partial_fit`` to its estimator."""
    # What is chosen by default, a CNN or a logistic regression, takes weights.
    estimator = classifier.estimator
    if estimator is None:
        estimator = LogisticRegression().set_fit_request(sample_weight=True)
    continued = "partial_fit" if hasattr(estimator, "partial_fit") else "fit"
    mapping = MethodMapping().add(caller="fit", callee="fit")
    mapping.add(caller="partial_fit", callee=continued)
    # Its own request is that of `score`.
    router = MetadataRouter(owner=type(classifier).__name__).add_self_request(classifier)
    return router.add(estimator=estimator, method_mapping=mapping)


def last_step(estimator: Any) -> Any:
    """Return the last step of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def step_parameter(estimator: Any, name: str) -> str:
    """Name under which ``fit`` of an estimator takes a parameter of its last step.

    >>> from sklearn.pipeline import make_pipeline
    >>> step_parameter(make_pipeline(LogisticRegression()), "sample_weight")
    'logisticregression__sample_weight'
    """
    if isinstance(estimator, Pipeline) and not get_config()["enable_metadata_routing"]:
        return f"{estimator.steps[-1][0]}__{name}"
    return name
