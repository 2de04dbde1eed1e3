"""Tables of scores in a folder: Parquet shards, and a manifest that tells what they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._optional import load_optional
from .._writing import as_path
from ..errors import DataError
from ..selection import check_n_instances, top

__all__ = ["MANIFEST", "ScoreTable", "import_pyarrow", "read_manifest", "read_shard", "shard_path"]

Array = NDArray[Any]

MANIFEST = "_manifest.json"
"""What tells of a folder that it holds scores. Readers of Parquet pass over such a name."""

FORMAT, VERSION = "aift-sklearn score table", 1
"""What the manifest calls itself."""


class ScoreTable:
    """Scores of a pool in a folder, as `score_pool` and ``aift score`` write them.

    Any reader of Parquet takes the folder: ``pandas.read_parquet(folder)`` gives one table of all.

    Parameters
    ----------
    folder : path-like
        Where they are.

    Attributes
    ----------
    folder : Path
        The same.
    manifest : dict
        What the scores are of: ``n``, ``classes``, ``consistency``, ``columns``, ``complete``, ...
    classes : list
        Columns of ``proba``.
    is_complete : bool
        Whether every candidate was scored; where not, score the pool again into this folder.

    Raises
    ------
    DataError
        If the folder holds no scores, or those of a newer release.

    Notes
    -----
    The columns: ``row`` (int64, position in the pool), ``id`` and, where the pool has groups,
    ``group`` (strings), ``score`` (float64, higher: label it sooner; null where the candidate
    cannot be read), ``proba`` (list of K float32, the mean over the patches), ``broken`` (string,
    why it cannot be read) and, where asked for, ``embedding`` (list of E float32). Rows of a shard
    are in the order of the pool.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, JitterPatches, score_pool
    >>> X = np.random.default_rng(0).normal(size=(60, 5))
    >>> model = AIFTClassifier(LogisticRegression(), patches=JitterPatches(4), random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = score_pool(X, model.fit(X, X[:, 0] > 0), folder)
    ...     ids, scores = table.top(3)
    ...     ids.shape, table.read(["id", "score"]).num_rows
    ((3,), 60)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = as_path(folder)
        self.manifest = read_manifest(self.folder)

    @property
    def classes(self) -> list[Any]:
        """Columns of ``proba``."""
        return list(self.manifest["classes"])

    @property
    def is_complete(self) -> bool:
        """Whether every candidate was scored."""
        return bool(self.manifest["complete"])

    def __len__(self) -> int:
        """Candidates, n."""
        return int(self.manifest["n"])

    def __repr__(self) -> str:
        """Say what it is, in a line."""
        state = "" if self.is_complete else ", not complete"
        return f"ScoreTable of {len(self)} candidates in {self.folder}{state}"

    def read(self, columns: list[str] | None = None) -> Any:
        """Read what was scored.

        Parameters
        ----------
        columns : list of str, optional
            Those that are wanted; by default all.

        Returns
        -------
        pyarrow.Table
            In the order of the pool; ``.to_pandas()`` makes a frame of it.

        Raises
        ------
        DataError
            If a shard is damaged or missing; score the pool again into this folder.
        """
        pa = import_pyarrow("reading a table of scores")
        return pa.concat_tables([self._shard(k, columns) for k in range(self.n_shards)])

    @property
    def n_shards(self) -> int:
        """Shards of the whole table."""
        return -(-len(self) // int(self.manifest["shard_size"]))

    def _shard(self, shard: int, columns: list[str] | None) -> Any:
        try:
            return read_shard(self.folder, shard, self.manifest, columns)
        except (OSError, ValueError) as error:
            missing = not shard_path(self.folder, shard).exists()
            raise DataError(
                f"{shard_path(self.folder, shard)} is {'missing' if missing else 'damaged'}: score "
                "the same pool again into this folder, which keeps what is finished."
            ) from error

    def broken(self) -> dict[str, str]:
        """Candidates that cannot be read: id → reason, reading a shard at a time."""
        found: dict[str, str] = {}
        for shard in range(self.n_shards):
            table = self._shard(shard, ["id", "broken"])
            if table["broken"].null_count < table.num_rows:
                both = zip(*(table[name].to_pylist() for name in ("id", "broken")), strict=True)
                found |= {name: reason for name, reason in both if reason is not None}
        return found

    def top(self, b: int) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Find the candidates with the highest scores, reading a shard at a time.

        Parameters
        ----------
        b : int
            How many.

        Returns
        -------
        ids : ndarray of str, shape (b,)
            Highest score first, ties by position in the pool.
        scores : ndarray of shape (b,), float64
            Their scores.

        Raises
        ------
        DataError
            If fewer than b can be read.
        """
        check_n_instances(b, len(self))
        ids, scores = np.empty(0, dtype=str), np.empty(0)
        for shard in range(self.n_shards):
            found = self._shard(shard, ["id", "score"])
            of_shard = found["score"].to_numpy(zero_copy_only=False).astype(np.float64)
            sound = ~np.isnan(of_shard)
            ids = np.concatenate([ids, np.array(found["id"].to_pylist(), dtype=str)[sound]])
            scores = np.concatenate([scores, of_shard[sound]])
            # What came before wins ties, since shards are in the order of the pool.
            best = top(scores, min(b, len(scores)))
            ids, scores = ids[best], scores[best]
        if len(ids) < b:
            raise DataError(f"{len(ids)} of {len(self)} candidates have scores; ask for fewer.")
        return ids, scores


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what the scores in a folder are of.

    Raises
    ------
    DataError
        If there are none, or those of a newer release.
    """
    path = folder / MANIFEST
    try:
        known = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no table of scores: there is no {MANIFEST}.") from error
    except ValueError as error:
        raise DataError(
            f"{path} is damaged: {error}. Remove its folder, and score the pool anew."
        ) from error
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        raise DataError(f"{path} was not written by this package; name another folder.")
    if type(known.get("version")) is not int or not 1 <= known["version"] <= VERSION:
        raise DataError(
            f"{path} has format {known.get('version')!r}, and this package reads 1 to {VERSION}. "
            "Update this package to the release that wrote it."
        )
    lacking = sorted({"n", "table", "shard_size", "classes", "sample", "complete"} - known.keys())
    if lacking:
        raise DataError(f"{path} is damaged: it lacks {', '.join(lacking)}. Remove its folder.")
    return known


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{shard:06d}.parquet"


def read_shard(
    folder: Path, shard: int, manifest: dict[str, Any], columns: list[str] | None = None
) -> Any:
    """Read a shard, and refuse one that is damaged or of other scores.

    Raises
    ------
    OSError, ValueError
        If it is.
    """
    pq = import_pyarrow("reading a table of scores").parquet
    size, n = int(manifest["shard_size"]), int(manifest["n"])
    with pq.ParquetFile(shard_path(folder, shard), page_checksum_verification=True) as file:
        facts = file.schema_arrow.metadata or {}
        if facts.get(b"aift_sklearn") != manifest["table"].encode():
            raise ValueError("of other scores")
        found = file.read(columns)
    if found.num_rows != min(size, n - shard * size):
        raise ValueError("of another length")
    return found


def import_pyarrow(purpose: str) -> Any:
    """Import pyarrow with its Parquet, or say how to install it."""
    load_optional("pyarrow.parquet", purpose=purpose)
    return load_optional("pyarrow", purpose=purpose)
