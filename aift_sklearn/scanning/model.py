"""What predicts candidates by way of their patches: all that a pass over a pool depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._candidates import embedder, first_step, with_columns
from ..errors import DataError, ModelNotFittedError
from ..patches import count_patches

__all__ = ["PatchModel", "check_proba"]

Array = NDArray[Any]

# How far rounding may lead; as far as scores allow.
_RANGE_TOLERANCE, _SUM_TOLERANCE = 1e-6, 1e-3


@dataclass(frozen=True, eq=False)
class PatchModel:
    """A fitted estimator of patches, the patches, and the classes of the candidates.

    Attributes
    ----------
    estimator : classifier or transformer
        Predicts or embeds patches.
    patches : Patches or None
        Fitted; None where candidates are patches that were cut already.
    classes : ndarray of shape (K,)
        Columns of the probabilities; the estimator may know fewer.
    n_dims : int
        Axes of a pool: 2 features (n, f), 4 images (n, C, H, W), 5 patches (n, m, C, h, w).
    n_features : int
        Channels C, or features f.
    """

    estimator: Any
    patches: Any
    classes: Array
    n_dims: int
    n_features: int

    @classmethod
    def from_classifier(cls, classifier: Any) -> PatchModel:
        """Model of a fitted `AIFTClassifier`, or of one inside a learner.

        Raises
        ------
        ModelNotFittedError
            If it is none, or was taught nothing.
        """
        inner: Any = getattr(classifier, "estimator", None)
        if not hasattr(classifier, "estimator_") and hasattr(inner, "estimator_"):
            classifier = inner
        if not all(hasattr(classifier, name) for name in ("estimator_", "patches_", "classes_")):
            raise ModelNotFittedError(
                f"{type(classifier).__name__} is not a fitted AIFTClassifier; expected one, "
                "trained on labels of at least two classes."
            )
        return cls(
            classifier.estimator_,
            classifier.patches_,
            np.asarray(classifier.classes_),
            classifier._n_dims,
            classifier.n_features_in_,
        )

    def is_same(self, other: PatchModel) -> bool:
        """Whether both are of the same objects; their contents may have changed meanwhile."""
        mine = (self.estimator, self.patches)
        theirs = (other.estimator, other.patches)
        return all(a is b for a, b in zip(mine, theirs, strict=True)) and np.array_equal(
            self.classes, other.classes
        )

    @property
    def network_owner(self) -> Any:
        """Estimator that holds the network which sees the patches."""
        return first_step(self.estimator)

    @property
    def head(self) -> Any:
        """What comes after the network in a pipeline, or None."""
        steps = getattr(self.estimator, "steps", None)
        return self.estimator[1:] if steps and len(steps) > 1 else None

    def n_patches(self, shape: tuple[int, ...]) -> int | None:
        """Patches of each candidate of a pool of this shape; None where that is not known."""
        return count_patches(self.patches, shape)

    def as_proba(self, found: Any, known: Array) -> NDArray[np.float32]:
        """Give probabilities (k, K') of the classes ``known`` a column for every class."""
        checked = check_proba(found, self.estimator, n_classes=len(known))
        return np.asarray(with_columns(checked, known, self.classes), dtype=np.float32)

    @property
    def can_embed(self) -> bool:
        """Whether the estimator embeds patches."""
        return embedder(self.estimator) is not None


def check_proba(
    found: Any, estimator: Any, n_classes: int | None = None, method: str = "predict_proba"
) -> NDArray[np.float32]:
    """Refuse what an estimator gives in the place of probabilities (k, K).

    Rows that are not finite are left to those who know which candidate they are of.

    Parameters
    ----------
    found : array-like
        What its ``method`` gave.
    estimator : estimator
        Named in the message; of a pipeline, its last step.
    n_classes : int, optional
        K, where it is known.
    method : str, default="predict_proba"
        Named in the message.
    """
    proba = np.asarray(found, dtype=np.float32)
    steps = getattr(estimator, "steps", None)
    gives = f"{method} of {type(steps[-1][1] if steps else estimator).__name__} gives"
    if proba.ndim != 2 or (n_classes is not None and proba.shape[1] != n_classes):
        k, K = len(np.atleast_1d(proba)), "K" if n_classes is None else n_classes
        raise DataError(
            f"{gives} shape {proba.shape}; expected ({k}, {K}), a column for each of its classes_."
        )
    rows = proba[np.isfinite(proba).all(axis=1)]
    low, high = (rows.min(), rows.max()) if rows.size else (0.0, 1.0)
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise DataError(
            f"{gives} values from {low:g} to {high:g}; expected probabilities in [0, 1], not "
            "logits or percentages."
        )
    total = rows.sum(axis=1, dtype=np.float64)
    worst = total[np.abs(total - 1).argmax()] if len(total) else 1.0
    if abs(worst - 1) > _SUM_TOLERANCE:
        raise DataError(
            f"{gives} rows that sum to {worst:g}; expected 1. Divide each row by its sum, where "
            "classes exclude each other."
        )
    return proba
