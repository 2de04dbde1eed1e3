"""fit and partial_fit: what a classifier is taught, checked, learnt and kept, or undone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter
from sklearn.utils.validation import check_is_fitted

from .._candidates import check_training
from .._checks import check_option, check_same_classes, unchanged_on_error
from ..errors import ParameterError
from ..memory import Memory
from .rounds import REPLAYS, first_round, next_round, repeated_round
from .training import Trained
from .weights import check_candidate_weights, route_weights, weighs_by_repetition

__all__ = ["ContinualClassifier"]

Array = NDArray[Any]


class ContinualClassifier(ClassifierMixin, BaseEstimator):
    """Learns round by round, and remembers what it was taught; how it predicts is left open.

    The constructor's ``estimator``, ``patches``, ``classes``, ``replay``, ``training_patches``,
    ``warm_start`` and ``random_state`` are those of `AIFTClassifier`.
    """

    # A call that fails is undone here, and an interrupted one leaves it usable.
    _restores_itself: ClassVar[bool] = True
    # Weights go on to the estimator, which is where a router looks for the request.
    __metadata_request__fit: ClassVar[dict[str, str]] = {"sample_weight": UNUSED}
    __metadata_request__partial_fit: ClassVar[dict[str, str]] = {"sample_weight": UNUSED}

    estimator: Any
    classes: Any
    replay: str
    warm_start: bool
    _classes_seen: Array
    # Whether candidates were taught that memory_ lacks, as after a load without them.
    _memory_lacks: bool = False

    @abstractmethod
    def predict(self, X: Any) -> Array:
        """Predict the class of each candidate, by which the hard ones are told."""

    @abstractmethod
    def _predict_whole(self, X: Any) -> Array:
        """Predict it by patch 0 alone, the whole candidate, in a fraction of the time."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **fit_params: Any) -> Self:
        """Train from the pre-trained state, forgetting all labels seen before (RFT, AFT).

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Candidates; images are uint8 in [0, 255] or float in [0, 1].
        y : array-like of shape (n,)
            Their classes.
        sample_weight : array-like of shape (n,), optional
            Weights of the candidates, where the estimator takes them; their patches share them.
            They are kept with the memory and replayed.
        **fit_params
            None are known; others are refused by name.

        Returns
        -------
        AIFTClassifier
            Itself.

        Raises
        ------
        DataError, DataTypeError, LabelError, ParameterError
            If the candidates, the labels or a parameter are not as described, or if the estimator
            predicts no probabilities.
        NonFiniteLossError
            If training diverges.
        TrainingInterrupted
            On Ctrl-C after at least one epoch; what was learnt until then is kept.
        KeyboardInterrupt
            On Ctrl-C before that.
        """
        _refuse_others("fit", fit_params)
        with unchanged_on_error(self):
            continuing = self.warm_start and hasattr(self, "estimator_")
            taught = self._check_taught("fit", X, y, sample_weight, reset=not continuing)
            if continuing:
                repeated_round(self, taught)
            else:
                first_round(self, taught, self.classes)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, **fit_params: Any
    ) -> Self:
        """Continue training from the present weights on new candidates and replayed ones.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Newly labelled candidates.
        y : array-like of shape (n,)
            Their classes.
        classes : array-like of shape (K,), optional
            All classes, needed in the first call only, where they are not all in ``y`` and were
            not given to the constructor.
        sample_weight : array-like of shape (n,), optional
            Weights of the candidates, where the estimator takes them; their patches share them.
            They are kept with the memory and replayed.
        **fit_params
            None are known; others are refused by name.

        Returns
        -------
        AIFTClassifier
            Itself.

        Raises
        ------
        LabelError
            If a label is not among the known classes.
        DataError, DataTypeError, ParameterError
            As of `fit`; or if ``replay`` asks for candidates that were not saved with the model.
        NonFiniteLossError, TrainingInterrupted, KeyboardInterrupt
            As of `fit`.
        """
        _refuse_others("partial_fit", fit_params)
        check_option("replay", self.replay, REPLAYS)
        with unchanged_on_error(self):
            first = not hasattr(self, "estimator_")
            taught = self._check_taught("partial_fit", X, y, sample_weight, reset=first)
            known = self.classes if first else self.classes_
            if known is not None:
                check_same_classes(classes, known)
            if first:
                first_round(self, taught, classes if known is None else known)
            else:
                next_round(self, taught)
        return self

    def _check_taught(self, method: str, X: Any, y: Any, weight: Any, *, reset: bool) -> Memory:
        # scikit-learn wants `fit` to warn of a column.
        X, y = check_training(self, X, y, reset=reset, warn_of_column=method == "fit")
        weight = check_candidate_weights(self, method, weight, len(y))
        if weight is not None and weighs_by_repetition(self, weight):
            rows = np.repeat(np.arange(len(y)), weight.astype(np.intp))
            return Memory.from_call(X[rows], y[rows])
        return Memory.from_call(X, y, weight)

    def _keep(self, trained: Trained, memory: Memory, seen: Array, *, lacks: bool) -> None:
        """Keep what was learnt, and from what; also what an interrupt left usable."""
        self.estimator_, self.memory_ = trained.estimator, memory
        self._memory_lacks, self._classes_seen = lacks, seen
        if trained.interrupt is not None:
            raise trained.interrupt

    def get_metadata_routing(self) -> MetadataRouter:
        """Tell scikit-learn's metadata routing that ``sample_weight`` goes on to the estimator.

        Returns
        -------
        MetadataRouter
            Routes of ``fit`` and ``partial_fit``.
        """
        return route_weights(self)

    @property
    def classes_seen_(self) -> Array:
        """Classes that a label was given for, sorted."""
        check_is_fitted(self)
        return np.array(self._classes_seen)


def _refuse_others(method: str, fit_params: dict[str, Any]) -> None:
    if fit_params:
        raise ParameterError(
            f"{method} got {sorted(fit_params)}; besides X, y and classes it takes sample_weight "
            "only."
        )
