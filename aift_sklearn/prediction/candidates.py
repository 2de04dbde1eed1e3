"""What a classifier of candidates is asked, by way of the probabilities of their patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._candidates import CandidateInput, embedder, whole, with_columns
from ..errors import ParameterError
from ..scores import patch_consistency
from .backend import OnnxBackend

__all__ = ["PatchPrediction"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


def _can_embed(self: PatchPrediction) -> bool:
    return self.estimator is None or embedder(self.estimator) is not None


def _can_predict_pretrained(self: PatchPrediction) -> bool:
    return self.estimator is None or hasattr(self.estimator, "pretrained_proba")


class PatchPrediction(OnnxBackend, CandidateInput):
    """Predict patches with the trained estimator, and candidates from their patches."""

    estimator: Any
    estimator_: Any
    patches_: Any
    classes_: Array

    def _before_or_after_fit(self, X: Any) -> tuple[Any, Any, Any]:
        """Pool, patches and estimator; of an unfitted classifier, those it would start from."""
        raise NotImplementedError

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
            If the candidates are not as described.
        """
        P: NDArray[np.float32] = self._over_patches(X, lambda P: P)
        return P

    def _over_patches(self, X: Any, reduce: Callable[[Array], Array]) -> Array:
        """Compute something of the patch probabilities, part of the pool by part."""
        check_is_fitted(self)
        X = self._check_pool(X)
        scorer = self._onnx_scorer(X)
        if scorer is not None:
            return np.asarray(scorer.reduce(X, reduce))

        def predict(patches: Array) -> Array:
            return with_columns(
                self.estimator_.predict_proba(patches), self.estimator_.classes_, self.classes_
            )

        return self._patch_proba(X, self.patches_, predict, reduce)

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
        return self._over_patches(X, lambda P: P.mean(axis=1, dtype=np.float64))

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
        return self._over_patches(X, lambda P: patch_consistency(P, **consistency))

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
        X, patches, estimator = self._before_or_after_fit(X)
        embed = embedder(estimator)
        if embed is None:
            return np.asarray(X, dtype=np.float32)
        parts = [embed(whole(part, patches)) for part in self._parts(X, None, "embedding")]
        return np.concatenate(parts)

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
        X, patches, estimator = self._before_or_after_fit(X)
        predict = getattr(estimator, "pretrained_proba", None)
        if predict is None:
            raise ParameterError(
                f"{type(estimator).__name__} has no pre-training head; a CNN by name has one, such "
                "as CNNClassifier('efficientnet_lite0')."
            )
        P: NDArray[np.float32] = self._patch_proba(X, patches, predict, lambda P: P)
        return P

    def _patch_proba(
        self,
        X: Any,
        patches: Any,
        predict: Callable[[Array], Array],
        reduce: Callable[[Array], Array],
    ) -> Array:
        parts = []
        for part in self._parts(X, patches, "scoring"):
            views = part if patches is None else patches.transform(part)
            proba = predict(views.reshape(-1, *views.shape[2:]))
            P = np.asarray(proba, np.float32).reshape(*views.shape[:2], -1)
            parts.append(reduce(P))
        return np.concatenate(parts)
