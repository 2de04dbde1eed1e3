"""Image files → uint8 arrays of one shape, each scaled as it is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int
from ..errors import DataError
from ..pools.decoding import decode, refuse_several_sizes
from ..pools.image_headers import (
    ImageHeader,
    count_images,
    describe_left_out,
    printable,
    read_header,
    refuse_deep,
    why_unreadable,
)
from ..progress import track

__all__ = ["ImageFiles", "read_images"]

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

# More files than this are counted, not listed.
_LISTED = 5


def read_images(
    paths: Sequence[Path], *, size: int | None = None, verbose: int = 0
) -> NDArray[np.uint8]:
    """Read image files into one array.

    Parameters
    ----------
    paths : sequence of Path
        Image files; all of one shape, unless ``size`` is given.
    size : int, optional
        Height and width in pixels: the middle square of each image is scaled to it, by averaging
        where that makes it smaller.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    ndarray of uint8, shape (n, C, H, W)
        C is 1 where every image is grey, else 3. Transparency is dropped, of several pages the
        first is read, and a photograph is turned as its EXIF data says.

    Raises
    ------
    DataError
        If files are missing, damaged or truncated (all are named), or differ in shape.
    DataTypeError
        If an image has more than 8 bits per channel.
    """
    return ImageFiles(paths, size=size, verbose=verbose)[np.arange(len(paths))]


class ImageFiles:
    """Image files of which those are read that are asked for, `ImageSource` of `split_dataset`.

    Images are scaled as they are read, so that memory holds no more than the result and one image.

    Parameters
    ----------
    paths : sequence of Path
        Image files.
    size, verbose
        As of `read_images`.
    names : sequence of str, optional
        What messages call each file; by default its path.

    Attributes
    ----------
    notes : list of str
        What was left out of the images read so far.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        names: Sequence[str] | None = None,
        size: int | None = None,
        verbose: int = 0,
    ) -> None:
        if size is not None:
            check_int("size", size, minimum=4)
        self.paths, self.size, self.verbose = paths, size, verbose
        self.names = [printable(path) for path in paths] if names is None else list(names)
        self.notes: list[str] = []

    def __len__(self) -> int:
        """Number of files, n."""
        return len(self.paths)

    def __getitem__(self, rows: NDArray[np.intp]) -> Bytes:
        """Read the images of these rows, as of `read_images`."""
        if not len(rows):
            raise DataError("no image files; expected at least one.")
        headers, broken = self._headers([int(row) for row in rows])
        grey = all(header.grey for header in headers.values())
        # The rest is decoded in spite of broken files, so that all can be mended in one go.
        images: Bytes | None = None
        sizes, transparent = set(), []
        readable = list(headers)
        for k, row in enumerate(track(readable, "reading images", enabled=bool(self.verbose))):
            try:
                pixels, see_through = decode(self.paths[row], grey=grey, size=self.size)
            except MemoryError:
                raise
            except Exception as error:  # Pillow raises whatever its decoders do
                broken.append((row, why_unreadable(self.paths[row], error)))
                continue
            sizes.add(pixels.shape[:0:-1])
            if see_through:
                transparent.append(row)
            if images is None:
                images = np.empty((len(readable), *pixels.shape), dtype=np.uint8)
            if pixels.shape == images.shape[1:]:
                images[k] = pixels
        self._refuse_broken(broken)
        refuse_several_sizes(sizes)
        self._note(headers, transparent)
        return np.asarray(images)

    def refuse_missing(self) -> None:
        """Refuse files that are not there, whether they would be drawn or not."""
        self._refuse_broken(self._missing())

    def _missing(self) -> list[tuple[int, str]]:
        return [
            (row, why_unreadable(path, FileNotFoundError()))
            for row, path in enumerate(self.paths)
            if not os.path.exists(path)
        ]

    def _headers(self, rows: list[int]) -> tuple[dict[int, ImageHeader], list[tuple[int, str]]]:
        """Headers of the files asked for, and why others cannot be read."""
        headers: dict[int, ImageHeader] = {}
        broken = self._missing()
        for row in set(rows) - {row for row, _ in broken}:
            try:
                headers[row] = read_header(self.paths[row])
            except Exception as error:
                broken.append((row, why_unreadable(self.paths[row], error)))
        headers = {row: headers[row] for row in rows if row in headers}
        refuse_deep([self.names[row] for row in headers], [h.depth for h in headers.values()])
        if self.size is None and not broken:
            # Where EXIF data comes last in a file, width and height may still change places.
            lying = {tuple(sorted(header.size)) for header in headers.values()}
            if len(lying) > 1:
                refuse_several_sizes({header.size for header in headers.values()})
        return headers, broken

    def _refuse_broken(self, broken: list[tuple[int, str]]) -> None:
        if not broken:
            return
        listed = ", ".join(f"{self.names[row]} ({why})" for row, why in sorted(broken)[:_LISTED])
        more = f" and {len(broken) - _LISTED} more" if len(broken) > _LISTED else ""
        raise DataError(
            f"{len(broken)} of {len(self)} images cannot be read: {listed}{more}. "
            "Replace them, or remove them from the data."
        )

    def _note(self, headers: dict[int, ImageHeader], transparent: list[int]) -> None:
        names = [self.names[row] for row in headers]
        self.notes += describe_left_out(names, list(headers.values()))
        if transparent:
            names = [self.names[row] for row in transparent]
            self.notes.append(count_images(names, "transparency, which is dropped"))
