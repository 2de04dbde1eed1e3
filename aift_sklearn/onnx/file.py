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
from ..errors import DataError, ModelFileError
from .assembly import subgraph
from .source import Geometry

__all__ = ["FileSource", "describe_model", "read_model", "write_model"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

_KEY, _FORMAT, _VERSION = "aift_sklearn", "aift-sklearn scorer", 1
# Operators of ONNX itself, and of its classical machine learning; no others are run.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def describe_model(model: onnx.ModelProto, facts: dict[str, Any]) -> None:
    """Put what `FileSource` needs to know of a graph into its metadata, with a hash of the graph.

    Parameters
    ----------
    model : onnx.ModelProto
        As of `fused_model`; written into.
    facts : dict
        Plain data.
    """
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
            f"{path} has format {version!r}, and this package reads 1 to {_VERSION}. Update this "
            "package to the release that wrote it."
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
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W of the candidates."""
        return self._image_shape

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
