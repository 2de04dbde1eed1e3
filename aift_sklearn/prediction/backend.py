"""Whether a pool is scored by ONNX Runtime or by the estimator itself."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .._candidates import first_step
from .._checks import check_option
from ..errors import BackendWarning, ExportError, MissingDependencyError

__all__ = ["BACKENDS", "OnnxBackend"]

BACKENDS = ("auto", "torch", "onnx")
"""What `AIFTClassifier` takes for ``backend``."""

# Pixels of patches above which it pays to export the network, and, once that is done, to refresh
# the graph and open a session: seconds, and a fraction of one.
_EXPORT_PIXELS = 2**25
_REFRESH_PIXELS = 2**21


class OnnxBackend(BaseEstimator):
    """Holds the graph that a classifier's network was exported to, and decides when it is used."""

    backend: str
    verbose: int
    patches_: Any
    _scorer: Any = None
    _said: str = ""

    def _onnx_scorer(self, X: Any) -> Any:
        """Scorer with the present weights, or None where the estimator is to predict itself."""
        check_option("backend", self.backend, BACKENDS)
        if self.backend == "torch" or len(X.shape) == 2:
            return None
        try:
            if self.backend == "auto" and not self._pays(X):
                return None
            return self._fresh_scorer(X)
        except (ExportError, MissingDependencyError) as error:
            if isinstance(error, MissingDependencyError) and self.backend == "onnx":
                raise
            self._scorer = None
            self._warn(str(error))
            return None

    def _pays(self, X: Any) -> bool:
        """Whether ONNX Runtime can be used, and saves more time than it costs."""
        module = getattr(first_step(self.__dict__.get("estimator_")), "module_", None)
        installed = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnxscript"))
        if module is None or not installed or self._said:
            return False
        height, width = X.shape[-2:]
        m = X.shape[1] if len(X.shape) == 5 else 1
        if self.patches_ is not None:
            m = len(getattr(self.patches_, "views_", [0]))
            if hasattr(self.patches_, "patch_shape"):
                height, width = self.patches_.patch_shape(X.shape)
        pixels = int(np.prod((X.shape[0], m, height, width), dtype=np.int64))
        if pixels < (_EXPORT_PIXELS if self._scorer is None else _REFRESH_PIXELS):
            return False
        if next(module.parameters()).is_cuda:
            from ..onnx.runtime import choose_providers

            # A network on a GPU is faster than ONNX Runtime on the CPU.
            return bool(choose_providers()[0] == "CUDAExecutionProvider")
        return True

    def _fresh_scorer(self, X: Any) -> Any:
        if self._scorer is None:
            from ..onnx.scorer import OnnxScorer

            self._scorer = OnnxScorer(self)
        self._scorer.verbose = self.verbose
        self._scorer.prepare(X.shape)
        return self._scorer

    def _warn(self, reason: str) -> None:
        """Say once why ONNX Runtime is not used."""
        if self._said == reason:
            return
        self._said = reason
        warnings.warn(
            f"scoring without ONNX Runtime, which is slower: {reason} Pass backend='torch' to "
            "silence this.",
            BackendWarning,
            stacklevel=5,
        )

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be pickled, and is made again when it is needed.
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_scorer", "_said")}
