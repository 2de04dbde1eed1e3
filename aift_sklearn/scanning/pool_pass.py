"""One way from a pool to probabilities, embeddings and the best b, whatever the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import as_array, check_images
from .._threads import blas_threads
from ..errors import DataError, NonFiniteOutputError
from ..pools.base import Pool
from ..progress import ProgressBar
from ..scores import patch_consistency
from ..selection import check_n_instances, top
from .engine import Engine, Evaluation
from .parts import Part, as_parts, scan
from .race_store import RaceFolder
from .racing import Race, race
from .shards import Gathered, Shards, Sink

__all__ = ["PoolPass"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

# Bytes of candidates that are read at once.
_PART_BYTES = 2**23


class PoolPass:
    """Passes over pools, through one engine.

    A pool is anything that has a shape and slices. It is read in parts, each of which is checked;
    a part holds so few candidates that their patches fit the memory.

    Parameters
    ----------
    engine : Engine
        What evaluates patches.
    verbose : int, default=0
        1 shows a progress bar.
    """

    def __init__(self, engine: Engine, *, verbose: int = 0) -> None:
        self.engine, self.verbose = engine, verbose

    def reduce(self, pool: Any, function: Callable[[Floats], Array]) -> Array:
        """Compute something of every candidate's patch probabilities, keeping only that.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.
        function : callable
            P of shape (k, m, K) → array with a row for each of the k candidates. Several threads
            may call it at once.

        Returns
        -------
        ndarray of shape (n, …)
            Its results.

        Raises
        ------
        DataError
            If the pool is not as it says, or the model gives something that is not finite; the
            message names the candidate.
        ExportError
            If the engine cannot evaluate the model.
        """
        self.engine.begin(pool)
        return self.scan(pool, lambda found: {"result": function(found.proba)})["result"]

    def predict(self, pool: Any, views: Sequence[int]) -> Floats:
        """Predict some patches of every candidate.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.
        views : sequence of int
            Positions of the patches, k of them.

        Returns
        -------
        ndarray of shape (n, k, K), float32
            Their probabilities.
        """
        self.engine.begin(pool)
        return self.scan(pool, lambda found: {"P": found.proba}, views=views)["P"]

    def embed(self, pool: Any) -> Floats:
        """Embed whole candidates, patch 0 of each.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.

        Returns
        -------
        ndarray of shape (n, E), float32
            Embeddings.
        """
        self.engine.begin(pool)
        found = self.scan(pool, lambda found: {"E": found.embeddings[:, 0]}, views=(), embed=(0,))
        return found["E"]

    def embed_patches(self, pool: Any, out: Floats | None = None) -> Floats:
        """Embed every patch.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.
        out : ndarray of shape (n, m, E), float32, optional
            Where they are put, such as a memory map.

        Returns
        -------
        ndarray of shape (n, m, E), float32
            Embeddings.
        """
        self.engine.begin(pool)
        views = range(self._count(pool))
        known = None if out is None else {"E": out}
        return self.scan(
            pool, lambda found: {"E": found.embeddings}, views=(), embed=views, out=known
        )["E"]

    def proba_and_embeddings(self, pool: Any) -> tuple[Floats, Floats]:
        """Predict every patch, and embed patch 0 of each candidate, in one pass.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.

        Returns
        -------
        proba : ndarray of shape (n, m, K), float32
            P.
        embeddings : ndarray of shape (n, E), float32
            Of the whole candidates.
        """
        self.engine.begin(pool)

        def both(found: Evaluation) -> dict[str, Array]:
            return {"P": found.proba, "E": found.embeddings[:, 0]}

        found = self.scan(pool, both, embed=(0,))
        return found["P"], found["E"]

    def score(
        self, pool: Any, shards: Shards | None = None, **consistency: Any
    ) -> dict[str, Array]:
        """Score every candidate: ``score`` (n,), float64, and ``proba`` (n, K), float32.

        Those of a `Pool` that cannot be read have NaN.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.
        shards : Shards, optional
            Keeps what is finished.
        **consistency
            Parameters of `patch_consistency`.
        """
        results = Gathered(np.shape(pool)[0], shards)
        self.score_into(pool, results, **consistency)
        return results.arrays

    def score_into(self, pool: Any, sink: Sink, *, embed: bool = False, **consistency: Any) -> None:
        """Score every candidate, and hand the results over part by part.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.
        sink : Sink
            Is given ``score`` and ``proba`` as of `score` and, where asked for, ``embedding``
            (n, E) of the whole candidates.
        embed : bool, default=False
            Whether they are embedded too.
        **consistency
            Parameters of `patch_consistency`.
        """
        self.engine.begin(pool)

        def work(found: Evaluation) -> dict[str, Array]:
            proba = found.proba.mean(axis=1, dtype=np.float64).astype(np.float32)
            results = {"score": patch_consistency(found.proba, **consistency), "proba": proba}
            return results | ({"embedding": found.embeddings[:, 0]} if embed else {})

        self.scan(pool, work, embed=(0,) if embed else (), into=sink, mark_broken=True)

    def top(
        self,
        pool: Any,
        b: int,
        *,
        racing: bool = True,
        shards: Shards | None = None,
        **consistency: Any,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Find the b candidates with the highest scores.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.
        b : int
            How many.
        racing : bool, default=True
            Give most patches only to those candidates that can still reach the top b, where the
            engine saves time by it.
        shards : Shards, optional
            Keeps what is finished, raced or not.
        **consistency
            Parameters of `patch_consistency`.

        Returns
        -------
        indices : ndarray of shape (b,)
            Highest score first, ties by index.
        scores : ndarray of shape (b,), float64
            Over all m patches, raced or not.
        """
        shape = tuple(np.shape(pool))
        check_n_instances(b, shape[0])
        # A race reads candidates again and again, which a pool of files takes long for.
        racing = racing and not isinstance(pool, Pool)
        if racing and self.engine.races(shape) and self.engine.n_patches(shape) is not None:
            outcome = self.race(pool, b, shards=shards, **consistency)
            return outcome.indices, outcome.scores
        scores = self.score(pool, shards, **consistency)["score"]
        broken = np.isnan(scores)
        if b > len(scores) - broken.sum():
            raise DataError(
                f"{broken.sum()} of {len(scores)} candidates cannot be read, so that there are not "
                f"{b} to choose; ask for fewer."
            )
        rows = np.flatnonzero(~broken)
        indices = rows[top(scores[rows], b)]
        return indices, scores[indices]

    def race(self, pool: Any, b: int, *, shards: Shards | None = None, **consistency: Any) -> Race:
        """Race for the b highest scores; see `top`."""
        self.engine.begin(pool)
        n = np.shape(pool)[0]

        def evaluate(rows: NDArray[np.intp], views: list[int]) -> Floats:
            wanted = None if len(rows) == n else rows
            return self.scan(pool, lambda found: {"P": found.proba}, views=views, rows=wanted)["P"]

        store = None if shards is None else RaceFolder(shards)
        return race(evaluate, n, self._count(pool), b, store=store, **consistency)

    def scan(
        self,
        pool: Any,
        function: Callable[[Evaluation], dict[str, Array]],
        *,
        views: Sequence[int] | None = None,
        embed: Sequence[int] = (),
        rows: NDArray[np.intp] | None = None,
        out: dict[str, Array] | None = None,
        into: Sink | None = None,
        mark_broken: bool = False,
    ) -> dict[str, Array]:
        """Compute part by part: arrays with a row for each candidate that is wanted.

        Parameters
        ----------
        pool : sliceable of shape (n, ...)
            Candidates.
        function : callable
            Evaluation of k candidates → arrays with k rows.
        views, embed : sequence of int
            As of `Engine.evaluate`.
        rows : ndarray of int, optional
            Positions of the candidates that are wanted, rising; by default all.
        out : dict of str to ndarray, optional
            Arrays that results are put into.
        into : Sink, optional
            Takes the results; then none are returned.
        mark_broken : bool, default=False
            Whether results of candidates that could not be read are NaN.
        """
        pool = pool if hasattr(pool, "shape") else as_array(pool)
        shape = tuple(pool.shape)

        def work(part: Part, candidates: Array) -> dict[str, Array]:
            if len(shape) > 2:
                candidates = check_images(candidates, ndim=len(shape))
            sound = _sound_of(pool, part) if mark_broken else None
            if sound is None:
                return function(self._evaluate(part, candidates, views, embed))
            if not len(sound):
                # Of noise, since only the shape of what is found is asked for.
                found = function(self.engine.evaluate(_noise_like(candidates[:1]), views, embed))
                return {name: _spread(values[:0], sound, part.n) for name, values in found.items()}
            found = function(self._evaluate(part, candidates[sound], views, embed, sound))
            return {name: _spread(values, sound, part.n) for name, values in found.items()}

        n = shape[0] if rows is None else len(rows)
        size = self._part_size(pool, n, views, embed)
        gathered = Gathered(n, out=out)
        sink = gathered if into is None else into
        parts = as_parts(shape[0], size, rows, multiple=sink.multiple)
        missing = [part for part in parts if sink.begin(part)]
        text = f"{'scoring' if views is None or len(views) else 'embedding'} on {self.engine.where}"
        total = sum(part.n for part in missing)
        with blas_threads(), ProgressBar(text, total, enabled=bool(self.verbose)) as bar:
            n_workers = self.engine.n_workers
            scan(pool, missing, work, n_workers=n_workers, done=sink.add, bar=bar)
        return gathered.arrays

    def _evaluate(
        self,
        part: Part,
        candidates: Array,
        views: Sequence[int] | None,
        embed: Sequence[int],
        places: NDArray[np.intp] | None = None,
    ) -> Evaluation:
        """Evaluate candidates of a part, or some of its places; refuse what is not finite."""
        places = np.arange(part.n) if places is None else places
        try:
            found = self.engine.evaluate(candidates, views, embed)
        except NonFiniteOutputError as error:
            raise _non_finite(part, [int(places[error.index])]) from error
        for values in found:
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            if not finite.all():
                raise _non_finite(part, places[~finite][:5].tolist())
        return found

    def _count(self, pool: Any) -> int:
        m = self.engine.n_patches(tuple(np.shape(pool)))
        if m is None:
            raise DataError("the number of patches is not known before they are cut.")
        return m

    def _part_size(
        self, pool: Any, n: int, views: Sequence[int] | None, embed: Sequence[int]
    ) -> int:
        """Candidates of one part: few enough for the memory, and some for every worker."""
        shape = tuple(pool.shape)
        n_views = len(views) if views is not None else self.engine.n_patches(shape)
        # Patches of a number that nobody knows are taken for as many as there are by default.
        n_views = max(n_views or 16 if views is None else n_views or 0, len(embed), 1)
        size = self.engine.part_size(shape, n_views, n)
        try:
            item = np.dtype(getattr(pool, "dtype", np.float32)).itemsize
        except TypeError:
            # A type of another library, such as torch's.
            item = 4
        return max(1, min(size, _PART_BYTES // max(1, int(item * math.prod(shape[1:])))))


def _sound_of(pool: Any, part: Part) -> NDArray[np.intp] | None:
    """Places in a part of candidates that could be read, or None where all could be."""
    known = pool.broken if isinstance(pool, Pool) else {}
    if not known:
        return None
    broken = [k for k in range(part.n) if str(pool.ids[part.position(k)]) in known]
    return np.delete(np.arange(part.n), broken) if broken else None


def _noise_like(candidates: Array) -> Array:
    values = np.random.default_rng(0).random(candidates.shape)
    scale = 256 if candidates.dtype == np.uint8 else 1
    return np.asarray(values * scale, dtype=candidates.dtype)


def _spread(values: Array, places: NDArray[np.intp], n: int) -> Array:
    """Put rows where they belong among n, and NaN between them."""
    out = np.full((n, *values.shape[1:]), np.nan, dtype=values.dtype)
    out[places] = values
    return out


def _non_finite(part: Part, rows: list[int]) -> NonFiniteOutputError:
    places = ", ".join(str(part.position(row)) for row in rows)
    return NonFiniteOutputError(
        f"the model gives predictions or embeddings that are not finite (NaN or infinity) for "
        f"candidate{'s' if len(rows) > 1 else ''} {places} of the pool, and perhaps for others. "
        "Look at those images (all of one colour?), leave them out, or mend the model.",
        index=part.position(rows[0]),
    )
