"""Results of a pass, as they come, into the shards of a table."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._versions import package_versions
from .._writing import lock_folder, write_atomically
from ..errors import DataError
from ..scanning.parts import Part
from .table import (
    FORMAT,
    MANIFEST,
    VERSION,
    ScoreTable,
    import_pyarrow,
    read_manifest,
    read_shard,
    shard_path,
)

__all__ = ["TableWriter", "open_table"]

Array = NDArray[Any]
Rows = NDArray[np.intp]

_PACKAGES = ("aift-sklearn", "numpy", "onnxruntime", "onnxruntime-gpu", "pyarrow", "ray", "torch")


class TableWriter:
    """Takes the results of a pool, and writes every shard once it is whole.

    Parameters
    ----------
    folder : Path
        Of the table.
    manifest : dict
        Of the table.
    ids, groups : ndarray of str, shape (n,)
        Of the candidates; groups may be None.
    why_broken : callable
        Id → reason, or None where a candidate can be read. Asked of those whose score is NaN.
    retry_broken : bool, default=False
        Whether shards with candidates that could not be read are missing.

    Attributes
    ----------
    missing : list of int
        Shards that are not finished.
    """

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        ids: Array,
        groups: Array | None,
        why_broken: Callable[[str], str | None],
        *,
        retry_broken: bool = False,
    ) -> None:
        self.folder, self.manifest, self.why_broken = folder, manifest, why_broken
        self._ids, self._groups = ids, groups
        self._size, self._n = int(manifest["shard_size"]), int(manifest["n"])
        self._open: dict[int, _OpenShard] = {}
        n_shards = -(-self._n // self._size)
        self.missing = [
            shard for shard in range(n_shards) if not self._is_finished(shard, retry_broken)
        ]
        self._wanted = set(self.missing)

    @property
    def multiple(self) -> int:
        """Candidates of a shard; see `Sink`."""
        return self._size

    @property
    def n_missing(self) -> int:
        """Candidates that are not scored yet."""
        return sum(stop - start for start, stop in map(self.bounds, self.missing))

    def bounds(self, shard: int) -> tuple[int, int]:
        """First candidate of a shard, and the one after its last."""
        return shard * self._size, min((shard + 1) * self._size, self._n)

    def begin(self, part: Part) -> bool:
        """Whether a part is still to be computed."""
        return part.start // self._size in self._wanted

    def add(self, part: Part, results: Mapping[str, Array]) -> None:
        """Take the results of a part."""
        self.put(np.arange(part.start, part.stop), results)

    def put(self, rows: Rows, results: Mapping[str, Array]) -> None:
        """Take the results of candidates, in any order; one that comes again is put once.

        Parameters
        ----------
        rows : ndarray of int, shape (k,)
            Their positions in the pool.
        results : mapping of str to ndarray
            With k rows each.
        """
        shards = rows // self._size
        for shard in np.unique(shards).tolist():
            if shard not in self._wanted:
                continue
            here = shards == shard
            start, stop = self.bounds(shard)
            held = self._open.setdefault(shard, _OpenShard(stop - start))
            held.put(rows[here] - start, {name: some[here] for name, some in results.items()})
            self._note_reasons(held, rows[here], results["score"][here])
            if held.filled.all():
                self._write(shard, held)
                del self._open[shard]
                self._wanted.remove(shard)
                self.missing.remove(shard)

    def _note_reasons(self, held: _OpenShard, rows: Rows, scores: Array) -> None:
        """Keep why candidates have no score, as it is now: the next pass may read them."""
        for row, lost in zip(rows.tolist(), np.isnan(scores).tolist(), strict=True):
            place = row % self._size
            held.reasons.pop(place, None)
            if lost:
                held.reasons[place] = self.why_broken(str(self._ids[row])) or "cannot be read"

    def _write(self, shard: int, held: _OpenShard) -> None:
        pa = import_pyarrow("writing a table of scores")
        start, stop = self.bounds(shard)
        ids, arrays = self._ids[start:stop], held.arrays
        reasons = [held.reasons.get(place) for place in range(stop - start)]
        columns: dict[str, Any] = {
            "row": pa.array(np.arange(start, stop), pa.int64()),
            "id": pa.array(ids.tolist(), pa.string()),
        }
        if self._groups is not None:
            columns["group"] = pa.array(self._groups[start:stop].tolist(), pa.string())
        columns["score"] = pa.array(arrays["score"], pa.float64(), from_pandas=True)
        for name in ("proba", "embedding"):
            if name in arrays:
                columns[name] = _lists(pa, arrays[name])
        columns["broken"] = pa.array(reasons, pa.string())
        facts = {
            "aift_sklearn": self.manifest["table"],
            "classes": json.dumps(self.manifest["classes"]),
        }
        table = pa.table(columns).replace_schema_metadata(facts)
        buffer = io.BytesIO()
        pa.parquet.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        write_atomically(shard_path(self.folder, shard), buffer.getvalue())

    def _is_finished(self, shard: int, retry_broken: bool) -> bool:
        # What is damaged is scored anew. Embeddings take too long to be looked at.
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = read_shard(
                self.folder, shard, self.manifest, ["id", "score", "proba", "broken"]
            )
            return not retry_broken or found["broken"].null_count == found.num_rows
        return False

    def finish(self) -> ScoreTable:
        """Say in the manifest that all is there.

        Raises
        ------
        DataError
            If it is not, which names how many candidates are missing.
        """
        if self.missing:
            raise DataError(
                f"{self.n_missing} of {self._n} candidates were not scored; score the pool again "
                f"into {self.folder}, which keeps what is finished."
            )
        if not self.manifest["complete"]:
            self.manifest |= {"complete": True, "finished": _now()}
            _write_manifest(self.folder, self.manifest)
        return ScoreTable(self.folder)


class _OpenShard:
    """Results of a shard that is not whole yet."""

    def __init__(self, n: int) -> None:
        self.filled = np.zeros(n, dtype=bool)
        self.arrays: dict[str, Array] = {}
        self.reasons: dict[int, str] = {}

    def put(self, rows: Rows, results: Mapping[str, Array]) -> None:
        for name, values in results.items():
            if name not in self.arrays:
                shape = (len(self.filled), *values.shape[1:])
                self.arrays[name] = np.empty(shape, dtype=values.dtype)
            self.arrays[name][rows] = values
        self.filled[rows] = True


@contextlib.contextmanager
def open_table(
    folder: Path,
    identity: Mapping[str, Any],
    *,
    shard_size: int,
    ids: Array,
    groups: Array | None,
    why_broken: Callable[[str], str | None],
    sample: Mapping[str, str] | None = None,
    retry_broken: bool = False,
) -> Iterator[TableWriter]:
    """Begin a table, or go on with one; nobody else writes to it meanwhile.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    identity : mapping
        What the scores depend on, as JSON holds it, ``n`` and ``classes`` among it. A folder that
        holds scores of something else is refused.
    shard_size : int
        Candidates of a shard; a table that was begun keeps its own.
    ids, groups, why_broken, retry_broken
        As of `TableWriter`.
    sample : mapping of str to str, optional
        Hashes of some candidates by position, as far as they could be read: those that are known
        of both are to be equal.

    Yields
    ------
    TableWriter
        Takes the results.

    Raises
    ------
    DataError
        If the folder is a file, holds scores of something else, or is being written to.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; expected a folder, or a path for one.")
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder, patience=1.0) as held:
        if not held and _can_lock(folder):
            raise DataError(
                f"another process is writing scores to {folder}; wait for it, or name another "
                "folder."
            )
        manifest = _take_manifest(folder, identity, dict(sample or {}), shard_size)
        # Of runs that were killed, or that did not get the lock.
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
        writer = TableWriter(folder, manifest, ids, groups, why_broken, retry_broken=retry_broken)
        if writer.missing and manifest["complete"]:
            manifest["complete"] = False
            _write_manifest(folder, manifest)
        yield writer


def _take_manifest(
    folder: Path, identity: Mapping[str, Any], sample: dict[str, str], shard_size: int
) -> dict[str, Any]:
    """Manifest of a table that was begun with the same, or a new one."""
    # As it is read again.
    identity = json.loads(json.dumps(identity, default=str))
    if (folder / MANIFEST).exists():
        known = read_manifest(folder)
        odd = [name for name in identity if known.get(name) != identity[name]]
        seen = known["sample"]
        if any(seen[row] != digest for row, digest in sample.items() if row in seen):
            odd.append("images of the pool")
        if odd:
            raise DataError(
                f"{folder} holds scores of something else: {', '.join(odd)} differs. Name another "
                "folder, or remove this one if its scores are not needed."
            )
        return known
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "table": uuid.uuid4().hex,
        **identity,
        "sample": sample,
        "shard_size": shard_size,
        "begun": _now(),
        "versions": package_versions(_PACKAGES),
        "complete": False,
    }
    _write_manifest(folder, manifest)
    return manifest


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _lists(pa: Any, values: Array) -> Any:
    """Rows of numbers as lists; a row of NaN is null."""
    # Not of a fixed size: releases of Arrow do not write nulls among those.
    lost = np.isnan(values).all(axis=1)
    ends = np.cumsum(np.where(lost, 0, values.shape[1]))
    flat = np.ascontiguousarray(values[~lost], dtype=np.float32).reshape(-1)
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(flat, pa.float32()), mask=pa.array(lost))


def _can_lock(folder: Path) -> bool:
    """Whether the system has locks here at all, by a folder that nobody else knows."""
    with tempfile.TemporaryDirectory(dir=folder) as own, lock_folder(Path(own)) as held:
        return held


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
