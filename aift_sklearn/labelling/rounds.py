"""One round: what to label next, and what the model learns from what was typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ParameterError
from ..learner import AIFTLearner
from ..models import build_model
from ..pools import Pool
from .labels_file import LabelsFile

__all__ = ["Asked", "Learnt", "ask_next", "is_fitted", "learn_labels"]

Array = NDArray[Any]

_LISTED = 5


class Asked(NamedTuple):
    """What is to be labelled next.

    Attributes
    ----------
    ids : list of str
        What the candidates are called, the most useful first.
    images : ndarray of shape (b, C, H, W)
        The candidates.
    scores : ndarray of shape (b,), or None
        What their labels are worth, by the model; None before there is one.
    """

    ids: list[str]
    images: Array
    scores: NDArray[np.float64] | None


class Learnt(NamedTuple):
    """What a round taught the model.

    Attributes
    ----------
    learner : AIFTLearner
        It, taught.
    n_labels, n_new : int
        Labels that it knows, and those that it had not seen.
    n_foreseen : int or None
        New labels that it predicted before it was taught them; None where it could predict none.
    anew : str
        Why it was trained anew, on all labels, rather than on; empty where it was not.
    left_out : list of str
        Ids with a label that were not taught, since they are not in the pool or cannot be read.
    kept : list of str
        Ids that were taught before and cannot be read now: their images are those of then.
    """

    learner: AIFTLearner
    n_labels: int
    n_new: int
    n_foreseen: int | None
    anew: str
    left_out: list[str]
    kept: list[str]


def ask_next(
    pool: Pool,
    n_instances: int,
    *,
    learner: AIFTLearner | None = None,
    labels: LabelsFile | None = None,
    random_state: int = 0,
) -> Asked:
    """Choose what to label next, among what was not asked for before.

    Parameters
    ----------
    pool : Pool
        All candidates.
    n_instances : int
        How many, b.
    learner : AIFTLearner, optional
        What was taught so far; without one the most typical candidates of the pool are asked for.
    labels : LabelsFile, optional
        What was asked for before, with an answer or without; the new questions are added to it.
    random_state : int, default=0
        Seeds whatever draws.

    Returns
    -------
    Asked
        In the order in which they are worth most.

    Raises
    ------
    DataError
        If fewer candidates than that are left.
    """
    left = pool.sound() if labels is None else pool.sound().without(labels.labels)
    _refuse_too_many(n_instances, left, pool)
    learner = AIFTLearner(build_model()) if learner is None else learner
    _check_taught_alike(learner, pool)
    groups: dict[str, Any] = {} if left.groups is None else {"groups": left.groups}
    try:
        rows, images = learner.query(
            left, n_instances=n_instances, random_state=random_state, **groups
        )
    except DataError as error:
        # What turned out to be broken may leave too few.
        _refuse_too_many(n_instances, left.sound(), pool, error)
        raise
    ids = [str(name) for name in left.ids[rows]]
    if labels is not None:
        labels.append(ids)
    scores = learner.estimator.score_candidates(images) if is_fitted(learner) else None
    return Asked(ids, images, scores)


def _refuse_too_many(
    n_instances: int, left: Pool, pool: Pool, cause: Exception | None = None
) -> None:
    if n_instances > len(left):
        raise DataError(
            f"{n_instances} labels were asked for, and {len(left)} of {len(pool)} candidates are "
            "left that were not asked for before and can be read; ask for fewer."
        ) from cause


def _check_taught_alike(learner: AIFTLearner, pool: Pool) -> None:
    """Refuse a pool whose candidates have another shape than those that were taught."""
    shape = np.shape(learner.X_training)[1:] if learner.X_training is not None else None
    if shape is not None and shape != pool.shape[1:]:
        had, has = (" x ".join(map(str, each)) for each in (shape, pool.shape[1:]))
        raise DataError(
            f"the model was taught candidates of {had} and the pool has {has}; open it as it was "
            "opened then, with the same size."
        )


def learn_labels(
    pool: Pool,
    labels: Mapping[str, str],
    learner: AIFTLearner | None = None,
    *,
    model: str = "finetune",
    views: str = "microscopy",
    random_state: int = 0,
) -> Learnt:
    """Teach a model what was labelled.

    It continues from its present weights on what is new. It is trained anew, on all labels, where
    there is a class that it does not know, or where a label was changed or taken back. What it was
    taught before and cannot be read now is not lost: it remembers the images.

    Parameters
    ----------
    pool : Pool
        Where the candidates are; read as those were that it was taught, see `Pool.reading`.
    labels : mapping of str to str
        Id → label: all of them, not the new ones alone.
    learner : AIFTLearner, optional
        What this function taught so far, or one that was taught nothing yet; by default a new one.
    model, views : str
        As of `aift_sklearn.models.build_model`, for a new one.
    random_state : int, default=0
        Seed of a new one.

    Returns
    -------
    Learnt
        The model, and what was new.

    Raises
    ------
    DataError
        If there are no labels of candidates that can be read.
    ParameterError
        If the model was taught by something else, so that what is new cannot be told.
    """
    taught = {} if learner is None else _taught(learner)
    if learner is not None:
        _check_taught_alike(learner, pool)
    images = pool.read_known(labels)
    left_out = [name for name in labels if name not in images]
    kept = [name for name in left_out if name in taught]
    images |= {name: taught[name][0] for name in kept}
    left_out = [name for name in left_out if name not in taught]
    if not images:
        raise DataError(
            f"{len(labels)} labels, none of a candidate of the pool that can be read"
            + (f" (such as {left_out[0]!r})" if left_out else "")
            + ". Type labels into the column 'label' of the file that 'aift ask' wrote."
        )
    names = [name for name in labels if name in images]
    new = [name for name in names if name not in taught]
    anew = _why_anew(learner, taught, {name: labels[name] for name in names})
    known = _begin(learner, model, views, random_state) if learner is None or anew else learner
    fresh = not is_fitted(known)
    to_teach = names if fresh else new
    foreseen = None
    if to_teach:
        X = np.stack([images[name] for name in to_teach])
        y = np.array([labels[name] for name in to_teach], dtype=str)
        if not fresh:
            foreseen = int((known.predict(X) == y).sum())
        known.set_pool(pool.sound())
        known.teach(X, y)
        before = [] if fresh else [str(name) for name in known.taught_ids_]
        known.taught_ids_ = np.array(before + to_teach, dtype=str)
        known.read_as_ = pool.reading()
    return Learnt(known, len(names), len(new), foreseen, anew, left_out, kept)


def _taught(learner: AIFTLearner) -> dict[str, tuple[Array, str]]:
    """Id → image and label, of what a learner was taught."""
    ids = getattr(learner, "taught_ids_", None)
    X, y = learner.X_training, learner.y_training
    if ids is None and X is None and not is_fitted(learner):
        return {}
    if ids is None or X is None or len(ids) != len(X):
        raise ParameterError(
            "the model was not taught by 'aift learn' alone, or was saved without what it was "
            "taught, so that what is new cannot be told; name another folder to begin a new model "
            "from all labels."
        )
    return {str(name): (x, str(label)) for name, x, label in zip(ids, X, y, strict=True)}


def _why_anew(
    learner: AIFTLearner | None,
    taught: Mapping[str, tuple[Array, str]],
    labels: Mapping[str, str],
) -> str:
    """Say why a learner has to be trained anew on all labels; nothing where it has not."""
    if learner is None or not is_fitted(learner):
        return ""
    unknown = sorted(set(labels.values()) - {str(label) for label in learner.estimator.classes_})
    if unknown:
        return f"{', '.join(unknown[:_LISTED])} is new to it"
    changed = sum(name in taught and taught[name][1] != now for name, now in labels.items())
    if changed:
        return f"{changed} label{' was' if changed == 1 else 's were'} changed"
    gone = sum(name not in labels for name in taught)
    if gone:
        return f"{gone} label{' was' if gone == 1 else 's were'} taken back"
    return ""


def is_fitted(learner: AIFTLearner) -> bool:
    """Whether a learner was taught anything."""
    return hasattr(learner.estimator, "estimator_")


def _begin(learner: AIFTLearner | None, model: str, views: str, random_state: int) -> AIFTLearner:
    """Build a learner, as the former one was."""
    if learner is None:
        built = build_model(model, views=views).set_params(random_state=random_state)
        return AIFTLearner(built)
    return learner.__sklearn_clone__()
