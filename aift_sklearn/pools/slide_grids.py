"""Where tiles lie on a slide: on a grid, and only where there is tissue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .slide_levels import Slide, read_reduced
from .tissue import find_tissue, tissue_shares

__all__ = ["TileGrid", "lay_tiles", "read_overview"]

Array = NDArray[Any]

# Pixels that a side of a tile has at least where tissue is looked for.
_PER_TILE = 8
# A level may be this much coarser than it is asked for: scanners round.
_TOLERANCE = 1.01


class TileGrid(NamedTuple):
    """Tiles of a slide, row by row.

    Attributes
    ----------
    level : int
        From which they are read.
    side : int
        Of a tile, in pixels of that level.
    downsample : float
        Width in pixels of level 0 of a pixel of that level.
    x, y : ndarray of int, shape (n,)
        Upper left corner of each, in pixels of that level.
    """

    level: int
    side: int
    downsample: float
    x: Array
    y: Array

    def corners(self) -> Array:
        """Give x and y of each in pixels of level 0, (n, 2)."""
        exact = np.column_stack([self.x, self.y]) * self.downsample
        return np.rint(exact).astype(np.int64)


def lay_tiles(
    slide: Slide,
    *,
    tile: int,
    stride: int,
    level: int = 0,
    mpp: float | None = None,
    tissue: float = 0.0,
    channels: Sequence[int],
) -> TileGrid:
    """Lay a grid of tiles over a slide; see `SlideTiles`.

    Parameters
    ----------
    slide : Slide
        The slide.
    tile, stride : int
        Side of a tile, and from one to the next, in pixels of the level or at ``mpp``.
    level : int
        Of the pyramid.
    mpp : float, optional
        Microns per pixel, instead.
    tissue : float
        Least share of tissue.
    channels : sequence of int
        In which it is looked for.

    Returns
    -------
    TileGrid
        Of no tiles, where there is no tissue.

    Raises
    ------
    DataError
        If there is no such level, the resolution is not known or too coarse, or the slide is
        smaller than a tile.
    """
    level, scale = _find_level(slide, level, mpp)
    width, height, downsample, _ = slide.levels[level]
    side = max(1, round(tile * scale))
    if side > min(width, height):
        raise DataError(
            f"{width} x {height} pixels on level {level}, less than a tile of {side} x {side}"
        )
    x, y = (_starts(length, side, stride * scale) for length in (width, height))
    if tissue > 0:
        mask, size = _tissue_of(slide, side * downsample, channels)
        # Pixels of the level in one of the mask.
        ratio = size / downsample
        enough = tissue_shares(mask, x / ratio, y / ratio, side / ratio) >= tissue
    else:
        enough = np.ones((len(y), len(x)), dtype=bool)
    rows, columns = np.nonzero(enough)
    return TileGrid(level, side, downsample, x[columns], y[rows])


def read_overview(slide: Slide, factor: float, channels: Sequence[int]) -> tuple[Array, float]:
    """Read a slide made smaller, from the coarsest level that is fine enough.

    Parameters
    ----------
    slide : Slide
        The slide.
    factor : float
        Pixels of level 0, along a side, that a pixel may stand for.
    channels : sequence of int
        Which channels.

    Returns
    -------
    overview : ndarray, shape (h, w, C)
        uint8 or float32.
    size : float
        Side of its pixels in pixels of level 0.
    """
    level = max(k for k, one in enumerate(slide.levels) if one.downsample <= max(1.0, factor))
    downsample = slide.levels[level].downsample
    smaller = max(1, int(factor / downsample))
    return read_reduced(slide, level, smaller, channels), downsample * smaller


def _tissue_of(slide: Slide, side: float, channels: Sequence[int]) -> tuple[Array, float]:
    try:
        overview, size = read_overview(slide, side / _PER_TILE, channels)
    except MemoryError:
        raise
    except DataError as error:
        raise DataError(f"no tissue can be looked for ({error}); tissue=0 does without") from error
    return find_tissue(overview, colour=slide.colour and len(channels) == 3), size


def _find_level(slide: Slide, level: int, mpp: float | None) -> tuple[int, float]:
    """Level to read from, and how many of its pixels one of the tile stands for."""
    n = len(slide.levels)
    if mpp is None:
        if level >= n:
            there = f"levels 0 to {n - 1}" if n > 1 else "level 0 alone"
            raise DataError(f"no level {level}; it has {there}")
        return level, 1.0
    if slide.mpp is None:
        raise DataError("its resolution is not known; give level= instead of mpp=")
    if slide.mpp > mpp * _TOLERANCE:
        raise DataError(f"scanned at {slide.mpp:g} microns per pixel, coarser than mpp={mpp:g}")
    found = [slide.mpp * one.downsample for one in slide.levels]
    level = max(k for k in range(n) if found[k] <= mpp * _TOLERANCE)
    scale = mpp / found[level]
    # As it is, where it is as good as what was asked for.
    return level, 1.0 if 1 / _TOLERANCE <= scale <= _TOLERANCE else scale


def _starts(length: int, side: int, step: float) -> Array:
    """Where tiles begin that lie within a length.

    Examples
    --------
    >>> _starts(10, 4, 3).tolist(), _starts(10, 4, 2.5).tolist()
    ([0, 3, 6], [0, 2, 5])
    """
    starts = np.rint(np.arange(int((length - side) / step) + 2) * step).astype(np.int64)
    return np.unique(starts[starts + side <= length])
