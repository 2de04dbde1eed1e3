"""Slides in TIFF files, by tifffile: only the tiles or strips that a part needs are decoded."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._optional import load_optional
from .._warnings import silent_thread
from ..errors import DataError, MissingDependencyError
from .image_cache import ImageCache
from .slide_levels import Level, Slide

__all__ = ["TiffSlide"]

Array = NDArray[Any]

# Bytes of a strip that is decoded as a whole for any part of it.
_LARGEST = 2**30
# Whose values are not decoded to colours.
_YCBCR_OF_APERIO = (33003, 33004)
# Tags of TIFF, and units in microns. Microns per pixel beyond which a resolution is that of a
# screen, 72 per inch, which programs write that know none.
_X_RESOLUTION, _RESOLUTION_UNIT, _MICRONS = 282, 296, {2: 25400.0, 3: 10000.0}
_COARSEST = 50.0
_OF_OME = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}
_OF_JPEG = (6, 7, 34892, 33007)


class _Plane(NamedTuple):
    """Where the values of a level lie: all channels together, or one of them.

    Attributes
    ----------
    offsets, counts : sequence of int
        Of its tiles or strips in the file.
    first : int
        Number of the first of them in its page.
    start : int
        Where its values begin in the file, if they are not compressed and follow each other.
    options : dict
        What the decoder is told.
    """

    offsets: Sequence[int]
    counts: Sequence[int]
    first: int
    start: int
    options: dict[str, Any]


class TiffSlide(Slide):
    """A TIFF file with or without a pyramid, of one plane in colour or of one or more channels.

    Parameters
    ----------
    path : Path
        The file.
    cache : ImageCache
        Of decoded tiles and strips; several slides may share it.
    number : int
        Which slide of those.

    Attributes
    ----------
    missing : MissingDependencyError or None
        What is needed to decode it.

    Raises
    ------
    DataError
        If it does not hold a single plane.
    """

    def __init__(self, path: Path, cache: ImageCache[Array], number: int) -> None:
        tifffile = load_optional("tifffile", purpose=f"reading {path.name}")
        self._cache, self._number = cache, number
        self._lock, self._one_strip = threading.Lock(), threading.Lock()
        with silent_thread():
            self._tiff = tifffile.TiffFile(path)
            # With the last that reads it.
            weakref.finalize(self, self._tiff.close)
            # Of a scanner's label and of other pictures beside the slide, none is larger.
            series = max(self._tiff.series, key=lambda one: math.prod(one.keyframe.shaped[1:4]))
            self._keyframes = [one.keyframe for one in series.levels]
            self._refuse_others(series)
            page = self._keyframes[0]
            self._separate = page.planarconfig == 2 or "C" in series.axes
            self.colour = page.photometric.name in ("RGB", "YCBCR") and page.samplesperpixel >= 3
            n = len(series.pages) if "C" in series.axes else page.samplesperpixel
            # Behind colours there is transparency.
            self.n_channels = 3 if self.colour else n
            self.dtype = np.dtype(page.dtype).newbyteorder("=")
            self.levels = tuple(self._level(one) for one in self._keyframes)
            self._planes = [self._planes_of(one) for one in series.levels]
            self.mpp = _microns_per_pixel(self._tiff, page)
            self.missing = _missing_codec(path, page)

    def read(
        self, level: int, x: int, y: int, width: int, height: int, channels: Sequence[int]
    ) -> Array:
        """Read a part of a level; see `Slide`."""
        box = (x, y, width, height)
        if not self._separate:
            values = self._read_plane(level, 0, box)
            every = list(channels) == list(range(values.shape[2]))
            return values if every else values[:, :, list(channels)]
        return np.concatenate([self._read_plane(level, c, box) for c in channels], axis=2)

    def _read_plane(self, level: int, plane: int, box: tuple[int, int, int, int]) -> Array:
        page, (x, y, width, height) = self._keyframes[level], box
        samples = 1 if self._separate else page.samplesperpixel
        out = np.empty((height, width, samples), dtype=self.dtype)
        if page.is_final:
            self._read_rows(level, plane, x, y, out)
            return out
        rows, columns = self.levels[level].chunk
        for row in range(y // rows, (y + height - 1) // rows + 1):
            for column in range(x // columns, (x + width - 1) // columns + 1):
                top, left = row * rows, column * columns
                part = self._segment(level, plane, row, column)
                high, low = max(y, top), min(y + height, top + part.shape[0])
                near, far = max(x, left), min(x + width, left + part.shape[1])
                out[high - y : low - y, near - x : far - x] = part[
                    high - top : low - top, near - left : far - left
                ]
        return out

    def _read_rows(self, level: int, plane: int, x: int, y: int, out: Array) -> None:
        """Read values that are not compressed: of wide rows no more than is asked for."""
        height, width, samples = out.shape
        stored = self.dtype.newbyteorder(self._tiff.byteorder)
        pixel = samples * stored.itemsize
        start, step = self._planes[level][plane].start, self.levels[level].width * pixel
        whole = width * pixel == step
        at_once = height if whole else 1
        for row in range(0, height, at_once):
            data = self._bytes(start + (y + row) * step + x * pixel, at_once * width * pixel)
            out[row : row + at_once] = np.frombuffer(data, stored).reshape(-1, width, samples)

    def _segment(self, level: int, plane: int, row: int, column: int) -> Array:
        """Decode a tile or a strip (h, w, samples), or return what was decoded before."""
        size, first = self.levels[level], self._planes[level][plane].first
        index = first + row * -(-size.width // size.chunk[1]) + column
        # Tiles of a pool side by side want the same strips at the same time.
        is_strip = size.chunk[1] >= size.width
        with self._one_strip if is_strip else contextlib.nullcontext():
            key = (self._number, level, plane, index)
            self._cache.ask_for([key])
            segment = self._cache.get(key)
            if segment is None:
                segment = self._decode(level, plane, index)
                self._cache.keep(key, segment)
        return segment

    def _decode(self, level: int, plane: int, index: int) -> Array:
        page, where = self._keyframes[level], self._planes[level][plane]
        count = where.counts[index]
        # None where nothing was stored, such as glass.
        data = self._bytes(where.offsets[index], count) if count else None
        values, _, (_, height, width, samples) = page.decode(data, index, **where.options)
        if values is None:
            return np.full((height, width, samples), page.nodata, dtype=self.dtype)
        return np.asarray(values[0])

    def _bytes(self, offset: int, count: int) -> bytes:
        file = self._tiff.filehandle
        with self._lock:
            file.seek(offset)
            data: bytes = file.read(count)
        if len(data) < count:
            raise DataError("the file is cut short")
        return data

    def _refuse_others(self, series: Any) -> None:
        page = series.keyframe
        if series.is_multifile:
            raise DataError("a slide that is spread over several files")
        others = series.axes.replace("Y", "").replace("X", "")
        if not {"Y", "X"} <= set(series.axes) or others not in ("", "S", "C") or page.is_volumetric:
            raise DataError(
                f"axes {series.axes} of lengths {series.shape}; expected one plane, in colour or "
                "of some channels. Stacks in depth or time are not read"
            )
        if others == "C" and (len(series.pages) != series.shape[0] or None in series.pages):
            raise DataError(f"{series.shape[0]} channels, and {len(series.pages)} pages for them")
        if page.photometric.name not in ("MINISBLACK", "RGB", "YCBCR"):
            raise DataError(f"colours of kind {page.photometric.name}; expected RGB or grey")
        kind = np.dtype(page.dtype or "V").kind
        if kind not in "uif" or page.dtype == np.int8 or page.bitspersample < 8:
            raise DataError(f"values of {page.bitspersample} bits, {page.dtype}")
        for one in self._keyframes:
            if not one.is_final and math.prod(one.chunks) * one.dtype.itemsize > _LARGEST:
                raise DataError(
                    f"stored in strips of {one.chunks[1]} x {one.chunks[0]} pixels, of which no "
                    "part can be read without the rest; store it in tiles first"
                )

    def _level(self, page: Any) -> Level:
        height, width = page.imagelength, page.imagewidth
        whole = self._keyframes[0]
        downsample = (whole.imagewidth / width + whole.imagelength / height) / 2
        if page.is_final:
            chunk = (1, 1)
        elif page.is_tiled:
            chunk = (page.tilelength, page.tilewidth)
        else:
            chunk = (min(page.rowsperstrip, height), width)
        return Level(width, height, downsample, chunk)

    def _planes_of(self, series: Any) -> list[_Plane]:
        """Planes of a level."""
        page = series.keyframe
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            n_each = len(page.dataoffsets) // page.samplesperpixel
            size = page.imagelength * page.imagewidth * page.dtype.itemsize
            firsts = [(page, k * n_each, k * size) for k in range(page.samplesperpixel)]
        else:
            firsts = [(each, 0, 0) for each in series.pages]
        planes = []
        for each, first, behind in firsts:
            options = {"_fullsize": page.is_tiled}
            if page.compression in _OF_JPEG:
                options |= {"jpegtables": each.jpegtables, "jpegheader": page.jpegheader}
            start = (each.dataoffsets[0] if each.dataoffsets else 0) + behind
            planes.append(_Plane(each.dataoffsets, each.databytecounts, first, start, options))
        return planes


def _missing_codec(path: Path, page: Any) -> MissingDependencyError | None:
    """What tifffile needs to decode a page, which it tells by an error."""
    said = "Aperio's YCbCr" if page.compression in _YCBCR_OF_APERIO else ""
    try:
        page.decode(None, 0)
    except (ValueError, NotImplementedError) as error:
        said = str(error)
        if "imagecodecs" not in said:
            raise DataError(said) from error
    if not said:
        return None
    package = "openslide-python" if page.compression in _YCBCR_OF_APERIO else "imagecodecs"
    kind = page.compression.name
    return MissingDependencyError(package, extra="slides", purpose=f"reading {path.name} ({kind})")


def _microns_per_pixel(tiff: Any, page: Any) -> float | None:
    """Return what the scanner's description says, that of OME, or else the resolution."""
    aperio = re.search(r"\bMPP\s*=\s*([0-9.]+)", page.description or "") if tiff.is_svs else None
    if aperio:
        return _plausible(aperio[1])
    if tiff.is_ome:
        # By its words: a document from elsewhere is not to be expanded.
        size = re.search(r'\bPhysicalSizeX="([^"]+)"', tiff.ome_metadata)
        unit = re.search(r'\bPhysicalSizeXUnit="([^"]+)"', tiff.ome_metadata)
        micron = _OF_OME.get(unit[1] if unit else "µm")
        return _plausible(size[1], micron) if size and micron else None
    resolution, unit_tag = page.tags.get(_X_RESOLUTION), page.tags.get(_RESOLUTION_UNIT)
    # Inches, where no unit is written.
    unit_micron = _MICRONS.get(int(unit_tag.value) if unit_tag else 2)
    if resolution is None or unit_micron is None or not resolution.value[0]:
        return None
    return _plausible(resolution.value[1] / resolution.value[0], unit_micron)


def _plausible(size: Any, micron: float = 1.0) -> float | None:
    try:
        size = float(size) * micron
    except ValueError:
        return None
    return size if 0 < size <= _COARSEST else None
