"""OnnxScorer: pools of any size to scores, and to the b candidates that are worth asking for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .._candidates import check_not_empty
from .._checks import image_shape
from ..errors import DataError, ExportError, ModelNotFittedError, ParameterError
from ..scanning.consistency import spell_out
from ..scanning.model import PatchModel
from ..scanning.pool_pass import PoolPass
from ..scanning.shards import Shards
from ..scores import patch_consistency
from .engine import OnnxEngine
from .shelf import GraphShelf
from .source import EstimatorSource, NetworkSource

__all__ = ["OnnxScorer"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Patches of one shard of a run that is kept in a folder.
_SHARD_PATCHES = 2**18
# Candidates by which a pool is known again.
_KNOWN_BY = 3


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
        self.verbose, self.consistency = verbose, consistency
        self._options: dict[str, Any] = {
            "providers": providers,
            "precision": precision,
            "batch_size": batch_size,
            "n_threads": n_threads,
        }
        self._classifier: Any = estimator
        self._shelf = GraphShelf()
        self._model: PatchModel | None = None
        self._take_model()

    @classmethod
    def _of_source(cls, source: NetworkSource, **options: Any) -> Self:
        """Scorer of what is no classifier."""
        scorer = cls.__new__(cls)
        scorer._shelf, scorer._model, scorer._classifier = GraphShelf(), None, None
        engine = ("providers", "precision", "batch_size", "n_threads")
        scorer._options = {name: options.pop(name) for name in engine if name in options}
        scorer.verbose = options.pop("verbose", 0)
        patch_consistency(np.full((1, 1, 2), 0.5), **options)
        scorer.consistency = options
        scorer._source = source
        scorer._engine = OnnxEngine(source, **scorer._options)
        return scorer

    def _take_model(self) -> None:
        """Take what the classifier has become since."""
        if self._classifier is None:
            return
        try:
            model = PatchModel.from_classifier(self._classifier)
        except ModelNotFittedError as error:
            raise ExportError(str(error)) from error
        if self._model is None or not model.is_same(self._model):
            self._source: NetworkSource = EstimatorSource(model, self._shelf)
            self._engine = OnnxEngine(self._source, **self._options)
            self._model = model

    @property
    def classes_(self) -> Array:
        """Classes, in the order of the probabilities' columns."""
        return np.asarray(self._source.classes)

    @property
    def provider(self) -> str:
        """Where it runs, as ONNX Runtime names it; known once a pool was scored."""
        latest = self._engine.latest
        return "not known before the first pass" if latest is None else latest.provider

    @property
    def batch_size(self) -> int | str:
        """Patches of one batch, as asked for or, once a pool was scored, as it was found best."""
        latest = self._engine.latest
        return self._options.get("batch_size", "auto") if latest is None else latest.batch_size

    def __repr__(self) -> str:
        K, options = len(self._source.classes), {**self._options, **self.consistency}
        shown = "".join(f", {name}={value!r}" for name, value in options.items() if value != "auto")
        what = "a file" if self._model is None else type(self._model.estimator).__name__
        return f"OnnxScorer({what} of {K} classes{shown.replace(', n_threads=None', '')})"

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
        shards = self._shards(folder, pool, self._begin(pool))
        out = PoolPass(self._engine, verbose=self.verbose).score(pool, shards, **self.consistency)
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
        from .file import write_model
        from .whole_graph import check_agreement, fused_model

        self._take_model()
        source = self._source
        if not isinstance(source, EstimatorSource):
            raise ExportError("this scorer was loaded from a file; copy that one.")
        if np.dtype(dtype) not in (np.uint8, np.float32):
            raise ParameterError(f"dtype={dtype!r}; expected uint8 or float32.")
        shape = self._shape_to_save(shape)
        model = fused_model(source, (1, *shape), self.consistency, dtype)
        check_agreement(model, source, shape, dtype)
        return write_model(model, path)

    def _shape_to_save(self, shape: tuple[int, ...] | None) -> tuple[int, ...]:
        """Shape of the candidates that a file is to score."""
        learner = self._classifier
        taught: Any = getattr(learner, "memory_", getattr(learner, "estimator", None))
        taught = getattr(taught, "memory_", taught)
        if shape is None and hasattr(taught, "X"):
            shape = taught.X.shape[1:]
        elif shape is None and self._engine.latest is not None:
            shape = self._engine.latest.image_shape
        if shape is None:
            raise ParameterError("the shape of the candidates is not known; pass shape=(C, H, W).")
        n_axes = self._source.n_dims - 1
        if len(shape) != n_axes or shape[-3] != self._source.n_channels:
            expected = "(C, H, W)" if n_axes == 3 else "(m, C, h, w)"
            raise ParameterError(
                f"shape={shape!r}; expected {expected}, with C = {self._source.n_channels}."
            )
        return tuple(shape)

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
        from .file import FileSource

        source = FileSource(path)
        return cls._of_source(source, **(source.consistency | options))

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
        self._begin(pool)
        return PoolPass(self._engine, verbose=self.verbose).reduce(pool, function)

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
        self._begin(pool)
        return PoolPass(self._engine, verbose=self.verbose).embed(pool)

    def top(
        self,
        pool: Any,
        b: int,
        folder: str | os.PathLike[str] | None = None,
        *,
        racing: bool = True,
    ) -> tuple[NDArray[np.intp], Floats]:
        """Find the b candidates with the highest scores.

        Parameters
        ----------
        pool : sliceable of shape (n, C, H, W), or (n, m, C, h, w)
            As of `score`.
        b : int
            How many.
        folder : path-like, optional
            Keeps what is finished, as of `score`: a race that is interrupted goes on from there.
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
        shards = self._shards(folder, pool, self._begin(pool))
        whole = PoolPass(self._engine, verbose=self.verbose)
        return whole.top(pool, b, racing=racing, shards=shards, **self.consistency)

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
        self._take_model()
        self._engine.prepare(tuple(shape))
        return self

    def refresh(self) -> Self:
        """Take the weights that the estimator has now, without exporting it again.

        Every pass does so by itself.

        Returns
        -------
        OnnxScorer
            Itself.

        Raises
        ------
        ExportError
            If the network cannot be exported.
        """
        self._take_model()
        if self._engine.latest is not None:
            self._engine.prepare_latest()
        return self

    def _begin(self, pool: Any) -> tuple[int, ...]:
        """Take what the classifier has become, check the pool, and return its shape."""
        self._take_model()
        shape, source = image_shape(pool), self._source
        if shape is None or len(shape) != source.n_dims:
            cut = source.n_dims == 5
            expected = "(n, m, C, h, w), patches that were cut" if cut else "(n, C, H, W), images"
            raise DataError(
                f"the pool has shape {np.shape(pool) if shape is None else shape}; expected "
                f"{expected}, channels first."
            )
        check_not_empty(shape)
        # A file is made for candidates of one shape.
        source.geometry(shape)
        if shape[-3] != source.n_channels:
            raise DataError(
                f"the pool has shape {shape}, that is {shape[-3]} channels; the model was fitted "
                f"on {source.n_channels}."
            )
        return shape

    def _shards(self, folder: Any, pool: Any, shape: tuple[int, ...]) -> Shards | None:
        if folder is None:
            return None
        size = max(1, _SHARD_PATCHES // self._engine.n_patches(shape))
        return Shards(folder, self._identity(pool, shape), n=shape[0], size=size)

    def _identity(self, pool: Any, shape: tuple[int, ...]) -> dict[str, Any]:
        """What scores in a folder depend on, by value."""
        digest = hashlib.sha256()
        for row in np.unique(np.linspace(0, shape[0] - 1, _KNOWN_BY).astype(int)):
            one = np.ascontiguousarray(pool[int(row) : int(row) + 1])
            digest.update(one.dtype.str.encode())
            digest.update(one.tobytes())
        return {
            "format": "aift-sklearn scores 2",
            **self._engine.identity(shape),
            "consistency": spell_out(self.consistency),
            "pool": f"{'x'.join(map(str, shape))} {digest.hexdigest()}",
        }
