"""One call of training: labelled candidates in, a trained estimator out, nothing else changed."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.validation import has_fit_parameter

from .._candidates import seeded
from .._checks import restores_itself
from .._threads import blas_threads
from .._warnings import warn_caller
from ..errors import ParameterError, TrainingInterrupted, TrainingWarning
from ..memory import Memory
from .folds import give_folds_back, keep_candidates_together, warn_of_own_splits
from .views import cut_training_patches
from .weights import last_step, step_parameter

__all__ = ["Trained", "Trainer", "_OneClass", "check_predicts_probabilities", "copy_to_continue"]

Array = NDArray[Any]


class _OneClass(DummyClassifier):
    """Stands in for an estimator that cannot be trained on one class."""


class Trained(NamedTuple):
    """An estimator after training, and the interrupt that ended it early, if one did."""

    estimator: Any
    interrupt: TrainingInterrupted | None = None


@dataclass(frozen=True)
class Trainer:
    """Trains estimators on patches of candidates.

    Parameters
    ----------
    template : estimator
        Unfitted; never changed.
    patches : transformer or None
        Fitted; None where candidates are patches that were cut already.
    classes : ndarray of shape (K,)
        All classes.
    training_patches : int
        Patches of each candidate that are trained on.
    seed : int
        Seeds what has no random state of its own.
    """

    template: Any
    patches: Any
    classes: Array
    training_patches: int
    seed: int

    def train_anew(self, known: Memory) -> Trained:
        """Train a clone of the template.

        While one class alone is known, most classifiers refuse it; until there is a second, it is
        the prediction.
        """
        estimator = self._clone_of_template()
        n_seen = len(known.classes())
        continues = hasattr(estimator, "partial_fit") and len(self.classes) > 1
        if n_seen == 1 and not continues:
            labels = known.classes()
            return Trained(_OneClass(strategy="prior").fit(np.zeros((1, 1)), labels))
        if n_seen < len(self.classes) and continues:
            return self._call("partial_fit", estimator, known, classes=self.classes)
        return self._call("fit", estimator, known)

    def train_on(self, estimator: Any, known: Memory, memory: Memory | None = None) -> Trained:
        """Continue an estimator's training by its ``partial_fit``.

        One that wants it is given all that is labelled beside what it is trained on.
        """
        params: dict[str, Any] = {"classes": self.classes}
        if memory is not None and _wants_memory(estimator):
            X, n_each = memory.X, 1
            if not self._draws_views(estimator):
                X, n_each = cut_training_patches(self.patches, memory.X, self.training_patches)
            rows = np.repeat(np.arange(len(memory.y)), n_each)
            weight = memory.sample_weight
            params["memory"] = X, memory.y[rows], None if weight is None else weight[rows]
        return self._call("partial_fit", estimator, known, **params)

    def _clone_of_template(self) -> Any:
        """Clone the template, seeded, and let it draw its own training views if it can."""
        estimator = seeded(clone(self.template), check_random_state(self.seed))
        check_predicts_probabilities(estimator)
        draws_views = _augments_itself(estimator) and hasattr(self.patches, "sample")
        if draws_views and estimator.augmentation is None:
            estimator.set_params(
                augmentation=clone(self.patches), augmentation_views=self.training_patches
            )
        return estimator

    def _draws_views(self, estimator: Any) -> bool:
        """Whether an estimator takes candidates, and draws views of them itself."""
        draws = _augments_itself(estimator) and estimator.augmentation is not None
        return draws and self.patches is not None

    def _call(self, method: str, estimator: Any, known: Memory, **params: Any) -> Trained:
        """Train the estimator on candidates if it draws views itself, else on patches."""
        if self._draws_views(estimator):
            weight = {} if known.sample_weight is None else {"sample_weight": known.sample_weight}
            return _train(method, estimator, known.X, known.y, {**params, **weight})
        X, n_each = cut_training_patches(self.patches, known.X, self.training_patches)
        if known.sample_weight is not None:
            name = step_parameter(estimator, "sample_weight")
            params[name] = np.repeat(known.sample_weight, n_each)
        if n_each > 1:
            grouped = _takes_groups(estimator)
            if grouped is not None:
                # Patches of one candidate are not held out against each other.
                name = step_parameter(estimator, "groups")
                params[name] = np.repeat(np.arange(len(known.y)), n_each)
            warn_of_own_splits(estimator, len(X), grouped=grouped)
            keep_candidates_together(estimator, n_each, self.seed)
        trained = _train(method, estimator, X, np.repeat(known.y, n_each), params)
        give_folds_back(trained.estimator)
        return trained


def _train(method: str, estimator: Any, X: Any, y: Array, params: dict[str, Any]) -> Trained:
    try:
        with blas_threads():
            getattr(estimator, method)(X, y, **params)
    except TrainingInterrupted as interrupt:
        if not restores_itself(last_step(estimator)):
            # What stands around the interrupted part is half trained.
            raise KeyboardInterrupt(
                f"interrupted while {type(estimator).__name__} was trained; nothing changed."
            ) from interrupt
        return Trained(estimator, interrupt)
    check_predicts_probabilities(estimator, trained=True)
    return Trained(estimator)


def copy_to_continue(estimator: Any) -> Any:
    """Return an estimator to continue training with, so that a failure leaves the given one alone.

    Parameters
    ----------
    estimator : estimator
        Fitted.

    Returns
    -------
    estimator or None
        A copy; or the estimator itself, where its class declares ``_restores_itself = True``: that
        a call that raises leaves it as it was, or, with `TrainingInterrupted`, usable. None where
        it has no ``partial_fit`` or cannot be copied; it can be fitted anew.
    """
    if not hasattr(estimator, "partial_fit"):
        return None
    if restores_itself(estimator):
        return estimator
    try:
        return copy.deepcopy(estimator)
    except MemoryError:
        raise
    except Exception as error:  # each kind of part that cannot be copied has an error of its own
        warn_caller(
            f"{type(estimator).__name__} cannot be copied ({error}), so that a partial_fit that "
            "fails could not be undone; it is fitted anew instead. Let it be copied by "
            "copy.deepcopy, or declare _restores_itself = True in its class, if a call that raises "
            "leaves it as it was.",
            TrainingWarning,
        )
        return None


def _augments_itself(estimator: Any) -> bool:
    """Whether an estimator declares that ``augmentation=`` draws views of images, as a CNN does.

    Others may have a parameter of that name, which means something else.
    """
    return getattr(type(estimator), "_augments_itself", False) is True


def _wants_memory(estimator: Any) -> bool:
    """Whether an estimator says that all that is labelled is of use to its ``partial_fit``."""
    wants = getattr(estimator, "_wants_memory", None)
    # Of a class around it that knows no such parameter, too.
    accepted = inspect.signature(estimator.partial_fit).parameters.values()
    takes = any(p.name == "memory" or p.kind is p.VAR_KEYWORD for p in accepted)
    return takes and callable(wants) and bool(wants())


def _takes_groups(estimator: Any) -> Any:
    """Return the step that holds out by itself and can be told which rows belong together."""
    last = last_step(estimator)
    can = hasattr(last, "validation_fraction") and has_fit_parameter(last, "groups")
    if not can or (step_parameter(estimator, "groups") == "groups" and last is not estimator):
        return None
    return last


def check_predicts_probabilities(estimator: Any, *, trained: bool = False) -> None:
    """Refuse an estimator without ``predict_proba``, before training where that can be known.

    Parameters
    ----------
    estimator : estimator
        To be trained, or trained.
    trained : bool, default=False
        Whether it is. Before that, what stands around another estimator, as a search does, may
        gain the method in training.

    Raises
    ------
    ParameterError
        If it has none.
    """
    if hasattr(estimator, "predict_proba"):
        return
    last = estimator
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    around = any(hasattr(value, "fit") for value in last.get_params(deep=True).values())
    dynamic = hasattr(type(last), "__getattr__")
    if (around or dynamic) and not trained:
        return
    shown = repr(estimator) if len(repr(estimator)) < 80 else type(estimator).__name__
    raise ParameterError(
        f"{shown} has no predict_proba, and how far the patches of a candidate disagree is told by "
        f"probabilities. Wrap it: CalibratedClassifierCV({type(last).__name__}(...)) of "
        "sklearn.calibration, or choose a classifier that has it, such as LogisticRegression, or "
        "SGDClassifier(loss='log_loss')."
    )
