"""What an ONNX engine computes: a fitted classifier, or a file that one was exported to."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

import joblib
import numpy as np
import onnx
from numpy.typing import NDArray

from .._candidates import softmax
from ..errors import ExportError
from ..scanning.engine import EstimatorEngine
from ..scanning.model import PatchModel
from .shelf import GraphShelf

__all__ = ["EstimatorSource", "Geometry", "NetworkSource", "graph_digest"]

Array = NDArray[Any]
Floats = NDArray[np.float32]


class Geometry(NamedTuple):
    """How patches are cut from candidates of one shape.

    Attributes
    ----------
    image_shape : tuple of int
        C, H and W of the candidates; C, h and w of patches that were cut already.
    size : tuple of int
        h and w of the patches.
    matrices : ndarray of shape (m, 2, 3), float32, or None
        The views; None where candidates are patches that were cut already.
    """

    image_shape: tuple[int, int, int]
    size: tuple[int, int]
    matrices: Floats | None

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """C, h and w of the patches."""
        return (self.image_shape[0], *self.size)


class NetworkSource(Protocol):
    """What `OnnxEngine` needs to know of a model."""

    @property
    def classes(self) -> Array:
        """Classes, in the order of the probabilities' columns."""

    @property
    def n_dims(self) -> int:
        """Axes of a pool: 4 for candidates, 5 for patches that were cut already."""

    @property
    def n_channels(self) -> int:
        """Channels of the candidates."""

    @property
    def output(self) -> str:
        """Which output of the network `finish` takes."""

    @property
    def predicts(self) -> bool:
        """Whether there are probabilities, not only embeddings."""

    @property
    def reference(self) -> EstimatorEngine | None:
        """What the engine's probabilities are compared with; None where there is only a file."""

    def geometry(self, shape: tuple[int, ...]) -> Geometry:
        """How patches are cut from a pool of a shape."""

    def take_network(self, patch_shape: tuple[int, int, int]) -> tuple[onnx.ModelProto, int]:
        """Graph patches (k, C, h, w) → outputs, with the present weights, and its version."""

    def drop_network(self) -> None:
        """Forget the graph taken last, where it can be had anew."""

    def finish(self, outputs: Floats) -> Floats:
        """Turn outputs (k, …) into probabilities (k, K)."""

    def identity(self) -> dict[str, Any]:
        """Hashes of all that probabilities depend on besides the network's graph."""


class EstimatorSource:
    """A CNN that predicts patches, or a pipeline that begins with a CNN's features.

    Parameters
    ----------
    model : PatchModel
        Fitted.
    shelf : GraphShelf
        Where graphs of its network are kept.

    Raises
    ------
    ExportError
        If it is built of parts that no graph can be made of.
    """

    def __init__(self, model: PatchModel, shelf: GraphShelf) -> None:
        self.model, self._shelf = model, shelf
        self._taken: Any = None
        owner, estimator = model.network_owner, model.estimator
        # "logits" of a CNN that classifies, "embeddings" of one that begins a pipeline.
        found: Any = getattr(owner, "graph_output", None)
        expected = ("embeddings",) if model.head is not None else ("logits", "embeddings")
        if found not in expected or not hasattr(owner, "module_"):
            raise ExportError(
                f"{type(estimator).__name__} is no CNN, and no pipeline that begins with "
                "CNNFeatures; only those become ONNX graphs."
            )
        self.output: str = found
        patches = model.patches
        if patches is not None and not hasattr(patches, "matrices_of"):
            raise ExportError(
                f"patches of {type(patches).__name__} cannot be cut in a graph; use AffinePatches, "
                "or pass patches that are cut already, of shape (n, m, C, h, w)."
            )
        if model.n_dims == 2:
            raise ExportError("candidates are feature vectors; only images become ONNX graphs.")

    @property
    def classes(self) -> Array:
        """Classes, in the order of the probabilities' columns."""
        return self.model.classes

    @property
    def n_dims(self) -> int:
        """Axes of a pool."""
        return self.model.n_dims

    @property
    def n_channels(self) -> int:
        """Channels of the candidates."""
        return self.model.n_features

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return float(getattr(self.model.network_owner, "temperature_", 1.0))

    @property
    def columns(self) -> list[int]:
        """Position of each class that the estimator knows, among all classes."""
        known = self.model.estimator.classes_
        return [int(k) for k in np.searchsorted(self.classes, known)]

    @property
    def predicts(self) -> bool:
        """Whether there are probabilities, not only embeddings."""
        return hasattr(self.model.estimator, "predict_proba")

    @property
    def reference(self) -> EstimatorEngine:
        """The estimator itself."""
        return EstimatorEngine(self.model)

    def geometry(self, shape: tuple[int, ...]) -> Geometry:
        """How patches are cut from a pool of a shape."""
        image_shape = int(shape[-3]), int(shape[-2]), int(shape[-1])
        patches = self.model.patches
        if patches is None:
            return Geometry(image_shape, image_shape[1:], None)
        return Geometry(image_shape, patches.patch_shape(shape), patches.matrices_of(shape))

    def take_network(self, patch_shape: tuple[int, int, int]) -> tuple[onnx.ModelProto, int]:
        """Graph of the network with its present weights, exported where there is none yet."""
        self._taken, version = self._shelf.take(self.model.network_owner.module_, patch_shape)
        return self._taken.model, version

    def drop_network(self) -> None:
        """Forget the graph taken last: it is exported anew next time."""
        self._shelf.drop(self._taken)

    def finish(self, outputs: Floats) -> Floats:
        """Turn outputs (k, …) into probabilities (k, K)."""
        estimator, head = self.model.estimator, self.model.head
        if head is not None:
            proba: Any = head.predict_proba(outputs)
        else:
            proba = softmax(outputs.astype(np.float64) / self.temperature)
        return self.model.as_proba(proba, estimator.classes_)

    def identity(self) -> dict[str, Any]:
        """Hash of what comes after the network."""
        columns = self.columns if self.predicts else []
        parts = (self.temperature, columns, self.classes, self.model.head)
        return {"head": joblib.hash(parts)}


def graph_digest(model: onnx.ModelProto) -> str:
    """Hash of what a graph computes: operators, their order, and weights; not where it came from.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("value_info")
    for one in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        one.ClearField("doc_string")
        one.ClearField("metadata_props")
    return hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
