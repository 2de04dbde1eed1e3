"""A pass of candidates through a network on a GPU.

A candidate crosses the bus once, as bytes; a graph cuts its patches there, and they stay there.

The network is given batches of few shapes: for another, cuDNN makes its plans anew, which takes a
hundred times as long as a batch. So what is left over is filled up with zeros, on the device, and a
smaller shape is planned once so much was filled up that it pays. Patches are cut by a session of
their own: it stays when the network takes new weights.

Letters: n candidates, m patches of each, k patches of a batch.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import BackendWarning
from .fused import MOST_GRIDS, float_graph, patch_graph, view_grid
from .runtime import (
    batch_of_pixels,
    is_out_of_memory,
    open_session,
    patches_do_not_fit,
    to_float16,
)

__all__ = ["GpuPass"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

# A batch of patches of so many pixels keeps a GPU busy, of this many at most.
_BUSY_PIXELS, _MOST = 2**23, 2**14
# A batch may have a fourth of the patches of the next larger one. It takes as long to plan as this
# many full batches take to be computed.
_SHRINK, _PLANNED_IN = 4, 100
# Half precision in the layout and with the additions of cuDNN's fast kernels, planned without
# trying all of them out. ONNX Runtime cannot run every convolution so.
FAST = {
    "prefer_nhwc": "1",
    "fuse_conv_bias": "1",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
}
# In single precision all its digits count: what is compared with the estimator has them too.
_PLAIN = {"use_tf32": "0"}


class GpuPass:
    """Candidates → outputs of a network for each of their patches, on a GPU.

    Parameters
    ----------
    network : onnx.ModelProto
        patches (k, C, h, w) → outputs (k, …), as of `NetworkGraph`.
    image_shape : tuple of int
        C, H, W of the candidates.
    size : tuple of int
        h, w of the patches.
    matrices : ndarray of shape (m, 2, 3), float32, or None
        The views; None where candidates are patches that were cut already, (n, m, C, h, w).
    is_half : bool, default=True
        Whether the network is computed in half precision.
    batch_size : int, optional
        Patches of one batch; by default so many that a GPU is busy. Halved where they do not fit
        its memory.
    n_threads : int, optional
        Threads of what ONNX Runtime does on the CPU.
    open_session : callable
        What opens sessions.
    device : str, default="cuda"
        As ONNX Runtime names it.

    Attributes
    ----------
    n_workers : int
        How many threads may call it at once with profit.
    provider, where : str
        Where it runs, as ONNX Runtime names it, and for people.
    """

    provider, where = "CUDAExecutionProvider", "CUDA"
    # One uploads and one fetches and scores, while the batch of a third is computed.
    n_workers = 3

    def __init__(
        self,
        network: onnx.ModelProto,
        *,
        image_shape: tuple[int, int, int],
        size: tuple[int, int],
        matrices: Floats | None,
        is_half: bool = True,
        batch_size: int | None = None,
        n_threads: int | None = None,
        open_session: Callable[..., Any] = open_session,
        device: str = "cuda",
    ) -> None:
        self.image_shape, self.size, self.matrices = image_shape, size, matrices
        self.is_half = is_half
        self.batch_size = batch_size or batch_of_pixels(_BUSY_PIXELS, size, fewest=1, most=_MOST)
        self._open, self._n_threads, self._device = open_session, n_threads, device
        self._lock = threading.Lock()
        self._options = FAST if is_half else _PLAIN
        self._cuts: dict[tuple[str, int | None], Any] = {}
        self._filled: dict[int, float] = {}

        def grid_on_device(views: tuple[int, ...]) -> Any:
            assert matrices is not None
            return _upload(view_grid(matrices[list(views)], image_shape[1:], size), device)

        self._grid = functools.lru_cache(MOST_GRIDS)(grid_on_device)
        self.load(network)

    def load(self, network: onnx.ModelProto) -> None:
        """Take the network, or its newer weights."""
        self._network = to_float16(network, takes_half=True) if self.is_half else network
        self._session, self._turn = self._open_network(), 0

    def __call__(
        self, candidates: Array, outputs: Sequence[str], views: Sequence[int] | None = None
    ) -> list[Floats]:
        """Predict patches; see `HostPass`."""
        n, n_views = len(candidates), self._count_views(candidates, views)
        places = list(range(n_views) if views is None else views)
        rows: list[list[list[Floats]]] = []
        start = 0
        while start < n:
            k = self.batch_size
            batch = candidates[start : start + max(1, k // n_views)]
            groups = [places[first : first + k] for first in range(0, n_views, k)]
            found = [self._attempt(batch, group, outputs, k) for group in groups]
            if any(one is None for one in found):
                continue
            rows.append([one for one in found if one is not None])
            start += len(batch)
        return [
            np.concatenate([np.concatenate([one[j] for one in row], axis=1) for row in rows])
            for j in range(len(outputs))
        ]

    def _count_views(self, candidates: Array, views: Sequence[int] | None) -> int:
        if views is not None:
            return len(views)
        return candidates.shape[1] if self.matrices is None else len(self.matrices)

    def _attempt(
        self, candidates: Array, views: list[int], outputs: Sequence[str], k: int
    ) -> list[Floats] | None:
        """Outputs (n, m', …); None, and other sessions from now on, where it could not be run."""
        network, turn = self._current_session()
        try:
            patches = self._cut(
                candidates, views, self._filled_size(len(candidates) * len(views), k)
            )
            found = self._predict(network, patches, outputs)
        except Exception as error:
            reason = error
        else:
            n, m = len(candidates), len(views)
            return [one[: n * m].reshape(n, m, *one.shape[1:]) for one in found]
        # Neither the error's frames nor this one hold what lies on the device any longer.
        patches = network = None
        self._adapt(reason.with_traceback(None), turn, k)
        return None

    def _current_session(self) -> tuple[Any, int]:
        """What predicts, and how often it was replaced."""
        with self._lock:
            if self._session is None:
                self._session = self._open_network()
            return self._session, self._turn

    def _open_network(self) -> Any:
        try:
            return self._open_on_device(self._network, self._options)
        except Exception as error:
            if self._options is not FAST or is_out_of_memory(error):
                raise
            self._take_plain_kernels(error)
        return self._open_on_device(self._network, self._options)

    def _take_plain_kernels(self, error: Exception) -> None:
        warnings.warn(
            f"ONNX Runtime cannot run this network by cuDNN's fastest kernels ({error}); others "
            "are used, which take up to three times as long.",
            BackendWarning,
            stacklevel=2,
        )
        self._options = _PLAIN

    def _filled_size(self, n_patches: int, k: int) -> int:
        """Patches that these are filled up to: k, or fewer once so many were filled up."""
        size = k
        with self._lock:
            while size // _SHRINK >= n_patches:
                smaller = size // _SHRINK
                saved = self._filled.get(smaller, 0.0) + (size - smaller) / k
                self._filled[smaller] = saved
                if saved < _PLANNED_IN:
                    break
                size = smaller
        return size

    def _adapt(self, error: Exception, turn: int, k: int) -> None:
        """Take smaller batches or plainer kernels, or raise what neither would mend."""
        with self._lock:
            if self._turn != turn:
                # Another worker has done so.
                return
            if is_out_of_memory(error):
                if k == 1:
                    raise patches_do_not_fit(1, self.size, error) from error
                self.batch_size = min(self.batch_size, k // 2)
                self._cuts.clear()
                self._filled.clear()
            elif self._options is FAST:
                self._take_plain_kernels(error)
            else:
                raise error
            # Another is opened once this one has given its memory back.
            self._session, self._turn = None, turn + 1

    def _cut(self, candidates: Array, views: list[int], k: int) -> Any:
        """Cut k patches, of which the last may be zeros, on the device."""
        if self.matrices is None:
            chosen = candidates[:, views].reshape(-1, *candidates.shape[2:])
            inputs = {"candidates": _upload(chosen, self._device)}
        else:
            inputs = {
                "candidates": _upload(candidates, self._device),
                "grid": self._grid(tuple(views)),
            }
        # Most batches need not be filled up.
        is_full = len(candidates) * len(views) == k
        session = self._cut_session(candidates.dtype, None if is_full else k)
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("patches", self._device)
        session.run_with_iobinding(binding)
        (patches,) = binding.get_outputs()
        return patches

    def _predict(self, session: Any, patches: Any, outputs: Sequence[str]) -> list[Floats]:
        binding = session.io_binding()
        binding.bind_ortvalue_input("patches", patches)
        for name in outputs:
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding)
        fetched: list[Floats] = binding.copy_outputs_to_cpu()
        return fetched

    def _cut_session(self, dtype: np.dtype[Any], k: int | None) -> Any:
        """Session that cuts candidates of a type, and fills up to k patches."""
        key = dtype.name, k
        how: dict[str, Any] = {"n_patches": k, "is_half": self.is_half}
        with self._lock:
            if key not in self._cuts:
                if self.matrices is None:
                    graph = float_graph((self.image_shape[0], *self.size), dtype, **how)
                else:
                    graph = patch_graph(self.matrices, self.image_shape, self.size, dtype, **how)
                self._cuts[key] = self._open_on_device(graph, {})
            return self._cuts[key]

    def _open_on_device(self, model: onnx.ModelProto, options: dict[str, str]) -> Any:
        return self._open(
            model.SerializeToString(),
            providers=[self.provider],
            n_threads=self._n_threads,
            cuda_options=options,
        )


def _upload(values: Array, device: str) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values), device, 0)
