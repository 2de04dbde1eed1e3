"""What a whole-slide image gives: levels of a pyramid, of which any part can be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .reading import in_threads

__all__ = ["Level", "Slide", "read_reduced", "scale_square"]

Array = NDArray[Any]

# Pixels that one thread reads at once where a level is looked at as a whole.
_AT_ONCE = 2**20


class Level(NamedTuple):
    """A level of a pyramid.

    Attributes
    ----------
    width, height : int
        In pixels of this level.
    downsample : float
        Width in pixels of level 0 of a pixel of this one.
    chunk : (int, int)
        Height and width of what is read at once.
    """

    width: int
    height: int
    downsample: float
    chunk: tuple[int, int]


class Slide(ABC):
    """An open whole-slide image, which several threads may read.

    Attributes
    ----------
    levels : tuple of Level
        The finest first.
    n_channels : int
        Without transparency.
    dtype : dtype
        Of the values.
    colour : bool
        Whether the channels are red, green and blue.
    mpp : float or None
        Microns per pixel of level 0, where that is known.
    """

    levels: tuple[Level, ...]
    n_channels: int
    dtype: np.dtype[Any]
    colour: bool
    mpp: float | None

    @abstractmethod
    def read(
        self, level: int, x: int, y: int, width: int, height: int, channels: Sequence[int]
    ) -> Array:
        """Read a part that lies in a level, (height, width, C), in pixels of this level."""


def read_reduced(slide: Slide, level: int, factor: int, channels: Sequence[int]) -> Array:
    """Read a whole level made smaller by averaging, a part after the other.

    Parameters
    ----------
    slide : Slide
        The slide.
    level : int
        Which level.
    factor : int
        Side in pixels of the squares that become a pixel each; at the right and the lower border
        they are cut off.
    channels : sequence of int
        Which channels.

    Returns
    -------
    ndarray, shape (ceil(H / factor), ceil(W / factor), C)
        uint8 of a slide of bytes, else float32.
    """
    width, height, _, (_, columns) = slide.levels[level]
    # Of rows that are stored at full width nothing less can be read.
    across = width if columns >= width else int(_AT_ONCE**0.5)
    wide, high = -(-across // factor), max(1, _AT_ONCE // across // factor)
    shape = (-(-height // factor), -(-width // factor), len(channels))
    small = np.empty(shape, np.uint8 if slide.dtype == np.uint8 else np.float32)
    corners = list(product(range(0, shape[0], high), range(0, shape[1], wide)))

    def read(corner: tuple[int, int]) -> Array:
        x, y = corner[1] * factor, corner[0] * factor
        size = min(wide * factor, width - x), min(high * factor, height - y)
        return _averaged(slide.read(level, x, y, *size, channels), factor, small.dtype)

    for (row, column), part in zip(corners, in_threads(read, corners), strict=True):
        small[row : row + part.shape[0], column : column + part.shape[1]] = part
    return small


def scale_square(pixels: Array, size: int) -> Array:
    """Scale a square (h, h, C) to (size, size, C), by averaging where that makes it smaller.

    Parameters
    ----------
    pixels : ndarray
        uint8 stays uint8; other numbers become float32, unless nothing is to be done.
    size : int
        Height and width.
    """
    from PIL import Image

    if len(pixels) == size:
        return pixels
    exact = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    # Pillow scales three channels of bytes, and one of anything.
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(exact, 2, 0)]
    scaled = [plane.resize((size, size), Image.Resampling.BILINEAR) for plane in planes]
    return np.stack([np.asarray(plane) for plane in scaled], axis=2)


def _averaged(pixels: Array, factor: int, dtype: np.dtype[Any]) -> Array:
    """Means of squares.

    Examples
    --------
    >>> pixels = np.arange(15).reshape(3, 5, 1)
    >>> _averaged(pixels, 2, np.dtype("float32"))[..., 0].tolist()
    [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]
    """
    if factor == 1:
        return pixels.astype(dtype, copy=False)
    starts = [np.arange(0, length, factor) for length in pixels.shape[:2]]
    exact = np.uint32 if pixels.dtype == np.uint8 else np.float64
    sums = np.add.reduceat(pixels, starts[0], axis=0, dtype=exact)
    sums = np.add.reduceat(sums, starts[1], axis=1, dtype=exact)
    high, wide = (
        np.diff(np.append(start, length))
        for start, length in zip(starts, pixels.shape[:2], strict=True)
    )
    means = sums / (high[:, None] * wide)[..., None]
    return np.asarray(np.rint(means) if dtype == np.uint8 else means, dtype=dtype)
