"""Squares that are cut out of images, around boxes or points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .image_headers import list_some

__all__ = ["Sheet", "describe_unusable", "sides_of_squares", "usable_boxes"]

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

# Pixels around a square that are padded with it: all of an image, unless it is large.
_SURROUNDINGS = 1000


class Sheet:
    """An image that squares are cut out of, which Pillow has a copy of.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (C, H, W)
        The image, of 1 or 3 channels; beyond its borders its mirror image is seen.

    Attributes
    ----------
    shape : tuple (C, H, W)
        Of the image.
    nbytes : int
        What it takes.

    Examples
    --------
    >>> sheet = Sheet(np.arange(48, dtype=np.uint8).reshape(1, 6, 8))
    >>> sheet.cut([(2, 1, 4, 3)], size=2, context=1).tolist()
    [[[[10, 11], [18, 19]]]]
    """

    def __init__(self, pixels: Bytes) -> None:
        from PIL import Image

        self.shape = pixels.shape
        n_channels, height, width = pixels.shape
        self._pixels = pixels[0] if n_channels == 1 else pixels.transpose(1, 2, 0)
        self._image = Image.fromarray(self._pixels)
        # Of colour Pillow holds four bytes, of grey none of its own.
        self.nbytes = height * width * (1 if n_channels == 1 else 7)

    def cut(
        self,
        boxes: Iterable[tuple[float, float, float, float]] | Array,
        size: int,
        context: float = 1.5,
        field: float | None = None,
    ) -> Bytes:
        """Cut squares around boxes and scale them.

        Parameters
        ----------
        boxes : iterable of (xmin, ymin, xmax, ymax)
            In pixels.
        size : int
            Height and width of what is cut.
        context : float, default=1.5
            Side of the square, as a multiple of the longer side of the box.
        field : float, optional
            Side of the square in pixels, instead.

        Returns
        -------
        ndarray of uint8, shape (n, C, size, size)
            A square for each box.
        """
        corners = np.asarray(list(boxes), dtype=np.float64).reshape(-1, 4)
        cut = np.empty((len(corners), self.shape[0], size, size), dtype=np.uint8)
        sides = sides_of_squares(corners, context, field)
        for k, (box, side) in enumerate(zip(corners, sides, strict=True)):
            square = self._cut_one((box[:2] + box[2:]) / 2, side / 2, size)
            cut[k] = square if square.ndim == 2 else square.transpose(2, 0, 1)
        return cut

    def part(self, low: tuple[int, int], high: tuple[int, int]) -> Bytes:
        """Return what lies between two corners, (x, y) in pixels, as it is: (C, h, w)."""
        found = self._pixels[low[1] : high[1], low[0] : high[0]]
        return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)

    def _cut_one(self, centre: Array, half: float, size: int) -> Bytes:
        from PIL import Image

        size_of_image = np.array(self.shape[:0:-1])
        image = self._image
        # Padded only as far as this square needs it: left and top, right and bottom.
        before = np.maximum(0, np.ceil(half - centre)).astype(int)
        after = np.maximum(0, np.ceil(centre + half - size_of_image)).astype(int)
        if before.any() or after.any():
            reach = _SURROUNDINGS + 2 * (half + max(*before, *after))
            first = np.maximum(0, np.floor(centre - reach)).astype(int)
            last = np.ceil(centre + reach).astype(int)
            part = self._pixels[first[1] : last[1], first[0] : last[0]]
            margins = ((before[1], after[1]), (before[0], after[0]), (0, 0))[: part.ndim]
            image = Image.fromarray(np.pad(part, margins, mode="symmetric"))
            centre = centre + before - first
        # Rounded, a square may begin a hair before its image, which Pillow refuses.
        left, top = np.maximum(0, centre - half)
        right, bottom = np.minimum(image.size, centre + half)
        square = (left, top, right, bottom)
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=square))


def sides_of_squares(corners: Array, context: float, field: float | None) -> Array:
    """Sides in pixels of the squares that are cut around boxes (n, 4)."""
    if field is not None:
        return np.full(len(corners), float(field))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(context * (corners[:, 2:] - corners[:, :2]).max(axis=1))


def usable_boxes(corners: Array, sizes: Array, *, points: bool = False) -> NDArray[np.bool_]:
    """Tell boxes (n, 4) with an area, that overlap their image (n, 2); or points, that lie in it.

    Examples
    --------
    >>> corners = np.array([[0, 0, 4, 4], [3, 3, 3, 9], [8, 0, 9, 9]])
    >>> usable_boxes(corners, np.full((3, 2), 8)).tolist()
    [True, False, False]
    """
    low, high = corners[:, :2], corners[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        if points:
            good = (low >= 0) & (low < sizes)
        else:
            good = (high - low > 0) & (high > 0) & (low < sizes)
    return np.asarray(good.all(axis=1) & np.isfinite(corners).all(axis=1))


def describe_unusable(names: Sequence[str], *, points: bool = False) -> list[str]:
    """Say which boxes or points are left out; nothing where there are none.

    Examples
    --------
    >>> describe_unusable(["a.png (line 2)"])
    ['1 box without area or outside the image left out: a.png (line 2)']
    """
    if not names:
        return []
    one, many = ("point", "points") if points else ("box", "boxes")
    why = "outside" if points else "without area or outside"
    what = one if len(names) == 1 else many
    return [f"{len(names)} {what} {why} the image left out: {list_some(names)}"]
