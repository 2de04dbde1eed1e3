"""OnnxScorer: pools of any size to scores, and to the b candidates that are worth asking for."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .._candidates import check_not_empty
from .._checks import check_images, image_shape
from ..errors import DataError, ExportError, ParameterError
from ..progress import ProgressBar
from ..scores import patch_consistency
from ..selection import check_n_instances, top
from .model import EstimatorModel, ScoringModel
from .passes import PatchPass
from .racing import Race, race
from .stream import Gathered, Shards, Work, as_parts, scan

__all__ = ["OnnxScorer"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Pixels of the patches of one part of a pool, which a worker takes at once: so few that no worker
# waits long for the last. And bytes of candidates that are read at once.
_PART_PIXELS = 2**20
_PART_BYTES = 2**23
# Patches of one shard of a run that is kept in a folder.
_SHARD_PATCHES = 2**18


class OnnxScorer:
    """Score pools with ONNX Runtime: patches, network and scores at the hardware's speed.

    Parameters
    ----------
    estimator : AIFTClassifier
        Fitted, with a `CNNClassifier` or a pipeline that begins with `CNNFeatures`. When it has
        learnt more, the next pass takes its new weights.
    providers : "auto", str or sequence of str, default="auto"
        ONNX Runtime's execution providers; "auto" is CUDA where it loads, else the CPU.
    precision : {"auto", "float32", "float16"}, default="auto"
        Of the network; "auto" is half on a GPU and single on a CPU. Probabilities and scores are
        never computed in half precision.
    batch_size : "auto" or int, default="auto"
        Patches of one batch; halved where they do not fit the memory.
    n_threads : int, optional
        Cores; by default those that affinity and quota leave the process.
    verbose : int, default=0
        1 shows a progress bar with the time that is left.
    **consistency
        Parameters of `patch_consistency`: alpha, entropy_weight, diversity_weight, reduction, eps.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Columns of the probabilities.
    provider : str
        Where it runs; known after the first pass.
    consistency : dict
        Parameters of the score.

    Raises
    ------
    ExportError
        If the estimator is none that can be exported.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier
    >>> X = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    >>> cnn = CNNClassifier(torch.nn.Conv2d(3, 8, 5), pretrained=False, max_epochs=1)
    >>> clf = AIFTClassifier(cnn, patches=AffinePatches(4), random_state=0)
    >>> scorer = OnnxScorer(clf.fit(X[:8], ["a", "b"] * 4))
    >>> scores, proba = scorer.score(X)
    >>> scores.shape, proba.shape
    ((40,), (40, 2))
    >>> indices, _ = scorer.top(X, 5)
    >>> indices.shape
    (5,)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        providers: str | Sequence[str] = "auto",
        precision: str = "auto",
        batch_size: str | int = "auto",
        n_threads: int | None = None,
        verbose: int = 0,
        **consistency: Any,
    ) -> None:
        patch_consistency(np.full((1, 1, 2), 0.5), **consistency)
        self.model: Any = estimator
        if not isinstance(estimator, ScoringModel):
            self.model = EstimatorModel.of(estimator)
        self.verbose, self.consistency = verbose, consistency
        self._options: dict[str, Any] = {
            "providers": providers,
            "precision": precision,
            "batch_size": batch_size,
            "n_threads": n_threads,
        }
        self._pass: PatchPass | None = None

    @property
    def classes_(self) -> Array:
        """Classes, in the order of the probabilities' columns."""
        return np.asarray(self.model.classes)

    @property
    def provider(self) -> str:
        """Where it runs, as ONNX Runtime names it; known once a pool was scored."""
        return "not known before the first pass" if self._pass is None else self._pass.provider

    def score(
        self, pool: Any, folder: str | os.PathLike[str] | None = None
    ) -> tuple[Floats, NDArray[np.float32]]:
        """Score every candidate.

        Parameters
        ----------
        pool : sliceable of shape (n, C, H, W), or (n, m, C, h, w)
            Candidates, or patches that were cut already: an array, a memory map, Zarr, HDF5,
            anything with a shape that slices. It is read part by part, ahead of the computation.
        folder : path-like, optional
            Keeps what is finished, in shards: a run that is interrupted goes on from there. The
            pool is known again by its shape and three of its candidates.

        Returns
        -------
        scores : ndarray of shape (n,), float64
            Higher: label it sooner.
        proba : ndarray of shape (n, K), float32
            Mean over the patches.

        Raises
        ------
        DataError, DataTypeError
            If the pool does not fit the model, or the folder holds scores of something else.
        OutOfMemoryError
            If a single patch does not fit the memory.
        """
        shape = self._begin(pool)

        def work(P: NDArray[np.float32]) -> dict[str, Array]:
            proba = P.mean(axis=1, dtype=np.float64).astype(np.float32)
            return {"score": patch_consistency(P, **self.consistency), "proba": proba}

        shards = None
        if folder is not None:
            size = max(1, _SHARD_PATCHES // self._n_patches(shape))
            shards = Shards(folder, self._identity(pool, shape), n=shape[0], size=size)
        out = self._scan(pool, shape, self._of_patches(work), shards=shards)
        return out["score"], out["proba"]

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        shape: tuple[int, ...] | None = None,
        dtype: Any = np.uint8,
    ) -> Path:
        """Write one .onnx file: candidates in, scores out, and what `load` needs to know.

        Parameters
        ----------
        path : path-like
            Replaced where it exists.
        shape : tuple of int, optional
            C, H, W of the candidates that it will score; m, C, h, w of patches that were cut
            already. By default as of the candidates that the classifier was taught.
        dtype : dtype, default=uint8
            Of the candidates that other runtimes give it: uint8 in [0, 255] or float32 in [0, 1].
            `load` takes both.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ExportError
            If the head of a pipeline cannot be converted, or this scorer was itself loaded.
        """
        from .file import fused_model, write_model

        if not isinstance(self.model, EstimatorModel):
            raise ExportError("this scorer was loaded from a file; copy that one.")
        if np.dtype(dtype) not in (np.uint8, np.float32):
            raise ParameterError(f"dtype={dtype!r}; expected uint8 or float32.")
        taught = getattr(self.model.classifier, "memory_", None)
        if shape is None and taught is None and self._pass is None:
            raise ParameterError("the shape of the candidates is not known; pass shape=(C, H, W).")
        if shape is None and taught is not None:
            shape = taught.X.shape[1:]
        elif shape is None and self._pass is not None:
            shape = self._pass.image_shape
        assert shape is not None
        if len(shape) not in (3, 4) or shape[-3] != self.model.n_channels:
            raise ParameterError(
                f"shape={shape!r}; expected (C, H, W), with C = {self.model.n_channels}."
            )
        if self.model.is_stale():
            self.refresh()
        return write_model(fused_model(self.model, (1, *shape), self.consistency, dtype), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Serve a file of `save`; torch is not needed.

        Parameters
        ----------
        path : path-like
            The file.
        **options
            As of the constructor. Parameters of the score replace those in the file.

        Returns
        -------
        OnnxScorer
            Scores candidates of the shape that it was saved for.

        Raises
        ------
        ModelFileError
            If the file is missing, damaged, foreign, of a newer format, or holds custom operators
            or external data.
        """
        from .file import FileModel

        model = FileModel(path)
        return cls(model, **(model.consistency | options))

    def reduce(self, pool: Any, function: Callable[[NDArray[np.float32]], Array]) -> Array:
        """Compute something of every candidate's patch probabilities, keeping only that.

        Parameters
        ----------
        pool : sliceable of shape (n, C, H, W), or (n, m, C, h, w)
            As of `score`.
        function : callable
            P of shape (k, m, K) → array with a row for each of the k candidates. Called by several
            threads at once.

        Returns
        -------
        ndarray of shape (n, …)
            Its results.
        """
        shape = self._begin(pool)
        work = self._of_patches(lambda P: {"result": function(P)})
        return self._scan(pool, shape, work)["result"]

    def patch_proba(self, pool: Any) -> NDArray[np.float32]:
        """Probabilities of every patch: P.

        Parameters
        ----------
        pool : sliceable of shape (n, C, H, W), or (n, m, C, h, w)
            As of `score`.

        Returns
        -------
        ndarray of shape (n, m, K), float32
            Patch probabilities.
        """
        return self.reduce(pool, lambda P: P)

    def embed(self, pool: Any) -> NDArray[np.float32]:
        """Embeddings of whole candidates (patch 0).

        Parameters
        ----------
        pool : sliceable of shape (n, C, H, W), or (n, m, C, h, w)
            As of `score`.

        Returns
        -------
        ndarray of shape (n, E), float32
            What the head is given.
        """
        shape = self._begin(pool)

        def work(candidates: Array) -> dict[str, Array]:
            images = check_images(candidates, ndim=len(shape))
            return {"embeddings": self._passes(shape)(images, "embeddings", [0])[:, 0]}

        return self._scan(pool, shape, work, n_views=1)["embeddings"]

    def top(self, pool: Any, b: int, *, racing: bool = True) -> tuple[NDArray[np.intp], Floats]:
        """Find the b candidates with the highest scores.

        Parameters
        ----------
        pool : sliceable of shape (n, C, H, W), or (n, m, C, h, w)
            As of `score`.
        b : int
            How many.
        racing : bool, default=True
            Give most patches only to those candidates that can still reach the top b. See Notes.

        Returns
        -------
        indices : ndarray of shape (b,)
            Highest score first, ties by index.
        scores : ndarray of shape (b,), float64
            Over all m patches, raced or not.

        Notes
        -----
        A race may lose a candidate whose first patches look certain and whose later ones do not.
        ``docs/performance.md`` tells how many were lost on three pools. It saves most where
        ``alpha`` is small and few candidates stand out; at ``alpha`` above two thirds it is a full
        pass. With ``racing=False`` the result is exact.
        """
        shape = self._check_pool(pool)
        check_n_instances(b, shape[0])
        if not racing:
            scores, _ = self.score(pool)
            indices = top(scores, b)
            return indices, scores[indices]
        outcome = self._race(pool, b)
        return outcome.indices, outcome.scores

    def _race(self, pool: Any, b: int) -> Race:
        shape = self._begin(pool)
        n, m = shape[0], self._n_patches(shape)

        def evaluate(rows: NDArray[np.intp], views: list[int]) -> NDArray[np.float32]:
            work = self._of_patches(lambda P: {"P": P}, views)
            wanted = None if len(rows) == n else rows
            return self._scan(pool, shape, work, rows=wanted, n_views=len(views))["P"]

        return race(evaluate, n, m, b, **self.consistency)

    def prepare(self, shape: tuple[int, ...]) -> Self:
        """Export the network for pools of a shape now, not when the first is scored.

        Parameters
        ----------
        shape : tuple of int
            (n, C, H, W), or (n, m, C, h, w); n does not matter.

        Returns
        -------
        OnnxScorer
            Itself.

        Raises
        ------
        ExportError
            If the network cannot be exported.
        """
        self._passes(tuple(shape))
        return self

    def refresh(self) -> Self:
        """Take the weights that the estimator has now, without exporting it again.

        Every pass does so by itself where they have changed.

        Returns
        -------
        OnnxScorer
            Itself.

        Raises
        ------
        ExportError
            If it is another architecture now.
        """
        if self.model.refresh() and self._pass is not None:
            channels = self._pass.image_shape[0]
            self._pass.load(self.model.network((channels, *self._pass.size)))
        else:
            self._pass = None
        return self

    def _of_patches(
        self,
        function: Callable[[NDArray[np.float32]], dict[str, Array]],
        views: Sequence[int] | None = None,
    ) -> Work:
        """What a worker does: candidates to patch probabilities to what is kept."""

        def work(candidates: Array) -> dict[str, Array]:
            candidates = check_images(candidates, ndim=candidates.ndim)
            outputs = self._passes(candidates.shape)(candidates, self.model.output, views)
            flat = self.model.finish(outputs.reshape(-1, *outputs.shape[2:]))
            return function(flat.reshape(*outputs.shape[:2], -1))

        return work

    def _passes(self, shape: tuple[int, ...]) -> PatchPass:
        """What runs candidates of a shape; made anew when another shape or other views come."""
        size, matrices = self.model.patches_of(shape)
        image_shape = (int(shape[-3]), int(shape[-2]), int(shape[-1]))
        known = self._pass
        if known is None or not known.fits(image_shape, size, matrices):
            network = self.model.network((image_shape[0], *size))
            self._pass = known = PatchPass(
                network, image_shape=image_shape, size=size, matrices=matrices, **self._options
            )
        return known

    def _begin(self, pool: Any) -> tuple[int, ...]:
        """Check the pool, and take the weights that the estimator has now; return the shape."""
        shape = self._check_pool(pool)
        if self.model.is_stale():
            self.refresh()
        return shape

    def _check_pool(self, pool: Any) -> tuple[int, ...]:
        """Check what can be checked without reading; return the shape."""
        shape = image_shape(pool)
        cut = self.model.patches_of((1, 1, 1, 1))[1] is None
        if shape is None or len(shape) != (5 if cut else 4):
            expected = "(n, m, C, h, w), patches that were cut" if cut else "(n, C, H, W), images"
            raise DataError(
                f"the pool has shape {np.shape(pool) if shape is None else shape}; expected "
                f"{expected}, channels first."
            )
        check_not_empty(shape)
        if hasattr(self.model, "check_shape"):
            self.model.check_shape(shape)
        if shape[-3] != self.model.n_channels:
            raise DataError(
                f"the pool has shape {shape}, that is {shape[-3]} channels; the model was fitted "
                f"on {self.model.n_channels}."
            )
        return shape

    def _n_patches(self, shape: tuple[int, ...]) -> int:
        matrices = self.model.patches_of(shape)[1]
        return int(shape[1]) if matrices is None else len(matrices)

    def _identity(self, pool: Any, shape: tuple[int, ...]) -> dict[str, Any]:
        """What scores in a folder depend on."""
        digest = hashlib.sha256()
        for row in sorted({0, shape[0] // 2, shape[0] - 1}):
            digest.update(np.ascontiguousarray(pool[row : row + 1]).tobytes())
        return {
            "format": "aift-sklearn scores 1",
            "model": self.model.identity(),
            "consistency": {name: repr(value) for name, value in sorted(self.consistency.items())},
            "pool": f"{'x'.join(map(str, shape))} {digest.hexdigest()}",
        }

    def _scan(
        self,
        pool: Any,
        shape: tuple[int, ...],
        work: Work,
        *,
        rows: NDArray[np.intp] | None = None,
        n_views: int | None = None,
        shards: Shards | None = None,
    ) -> dict[str, Array]:
        """Compute part by part: arrays with a row for each candidate that is wanted."""
        pool = pool if hasattr(pool, "shape") else np.asarray(pool)
        passes = self._passes(shape)
        n_patches = max(passes.batch_size, _PART_PIXELS // (passes.size[0] * passes.size[1]))
        n_bytes = int(np.prod(shape[1:])) * np.dtype(getattr(pool, "dtype", np.uint8)).itemsize
        m = n_views or self._n_patches(shape)
        n = shape[0] if rows is None else len(rows)
        # Of few candidates every worker gets some, but a batch at least.
        fair = max(math.ceil(n / (4 * passes.n_workers)), passes.batch_size // m)
        step = min(n_patches // m, _PART_BYTES // n_bytes, fair)
        results = Gathered(n, shards)
        multiple = None if shards is None else shards.size
        parts = as_parts(shape[0], max(1, step), rows, multiple=multiple)
        missing = [part for part in parts if results.begin(part)]
        total = sum(part.n for part in missing)
        text = f"scoring on {passes.where}"
        with ProgressBar(text, total, enabled=bool(self.verbose)) as bar:
            scan(pool, missing, work, n_workers=passes.n_workers, done=results.add, bar=bar)
        return results.arrays
