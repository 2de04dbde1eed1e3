"""A slide in one picture, with the tiles of a pool outlined, for people who would rather look."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int
from .._writing import as_path, write_atomically
from ..errors import DataTypeError, ParameterError
from .base import Pool, Subset
from .decoding import find_window, to_bytes
from .image_headers import list_some
from .slides import SlideTiles

__all__ = ["draw_slide"]

Array = NDArray[Any]

# Lines on bright and on dark slides, and how much of the colours stays outside of tiles.
_ON_BRIGHT, _ON_DARK, _STAYS = (0, 90, 50), (255, 200, 60), 0.45
# Pixels of a tile in the picture from which on its outline is two pixels wide.
_WIDE = 80


def draw_slide(
    pool: Pool,
    path: str | os.PathLike[str],
    slide: str | None = None,
    *,
    size: int = 1600,
) -> Path:
    """Draw a slide with the tiles of a pool outlined, and all else pale, and write a PNG file.

    Parameters
    ----------
    pool : Pool
        `SlideTiles`, or some of them: ``pool[mask]`` shows the tiles of the mask.
    path : path-like
        File to write.
    slide : str, optional
        Name of the slide, as in ``pool.slides``; needed where the pool has several.
    size : int, default=1600
        Longer side of the picture in pixels, at most.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataTypeError
        If the pool has no tiles of slides.
    ParameterError
        If the slide has to be named, or is not in the pool.

    Examples
    --------
    >>> import tempfile
    >>> import tifffile
    >>> folder = tempfile.mkdtemp()
    >>> tifffile.imwrite(f"{folder}/case.tif", np.eye(400, dtype=np.uint8))
    >>> pool = SlideTiles(f"{folder}/case.tif", tile=64, tissue=0)
    >>> draw_slide(pool[pool.ids == "case.tif#L0@64,64"], f"{folder}/case.png").name
    'case.png'
    """
    from PIL import Image, ImageDraw

    check_int("size", size, minimum=16)
    whole = pool.whole if isinstance(pool, Subset) else pool
    if not isinstance(whole, SlideTiles):
        raise DataTypeError(
            f"a pool of kind {type(whole).__name__}; expected SlideTiles, or some of its tiles."
        )
    rows = pool.rows if isinstance(pool, Subset) else np.arange(len(pool))
    name = _choose(np.unique(whole.slides).tolist(), whole.slides[rows], slide)
    rows = rows[whole.slides[rows] == name]
    colours, scale = _overview(whole, name, size)
    dark = float(np.median(colours)) < 128
    paper = 0 if dark else 255
    inside = np.zeros(colours.shape[:2], dtype=bool)
    # In whole pixels, ends included.
    boxes = np.column_stack(
        [whole.corners[rows], whole.corners[rows] + whole.sides[rows, None]]
    ) / scale  # fmt: skip
    boxes = np.rint(boxes).astype(int).reshape(-1, 4)
    for left, top, right, bottom in boxes:
        inside[top:bottom, left:right] = True
    pale = np.rint(paper + (colours.astype(np.float32) - paper) * _STAYS).astype(np.uint8)
    picture = Image.fromarray(np.where(inside[..., None], colours, pale))
    draw = ImageDraw.Draw(picture)
    for left, top, right, bottom in boxes.tolist():
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        draw.rectangle(
            corners,
            outline=_ON_DARK if dark else _ON_BRIGHT,
            width=2 if right - left >= _WIDE else 1,
        )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return write_atomically(as_path(path), buffer.getvalue())


def _choose(known: list[str], of_tiles: Array, slide: str | None) -> str:
    if slide is None:
        known = np.unique(of_tiles).tolist()
        if len(known) == 1:
            return str(known[0])
        raise ParameterError(
            f"the pool has tiles of {len(known)} slides: {list_some(known)}. Pass slide=, its name."
        )
    if slide not in known:
        raise ParameterError(f"slide={slide!r} is not in the pool; it has {list_some(known)}.")
    return slide


def _overview(pool: SlideTiles, name: str, size: int) -> tuple[Array, float]:
    """Colours (h, w, 3) of a slide, and pixels of level 0 in one of them."""
    values, scale = pool.overview(name, size)
    if values.dtype != np.uint8:
        # That of the tiles may be black here: what is small and bright is averaged away.
        window = find_window(lambda item: values, np.arange(1))
        values = to_bytes(np.nan_to_num(values), window)
    few = values.shape[2] < 3
    shown = values.mean(axis=2, keepdims=True).repeat(3, axis=2) if few else values[:, :, :3]
    return np.ascontiguousarray(shown).astype(np.uint8), scale
