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
from ..errors import DataTypeError, ParameterError
from ..pools.arrays import row_numbers
from ..pools.base import Pool
from .shipped import ShippedModel, pack_model
from .table import ScoreTable
from .writing import TableWriter, open_table

__all__ = ["as_pool", "begin_table", "score_pool"]

Array = NDArray[Any]

# Candidates of a shard unless it is given, and fewer where they are large: what is lost with a
# process that is killed.
_SHARD, _SHARD_BYTES = 2**14, 2**28
# Candidates by which a pool is known again, beside all ids.
_KNOWN_BY = 3


def score_pool(
    pool: Any,
    model: Any,
    folder: str | os.PathLike[str],
    *,
    embeddings: bool = False,
    shard_size: int | None = None,
    providers: str | list[str] = "auto",
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
        Made where it does not exist. One that holds scores of another pool or model is refused.
    embeddings : bool, default=False
        Whether whole candidates are embedded too.
    shard_size : int, optional
        Candidates of a file, of which those that are not whole are lost with a process that is
        killed; by default 16,384, or fewer where candidates are large.
    providers : "auto", str or list of str, default="auto"
        As of `OnnxScorer`.
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
    with begin_table(pool, shipped, folder, embeddings=embeddings, shard_size=shard_size) as writer:
        if writer.missing:
            whole = shipped.unpack(providers=providers, verbose=verbose)
            whole.score_into(pool, writer, embed=embeddings, **shipped.consistency)
        return writer.finish()


def as_pool(pool: Any) -> Any:
    """Return what slices and has a shape, as an array where it is none."""
    pool = pool if hasattr(pool, "shape") and hasattr(pool, "dtype") else as_array(pool)
    check_not_empty(tuple(pool.shape))
    return pool


def begin_table(
    pool: Any,
    model: ShippedModel,
    folder: str | os.PathLike[str],
    *,
    embeddings: bool,
    shard_size: int | None,
) -> contextlib.AbstractContextManager[TableWriter]:
    """Begin the table of a pool, or go on with it; see `score_pool` and `open_table`."""
    if embeddings and not model.can_embed:
        raise DataTypeError(
            "the estimator embeds no candidates; use a CNNClassifier, or a pipeline that begins "
            "with CNNFeatures, or leave embeddings out."
        )
    if "://" in os.fspath(folder):
        raise ParameterError(
            f"folder={os.fspath(folder)!r} is a URL; expected a folder of this machine, or one "
            "that is mounted."
        )
    if shard_size is not None:
        check_int("shard_size", shard_size, minimum=1)
    n, size = pool.shape[0], math.prod(pool.shape[1:]) * np.dtype(pool.dtype).itemsize
    ids = np.asarray(pool.ids if hasattr(pool, "ids") else row_numbers(n), dtype=str)
    broken = pool.broken if isinstance(pool, Pool) else {}
    identity = {
        "n": n,
        "candidate": [*pool.shape[1:], str(pool.dtype)],
        "pool": _known_by(pool, ids),
        "model": model.digest,
        "classes": model.classes.tolist(),
        "consistency": model.consistency,
        "embeddings": embeddings,
    }
    return open_table(
        as_path(folder),
        identity,
        shard_size=shard_size or max(1, min(_SHARD, _SHARD_BYTES // max(1, size))),
        ids=ids,
        groups=getattr(pool, "groups", None),
        why_broken=broken.get,
    )


def _known_by(pool: Any, ids: Array) -> str:
    """Hash of all ids, and of three candidates."""
    digest = hashlib.sha256(ids.tobytes())
    for row in np.unique(np.linspace(0, len(ids) - 1, _KNOWN_BY).astype(int)).tolist():
        digest.update(np.ascontiguousarray(as_array(pool[row : row + 1])).tobytes())
    return digest.hexdigest()
