"""What a race has evaluated: kept in memory as far as it goes, and in a folder to go on from."""

from __future__ import annotations

import contextlib
import io
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._writing import write_atomically
from .shards import Shards

__all__ = ["EvaluatedPatches", "RaceFolder", "RaceStore"]

Array = NDArray[Any]
Ints = NDArray[np.intp]
Evaluate = Callable[[Ints, list[int]], NDArray[np.float32]]

# Bytes of P that are kept between stages; what is let go is evaluated again if it is needed.
_KEPT_BYTES = 2**29
# Bytes of P that are evaluated at once, and candidates while the number of classes is not known.
_BLOCK_BYTES = 2**24
_FIRST_BLOCK = 4096


class RaceStore(Protocol):
    """Keeps what a race has evaluated, so that one that is interrupted goes on."""

    def get(self, name: str) -> Mapping[str, Array] | None:
        """Arrays that were put under a name, or None."""

    def put(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Keep arrays under a name, whole or not at all."""


class RaceFolder:
    """Store of a race beside the shards of a pool, which know what the folder's results depend on.

    Parameters
    ----------
    shards : Shards
        Of the same pool and model; its folder is used.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shards = Shards(folder, {"model": "a"}, n=3, size=2)
    ...     RaceFolder(shards).put("stage-3-0", {"rows": np.arange(3)})
    ...     RaceFolder(shards).get("stage-3-0")["rows"], RaceFolder(shards).get("stage-6-0")
    (array([0, 1, 2]), None)
    """

    def __init__(self, shards: Shards) -> None:
        self.folder = shards.folder

    def get(self, name: str) -> dict[str, Array] | None:
        """Arrays that were put under a name; None where there are none, or they are damaged."""
        damaged = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with contextlib.suppress(*damaged):
            data = io.BytesIO(self._path(name).read_bytes())
            with np.load(data, allow_pickle=False) as file:
                # Read here, so that the archive's checksums are compared.
                return {key: file[key] for key in file.files}
        return None

    def put(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Write arrays in one step."""
        buffer = io.BytesIO()
        np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
        write_atomically(self._path(name), buffer.getvalue())

    def _path(self, name: str) -> Path:
        return self.folder / f"race-{name}.npz"


class EvaluatedPatches:
    """Probabilities of the first patches of candidates, evaluated once as far as memory goes."""

    def __init__(self, evaluate: Evaluate, n_patches: int, store: RaceStore | None) -> None:
        self.n_patches, self.n_evaluated = n_patches, 0
        self.n_classes: int | None = None
        self._evaluate, self._store = evaluate, store
        self._kept: dict[tuple[int, int], list[tuple[Ints, NDArray[np.float32]]]] = {}
        self._n_bytes = 0

    def blocks(self, rows: Ints) -> Iterator[Ints]:
        """Cut rows into as many as are evaluated at once."""
        start = 0
        while start < len(rows):
            size = _FIRST_BLOCK
            if self.n_classes is not None:
                size = max(1, _BLOCK_BYTES // (4 * self.n_patches * self.n_classes))
            yield rows[start : start + size]
            start += size

    def look(self, name: str, rows: Ints, bounds: list[int]) -> NDArray[np.float32]:
        """P of the patches from the first of the bounds to the last, kept between each two."""
        slices = [
            self._look_between(name, rows, start, stop)
            for start, stop in itertools.pairwise(bounds)
        ]
        return slices[0] if len(slices) == 1 else np.concatenate(slices, axis=1)

    def _look_between(self, name: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
        found: list[tuple[Array, NDArray[np.float32]]] = []
        is_missing = np.ones(len(rows), dtype=bool)
        for known, P in self._kept.get((start, stop), ()):
            if known[0] > rows[-1] or known[-1] < rows[0]:
                continue
            at = np.minimum(np.searchsorted(known, rows), len(known) - 1)
            here = np.flatnonzero(known[at] == rows)
            found.append((here, P[at[here]]))
            is_missing[here] = False
        if is_missing.any():
            missing = rows[is_missing]
            P = self.evaluate(f"{name}-patches-{start}-{stop}", missing, start, stop)
            self._keep((start, stop), missing, P)
            if is_missing.all():
                return P
            found.append((np.flatnonzero(is_missing), P))
        whole = np.empty((len(rows), *found[0][1].shape[1:]), dtype=found[0][1].dtype)
        for here, P in found:
            whole[here] = P
        return whole

    def evaluate(self, name: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
        """P of patches start to stop, of the store where it has them."""
        kept = None if self._store is None else self._store.get(name)
        if kept is not None and np.array_equal(kept["rows"], rows):
            P: NDArray[np.float32] = kept["P"]
        else:
            P = self._evaluate(rows, list(range(start, stop)))
            self.n_evaluated += len(rows) * (stop - start)
            if self._store is not None:
                self._store.put(name, {"rows": rows, "P": P})
        self.n_classes = P.shape[2]
        return P

    def _keep(self, key: tuple[int, int], rows: Ints, P: NDArray[np.float32]) -> None:
        if self._n_bytes + P.nbytes <= _KEPT_BYTES:
            self._kept.setdefault(key, []).append((rows, P))
            self._n_bytes += P.nbytes

    def keep_only(self, rows: Ints) -> None:
        """Let go of others than these, where memory is short."""
        if self._n_bytes <= _KEPT_BYTES // 2:
            return
        for blocks in self._kept.values():
            for k, (known, P) in enumerate(blocks):
                stays = np.isin(known, rows, assume_unique=True)
                blocks[k] = known[stays], P[stays]
            blocks[:] = [(known, P) for known, P in blocks if len(known)]
        self._n_bytes = sum(P.nbytes for blocks in self._kept.values() for _, P in blocks)
