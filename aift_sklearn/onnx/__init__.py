"""The pool pass in ONNX Runtime: fast, streaming, and served without torch.

Needs the extra ``cpu`` or ``gpu``. Names resolve on first use: only an export needs torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import MissingDependencyError

try:
    import onnx as _onnx
    import onnxruntime as _onnxruntime
except ImportError as error:
    raise MissingDependencyError(
        error.name or "ONNX Runtime",
        purpose="aift_sklearn.onnx",
        command='pip install ".[cpu]", or ".[gpu]" for an NVIDIA GPU, in a clone of aift-sklearn',
        reason=None if isinstance(error, ModuleNotFoundError) else str(error),
    ) from error

_HOME = {
    "NetworkGraph": "graph",
    "OnnxScorer": "scorer",
    "choose_providers": "runtime",
    "count_threads": "runtime",
    "open_session": "runtime",
}

__all__ = [*_HOME]  # noqa: PLE0604

del _onnx, _onnxruntime


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
