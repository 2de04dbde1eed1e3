"""Where candidates pass through a network: on a GPU, or on the cores of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from .._checks import check_int
from .._threads import count_threads
from ..errors import ParameterError
from .fused import float_graph
from .gpu_pass import GpuPass
from .host_pass import HostPass
from .runtime import choose_providers, open_session

__all__ = ["PatchPass", "open_pass"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

_PRECISIONS = ("auto", "float32", "float16")


class PatchPass(Protocol):
    """Candidates → outputs of a network for each of their patches; see `HostPass`."""

    size: tuple[int, int]
    image_shape: tuple[int, int, int]
    batch_size: int
    is_half: bool
    n_workers: int
    provider: str
    where: str

    def load(self, network: onnx.ModelProto) -> None:
        """Take the network, or its newer weights."""

    def __call__(
        self, candidates: Array, outputs: Sequence[str], views: Sequence[int] | None = None
    ) -> list[Floats]:
        """Predict patches."""


def open_pass(
    network: onnx.ModelProto,
    *,
    providers: str | Sequence[str] = "auto",
    precision: str = "auto",
    batch_size: str | int = "auto",
    n_threads: int | None = None,
    open_session: Callable[..., Any] = open_session,
    **geometry: Any,
) -> PatchPass:
    """Open what takes candidates through a network.

    Parameters
    ----------
    network : onnx.ModelProto
        patches (k, C, h, w) → outputs (k, …), as of `NetworkGraph`.
    providers : "auto", str or sequence of str
        As of `choose_providers`.
    precision : {"auto", "float32", "float16"}
        Of the network. "auto" is half on a GPU.
    batch_size : "auto" or int
        Patches of one batch. "auto" fits a core's cache, or keeps a GPU busy. Where they do not fit
        the memory, it is halved.
    n_threads : int, optional
        Cores; by default those of the process.
    open_session : callable
        What opens sessions.
    **geometry
        image_shape, size and matrices of `HostPass`.

    Returns
    -------
    GpuPass or HostPass
        On the first of the providers that loads.

    Raises
    ------
    ParameterError
        If an option is none of those above.
    """
    if precision not in _PRECISIONS:
        raise ParameterError(f"precision={precision!r}; expected one of {_PRECISIONS}.")
    cores = count_threads()
    if n_threads is not None:
        cores = check_int("n_threads", n_threads, minimum=1)
    k = None if batch_size == "auto" else check_int("batch_size", batch_size, minimum=1)
    chosen = choose_providers(providers)
    if chosen[0] == GpuPass.provider:
        # One that does not load is warned of, once, and the work is arranged for the CPU.
        least = float_graph((1, 1, 1), np.float32).SerializeToString()
        chosen = list(open_session(least, providers=chosen).get_providers())
    on_gpu = chosen[0] == GpuPass.provider
    make: Callable[..., PatchPass] = GpuPass if on_gpu else HostPass
    return make(
        network,
        is_half=precision == "float16" or (precision == "auto" and on_gpu),
        batch_size=k,
        n_threads=cores,
        open_session=open_session,
        **geometry,
    )
