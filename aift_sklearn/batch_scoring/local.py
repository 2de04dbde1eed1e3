"""Score a pool into a table on one machine."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._candidates import check_not_empty
from .._checks import as_array, check_int
from .._writing import as_path
from ..errors import ParameterError
from ..pools.arrays import row_numbers
from ..pools.base import Pool
from .shipped import ShippedModel, pack_model
from .table import ScoreTable
from .writing import TableWriter, open_table

__all__ = ["as_pool", "begin_table", "candidate_bytes", "score_pool"]

Array = NDArray[Any]

# Candidates of a shard unless it is given, and fewer where they are large: what is lost with a
# process that is killed.
_SHARD, _SHARD_BYTES = 2**14, 2**28
# Candidates by which a pool is known again that does not lie in memory, and bytes of one that does
# which are all looked at.
_KNOWN_BY, _IN_MEMORY = 32, 2**32
# Names or candidates that are hashed at once.
_AT_ONCE = 4096


def score_pool(
    pool: Any,
    model: Any,
    folder: str | os.PathLike[str],
    *,
    embeddings: bool = False,
    shard_size: int | None = None,
    retry_broken: bool = False,
    providers: str | list[str] = "auto",
    precision: str = "auto",
    verbose: int = 0,
    **consistency: Any,
) -> ScoreTable:
    """Score every candidate of a pool into a folder of Parquet files.

    A run that is interrupted, or killed, goes on where it was when it is called again. At no time
    more of the pool is in memory than is computed on, nor more of the results than the shards that
    are not whole yet. `aift_sklearn.cluster.score_pool` writes the same files by way of Ray.

    Parameters
    ----------
    pool : Pool or sliceable of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
        Candidates. Those of a `Pool` that cannot be read have no score, and the reason in their
        row.
    model : AIFTClassifier, AIFTLearner, path-like or ShippedModel
        Fitted; a path is that of an .onnx file of ``aift export`` or `OnnxScorer.save`.
    folder : path-like
        Made where it does not exist. One that holds scores of another pool or model is refused: a
        pool is known again by its ids, groups and shape, and by 32 of its candidates, or all of an
        array in memory.
    embeddings : bool, default=False
        Whether whole candidates are embedded too.
    shard_size : int, optional
        Candidates of a file, of which those that are not whole are lost with a process that is
        killed; by default 16,384, or fewer where candidates are large.
    retry_broken : bool, default=False
        Whether files of the pool are scored anew in which there were candidates that could not be
        read, as when the images were mended. Others are left as they are.
    providers : "auto", str or list of str, default="auto"
        As of `OnnxScorer`.
    precision : {"auto", "float32", "float16"}, default="auto"
        As of `OnnxScorer`. A table that was begun in one is not continued in another.
    verbose : int, default=0
        1 shows a progress bar with the time that is left.
    **consistency
        Parameters of `patch_consistency`.

    Returns
    -------
    ScoreTable
        What was written.

    Raises
    ------
    DataError
        If the pool does not fit the model, or the folder holds scores of something else.
    MissingDependencyError
        If pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, JitterPatches
    >>> X = np.random.default_rng(0).normal(size=(60, 5))
    >>> model = AIFTClassifier(LogisticRegression(), patches=JitterPatches(4), random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     score_pool(X, model.fit(X, X[:, 0] > 0), folder).read().column_names
    ['row', 'id', 'score', 'proba', 'broken']
    """
    pool = as_pool(pool)
    shipped = pack_model(model, pool.shape[1:], **consistency)
    whole = shipped.unpack(providers=providers, precision=precision, verbose=verbose)
    prepare = getattr(whole.engine, "prepare", None)
    half = prepare is not None and prepare((1, *shipped.shape)).is_half
    with begin_table(
        pool,
        shipped,
        folder,
        embeddings=embeddings,
        shard_size=shard_size,
        precision=shipped.precision(precision, half=half),
        retry_broken=retry_broken,
    ) as writer:
        if writer.missing:
            whole.score_into(pool, writer, embed=embeddings, **shipped.consistency)
        return writer.finish()


def as_pool(pool: Any) -> Any:
    """Return what slices and has a shape, as an array where it is none, or one of torch."""
    slices = hasattr(pool, "shape") and hasattr(pool, "__getitem__") and not hasattr(pool, "detach")
    pool = pool if slices else as_array(pool)
    check_not_empty(tuple(pool.shape))
    return pool


def begin_table(
    pool: Any,
    model: ShippedModel,
    folder: str | os.PathLike[str],
    *,
    embeddings: bool,
    shard_size: int | None,
    precision: str,
    retry_broken: bool,
) -> contextlib.AbstractContextManager[TableWriter]:
    """Begin the table of a pool, or go on with it; see `score_pool` and `open_table`."""
    if embeddings:
        model.check_embeds()
    if "://" in os.fspath(folder):
        raise ParameterError(
            f"folder={os.fspath(folder)!r} is a URL; expected a folder of this machine, or one "
            "that is mounted."
        )
    if shard_size is not None:
        check_int("shard_size", shard_size, minimum=1)
    n, size = pool.shape[0], candidate_bytes(pool)
    ids = np.asarray(pool.ids if hasattr(pool, "ids") else row_numbers(n), dtype=str)
    groups = getattr(pool, "groups", None)
    broken = pool.broken if isinstance(pool, Pool) else {}
    identity = {
        "n": n,
        "candidate": [*pool.shape[1:], str(_dtype_of(pool))],
        "ids": _hash_names(ids),
        "groups": None if groups is None else _hash_names(groups),
        "model": model.digest,
        "precision": precision,
        "classes": model.classes.tolist(),
        "consistency": model.consistency,
        "embeddings": embeddings,
    }
    return open_table(
        as_path(folder),
        identity,
        sample=_hash_some(pool, ids),
        shard_size=shard_size or max(1, min(_SHARD, _SHARD_BYTES // max(1, size))),
        ids=ids,
        groups=groups,
        why_broken=broken.get,
        retry_broken=retry_broken,
    )


def candidate_bytes(pool: Any) -> int:
    """Bytes of one candidate."""
    return int(math.prod(pool.shape[1:]) * _dtype_of(pool).itemsize)


def _dtype_of(pool: Any) -> np.dtype[Any]:
    return np.dtype(pool.dtype if hasattr(pool, "dtype") else as_array(pool[:1]).dtype)


def _hash_names(names: Array) -> str:
    """Hash of names, however wide the array that holds them is."""
    digest = hashlib.sha256()
    for start in range(0, len(names), _AT_ONCE):
        digest.update("\0".join(names[start : start + _AT_ONCE].tolist()).encode())
    return digest.hexdigest()


def _hash_some(pool: Any, ids: Array) -> dict[str, str]:
    """Hashes of some candidates, or of all that lie in memory, by their positions.

    Those that cannot be read now are left out.
    """
    found = {}
    whole = isinstance(pool, np.ndarray) and not isinstance(pool, np.memmap)
    if whole and pool.nbytes <= _IN_MEMORY:
        digest = hashlib.sha256()
        for start in range(0, len(pool), _AT_ONCE):
            digest.update(np.ascontiguousarray(pool[start : start + _AT_ONCE]).tobytes())
        found["all"] = digest.hexdigest()
    for row in np.unique(np.linspace(0, len(ids) - 1, _KNOWN_BY).astype(int)).tolist():
        one = np.ascontiguousarray(as_array(pool[row : row + 1]))
        if not (isinstance(pool, Pool) and str(ids[row]) in pool.broken):
            found[str(row)] = hashlib.sha256(one.tobytes()).hexdigest()
    return found
