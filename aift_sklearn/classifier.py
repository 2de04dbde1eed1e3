"""AIFTClassifier: candidate → class, by way of patches and any classifier.

One seam joins it to the model: ``predict_proba``. What the estimator can do beyond that
(``partial_fit``, ``embed``, drawing its own training views) is used where it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._candidates import check_not_empty, check_pool, embedder
from ._checks import as_array, check_features, image_shape
from ._saving import SaveMixin
from .errors import ParameterError
from .learning.base import ContinualClassifier
from .learning.start import choose_estimator, fit_patches
from .learning.training import Trained, _OneClass
from .memory import Memory
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


class AIFTClassifier(SaveMixin, ContinualClassifier):
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
    replay : {"mixed", "hard", "all", "none"}, default="mixed"
        What `partial_fit` trains on besides the new candidates. "hard": those labelled before that
        the model, *before* the update, misclassifies (ACFT(HQ)); "mixed": those that it
        misclassifies as a whole, by patch 0 alone, and others drawn at random, as many in all as
        are new, or more if more are hard; "all": all of them (ACFT(LQ));
        "none": none (ACFT(Q)). An estimator without ``partial_fit`` forgets when it is fitted, so
        it is given all of them, but for "none". The head of a `CNNClassifier` is fitted to all of
        them, whatever is replayed (``linear_probe``), but for "none" and in calls that hold images
        out for early stopping or calibration.
    training_patches : int, default=4
        Patches per candidate that are trained on in each epoch. A `CNNClassifier` draws fresh views
        in every epoch; any other estimator is given that many of the fixed patches, the whole
        candidate among them.
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

    # Another one whenever the classifier has learnt; never stored.
    _transient = ("_seam", "_untaught")
    _seam: Seam | None = None

    def __init__(
        self,
        estimator: Any = None,
        *,
        patches: Any = None,
        classes: Any = None,
        replay: str = "mixed",
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

    def _keep(self, trained: Trained, memory: Memory, seen: Array, *, lacks: bool) -> None:
        # Engines serve what was learnt until now.
        self._seam = Seam(self._seam)
        super()._keep(trained, memory, seen, lacks=lacks)

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
            If the candidates are not as described, or the estimator gives what is no probability:
            below 0, above 1, not finite, or in a row that does not sum to 1.
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

    def _predict_whole(self, X: Any) -> Array:
        P: NDArray[np.float32] = self._pass_over(X, lambda whole, X: whole.predict(X, [0]), 1)
        return np.asarray(self.classes_[P[:, 0].argmax(axis=1)])

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

    def _pass_over(
        self, X: Any, action: Callable[[PoolPass, Any], T], n_views: int | None = None
    ) -> T:
        """Check the pool, and do something with it through the engine that suits it."""
        check_is_fitted(self)
        X = check_pool(self, X)
        model = PatchModel.from_classifier(self)
        return self._run(model, X, lambda whole: action(whole, X), n_views)

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
            X, model = check_pool(self, X), PatchModel.from_classifier(self)
            if isinstance(self.estimator_, _OneClass):
                model = replace(
                    model, estimator=clone(choose_estimator(self.estimator, model.n_dims))
                )
            return X, model
        if image_shape(X) is None:
            X = check_features(clone(self), X, dtype=np.float64, reset=True)
        elif not hasattr(X, "shape"):
            X = as_array(X)
        check_not_empty(X.shape)
        patches, n_dims = fit_patches(self.patches, X, check_random_state(0)), len(X.shape)
        n_features = int(X.shape[1] if n_dims == 2 else X.shape[-3])
        template = clone(choose_estimator(self.estimator, n_dims))
        return X, PatchModel(template, patches, np.empty(0), n_dims, n_features)
