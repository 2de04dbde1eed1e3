"""Random asking: what any strategy has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._modal import query_result

__all__ = ["random_sampling"]


def random_sampling(
    classifier: Any, X_pool: Any, n_instances: int = 1, *, random_state: Any = None
) -> Any:
    """Ask for candidates drawn at random: what any strategy has to beat.

    Examples
    --------
    >>> from aift_sklearn import AIFTLearner
    >>> learner = AIFTLearner(None, random_sampling)
    >>> learner.query(np.zeros((50, 3)), 4, random_state=0)[0]
    array([13, 25, 30, 39])
    """
    rng = np.random.default_rng(random_state)
    drawn = np.sort(rng.choice(len(X_pool), n_instances, replace=False))
    return query_result(drawn, None)
