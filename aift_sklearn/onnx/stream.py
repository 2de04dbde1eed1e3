"""Pools of any size through workers, part by part, with what is finished kept in a folder.

One thread reads, so that sources which are not made for several (HDF5, say) serve too, and is a few
parts ahead of the workers, so that reading overlaps with computing. Only those parts are in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._writing import write_atomically
from ..errors import DataError
from ..progress import ProgressBar

__all__ = ["Gathered", "Part", "Shards", "as_parts", "scan"]

Array = NDArray[Any]
Results = Mapping[str, Array]
Work = Callable[[Array], Results]

_SETTINGS = "scoring.json"


class Part(NamedTuple):
    """Candidates that are read at once: rows of ``pool[start:stop]``, or all where rows is None."""

    start: int
    stop: int
    rows: NDArray[np.intp] | None
    at: int
    """Where the first of them goes in the results."""

    @property
    def n(self) -> int:
        """How many they are."""
        return self.stop - self.start if self.rows is None else len(self.rows)

    def read(self, pool: Any) -> Array:
        """Read them as an array, or raise DataError where the pool gives others than it says."""
        part = np.asarray(pool[self.start : self.stop])
        expected = (self.stop - self.start, *np.shape(pool)[1:])
        if part.shape != expected:
            raise DataError(
                f"pool[{self.start}:{self.stop}] has shape {part.shape}; expected {expected}, as "
                "the pool's own shape says. Is its file complete?"
            )
        return part if self.rows is None else part[self.rows]


def as_parts(
    n: int,
    step: int,
    rows: NDArray[np.intp] | None = None,
    *,
    reach: int | None = None,
    multiple: int | None = None,
) -> Iterator[Part]:
    """Cut a pool into parts of up to ``step`` candidates.

    Parameters
    ----------
    n : int
        Candidates in the pool.
    step : int
        Most candidates of a part.
    rows : ndarray of int, optional
        The candidates that are wanted, rising; by default all.
    reach : int, optional
        Most candidates that are read for a part, wanted or not; by default 8·step.
    multiple : int, optional
        No part lies on both sides of a multiple of this many.

    Examples
    --------
    >>> [(part.start, part.stop) for part in as_parts(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    >>> [(part.start, part.rows.tolist()) for part in as_parts(9, 2, np.array([1, 3, 8]))]
    [(1, [0, 2]), (8, [0])]
    """
    if rows is None:
        start = 0
        while start < n:
            stop = min(start + step, n)
            if multiple is not None:
                stop = min(stop, (start // multiple + 1) * multiple)
            yield Part(start, stop, None, start)
            start = stop
        return
    reach = 8 * step if reach is None else reach
    first = 0
    while first < len(rows):
        last = min(first + step, len(rows))
        last = first + int(np.searchsorted(rows[first:last], rows[first] + reach))
        start = int(rows[first])
        yield Part(start, int(rows[last - 1]) + 1, rows[first:last] - start, first)
        first = last


def scan(
    pool: Any,
    parts: Sequence[Part],
    work: Work,
    *,
    n_workers: int,
    done: Callable[[Part, Results], None],
    bar: ProgressBar | None = None,
) -> None:
    """Read the parts, and let workers compute on them; results come in any order.

    Parameters
    ----------
    pool : sliceable
        What is read, by the calling thread alone.
    parts : sequence of Part
        As of `as_parts`.
    work : callable
        Array of candidates → arrays with a row for each. Called by several threads at once.
    n_workers : int
        Threads that compute.
    done : callable
        f(part, results), called by the calling thread.
    bar : ProgressBar, optional
        Advanced by the candidates that are done.
    """

    def finish(running: dict[Future[Results], Part], *, most: int) -> None:
        while len(running) > most:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                part = running.pop(future)
                done(part, future.result())
                if bar is not None:
                    bar.advance(part.n)

    running: dict[Future[Results], Part] = {}
    pool_of_workers = ThreadPoolExecutor(n_workers, thread_name_prefix="scoring")
    try:
        for part in parts:
            candidates = part.read(pool)
            running[pool_of_workers.submit(work, candidates)] = part
            # One part waits for each that is computed.
            finish(running, most=2 * n_workers - 1)
        finish(running, most=0)
    except BaseException:
        # What is being computed is finished, and kept.
        pool_of_workers.shutdown(wait=True, cancel_futures=True)
        for future, part in running.items():
            if not future.cancelled() and future.exception() is None:
                done(part, future.result())
        raise
    finally:
        pool_of_workers.shutdown(wait=True, cancel_futures=True)


class Shards:
    """Results of a pool in a folder, shard by shard, for a run that is interrupted and goes on.

    Parameters
    ----------
    folder : path-like
        Made where it does not exist.
    identity : mapping
        What the results depend on, as JSON holds it. A folder that holds results of something
        else is refused.
    n : int
        Candidates in the pool.
    size : int
        Candidates of a shard.

    Raises
    ------
    DataError
        If the folder holds results of something else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Shards(folder, {"model": "a"}, n=3, size=2).save(0, {"score": np.array([.1, .2])})
    ...     sorted(Shards(folder, {"model": "a"}, n=3, size=2).finished())
    [0]
    """

    def __init__(
        self, folder: str | os.PathLike[str], identity: Mapping[str, Any], *, n: int, size: int
    ) -> None:
        self.folder, self.n = Path(folder), n
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"{folder} is a file; expected a folder, or a path for one.")
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _SETTINGS
        wanted = {**identity, "n": n}
        if path.exists():
            known = _read_settings(path)
            # A folder that was begun keeps the size of its shards.
            size = int(known.pop("shard_size", size))
            odd = sorted(k for k in known.keys() | wanted.keys() if known.get(k) != wanted.get(k))
            if odd:
                raise DataError(
                    f"{self.folder} holds scores of something else: {', '.join(odd)} differs. Pass "
                    "another folder, or remove this one if its scores are not needed."
                )
        else:
            text = json.dumps({**wanted, "shard_size": size}, indent=1)
            write_atomically(path, text)
        self.size = size

    def __len__(self) -> int:
        return math.ceil(self.n / self.size)

    def bounds(self, shard: int) -> tuple[int, int]:
        """First candidate of a shard, and the one after its last."""
        return shard * self.size, min((shard + 1) * self.size, self.n)

    def finished(self) -> dict[int, Results]:
        """Results that are there; what is damaged is not."""
        found = {}
        for shard in range(len(self)):
            with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                found[shard] = self._load(shard)
        return found

    def _load(self, shard: int) -> Results:
        data = self._path(shard).read_bytes()
        start, stop = self.bounds(shard)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            results = {name: archive[name] for name in archive.files if name != "sha256"}
            if _digest(results) != str(archive["sha256"]):
                raise ValueError("damaged")
        if any(len(values) != stop - start for values in results.values()):
            raise ValueError("damaged")
        return results

    def save(self, shard: int, results: Results) -> None:
        """Write a shard in one step."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {"sha256": np.array(_digest(results)), **results}
        np.savez(buffer, **arrays)
        write_atomically(self._path(shard), buffer.getvalue())

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:06d}.npz"


class Gathered:
    """Results of parts, put where they belong; shards are kept once they are whole.

    Parameters
    ----------
    n : int
        Candidates.
    shards : Shards, optional
        Where results are kept; what is finished there is taken over.

    Attributes
    ----------
    arrays : dict of str to ndarray
        What was gathered.
    """

    def __init__(self, n: int, shards: Shards | None = None) -> None:
        self.n, self.shards = n, shards
        self.arrays: dict[str, Array] = {}
        self._finished: dict[int, Results] = {}
        self._open: dict[int, int] = {}
        if shards is not None:
            self._finished = shards.finished()
            for shard, results in self._finished.items():
                self._put(shards.bounds(shard)[0], results)

    def begin(self, part: Part) -> bool:
        """Whether a part is still to be computed."""
        if self.shards is None:
            return True
        shard = part.start // self.shards.size
        if shard in self._finished:
            return False
        self._open[shard] = self._open.get(shard, 0) + 1
        return True

    def add(self, part: Part, results: Results) -> None:
        """Put the results of a part in place."""
        self._put(part.at, results)
        if self.shards is None:
            return
        shard = part.start // self.shards.size
        self._open[shard] -= 1
        if self._open[shard] == 0:
            start, stop = self.shards.bounds(shard)
            whole = {name: values[start:stop] for name, values in self.arrays.items()}
            self.shards.save(shard, whole)

    def _put(self, start: int, results: Results) -> None:
        for name, values in results.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty((self.n, *values.shape[1:]), dtype=values.dtype)
            self.arrays[name][start : start + len(values)] = values


def _digest(results: Results) -> str:
    digest = hashlib.sha256()
    for name in sorted(results):
        values = np.ascontiguousarray(results[name])
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}. Remove its folder to score anew.") from error
    if not isinstance(known, dict) or not isinstance(known.get("shard_size"), int):
        raise DataError(f"{path} is not of this package; pass another folder.")
    return known
