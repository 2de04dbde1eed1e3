"""Convolutions in all the digits of single precision, for as long as something is compared.

On a GPU torch convolves with TF32's ten bits by default, so that its own probabilities are off by
a thousandth; another engine is compared with what torch would compute without.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["without_tf32"]

# The setting is of the process, so that two threads must not change it in turns.
_LOCK = threading.RLock()


@contextlib.contextmanager
def without_tf32(backends: Any = None) -> Iterator[None]:
    """Let torch compute in single precision.

    Parameters
    ----------
    backends : object, optional
        By default ``torch.backends``, where torch is loaded.
    """
    if backends is None:
        backends = getattr(sys.modules.get("torch"), "backends", None)
    if backends is None:
        yield
        return
    with _LOCK:
        settings = _settings(backends)
        before = [getattr(owner, name) for owner, name, _ in settings]
        try:
            for owner, name, value in settings:
                setattr(owner, name, value)
            yield
        finally:
            for (owner, name, _), value in zip(settings, before, strict=True):
                setattr(owner, name, value)


def _settings(backends: Any) -> list[tuple[Any, str, Any]]:
    """Owner, name and value of what is set."""
    cudnn, matmul = backends.cudnn, backends.cuda.matmul
    try:
        _ = cudnn.allow_tf32
    except RuntimeError:
        # So torch says that the user has set operators one by one, as its newer releases can.
        settings = [(one, "fp32_precision", "ieee") for one in (cudnn.conv, cudnn.rnn)]
    else:
        settings = [(cudnn, "allow_tf32", False)]
    # The older setting of products, once written, no longer follows the one for all of torch.
    newer = hasattr(matmul, "fp32_precision")
    return [*settings, (matmul, *(("fp32_precision", "ieee") if newer else ("allow_tf32", False)))]
