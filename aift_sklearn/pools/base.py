"""What every pool has: ids, groups, a shape, and candidates that are read when asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._optional import one_line
from ..errors import DataError, ParameterError
from .image_headers import list_some
from .reading import Broken, Surroundings

__all__ = ["Pool", "broken_items"]

Array = NDArray[Any]
Rows = NDArray[np.intp]


class Pool(ABC):
    """Candidates that lie somewhere and are read when they are asked for.

    A pool slices like an array: ``pool[3]`` is a candidate, ``pool[10:20]`` and ``pool[[5, 2]]``
    are arrays of candidates, and ``np.asarray(pool)`` reads all. ``pool[mask]``, with a mask of
    bools, is a pool again, of which nothing was read; so are `without` and `sound`.

    A candidate that turns out to be broken when it is read is kept in ``broken`` with the reason,
    and zeros stand in its place; `sound` is the pool without such candidates. `AIFTLearner.query`
    asks again without them, and `OnnxScorer` gives them NaN; what else predicts a pool predicts the
    zeros, so give it ``pool.sound()``. A strict pool raises at the first instead.

    Parameters
    ----------
    shape : tuple of int
        Of all candidates together: (n, C, H, W) or (n, f).
    dtype : dtype
        Of what is read.
    ids : sequence of str, length n
        What each candidate is called; no two alike.
    groups : sequence of str, length n, optional
        Patient, slide or folder of each.
    strict : bool, default=False
        Raise at the first candidate that cannot be read.
    broken : mapping of str to str, optional
        What was found to be broken already, and left out: id → reason.
    source : str, default=""
        Where it lies.

    Attributes
    ----------
    ids : ndarray of str, shape (n,)
        What each candidate is called.
    groups : ndarray of str, shape (n,), or None
        Patient, slide or folder of each.
    broken : dict of str to str
        Id → reason of what cannot be read, as far as is known. Pools that were made of this one
        share it.
    notes : list of str
        What else should be known of what was found.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        ids: Sequence[str] | Array,
        groups: Sequence[str] | Array | None = None,
        *,
        strict: bool = False,
        broken: Mapping[str, str] | None = None,
        source: str = "",
    ) -> None:
        self.shape, self.dtype = tuple(int(length) for length in shape), np.dtype(dtype)
        self.ids = np.asarray(ids, dtype=str)
        self.groups = None if groups is None else np.asarray(groups, dtype=str)
        self.strict, self.source = strict, source
        self.broken: dict[str, str] = dict(broken or {})
        self.notes: list[str] = []
        for what, values in (("ids", self.ids), ("groups", self.groups)):
            if values is not None and values.shape != (self.shape[0],):
                raise DataError(
                    f"{self.shape[0]} candidates and {what} of shape {values.shape}; expected one "
                    "for each."
                )
        _refuse_repeated(self.ids)

    @abstractmethod
    def _read(self, rows: Rows) -> Iterable[Array | Broken]:
        """Read candidates, in this order: arrays of shape ``shape[1:]``, or why there is none."""

    def __len__(self) -> int:
        """Number of candidates, n."""
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        """Read a candidate or several, or, by a mask, make a pool of a part."""
        if isinstance(key, (int, np.integer)):
            return self._array(np.array([_as_row(int(key), len(self))]))[0]
        if isinstance(key, slice):
            return self._array(np.arange(len(self))[key])
        rows = np.asarray(key)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise DataError(f"a mask of shape {rows.shape}; expected ({len(self)},).")
            return Subset(self, np.flatnonzero(rows))
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise DataError(
                f"a pool was indexed by {type(key).__name__} of shape {rows.shape}; expected a "
                "number, a slice, a list of numbers, or a mask of bools."
            )
        return self._array(np.array([_as_row(int(row), len(self)) for row in rows], dtype=np.intp))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Read all candidates."""
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        """Say what it is, in a line."""
        groups = "" if self.groups is None else f", {len(np.unique(self.groups))} groups"
        broken = f", {len(self.broken)} broken left out" if self.broken else ""
        shape = " × ".join(map(str, self.shape[1:]))
        where = f" of {self.source}" if self.source else ""
        return (
            f"{type(self).__name__}{where}: {len(self)} candidates, {shape} {self.dtype}{groups}"
            f"{broken}"
        )

    def without(self, ids: Collection[str]) -> Pool:
        """Leave candidates out; nothing is read.

        Parameters
        ----------
        ids : collection of str
            What they are called; those that are not in the pool do not matter.
        """
        if isinstance(ids, str):
            raise ParameterError(f"without({ids!r}); expected a collection of ids: [{ids!r}].")
        left = ~np.isin(self.ids, np.asarray(list(ids), dtype=str)) if len(ids) else slice(None)
        return Subset(self, np.arange(len(self))[left])

    def sound(self) -> Pool:
        """Leave out what is known to be broken."""
        broken = broken_items(self)
        return self if not len(broken) else self.without(self.ids[broken])

    def reading(self) -> dict[str, Any]:
        """Options by which candidates are read again as they are read now, whatever is added."""
        return {}

    def rows_of(self, ids: Iterable[str]) -> Rows:
        """Find candidates by their ids.

        Raises
        ------
        DataError
            If one is not in the pool.
        """
        place = {name: row for row, name in enumerate(self.ids.tolist())}
        wanted = list(ids)
        unknown = [name for name in wanted if name not in place]
        if unknown:
            raise DataError(
                f"{len(unknown)} of {len(wanted)} ids are not in the pool{_named(self.source)}: "
                f"{list_some(unknown)}."
                + (f" Expected ids such as {str(self.ids[0])!r}." if len(self) else "")
            )
        return np.array([place[name] for name in wanted], dtype=np.intp)

    def read_known(self, ids: Iterable[str]) -> dict[str, Array]:
        """Read candidates by their ids: id → candidate, of those that are there and can be read."""
        known = set(self.ids.tolist())
        names = [name for name in dict.fromkeys(ids) if name in known]
        if not names:
            return {}
        found = zip(names, self[self.rows_of(names)], strict=True)
        return {name: candidate for name, candidate in found if name not in self.broken}

    def path_of(self, id: str) -> Path:
        """Return the file that a candidate is read from.

        Raises
        ------
        DataError
            If there is no such candidate, or it has no file of its own.
        """
        row = int(self.rows_of([id])[0])
        path = self._path(row)
        if path is None:
            raise DataError(
                f"candidate {id!r} has no file of its own: it is number {row} of {self.source}."
            )
        return path

    def _path(self, row: int) -> Path | None:
        return None

    def surroundings(self, id: str) -> Surroundings | None:
        """Read more of the image that a candidate is of, as people want to see it.

        Returns
        -------
        Surroundings or None
            None where there is no more to be seen than the candidate.

        Raises
        ------
        DataError
            If there is no such candidate, or it cannot be read.
        """
        row = int(self.rows_of([id])[0])
        try:
            return self._surroundings(row)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever they do
            raise DataError(f"{id} cannot be read: {one_line(error)}.") from error

    def _surroundings(self, row: int) -> Surroundings | None:
        return None

    def _array(self, rows: Rows) -> Array:
        out = np.zeros((len(rows), *self.shape[1:]), dtype=self.dtype)
        for k, read in enumerate(self._read(rows)):
            if isinstance(read, Broken):
                self._keep_broken(int(rows[k]), read.reason)
            else:
                out[k] = read
                if self.broken:
                    # Mended meanwhile.
                    self.broken.pop(str(self.ids[rows[k]]), None)
        return out

    def _keep_broken(self, row: int, reason: str) -> None:
        name = str(self.ids[row])
        if self.strict:
            raise DataError(f"{name} cannot be read: {reason}.")
        self.broken[name] = reason


class Subset(Pool):
    """Some candidates of another pool.

    Parameters
    ----------
    whole : Pool
        The other.
    rows : ndarray of int
        Which of its candidates, in this order.
    """

    whole: Pool
    rows: Rows

    def __init__(self, whole: Pool, rows: Rows) -> None:
        if isinstance(whole, Subset):
            rows = whole.rows[rows]
            whole = whole.whole
        super().__init__(
            (len(rows), *whole.shape[1:]),
            whole.dtype,
            whole.ids[rows],
            None if whole.groups is None else whole.groups[rows],
            strict=whole.strict,
            source=whole.source,
        )
        self.whole, self.rows, self.notes, self.broken = whole, rows, whole.notes, whole.broken

    def reading(self) -> dict[str, Any]:
        """Options of the other pool."""
        return self.whole.reading()

    def _read(self, rows: Rows) -> Iterable[Array | Broken]:
        return self.whole._read(self.rows[rows])

    def _path(self, row: int) -> Path | None:
        return self.whole._path(int(self.rows[row]))

    def _surroundings(self, row: int) -> Surroundings | None:
        return self.whole._surroundings(int(self.rows[row]))

    def _array(self, rows: Rows) -> Array:
        return self.whole._array(self.rows[rows])


def broken_items(pool: Any) -> Rows:
    """Tell which candidates of a pool are known to be broken; none of an array.

    Returns
    -------
    ndarray of int
        Their positions, rising.
    """
    broken = getattr(pool, "broken", None)
    if not broken or not hasattr(pool, "ids"):
        return np.empty(0, dtype=np.intp)
    return np.flatnonzero(np.isin(pool.ids, np.asarray(list(broken), dtype=str)))


def _as_row(key: int, n: int) -> int:
    if not -n <= key < n:
        raise IndexError(f"candidate {key} of a pool of {n}.")
    return key % n


def _refuse_repeated(ids: Array) -> None:
    ordered = np.sort(ids)
    again = ordered[1:] == ordered[:-1]
    if again.any():
        twice = np.unique(ordered[1:][again]).tolist()
        raise ParameterError(
            f"{len(twice)} ids are given to several candidates: {list_some(twice)}."
        )


def _named(source: str) -> str:
    return f" of {source}" if source else ""
