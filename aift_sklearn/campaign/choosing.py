"""Which candidates a campaign asks for next, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labelling.rounds import ask_next, is_fitted
from ..learner import AIFTLearner
from ..learning.start import fit_patches
from ..pools import Pool
from ..scores import patch_consistency, prediction_pattern
from .explanations import Asked, Predictions
from .pictures import to_bytes_image
from .records import Ask, Purpose
from .settings import Settings

__all__ = ["Batch", "choose", "look_at", "mix", "watch"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """What is asked for at once.

    Attributes
    ----------
    asks : list of Ask
        Ranks count from 0.
    asked : Asked
        As it was seen.
    """

    asks: list[Ask]
    asked: Asked


def choose(pool: Pool, n: int, learner: AIFTLearner, settings: Settings, seed: int) -> Batch:
    """Choose what to label next among the candidates of a pool.

    Parameters
    ----------
    pool : Pool
        What may be asked for.
    n : int
        How many, b.
    learner : AIFTLearner
        What was taught so far; without labels the most typical candidates are chosen.
    settings : Settings
        Of the campaign.
    seed : int
        Seeds whatever is drawn.

    Returns
    -------
    Batch
        The most useful candidates first.
    """
    found = ask_next(pool, n, learner=learner, random_state=seed)
    purpose = Purpose.model if is_fitted(learner) else Purpose.typical
    return look_at(found.ids, found.images, purpose, learner, settings, seed)


def look_at(
    ids: Sequence[str],
    images: Array,
    purpose: Purpose,
    learner: AIFTLearner,
    settings: Settings,
    seed: int,
) -> Batch:
    """Look at candidates as a model does: patches, probabilities, scores and patterns.

    Parameters
    ----------
    ids : sequence of str, length b
        Candidates.
    images : ndarray of shape (b, C, H, W)
        They themselves.
    purpose : Purpose
        Why they are asked for.
    learner, settings, seed
        As of `choose`.
    """
    estimator = learner.estimator
    transformer = getattr(estimator, "patches_", None)
    if transformer is None:
        transformer = fit_patches(estimator.patches, images, np.random.RandomState(seed))
    patches = images[:, None] if transformer is None else transformer.transform(images)
    seen = np.stack([[to_bytes_image(patch) for patch in each] for each in patches])
    names = list(ids)
    if not is_fitted(learner):
        return Batch(
            [Ask(name, k, purpose) for k, name in enumerate(names)], Asked(names, seen, None)
        )
    P = _in_order(estimator.predict_patch_proba(images), estimator.classes_, settings.classes)
    scores, patterns, mean = patch_consistency(P), prediction_pattern(P), P.mean(axis=1)
    asks = [
        Ask(
            name,
            k,
            purpose,
            score=float(scores[k]),
            pattern=str(patterns[k]),
            proba=tuple(mean[k].round(6).tolist()),
        )
        for k, name in enumerate(names)
    ]
    return Batch(asks, Asked(names, seen, P.astype(np.float32)))


def mix(
    asks: Sequence[Ask],
    drawn: Sequence[Ask],
    settings: Settings,
    *,
    first_rank: int,
    seed: int,
) -> list[Ask]:
    """Mix what was chosen with candidates of the yardstick, so that nobody can tell which is which.

    Parameters
    ----------
    asks : sequence of Ask
        What was chosen, in order.
    drawn : sequence of Ask
        Those of the yardstick.
    settings : Settings
        Tells how many people read each.
    first_rank : int
        Rank of the first.
    seed : int
        Seeds where the yardstick's lie, and who is read more than once.

    Examples
    --------
    >>> settings = Settings("cells", ("a", "b"), "images")
    >>> drawn = [Ask("z", 0, Purpose.yardstick)]
    >>> mixed = mix([Ask("x", 0), Ask("y", 1)], drawn, settings, first_rank=5, seed=0)
    >>> [ask.rank for ask in mixed], sorted(ask.candidate for ask in mixed)
    ([5, 6, 7], ['x', 'y', 'z'])
    """
    rng = np.random.default_rng(seed)
    # Each keeps its order; where those of the yardstick stand is drawn.
    is_drawn = np.zeros(len(asks) + len(drawn), dtype=bool)
    is_drawn[rng.choice(len(is_drawn), len(drawn), replace=False)] = True
    of_each = {True: iter(drawn), False: iter(asks)}
    mixed = [next(of_each[bool(which)]) for which in is_drawn]
    several = np.zeros(len(mixed), dtype=bool)
    n_several = math.floor(settings.overlap * len(mixed) + rng.random())
    several[rng.choice(len(mixed), min(n_several, len(mixed)), replace=False)] = True
    return [
        replace(ask, rank=first_rank + k, n_readers=settings.readers if several[k] else 1)
        for k, ask in enumerate(mixed)
    ]


def watch(pool: Pool, ids: Sequence[str], learner: AIFTLearner, settings: Settings) -> Predictions:
    """Predict the candidates that are watched, those of them that can be read."""
    images = pool.read_known(ids)
    proba = np.empty((0, len(settings.classes)))
    if images:
        proba = learner.estimator.predict_proba(np.stack(list(images.values())))
        proba = _in_order(proba, learner.estimator.classes_, settings.classes)
    return Predictions(list(images), proba.astype(np.float32), list(settings.classes))


def _in_order(P: Array, of_model: Any, classes: Sequence[str]) -> Array:
    """Put the columns of P into the order of the campaign's classes; others get zeros."""
    place = {str(name): k for k, name in enumerate(of_model)}
    out = np.zeros((*P.shape[:-1], len(classes)), dtype=np.float64)
    for k, name in enumerate(classes):
        if name in place:
            out[..., k] = P[..., place[name]]
    return out
