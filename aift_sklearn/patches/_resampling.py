"""Cutting patches as a sparse matrix: every pixel of a patch is a weighted sum of a few pixels.

The same views serve every candidate, so where each patch's pixels come from is found out once, and
cutting is a product of that matrix with each candidate. It weights pixels as
``torch.nn.functional.grid_sample`` does (bilinear, reflected borders), without torch, and several
threads can cut at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["Resampling", "as_floats", "cut_at_once", "interleave", "oversampling", "resampling"]

Floats = NDArray[np.float32]

# Channels of all candidates that are cut at once, rows of a matrix that are applied at once, and
# the numbers that one product makes of small patches: results then stay in the cache until they
# are put in order.
_COLUMNS, _BAND_ROWS, _PRODUCT = 12, 2**14, 2**17
# What a weight is lowered by where rounding would lift a sum above 1.
_LOWERED = np.float32(1 - 2**-23)
# Above this the weights are not kept; the caller then cuts in another way.
_MOST_BYTES = 2**29


def as_floats(images: NDArray[Any]) -> Floats:
    """Convert uint8 in [0, 255], or float in [0, 1], to float32 in [0, 1].

    Examples
    --------
    >>> as_floats(np.array([0, 255], dtype=np.uint8))
    array([0., 1.], dtype=float32)
    """
    floats: Floats = images.astype(np.float32, copy=False)
    return floats / np.float32(255) if images.dtype == np.uint8 else floats


def oversampling(image_shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Samples per pixel of a patch, down and across, that are averaged.

    Examples
    --------
    >>> oversampling((64, 64), (32, 20)), oversampling((32, 32), (64, 64))
    ((2, 4), (1, 1))
    """
    return (
        max(1, math.ceil(image_shape[0] / size[0])),
        max(1, math.ceil(image_shape[1] / size[1])),
    )


class Resampling:
    """What cuts patches of a given size from candidates of a given shape.

    Several candidates are cut at once, their pixels interleaved: a weight and its place are then
    read once for all channels of all of them, and what is read at that place lies side by side.

    Parameters
    ----------
    matrices : sequence of csr_array of shape (h·w, H·W)
        For each patch, the weights of the candidate's pixels in each of its own.
    size : tuple of int
        h and w.

    Examples
    --------
    >>> whole = np.array([[[1, 0, 0], [0, 1, 0]]], dtype=np.float32)
    >>> cut = resampling(whole, (2, 2), (1, 1))
    >>> cut(np.array([[[[0.0, 0.2], [0.4, 0.6]]]], dtype=np.float32)).ravel().round(3)
    array([0.3], dtype=float32)
    """

    def __init__(self, matrices: Sequence[Any], size: tuple[int, int]) -> None:
        self.size = size
        self._bands = [_bands(matrix) for matrix in matrices]

    def __len__(self) -> int:
        return len(self._bands)

    def __call__(self, images: NDArray[Any], out: Floats | None = None) -> Floats:
        """Cut all patches.

        Parameters
        ----------
        images : ndarray of shape (n, C, H, W)
            Candidates, uint8 in [0, 255] or float in [0, 1].
        out : ndarray of shape (n, m, C, h, w), float32, optional
            Where patches are written; contiguous.

        Returns
        -------
        ndarray of shape (n, m, C, h, w), float32 in [0, 1]
            Patches.
        """
        n, channels = images.shape[:2]
        if out is None:
            out = np.empty((n, len(self), channels, *self.size), dtype=np.float32)
        few = cut_at_once(channels)
        # Of small patches more, so that each product has some work to do.
        step = max(few, _PRODUCT // max(1, channels * math.prod(self.size)))
        for start in range(0, n, step):
            part = images[start : start + step]
            self.cut(interleave(part), range(len(self)), out[start : start + len(part)])
        return out

    def cut(self, interleaved: Floats, views: Sequence[int], out: Floats) -> None:
        """Cut some patches of a few candidates.

        Parameters
        ----------
        interleaved : ndarray of shape (H·W, n·C), float32 in [0, 1]
            Candidates, as of `interleave`.
        views : sequence of int
            Which patches.
        out : ndarray of shape (n, m', C, h, w), float32
            Where those m' patches are written; contiguous.
        """
        n, _, channels = out.shape[:3]
        flat = out.reshape(n, len(views), channels, math.prod(self.size))
        for j, view in enumerate(views):
            start = 0
            for band in self._bands[view]:
                cut = (band @ interleaved).reshape(-1, n, channels).transpose(1, 2, 0)
                stop = start + band.shape[0]
                flat[:, j, :, start:stop] = cut
                start = stop


def interleave(images: NDArray[Any]) -> Floats:
    """Candidates (n, C, H, W), uint8 or float, as floats (H·W, n·C): pixel by pixel.

    Examples
    --------
    >>> interleave(np.array([[[[0, 255]]], [[[51, 102]]]], dtype=np.uint8)).tolist()
    [[0.0, 0.20000000298023224], [1.0, 0.4000000059604645]]
    """
    n, channels = images.shape[:2]
    return np.ascontiguousarray(as_floats(images).reshape(n * channels, -1).T)


def cut_at_once(channels: int) -> int:
    """Candidates that are best cut at once: of more the results leave the cache.

    Examples
    --------
    >>> cut_at_once(1), cut_at_once(3), cut_at_once(30)
    (16, 4, 1)
    """
    return 1 << math.ceil(math.log2(max(1.0, _COLUMNS / channels)))


def _bands(matrix: csr_array) -> list[csr_array]:
    """Rows of a matrix in bands whose products stay in the cache. No weight is copied."""
    bands = []
    for start in range(0, matrix.shape[0], _BAND_ROWS):
        stop = min(start + _BAND_ROWS, matrix.shape[0])
        first, last = matrix.indptr[start], matrix.indptr[stop]
        parts = matrix.data[first:last], matrix.indices[first:last]
        starts = matrix.indptr[start : stop + 1] - first
        bands.append(csr_array((*parts, starts), shape=(stop - start, matrix.shape[1])))
    return bands


def resampling(
    matrices: Floats, image_shape: tuple[int, int], size: tuple[int, int]
) -> Resampling | None:
    """What cuts patches through affine matrices; kept for the next pool of the same shape.

    Parameters
    ----------
    matrices : ndarray of shape (m, 2, 3), float32
        As of `AffinePatches`.
    image_shape : tuple of int
        Height and width of the candidates.
    size : tuple of int
        Height and width of the patches. Where that is smaller, samples are averaged.

    Returns
    -------
    Resampling or None
        None where the weights would fill the memory (over 512 MB).
    """
    matrices = np.ascontiguousarray(matrices, dtype=np.float32)
    over = oversampling(image_shape, size)
    # About as many pixels enter one of a patch: its samples, spread by the zoom, and neighbours.
    spread = float(np.linalg.norm(matrices[:, :, :2], axis=2).max(initial=0))
    covered = math.prod(k * spread + 2 if k > 1 else 2 for k in over)
    if 8 * len(matrices) * math.prod(size) * covered > _MOST_BYTES:
        return None
    return _build(matrices.tobytes(), tuple(image_shape[-2:]), tuple(size))


@functools.lru_cache(maxsize=2)
def _build(data: bytes, image_shape: tuple[int, int], size: tuple[int, int]) -> Resampling:
    views = np.frombuffer(data, dtype=np.float32).reshape(-1, 2, 3).astype(np.float64)
    return Resampling([_weights(view, image_shape, size) for view in views], size)


def _weights(
    view: NDArray[np.float64], image_shape: tuple[int, int], size: tuple[int, int]
) -> csr_array:
    """Weights (h·w, H·W) of one view."""
    height, width = image_shape
    over = oversampling(image_shape, size)
    fine = size[0] * over[0], size[1] * over[1]
    down, across = ((2 * np.arange(k) + 1) / k - 1 for k in fine)
    x = _reflected(view[0, 0] * across + view[0, 1] * down[:, None] + view[0, 2], width)
    y = _reflected(view[1, 0] * across + view[1, 1] * down[:, None] + view[1, 2], height)
    left, above = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    right, below = np.minimum(left + 1, width - 1), np.minimum(above + 1, height - 1)
    to_right, to_below = x - left, y - above
    share = 1 / math.prod(over)
    weights = [
        (1 - to_below) * (1 - to_right) * share,
        (1 - to_below) * to_right * share,
        to_below * (1 - to_right) * share,
        to_below * to_right * share,
    ]
    pixels = [above * width + left, above * width + right, below * width + left]
    pixels.append(below * width + right)

    def per_pixel(parts: list[NDArray[Any]]) -> NDArray[Any]:
        stacked = np.stack(parts, axis=-1).reshape(size[0], over[0], size[1], over[1], 4)
        return stacked.transpose(0, 2, 1, 3, 4).ravel()

    n_rows, n_terms = math.prod(size), 4 * math.prod(over)
    starts = np.arange(0, n_rows * n_terms + 1, n_terms)
    matrix = csr_array(
        (per_pixel(weights), per_pixel(pixels), starts), shape=(n_rows, height * width)
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix = csr_array(
        (matrix.data.astype(np.float32), matrix.indices.astype(np.int32), matrix.indptr),
        shape=matrix.shape,
    )
    _keep_sums_below_one(matrix)
    return matrix


def _keep_sums_below_one(matrix: csr_array) -> None:
    """Lower weights by a rounding error where a white candidate would have a patch above 1.

    Sums of products are rounded the same way for all pixels, and so none exceeds what white ones
    give: patches need not be clipped.
    """
    white = np.ones((matrix.shape[1], 1), dtype=np.float32)
    too_high = np.flatnonzero((matrix @ white)[:, 0] > 1)
    while len(too_high):
        for row in too_high:
            matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]] *= _LOWERED
        too_high = too_high[(matrix[too_high] @ white)[:, 0] > 1]


def _reflected(position: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Pixel that a position in [−1, 1] falls on, reflected at the borders of n pixels."""
    # Rounded, so that a position on a pixel takes nothing of its neighbour.
    pixel = np.abs(np.round((position + 1) * n / 2, 9))
    times, rest = np.divmod(pixel, n)
    inside = np.where(times % 2 == 0, rest, n - rest) - 0.5
    return np.clip(inside, 0, n - 1)
