"""What runs in Ray's workers: reading candidates, and scoring them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch_scoring import ShippedModel
from ..errors import DataError, NonFiniteOutputError
from ..pools.array_layout import Layout
from ..pools.arrays import row_numbers
from ..pools.base import Pool
from ..scanning.shards import Gathered

__all__ = ["BROKEN", "IMAGE", "ROW", "ReadRows", "ScoreBatches"]

Array = NDArray[Any]
Batch = dict[str, Array]

ROW, IMAGE, BROKEN = "__row", "__image", "__broken"
"""Columns of a pool that was read: position, candidate, and why it cannot be read or ""."""


class ReadRows:
    """Reads candidates of a pool.

    Parameters
    ----------
    pool : ray.ObjectRef
        Of the pool.
    """

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def __call__(self, bounds: Batch) -> Iterator[Batch]:
        """Read from some candidates up to others."""
        pool = _fetch(self.pool)
        for start, stop in bounds["data"].tolist():
            images = np.asarray(pool[start:stop])
            known = pool.broken if isinstance(pool, Pool) else {}
            names = pool.ids[start:stop].tolist() if known else [""] * (stop - start)
            yield {
                ROW: np.arange(start, stop),
                IMAGE: images,
                BROKEN: np.array([known.get(name, "") for name in names], dtype=object),
            }


class ScoreBatches:
    """Scores candidates, with a session of its own.

    Parameters
    ----------
    model : ray.ObjectRef
        Of a `ShippedModel`.
    image : str
        Column of the candidates.
    keep : tuple of str
        Columns that are handed on.
    layout : Layout or None
        How candidates lie in the column; None where they are as the model takes them.
    embeddings : bool
        Whether candidates are embedded.
    providers, precision : str
        As of `OnnxScorer`.
    """

    def __init__(
        self,
        model: Any,
        image: str,
        keep: tuple[str, ...],
        layout: Layout | None,
        embeddings: bool,
        providers: str,
        precision: str,
    ) -> None:
        shipped: ShippedModel = _fetch(model)
        self.image, self.keep, self.layout, self.embeddings = image, keep, layout, embeddings
        self.consistency = shipped.consistency
        self.whole = shipped.unpack(providers=providers, precision=precision)

    def __call__(self, batch: Batch) -> Batch:
        """Score a batch."""
        images, kept = batch[self.image], {name: batch[name] for name in self.keep}
        if not len(images):
            return {}
        if self.layout is not None:
            images = _arranged(images, self.layout)
        pool = _ReadAlready(images, kept[BROKEN]) if BROKEN in kept else images
        scored = Gathered(len(images))
        try:
            self.whole.score_into(pool, scored, embed=self.embeddings, **self.consistency)
        except NonFiniteOutputError as error:
            names = [name for name in self.keep if name != BROKEN]
            who = ", ".join(f"{name.strip('_')} {kept[name][error.index]}" for name in names)
            raise NonFiniteOutputError(
                "the model gives predictions or embeddings that are not finite (NaN or infinity) "
                f"for the candidate of {who}, and perhaps for others. Look at that image (all of "
                "one colour?), leave it out, or mend the model.",
                index=error.index,
            ) from error
        return kept | scored.arrays


class _ReadAlready(Pool):
    """Candidates of a batch, of which some could not be read."""

    def __init__(self, images: Array, reasons: Array) -> None:
        ids = row_numbers(len(images))
        broken = {str(ids[k]): str(reasons[k]) for k in np.flatnonzero(reasons != "")}
        super().__init__(images.shape, images.dtype, ids, broken=broken)
        self.images = images

    def _read(self, rows: NDArray[np.intp]) -> Iterator[Array]:
        return iter(self.images[rows])

    def _array(self, rows: NDArray[np.intp]) -> Array:
        return self.images[rows]


@functools.lru_cache(maxsize=2)
def _fetch(reference: Any) -> Any:
    """Fetch what was put into the object store, once in each process."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RaySystemError as error:
        # As such it would be tried again for ever.
        raise DataError(
            f"a worker cannot open the pool or the model that it was sent: {error}. Is everything "
            "that it is made of installed on all nodes?"
        ) from None


def _arranged(images: Array, layout: Layout) -> Array:
    out = np.empty((len(images), *layout.shape[1:]), dtype=layout.dtype)
    layout.put(images, out)
    return out
