"""A pass of candidates through a network on the CPU.

Every core runs a session's graph on its own few patches, which it cut itself: small batches stay in
the core's cache, and no core waits for another.

Letters: n candidates, m patches of each, k patches of a batch.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..patches._resampling import Resampling, as_floats, cut_at_once, interleave, resampling
from .fused import MOST_GRIDS, patch_graph, view_grid
from .runtime import (
    batch_of_pixels,
    is_out_of_memory,
    open_session,
    patches_do_not_fit,
    to_float16,
)

__all__ = ["HostPass"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

# A core's cache holds the activations of patches of so many pixels, of this many at most.
_CACHED_PIXELS, _MOST = 2**16, 32


class HostPass:
    """Candidates → outputs of a network for each of their patches, on the CPU.

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
    is_half : bool, default=False
        Whether the network is computed in half precision.
    batch_size : int, optional
        Patches of one batch; by default those that fit a core's cache. Halved where they do not fit
        the memory.
    n_threads : int
        Cores.
    open_session : callable
        What opens sessions.

    Attributes
    ----------
    n_workers : int
        How many threads may call it at once with profit.
    provider, where : str
        Where it runs, as ONNX Runtime names it, and for people.
    """

    provider, where = "CPUExecutionProvider", "CPU"

    def __init__(
        self,
        network: onnx.ModelProto,
        *,
        image_shape: tuple[int, int, int],
        size: tuple[int, int],
        matrices: Floats | None,
        n_threads: int,
        is_half: bool = False,
        batch_size: int | None = None,
        open_session: Callable[..., Any] = open_session,
    ) -> None:
        self.image_shape, self.size, self.matrices = image_shape, size, matrices
        self.is_half, self.n_workers = is_half, n_threads
        self.batch_size = batch_size or batch_of_pixels(_CACHED_PIXELS, size, fewest=2, most=_MOST)
        self._open, self._buffers = open_session, threading.local()
        self._cut: _ByWeights | _InGraph | None = None
        if matrices is not None:
            # Of the largest candidates there is none: its weights would not fit the memory.
            weights = resampling(matrices, image_shape[1:], size)
            if weights is None:
                self._cut = _InGraph(matrices, image_shape, size, self._open_for_one)
            else:
                self._cut = _ByWeights(weights, image_shape[0])
        self.load(network)

    def load(self, network: onnx.ModelProto) -> None:
        """Take the network, or its newer weights."""
        self._session = self._open_for_one(to_float16(network) if self.is_half else network)

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
        return self._cut_and_predict(candidates, outputs, tuple(views))

    def _cut_and_predict(
        self, candidates: Array, outputs: Sequence[str], views: tuple[int, ...]
    ) -> list[Floats]:
        assert self._cut is not None
        # A batch is cut when it is due, and is then still in the cache.
        step = max(self._cut.at_once, self.batch_size // len(views))
        n_views = max(1, self.batch_size // min(step, max(1, len(candidates))))
        groups = [views[k : k + n_views] for k in range(0, len(views), n_views)]
        parts = []
        for start in range(0, len(candidates), step):
            images = candidates[start : start + step]
            prepared, found = self._cut.prepare(images), []
            for group in groups:
                patches = self._buffer((len(images), len(group), images.shape[1], *self.size))
                self._cut.cut(prepared, group, patches)
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
            try:
                parts.append(self._session.run(list(outputs), {"patches": batch}))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise patches_do_not_fit(1, self.size, error) from error
                self.batch_size = min(self.batch_size, len(batch) // 2)
                continue
            start += len(batch)
        return [one.reshape(*patches.shape[:2], *one.shape[1:]) for one in _concatenated(parts)]

    def _open_for_one(self, model: onnx.ModelProto) -> Any:
        """Session on the thread that calls it."""
        return self._open(model.SerializeToString(), providers=[self.provider], n_threads=1)

    def _buffer(self, shape: tuple[int, ...]) -> Floats:
        """Memory of this thread, so that patches do not ask for fresh pages each time."""
        n = int(np.prod(shape))
        known = getattr(self._buffers, "floats", None)
        if known is None or len(known) < n:
            known = self._buffers.floats = np.empty(n, dtype=np.float32)
        floats: Floats = known[:n].reshape(shape)
        return floats


class _ByWeights:
    """Cuts a few candidates at once, by what their pixels weigh in those of the patches."""

    def __init__(self, weights: Resampling, channels: int) -> None:
        self.at_once, self.cut, self.prepare = cut_at_once(channels), weights.cut, interleave


class _InGraph:
    """Cuts candidates that are so large that the weights would not fit the memory, one by one."""

    at_once = 1

    def __init__(
        self,
        matrices: Floats,
        image_shape: tuple[int, int, int],
        size: tuple[int, int],
        open_session: Callable[[onnx.ModelProto], Any],
    ) -> None:
        self._session = open_session(patch_graph(matrices, image_shape, size, np.float32))
        self._grid_of = functools.lru_cache(MOST_GRIDS)(
            lambda views: view_grid(matrices[list(views)], image_shape[1:], size)
        )

    def prepare(self, candidates: Array) -> Floats:
        """Candidates (n, C, H, W) as floats."""
        return as_floats(candidates)

    def cut(self, candidates: Floats, views: tuple[int, ...], out: Floats) -> None:
        """Cut patches into out (n, m', C, h, w)."""
        inputs = {"candidates": candidates, "grid": self._grid_of(views)}
        out[:] = self._session.run(["patches"], inputs)[0].reshape(out.shape)


def _concatenated(parts: Sequence[Sequence[Floats]]) -> list[Floats]:
    """Join the parts of each output."""
    return [np.concatenate(one) for one in zip(*parts, strict=True)]
