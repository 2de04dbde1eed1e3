"""Stained tissue that comes with scikit-image: a pool that works offline.

Letters: n candidates of C channels, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ParameterError
from ._skimage import skimage_for
from .datasets import Dataset

__all__ = ["load_tissue", "tissue_points"]

Ints = NDArray[np.intp]

# All in pixels of the 512 by 512 image. Nuclei are 8 to 12 wide and up to 30 long.
_FIELD = 32
_BLOCK = 64
# Of what is boxed as a nucleus, whose square is half as wide again.
_RADIUS = 11
_TEST_ROWS_BELOW, _TEST_COLUMNS_FROM = 320, 256
# Stays within the narrow nuclei: the membrane beside them carries most of the DAB.
_DISC_RADIUS = 3


@dataclass(frozen=True, eq=False)
class _Nuclei:
    """Table of the nuclei in reading order, arrays of shape (n_nuclei,)."""

    row: Ints
    column: Ints
    positive: NDArray[np.bool_]
    in_pool: NDArray[np.bool_]
    in_test: NDArray[np.bool_]


def load_tissue(size: int = 32) -> Dataset:
    """Cell nuclei in stained human colon: is the nucleus DAB-positive? Works offline.

    The image is scikit-image's ``immunohistochemistry`` (512 by 512 pixels; FHL2 protein brown
    with DAB, nuclei blue with haematoxylin). A candidate is one detected nucleus in the middle of
    a field of 32 by 32 pixels, which also shows its neighbours; the image is reflected where the
    field leaves it. **The labels are computed, not given by an expert**: colour deconvolution
    [1]_ measures DAB in a disc of radius 3 pixels on the nucleus, and Otsu's threshold over all
    nuclei splits them. Nuclei in unstained stroma are easy negatives; in stained glands the
    cytoplasm is brown around either class, and only the nucleus itself decides.

    The test set is the upper right of the image (rows below 320, columns from 256). Nuclei whose
    field crosses its border are left out, so pool and test share no pixel. Groups are the blocks
    of a grid of 64 pixels; fields of neighbouring blocks of one side overlap. Candidates are in
    reading order. Everything is deterministic.

    Parameters
    ----------
    size : int, default=32
        Height and width in pixels to which a field is resized, at least 16. At 32 the pixels are
        those of the image; a larger value costs time and memory and shows no more.

    Returns
    -------
    Dataset
        342 candidates in the pool and 145 in the test set, RGB, with the labels "DAB-negative"
        and "DAB-positive".

    Raises
    ------
    ParameterError
        If ``size`` is not a whole number from 16 on.
    MissingDependencyError
        If scikit-image is not installed.

    References
    ----------
    .. [1] Ruifrok and Johnston, Quantification of histochemical staining by color
       deconvolution, Analytical and Quantitative Cytology and Histology 23:291-299, 2001.

    Examples
    --------
    >>> tissue = load_tissue()
    >>> tissue
    Dataset 'tissue', candidates of shape (3, 32, 32)
      pool  342: 186 DAB-negative (54%), 156 DAB-positive (46%)
      test  145: 80 DAB-negative (55%), 65 DAB-positive (45%)
    >>> len(set(tissue.groups)), len(set(tissue.groups_test))
    (42, 20)
    """
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if not whole or size < 16:
        raise ParameterError(
            f"size={size!r}; expected a whole number of pixels from 16 on. "
            "Leave it out for the pixels of the image as they are."
        )
    image = skimage_for("load_tissue()").data.immunohistochemistry()
    nuclei = _find_nuclei(image)
    X = _crop(image, nuclei.row, nuclei.column, int(size))
    y = np.array(_names(nuclei.positive))
    blocks = zip(nuclei.row // _BLOCK, nuclei.column // _BLOCK, strict=True)
    groups = np.array([f"row {row} column {column}" for row, column in blocks])
    pool, test = nuclei.in_pool, nuclei.in_test
    return Dataset(
        name="tissue",
        X=X[pool],
        y=y[pool],
        X_test=X[test],
        y_test=y[test],
        groups=groups[pool],
        groups_test=groups[test],
        description=(
            f"{len(y)} nuclei found by a detector in one immunohistochemistry image of human colon "
            f"glands, {pool.sum()} in the pool and {test.sum()} in the test set; "
            f"{len(y) - pool.sum() - test.sum()} whose field crosses the border between the two "
            "regions are left out. The label says whether the nucleus is stained by DAB. It was "
            "computed by colour deconvolution and Otsu's threshold, not given by an expert. By eye "
            "about one candidate in seven, most of them DAB-positive, lies beside a nucleus; a "
            "long nucleus can be met twice."
        ),
        source=(
            "skimage.data.immunohistochemistry(), shipped with scikit-image; acquired at the "
            "Center for Microscopy And Molecular Imaging (CMMI)"
        ),
        licence="no known copyright restrictions (as stated by scikit-image)",
    )


def tissue_points() -> tuple[NDArray[np.uint8], dict[str, list[Any]], list[str]]:
    """Cell nuclei in stained human colon as points in their image, as `BoxedImages` takes them.

    Returns
    -------
    image : ndarray of uint8, shape (H, W, 3)
        The whole image.
    points : dict of str to list
        Columns x, y, radius, id and group, of every nucleus that was found.
    labels : list of str
        As of `load_tissue`.

    Examples
    --------
    >>> image, points, labels = tissue_points()
    >>> image.shape, points["id"][:2], labels[:2]
    ((512, 512, 3), ['nucleus-001', 'nucleus-002'], ['DAB-positive', 'DAB-positive'])
    """
    image = skimage_for("tissue_points()").data.immunohistochemistry()
    nuclei = _find_nuclei(image)
    n = len(nuclei.row)
    columns: dict[str, list[Any]] = {
        "x": nuclei.column.tolist(),
        "y": nuclei.row.tolist(),
        "radius": [_RADIUS] * n,
        "id": [f"nucleus-{k + 1:03d}" for k in range(n)],
        "group": [
            f"row {row} column {column}"
            for row, column in zip(nuclei.row // _BLOCK, nuclei.column // _BLOCK, strict=True)
        ],
    }
    return image, columns, _names(nuclei.positive)


def _names(positive: NDArray[np.bool_]) -> list[str]:
    return ["DAB-positive" if each else "DAB-negative" for each in positive]


def _find_nuclei(image: NDArray[np.uint8]) -> _Nuclei:
    """Detect, label and assign to a side the nuclei of the image (H, W, 3)."""
    skimage = skimage_for("load_tissue()")
    # rgb2hed takes a channel at 0 as 1e-6, more than twice the optical density of 1 in 255.
    stains = skimage.color.rgb2hed(np.maximum(image, 1))
    smooth = ndimage.gaussian_filter(stains, (1, 1, 0))
    # The share of haematoxylin tells nuclei from brown cytoplasm, which takes up haematoxylin
    # too; the constant exceeds the stain of pale stroma, whose noise would be found otherwise.
    share = smooth[..., 0] / (smooth[..., 0] + smooth[..., 2] + 0.05)
    blobs = -(2.5**2) * ndimage.gaussian_laplace(share, 2.5)
    # The edge of the image cuts through nuclei centred closer to it than their radius.
    centres = skimage.feature.peak_local_max(
        blobs, min_distance=5, threshold_abs=0.025, exclude_border=4
    )
    row, column = centres[np.lexsort((centres[:, 1], centres[:, 0]))].T
    haematoxylin = ndimage.gaussian_filter(stains[..., 0], 2)
    stained = (haematoxylin[row, column] > 0.022) & (share[row, column] > 0.18)
    row, column = row[stained], column[stained]

    disc = skimage.morphology.disk(_DISC_RADIUS, dtype=float)
    on_nucleus = ndimage.convolve(stains[..., 2], disc / disc.sum(), mode="mirror")[row, column]
    half = _FIELD // 2
    return _Nuclei(
        row=row,
        column=column,
        positive=on_nucleus > skimage.filters.threshold_otsu(on_nucleus),
        in_pool=(row - half >= _TEST_ROWS_BELOW) | (column + half <= _TEST_COLUMNS_FROM),
        in_test=(row + half <= _TEST_ROWS_BELOW) & (column - half >= _TEST_COLUMNS_FROM),
    )


def _crop(image: NDArray[np.uint8], row: Ints, column: Ints, size: int) -> NDArray[np.uint8]:
    """Cut fields [r − 16, r + 16) by [c − 16, c + 16) and resize them, (n, 3, size, size)."""
    half = _FIELD // 2
    padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_FIELD, _FIELD), axis=(0, 1))
    fields = windows[row, column]
    if size != _FIELD:
        shape = (*fields.shape[:2], size, size)
        smooth = skimage_for("load_tissue()").transform.resize(
            fields, shape, order=1, preserve_range=True, anti_aliasing=True
        )
        fields = np.rint(smooth).astype(np.uint8)
    return np.ascontiguousarray(fields)
