"""Slides in scanners' own formats, by OpenSlide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._optional import load_optional
from ..errors import DataError
from .slide_levels import Level, Slide

__all__ = ["VendorSlide"]

Array = NDArray[Any]

_TILE = 256


class VendorSlide(Slide):
    """A slide of a format that OpenSlide knows, in colour.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    MissingDependencyError
        If OpenSlide is not installed.
    DataError
        If OpenSlide does not know the format.
    """

    def __init__(self, path: Path) -> None:
        self._path, purpose = path, f"reading {path.name}"
        self._openslide = load_optional(
            "openslide", purpose=purpose, extra="slides", package="openslide-python"
        )
        try:
            self._handle = self._openslide.OpenSlide(path)
        except self._openslide.OpenSlideUnsupportedFormatError as error:
            raise DataError("no slide of a format that OpenSlide reads") from error
        properties = self._handle.properties
        sizes = zip(self._handle.level_dimensions, self._handle.level_downsamples, strict=True)
        self.levels = tuple(
            Level(width, height, scale, (_TILE, _TILE)) for (width, height), scale in sizes
        )
        self.n_channels, self.dtype, self.colour = 3, np.dtype(np.uint8), True
        self.mpp = float(properties.get("openslide.mpp-x", 0)) or None
        self._background = f"#{properties.get('openslide.background-color', 'ffffff')}"

    def read(
        self, level: int, x: int, y: int, width: int, height: int, channels: Sequence[int]
    ) -> Array:
        """Read a part of a level; see `Slide`."""
        from PIL import Image

        scale = self.levels[level].downsample
        where = (round(x * scale), round(y * scale)), level, (width, height)
        try:
            region = self._handle.read_region(*where)
        except self._openslide.OpenSlideError:
            # After an error a handle gives nothing more, of sound places either.
            self._handle = self._openslide.OpenSlide(self._path)
            with self._openslide.OpenSlide(self._path) as fresh:
                region = fresh.read_region(*where)
        # Nothing was scanned where it is transparent.
        plain = Image.new("RGB", region.size, self._background)
        plain.paste(region, None, region)
        return np.asarray(plain)[:, :, list(channels)]
