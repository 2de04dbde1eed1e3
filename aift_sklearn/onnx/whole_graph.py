"""The whole graph of a classifier: candidates as bytes in, scores out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ..errors import ExportError, MissingDependencyError
from ..patches._resampling import as_floats
from ..scores import EPS, n_kept
from .assembly import OPSET, join_graphs, subgraph
from .file import describe_model
from .fused import head_graph, patch_graph, score_graph, softmax_graph
from .runtime import open_session
from .source import EstimatorSource, Geometry

__all__ = ["check_agreement", "fused_model"]

# Largest difference of a probability between the graph and the classifier.
_TOLERANCE = 1e-4


def fused_model(
    source: EstimatorSource,
    shape: tuple[int, ...],
    consistency: dict[str, Any],
    dtype: Any = np.uint8,
) -> onnx.ModelProto:
    """Build the whole graph of a classifier.

    Parameters
    ----------
    source : EstimatorSource
        The classifier.
    shape : tuple of int
        (n, C, H, W) of the pools that it will score, or (n, m, C, h, w); n does not matter.
    consistency : dict
        Parameters of `patch_consistency`.
    dtype : dtype, default=uint8
        Of the candidates: uint8 in [0, 255], or float32 in [0, 1].

    Returns
    -------
    onnx.ModelProto
        candidates (n, C, H, W) → score (n,), proba (n, K), patch_proba (n, m, K), embeddings
        (n·m, E); with metadata.

    Raises
    ------
    ExportError
        If the head of a pipeline cannot be converted.
    """
    geometry, model = source.geometry(shape), source.model
    image_shape, size, matrices = geometry
    m = int(shape[1]) if matrices is None else len(matrices)
    parts = [] if matrices is None else [patch_graph(matrices, image_shape, size, dtype)]
    parts += [
        *_predicting_graphs(source, geometry, m),
        _score_graph(m, len(model.classes), consistency),
    ]
    whole = join_graphs(*parts)
    _hide(whole, {"patches", "logits", "probabilities"})
    # All views, always: a constant.
    constants = {one.name for one in whole.graph.initializer}
    inputs = [one for one in whole.graph.input if one.name not in constants]
    del whole.graph.input[:]
    whole.graph.input.extend(inputs)
    describe_model(
        whole,
        {
            "classes": model.classes.tolist(),
            "classes_dtype": model.classes.dtype.str if model.classes.dtype != object else "object",
            "columns": source.columns,
            "temperature": source.temperature,
            "output": "logits" if model.head is None else "probabilities",
            "candidates": np.dtype(dtype).name,
            "image_shape": list(image_shape),
            "size": list(size),
            "n_patches": m,
            "matrices": None if matrices is None else matrices.tolist(),
            "consistency": {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in consistency.items()
            },
            "opset": OPSET,
        },
    )
    return whole


def _predicting_graphs(
    source: EstimatorSource, geometry: Geometry, m: int
) -> list[onnx.ModelProto]:
    """Patches → P: the network, and the softmax or the pipeline's head."""
    network = source.take_network(geometry.patch_shape)[0]
    head, n_columns = source.model.head, len(source.columns)
    options: dict[str, Any] = {"columns": source.columns, "n_classes": len(source.model.classes)}
    if head is None:
        return [network, softmax_graph(n_columns, m, temperature=source.temperature, **options)]
    return [network, _converted(head, network), head_graph(n_columns, m, **options)]


def _score_graph(m: int, K: int, consistency: dict[str, Any]) -> onnx.ModelProto:
    """P → scores, with the defaults of `patch_consistency`."""
    weights: dict[str, Any] = {
        "entropy_weight": 1.0,
        "diversity_weight": 1.0,
        "reduction": "sum",
        "alpha": 0.25,
    }
    known = weights | {name: value for name, value in consistency.items() if name != "eps"}
    kept = n_kept(m, known.pop("alpha"), known["diversity_weight"])
    return score_graph(m, K, n_kept=kept, eps=consistency.get("eps") or EPS, **known)


def _converted(head: Any, network: onnx.ModelProto) -> onnx.ModelProto:
    """Graph of scikit-learn's part of a pipeline: embeddings (k, E) → probabilities (k, K')."""
    try:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError as error:
        raise MissingDependencyError(
            "skl2onnx", extra="cpu", purpose="exporting a pipeline's head"
        ) from error
    (n_embeddings,) = (
        one.type.tensor_type.shape.dim[1].dim_value
        for one in network.graph.output
        if one.name == "embeddings"
    )
    try:
        converted = to_onnx(
            head,
            initial_types=[("embeddings", FloatTensorType([None, n_embeddings]))],
            options={id(head.steps[-1][1]): {"zipmap": False}},
            target_opset={"": OPSET, "ai.onnx.ml": 3},
        )
    except Exception as error:  # skl2onnx raises a type of its own for every reason
        raise ExportError(
            f"{type(head.steps[-1][1]).__name__} cannot be converted to ONNX: {error}"
        ) from error
    names = {one.name for one in converted.graph.input} | {"probabilities"}
    for node in converted.graph.node:
        for ends in (node.input, node.output):
            ends[:] = [name if name in names or not name else f"head/{name}" for name in ends]
    for constant in converted.graph.initializer:
        constant.name = f"head/{constant.name}"
    kept = [one for one in converted.graph.output if one.name == "probabilities"]
    del converted.graph.output[:]
    converted.graph.output.extend(kept)
    return subgraph(converted, "embeddings", ["probabilities"])


def _hide(model: onnx.ModelProto, names: set[str]) -> None:
    """Make outputs that only this package needs tensors inside the graph."""
    outputs = list(model.graph.output)
    model.graph.value_info.extend(one for one in outputs if one.name in names)
    del model.graph.output[:]
    first = [one for one in outputs if one.name in ("score", "proba")]
    rest = [one for one in outputs if one.name not in names and one not in first]
    model.graph.output.extend([*first, *rest])


def check_agreement(
    model: onnx.ModelProto, source: EstimatorSource, shape: tuple[int, ...], dtype: Any
) -> None:
    """Refuse a graph that does not compute what the classifier does.

    Parameters
    ----------
    model : onnx.ModelProto
        As of `fused_model`.
    source : EstimatorSource
        The classifier.
    shape : tuple of int
        (C, H, W) of candidates, or (m, C, h, w).
    dtype : dtype
        uint8 or float32.

    Raises
    ------
    ExportError
        If the probabilities of patches differ, or the graph cannot be run.
    """
    candidates = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    if np.dtype(dtype) != np.uint8:
        candidates = as_floats(candidates)
    expected = source.reference.evaluate(candidates, None).proba
    try:
        session = open_session(model.SerializeToString(), providers="CPUExecutionProvider")
        inputs = {"candidates": candidates}
        if len(shape) == 4:
            # Patches that were cut already go straight to the network.
            inputs = {"patches": as_floats(candidates).reshape(-1, *shape[1:])}
        (found,) = session.run(["patch_proba"], inputs)
    except Exception as error:  # ONNX Runtime raises a type of its own for every reason
        raise ExportError(f"ONNX Runtime cannot run the exported model: {error}") from error
    largest = float(np.abs(found - expected).max(initial=0))
    if found.shape != expected.shape or not largest <= _TOLERANCE:
        raise ExportError(
            f"the exported model does not compute what the classifier does: probabilities differ "
            f"by {largest:.2g}. It was not written."
        )
