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
from scipy.sparse import csr_array, vstack

__all__ = ["Resampling", "as_floats", "oversampling", "resampling"]

Floats = NDArray[np.float32]

# A matrix of this size stays in the cache while it is applied to channel after channel.
_TILE_BYTES = 2**22
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
        self.matrices, self.size = list(matrices), size
        self._tiles = _stacked(self.matrices)

    def __len__(self) -> int:
        return len(self.matrices)

    def subset(self, which: Sequence[int]) -> Resampling:
        """Cut some of the patches only, in the order given."""
        return Resampling([self.matrices[j] for j in which], self.size)

    def __call__(self, images: Floats, out: Floats | None = None) -> Floats:
        """Cut patches.

        Parameters
        ----------
        images : ndarray of shape (n, C, H, W), float32 in [0, 1]
            Candidates.
        out : ndarray of shape (n, m, C, h, w), float32, optional
            Where patches are written.

        Returns
        -------
        ndarray of shape (n, m, C, h, w), float32 in [0, 1]
            Patches.
        """
        n, channels = images.shape[:2]
        shape = (n, len(self), channels, *self.size)
        out = np.empty(shape, dtype=np.float32) if out is None else out
        rows = np.ascontiguousarray(images, dtype=np.float32).reshape(n, channels, -1)
        at = 0
        for tile, k in self._tiles:
            for i in range(n):
                for channel in range(channels):
                    cut = (tile @ rows[i, channel]).reshape(k, *self.size)
                    # Weights sum to 1 only up to rounding.
                    np.clip(cut, 0, 1, out=out[i, at : at + k, channel])
            at += k
        return out


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
    return csr_array(
        (matrix.data.astype(np.float32), matrix.indices.astype(np.int32), matrix.indptr),
        shape=matrix.shape,
    )


def _reflected(position: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Pixel that a position in [−1, 1] falls on, reflected at the borders of n pixels."""
    # Rounded, so that a position on a pixel takes nothing of its neighbour.
    pixel = np.abs(np.round((position + 1) * n / 2, 9))
    times, rest = np.divmod(pixel, n)
    inside = np.where(times % 2 == 0, rest, n - rest) - 0.5
    return np.clip(inside, 0, n - 1)


def _stacked(matrices: Sequence[Any]) -> list[tuple[Any, int]]:
    """Matrices stacked into as few as stay in the cache, each with the number of its patches."""
    tiles: list[tuple[Any, int]] = []
    group: list[Any] = []
    for k, matrix in enumerate(matrices):
        group.append(matrix)
        full = 8 * sum(one.nnz for one in group) >= _TILE_BYTES
        if full or k == len(matrices) - 1:
            tiles.append((vstack(group, format="csr") if len(group) > 1 else group[0], len(group)))
            group = []
    return tiles
