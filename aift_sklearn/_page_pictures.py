"""Pictures as addresses that a page holds inside itself."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["figure_uri", "thumbnail_uri"]

PICTURE_SIDE = 96  # pixels: twice what a page shows, for screens of double density
FIGURE_DPI = 170  # for screens of double density
LARGE_PNG = 4_000  # bytes, above which a thumbnail is stored as JPEG


def figure_uri(figure: Any) -> str:
    """Draw a figure of matplotlib as a PNG, to a ``data:`` address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=FIGURE_DPI)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thumbnail_uri(image: NDArray[Any]) -> str:
    """Shrink one candidate to a ``data:`` address.

    Parameters
    ----------
    image : ndarray of shape (C, H, W)
        uint8 in [0, 255] or float in [0, 1]; one or two channels are shown grey, of more than three
        the first three.

    Returns
    -------
    str
        A PNG, or a JPEG where that is much smaller.

    Examples
    --------
    >>> thumbnail_uri(np.zeros((1, 8, 8), np.uint8))[:22]
    'data:image/png;base64,'
    """
    if image.dtype.kind == "f":
        image = np.clip(image, 0, 1) * 255
    grey = len(image) < 3 or (image[:3] == image[:1]).all()
    shown = image[:3].mean(axis=0) if grey else image[:3].transpose(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(shown).astype(np.uint8))
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer, kind = io.BytesIO(), "png"
    picture.save(buffer, "PNG", optimize=True)
    if buffer.tell() > LARGE_PNG:
        buffer, kind = io.BytesIO(), "jpeg"
        # Colours at full resolution: stains are told apart by little else.
        picture.save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
