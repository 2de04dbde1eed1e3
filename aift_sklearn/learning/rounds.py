"""Rounds of learning: the first, which fixes what stays, and those that continue.

A round is given a classifier and what it is taught, and ends by handing the classifier what to
keep; the caller undoes a round that fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from .._checks import check_classes, check_int, check_option, labels_of_classes
from .._warnings import warn_caller
from ..errors import ParameterError, TrainingWarning
from ..memory import Memory
from .start import choose_estimator, fit_patches
from .training import Trained, Trainer, _OneClass, copy_to_continue

__all__ = ["REPLAYS", "first_round", "next_round", "repeated_round"]

Array = NDArray[Any]

REPLAYS = ("mixed", "hard", "all", "none")
"""What `AIFTClassifier` takes for ``replay``."""


def first_round(classifier: Any, taught: Memory, classes: Any) -> None:
    """Fix classes, patches and seed, and train on the first labels.

    Parameters
    ----------
    classifier : AIFTClassifier
        Changed.
    taught : Memory
        What it is taught.
    classes : array-like or None
        All classes, where they are known.
    """
    check_int("training_patches", classifier.training_patches, minimum=1)
    known = np.unique(taught.y) if classes is None else check_classes(classes)
    taught = taught._replace(y=labels_of_classes(taught.y, known))
    rng = check_random_state(classifier.random_state)
    classifier.patches_ = fit_patches(classifier.patches, taught.X, rng, taught.sample_weight)
    classifier.classes_ = known
    classifier._seed = int(rng.randint(2**31 - 1))
    trained = _trainer(classifier, taught).train_anew(taught)
    classifier._keep(trained, taught, np.unique(taught.y), lacks=False)


def repeated_round(classifier: Any, taught: Memory) -> None:
    """Continue from the present weights on all that is known, which takes the memory's place."""
    taught = taught._replace(y=labels_of_classes(taught.y, classifier.classes_))
    seen = np.union1d(classifier._classes_seen, taught.y)
    working = copy_to_continue(classifier.estimator_)
    trained = _continue(classifier, working, taught, seen, memory=taught)
    classifier._keep(trained, taught, seen, lacks=False)


def next_round(classifier: Any, taught: Memory) -> None:
    """Continue from the present weights on what is new and what is replayed.

    Parameters
    ----------
    classifier : AIFTClassifier
        Changed.
    taught : Memory
        What is new.

    Raises
    ------
    ParameterError
        If candidates are to be replayed that were not saved with the model.
    """
    check_option("replay", classifier.replay, REPLAYS)
    check_int("training_patches", classifier.training_patches, minimum=1)
    taught = taught._replace(y=labels_of_classes(taught.y, classifier.classes_))
    before = getattr(classifier, "memory_", None)
    lacks = before is None or classifier._memory_lacks
    one_class = isinstance(classifier.estimator_, _OneClass)
    if lacks and (classifier.replay != "none" or one_class):
        raise _lacking(classifier, one_class=one_class)
    memory = taught if before is None else before.with_call(taught)
    n_before = len(memory.y) - len(taught.y)
    replayed = np.arange(n_before)
    if classifier.replay == "none" and not one_class:
        replayed = replayed[:0]
    elif classifier.replay != "all" and hasattr(classifier.estimator_, "partial_fit"):
        # Found by the model as it is, before anything changes; as in the papers, or in less time.
        hard = classifier.replay == "hard"
        predict = classifier.predict if hard else classifier._predict_whole
        wrong = predict(memory.X[:n_before]) != memory.y[:n_before]
        weight = memory.sample_weight
        counts = np.ones(n_before, dtype=bool) if weight is None else weight[:n_before] > 0
        replayed = np.flatnonzero(wrong & counts)
        if classifier.replay == "mixed":
            rng = np.random.default_rng((classifier._seed, n_before))
            others = rng.permutation(np.flatnonzero(~wrong & counts))
            n_new = len(taught.y) if weight is None else int((weight[n_before:] > 0).sum())
            n_more = max(0, n_new - len(replayed))
            replayed = np.sort(np.concatenate([replayed, others[:n_more]]))
    working = copy_to_continue(classifier.estimator_)
    if working is None and classifier.replay in ("mixed", "hard"):
        # What is fitted anew forgets all that it is not given.
        replayed = np.arange(n_before)
    rows = np.concatenate([replayed, np.arange(n_before, len(memory.y))])
    known = memory if len(rows) == len(memory.y) else memory.take(rows)
    seen = np.union1d(classifier._classes_seen, taught.y)
    trained = _continue(classifier, working, known, seen, memory=memory)
    classifier._keep(trained, memory, seen, lacks=lacks)


def _continue(
    classifier: Any, working: Any, known: Memory, seen: Array, *, memory: Memory
) -> Trained:
    """Train on, or anew where that is not possible; never to forget all classes but one."""
    trainer = _trainer(classifier, known)
    if working is not None:
        return trainer.train_on(working, known, None if classifier.replay == "none" else memory)
    given = known.classes()
    forgotten = np.setdiff1d(seen, given).tolist()
    if not forgotten:
        return trainer.train_anew(known)
    stays = len(given) == 1
    warn_caller(
        f"{type(classifier.estimator_).__name__} is fitted anew in every round, and the candidates "
        f"of this one are all of {given.tolist()}: it "
        f"{'stays as it was' if stays else f'forgets {forgotten}'}. The labels are kept; with "
        "replay='all' it is fitted to all of them.",
        TrainingWarning,
    )
    return Trained(classifier.estimator_) if stays else trainer.train_anew(known)


def _trainer(classifier: Any, known: Memory) -> Trainer:
    return Trainer(
        choose_estimator(classifier.estimator, known.X.ndim),
        classifier.patches_,
        classifier.classes_,
        classifier.training_patches,
        classifier._seed,
    )


def _lacking(classifier: Any, *, one_class: bool) -> ParameterError:
    ways = "load it again and supply them: load(folder, memory=(X, y)); or fit anew on all of them"
    if not one_class:
        ways += "; or go on without them: replay='none'"
    return ParameterError(
        f"replay={classifier.replay!r} needs the candidates that were labelled before, which were "
        f"not saved with this model; {ways}."
    )
