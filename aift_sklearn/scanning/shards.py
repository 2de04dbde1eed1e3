"""Results of a pool in a folder, shard by shard, for a run that is interrupted and goes on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._writing import as_path, write_atomically
from ..errors import DataError
from .parts import Part, Results

__all__ = ["Gathered", "Shards", "Sink"]

Array = NDArray[Any]

_SETTINGS = "scoring.json"


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
        self.folder, self.n = as_path(folder), n
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


class Sink(Protocol):
    """Where the results of a pass go.

    Attributes
    ----------
    multiple : int or None
        Candidates of which the results are kept together: no part lies on both sides of a multiple
        of this many.
    """

    @property
    def multiple(self) -> int | None:
        """Candidates of which the results are kept together."""

    def begin(self, part: Part) -> bool:
        """Whether a part is still to be computed. Asked of every part before the first is read."""

    def add(self, part: Part, results: Results) -> None:
        """Take the results of a part; parts come in any order, one at a time."""


class Gathered:
    """Results of parts, put where they belong; shards are kept once they are whole.

    Parameters
    ----------
    n : int
        Candidates.
    shards : Shards, optional
        Where results are kept; what is finished there is taken over.
    out : dict of str to ndarray, optional
        Arrays with n rows that results are put into; by default they are made.

    Attributes
    ----------
    arrays : dict of str to ndarray
        What was gathered.
    """

    def __init__(
        self, n: int, shards: Shards | None = None, out: dict[str, Array] | None = None
    ) -> None:
        self.n, self.shards = n, shards
        self.arrays: dict[str, Array] = dict(out or {})
        self._finished: dict[int, Results] = {}
        self._open: dict[int, int] = {}
        if shards is not None:
            self._finished = shards.finished()
            for shard, results in self._finished.items():
                self._put(shards.bounds(shard)[0], results)

    @property
    def multiple(self) -> int | None:
        """Candidates of a shard."""
        return None if self.shards is None else self.shards.size

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
