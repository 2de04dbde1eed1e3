"""Strategies to compare, by name: f(learner, X_pool, n_instances), seeded where they draw."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from modAL.uncertainty import entropy_sampling, margin_sampling, uncertainty_sampling
from numpy.typing import NDArray

from ..errors import DataError, MissingDependencyError, ParameterError
from ..query import aift_sampling, from_skactiveml, random_sampling

__all__ = ["RIVALS", "STRATEGIES", "ask", "begins", "build_strategy"]

Strategy = Callable[..., Any]


STRATEGIES: dict[str, Strategy] = {
    "random": random_sampling,
    "AIFT": aift_sampling,
    "AIFT top": functools.partial(aift_sampling, selection="top"),
    "AIFT random extension": functools.partial(aift_sampling, selection="random_extension"),
    "AIFT entropy": functools.partial(aift_sampling, selection="top", diversity_weight=0.0),
    "AIFT diversity": functools.partial(aift_sampling, selection="top", entropy_weight=0.0),
    "AIFT all patches": functools.partial(aift_sampling, selection="top", alpha=1.0),
    "AIFT mean": functools.partial(aift_sampling, selection="top", alpha=0.5, reduction="mean"),
    "least confident": uncertainty_sampling,
    "margin": margin_sampling,
    "entropy": entropy_sampling,
}
"""Strategies by name: random; AIFT, as the papers have it (top, random extension), and parts of its
score; and modAL's own on the mean prediction."""


RIVALS: dict[str, str] = {
    "BADGE": "Badge",
    "BALD": "GreedyBALD",
    "CLUE": "Clue",
    "ContrastiveAL": "ContrastiveAL",
    "CoreSet": "CoreSet",
    "DropQuery": "DropQuery",
    "FALCUN": "Falcun",
    "MaxHerding": "MaxHerding",
    "ProbCover": "ProbCover",
    "TypiClust": "TypiClust",
}
"""Strategies of scikit-activeml by the names of their papers; the class of ``skactiveml.pool`` of
each, with its defaults and its own first batch, through `from_skactiveml`. BALD's committee are the
patches."""


def build_strategy(name: str) -> tuple[str, Strategy]:
    """Find a strategy by its name, in any case.

    Parameters
    ----------
    name : str
        Of `STRATEGIES` or `RIVALS`.

    Returns
    -------
    tuple of (str, callable)
        The name as it is shown, and the strategy.

    Raises
    ------
    ParameterError
        If there is no strategy of that name.
    MissingDependencyError
        If it is one of scikit-activeml, which is not installed.

    Examples
    --------
    >>> build_strategy("aift")[0]
    'AIFT'
    """
    names = [*STRATEGIES, *RIVALS]
    by_name: Mapping[str, str] = {known.lower(): known for known in names}
    if name.lower() not in by_name:
        raise ParameterError(
            f"strategy {name!r} is unknown; expected one of {', '.join(map(repr, names))}."
        )
    known = by_name[name.lower()]
    if known in STRATEGIES:
        return known, STRATEGIES[known]
    try:
        import skactiveml.pool
    except ImportError as error:
        raise MissingDependencyError(
            "scikit-activeml", extra="skactiveml", purpose=f"the strategy {known}"
        ) from error
    strategy = getattr(skactiveml.pool, RIVALS[known])()
    return known, from_skactiveml(strategy, cold_start="own")


def begins(strategy: Strategy) -> bool:
    """Whether a strategy knows what to ask for without any label.

    >>> begins(STRATEGIES["AIFT"]), begins(STRATEGIES["margin"])
    (True, False)
    """
    return hasattr(strategy, "cold_start") or any(
        name in inspect.signature(strategy).parameters for name in ("cold_start", "random_state")
    )


def ask(
    strategy: Strategy,
    learner: Any,
    X_pool: Any,
    n_instances: int,
    random_state: int,
    groups: Any = None,
) -> NDArray[np.intp]:
    """Call a strategy, seeded and given the groups if it can be; return the indices alone."""
    accepted = inspect.signature(strategy).parameters
    params: dict[str, Any] = {"n_instances": n_instances}
    if "random_state" in accepted:
        params["random_state"] = random_state
    if groups is not None and "groups" in accepted:
        params["groups"] = groups
    result = strategy(learner, X_pool, **params)
    indices = np.asarray(result[0] if isinstance(result, tuple) else result)
    n = len(X_pool)
    valid = indices.shape == (n_instances,) and indices.dtype.kind in "iu"
    if (
        not valid
        or len(np.unique(indices)) < n_instances
        or indices.min() < 0
        or indices.max() >= n
    ):
        name = getattr(strategy, "__name__", type(strategy).__name__)
        raise DataError(
            f"the strategy {name} asked for {indices.tolist()!r:.80}; expected {n_instances} "
            f"different positions in a pool of {n} candidates."
        )
    return indices
