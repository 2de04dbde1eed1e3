"""A fitted network applied to an array, in batches that fit the memory."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._threads import compute_threads
from ..errors import NonFiniteOutputError, OutOfMemoryError
from ._forward import asks_for_contiguous, is_out_of_memory, to_float, to_tensor
from .backbones import Backbone

__all__ = ["forward_in_layout", "free_memory", "infer", "inputs_at_once"]

Array = NDArray[Any]

# Pixels of the images that a CPU is given at once: of larger batches what the layers put out leaves
# the caches, and takes half a gigabyte for 32 images of 224 x 224.
_CPU_PIXELS = 2**19
# A GPU is given at least so many numbers at once, in so many inputs at most: of few it computes
# faster than it is told what to do.
_GPU_NUMBERS, _GPU_INPUTS = 2**23, 1024


def infer(
    module: torch.nn.Module, backbone: Backbone, X: Array, *, batch_size: int, device: str
) -> NDArray[np.float32]:
    """Apply a network to X batch by batch, without gradients.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode.
    backbone : Backbone
        The module, or the part of it that is given the images.
    X : ndarray of shape (n, C, h, w) or (n, f)
        Images, uint8 or float32, or features.
    batch_size : int
        Inputs at once; fewer where the images are large and the device is a CPU, more where they
        are small and it is a GPU, and halved for the rest of the call where they do not fit the
        memory.
    device : str
        Where the module is.

    Returns
    -------
    ndarray of shape (n, ...), float32
        Outputs, all of them finite.

    Raises
    ------
    NonFiniteOutputError
        If an output is NaN or infinite; it names the first input for which it is.
    OutOfMemoryError
        If a single input does not fit the memory.
    """
    parts, start = [], 0
    if len(X):
        batch_size = inputs_at_once(X.shape[1:], batch_size, torch.device(device).type)
    with torch.inference_mode(), compute_threads(X[:batch_size].size):
        while start < len(X):
            batch = X[start : start + batch_size]
            outputs = _outputs_that_fit(module, backbone, batch, device)
            if outputs is None:
                batch_size = len(batch) // 2
                continue
            _check_finite(outputs, start, "image" if X.ndim == 4 else "row")
            parts.append(outputs)
            start += len(batch)
    return np.concatenate(parts)


def inputs_at_once(shape: tuple[int, ...], batch_size: int, kind: str) -> int:
    """How many inputs of a shape a device of some kind is given at once.

    Examples
    --------
    >>> inputs_at_once((3, 64, 64), 32, "cpu"), inputs_at_once((3, 512, 512), 32, "cpu")
    (32, 2)
    >>> inputs_at_once((3, 64, 64), 32, "cuda"), inputs_at_once((3, 512, 512), 32, "cuda")
    (682, 32)
    >>> inputs_at_once((20,), 2048, "cuda"), inputs_at_once((20,), 32, "cuda")
    (2048, 1024)
    """
    if kind == "cpu" and len(shape) == 3:
        return min(batch_size, max(1, _CPU_PIXELS // (shape[1] * shape[2])))
    if kind == "cuda":
        return max(batch_size, min(_GPU_INPUTS, _GPU_NUMBERS // max(1, math.prod(shape))))
    return batch_size


def _outputs_that_fit(
    module: torch.nn.Module, backbone: Backbone, batch: Array, device: str
) -> NDArray[np.float32] | None:
    """Outputs of a batch, or None where it has to be smaller to fit the memory."""
    try:
        images = to_float(to_tensor(batch).to(device))
        if backbone.channels_last is None:
            backbone.choose_layout(images)
        outputs = forward_in_layout(module, backbone, images)
        return np.asarray(outputs.float().cpu().numpy())
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise OutOfMemoryError(
                f"a single input of shape {batch.shape[1:]} does not fit the memory that is left "
                f"on {device} ({error}). Free some, or pass smaller images (AffinePatches(size=...)"
                " cuts them), a smaller backbone, or device='cpu'."
            ) from error
    # Not in the handler, whose traceback holds the tensors of the batch.
    free_memory(device)
    return None


def forward_in_layout(
    module: torch.nn.Module, backbone: Backbone, images: torch.Tensor
) -> torch.Tensor:
    """Apply a module to images in its backbone's layout, or contiguous if that fails.

    Whether a view fits channels-last strides may depend on the shape, so that a body which took
    the example that its layout was chosen on can fail on others.

    Parameters
    ----------
    module : nn.Module
        The backbone, or a network around it.
    backbone : Backbone
        Whose layout counts.
    images : Tensor of shape (k, C, h, w) or (k, f)
        Images in [0, 1], or features.

    Returns
    -------
    Tensor
        What the module returned.
    """
    try:
        output: torch.Tensor = module(backbone.in_layout(images))
    except Exception as error:
        if not (backbone.channels_last and images.ndim == 4 and asks_for_contiguous(error)):
            raise
        backbone.store_channels_last(False)
        output = module(backbone.in_layout(images))
    return output


def _check_finite(outputs: NDArray[np.float32], start: int, kind: str) -> None:
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    if finite.all():
        return
    index = start + int(np.argmin(finite))
    raise NonFiniteOutputError(
        f"the network gives NaN or infinity for {kind} {index}; expected finite numbers. Leave the "
        f"{kind} out, or look at what the network divides by: a black or constant image has a "
        "standard deviation of 0.",
        index=index,
    )


def free_memory(device: str) -> None:
    """Give back what torch holds of a GPU's memory and does not use."""
    if device.startswith("cuda") and torch.cuda.is_available():
        # A device that failed may fail here too; the work goes on with less all the same.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
