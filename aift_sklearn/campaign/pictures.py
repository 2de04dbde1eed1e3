"""Candidates as pictures that a browser shows."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..pools.decoding import as_picture

__all__ = ["to_bytes_image", "to_png"]

Bytes = NDArray[np.uint8]


def to_bytes_image(image: NDArray[Any]) -> Bytes:
    """Return a candidate as bytes: floats in [0, 1] become 0 to 255.

    Parameters
    ----------
    image : ndarray of shape (C, H, W)
        Of uint8, or of floats.

    Raises
    ------
    DataError
        If it is no image of 1 or 3 channels.

    Examples
    --------
    >>> to_bytes_image(np.array([[[0.0, 0.5, 1.0]]])).tolist()
    [[[0, 128, 255]]]
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise DataError(
            f"a candidate of shape {image.shape}; expected an image (C, H, W) of 1 or 3 channels, "
            "which people can look at."
        )
    if image.dtype == np.uint8:
        return image
    return np.asarray(np.clip(np.rint(image * 255.0), 0, 255), dtype=np.uint8)


def to_png(image: NDArray[Any]) -> bytes:
    """Encode a candidate (C, H, W) as a PNG file.

    Examples
    --------
    >>> to_png(np.zeros((1, 4, 4), dtype=np.uint8))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    as_picture(to_bytes_image(image)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
