"""Slide files → open slides, a few of which stay open."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..errors import DataError, MissingDependencyError
from .folder_contents import count_kinds, files_below
from .image_cache import ImageCache
from .image_headers import printable
from .slide_levels import Slide
from .slide_tiff import TiffSlide
from .slide_vendor import VendorSlide

__all__ = [
    "SLIDE_SUFFIXES",
    "VENDOR_SUFFIXES",
    "OpenSlides",
    "SlideList",
    "list_slides",
    "open_slide",
]

Array = NDArray[Any]

_TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".svs")
_OF_OPENSLIDE = (".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".czi")
VENDOR_SUFFIXES = (".svs", *_OF_OPENSLIDE)
"""File names that are taken for slides and not for images, in lower case."""
SLIDE_SUFFIXES = (*_TIFF_SUFFIXES, *_OF_OPENSLIDE)
"""File names that are taken for slides."""

# Slides that stay open, and bytes of their decoded tiles and strips that are kept.
_OPEN, _KEPT = 16, 128 * 2**20


class SlideList(NamedTuple):
    """Slides that were found.

    Attributes
    ----------
    paths : list of Path
        The files, in order.
    names : list of str
        What each is called: its path relative to the folder.
    notes : list of str
        What else lies there.
    unlisted : dict of str to str
        Folders that cannot be listed, and why.
    """

    paths: list[Path]
    names: list[str]
    notes: list[str]
    unlisted: dict[str, str]


def list_slides(path: Path, *, strict: bool = False) -> SlideList:
    """List slides in a folder and below, or the one that there is.

    Parameters
    ----------
    path : Path
        A slide, whatever its name, or a folder.
    strict : bool, default=False
        Raise at the first folder that cannot be listed.

    Raises
    ------
    DataError
        If there is no such file or folder.
    """
    if path.is_file():
        return SlideList([path], [printable(path.name)], [], {})
    if not path.is_dir():
        raise DataError(f"there is no slide or folder {path}.")
    unlisted: dict[str, str] = {}

    def note(error: OSError) -> None:
        if strict:
            raise DataError(f"{error.filename} cannot be listed: {error.strerror}.") from error
        name = Path(os.path.relpath(error.filename, path)).as_posix()
        unlisted[printable(name) + "/"] = f"a folder: {error.strerror}"

    slides: list[Path] = []
    others: list[Path] = []
    for file in sorted(files_below(path, note)):
        (slides if file.suffix.lower() in SLIDE_SUFFIXES else others).append(file)
    # Of MIRAX the pixels lie in a folder that is called as the slide.
    parts = {slide.with_suffix("") for slide in slides if slide.suffix.lower() == ".mrxs"}
    others = [file for file in others if file.parent not in parts]
    names = [printable(slide.relative_to(path).as_posix()) for slide in slides]
    notes = [f"files left out, no slides: {count_kinds(others)}"] if others else []
    return SlideList(slides, names, notes, unlisted)


def open_slide(path: Path, cache: ImageCache[Array], number: int) -> Slide:
    """Open a slide: TIFF by tifffile, and by OpenSlide what tifffile cannot decode.

    Parameters
    ----------
    path : Path
        The file.
    cache : ImageCache
        Of decoded tiles and strips.
    number : int
        Which slide of those that share the cache.

    Returns
    -------
    Slide
        Closed with the last that refers to it.

    Raises
    ------
    MissingDependencyError
        If a library that reads it is not installed.
    DataError
        If it is damaged, or no slide.
    """
    if not path.stat().st_size:
        raise DataError("an empty file")
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        return VendorSlide(path)
    slide = TiffSlide(path, cache, number)
    if slide.missing is None:
        return slide
    try:
        other = VendorSlide(path)
    except (DataError, MissingDependencyError):
        raise slide.missing from None
    # OpenSlide does not see every pyramid.
    if len(other.levels) < len(slide.levels):
        raise slide.missing
    return other


class OpenSlides:
    """Slides by number; those that were asked for last stay open. Several threads may use it.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._open: dict[int, Slide] = {}
        self._cache: ImageCache[Array] = ImageCache(_KEPT)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """In other processes they are opened anew."""
        return OpenSlides, (self.paths,)

    def __getitem__(self, number: int) -> Slide:
        """Return a slide, open; whoever has it can read it, however many are opened meanwhile."""
        with self._lock:
            slide = self._open.pop(number, None)
            if slide is None:
                slide = open_slide(self.paths[number], self._cache, number)
            self._open[number] = slide
            while len(self._open) > _OPEN:
                self._open.pop(next(iter(self._open)))
        return slide
