"""What predicts candidates by way of their patches: all that a pass over a pool depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._candidates import embedder, first_step, with_columns
from ..errors import ModelNotFittedError
from ..patches import count_patches

__all__ = ["PatchModel"]

Array = NDArray[Any]


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
        return np.asarray(with_columns(np.asarray(found), known, self.classes), dtype=np.float32)

    @property
    def can_embed(self) -> bool:
        """Whether the estimator embeds patches."""
        return embedder(self.estimator) is not None
