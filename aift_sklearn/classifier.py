"""AIFTClassifier: candidate → class, by way of patches and any classifier.

One seam joins it to the model: ``predict_proba``. What the estimator can do beyond that
(``partial_fit``, ``embed``, drawing its own training views) is used where it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ._candidates import check_not_empty, seeded
from ._checks import (
    check_features,
    check_int,
    check_known_labels,
    check_option,
    check_same_classes,
    image_shape,
    unchanged_on_error,
)
from ._weights import WeightRouting, weight_parameter
from .errors import ParameterError, TrainingInterrupted
from .memory import Memory
from .patches import AffinePatches, JitterPatches
from .persistence import SaveMixin
from .prediction.candidates import PatchPrediction

__all__ = ["AIFTClassifier"]

Array = NDArray[Any]


class _OneClass(DummyClassifier):
    """Stands in for an estimator that cannot be trained on one class."""


class AIFTClassifier(SaveMixin, WeightRouting, PatchPrediction, ClassifierMixin, BaseEstimator):
    """Classify candidates through their patches, and keep learning as labels come in.

    Each candidate is expanded to m patches, the estimator predicts each of them, and the mean is
    the candidate's prediction. How much the patches disagree tells what its label is worth
    (`score_candidates`), without knowing the label.

    Parameters
    ----------
    estimator : classifier, optional
        Anything with ``fit`` and ``predict_proba`` that takes patches: a `CNNClassifier`, a
        ``Pipeline(CNNFeatures → LogisticRegression)``, a random forest. By default a
        `CNNClassifier` for images and a logistic regression for feature vectors.
    patches : AffinePatches, JitterPatches or transformer (n, …) → (n, m, …), optional
        By default `AffinePatches` for images and `JitterPatches` for feature vectors; images of
        ndim 5, (n, m, C, h, w), are taken as patches that were cut already.
    classes : array-like of shape (K,), optional
        All classes, when known in advance. A first batch of one class, normal on imbalanced
        pools, is then no dead end.
    replay : {"hard", "all", "none"}, default="hard"
        What `partial_fit` trains on besides the new candidates: those labelled before that the
        model, *before* the update, misclassifies (ACFT(HQ)); all of them (ACFT(LQ)); none
        (ACFT(Q)). An estimator without ``partial_fit`` forgets when it is fitted, so "hard" gives
        it all of them.
    training_patches : int, default=4
        Patches per candidate that are trained on in each epoch. An estimator with an
        ``augmentation`` parameter draws fresh views in every epoch; any other is given that many
        of the fixed patches, the whole candidate among them.
    backend : {"auto", "torch", "onnx"}, default="auto"
        What predicts pools of images. "auto": ONNX Runtime, several times faster, where it is
        installed (extra ``cpu`` or ``gpu``), the estimator is a `CNNClassifier` or begins with
        `CNNFeatures`, and the pool is so large that it pays to export the network first, which
        takes seconds (2,000 patches of 128 × 128 pixels, say); else the estimator itself. "onnx":
        whenever it can be exported. "torch": the estimator itself, always. Probabilities differ by
        rounding only, on a GPU by that of half precision.
    warm_start : bool, default=False
        Let `fit` continue from the present weights, for loops that only know ``fit``, such as
        modAL's ActiveLearner.
    verbose : int, default=0
        1 shows a progress bar while a pool is read.
    random_state : int, RandomState or None, default=None
        Seeds the estimator's and the patches' own ``random_state`` where those are None.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Class labels, sorted; fixed by `fit`, or by the first `partial_fit`.
    estimator_ : classifier
        The trained estimator. A parameter that is changed between rounds is changed here,
        ``clf.estimator_.set_params(lr=1e-4)``; those of ``estimator`` count when `fit` starts anew.
    patches_ : transformer or None
        The fitted patches; the same views serve training, scoring and every later pool.
    memory_ : Memory
        The labelled candidates seen so far: ``memory_.X``, ``memory_.y``, their weights
        ``memory_.sample_weight`` and the ``memory_.round`` in which each was taught.
    n_features_in_ : int
        Channels C of the images, or number of features.

    Notes
    -----
    Ctrl-C during training loses no label: once an epoch of a `CNNClassifier` is finished, its
    weights are kept and the labels of the call are in ``memory_``; before that, everything is as it
    was before the call, which can be repeated.

    References
    ----------
    Zhou et al., CVPR 2017 (AIFT); Zhou et al., Medical Image Analysis 71:101997, 2021 (ACFT).

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = make_blobs(100, centers=2, random_state=0)
    >>> clf = AIFTClassifier(LogisticRegression(), classes=[0, 1]).partial_fit(X[:10], y[:10])
    >>> clf.predict_patch_proba(X).shape
    (100, 8, 2)
    >>> most_useful = clf.score_candidates(X).argsort()[::-1][:10]
    >>> clf.partial_fit(X[most_useful], y[most_useful]).memory_.y.shape
    (20,)
    """

    _classes_seen: Array

    def __init__(
        self,
        estimator: Any = None,
        *,
        patches: Any = None,
        classes: Any = None,
        replay: str = "hard",
        training_patches: int = 4,
        backend: str = "auto",
        warm_start: bool = False,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.patches = patches
        self.classes = classes
        self.replay = replay
        self.training_patches = training_patches
        self.backend = backend
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state

    # --- learning -----------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Train from the pre-trained state, forgetting all labels seen before (RFT, AFT).

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Candidates; images are uint8 in [0, 255] or float in [0, 1].
        y : array-like of shape (n,)
            Their classes.
        **fit_params
            ``sample_weight`` of shape (n,), where the estimator takes it: weights of the
            candidates, which their patches share. They are kept with the memory and replayed.

        Returns
        -------
        AIFTClassifier
            Itself.

        Raises
        ------
        DataError, DataTypeError, LabelError, ParameterError
            If the candidates, the labels or a parameter are not as described.
        NonFiniteLossError
            If training diverges; the classifier is then as it was before the call.
        TrainingInterrupted
            On Ctrl-C after at least one epoch; what was learnt until then is kept.
        KeyboardInterrupt
            On Ctrl-C before that; the classifier is as it was before the call.
        """
        with unchanged_on_error(self):
            continuing = self.warm_start and hasattr(self, "estimator_")
            X, y = self._check_training(X, y, reset=not continuing)
            new = Memory.of(X, y, self._weights("fit", fit_params, len(y)))
            if continuing:
                check_known_labels(y, self.classes_)
                seen = np.union1d(self._classes_seen, y)
                self._learn(lambda: self._continue(new, new), new, seen)
            else:
                self._start(new, self.classes)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, **fit_params: Any) -> Self:
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
        **fit_params
            ``sample_weight`` of shape (n,), where the estimator takes it: weights of the
            candidates, which their patches share. They are kept with the memory and replayed.

        Returns
        -------
        AIFTClassifier
            Itself.

        Raises
        ------
        LabelError
            If a label is not among the known classes.
        DataError, DataTypeError, ParameterError
            If the candidates or a parameter are not as described.
        NonFiniteLossError
            If training diverges; the classifier is then as it was before the call.
        TrainingInterrupted
            On Ctrl-C after at least one epoch; what was learnt until then is kept.
        KeyboardInterrupt
            On Ctrl-C before that; the classifier is as it was before the call.
        """
        check_option("replay", self.replay, ("hard", "all", "none"))
        with unchanged_on_error(self):
            first = not hasattr(self, "estimator_")
            X, y = self._check_training(X, y, reset=first)
            new = Memory.of(X, y, self._weights("partial_fit", fit_params, len(y)))
            if first:
                if self.classes is not None:
                    check_same_classes(classes, self.classes)
                self._start(new, self.classes if classes is None else classes)
            else:
                check_same_classes(classes, self.classes_)
                check_known_labels(y, self.classes_)
                self._learn_more(new)
        return self

    def _learn_more(self, new: Memory) -> None:
        seen = np.union1d(self._classes_seen, new.y)
        if not hasattr(self, "memory_"):
            if self.replay != "none" or not hasattr(self.estimator_, "partial_fit"):
                raise ParameterError(
                    f"replay={self.replay!r} needs the candidates that were labelled before, which "
                    "were not saved with this model; supply them: load(folder, memory=(X, y)), or "
                    "set replay='none'."
                )
            self._learn(lambda: self._continue(new, new), new, seen)
            return
        # Found by the model as it is, before anything changes.
        replayed = self.memory_.rows(self._replayed())
        everything = self.memory_.extended(new)
        self._learn(lambda: self._continue(replayed.extended(new), everything), everything, seen)

    def _learn(self, train: Callable[[], Any], memory: Memory, classes_seen: Array) -> None:
        """Train, then remember; what an interrupt left usable is remembered too."""
        try:
            self.estimator_ = train()
        except TrainingInterrupted:
            self.memory_, self._classes_seen = memory, classes_seen
            raise
        self.memory_, self._classes_seen = memory, classes_seen

    def _start(self, new: Memory, classes: Any) -> None:
        """Fix what stays the same from round to round, and train on the first labels."""
        check_int("training_patches", self.training_patches, minimum=1)
        known = np.unique(new.y if classes is None else classes)
        check_known_labels(new.y, known)
        rng = check_random_state(self.random_state)
        self.patches_ = self._fit_patches(new.X, rng)
        self.classes_ = known
        self._seed = int(rng.randint(2**31 - 1))
        self._learn(lambda: self._train_anew(new), new, np.unique(new.y))

    def _fit_patches(self, X: Any, rng: np.random.RandomState) -> Any:
        if len(X.shape) == 5:
            if self.patches is not None:
                raise ParameterError(
                    f"patches={self.patches!r} and X of shape {X.shape}, which holds patches that "
                    "were cut already; pass patches=None, or candidates of shape (n, C, H, W)."
                )
            return None
        if self.patches is None:
            return (JitterPatches() if len(X.shape) == 2 else AffinePatches()).fit(X)
        return seeded(clone(self.patches), rng).fit(X)

    def _new_estimator(self, n_dims: int) -> Any:
        """Clone the estimator, seeded, and let it draw its own training views if it can."""
        estimator = seeded(self._template(n_dims), check_random_state(self._seed))
        params = estimator.get_params(deep=False)
        if params.get("augmentation", "unknown") is None and hasattr(self.patches_, "sample"):
            estimator.set_params(
                augmentation=clone(self.patches_), augmentation_views=self.training_patches
            )
        return estimator

    def _template(self, n_dims: int) -> Any:
        if self.estimator is not None:
            return clone(self.estimator)
        if n_dims == 2:
            return LogisticRegression(max_iter=1000)
        from .networks.cnn import CNNClassifier

        return CNNClassifier()

    def _train_anew(self, known: Memory) -> Any:
        estimator = self._new_estimator(known.X.ndim)
        n_seen = len(np.unique(known.y))
        continues = hasattr(estimator, "partial_fit") and len(self.classes_) > 1
        if n_seen == 1 and not continues:
            # Most classifiers refuse one class; until there is a second, it is the prediction.
            return _OneClass(strategy="prior").fit(np.zeros((len(known.y), 1)), known.y)
        try:
            if n_seen < len(self.classes_) and continues:
                return self._call("partial_fit", estimator, known, classes=self.classes_)
            return self._call("fit", estimator, known)
        except TrainingInterrupted:
            self.estimator_ = estimator
            raise

    def _continue(self, new: Memory, everything: Memory) -> Any:
        """Train on the new where weights are kept, and on all that was seen where they are not."""
        if hasattr(self.estimator_, "partial_fit"):
            return self._call("partial_fit", self.estimator_, new, classes=self.classes_)
        if self.replay == "none" and not isinstance(self.estimator_, _OneClass):
            return self._train_anew(new)
        return self._train_anew(everything)

    def _replayed(self) -> NDArray[np.intp]:
        """Positions in memory that are trained on again, by the model before the update."""
        everything = np.arange(len(self.memory_.y))
        if self.replay == "none":
            return everything[:0]
        if self.replay == "all" or not hasattr(self.estimator_, "partial_fit"):
            return everything
        return np.flatnonzero(self.predict(self.memory_.X) != self.memory_.y)

    def _call(self, method: str, estimator: Any, known: Memory, **params: Any) -> Any:
        """Train the estimator on candidates if it draws views itself, else on patches."""
        X, y, weight = known.X, known.y, known.sample_weight
        augments = estimator.get_params(deep=False).get("augmentation") is not None
        if not augments or self.patches_ is None:
            patches = X if self.patches_ is None else self.patches_.transform(X)
            n_kept = min(self.training_patches, patches.shape[1])
            # Evenly spaced, since patches that the user cut may be ordered; 0 is the whole
            # candidate.
            kept = np.linspace(0, patches.shape[1], n_kept, endpoint=False).astype(int)
            X = patches[:, kept].reshape(-1, *patches.shape[2:])
            y = np.repeat(y, n_kept)
            weight = None if weight is None else np.repeat(weight, n_kept)
            if hasattr(estimator, "validation_fraction") and has_fit_parameter(estimator, "groups"):
                # Patches of one candidate are not held out against each other.
                params["groups"] = np.repeat(np.arange(len(known.y)), n_kept)
        if weight is not None:
            params[weight_parameter(estimator)] = weight
        return getattr(estimator, method)(X, y, **params)

    @property
    def classes_seen_(self) -> Array:
        """Classes that a label was given for, sorted."""
        check_is_fitted(self)
        return np.array(self._classes_seen)

    def _before_or_after_fit(self, X: Any) -> tuple[Any, Any, Any]:
        """Pool, patches and estimator; of an unfitted classifier, those it would start from."""
        if hasattr(self, "estimator_"):
            X = self._check_pool(X)
            one_class = isinstance(self.estimator_, _OneClass)
            estimator = self._template(len(X.shape)) if one_class else self.estimator_
            return X, self.patches_, estimator
        if image_shape(X) is None:
            X = check_features(clone(self), X, dtype=np.float64, reset=True)
        elif not hasattr(X, "shape"):
            X = np.asarray(X)
        check_not_empty(X.shape)
        patches = self._fit_patches(X, check_random_state(0))
        return X, patches, self._template(len(X.shape))
