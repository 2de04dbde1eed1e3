"""Batches spread over patients, slides or videos."""

from __future__ import annotations

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
    turn = np.zeros(len(shortlist), dtype=np.intp)
    for group in np.unique(members):
        inside = members == group
        turn[inside] = np.arange(inside.sum())
    return ranked(shortlist[np.argsort(turn, kind="stable")[:n_instances]], scores)


def group_codes(groups: ArrayLike, n_candidates: int) -> Indices:
    """Number the groups of the candidates from 0 on, shape (n,)."""
    groups = np.asarray(groups)
    if groups.shape != (n_candidates,):
        raise DataError(
            f"groups has shape {groups.shape}; expected one group per candidate of the pool, "
            f"shape ({n_candidates},)."
        )
    try:
        codes: Indices = np.unique(groups, return_inverse=True)[1].astype(np.intp)
    except TypeError as error:
        raise DataError(
            f"groups cannot be told apart: {error}; pass strings or integers."
        ) from error
    return codes
