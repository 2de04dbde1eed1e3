"""What evaluates patches: the protocol of all engines, and the estimator itself as one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .._candidates import embedder
from ..errors import DataTypeError, NonFiniteOutputError
from ..patches import cut_views, patch_floats, takes_views
from .model import PatchModel, check_proba

__all__ = ["Engine", "EstimatorEngine", "Evaluation"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

# Numbers in the patches that the estimator is given at once: 64 MB of float32.
_PART_FLOATS = 2**24


class Evaluation(NamedTuple):
    """What an engine found of k candidates.

    Attributes
    ----------
    proba : ndarray of shape (k, m', K), float32
        Probabilities of the patches that were asked for.
    embeddings : ndarray of shape (k, m'', E), float32
        Embeddings of those that were to be embedded.
    """

    proba: Floats
    embeddings: Floats


class Engine(Protocol):
    """Evaluates the patches of candidates; reading pools and gathering results is not its task.

    Attributes
    ----------
    where : str
        Where it computes, for people.
    n_workers : int
        Threads that may evaluate at once with profit; 0 for the calling thread alone.
    """

    @property
    def where(self) -> str:
        """Where it computes, for people."""

    @property
    def n_workers(self) -> int:
        """Threads that may evaluate at once with profit; 0 for the calling thread alone."""

    def begin(self, pool: Any) -> None:
        """Make ready for a pass over a pool: with the present weights, or ExportError."""

    def n_patches(self, shape: tuple[int, ...]) -> int | None:
        """Patches of each candidate of a pool of this shape; None where that is not known."""

    def races(self, shape: tuple[int, ...]) -> bool:
        """Whether evaluating fewer patches of a candidate takes less time."""

    def part_size(self, shape: tuple[int, ...], n_views: int, n: int) -> int:
        """Candidates that are best evaluated at once, of n of a pool of this shape; 1 or more."""

    def evaluate(
        self, candidates: Array, views: Sequence[int] | None, embed: Sequence[int] = ()
    ) -> Evaluation:
        """Evaluate patches of candidates.

        Parameters
        ----------
        candidates : ndarray of shape (k, ...)
            As of the pool, checked.
        views : sequence of int, or None
            Positions of the patches whose probabilities are wanted; None for all.
        embed : sequence of int
            Positions of the patches whose embeddings are wanted.

        Returns
        -------
        Evaluation
            Of those patches, in the order asked for.
        """


class EstimatorEngine:
    """The estimator predicts and embeds the patches itself.

    Parameters
    ----------
    model : PatchModel
        The estimator and its patches.
    predict : callable, optional
        Patches (k, …) → probabilities (k, K), in the place of the estimator's.
    """

    where = "the estimator"
    n_workers = 0

    def __init__(
        self, model: PatchModel, *, predict: Callable[[Array], Array] | None = None
    ) -> None:
        self.model, self._predict = model, predict

    def begin(self, pool: Any) -> None:
        """Do nothing: an estimator is always itself."""

    def n_patches(self, shape: tuple[int, ...]) -> int | None:
        """Patches of each candidate of a pool of this shape; None where that is not known."""
        return self.model.n_patches(shape)

    def races(self, shape: tuple[int, ...]) -> bool:
        """Images whose patches can be cut one by one; features cost nothing to race for."""
        return len(shape) > 2 and takes_views(self.model.patches)

    def part_size(self, shape: tuple[int, ...], n_views: int, n: int) -> int:
        """Candidates whose patches fill 64 MB."""
        n_floats = n_views * patch_floats(self.model.patches, shape)
        return max(1, _PART_FLOATS // max(1, n_floats))

    def evaluate(
        self, candidates: Array, views: Sequence[int] | None, embed: Sequence[int] = ()
    ) -> Evaluation:
        """Evaluate patches of candidates; see `Engine`."""
        k = len(candidates)
        proba = np.empty((k, 0, 0), dtype=np.float32)
        embeddings = np.empty((k, 0, 0), dtype=np.float32)
        if views is None or len(views):
            patches = cut_views(self.model.patches, candidates, views)
            with _rows_of_candidates(patches.shape[1]):
                proba = self._proba(patches.reshape(-1, *patches.shape[2:]))
            proba = proba.reshape(*patches.shape[:2], -1)
        if len(embed):
            patches = cut_views(self.model.patches, candidates, embed)
            with _rows_of_candidates(patches.shape[1]):
                embeddings = self._embed(patches.reshape(-1, *patches.shape[2:]))
            embeddings = embeddings.reshape(*patches.shape[:2], -1)
        return Evaluation(proba, embeddings)

    def _proba(self, flat: Array) -> Floats:
        if self._predict is not None:
            name = getattr(self._predict, "__name__", "predict")
            return check_proba(self._predict(flat), self.model.estimator, method=name)
        estimator = self.model.estimator
        return self.model.as_proba(estimator.predict_proba(flat), estimator.classes_)

    def _embed(self, flat: Array) -> Floats:
        embed = embedder(self.model.estimator)
        if embed is None:
            raise DataTypeError(
                f"{type(self.model.estimator).__name__} embeds no candidates; use a CNNClassifier, "
                "or a pipeline that begins with CNNFeatures."
            )
        found = np.asarray(embed(flat), dtype=np.float32)
        return found.reshape(len(flat), math.prod(found.shape[1:]))


@contextlib.contextmanager
def _rows_of_candidates(n_views: int) -> Iterator[None]:
    """Let a network that refuses a patch refuse the candidate that it is of."""
    try:
        yield
    except NonFiniteOutputError as error:
        raise NonFiniteOutputError(str(error), index=error.index // n_views) from error
