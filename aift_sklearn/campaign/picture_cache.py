"""What was used last, in memory, as far as it fits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["PictureCache"]

T = TypeVar("T")


class PictureCache(Generic[T]):
    """Keeps values up to a number of bytes; what was not used for longest goes first.

    Parameters
    ----------
    size : callable
        Bytes of a value.
    n_bytes : int, default=128 MiB
        How much is kept. A larger value alone is not kept.
    n_values : int
        How many are kept, however small.

    Examples
    --------
    >>> cache = PictureCache(len, n_bytes=4)
    >>> for name in ("ab", "cd", "ef"):
    ...     cache.put(name, name.encode())
    >>> cache.get("ab"), cache.get("ef")
    (None, b'ef')
    """

    def __init__(
        self, size: Callable[[T], int], *, n_bytes: int = 128 << 20, n_values: int = 10_000
    ) -> None:
        self._size = size
        self._n_bytes = n_bytes
        self._n_values = n_values
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def get(self, key: Hashable) -> T | None:
        """Return a value, or None where it is not kept."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Hashable, value: T) -> None:
        """Keep a value."""
        with self._lock:
            if key in self._values:
                self._held -= self._size(self._values.pop(key))
            self._values[key] = value
            self._held += self._size(value)
            while self._held > self._n_bytes or len(self._values) > self._n_values:
                _, gone = self._values.popitem(last=False)
                self._held -= self._size(gone)
