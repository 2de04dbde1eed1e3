"""Pools of image files: those of a folder, or a list of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int
from .._writing import as_path
from ..errors import DataError, ParameterError
from ..progress import ProgressBar
from .decoded_images import DecodedImages, try_header
from .decoding import window_of_files
from .folder_contents import count_kinds, files_below, sort_out_images
from .image_headers import (
    ImageHeader,
    list_some,
    printable,
)
from .reading import Broken, Surroundings, in_threads

__all__ = ["ImageFolder", "ImageList", "read_headers"]

Array = NDArray[Any]
Bytes = NDArray[np.uint8]


class ImageList(DecodedImages):
    """Image files as a pool, uint8 (n, C, H, W).

    Files are told apart by their headers when the pool is opened; pixels are read when they are
    asked for, by several threads, and scaled as they are read. C is 1 where every image is grey,
    else 3. What does not fit is made to, the same way everywhere:

    - grey images of more than 8 bits are mapped to 0 to 255 by one ``window`` for all;
    - colours of more than 8 bits keep their upper 8; palettes, CMYK and 1 bit become colour or
      grey; transparency is dropped;
    - of several pages or frames the first is read;
    - photographs are turned as their EXIF data says.

    Parameters
    ----------
    paths : sequence of path-like
        Image files.
    size : int, optional
        Height and width in pixels: the middle square of each image is scaled to it, by averaging
        where that makes it smaller. Needed where images differ in size.
    ids : sequence of str, optional
        What each image is called; by default its path.
    groups : sequence of str, optional
        Patient or slide of each.
    grey : "auto" or bool, default="auto"
        Whether there is one channel: "auto" where every image is grey; with True colours become
        grey, with False grey becomes colour.
    window : "auto" or (float, float), default="auto"
        Darkest and brightest value of grey images of more than 8 bits; "auto" takes the values
        that all but a thousandth of the pixels of some of them lie between.
    strict : bool, default=False
        Raise at the first image that cannot be read, rather than leave it out.
    source : str, default=""
        Where they lie, for messages.
    verbose : int, default=0
        1 shows a progress bar while headers are read.

    Attributes
    ----------
    original_sizes : list of (int, int)
        Width and height of each image before it is scaled.
    window : tuple of float, or None
        The window that is used; None where no image needs one.

    Raises
    ------
    DataError
        If there is no image that can be read, or they differ in size and ``size`` is not given.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        size: int | None = None,
        *,
        ids: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        grey: Literal["auto"] | bool = "auto",
        window: Literal["auto"] | tuple[float, float] = "auto",
        strict: bool = False,
        source: str = "",
        verbose: int = 0,
    ) -> None:
        if size is not None:
            check_int("size", size, minimum=4)
        files = [Path(path) for path in paths]
        names = [printable(path) for path in files] if ids is None else list(ids)
        headers, broken = read_headers(files, names, strict=strict, verbose=verbose)
        if not headers:
            raise DataError(_why_none(source, len(files), broken))
        kept = list(headers)
        super().__init__(
            list(headers.values()),
            [names[row] for row in kept],
            None if groups is None else [groups[row] for row in kept],
            size=size,
            grey=grey,
            strict=strict,
            broken=broken,
            source=source,
        )
        self.paths = [files[row] for row in kept]
        deep = [self.paths[row] for row in self.deep_rows]
        self.window = window_of_files(window, deep, size)

    def _path(self, row: int) -> Path:
        return self.paths[row]

    def _surroundings(self, row: int) -> Surroundings | None:
        return self._decode_whole(row, self.paths[row])

    def _read(self, rows: NDArray[np.intp]) -> Iterable[Array | Broken]:
        return in_threads(lambda row: self._decode(row, self.paths[row]), rows.tolist())


class ImageFolder(ImageList):
    """All images in a folder and below as a pool; ids are file names relative to it.

    Files that are no images are named in ``notes``; images that cannot be opened, and folders
    that cannot be listed, are in ``broken``. Hidden files, and what file managers leave behind, do
    not count. Links are followed, but in no circle.

    Parameters
    ----------
    path : path-like
        The folder.
    size : int, optional
        As of `ImageList`.
    groups : None, "folder" or callable, default=None
        "folder": the subfolder of each image is its group, such as the patient; or a function
        that is given an id and returns its group.
    grey, window, strict, verbose
        As of `ImageList`.

    Raises
    ------
    DataError
        If there is no such folder, or no image in it that can be read.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = tempfile.mkdtemp()
    >>> for k in range(3):
    ...     Image.new("L", (20 + k, 30)).save(f"{folder}/{k}.png")
    >>> pool = ImageFolder(folder, size=16)
    >>> pool.ids.tolist(), pool[1:].shape
    (['0.png', '1.png', '2.png'], (2, 1, 16, 16))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: int | None = None,
        *,
        groups: Literal["folder"] | Callable[[str], str] | None = None,
        grey: Literal["auto"] | bool = "auto",
        window: Literal["auto"] | tuple[float, float] = "auto",
        strict: bool = False,
        verbose: int = 0,
    ) -> None:
        self.path = as_path(path)
        if not self.path.is_dir():
            raise DataError(f"there is no folder {self.path}.")
        unlisted: dict[str, str] = {}

        def note(error: OSError) -> None:
            if strict:
                raise DataError(f"{error.filename} cannot be listed: {error.strerror}.") from error
            name = os.path.relpath(error.filename, self.path)
            unlisted[printable(Path(name).as_posix()) + "/"] = f"a folder: {error.strerror}"

        files, others = sort_out_images(files_below(self.path, note))
        names = [printable(file.relative_to(self.path).as_posix()) for file in files]
        if not files:
            raise DataError(_why_none(str(self.path), 0, unlisted, others))
        super().__init__(
            files,
            size,
            ids=names,
            groups=_groups_of(names, groups),
            grey=grey,
            window=window,
            strict=strict,
            source=str(self.path),
            verbose=verbose,
        )
        self.broken.update(unlisted)
        if others:
            self.notes.append(f"files left out, no images that are read: {count_kinds(others)}")


def read_headers(
    files: Sequence[Path], names: Sequence[str], *, strict: bool, verbose: int = 0
) -> tuple[dict[int, ImageHeader], dict[str, str]]:
    """Read the headers of image files, in several threads.

    Parameters
    ----------
    files : sequence of Path
        The files.
    names : sequence of str
        What each is called.
    strict : bool
        Raise at the first that cannot be read.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    headers : dict of int to ImageHeader
        By position, of those that can be read.
    broken : dict of str to str
        Name → reason, of the others.
    """
    headers: dict[int, ImageHeader] = {}
    broken: dict[str, str] = {}
    with ProgressBar("looking at images", len(files), enabled=bool(verbose)) as bar:
        for row, header in enumerate(in_threads(try_header, files)):
            bar.advance()
            if isinstance(header, ImageHeader):
                headers[row] = header
            elif strict:
                raise DataError(f"{names[row]} cannot be read: {header.reason}.")
            else:
                broken[names[row]] = header.reason
    return headers, broken


def _groups_of(
    names: Sequence[str], groups: Literal["folder"] | Callable[[str], str] | None
) -> list[str] | None:
    if groups is None:
        return None
    if groups == "folder":
        return [name.rpartition("/")[0] for name in names]
    if not callable(groups):
        raise ParameterError(
            f"groups={groups!r}; expected None, 'folder', or a function that is given an id."
        )
    return [str(groups(name)) for name in names]


def _why_none(source: str, n: int, broken: dict[str, str], others: Sequence[Path] = ()) -> str:
    where = f" in {source}" if source else ""
    if broken:
        listed = list_some([f"{name} ({reason})" for name, reason in broken.items()])
        return f"none of {max(n, len(broken))} images{where} can be read: {listed}."
    holds = f" It holds {count_kinds(others)}." if others else ""
    return f"there are no images{where}; expected .png, .jpg, .tif ... files.{holds}"
