"""Three orthogonal slices through a point of a volume, scaled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLANES", "SliceRegion", "find_regions", "join_slices"]

Array = NDArray[Any]

PLANES = ((0, 1), (0, 2), (1, 2))
"""Axes of the axial, coronal and sagittal plane, where axes run right, anterior, superior."""


class SliceRegion(NamedTuple):
    """What of a volume one slice needs.

    Attributes
    ----------
    box : tuple of slice
        The voxels: one or two along the axis that the slice stands on.
    weights : tuple of ndarray
        For each axis, of the voxels (columns) in each pixel (row).
    """

    box: tuple[slice, ...]
    weights: tuple[Array, ...]


def find_regions(
    point: Array, shape: tuple[int, ...], steps: Array, size: int
) -> list[SliceRegion]:
    """Find the voxels of three slices through a point, and what each weighs in which pixel.

    Between voxels values are interpolated linearly; where pixels are larger than voxels, each is a
    mean of those around it, so that nothing is skipped.

    Parameters
    ----------
    point : ndarray of shape (3,)
        In voxels; the middle of the first is 0.
    shape : tuple of int
        Of the volume.
    steps : ndarray of shape (3,)
        Voxels from one pixel to the next, along each axis.
    size : int
        Height and width in pixels.

    Returns
    -------
    list of SliceRegion
        Axial, coronal, sagittal.

    Examples
    --------
    >>> regions = find_regions(np.array([5.0, 5, 1]), (9, 9, 3), np.ones(3), 4)
    >>> [[(s.start, s.stop) for s in region.box] for region in regions]
    [[(3, 8), (3, 8), (1, 2)], [(3, 8), (5, 6), (0, 3)], [(5, 6), (3, 8), (0, 3)]]
    """
    pixels = np.arange(size) - (size - 1) / 2
    within = [_weights(point[k] + steps[k] * pixels, shape[k], steps[k]) for k in range(3)]
    # Half of a voxel at the border lies beyond its middle, where nothing is to mix with.
    across = [_weights(np.clip(point[k : k + 1], 0, shape[k] - 1), shape[k], 0) for k in range(3)]
    chosen = [[within[k] if k in plane else across[k] for k in range(3)] for plane in PLANES]
    return [SliceRegion(*map(tuple, zip(*axes, strict=True))) for axes in chosen]


def join_slices(regions: list[SliceRegion], blocks: list[Array], outside: float) -> Array:
    """Make the slices of a point from the voxels that they need.

    Parameters
    ----------
    regions : list of SliceRegion
        As `find_regions` returns them.
    blocks : list of ndarray
        The voxels of each.
    outside : float
        Value beyond the border of the volume.

    Returns
    -------
    ndarray of float32, shape (3, size, size)
        The first voxels of both axes of a slice come last: superior or anterior is up, and the
        patient's right, or anterior, is left.

    Examples
    --------
    >>> regions = find_regions(np.array([1.5, 1.5, 1]), (4, 4, 3), np.ones(3), 4)
    >>> volume = np.arange(48.0).reshape(4, 4, 3)
    >>> join_slices(regions, [volume[region.box] for region in regions], 0)[0].tolist()
    [[46.0, 34.0, 22.0, 10.0], [43.0, 31.0, 19.0, 7.0], [40.0, 28.0, 16.0, 4.0],
     [37.0, 25.0, 13.0, 1.0]]
    """
    made = []
    for (first, second), region, block in zip(PLANES, regions, blocks, strict=True):
        across = 3 - first - second
        # What is left out of the weights at the border is zero, and then becomes ``outside``.
        values = np.moveaxis(block, across, -1).astype(np.float64) - outside
        plane = values @ region.weights[across][0]
        down, right = region.weights[second][::-1], region.weights[first][::-1]
        made.append(down @ plane.T @ right.T + outside)
    return np.stack(made).astype(np.float32)


def _weights(at: Array, n: int, step: float) -> tuple[slice, Array]:
    """Voxels of an axis of length n that places on it need, and the weight of each (k, voxels)."""
    reach = max(1.0, float(step))
    first = int(np.ceil(at[0] - reach))
    voxels = np.arange(first, int(np.floor(at[-1] + reach)) + 1)
    weights = np.maximum(0, 1 - np.abs(voxels - at[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    used = (voxels >= 0) & (voxels < n) & weights.any(axis=0)
    weights, voxels = weights[:, used], voxels[used]
    return slice(int(voxels[0]), int(voxels[-1]) + 1), weights
