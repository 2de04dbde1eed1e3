"""Where tissue lies on a slide, as a small picture of it shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_tissue", "otsu_threshold", "tissue_shares"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]

_BINS = 256
# Saturation below which nothing is tissue, such as the noise of a blank slide, and above which
# everything is, such as where there is no glass: Otsu's threshold splits those too.
_PALE, _STAINED = 0.06, 0.15
# Share of the brightest values, and value of bytes, below which colours are black: ink, edges, and
# no scan. Saturation is noise there.
_BLACK, _BLACK_BYTE = 0.15, 30.0
# The same for grey values: shares of the range of bytes, and of the brightest of many levels.
_FAINT, _CLEAR = 12.0, 0.2
_ABOVE_FLOOR, _FEW_LEVELS = 1.25, 16.0
# Below 0.1 % and above 99.9 % lie dust and dead pixels.
_OUTSIDE = (0.1, 99.9)


def find_tissue(overview: Array, *, colour: bool) -> Mask:
    """Tell tissue from glass.

    Colours are tissue where their saturation lies above Otsu's threshold (Otsu 1979), kept between
    0.06 and 0.15: a blank slide has none, and a slide without glass nothing else. What is black,
    such as borders, is none.

    Grey values are tissue where they are brighter than Otsu's threshold; bytes whose outermost
    pixels are rather bright than dark are taken for bright field, and are tissue where they are
    darker. The threshold keeps a distance from the darkest values, and what is brighter than a
    fifth of the brightest is tissue. Several channels that are no colours are averaged.

    Parameters
    ----------
    overview : ndarray, shape (h, w, C)
        The slide, or a level of it, made small.
    colour : bool
        Whether its channels are red, green and blue.

    Returns
    -------
    ndarray of bool, shape (h, w)
        True where there is tissue.

    Examples
    --------
    >>> glass, tissue = (240, 238, 243), (190, 120, 170)
    >>> overview = np.array([[glass, tissue, glass]], dtype=np.uint8)
    >>> find_tissue(overview, colour=True).tolist()
    [[False, True, False]]
    """
    values = np.nan_to_num(overview.astype(np.float32), posinf=0, neginf=0)
    few = overview.dtype == np.uint8
    if colour:
        bright = values.max(axis=2)
        black = _BLACK * float(np.percentile(bright, _OUTSIDE[1]))
        seen = bright > (max(black, _BLACK_BYTE) if few else black)
        saturation = (bright - values.min(axis=2)) / np.maximum(bright, 1e-6)
        threshold = np.clip(otsu_threshold(saturation[seen]), _PALE, _STAINED)
        return np.asarray(seen & (saturation > threshold))
    grey = values.mean(axis=2)
    if few and np.median(_border(grey)) >= 128:
        grey = 255 - grey
    floor, top = np.percentile(grey, _OUTSIDE)
    least = floor + _FAINT if few else max(_ABOVE_FLOOR * floor, floor + _FEW_LEVELS)
    threshold = max(least, min(otsu_threshold(np.clip(grey, floor, top)), _CLEAR * top))
    return np.asarray(grey > threshold)


def otsu_threshold(values: Array) -> float:
    """Threshold that splits values into two classes as far apart as can be (Otsu 1979).

    Parameters
    ----------
    values : ndarray
        Finite numbers; they are counted in 256 bins.

    Returns
    -------
    float
        The end of the lower class; 0 where there are no values.

    Examples
    --------
    >>> 1 < otsu_threshold(np.array([0, 1, 1, 8, 9, 9])) < 8
    True
    """
    if not values.size:
        return 0.0
    counts, edges = np.histogram(values, _BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * middles)
    above = counts.sum() - below
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
        between = np.nan_to_num(below * above * apart**2)
    # Across a gap every threshold splits alike: the middle is as far from both.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + round(float(best.mean()))])


def tissue_shares(mask: Mask, x: Array, y: Array, side: float) -> NDArray[np.float64]:
    """Share of tissue in squares on a grid.

    Parameters
    ----------
    mask : ndarray of bool, shape (h, w)
        Where there is tissue.
    x, y : ndarray of float, shapes (columns,) and (rows,)
        Where columns and rows begin, in pixels of the mask.
    side : float
        Of the squares, in pixels of the mask, at least one of which is looked at.

    Returns
    -------
    ndarray, shape (rows, columns)
        Of each square.

    Examples
    --------
    >>> mask = np.array([[True, True, False, False], [True, False, False, False]])
    >>> tissue_shares(mask, np.array([0, 2]), np.array([0]), 2).tolist()
    [[0.75, 0.0]]
    """
    # Sums over all rows above and all columns to the left: of any rectangle by four of them.
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int32)
    np.cumsum(np.cumsum(mask, axis=0, dtype=np.int32), axis=1, out=sums[1:, 1:])
    (top, bottom), (left, right) = (
        _ends(starts, side, length) for starts, length in zip((y, x), mask.shape, strict=True)
    )
    inside = (
        sums[np.ix_(bottom, right)]
        - sums[np.ix_(top, right)]
        - sums[np.ix_(bottom, left)]
        + sums[np.ix_(top, left)]
    )
    return np.asarray(inside / ((bottom - top)[:, None] * (right - left)))


def _ends(starts: Array, side: float, length: int) -> tuple[Array, Array]:
    first = np.clip(np.rint(starts), 0, length - 1).astype(np.intp)
    last = np.clip(np.rint(starts + side), first + 1, length).astype(np.intp)
    return first, last


def _border(grey: Array) -> Array:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
