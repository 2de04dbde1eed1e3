"""Coverage of the pool, led by scores as far as the model is to be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import selection
from .labelled import labelled_candidates
from .places import places_of
from .trust import trust

__all__ = ["cover"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

# Groups take turns among the first so many times b.
_TURNS = 4.0


def cover(
    classifier: Any,
    X_pool: Any,
    scores: Floats,
    n_instances: int,
    *,
    groups: Any = None,
    omega: float = 10.0,
    rng: np.random.Generator,
) -> Indices:
    """Choose b candidates that cover the pool, as far as the scores are to be trusted.

    Each candidate of the pool weighs (1 − τ) + τ · s / mean(s), and b are chosen among the highest
    scores that cover most weight: among all while τ is 0, among the top ω·b where it is 1, and
    among the top n^(1 − τ) · (ω·b)^τ in between.

    Parameters
    ----------
    classifier : learner or classifier
        Knows the labelled candidates, which cover too, and embeds, as it did before it was taught:
        what it has learnt since makes candidates of one class alike.
    X_pool : array-like of shape (n, ...)
        Unlabelled candidates.
    scores : ndarray of shape (n,)
        s; what is below 0 is lifted to it.
    n_instances : int
        b.
    groups : array-like of shape (n,), optional
        No group gives another candidate while one with fewer is left among the first 4·b, or ω·b
        where that is less.
    omega : float, default=10
        ω.
    rng : numpy.random.Generator
        Seeds the samples of large pools.

    Returns
    -------
    ndarray of shape (b,)
        Indices into the pool, in the order in which they cover most.
    """
    n = len(scores)
    places = places_of(classifier, X_pool)
    known, y = labelled_candidates(classifier)
    labelled = None if known is None else places.embed(known)
    tau = 0.0 if labelled is None else trust(labelled, y)
    weights = np.ones(n)
    lifted = scores - min(0.0, float(scores.min()))
    if lifted.any():
        # Divided first: their sum may be larger than any number.
        lifted = lifted / lifted.max()
        weights = (1 - tau) + tau * lifted / lifted.mean()

    longest = selection.shortlist_length(n_instances, n, omega)
    turns = min(omega, _TURNS)
    length = n_instances
    if groups is not None:
        length = selection.shortlist_length(n_instances, n, turns)
    order = selection.coverage(
        weights,
        length,
        places.embed_pool,
        labelled,
        candidates=_shortlist(scores, max(length, round(n ** (1 - tau) * longest**tau))),
        directions=places.directions,
        rng=rng,
    )
    if groups is None:
        return order
    members = selection.group_codes(groups, n)[order]
    chosen = selection.spread_over_groups(-np.arange(length), n_instances, members, turns)
    return np.asarray(order[chosen])


def _shortlist(scores: Floats, length: int) -> Indices | None:
    """Find the highest scores, with all that equal the last of them; None for all."""
    if length >= len(scores):
        return None
    last = np.partition(scores, len(scores) - length)[len(scores) - length]
    return np.flatnonzero(scores >= last)
