"""Models as bytes: what is sent to the processes that score."""

from __future__ import annotations

import os
import pickle
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import joblib
from numpy.typing import NDArray

from .._checks import check_option
from .._warnings import warn_caller
from .._writing import as_path
from ..errors import (
    BackendWarning,
    DataError,
    DataTypeError,
    ExportError,
    MissingDependencyError,
    ParameterError,
)
from ..scanning.consistency import spell_out
from ..scanning.engine import Engine, EstimatorEngine
from ..scanning.model import PatchModel
from ..scanning.pool_pass import PoolPass

__all__ = ["ShippedModel", "pack_model"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ShippedModel:
    """A model as bytes, as `pack_model` makes it for other processes.

    Attributes
    ----------
    kind : {"onnx", "pickle"}
        What the bytes are. Networks travel as ONNX files, which are opened without torch; anything
        else is pickled, for processes that trust each other, and never written to disk.
    data : bytes
        The model.
    classes : ndarray of shape (K,)
        Columns of the probabilities.
    shape : tuple of int
        Of one candidate.
    consistency : dict
        Parameters of `patch_consistency`, every one of them.
    digest : str
        Hash of all that probabilities depend on.
    can_embed : bool
        Whether it embeds candidates.
    """

    kind: Literal["onnx", "pickle"]
    data: bytes
    classes: Array
    shape: tuple[int, ...]
    consistency: dict[str, Any]
    digest: str
    can_embed: bool

    def unpack(
        self,
        *,
        providers: str | list[str] = "auto",
        precision: str = "auto",
        n_threads: int | None = None,
        verbose: int = 0,
    ) -> PoolPass:
        """Open it, in the process that scores.

        Parameters
        ----------
        providers, precision, n_threads
            As of `OnnxScorer`.
        verbose : int, default=0
            1 shows a progress bar.

        Returns
        -------
        PoolPass
            Passes over pools.
        """
        return PoolPass(self._open(providers, precision, n_threads), verbose=verbose)

    def _open(self, providers: str | list[str], precision: str, n_threads: int | None) -> Engine:
        if self.kind == "pickle":
            return EstimatorEngine(pickle.loads(self.data))
        from ..onnx.engine import OnnxEngine
        from ..onnx.file import FileSource

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(self.data)
            source = FileSource(path)
        return OnnxEngine(source, providers=providers, precision=precision, n_threads=n_threads)

    def check_embeds(self) -> None:
        """Refuse to embed with a model that cannot."""
        if not self.can_embed:
            raise DataTypeError(
                "the estimator embeds no candidates; use a CNNClassifier, or a pipeline that "
                "begins with CNNFeatures, or leave embeddings out."
            )

    def precision(self, precision: str, *, half: bool) -> str:
        """Tell the precision that scores have, of which a table holds one.

        Parameters
        ----------
        precision : {"auto", "float32", "float16"}
            What the user asks for.
        half : bool
            Whether "auto" is half precision where they are computed.
        """
        check_option("precision", precision, ("auto", "float32", "float16"))
        if self.kind == "pickle":
            return "as the estimator"
        return precision if precision != "auto" else "float16" if half else "float32"


def pack_model(model: Any, shape: tuple[int, ...], **consistency: Any) -> ShippedModel:
    """Make a model ready to be sent to other processes.

    Parameters
    ----------
    model : AIFTClassifier, AIFTLearner, path-like or ShippedModel
        Fitted; a path is that of an .onnx file which this package exported.
    shape : tuple of int
        Of one candidate: (C, H, W), (m, C, h, w) or (f,).
    **consistency
        Parameters of `patch_consistency`; by default those of the file.

    Returns
    -------
    ShippedModel
        With a network that can be exported, an ONNX file.

    Raises
    ------
    ModelNotFittedError
        If the model was taught nothing.
    ModelFileError
        If the file is missing, damaged or foreign.
    DataError
        If candidates of this shape do not fit the model.
    ExportError
        If the model can be neither exported nor pickled.

    Warns
    -----
    BackendWarning
        If a network cannot be exported: every process then computes with the estimator itself,
        which is slower.
    """
    shape = tuple(int(length) for length in shape)
    if isinstance(model, ShippedModel):
        if consistency and spell_out(model.consistency | consistency) != model.consistency:
            raise ParameterError(
                f"the model was packed with {model.consistency}; got {consistency}. Pack it anew."
            )
        _check_shape(shape, model.shape)
        return model
    if isinstance(model, (str, os.PathLike)):
        return _pack_file(as_path(model), shape, consistency)
    fitted = PatchModel.from_classifier(model)
    if len(shape) + 1 != fitted.n_dims or shape[-3 if len(shape) > 1 else 0] != fitted.n_features:
        kind = "features" if fitted.n_dims == 2 else "channels"
        raise DataError(
            f"candidates have shape {shape}; the model was fitted on candidates of "
            f"{fitted.n_dims - 1} axes and {fitted.n_features} {kind}."
        )
    network = hasattr(fitted.network_owner, "graph_output") and fitted.n_dims > 2
    if network and _backend_of(model) != "torch":
        try:
            return _export(model, shape, consistency)
        except (ExportError, MissingDependencyError) as error:
            warn_caller(
                f"scoring without ONNX Runtime, which is slower: {str(error).rstrip('.')}. "
                "Pass a classifier with backend='torch' to silence this.",
                BackendWarning,
            )
    return _pickle(fitted, shape, consistency)


def _export(model: Any, shape: tuple[int, ...], consistency: dict[str, Any]) -> ShippedModel:
    from ..onnx.scorer import OnnxScorer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        OnnxScorer(model, **consistency).save(path, shape=shape)
        return _pack_file(path, shape, {})


def _pack_file(path: Path, shape: tuple[int, ...], consistency: dict[str, Any]) -> ShippedModel:
    from ..onnx.file import FileSource, read_model
    from ..onnx.source import graph_digest

    source = FileSource(path)
    if len(shape) + 1 != source.n_dims:
        raise DataError(
            f"candidates have shape {shape}; {path} was exported for candidates of "
            f"{source.n_dims - 1} axes."
        )
    source.geometry(shape)
    graph, facts = read_model(path)
    known = {name: facts[name] for name in ("classes", "columns", "temperature", "matrices")}
    return ShippedModel(
        "onnx",
        path.read_bytes(),
        source.classes,
        shape,
        spell_out(source.consistency | consistency),
        joblib.hash([graph_digest(graph), known]),
        True,
    )


def _pickle(
    fitted: PatchModel, shape: tuple[int, ...], consistency: dict[str, Any]
) -> ShippedModel:
    try:
        data = pickle.dumps(fitted)
        digest = _hash(fitted)
    except Exception as error:  # estimators of others raise whatever they like
        raise ExportError(
            f"{type(fitted.estimator).__name__} can be neither exported nor pickled, so that no "
            f"other process can score with it: {error}"
        ) from error
    return ShippedModel(
        "pickle", data, fitted.classes, shape, spell_out(consistency), digest, fitted.can_embed
    )


def _hash(fitted: PatchModel) -> str:
    """Hash by value, of what was fitted here as of what was saved and loaded."""
    owner, whole = fitted.network_owner, fitted
    weights: dict[str, Any] = {}
    if hasattr(owner, "module_"):
        module = owner.module_
        weights = {name: value.numpy(force=True) for name, value in module.state_dict().items()}
        weights[""] = repr(module), getattr(owner, "temperature_", 1.0), fitted.estimator.classes_
        whole = replace(fitted, estimator=fitted.head)
    for _ in range(2):
        # Pickles tell which objects are one, which is another matter once they were pickled.
        whole = pickle.loads(pickle.dumps(whole))
    return str(joblib.hash([weights, whole]))


def _backend_of(model: Any) -> str:
    inner = model if hasattr(model, "backend") else getattr(model, "estimator", None)
    return str(getattr(inner, "backend", "auto"))


def _check_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise DataError(
            f"candidates have shape {shape}; the model was packed for {expected}. Pack it anew."
        )
