"""Batches spread over patients, slides or videos."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ._checks import check_extension, check_scores
from .top import Indices, ranked, shortlisted

__all__ = ["group_codes", "spread_over_groups"]


def spread_over_groups(
    scores: ArrayLike, n_instances: int, groups: ArrayLike, omega: float = 4.0
) -> Indices:
    """Pick b of the top ω·b so that no group gives another while one with fewer is left.

    Parameters
    ----------
    scores : array-like of shape (n,)
        One score per candidate.
    n_instances : int
        How many to pick, b.
    groups : array-like of shape (n,)
        Patient, slide or video of each candidate.
    omega : float ≥ 1, default=4
        Length of the shortlist in units of b; outside it no candidate is taken for variety's sake.

    Returns
    -------
    ndarray of shape (b,)
        Indices, score descending.

    Examples
    --------
    >>> spread_over_groups([.9, .8, .7, .6], 2, groups=["video 1", "video 1", "video 2", "video 3"])
    array([0, 2])
    """
    scores = check_scores(scores, n_instances)
    check_extension("omega", omega)
    shortlist = shortlisted(scores, n_instances, omega)
    members = group_codes(groups, len(scores))[shortlist]
    # The k-th best of its group, for every candidate: all firsts come before any second.
    turn = np.zeros(len(shortlist))
    for group in np.unique(members):
        inside = members == group
        turn[inside] = np.arange(inside.sum())
    return ranked(shortlist[np.argsort(turn, kind="stable")[:n_instances]], scores)


def group_codes(groups: ArrayLike, n_candidates: int) -> Indices:
    """Number the groups of the candidates from 0 on, shape (n,).

    Raises
    ------
    DataError
        If there is not one group per candidate, or one is missing (None, NaN, NA).
    """
    # A list of text and NaN would become text, and None text of its own.
    given = np.asarray(groups, dtype=None if hasattr(groups, "dtype") else object)
    if given.shape != (n_candidates,):
        raise DataError(
            f"groups has shape {given.shape}; expected one group per candidate of the pool, "
            f"shape ({n_candidates},)."
        )
    if given.dtype.kind in "biuSU":
        return np.unique(given, return_inverse=True)[1].astype(np.intp)
    values = given.tolist()
    missing = [i for i, value in enumerate(values) if _is_missing(value)]
    if missing:
        raise DataError(
            f"groups names none for {len(missing)} candidates, the first of them candidate "
            f"{missing[0]} ({values[missing[0]]!r}); where a patient or slide is unknown, give the "
            "candidate a name of its own."
        )
    try:
        numbers: dict[Any, int] = {}
        return np.array([numbers.setdefault(v, len(numbers)) for v in values], dtype=np.intp)
    except TypeError as error:
        raise DataError(
            f"groups cannot be told apart: {error}; pass strings or integers."
        ) from error


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))
