"""What a scorer scores with: a fitted classifier, or a file that one was exported to."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol, Self, runtime_checkable

import joblib
import numpy as np
import onnx
from numpy.typing import NDArray

from .._candidates import first_step, softmax, with_columns
from ..errors import ExportError

__all__ = ["EstimatorModel", "ScoringModel"]

Array = NDArray[Any]
Floats = NDArray[np.float32]


@runtime_checkable
class ScoringModel(Protocol):
    """What `OnnxScorer` needs of a model."""

    @property
    def classes(self) -> Array:
        """Classes, in the order of the probabilities' columns."""

    @property
    def n_channels(self) -> int:
        """Channels of the candidates."""

    @property
    def output(self) -> str:
        """Which output of the network `finish` takes."""

    def patches_of(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], Floats | None]:
        """Size of the patches of a pool of a shape, and the matrices that they are cut through."""

    def network(self, shape: tuple[int, int, int]) -> onnx.ModelProto:
        """Graph: patches (k, C, h, w) → the output (k, …) and, where there are, embeddings."""

    def finish(self, outputs: Floats) -> Floats:
        """Turn outputs (k, …) into probabilities (k, K)."""

    def identity(self) -> str:
        """Hash of all that scores depend on, besides the pool and the parameters of the score."""

    def refresh(self) -> bool:
        """Take the present weights; False where the network has to be exported anew."""

    def is_stale(self) -> bool:
        """Whether the weights have changed since they were taken."""


class EstimatorModel:
    """A fitted AIFTClassifier around a CNN, or around a pipeline that begins with its features.

    Parameters
    ----------
    classifier : AIFTClassifier
        Fitted.

    Raises
    ------
    ExportError
        If it is built of parts that no graph can be made of.
    """

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier
        self._graph: Any = None
        self._taken = b""
        self._check()

    def _check(self) -> None:
        estimator = getattr(self.classifier, "estimator_", None)
        if estimator is None or not hasattr(self.classifier, "classes_"):
            raise ExportError(
                f"{type(self.classifier).__name__} is not a fitted AIFTClassifier; expected one, "
                "trained on labels of at least two classes."
            )
        if self._module is None:
            raise ExportError(
                f"{type(estimator).__name__} is no CNN, and no pipeline that begins with "
                "CNNFeatures; only those become ONNX graphs."
            )
        patches = self.classifier.patches_
        if patches is not None and not hasattr(patches, "matrices_of"):
            raise ExportError(
                f"patches of {type(patches).__name__} cannot be cut in a graph; use AffinePatches, "
                "or pass patches that are cut already, of shape (n, m, C, h, w)."
            )

    @property
    def _steps(self) -> Any:
        return getattr(self.classifier.estimator_, "steps", None)

    @property
    def _module(self) -> Any:
        return getattr(first_step(self.classifier.estimator_), "module_", None)

    @property
    def classes(self) -> Array:
        """Classes, in the order of the probabilities' columns."""
        return np.asarray(self.classifier.classes_)

    @property
    def n_channels(self) -> int:
        """Channels of the candidates."""
        return int(self.classifier.n_features_in_)

    @property
    def output(self) -> str:
        """Which output of the network `finish` takes."""
        return "embeddings" if self._steps else "logits"

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return float(getattr(self.classifier.estimator_, "temperature_", 1.0))

    @property
    def columns(self) -> list[int]:
        """Position of each class that the estimator knows, among all classes."""
        known = self.classifier.estimator_.classes_
        return [int(k) for k in np.searchsorted(self.classes, known)]

    @property
    def head(self) -> Any:
        """Pipeline after the CNN's features, or None."""
        return self.classifier.estimator_[1:] if self._steps else None

    def patches_of(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], Floats | None]:
        """Size of the patches of a pool of a shape, and the matrices that they are cut through."""
        patches = self.classifier.patches_
        if patches is None:
            return (int(shape[-2]), int(shape[-1])), None
        return patches.patch_shape(shape), patches.matrices_of(shape)

    def network(self, shape: tuple[int, int, int]) -> onnx.ModelProto:
        """Graph: patches (k, C, h, w) → logits or embeddings, exported where there is none yet."""
        from .graph import NetworkGraph

        if self._graph is None or self._graph.shape != shape:
            self._graph = NetworkGraph(self._module, shape)
            self._taken = self._weights()
        model: onnx.ModelProto = self._graph.model
        return model

    def refresh(self) -> bool:
        """Take the present weights; False where the network has to be exported anew."""
        self._check()
        if self._graph is None:
            return False
        try:
            self._graph.refresh(self._module)
        except ExportError:
            self._graph = None
            return False
        self._taken = self._weights()
        return True

    def is_stale(self) -> bool:
        """Whether the weights have changed since they were taken."""
        return self._graph is not None and self._taken != self._weights()

    def _weights(self) -> bytes:
        """Hash of the network's tensors, since optimizers do not count what they write."""
        digest = hashlib.blake2b()
        for name, tensor in sorted(self._module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().numpy().tobytes())
        return digest.digest()

    def finish(self, outputs: Floats) -> Floats:
        """Turn outputs (k, …) into probabilities (k, K)."""
        estimator = self.classifier.estimator_
        if self._steps:
            proba = self.head.predict_proba(outputs)
        else:
            proba = softmax(outputs.astype(np.float64) / self.temperature)
        return np.asarray(with_columns(proba, estimator.classes_, self.classes), dtype=np.float32)

    def identity(self) -> str:
        """Hash of all that scores depend on, besides the pool and the parameters of the score."""
        digest = hashlib.sha256(self._weights())
        views = getattr(self.classifier.patches_, "views_", None)
        parts = (views, self.temperature, self.columns, self.classes, self.head)
        digest.update(joblib.hash(parts).encode())
        return digest.hexdigest()

    @classmethod
    def of(cls, classifier: Any) -> Self:
        """Model of a classifier, or of the classifier inside a learner."""
        inner = getattr(classifier, "estimator", None)
        is_learner = not hasattr(classifier, "estimator_") and hasattr(inner, "estimator_")
        return cls(inner if is_learner else classifier)
