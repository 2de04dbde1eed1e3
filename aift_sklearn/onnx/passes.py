"""One pass of candidates through a network: their patches cut, and predicted.

On the CPU every core runs a session's graph on its own few patches, which it cut itself: small
batches stay in the core's cache, and no core waits for another. On a GPU the graph cuts patches
too, so that a candidate crosses the bus once, as bytes.

Letters: n candidates, m patches of each, k patches of a batch, K classes.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .._checks import check_int
from .._threads import count_threads
from ..errors import OutOfMemoryError, ParameterError
from ..patches._resampling import Resampling, as_floats, cut_at_once, interleave, resampling
from .assembly import join_graphs, subgraph
from .fused import patch_graph, view_grid
from .runtime import choose_providers, open_session

__all__ = ["PatchPass", "default_batch_size", "run_on_device", "to_float16"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

_GPU = "CUDAExecutionProvider"
# Patches of the first batch that is tried on a GPU.
_FIRST_BATCH = 64
_PRECISIONS = ("auto", "float32", "float16")


def default_batch_size(size: tuple[int, int], *, on_gpu: bool) -> int:
    """Patches of one batch where none is asked for.

    Examples
    --------
    >>> default_batch_size((64, 64), on_gpu=False), default_batch_size((224, 224), on_gpu=False)
    (16, 2)
    """
    # A core's cache holds the activations of so many pixels; a GPU is busy with so many.
    pixels, most = (2**24, 4096) if on_gpu else (2**16, 32)
    # Powers of two fill whole vectors, and are made of candidates that are cut at once.
    power = round(math.log2(pixels / (size[0] * size[1])))
    return int(np.clip(2.0**power, 2, most))


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a network to half precision; what goes in and comes out stays float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # The converter writes into what it is given.
    own = onnx.ModelProto()
    own.CopyFrom(model)
    converted: onnx.ModelProto = convert_float_to_float16(
        own, keep_io_types=True, disable_shape_infer=True
    )
    return converted


class PatchPass:
    """Candidates → outputs of a network for each of their patches.

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
    providers : "auto", str or sequence of str
        As of `choose_providers`.
    precision : {"auto", "float32", "float16"}
        Of the network. "auto" is half on a GPU.
    batch_size : "auto" or int
        Patches of one batch. "auto" fits a core's cache, and is found by trial on a GPU. Where they
        do not fit the memory, it is halved.
    n_threads : int, optional
        Cores; by default those of the process.
    open_session : callable
        What opens sessions.

    Attributes
    ----------
    n_workers : int
        How many threads may call it at once with profit.
    provider, where : str
        Where it runs, as ONNX Runtime names it, and for people.
    """

    def __init__(
        self,
        network: onnx.ModelProto,
        *,
        image_shape: tuple[int, int, int],
        size: tuple[int, int],
        matrices: Floats | None,
        providers: str | Sequence[str] = "auto",
        precision: str = "auto",
        batch_size: str | int = "auto",
        n_threads: int | None = None,
        open_session: Callable[..., Any] = open_session,
    ) -> None:
        if precision not in _PRECISIONS:
            raise ParameterError(f"precision={precision!r}; expected one of {_PRECISIONS}.")
        self.image_shape, self.size, self.matrices = image_shape, size, matrices
        self.precision, cores = precision, count_threads()
        if n_threads is not None:
            cores = check_int("n_threads", n_threads, minimum=1)
        providers = choose_providers(providers)
        if providers[0] == _GPU:
            # One that does not load is warned of, once, and the work is arranged for another.
            probe = open_session(network.SerializeToString(), providers=providers)
            providers = list(probe.get_providers())
        self.on_gpu = providers[0] == _GPU
        self.where = providers[0].removesuffix("ExecutionProvider")
        self.device = "cuda" if self.on_gpu else "cpu"
        # On a GPU one worker uploads while the other's batch is computed.
        self.n_workers = 2 if self.on_gpu else cores
        # A GPU's best depends on its size and on what else it does: found with the first batch.
        self._is_tuned = batch_size != "auto" or not self.on_gpu
        if batch_size == "auto":
            batch_size = default_batch_size(size, on_gpu=self.on_gpu)
        self.batch_size = check_int("batch_size", batch_size, minimum=1)
        self._tuning = threading.Lock()
        self.cut: Resampling | None = None
        if matrices is not None and not self.on_gpu:
            self.cut = resampling(matrices, image_shape[1:], size)
        self._open = functools.partial(
            open_session, providers=providers, n_threads=cores if self.on_gpu else 1
        )
        self._buffers = threading.local()
        self.load(network)

    @property
    def provider(self) -> str:
        """Where it runs, as ONNX Runtime names it."""
        return str(self._session(np.dtype(np.uint8)).get_providers()[0])

    def load(self, network: onnx.ModelProto) -> None:
        """Take the network, or its newer weights."""
        self._network = to_float16(network) if self.is_half else network
        self._sessions: dict[str, Any] = {}
        self._opening = threading.Lock()
        if self.matrices is None or self.cut is not None:
            self._session(np.dtype(np.float32))

    @property
    def is_half(self) -> bool:
        """Whether the network is computed in half precision."""
        return self.precision == "float16" or (self.precision == "auto" and self.on_gpu)

    def __call__(
        self, candidates: Array, outputs: Sequence[str], views: Sequence[int] | None = None
    ) -> list[Floats]:
        """Predict patches.

        Parameters
        ----------
        candidates : ndarray of shape (n, C, H, W), or (n, m, C, h, w)
            uint8 in [0, 255] or float32 in [0, 1].
        outputs : sequence of str
            Which outputs of the network.
        views : sequence of int, optional
            Which patches; by default all.

        Returns
        -------
        list of ndarray of shape (n, m', …), float32
            Outputs of the m' patches of each candidate.

        Raises
        ------
        OutOfMemoryError
            If a single patch does not fit the memory.
        """
        if self.matrices is None:
            cut = candidates if views is None else candidates[:, list(views)]
            return self._in_batches(as_floats(cut), outputs)
        views = range(len(self.matrices)) if views is None else views
        if self.cut is None:
            return self._in_graph(candidates, outputs, list(views))
        return self._on_host(candidates, outputs, tuple(views))

    def _on_host(
        self, candidates: Array, outputs: Sequence[str], views: tuple[int, ...]
    ) -> list[Floats]:
        assert self.cut is not None
        # A batch is cut when it is due, and is then still in the cache.
        step = max(cut_at_once(self.image_shape[0]), self.batch_size // len(views))
        n_views = max(1, self.batch_size // min(step, max(1, len(candidates))))
        groups = [views[k : k + n_views] for k in range(0, len(views), n_views)]
        parts = []
        for start in range(0, len(candidates), step):
            images = candidates[start : start + step]
            interleaved, found = interleave(images), []
            for group in groups:
                patches = self._buffer((len(images), len(group), images.shape[1], *self.size))
                self.cut.cut(interleaved, group, patches)
                found.append(self._in_batches(patches, outputs))
            parts.append([np.concatenate(one, axis=1) for one in zip(*found, strict=True)])
        return _concatenated(parts)

    def _in_batches(self, patches: Floats, outputs: Sequence[str]) -> list[Floats]:
        flat = patches.reshape(-1, *patches.shape[2:])
        parts, start = [], 0
        while start < len(flat):
            # As even as can be: a last batch of one patch takes as long as one of several.
            n_batches = math.ceil((len(flat) - start) / self.batch_size)
            batch = flat[start : start + math.ceil((len(flat) - start) / n_batches)]
            found = self._attempt({"patches": batch}, outputs, np.dtype(np.float32), len(batch))
            if found is not None:
                parts.append(found)
                start += len(batch)
        return [one.reshape(*patches.shape[:2], *one.shape[1:]) for one in _concatenated(parts)]

    def _in_graph(
        self, candidates: Array, outputs: Sequence[str], views: list[int]
    ) -> list[Floats]:
        assert self.matrices is not None
        grid = view_grid(self.matrices[views], self.image_shape[1:], self.size)
        with self._tuning:
            if not self._is_tuned:
                self._tune(candidates, grid, outputs, len(views))
        parts, start = [], 0
        while start < len(candidates):
            step = max(1, self.batch_size // len(views))
            batch = np.ascontiguousarray(candidates[start : start + step])
            inputs = {"candidates": batch, "grid": grid}
            found = self._attempt(inputs, outputs, batch.dtype, len(batch) * len(views))
            if found is not None:
                parts.append(found)
                start += len(batch)
        shape = len(candidates), len(views)
        return [one.reshape(*shape, *one.shape[1:]) for one in _concatenated(parts)]

    def _tune(self, candidates: Array, grid: Floats, outputs: Sequence[str], m: int) -> None:
        """Double the batch while that is faster by a twentieth, and fits the memory."""
        self._is_tuned, fastest, found = True, 0.0, 0
        most, k = self.batch_size, max(1, _FIRST_BATCH // m)
        while k * m <= most:
            batch = np.resize(candidates, (k, *candidates.shape[1:]))
            inputs = {"candidates": batch, "grid": grid}
            # Once to allocate, once to measure.
            fits = self._attempt(inputs, outputs, batch.dtype, k * m) is not None
            start = time.perf_counter()
            fits = fits and self._attempt(inputs, outputs, batch.dtype, k * m) is not None
            rate = k * m / (time.perf_counter() - start)
            if not fits or rate < 1.05 * fastest:
                break
            fastest, found, k = rate, k * m, 2 * k
        self.batch_size = found or self.batch_size

    def _attempt(
        self, inputs: dict[str, Array], outputs: Sequence[str], dtype: np.dtype[Any], k: int
    ) -> list[Floats] | None:
        """Run a batch of k patches; None, and smaller batches from now on, where it did not fit."""
        try:
            session = self._session(dtype)
            if self.device == "cpu":
                found: list[Floats] = session.run(list(outputs), inputs)
            else:
                found = run_on_device(session, inputs, outputs, self.device)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            smaller = min(self.batch_size, k) // 2
            fewest = 1 if "patches" in inputs else k // len(inputs["candidates"])
            if k <= fewest:
                raise OutOfMemoryError(
                    f"{k} patches of {self.size[0]} x {self.size[1]} pixels do not fit the memory "
                    f"that is left ({error}). Free some, or pass smaller patches: "
                    "AffinePatches(size=...)."
                ) from error
            self.batch_size = max(1, smaller)
            return None
        return found

    def _session(self, dtype: np.dtype[Any]) -> Any:
        """Session for candidates of a type; on the host's patches there is one for all."""
        in_graph = self.matrices is not None and self.cut is None
        key = dtype.name if in_graph else "patches"
        with self._opening:
            if key not in self._sessions:
                model = self._network
                if in_graph:
                    assert self.matrices is not None
                    outputs = [one.name for one in model.graph.output]
                    cut = patch_graph(self.matrices, self.image_shape, self.size, dtype)
                    model = subgraph(join_graphs(cut, model), "candidates", outputs)
                self._sessions[key] = self._open(model.SerializeToString())
        return self._sessions[key]

    def _buffer(self, shape: tuple[int, ...]) -> Floats:
        """Memory of this thread, so that patches do not ask for fresh pages each time."""
        n = int(np.prod(shape))
        known = getattr(self._buffers, "floats", None)
        if known is None or len(known) < n:
            known = self._buffers.floats = np.empty(n, dtype=np.float32)
        floats: Floats = known[:n].reshape(shape)
        return floats


def _concatenated(parts: Sequence[Sequence[Floats]]) -> list[Floats]:
    """Join the parts of each output."""
    return [np.concatenate(one) for one in zip(*parts, strict=True)]


def run_on_device(
    session: Any, inputs: dict[str, Array], outputs: Sequence[str], device: str
) -> list[Floats]:
    """Upload inputs, run, and fetch outputs.

    The upload stands outside of the run: while one worker uploads, another's batch is computed.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Where it runs.
    inputs : dict of str to ndarray
        What goes in.
    outputs : sequence of str
        What is fetched.
    device : str
        "cuda" or "cpu", where the inputs go.

    Returns
    -------
    list of ndarray of float32
        The outputs.
    """
    import onnxruntime

    binding = session.io_binding()
    for name, value in inputs.items():
        on_device = onnxruntime.OrtValue.ortvalue_from_numpy(value, device, 0)
        binding.bind_ortvalue_input(name, on_device)
    for name in outputs:
        binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding)
    fetched: list[Floats] = binding.copy_outputs_to_cpu()
    return fetched


def _is_out_of_memory(error: Exception) -> bool:
    words = (
        "out of memory",
        "failed to allocate",
        "bad_alloc",
        "bad allocation",
        "unable to alloc",
    )
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
