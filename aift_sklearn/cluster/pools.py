"""Pools through Ray, into tables of scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch_scoring import ScoreTable, ShippedModel, pack_model
from ..batch_scoring.local import as_pool, begin_table, candidate_bytes
from ..batch_scoring.writing import TableWriter
from ..pools.base import Pool
from ..progress import ProgressBar
from .datasets import batches, score_with
from .places import READING, Places, connected, find_places, import_ray
from .workers import BROKEN, IMAGE, ROW, ReadRows

__all__ = ["score_pool"]

Array = NDArray[Any]

# Bytes of candidates that a task reads: what waits in the object store, and is lost with a node.
_BLOCK_BYTES = 2**24


def score_pool(
    pool: Any,
    model: Any,
    folder: str | os.PathLike[str],
    *,
    address: str | None = None,
    embeddings: bool = False,
    shard_size: int | None = None,
    actors: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    retry_broken: bool = False,
    precision: str = "auto",
    verbose: int = 0,
    **consistency: Any,
) -> ScoreTable:
    """Score every candidate of a pool into a folder of Parquet files, by way of Ray.

    The files, and the scores in them, are those of `aift_sklearn.score_pool`, and either goes on
    with what the other began. They are written by this process; a run that is killed goes on where
    it was when it is called again.

    Parameters
    ----------
    pool : Pool or sliceable of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
        Candidates. Every node reads them where this process does, by the same path or URL; arrays
        in memory are sent.
    model, folder, embeddings, shard_size, retry_broken
        As of `aift_sklearn.score_pool`.
    address : str, optional
        Of a running cluster, such as "auto" or "ray://head:10001". By default that which this
        process is connected to, or else a Ray of its own on this machine, which ends with the
        call.
    actors, num_cpus, num_gpus, precision
        As of `score_dataset`.
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
    ParameterError
        If actors would take all cores.
    MissingDependencyError
        If Ray or pyarrow is not installed.

    Notes
    -----
    Ray reports how it is used to its makers unless it is told not to; where this function starts
    it, it is told not to. Ray keeps logs under /tmp/ray, in which ids of candidates may stand.
    """
    pool = as_pool(pool)
    shipped = pack_model(model, pool.shape[1:], **consistency)
    with connected(address):
        places = find_places(actors, num_cpus, num_gpus)
        precision = shipped.precision(precision, half=bool(places.num_gpus))
        with begin_table(
            pool,
            shipped,
            folder,
            embeddings=embeddings,
            shard_size=shard_size,
            precision=precision,
            retry_broken=retry_broken,
        ) as writer:
            if writer.missing:
                _score_missing(pool, shipped, writer, places, precision, embeddings, verbose)
            return writer.finish()


def _score_missing(
    pool: Any,
    model: ShippedModel,
    writer: TableWriter,
    places: Places,
    precision: str,
    embeddings: bool,
    verbose: int,
) -> None:
    scored = score_with(
        _read_pool(pool, [writer.bounds(shard) for shard in writer.missing]),
        model,
        places,
        precision,
        image=IMAGE,
        keep=(ROW, BROKEN),
        embeddings=embeddings,
    )
    text = f"scoring on Ray, {places.actors} actors"
    with ProgressBar(text, writer.n_missing, enabled=bool(verbose)) as bar:
        for batch in batches(scored):
            rows = batch.pop(ROW)
            _note_broken(pool, rows, batch.pop(BROKEN))
            writer.put(rows, batch)
            bar.advance(len(rows))


def _read_pool(pool: Any, shards: Sequence[tuple[int, int]]) -> Any:
    """Dataset of candidates, read by tasks of few."""
    ray = import_ray()
    step = max(1, _BLOCK_BYTES // max(1, candidate_bytes(pool)))
    bounds = [
        (at, min(at + step, stop)) for start, stop in shards for at in range(start, stop, step)
    ]
    # No numbers are read by tasks of a whole core each, as those of ray.data.range are.
    tasks = ray.data.from_numpy([np.array([some]) for some in bounds])
    tasks.context.enable_progress_bars = False
    return tasks.map_batches(ReadRows(ray.put(pool)), batch_size=1, num_cpus=READING)


def _note_broken(pool: Any, rows: Array, reasons: Array) -> None:
    """Keep what workers could not read, and forget what they could."""
    if not isinstance(pool, Pool):
        return
    if pool.broken:
        for row in rows[reasons == ""].tolist():
            pool.broken.pop(str(pool.ids[row]), None)
    for k in np.flatnonzero(reasons != "").tolist():
        pool.broken[str(pool.ids[rows[k]])] = str(reasons[k])
