"""The pool pass in ONNX Runtime: graphs of fine-tuned networks, and the sessions that run them.

Needs the extra ``cpu`` or ``gpu``.
"""

from ..errors import MissingDependencyError

try:
    import onnx as _onnx
    import onnxruntime as _onnxruntime
except ImportError as error:
    raise MissingDependencyError(
        error.name or "a package", extra="cpu", purpose="aift_sklearn.onnx"
    ) from error

from .graph import NetworkGraph
from .runtime import choose_providers, count_threads, open_session

__all__ = ["NetworkGraph", "choose_providers", "count_threads", "open_session"]

del _onnx, _onnxruntime
