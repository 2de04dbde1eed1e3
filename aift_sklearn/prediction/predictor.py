"""Which engine a pool goes through: ONNX Runtime where it pays and is right, else the estimator."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from .._checks import as_array, check_images, check_option
from .._warnings import warn_caller
from ..errors import BackendWarning, ExportError, MissingDependencyError
from ..patches import count_patches, cut_views, patch_floats
from ..scanning.engine import Engine, EstimatorEngine
from ..scanning.model import PatchModel
from ..scanning.pool_pass import PoolPass

__all__ = ["BACKENDS", "Predictor", "Seam", "as_features"]

T = TypeVar("T")

BACKENDS = ("auto", "torch", "onnx")
"""What `AIFTClassifier` takes for ``backend``."""

# Pixels of patches above which it pays to export the network, and, once that is done, to refresh
# the graph and open a session: seconds, and a fraction of one.
_EXPORT_PIXELS = 2**25
_REFRESH_PIXELS = 2**21
# On a GPU, where the estimator is fast and kernels are planned anew after each round, in seconds.
_GPU_PIXELS = 2**27


class Seam:
    """What a classifier holds between it and its pools, from one call of learning to the next.

    Parameters
    ----------
    before : Seam, optional
        That from before the call. Its graphs are taken over, since an export takes seconds; its
        engines are not.
    """

    def __init__(self, before: Seam | None = None) -> None:
        self.shelf: Any = None if before is None else before.shelf
        self._known: Predictor | None = None

    def predictor_of(self, model: PatchModel) -> Predictor:
        """Predictor of a model: the one at hand, or another for another model."""
        if self._known is None or not model.is_same(self._known.model):
            self._known = Predictor(model, shelf=self.shelf)
        return self._known

    def run(self, model: PatchModel, pool: Any, action: Callable[[PoolPass], T], **how: Any) -> T:
        """Do something with a pool; see `Predictor.run`."""
        predictor = self.predictor_of(model)
        try:
            return predictor.run(pool, action, **how)
        finally:
            self.shelf = predictor.shelf


class Predictor:
    """Passes over pools for one fitted model; another takes its place once the model has learnt.

    Parameters
    ----------
    model : PatchModel
        Fitted.
    shelf : GraphShelf, optional
        Graphs that were exported for models before it; may be handed on to those after it.
    """

    def __init__(self, model: PatchModel, *, shelf: Any = None) -> None:
        self.model, self.shelf = model, shelf
        self._onnx: Any = None
        self._failed = False

    def run(
        self,
        pool: Any,
        action: Callable[[PoolPass], T],
        *,
        backend: str,
        verbose: int,
        n_views: int | None = None,
    ) -> T:
        """Do something with a pool, through the engine that suits it.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.
        action : callable
            PoolPass → result. Called again, with another engine, where the first cannot do it.
        backend : {"auto", "torch", "onnx"}
            As of `AIFTClassifier`.
        verbose : int
            1 shows a progress bar.
        n_views : int, optional
            Patches of each candidate that will be evaluated; by default all.

        Warns
        -----
        BackendWarning
            If ONNX Runtime was to be used and cannot, with the reason. It is not tried again for
            this model.
        """
        check_option("backend", backend, BACKENDS)
        engine = self._fast_engine(pool, backend, n_views)
        if engine is not None:
            try:
                return action(PoolPass(engine, verbose=verbose))
            except ExportError as error:
                self._step_aside(error)
        return action(PoolPass(EstimatorEngine(self.model), verbose=verbose))

    def _fast_engine(self, pool: Any, backend: str, n_views: int | None) -> Engine | None:
        """Return ONNX Runtime's engine, or None where the estimator is to do it."""
        shape = tuple(pool.shape)
        if backend == "torch" or len(shape) == 2 or self._failed:
            return None
        try:
            if backend == "auto" and not self._pays(shape, n_views):
                return None
            if self._onnx is None:
                from ..onnx.engine import OnnxEngine
                from ..onnx.shelf import GraphShelf
                from ..onnx.source import EstimatorSource

                self.shelf = GraphShelf() if self.shelf is None else self.shelf
                self._onnx = OnnxEngine(EstimatorSource(self.model, self.shelf))
        except ExportError as error:
            self._step_aside(error)
        except MissingDependencyError as error:
            if backend == "onnx":
                raise
            self._step_aside(error)
        engine: Engine | None = self._onnx
        return engine

    def _pays(self, shape: tuple[int, ...], n_views: int | None) -> bool:
        """Whether ONNX Runtime can be used, and saves more time than it costs."""
        owner = self.model.network_owner
        installed = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnxscript"))
        if not installed or not hasattr(owner, "graph_output") or not hasattr(owner, "module_"):
            return False
        m = n_views or count_patches(self.model.patches, shape) or 1
        n_floats = shape[0] * m * patch_floats(self.model.patches, shape)
        pixels = n_floats // shape[-3]
        weight = next(owner.module_.parameters(), None)
        on_gpu = weight is not None and weight.is_cuda
        least = _EXPORT_PIXELS if self.shelf is None else _REFRESH_PIXELS
        if pixels < (_GPU_PIXELS if on_gpu else least):
            return False
        if on_gpu:
            from ..onnx.runtime import choose_providers

            # A network on a GPU is faster than ONNX Runtime on the CPU.
            return bool(choose_providers()[0] == "CUDAExecutionProvider")
        return True

    def _step_aside(self, reason: Exception) -> None:
        self._onnx, self._failed = None, True
        why = str(reason).rstrip(".")
        warn_caller(
            f"scoring without ONNX Runtime, which is slower: {why}. It is tried again once the "
            "model has learnt more. Pass backend='torch' to silence this.",
            BackendWarning,
        )


def as_features(model: PatchModel, pool: Any) -> PatchModel:
    """Give a model that embeds the network it would embed with, built once.

    Parameters
    ----------
    model : PatchModel
        Its estimator may be unfitted, where it is pre-trained.
    pool : sliceable of shape (n, ...)
        Candidates; one of them shows the network what it will see.

    Returns
    -------
    PatchModel
        The same, or one of pre-trained features.
    """
    owner = model.network_owner
    is_ready = hasattr(owner, "module_") or not hasattr(owner, "graph_output")
    if is_ready or not owner.pretrained:
        return model
    from ..networks.features import CNNFeatures

    sample = as_array(pool[:1])
    sample = sample if sample.ndim == 2 else check_images(sample, ndim=sample.ndim)
    features = CNNFeatures(owner.backbone, batch_size=owner.batch_size, device=owner.device)
    features.fit(cut_views(model.patches, sample, [0])[:, 0])
    return replace(model, estimator=features)
