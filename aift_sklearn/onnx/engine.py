"""ONNX Runtime as an engine: right, or refused.

Before every pass the graph takes the weights that the network has now, and what it computes is
compared with the estimator itself: on patches of the pool, and where the weights are new on images
of one colour, where a network that divides by what is 0 there shows how the two treat what is not a
number.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import check_images
from ..errors import AIFTError, DataError, ExportError
from ..patches._resampling import cut_at_once
from ..scanning.engine import Engine, Evaluation
from ..scanning.parts import Part
from ._tf32 import without_tf32
from .passes import PatchPass, open_pass
from .source import Geometry, NetworkSource, graph_digest

__all__ = ["OnnxEngine"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

# Shapes of candidates that may take turns without sessions being opened each time.
_MOST_PASSES = 4
# Pixels of the patches of one part of a pool, which a worker takes at once: so few that no worker
# waits long for the last.
_PART_PIXELS = 2**19
# Candidates of the pool that are compared.
_PROBES = 2
# Largest difference of a probability that rounding makes: in single precision it is a hundredth of
# this, in half precision a few thousandths. Patches that are not compared may differ by more.
_TOLERANCE, _TOLERANCE_HALF = 1e-4, 3e-2


class OnnxEngine:
    """Evaluates patches in ONNX Runtime.

    Parameters
    ----------
    source : NetworkSource
        The model.
    **options
        providers, precision, batch_size and n_threads of `open_pass`.

    Attributes
    ----------
    latest : PatchPass or None
        What ran, or will run, the candidates of the latest shape.
    """

    def __init__(self, source: NetworkSource, **options: Any) -> None:
        self.source, self._options = source, options
        self._kept: list[_KeptPass] = []
        self.latest: PatchPass | None = None

    @property
    def where(self) -> str:
        """Where it computes, for people."""
        return "ONNX Runtime" if self.latest is None else self.latest.where

    @property
    def n_workers(self) -> int:
        """Threads that may evaluate at once with profit."""
        return 1 if self.latest is None else self.latest.n_workers

    def begin(self, pool: Any) -> None:
        """Take the present weights, and compare with the estimator.

        Raises
        ------
        ExportError
            If the network cannot be exported, the graph cannot be run, or it computes something
            else than the estimator does.
        """
        shape = tuple(np.shape(pool))
        self.prepare(shape)
        if self.source.reference is None:
            return
        first = Part(0, min(_PROBES, shape[0]), None, 0)
        probes = check_images(first.read(pool), ndim=len(shape))
        reason = self._find_difference(probes)
        if reason:
            # A network that was changed from outside computes otherwise with the same weights.
            self.source.drop_network()
            self.prepare(shape)
            reason = self._find_difference(probes)
        if reason:
            self.source.drop_network()
            raise ExportError(
                f"ONNX Runtime does not compute what the estimator does: {reason}. Its graph is "
                "not used."
            )

    def prepare(self, shape: tuple[int, ...]) -> PatchPass:
        """Make what runs candidates of a shape, with the present weights.

        Raises
        ------
        ExportError
            If the network cannot be exported, or no session can be opened for it.
        """
        return self._prepare(self.source.geometry(shape))

    def prepare_latest(self) -> PatchPass:
        """Take the present weights for candidates of the latest shape."""
        return self._prepare(self._kept[0].geometry)

    def _prepare(self, geometry: Geometry) -> PatchPass:
        network, version = self.source.take_network(geometry.patch_shape)
        with _as_export_error("open a session for the network"):
            known = next((kept for kept in self._kept if _is_same(kept.geometry, geometry)), None)
            if known is None:
                passes = open_pass(
                    network,
                    image_shape=geometry.image_shape,
                    size=geometry.size,
                    matrices=geometry.matrices,
                    **self._options,
                )
                known = _KeptPass(geometry, version, passes)
            elif known.version != version:
                known.passes.load(network)
                known.version, known.is_compared = version, False
        others = [kept for kept in self._kept if kept is not known]
        self._kept = [known, *others[: _MOST_PASSES - 1]]
        self.latest = known.passes
        return known.passes

    def n_patches(self, shape: tuple[int, ...]) -> int:
        """Patches of each candidate of a pool of this shape."""
        matrices = self.source.geometry(shape).matrices
        return int(shape[1]) if matrices is None else len(matrices)

    def races(self, shape: tuple[int, ...]) -> bool:
        """Fewer patches take less time, on a GPU where they fill a batch."""
        return True

    def part_size(self, shape: tuple[int, ...], n_views: int, n: int) -> int:
        """Candidates of one part: a batch at least, and of few candidates some for each worker."""
        passes = self.prepare(shape) if self.latest is None else self.latest
        batch, pixels = passes.batch_size, passes.size[0] * passes.size[1]
        # Fewer than are cut at once would be cut as slowly.
        least = cut_at_once(shape[-3])
        size = max(max(batch, _PART_PIXELS // pixels) // n_views, least)
        fair = max(math.ceil(n / (4 * passes.n_workers)), batch // n_views, least)
        return max(1, min(size, fair, math.ceil(n / passes.n_workers)))

    def evaluate(
        self, candidates: Array, views: Sequence[int] | None, embed: Sequence[int] = ()
    ) -> Evaluation:
        """Evaluate patches of candidates; see `Engine`."""
        k, output = len(candidates), self.source.output
        proba = np.empty((k, 0, 0), dtype=np.float32)
        embeddings = np.empty((k, 0, 0), dtype=np.float32)
        all_views = range(self.n_patches(candidates.shape)) if views is None else views
        places = [list(all_views).index(j) for j in embed if j in all_views]
        # What is predicted can be embedded on the way.
        together = len(places) == len(embed) > 0
        if len(all_views):
            wanted = list(dict.fromkeys([output, "embeddings"] if together else [output]))
            found = self._run(candidates, wanted, views)
            flat = self.source.finish(found[0].reshape(-1, *found[0].shape[2:]))
            proba = flat.reshape(*found[0].shape[:2], -1)
            if together:
                return Evaluation(proba, found[-1][:, places])
        if len(embed):
            (embeddings,) = self._run(candidates, ["embeddings"], embed)
        return Evaluation(proba, embeddings)

    def _run(
        self, candidates: Array, outputs: Sequence[str], views: Sequence[int] | None
    ) -> list[Floats]:
        assert self.latest is not None
        with _as_export_error("run the network"):
            return self.latest(candidates, outputs, views)

    def identity(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Hashes of all that probabilities of a pool of this shape depend on, by value."""
        passes, geometry = self.prepare(shape), self.source.geometry(shape)
        network, _ = self.source.take_network(geometry.patch_shape)
        views = "as cut"
        if geometry.matrices is not None:
            views = hashlib.sha256(geometry.matrices.tobytes()).hexdigest()
        return {
            "model": {"network": graph_digest(network), **self.source.identity()},
            "patches": {"size": list(geometry.size), "views": views},
            "precision": "float16" if passes.is_half else "float32",
        }

    def _find_difference(self, probes: Array) -> str:
        """Say what differs between the estimator and the graph; nothing where they agree."""
        kept = self._kept[0]
        if not kept.is_compared:
            brightest = 255 if probes.dtype == np.uint8 else 1
            one_colour = np.zeros_like(probes[:1]), np.full_like(probes[:1], brightest)
            reasons = (self._compare(image, 0) for image in one_colour)
            reason = next(filter(None, reasons), "")
            if reason:
                return reason
        # The first view of all is the candidate itself, which says nothing of how views are cut.
        reason = self._compare(probes, self.n_patches(probes.shape) - 1)
        kept.is_compared = not reason
        return reason

    def _compare(self, images: Array, view: int) -> str:
        """Compare a view of images that the estimator predicts together, and ONNX Runtime alone.

        So a network whose outputs depend on the batch differs.
        """
        assert self.latest is not None
        assert self.source.reference is not None
        tolerance = _TOLERANCE_HALF if self.latest.is_half else _TOLERANCE
        try:
            with without_tf32():
                expected = self._predictions(self.source.reference, images, view)
        except DataError:
            # So an estimator refuses what is not a number.
            expected = np.array(np.nan)
        alone = [self._predictions(self, images[k : k + 1], view) for k in range(len(images))]
        return _say_difference(np.concatenate(alone), expected, tolerance)

    def _predictions(self, engine: Engine, images: Array, view: int) -> Floats:
        """Probabilities of a view, or else its embeddings."""
        if self.source.predicts:
            return engine.evaluate(images, [view]).proba
        return engine.evaluate(images, (), [view]).embeddings


@dataclass(eq=False)
class _KeptPass:
    geometry: Geometry
    version: int
    passes: PatchPass
    # Whether the present weights were compared on images of one colour.
    is_compared: bool = False


def _say_difference(found: Array, expected: Array, tolerance: float) -> str:
    if not np.isfinite(expected).all():
        hidden = np.isfinite(found).all()
        return "predictions that are not finite (NaN) become numbers" if hidden else ""
    if found.shape != expected.shape:
        return f"it gives shape {found.shape}, the estimator {expected.shape}"
    if not np.isfinite(found).all():
        return "its predictions are not finite"
    # Embeddings have a scale of their own, probabilities that of 1.
    largest = float(np.abs(found - expected).max(initial=0))
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    return f"predictions differ by {largest:.2g}" if largest > tolerance * scale else ""


def _is_same(one: Geometry, other: Geometry) -> bool:
    if one[:2] != other[:2]:
        return False
    if one.matrices is None or other.matrices is None:
        return one.matrices is other.matrices
    return np.array_equal(one.matrices, other.matrices)


@contextlib.contextmanager
def _as_export_error(what: str) -> Iterator[None]:
    """Whatever ONNX Runtime raises, for each reason a type of its own, as one error."""
    try:
        yield
    except AIFTError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ExportError(
            f"ONNX Runtime cannot {what}: {type(error).__name__}: {reason}"
        ) from error
