"""One query: the cold start, or scores and a choice among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import check_option
from ..errors import DataError
from ..selection import check_n_instances
from ._modal import query_result
from .choosing import Choice
from .cold_start import first_batch
from .covering import cover
from .pool import embeddings, pool_length, random_generator
from .unwrapping import knows_two_classes, unwrapped

__all__ = ["ask"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def ask(
    classifier: Any,
    X_pool: Any,
    n_instances: int,
    highest: Callable[[int, int], tuple[Indices, Floats]],
    choice: Choice,
    *,
    cold_start: str,
    random_state: Any,
) -> Any:
    """Choose b candidates of a pool, and return them as the installed modAL wants.

    Parameters
    ----------
    classifier : learner or classifier
        What was taught.
    X_pool : array-like of shape (n, ...)
        Unlabelled candidates.
    n_instances : int
        How many, b.
    highest : callable
        (k, n) → positions in the pool, rising, and their scores: at least those of the k highest.
    choice : Choice
        What is chosen among them.
    cold_start : {"typical", "pretrained", "random"}
        What to ask for while labels of fewer than two classes are known; "pretrained" scores too.
    random_state : int, RandomState, Generator or None
        Seeds whatever draws.
    """
    estimator = unwrapped(classifier)
    n = pool_length(X_pool)
    check_n_instances(n_instances, n)
    check_option("cold_start", cold_start, ("typical", "pretrained", "random"))
    choice.check(n)
    rng = random_generator(random_state)
    if not knows_two_classes(estimator) and cold_start != "pretrained":
        groups = choice.groups
        return query_result(
            first_batch(cold_start, classifier, X_pool, n_instances, groups=groups, rng=rng), None
        )
    indices, scores = highest(choice.n_scores(n_instances, n), n)
    scores = _checked(scores, indices, n)

    if choice.selection == "coverage" and knows_two_classes(estimator):
        chosen = cover(
            classifier,
            X_pool,
            scores,
            int(n_instances),
            groups=choice.groups,
            omega=choice.length,
            rng=rng,
        )
        return query_result(chosen, scores[chosen])

    def embed(rows: Indices) -> NDArray[np.float32]:
        return embeddings(estimator, X_pool, rows)

    chosen = choice.choose(indices, scores, int(n_instances), embed, rng)
    return query_result(indices[chosen], scores[chosen])


def _checked(scores: Any, indices: Indices, n: int) -> Floats:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != indices.shape:
        raise DataError(
            f"the utility gave shape {scores.shape} for {n} candidates; expected one number for "
            "each, higher being better."
        )
    if np.isnan(scores).any():
        first = int(indices[np.flatnonzero(np.isnan(scores))[0]])
        raise DataError(
            f"the utility gave NaN for {int(np.isnan(scores).sum())} of {n} candidates, the first "
            f"of them candidate {first}; expected numbers. Was the model trained on features that "
            "hold NaN?"
        )
    return scores
