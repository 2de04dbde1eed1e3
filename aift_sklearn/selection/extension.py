"""ACFT's random extension: b at random from the top ω·b."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import check_extension, check_scores
from .top import Indices, ranked, shortlisted

__all__ = ["random_extension"]


def random_extension(
    scores: ArrayLike, n_instances: int, omega: float, random_state: Any = None
) -> Indices:
    """Draw b candidates at random from the top ω·b, with probability rising with the score.

    Parameters
    ----------
    scores : array-like of shape (n,)
        One score per candidate.
    n_instances : int
        How many to draw, b.
    omega : float ≥ 1
        Length of the shortlist in units of b. 1 is the plain top b; a larger value trades score
        for variety.
    random_state : None, int or numpy.random.Generator
        Seed of the draw.

    Returns
    -------
    ndarray of shape (b,)
        Indices, score descending.

    Notes
    -----
    Candidate i is drawn with probability proportional to a_i − a_floor, where a_floor is the next
    score below the shortlist (0, or the lowest score if that is negative, where the shortlist is
    the whole pool). With the shortlist's own last score as floor, as printed in the paper, that
    candidate could never be drawn. Where the cut goes through equal scores, those are the floor:
    they are drawn, uniformly, only where fewer than b candidates lie above it.

    References
    ----------
    Zhou et al., Medical Image Analysis 71, 2021, eq. 5.

    Examples
    --------
    >>> random_extension([9, 1, 8, 7, 0, 6], 2, omega=2, random_state=1)
    array([2, 5])
    """
    scores = check_scores(scores, n_instances)
    check_extension("omega", omega)
    rng = np.random.default_rng(random_state)
    shortlist = shortlisted(scores, n_instances, omega)
    if len(shortlist) < len(scores):
        floor = np.partition(scores, -len(shortlist) - 1)[-len(shortlist) - 1]
    else:
        floor = min(0.0, scores.min())
    weight = scores[shortlist] - floor
    possible = np.count_nonzero(weight)
    if possible == 0:
        drawn = rng.choice(len(shortlist), n_instances, replace=False)
    elif possible >= n_instances:
        drawn = rng.choice(len(shortlist), n_instances, replace=False, p=weight / weight.sum())
    else:
        rest = rng.choice(np.flatnonzero(weight == 0), n_instances - possible, replace=False)
        drawn = np.concatenate([np.flatnonzero(weight), rest])
    return ranked(shortlist[drawn], scores)
