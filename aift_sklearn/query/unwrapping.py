"""From what modAL hands to a strategy to the estimator that scores candidates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import DataTypeError

__all__ = ["candidate_scorer", "knows_two_classes", "unwrapped"]

# What learners keep of their labels, which may be long lists.
_TAUGHT = ("X_training", "y_training")


def unwrapped(classifier: Any) -> Any:
    """Return the estimator of a learner; a classifier may be passed without one.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTLearner
    >>> unwrapped(AIFTLearner(LogisticRegression()))
    LogisticRegression()
    """
    # A search or an ensemble has an `estimator` too: the untrained one it copies.
    if hasattr(classifier, "score_candidates") or not hasattr(classifier, "teach"):
        return classifier
    return getattr(classifier, "estimator", classifier)


def candidate_scorer(classifier: Any) -> Any:
    """Return the estimator with ``score_candidates``, which the strategies of this package ask.

    Raises
    ------
    DataTypeError
        If there is none; where one is wrapped in a pipeline, a search, a committee or another
        estimator, the message says how to turn that inside out.
    """
    estimator = unwrapped(classifier)
    if hasattr(estimator, "score_candidates"):
        return estimator
    name = type(estimator).__name__
    inside = next(_scorers_inside(estimator, set()), None)
    if inside is None:
        raise DataTypeError(
            f"{name} cannot score candidates by their patches. Wrap it: AIFTClassifier({name}"
            "(...)), which takes any classifier with predict_proba."
        )
    raise DataTypeError(
        f"{name} cannot score candidates, but the {type(inside).__name__} inside it can. "
        f"{_way_out(estimator, type(inside).__name__)}"
    )


def knows_two_classes(estimator: Any) -> bool:
    """Tell whether labels of two classes were taught, so that scores mean something."""
    # Before the first label, NotFittedError is an AttributeError. Other classifiers than
    # AIFTClassifier do not tell which of their classes they were taught.
    seen = getattr(estimator, "classes_seen_", None)
    known = getattr(estimator, "classes_", None) if seen is None else seen
    return known is not None and len(known) > 1


def _scorers_inside(estimator: Any, visited: set[int]) -> Iterator[Any]:
    """Find what can score candidates among the parts of an estimator, however deep."""
    if id(estimator) in visited:
        return
    visited.add(id(estimator))
    for part in _parts(estimator):
        if hasattr(part, "score_candidates"):
            yield part
        else:
            yield from _scorers_inside(part, visited)


def _parts(estimator: Any) -> Iterator[Any]:
    if isinstance(estimator, (list, tuple)):
        yield from estimator
        return
    for name, value in getattr(estimator, "__dict__", {}).items():
        is_list = isinstance(value, (list, tuple)) and name not in _TAUGHT
        if is_list or hasattr(value, "predict"):
            yield value


def _way_out(estimator: Any, scorer: str) -> str:
    name = type(estimator).__name__
    if hasattr(estimator, "steps"):
        first = type(estimator.steps[0][1]).__name__
        return (
            f"Patches are cut before anything else is done to a candidate, so put the steps inside "
            f"it: {scorer}(make_pipeline({first}(), LogisticRegression())), with your own steps."
        )
    if hasattr(estimator, "learner_list"):
        return (
            "Ask one of its members, committee.learner_list[0].query(...), or give the "
            "committee a strategy of modAL.disagreement."
        )
    if hasattr(estimator, "best_estimator_"):
        found = estimator.best_estimator_
        nested = "" if hasattr(found, "score_candidates") else f", a {type(found).__name__},"
        return f"Query with its best_estimator_{nested} in place of the {name}."
    if any(hasattr(estimator, p) for p in ("param_grid", "param_distributions", "param_space")):
        return f"Fit the {name}, and query with its best_estimator_ in place of it."
    return f"Wrap them the other way round: {scorer}({name}(...))."
