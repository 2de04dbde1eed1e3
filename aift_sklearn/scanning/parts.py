"""Pools of any size through workers, part by part.

One thread reads, so that sources which are not made for several (HDF5, say) serve too, and is a few
parts ahead of the workers, so that reading overlaps with computing. Only those parts are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import as_array
from ..errors import DataError
from ..pools.base import Pool
from ..progress import ProgressBar

__all__ = ["Part", "as_parts", "scan"]

Array = NDArray[Any]
Results = Mapping[str, Array]
Work = Callable[["Part", Array], Results]


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

    def position(self, k: int) -> int:
        """Position in the pool of the k-th of them."""
        return self.start + (k if self.rows is None else int(self.rows[k]))

    def read(self, pool: Any) -> Array:
        """Read them as an array, or raise DataError where the pool gives others than it says."""
        if self.rows is not None and isinstance(pool, Pool):
            # One that reads candidates singly is not to read those between.
            return np.asarray(pool[self.start + self.rows])
        part = as_array(pool[self.start : self.stop])
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
        f(part, its candidates) → arrays with a row for each. Called by several threads at once.
    n_workers : int
        Threads that compute; with 0 the calling thread does, as what is not made for threads needs.
    done : callable
        f(part, results), called by the calling thread.
    bar : ProgressBar, optional
        Advanced by the candidates that are done.
    """
    if n_workers == 0:
        for part in parts:
            done(part, work(part, part.read(pool)))
            if bar is not None:
                bar.advance(part.n)
        return

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
            running[pool_of_workers.submit(work, part, candidates)] = part
            # One part waits for each that is computed.
            finish(running, most=2 * n_workers - 1)
        finish(running, most=0)
    except BaseException:
        # What is being computed is finished, and kept.
        pool_of_workers.shutdown(cancel_futures=True)
        for future, part in running.items():
            if not future.cancelled() and future.exception() is None:
                done(part, future.result())
        raise
    finally:
        pool_of_workers.shutdown()
