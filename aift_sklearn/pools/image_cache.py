"""Decoded images that are kept for a while."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["ImageCache"]


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


class ImageCache(Generic[T]):
    """Images that were asked for last, up to so many bytes; several threads may use it.

    Parameters
    ----------
    limit : int
        Bytes in all. The image that was asked for last is kept, however large.

    Examples
    --------
    >>> import numpy as np
    >>> cache = ImageCache(100)
    >>> cache.ask_for([0, 1])
    >>> for key in (1, 0):
    ...     cache.keep(key, np.zeros(80, dtype=np.uint8))
    >>> cache.get(0) is None, cache.get(1) is None
    (True, False)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[Hashable, T | None] = {}
        self._n_bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, and those that go to other processes, begin empty."""
        return ImageCache, (self.limit,)

    def ask_for(self, keys: Iterable[Hashable]) -> None:
        """Say which images are wanted next: in what order they leave again.

        Threads finish in any order, and the last image of a slice is wanted for the next one.
        """
        with self._lock:
            for key in keys:
                self._kept[key] = self._kept.pop(key, None)

    def get(self, key: Hashable) -> T | None:
        """Return an image, or None where it is not kept."""
        with self._lock:
            return self._kept.get(key)

    def keep(self, key: Hashable, image: T) -> None:
        """Keep an image that was asked for."""
        with self._lock:
            # Where others pushed it out meanwhile, it is not wanted any more.
            if key not in self._kept:
                return
            before = self._kept[key]
            self._kept[key] = image
            self._n_bytes += image.nbytes - (0 if before is None else before.nbytes)
            while self._n_bytes > self.limit and len(self._kept) > 1:
                oldest = self._kept.pop(next(iter(self._kept)))
                self._n_bytes -= 0 if oldest is None else oldest.nbytes
