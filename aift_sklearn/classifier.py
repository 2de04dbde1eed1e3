"""AIFTClassifier: candidate → class, by way of patches and any classifier.

One seam joins it to the model: ``predict_proba``. What the estimator can do beyond that
(``partial_fit``, ``embed``, drawing its own training views) is used where it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ._candidates import CandidateInput, check_not_empty, embedder, seeded
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
from .prediction import Seam, as_features
from .scanning.engine import EstimatorEngine
from .scanning.model import PatchModel
from .scanning.pool_pass import PoolPass
from .scores import patch_consistency

__all__ = ["AIFTClassifier"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


T = TypeVar("T")


def _can_embed(self: AIFTClassifier) -> bool:
    return self.estimator is None or embedder(self.estimator) is not None


def _can_predict_pretrained(self: AIFTClassifier) -> bool:
    return self.estimator is None or hasattr(self.estimator, "pretrained_proba")


class _OneClass(DummyClassifier):
    """Stands in for an estimator that cannot be trained on one class."""


class AIFTClassifier(SaveMixin, WeightRouting, CandidateInput, ClassifierMixin, BaseEstimator):
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
    # Another one whenever the classifier has learnt; never stored.
    _seam: Seam | None = None

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
        # Engines serve what was learnt until now.
        self._seam = Seam(self._seam)
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

    # --- predicting ---------------------------------------------------------------------------

    def predict_patch_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities of the classes for every patch: P.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Candidates. For images, anything that has a shape and slices will do (a memory map,
            say); it is read in parts.

        Returns
        -------
        ndarray of shape (n, m, K), float32
            Columns in the order of ``classes_``.

        Raises
        ------
        NotFittedError
            Before the first label.
        DataError, DataTypeError
            If the candidates are not as described, or the model gives a probability of one that is
            not finite.
        """
        P: NDArray[np.float32] = self._reduce(X, lambda P: P)
        return P

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of the classes: the mean over the patches.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Candidates.

        Returns
        -------
        ndarray of shape (n, K), float64
            Columns in the order of ``classes_``.
        """
        return self._reduce(X, lambda P: P.mean(axis=1, dtype=np.float64))

    def predict(self, X: Any) -> Array:
        """Predict the class of each candidate: the most probable one.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Candidates.

        Returns
        -------
        ndarray of shape (n,)
            Class labels.
        """
        proba = self.predict_proba(X)
        return np.asarray(self.classes_[proba.argmax(axis=1)])

    def score_candidates(self, X: Any, **consistency: Any) -> Floats:
        """Score how much the label of each candidate would teach the model.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Candidates.
        **consistency
            Parameters of `patch_consistency`: alpha, entropy_weight, diversity_weight, reduction,
            eps.

        Returns
        -------
        ndarray of shape (n,), float64
            Higher: label it sooner.
        """
        return self._reduce(X, lambda P: patch_consistency(P, **consistency))

    def top_candidates(
        self, X: Any, n_instances: int, *, racing: bool = True, **consistency: Any
    ) -> tuple[NDArray[np.intp], Floats]:
        """Find the candidates with the highest scores, without scoring all patches of all.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Candidates.
        n_instances : int
            How many, b.
        racing : bool, default=True
            Give most patches only to images that can still reach the top b. A race may lose a
            candidate whose first patches look certain and whose later ones do not;
            ``docs/performance.md`` tells how many were lost. With False the result is exact.
        **consistency
            Parameters of `patch_consistency`.

        Returns
        -------
        indices : ndarray of shape (b,)
            Highest score first, ties by index.
        scores : ndarray of shape (b,), float64
            Over all m patches, raced or not.
        """
        return self._pass_over(
            X, lambda whole, X: whole.top(X, n_instances, racing=racing, **consistency)
        )

    @available_if(_can_embed)
    def embed(self, X: Any) -> NDArray[np.float32]:
        """Embed whole candidates; before the first label, with the pre-trained weights.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
            Candidates. Of candidates cut into patches, patch 0 is embedded; feature vectors are
            their own embedding.

        Returns
        -------
        ndarray of shape (n, E), float32
            One embedding per candidate.
        """
        X, model = self._pretrained_or_fitted(X)
        if not model.can_embed:
            return np.asarray(X, dtype=np.float32)
        model = as_features(model, X)
        return self._run(model, X, lambda whole: whole.embed(X), n_views=1)

    @available_if(_can_predict_pretrained)
    def pretrained_patch_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities of the pre-training classes (ImageNet's 1,000), with no label needed.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W) or (n, m, C, h, w)
            Candidates.

        Returns
        -------
        ndarray of shape (n, m, 1000), float32
            What the network took the patches for before it was fine-tuned.
        """
        X, model = self._pretrained_or_fitted(X)
        predict = getattr(model.estimator, "pretrained_proba", None)
        if predict is None:
            raise ParameterError(
                f"{type(model.estimator).__name__} has no pre-training head; a CNN by name has "
                "one, such as CNNClassifier('efficientnet_lite0')."
            )
        engine = EstimatorEngine(model, predict=predict)
        P: NDArray[np.float32] = PoolPass(engine, verbose=self.verbose).reduce(X, lambda P: P)
        return P

    def _reduce(self, X: Any, function: Callable[[Array], Array]) -> Array:
        return self._pass_over(X, lambda whole, X: whole.reduce(X, function))

    def _pass_over(self, X: Any, action: Callable[[PoolPass, Any], T]) -> T:
        """Check the pool, and do something with it through the engine that suits it."""
        check_is_fitted(self)
        X = self._check_pool(X)
        model = PatchModel.from_classifier(self)
        return self._run(model, X, lambda whole: action(whole, X))

    def _run(
        self, model: PatchModel, X: Any, action: Callable[[PoolPass], T], n_views: int | None = None
    ) -> T:
        fitted = model.estimator is self.__dict__.get("estimator_")
        if fitted and self._seam is None:
            # Of a copy, or of a model that was loaded.
            self._seam = Seam()
        seam = self._seam if fitted and self._seam is not None else Seam(self._seam)
        how = {"backend": self.backend, "verbose": self.verbose, "n_views": n_views}
        return seam.run(model, X, action, **how)

    def _pretrained_or_fitted(self, X: Any) -> tuple[Any, PatchModel]:
        """Pool and model; of an unfitted classifier, the one it would start from."""
        if hasattr(self, "estimator_"):
            X, model = self._check_pool(X), PatchModel.from_classifier(self)
            if isinstance(self.estimator_, _OneClass):
                model = replace(model, estimator=self._template(len(X.shape)))
            return X, model
        if image_shape(X) is None:
            X = check_features(clone(self), X, dtype=np.float64, reset=True)
        elif not hasattr(X, "shape"):
            X = np.asarray(X)
        check_not_empty(X.shape)
        patches, n_dims = self._fit_patches(X, check_random_state(0)), len(X.shape)
        n_features = int(X.shape[1] if n_dims == 2 else X.shape[-3])
        template = self._template(n_dims)
        return X, PatchModel(template, patches, np.empty(0), n_dims, n_features)

    def __getstate__(self) -> dict[str, Any]:
        # Engines cannot be pickled, and are made again when they are needed.
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_seam"}
