"""How candidates are read: by several threads, those of one part together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._threads import count_threads

__all__ = ["Broken", "Surroundings", "in_threads", "read_by_part"]

Array = NDArray[Any]
Rows = NDArray[np.intp]

T = TypeVar("T")
S = TypeVar("S")

# Items that are handed to threads at once.
_AT_ONCE = 1024
# Items that a thread takes at once: handing over each costs as much as decoding a small image.
_TOGETHER = 16


class Broken(NamedTuple):
    """A candidate that cannot be read."""

    reason: str


class Surroundings(NamedTuple):
    """More of an image than the candidate, for people to look at.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (C, H, W)
        The image, or a part of it.
    box : tuple of float
        Where the candidate lies in it, (xmin, ymin, xmax, ymax), as shares of width and height.
    """

    pixels: Array
    box: tuple[float, float, float, float]


def in_threads(
    function: Callable[[S], T], items: Sequence[S], at_most: int | None = None
) -> Iterable[T]:
    """Call a function for each item in several threads; results come in the items' order.

    Decoders leave the interpreter to others while they work.

    Parameters
    ----------
    function : callable
        Item → result.
    items : sequence
        What it is called with.
    at_most : int, optional
        Threads, where each needs much memory.
    """
    n_threads = min(len(items), count_threads() + 2, at_most or len(items))
    if n_threads < 2:
        yield from map(function, items)
        return
    step = max(1, min(_TOGETHER, len(items) // n_threads))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="reading") as threads:
        for start in range(0, len(items), _AT_ONCE):
            at_once = items[start : start + _AT_ONCE]
            runs = [at_once[k : k + step] for k in range(0, len(at_once), step)]
            for found in threads.map(lambda run: [function(item) for item in run], runs):
                yield from found


def read_by_part(
    rows: Rows,
    part_of: Rows,
    read: Callable[[Rows], Sequence[Array | Broken]],
    at_most: int | None = None,
) -> Iterable[Array | Broken]:
    """Read candidates, those of one part together; they come in the order that was asked for.

    Parameters
    ----------
    rows : ndarray of int, shape (k,)
        Which candidates, in any order.
    part_of : ndarray of int, shape (k,)
        Where each lies, such as the number of its file.
    read : callable
        Rows of one part → a candidate each, or why there is none; called in several threads.
    at_most : int, optional
        Parts that are read at once.

    Examples
    --------
    >>> rows = np.array([5, 1, 4])
    >>> list(read_by_part(rows, rows % 2, lambda these: [f"{these}: {row}" for row in these]))
    ['[5 1]: 5', '[5 1]: 1', '[4]: 4']
    """
    if not len(rows):
        return
    by_part = np.argsort(part_of, kind="stable")
    _, starts = np.unique(part_of[by_part], return_index=True)
    parts = sorted(np.split(by_part, starts[1:]), key=lambda part: int(part[0]))
    ready: dict[int, Array | Broken] = {}
    n_read = 0
    found = in_threads(read, [rows[part] for part in parts], at_most)
    for part, candidates in zip(parts, found, strict=True):
        ready.update(zip(part.tolist(), candidates, strict=True))
        while n_read in ready:
            yield ready.pop(n_read)
            n_read += 1
