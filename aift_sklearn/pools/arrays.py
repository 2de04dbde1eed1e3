"""Pools of arrays that slice: in memory, or in .npy, .npz, Zarr and HDF5 files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import as_array, refuse_what_is_no_array
from .._optional import one_line
from ..errors import DataError, DataTypeError, ParameterError
from .array_layout import Channels, plan_layout
from .array_rows import read_rows
from .array_stores import StoredArray, as_address, open_stored
from .base import Pool
from .reading import Broken

__all__ = ["ArrayPool", "lies_elsewhere", "open_array", "row_numbers"]

Array = NDArray[Any]
Rows = NDArray[np.intp]

# Digits of a row number that serves as an id, at least.
_DIGITS = 6


class ArrayPool(Pool):
    """Candidates in an array that slices, such as a memory map or an array of Zarr or HDF5.

    Images are (n, C, H, W), (n, H, W, C) or, grey, (n, H, W), and become (n, C, H, W); features are
    (n, f). One thread reads at a time. Candidates that follow each other are read by one slice,
    others by as few requests as the array can serve. Where a read fails, as of a damaged chunk,
    its candidates are tried apart, and only those that fail again are broken.

    Chunks that a Zarr or HDF5 array does not have are no damage to it: they are read as its fill
    value, as a rule 0.

    Parameters
    ----------
    array : array-like
        Candidates; `open_array` opens a file.
    ids : sequence of str, length n, optional
        What each candidate is called; by default its row number, "000123".
    groups : sequence of str, length n, optional
        Patient or slide of each.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels of images of four axes lie. "auto" takes a last axis of 1, 3 or 4 for
        channels, else the second, and raises if it could be either; the fourth of 4 that come last,
        transparency, is dropped. "last" keeps it.
    window : (float, float), optional
        Darkest and brightest value of images, which become 0 and 255, uint8. Needed for integers of
        more than 8 bits. Images that hold NaN or infinity are then broken.
    strict : bool, default=False
        Raise at the first candidate that cannot be read.
    source : str, default=""
        Where it lies, for messages.

    Attributes
    ----------
    array : array-like
        The array.

    Raises
    ------
    DataError
        If the array does not hold candidates, or it is not clear where channels lie.
    DataTypeError
        If it does not hold numbers, or images of more than 8 bits and no ``window`` is given.

    Examples
    --------
    >>> pool = ArrayPool(np.zeros((60, 28, 28, 3), dtype=np.uint8))
    >>> pool
    ArrayPool: 60 candidates, 3 × 28 × 28 uint8
    >>> pool[[7, 7, 2]].shape, pool.ids[7].item()
    ((3, 3, 28, 28), '000007')
    """

    def __init__(
        self,
        array: Any,
        *,
        ids: Sequence[str] | Array | None = None,
        groups: Sequence[str] | Array | None = None,
        channels: Channels = "auto",
        window: tuple[float, float] | None = None,
        strict: bool = False,
        source: str = "",
    ) -> None:
        self.array = _as_sliceable(array)
        self._kind = _kind(self.array)
        shape, _ = self._kind
        self._layout = plan_layout(shape, np.dtype(self.array.dtype), channels, window)
        for name, given in (("ids", ids), ("groups", groups)):
            if isinstance(given, str):
                raise ParameterError(f"{name}={given!r}; expected one for each of {shape[0]} rows.")
        super().__init__(
            self._layout.shape,
            self._layout.dtype,
            row_numbers(shape[0]) if ids is None else ids,
            groups,
            strict=strict,
            source=source,
        )
        self.notes += [self._layout.note] if self._layout.note else []
        self._lock = threading.Lock()
        self._reopen: Callable[[], StoredArray] | None = None

    def _read(self, rows: Rows) -> Iterable[Array | Broken]:
        candidates, broken = self._read_all(rows)
        for k, candidate in enumerate(candidates):
            yield Broken(broken[k]) if k in broken else candidate

    def _array(self, rows: Rows) -> Array:
        candidates, broken = self._read_all(rows)
        for k in range(len(rows)) if self.broken else ():
            if k not in broken:
                # Mended meanwhile.
                self.broken.pop(str(self.ids[rows[k]]), None)
        for k, reason in broken.items():
            self._keep_broken(int(rows[k]), reason)
        return candidates

    def _read_all(self, rows: Rows) -> tuple[Array, dict[int, str]]:
        """Candidates, and by position why some of them, which are zeros, cannot be read."""
        out = np.zeros((len(rows), *self.shape[1:]), dtype=self.dtype)
        broken: dict[int, str] = {}
        self._fill(out, rows, 0, broken)
        return out, broken

    def _fill(self, out: Array, rows: Rows, at: int, broken: dict[int, str]) -> None:
        """Read rows into ``out``, by halves where that fails, so that damage is found fast."""
        try:
            with self._lock:
                block = read_rows(self.array, rows)
            if block.shape != (len(rows), *self.array.shape[1:]):
                raise DataError(f"the array gave a part of shape {block.shape}")
        except (MemoryError, ConnectionError, TimeoutError):
            # No fault of the candidates.
            raise
        except Exception as error:  # stores raise whatever their codecs do
            self._refuse_closed(error)
            if len(rows) == 1:
                broken[at] = one_line(error)
                return
            half = len(rows) // 2
            self._fill(out[:half], rows[:half], at, broken)
            self._fill(out[half:], rows[half:], at + half, broken)
        else:
            for k in self._layout.put(block, out):
                broken[at + k] = "values that are not finite"

    def _refuse_closed(self, error: Exception) -> None:
        # As h5py tells: of a closed file every candidate would seem broken.
        if not getattr(getattr(self.array, "id", None), "valid", True):
            raise DataError(
                f"the file of the pool{f' {self.source}' if self.source else ''} was closed; keep "
                "it open as long as the pool is used, or open it by open_array(path, key)."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        if self._reopen is not None:
            state["array"] = None
        elif lies_elsewhere(self.array):
            kind = type(self.array)
            raise DataTypeError(
                f"a pool of an open {kind.__module__}.{kind.__qualname__} cannot be pickled, as "
                "for other processes; expected one that was opened by its path: "
                "open_array(path, key)."
            )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        if self._reopen is None:
            return
        self.array = self._reopen().array
        if _kind(self.array) != self._kind:
            raise DataError(
                f"the array {self.source} had shape and type {self._kind}; it now has "
                f"{_kind(self.array)}. Open the pool anew."
            )


def open_array(
    path: str | os.PathLike[str],
    key: str | None = None,
    *,
    ids: Sequence[str] | Array | None = None,
    groups: Sequence[str] | Array | None = None,
    channels: Channels = "auto",
    window: tuple[float, float] | None = None,
    strict: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> ArrayPool:
    """Open an array in a file as a pool, which reopens it where it is unpickled.

    Parameters
    ----------
    path : path-like
        A file ``.npy`` (which is memory-mapped), ``.npz``, ``.h5`` or ``.hdf5``, a folder
        ``.zarr``, or the URL of one that fsspec knows, such as "s3://bucket/cells.zarr". Members of
        ``.npz`` files that are compressed are read into memory at once.
    key : str, optional
        Which array of a file of several: "train_images", "scans/images".
    ids, groups : sequence of str, length n, optional
        As of `ArrayPool`. By default they are read from arrays that are called "ids" and "groups"
        and lie beside it, if there are such.
    channels, window, strict
        As of `ArrayPool`.
    storage_options : mapping, optional
        What fsspec is told of a URL, such as ``{"anon": True}``.

    Returns
    -------
    ArrayPool
        Of candidates nothing was read.

    Raises
    ------
    ParameterError
        If ``key`` is needed or not there; the message lists what is.
    DataError
        If there is no such file, it is damaged, or it does not hold candidates.
    MissingDependencyError
        If a library that reads it is not installed.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> images, names = np.zeros((3, 28, 28), dtype=np.uint8), ["a1", "a2", "b1"]
    >>> np.savez(f"{folder}/cells.npz", images=images, ids=names, groups=["a", "a", "b"])
    >>> pool = open_array(f"{folder}/cells.npz")
    >>> pool.shape, pool.ids.tolist(), pool.groups.tolist()
    ((3, 1, 28, 28), ['a1', 'a2', 'b1'], ['a', 'a', 'b'])
    """
    address = as_address(path)
    stored = open_stored(address, key, storage_options)
    pool = ArrayPool(
        stored.array,
        ids=stored.names("ids") if ids is None else ids,
        groups=stored.names("groups") if groups is None else groups,
        channels=channels,
        window=window,
        strict=strict,
        source=f"{address}/{stored.key}" if stored.key else address,
    )
    pool._reopen = partial(open_stored, address, stored.key or None, storage_options)
    return pool


def _as_sliceable(array: Any) -> Any:
    if isinstance(array, (str, os.PathLike)):
        raise DataTypeError(f"array is the path {os.fspath(array)!r}; open_array(path) opens it.")
    if hasattr(array, "tocsr"):
        raise DataTypeError("the array is sparse; expected a dense one: array.toarray().")
    refuse_what_is_no_array(array)
    slices = hasattr(array, "shape") and hasattr(array, "dtype") and not hasattr(array, "detach")
    return array if slices else as_array(array)


def _kind(array: Any) -> tuple[tuple[int, ...], str]:
    return tuple(int(length) for length in array.shape or ()), str(array.dtype)


def row_numbers(n: int) -> NDArray[np.str_]:
    """Ids of candidates that have none: "000123".

    Examples
    --------
    >>> row_numbers(2).tolist()
    ['000000', '000001']
    """
    digits = max(_DIGITS, len(str(n - 1)))
    return np.char.zfill(np.arange(n).astype(f"U{digits}"), digits)


def lies_elsewhere(array: Any) -> bool:
    """Tell whether an array is that of an open file, which is no part of a pickled pool."""
    library = type(array).__module__.partition(".")[0]
    return isinstance(array, np.memmap) or library in ("h5py", "zarr")
