"""Models as one .onnx file, which serves without torch and holds no code.

The file is a whole graph, candidates in and scores out, that any ONNX runtime can run; and what
`OnnxScorer` needs to know of it lies in its metadata, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper

from .._candidates import softmax, with_columns
from .._versions import package_versions
from .._writing import as_path, write_atomically
from ..errors import DataError, ExportError, MissingDependencyError, ModelFileError
from ..patches._resampling import as_floats
from ..scores import EPS, n_kept
from .assembly import OPSET, join_graphs, subgraph
from .fused import head_graph, patch_graph, score_graph, softmax_graph
from .runtime import open_session
from .source import EstimatorSource, Geometry

__all__ = ["FileSource", "check_agreement", "fused_model", "read_model", "write_model"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

_KEY, _FORMAT, _VERSION = "aift_sklearn", "aift-sklearn scorer", 1
# Operators of ONNX itself, and of its classical machine learning; no others are run.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
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
    parts.append(source.take_network(geometry.patch_shape)[0])
    K, columns = len(model.classes), source.columns
    options: dict[str, Any] = {"columns": columns, "n_classes": K}
    if model.head is None:
        parts.append(softmax_graph(len(columns), m, temperature=source.temperature, **options))
    else:
        parts.append(_converted(model.head, parts[-1]))
        parts.append(head_graph(len(columns), m, **options))
    weights: dict[str, Any] = {
        "entropy_weight": 1.0,
        "diversity_weight": 1.0,
        "reduction": "sum",
        "alpha": 0.25,
    }
    known = weights | {name: value for name, value in consistency.items() if name != "eps"}
    kept = n_kept(m, known.pop("alpha"), known["diversity_weight"])
    eps = consistency.get("eps") or EPS
    parts.append(score_graph(m, K, n_kept=kept, eps=eps, **known))
    whole = join_graphs(*parts)
    _hide(whole, {"patches", "logits", "probabilities"})
    # All views, always: a constant.
    constants = {one.name for one in whole.graph.initializer}
    inputs = [one for one in whole.graph.input if one.name not in constants]
    del whole.graph.input[:]
    whole.graph.input.extend(inputs)
    _describe(
        whole,
        {
            "classes": model.classes.tolist(),
            "classes_dtype": model.classes.dtype.str if model.classes.dtype != object else "object",
            "columns": columns,
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


def _describe(model: onnx.ModelProto, facts: dict[str, Any]) -> None:
    facts = {
        "format": _FORMAT,
        "version": _VERSION,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": package_versions(("aift-sklearn", "onnx", "scikit-learn", "torch")),
        **facts,
        "graph": _graph_digest(model),
    }
    helper.set_model_props(model, {_KEY: json.dumps(facts)})
    model.producer_name = "aift-sklearn"
    model.doc_string = (
        "Scores of candidates for active learning: candidates as bytes in; score (n,), higher is "
        "to be labelled sooner, proba (n, K), patch_proba (n, m, K) out."
    )


def _graph_digest(model: onnx.ModelProto) -> str:
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def write_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> Path:
    """Write a file in one step.

    Parameters
    ----------
    model : onnx.ModelProto
        As of `fused_model`.
    path : path-like
        Replaced where it exists.

    Returns
    -------
    Path
        The file.
    """
    path = as_path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a file name, such as {path / 'model.onnx'}.")
    return write_atomically(path, model.SerializeToString())


def read_model(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Read a file, and refuse what could run code, reads other files, or is damaged.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    model : onnx.ModelProto
        The graph.
    facts : dict
        Its metadata.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, foreign, or holds custom operators or external data.
    """
    path = as_path(path)
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    except (DecodeError, ValueError) as error:
        raise ModelFileError(f"{path} is no ONNX file, or is truncated: {error}") from error
    facts = _facts(model, path)
    _refuse_unsafe(model, path)
    if facts.get("graph") != _graph_digest(model):
        raise ModelFileError(f"{path} is damaged: its graph is not the one that was saved.")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelFileError(f"{path} is no valid ONNX model: {error}") from error
    return model, facts


def _facts(model: onnx.ModelProto, path: Path) -> dict[str, Any]:
    texts = {one.key: one.value for one in model.metadata_props}
    try:
        facts = json.loads(texts[_KEY])
        is_own = facts["format"] == _FORMAT
        version = facts["version"]
    except (KeyError, ValueError, TypeError, RecursionError):
        is_own, facts, version = False, {}, 0
    if not is_own:
        raise ModelFileError(
            f"{path} was not exported by this package; expected a file of `aift export` or "
            "OnnxScorer.save."
        )
    if type(version) is not int or not 1 <= version <= _VERSION:
        raise ModelFileError(
            f"{path} has format {version!r}, and this package reads 1 to {_VERSION}: "
            "pip install --upgrade aift-sklearn."
        )
    return dict(facts)


def _refuse_unsafe(model: onnx.ModelProto, path: Path) -> None:
    domains = {one.domain for one in model.opset_import}
    external = []
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        external += [one.name for one in graph.initializer if one.external_data]
        for node in graph.node:
            domains.add(node.domain)
            for attribute in node.attribute:
                graphs += [attribute.g, *attribute.graphs] if attribute.ByteSize() else []
                tensors = [attribute.t, *attribute.tensors]
                external += [one.name for one in tensors if one.external_data]
    custom = sorted(domains - set(_DOMAINS))
    if custom or len(model.functions):
        raise ModelFileError(
            f"{path} holds operators of {custom or 'its own'}, which could run code; only those of "
            "ONNX are run."
        )
    if external:
        raise ModelFileError(
            f"{path} keeps {external[:3]} in other files, which are not read; export it again."
        )


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


class FileSource:
    """A file of `fused_model`, as `OnnxScorer` needs it.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, foreign, or could run code.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path)
        model, facts = read_model(path)
        try:
            if not isinstance(facts["classes"], list):
                raise TypeError("classes")
            dtype = object if facts["classes_dtype"] == "object" else facts["classes_dtype"]
            self._classes = np.array(facts["classes"], dtype=dtype)
            self._columns = np.array(facts["columns"], dtype=int)
            self._temperature, self._output = float(facts["temperature"]), str(facts["output"])
            channels, height, width = (int(k) for k in facts["image_shape"])
            self._image_shape = channels, height, width
            self._size = int(facts["size"][0]), int(facts["size"][1])
            matrices = facts["matrices"]
            self._matrices = None if matrices is None else np.array(matrices, dtype=np.float32)
            self.consistency: dict[str, Any] = dict(facts["consistency"])
            self._digest = str(facts["graph"])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelFileError(f"{path} is damaged: {error!r} in its metadata.") from error
        self._network = subgraph(model, "patches", [self._output, "embeddings"])

    @property
    def classes(self) -> Array:
        """Classes, in the order of the probabilities' columns."""
        return self._classes

    @property
    def n_dims(self) -> int:
        """Axes of a pool."""
        return 5 if self._matrices is None else 4

    @property
    def predicts(self) -> bool:
        """Files always predict."""
        return True

    @property
    def reference(self) -> None:
        """There is no estimator to compare with; it was compared when the file was written."""
        return

    @property
    def n_channels(self) -> int:
        """Channels of the candidates."""
        return self._image_shape[0]

    @property
    def output(self) -> str:
        """Which output of the network `finish` takes."""
        return self._output

    def geometry(self, shape: tuple[int, ...]) -> Geometry:
        """How patches are cut; candidates of another shape than the file's are refused."""
        if tuple(shape[-3:]) != self._image_shape:
            raise DataError(
                f"the pool has shape {shape}; {self.path} was exported for candidates of shape "
                f"{self._image_shape}. Resize them, or export the model for theirs."
            )
        return Geometry(self._image_shape, self._size, self._matrices)

    def take_network(self, patch_shape: tuple[int, int, int]) -> tuple[onnx.ModelProto, int]:
        """Graph: patches (k, C, h, w) → logits or probabilities, and embeddings."""
        return self._network, 0

    def drop_network(self) -> None:
        """Do nothing: a file does not change."""

    def finish(self, outputs: Floats) -> Floats:
        """Turn outputs (k, …) into probabilities (k, K)."""
        proba: Any = outputs
        if self._output == "logits":
            proba = softmax(outputs.astype(np.float64) / self._temperature)
        known = self._classes[self._columns]
        return np.asarray(with_columns(proba, known, self._classes), dtype=np.float32)

    def identity(self) -> dict[str, Any]:
        """Hash of the whole graph."""
        return {"head": self._digest}
