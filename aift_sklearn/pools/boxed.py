"""Pools of boxes or points in larger images, as computer-aided detection finds them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int, check_number
from .._writing import as_path
from ..errors import DataError, ParameterError
from .annotations import Annotations, read_annotations
from .base import Pool
from .crops import Sheet, describe_unusable, sides_of_squares, usable_boxes
from .decoding import at_most, decode_windowed, window_of_files
from .image_cache import ImageCache
from .image_folder import read_headers
from .image_headers import describe_left_out, list_some, printable, why_unreadable
from .reading import Broken, Surroundings, read_by_part
from .table_columns import groups_of_rows, number_names

__all__ = ["BoxedImages"]

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Rows = NDArray[np.intp]

# Bytes of decoded images that a pool keeps, for the next slice that begins in one of them.
_KEPT = 256 * 2**20
# Side of what is seen around a candidate: as a multiple of its own, and pixels at least.
_SEEN, _SEEN_AT_LEAST = 5, 256
# A square that is so many times as wide as its image would fill the memory with mirror images.
_WIDEST = 10


class BoxedImages(Pool):
    """Boxes or points in images as a pool, uint8 (n, C, size, size): each is a candidate.

    A square around each is cut and scaled when it is asked for; candidates keep the order in which
    they are listed, and those of one image are cut together: a pass over consecutive candidates
    decodes each image once, several at a time. C is 1 where every image is grey, else 3. Images are
    read as `ImageList` reads them, in the orientation in which they are shown.

    Boxes without area, and what lies outside its image, is left out and named in ``notes``. What
    lies in an image that is missing or cannot be opened is in ``broken``.

    Names of images are relative to their folder; one that may lie outside of it is refused, before
    any image is opened. Links that lie in the folder are followed, wherever they lead.

    Parameters
    ----------
    images : path-like
        Folder of the images; what is not in it is looked for in its subfolder ``images``.
    boxes : path-like, mapping, sequence of mappings, or DataFrame
        A CSV file with a header, of boxes (columns image, xmin, ymin, xmax, ymax in pixels) or of
        points (image, x, y and perhaps radius), and perhaps id and group; a COCO file (.json); a
        Pascal VOC file (.xml), or a folder of them, corners as they are written; or such columns,
        or rows, in memory.
    size : int, default=64
        Height and width of the candidates in pixels.
    context : float, default=1.5
        Side of the square that is cut, as a multiple of the longer side of the box, or of twice
        the radius: rotated and shifted patches then see real surroundings. Beyond the image its
        mirror image is seen.
    field : float, optional
        Side of the square in pixels of the image, the same for all, instead of ``context``: for
        points without a radius, and where size tells classes apart.
    groups : "image", None, or sequence of str, default="image"
        "image": the column group, such as the patient, where there is one, else the image; or a
        group for each box or point that is listed.
    strict : bool, default=False
        Raise at the first image that cannot be read, rather than leave out what lies in it.
    verbose : int, default=0
        1 shows a progress bar while headers are read.
    window : "auto" or (float, float), default="auto"
        As of `ImageList`.

    Attributes
    ----------
    ids : ndarray of str, shape (n,)
        The column id, or the id of the annotation, where there is one; else the image, "#", and
        the number of the box among all that are listed of this image, from 1 on.
    images : ndarray of str, shape (n,)
        Image of each candidate.
    boxes : ndarray of float, shape (n, 4)
        xmin, ymin, xmax, ymax of each candidate in pixels of its image.

    Raises
    ------
    ParameterError
        If points have no radius, and ``field`` is not given.
    DataError
        If what is listed is damaged, or none of it can be used.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("a.png", "b.png"):
    ...     Image.new("L", (80, 60)).save(f"{folder}/{name}")
    >>> points = {"image": ["a.png", "b.png", "a.png"], "x": [9, 40, 60], "y": [20, 30, 8]}
    >>> pool = BoxedImages(folder, points, size=16, field=24)
    >>> pool.ids.tolist(), pool[1:].shape
    (['a.png#1', 'b.png#1', 'a.png#2'], (2, 1, 16, 16))
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        boxes: Any,
        size: int = 64,
        *,
        context: float = 1.5,
        field: float | None = None,
        groups: Literal["image"] | Sequence[str] | None = "image",
        strict: bool = False,
        verbose: int = 0,
        window: Literal["auto"] | tuple[float, float] = "auto",
    ) -> None:
        check_int("size", size, minimum=4)
        check_number("context", context, low=0.1, high=100)
        if field is not None:
            check_number("field", field, low=1)
        self.size, self.context, self.field = size, context, field
        self.path = as_path(images)
        if not self.path.is_dir():
            raise DataError(f"there is no folder {self.path}.")
        listed = read_annotations(boxes)
        if listed.points and field is None:
            raise ParameterError(
                f"{listed.source} lists points without a radius; expected field=, the side in "
                "pixels of the square that is cut around each, or a column radius."
            )
        # Not by NumPy, whose text drops zero bytes at the end of a name.
        images_of = sorted(set(listed.images))
        place = {name: k for k, name in enumerate(images_of)}
        of_image = np.array([place[name] for name in listed.images])
        names = [printable(name) for name in images_of]
        files = [_find_image(self.path, name) for name in images_of]
        headers, unread = read_headers(files, names, strict=strict, verbose=verbose)
        if not headers:
            raise DataError(_why_none(listed, self.path, unread))
        # Of those that cannot be read it is 0.
        sizes = np.array([headers[k].size if k in headers else (0, 0) for k in range(len(files))])
        kept, notes = _choose(
            listed, sizes[of_image], sides_of_squares(listed.corners, context, field)
        )
        used = np.unique(of_image[kept])
        self.grey = all(headers[k].grey for k in used)
        ids = listed.ids or number_names([names[k] for k in of_image])
        of_candidate = _groups_of(listed, groups)
        super().__init__(
            (len(kept), 1 if self.grey else 3, size, size),
            np.uint8,
            [ids[row] for row in kept],
            None if of_candidate is None else [of_candidate[row] for row in kept],
            strict=strict,
            broken={
                ids[row]: f"{names[k]}: {unread[names[k]]}"
                for row, k in enumerate(of_image)
                if k not in headers
            },
            source=listed.source,
        )
        self.notes += notes
        self.notes += describe_left_out([names[k] for k in used], [headers[k] for k in used])
        self.boxes, self.images = listed.corners[kept], np.array(names)[of_image[kept]]
        self._of_image, self._files, self._points = of_image[kept], files, listed.points
        self._deep = {int(k) for k in used if headers[k].depth and headers[k].grey}
        self.window = window_of_files(window, [files[k] for k in sorted(self._deep)])
        self._cache: ImageCache[Sheet] = ImageCache(_KEPT)

    def reading(self) -> dict[str, Any]:
        """Size and window, which else follow from what there is."""
        found: dict[str, Any] = {"size": self.size}
        return found if self.window is None else {**found, "window": self.window}

    def _path(self, row: int) -> Path:
        return self._files[int(self._of_image[row])]

    def _surroundings(self, row: int) -> Surroundings:
        """A part of the image, several times as wide as the candidate."""
        sheet = self._sheet(int(self._of_image[row]))
        _, height, width = sheet.shape
        side = float(sides_of_squares(self.boxes[[row]], self.context, self.field)[0])
        centre = (self.boxes[row, :2] + self.boxes[row, 2:]) / 2
        half = max(_SEEN * side, _SEEN_AT_LEAST) / 2
        size = np.array([width, height])
        low = np.floor(np.clip(centre - half, 0, np.maximum(0, size - 2 * half))).astype(int)
        high = np.minimum(size, np.ceil(low + 2 * half).astype(int))
        corners = np.concatenate([centre - side / 2, centre + side / 2])
        box = np.clip((corners - np.tile(low, 2)) / np.tile(high - low, 2), 0, 1)
        xmin, ymin, xmax, ymax = box.tolist()
        pixels = sheet.part(tuple(low.tolist()), tuple(high.tolist()))
        return Surroundings(at_most(pixels), (xmin, ymin, xmax, ymax))

    def _read(self, rows: Rows) -> Iterable[Array | Broken]:
        of_image = self._of_image[rows]
        self._cache.ask_for(of_image.tolist())
        return read_by_part(rows, of_image, self._cut)

    def _cut(self, rows: Rows) -> list[Array | Broken]:
        """Cut candidates of one image."""
        image = int(self._of_image[rows[0]])
        try:
            sheet = self._sheet(image)
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises whatever its decoders do
            reason = why_unreadable(self._files[image], error)
            return [Broken(f"{self.images[rows[0]]}: {reason}")] * len(rows)
        _, height, width = sheet.shape
        # Some headers tell less than the pixels: how a photograph is turned may come last.
        sizes = np.full((len(rows), 2), (width, height))
        inside = usable_boxes(self.boxes[rows], sizes, points=self._points)
        cut = iter(sheet.cut(self.boxes[rows[inside]], self.size, self.context, self.field))
        outside = Broken(f"outside {self.images[rows[0]]}, which has {width} x {height} pixels")
        return [next(cut) if good else outside for good in inside]

    def _sheet(self, image: int) -> Sheet:
        sheet = self._cache.get(image)
        if sheet is None:
            sheet = Sheet(self._decode(image))
            self._cache.keep(image, sheet)
        return sheet

    def _decode(self, image: int) -> Bytes:
        window = self.window if image in self._deep else None
        return decode_windowed(self._files[image], grey=self.grey, window=window)


def _find_image(folder: Path, name: str) -> Path:
    # Path.exists raises for names that no file can have.
    inner = folder / "images" / name
    return inner if os.path.exists(inner) and not os.path.exists(folder / name) else folder / name


def _choose(listed: Annotations, sizes: Array, sides: Array) -> tuple[Rows, list[str]]:
    """Rows that can be used, and notes of the others; images of size 0 are told elsewhere."""
    readable = sizes[:, 0] > 0
    good = readable & usable_boxes(listed.corners, sizes, points=listed.points)
    wide = good & (sides > _WIDEST * sizes.max(axis=1))
    unusable, too_wide = (
        [f"{printable(listed.images[row])} ({listed.where[row]})" for row in np.flatnonzero(left)]
        for left in (readable & ~good, wide)
    )
    notes = describe_unusable(unusable, points=listed.points)
    if too_wide:
        notes.append(
            f"{len(too_wide)} left out whose square is more than {_WIDEST} times as wide as the "
            f"image: {list_some(too_wide)}"
        )
    kept = np.flatnonzero(good & ~wide)
    if not len(kept):
        what = "point" if listed.points else "box"
        raise DataError(
            f"{listed.source} holds no usable {what} among {len(listed)}: {'; '.join(notes)}."
        )
    return kept, notes


def _groups_of(listed: Annotations, groups: Any) -> Sequence[str] | None:
    own = listed.groups or listed.images
    return groups_of_rows(groups, "image", own, "boxes or points", listed.source)


def _why_none(listed: Annotations, folder: Path, unread: dict[str, str]) -> str:
    few = list_some([f"{name} ({reason})" for name, reason in unread.items()])
    return (
        f"none of the {len(unread)} images that {listed.source} names can be read: {few}; they "
        f"were looked for in {folder} and its subfolder images. Pass images=, where they lie."
    )
