"""Many candidates in one picture, for people who would rather look than read."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._writing import as_path, write_atomically
from ..errors import DataError

__all__ = ["contact_sheet"]

# Pixels: side of a picture, height of the text below it, and what lies between.
_SIDE, _TEXT, _GAP = 128, 16, 8
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def contact_sheet(
    images: NDArray[Any],
    captions: Sequence[str],
    path: str | os.PathLike[str],
    *,
    columns: int = 8,
) -> Path:
    """Draw candidates side by side, each with its name below it, and write a PNG file.

    Parameters
    ----------
    images : ndarray of shape (k, C, H, W)
        uint8 in [0, 255] or float in [0, 1]; of more than three channels the first three are shown,
        of two their mean.
    captions : sequence of str
        What stands below each; long ones are shortened in the middle.
    path : path-like
        File to write.
    columns : int, default=8
        Pictures in a row.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If there are no images.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not len(images):
        raise DataError("a contact sheet of no images; expected at least one.")
    columns = min(columns, len(images))
    n_rows = -(-len(images) // columns)
    size = (
        columns * (_SIDE + _GAP) + _GAP,
        n_rows * (_SIDE + _TEXT + _GAP) + _GAP,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for k, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = _GAP + k % columns * (_SIDE + _GAP)
        y = _GAP + k // columns * (_SIDE + _TEXT + _GAP)
        shown = Image.fromarray(_as_colour(image))
        scale = _SIDE / max(shown.size)
        fitted = shown.resize(
            (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
        )
        sheet.paste(fitted, (x + (_SIDE - fitted.width) // 2, y + (_SIDE - fitted.height) // 2))
        draw.text((x, y + _SIDE + 1), _shortened(caption, draw, font), fill=_INK, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return write_atomically(as_path(path), buffer.getvalue())


def _as_colour(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype.kind == "f":
        image = np.clip(image, 0, 1) * 255
    colour = image[:3] if len(image) > 2 else np.repeat(image.mean(axis=0)[None], 3, axis=0)
    return np.ascontiguousarray(colour.transpose(1, 2, 0)).astype(np.uint8)


def _shortened(text: str, draw: Any, font: Any) -> str:
    """Text that fits below a picture, with dots in the middle where it was too long."""
    if draw.textlength(text, font=font) <= _SIDE:
        return text
    kept = len(text)
    while kept > 2:
        kept -= 1
        short = f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"
        if draw.textlength(short, font=font) <= _SIDE:
            return short
    return text[:1]
