"""One forward pass of any network: its input, checks of what comes out, and failures explained.

Letters: k inputs of a batch, C channels, E embedding size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import AIFTError, DataError, ParameterError

__all__ = [
    "asks_for_contiguous",
    "check_output",
    "explained_failure",
    "is_out_of_memory",
    "to_float",
    "to_tensor",
]

# How torch, cuDNN, cuBLAS and C++ say that memory has run out. cuDNN finds "no engine" when none
# of its algorithms gets a workspace.
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "failed to allocate",
    "unable to allocate",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
    "unable to find an engine",
    "valid cudnn algorithm",
)


def to_tensor(X: NDArray[Any]) -> torch.Tensor:
    """Copy an array into a tensor: a network may write into its input, and X may be read-only."""
    return torch.from_numpy(np.array(X, order="C"))


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8 images to float in [0, 1]."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def check_output(output: Any, x: torch.Tensor) -> None:
    """Refuse what is no embedding of x.

    Parameters
    ----------
    output : object
        What a network returned.
    x : Tensor of shape (k, ...)
        What it was given.

    Raises
    ------
    ParameterError
        If it is not a float32 tensor of shape (k, E) or (k, E, h', w') on the device of x.
    """
    if not isinstance(output, torch.Tensor):
        found, advice = (
            f"an object of type {type(output).__name__}{_parts(output)}",
            "Wrap it in a module whose forward returns the tensor among them",
        )
    else:
        found = f"a tensor of {output.dtype}, shape {tuple(output.shape)}, on {output.device.type}"
        if output.ndim not in (2, 4) or len(output) != len(x) or 0 in output.shape[1:]:
            advice = "Flatten or average it to one row per input: x.flatten(1), x.mean(dim=1)"
        elif output.dtype != torch.float32:
            advice = "Pass net.float(), or end its forward with .float()"
        elif output.device.type != x.device.type:
            advice = "Leave it on the device of the input"
        else:
            return
    raise ParameterError(
        f"the backbone returned {found}; expected a tensor of torch.float32, shape ({len(x)}, E) "
        f"or a map ({len(x)}, E, h', w'), on {x.device.type}, for an input of shape "
        f"{tuple(x.shape)}. {advice}."
    )


def _parts(output: Any) -> str:
    """What a container holds, for an error."""
    items = output.items() if isinstance(output, dict) else None
    if items is None and isinstance(output, (tuple, list)):
        items = enumerate(output)
    if items is None:
        return ""
    shown = [
        f"{key!r}: {tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__}"
        for key, part in items
    ]
    return f" ({', '.join(shown[:4])})"


@contextlib.contextmanager
def explained_failure(module: nn.Module, shape: tuple[int, ...]) -> Iterator[None]:
    """Explain the failure of a forward pass in terms of what the network was given.

    Parameters
    ----------
    module : nn.Module
        The network.
    shape : tuple of int
        Of the array X that it is applied to.

    Raises
    ------
    DataError
        If the network cannot take such an input.
    """
    try:
        yield
    except Exception as error:  # whatever somebody's forward raises
        if isinstance(error, AIFTError) or is_out_of_memory(error):
            raise
        dtypes = {str(p.dtype) for p in module.parameters() if p.is_floating_point()}
        odd = sorted(dtypes - {"torch.float32"})
        advice = (
            f"Its weights are of {', '.join(odd)}: pass net.float()."
            if odd
            else "Pass inputs of the channels and size that it was made for, or another backbone."
        )
        raise DataError(
            f"X has shape {shape}, which this backbone cannot take, as torch.float32: "
            f"{type(error).__name__}: {str(error).rstrip('.')}. {advice}"
        ) from error


def asks_for_contiguous(error: Exception) -> bool:
    """Whether an error is about the strides of a tensor, as those of a view that does not fit.

    Examples
    --------
    >>> try:
    ...     torch.ones(2, 3).t().view(6)
    ... except RuntimeError as error:
    ...     print(asks_for_contiguous(error))
    True
    """
    return any(word in str(error).lower() for word in ("contiguous", "stride", "memory format"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, in torch's words or a library's below it.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    True
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)
