"""Pools of tiles of whole-slide images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int, check_number
from .._optional import one_line
from .._writing import as_path
from ..errors import DataError, MissingDependencyError, ParameterError
from ..progress import ProgressBar
from .base import Pool
from .decoding import at_most, check_window, find_window, to_bytes
from .image_headers import list_some
from .reading import Broken, Surroundings, in_threads
from .slide_channels import SlideValues, check_channels, choose_channels, count_channels
from .slide_files import SLIDE_SUFFIXES, OpenSlides, list_slides
from .slide_grids import TileGrid, lay_tiles, read_overview
from .slide_levels import scale_square

__all__ = ["SlideTiles"]

Array = NDArray[Any]
Rows = NDArray[np.intp]


class SlideTiles(Pool):
    """Square tiles of whole-slide images that hold tissue, uint8 (n, C, size, size).

    When the pool is opened, headers are read, and of each slide the coarsest level on which a tile
    still has some pixels, to find tissue; a slide without a pyramid is read through once, a part
    after the other. Tiles are read when they are asked for, by several threads.

    TIFF files (.tif, .tiff, .btf, .svs; tiles or strips, with or without a pyramid, OME-TIFF
    included) are read by tifffile, which needs imagecodecs for JPEG, JPEG 2000 and LZW; where that
    is not installed, OpenSlide reads those it knows. OpenSlide reads scanners' own formats (.ndpi,
    .mrxs, .scn, .bif, .svslide, .vms, .vmu, .czi). The extra ``slides`` brings both. Stacks in
    depth or time, and palettes, are not read.

    C is 3 of colours, whose transparency is dropped, and 1 of grey; where both come, 3. Of other
    slides it is the number of channels, which has to be the same for all; with more than 4
    ``channels`` chooses. Slides of more than 8 bits are mapped to 0 to 255 by one
    ``window`` for all of them and all channels.

    Tiles lie on a grid that begins at the upper left corner. At the right and the lower border no
    part of a tile is read: what is left over there is in no tile.

    Parameters
    ----------
    path : path-like
        A slide, or a folder of slides, in it and below.
    tile : int, default=256
        Height and width of a tile in pixels of the level, or at ``mpp``.
    stride : int, optional
        From one tile to the next in such pixels; by default ``tile``. Less makes them overlap.
    level : int, default=0
        Level of the pyramid: 0 is the finest.
    mpp : float, optional
        Microns per pixel, instead of ``level``: slides from several scanners are then alike. The
        coarsest level that is at least as fine is read, and scaled.
    size : int, optional
        Height and width to which tiles are scaled, by averaging where that makes them smaller; by
        default ``tile``.
    tissue : float, default=0.1
        Least share of tissue in a tile. More leaves out edges of the tissue; 0 takes every tile,
        and does not look for tissue. Tissue is what is saturated, or of slides without colours
        what is bright, by Otsu's threshold; black borders are none, coloured ink is.
    groups : "slide", "folder", None or callable, default="slide"
        "slide": tiles of a slide are a group; "folder": those of a folder of slides, such as a
        patient's; or a function that is given the name of a slide and returns its group.
    channels : sequence of int, optional
        Which channels are read, from 0 on; by default all of up to 4.
    window : "auto" or (float, float), default="auto"
        Darkest and brightest value of slides of more than 8 bits; "auto" takes the values that all
        but a thousandth of the pixels of some tiles lie between.
    strict : bool, default=False
        Raise at the first slide or tile that cannot be read, rather than leave it out.
    verbose : int, default=0
        1 shows a progress bar while tissue is looked for.

    Attributes
    ----------
    ids : ndarray of str, shape (n,)
        Slide, level or resolution, and x and y of the upper left corner in pixels of level 0:
        "a/case_12.svs#L1@4096,8192", with ``mpp`` "a/case_12.svs#0.5mpp@4096,8192".
    slides : ndarray of str, shape (n,)
        Slide of each tile, relative to the folder.
    corners : ndarray of int, shape (n, 2)
        x and y of each in pixels of level 0.
    sides : ndarray of float, shape (n,)
        Side of each in pixels of level 0.
    window : tuple of float, or None
        The window that is used; None where no slide needs one.

    Raises
    ------
    DataError
        If no slide can be read, or none holds tissue.
    MissingDependencyError
        If a library is needed that is not installed.

    Notes
    -----
    Tiles of a pool of different ``tile`` may have the same ids, and are not the same.

    Examples
    --------
    >>> import tempfile
    >>> import tifffile
    >>> slide = np.full((200, 300, 3), 240, dtype=np.uint8)
    >>> slide[64:128, 64:192] = (190, 110, 170)
    >>> file = f"{tempfile.mkdtemp()}/case.tif"
    >>> tifffile.imwrite(file, slide, photometric="rgb", tile=(64, 64))
    >>> pool = SlideTiles(file, tile=64)
    >>> pool.ids.tolist(), pool[:].shape
    (['case.tif#L0@64,64', 'case.tif#L0@128,64'], (2, 3, 64, 64))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tile: int = 256,
        stride: int | None = None,
        level: int = 0,
        *,
        mpp: float | None = None,
        size: int | None = None,
        tissue: float = 0.1,
        groups: Literal["slide", "folder"] | Callable[[str], str] | None = "slide",
        channels: Sequence[int] | None = None,
        window: Literal["auto"] | tuple[float, float] = "auto",
        strict: bool = False,
        verbose: int = 0,
    ) -> None:
        self.tile, self.stride = tile, tile if stride is None else stride
        self.level, self.mpp, self.size, self.tissue = level, mpp, size, tissue
        self._check()
        _check_groups(groups)
        self._asked = check_channels(channels)
        self.window = None if window == "auto" else check_window(window)
        self.path = as_path(path)
        files, names, notes, broken = list_slides(self.path, strict=strict)
        self._slides, self._names = OpenSlides(files), names
        self._grids: dict[int, TileGrid] = {}
        self._values: dict[int, SlideValues] = {}
        with ProgressBar("looking for tissue", len(files), enabled=bool(verbose)) as bar:
            for number, name in enumerate(names):
                reason = self._look_at(number)
                bar.advance()
                if reason and strict:
                    raise DataError(f"{name} cannot be read: {reason}.")
                if reason:
                    broken[name] = reason
        self._refuse_none(broken)
        n_channels = count_channels(self._values[number] for number in self._grids)
        numbers = list(self._grids)
        counts = [len(self._grids[number].x) for number in numbers]
        self._number = np.repeat(np.array(numbers, dtype=np.intp), counts)
        self._at = np.concatenate([np.column_stack([g.x, g.y]) for g in self._grids.values()])
        self.corners = np.concatenate([grid.corners() for grid in self._grids.values()])
        self.sides = np.repeat([g.side * g.downsample for g in self._grids.values()], counts)
        self.slides = np.array(names, dtype=str)[self._number]
        side = tile if size is None else size
        how = f"L{level}" if mpp is None else f"{mpp:g}mpp"
        places = zip(self.slides.tolist(), self.corners.tolist(), strict=True)
        super().__init__(
            (len(self.slides), n_channels, side, side),
            np.uint8,
            [f"{name}#{how}@{x},{y}" for name, (x, y) in places],
            _groups_of(self.slides.tolist(), groups),
            strict=strict,
            broken=broken,
            source=str(self.path),
        )
        bare = [names[k] for k, n in zip(numbers, counts, strict=True) if not n]
        self.notes += [*notes, *([_describe_bare(bare)] if bare else [])]
        if self.window is None:
            self.window = self._find_window()

    def reading(self) -> dict[str, Any]:
        """Tile, resolution and window, which else follow from what there is."""
        found: dict[str, Any] = {"tile": self.tile, "size": self.size}
        found |= {"level": self.level} if self.mpp is None else {"mpp": self.mpp}
        found |= {} if self._asked is None else {"channels": list(self._asked)}
        return found if self.window is None else {**found, "window": self.window}

    def _path(self, row: int) -> Path:
        return self._slides.paths[int(self._number[row])]

    def overview(self, slide: str, size: int = 1600) -> tuple[Array, float]:
        """Read a slide made smaller; `draw_slide` draws it with its tiles.

        Parameters
        ----------
        slide : str
            Its name, as in ``slides``.
        size : int, default=1600
            Longer side in pixels, at most.

        Returns
        -------
        values : ndarray, shape (h, w, C)
            uint8, or float32 of slides of more than 8 bits.
        scale : float
            Side of its pixels in pixels of level 0.
        """
        number = self._names.index(slide)
        opened = self._slides[number]
        factor = max(opened.levels[0].width, opened.levels[0].height) / size
        return read_overview(opened, math.ceil(factor), self._values[number].channels)

    def _check(self) -> None:
        check_int("tile", self.tile, minimum=4)
        check_int("stride", self.stride, minimum=1)
        check_int("level", self.level, minimum=0)
        check_number("tissue", self.tissue, low=0, high=1)
        if self.size is not None:
            check_int("size", self.size, minimum=4)
        if self.mpp is not None:
            check_number("mpp", self.mpp, low=0.001)
            if self.level:
                raise ParameterError(
                    f"level={self.level} and mpp={self.mpp}; expected one of them."
                )

    def _look_at(self, number: int) -> str:
        """Find the tiles of a slide; return why there are none, where it cannot be read."""
        try:
            slide = self._slides[number]
            self._values[number] = choose_channels(slide, self._asked)
            self._grids[number] = lay_tiles(
                slide,
                tile=self.tile,
                stride=self.stride,
                level=self.level,
                mpp=self.mpp,
                tissue=self.tissue,
                channels=self._values[number].channels,
            )
        except (MemoryError, MissingDependencyError):
            raise
        except Exception as error:  # TIFF has as many faults as writers
            return _why(self._slides.paths[number], error)
        return ""

    def _refuse_none(self, broken: dict[str, str]) -> None:
        """Raise where no slide can be read, or none has a tile."""
        if not self._grids and broken:
            listed = list_some([f"{name} ({reason})" for name, reason in broken.items()])
            raise DataError(f"none of {len(broken)} slides in {self.path} can be read: {listed}.")
        if not self._grids:
            raise DataError(
                f"there are no slides in {self.path}; expected {', '.join(SLIDE_SUFFIXES)} files."
            )
        if not any(len(grid.x) for grid in self._grids.values()):
            bare = _describe_bare([self._names[number] for number in self._grids])
            raise DataError(
                f"{bare}; tissue=0 takes every tile, less than tissue={self.tissue:g} more of them."
            )

    def _find_window(self) -> tuple[float, float] | None:
        rows = np.flatnonzero([self._values[int(number)].deep for number in self._number])

        def read(row: int) -> NDArray[np.float32] | None:
            try:
                return self._read_values(row).astype(np.float32)
            except MemoryError:
                raise
            except Exception:  # as in _read_tile, where it is told
                return None

        return find_window(read, rows) if len(rows) else None

    def _read(self, rows: Rows) -> Iterable[Array | Broken]:
        return in_threads(self._read_tile, [int(row) for row in rows])

    def _read_tile(self, row: int) -> Array | Broken:
        try:
            return self._shown(int(self._number[row]), self._read_values(row))
        except (MemoryError, MissingDependencyError):
            raise
        except Exception as error:  # codecs raise what they like
            return Broken(_why(self._slides.paths[int(self._number[row])], error))

    def _shown(self, number: int, values: Array) -> Array:
        """Values (h, w, C) of a slide as bytes (C, h, w)."""
        if self._values[number].deep and self.window is not None:
            if not np.isfinite(values).all():
                raise DataError("values that are not finite")
            values = to_bytes(values.astype(np.float32), self.window)
        return values.transpose(2, 0, 1)

    def _surroundings(self, row: int) -> Surroundings:
        """The tile and its neighbours, as far as they lie in the slide."""
        number = int(self._number[row])
        grid, slide = self._grids[number], self._slides[number]
        at, level = self._at[row], slide.levels[grid.level]
        low = np.maximum(0, at - grid.side)
        high = np.minimum((level.width, level.height), at + 2 * grid.side)
        (x, y), (width, height) = low.tolist(), (high - low).tolist()
        values = slide.read(grid.level, x, y, width, height, self._values[number].channels)
        corners = np.concatenate([at, at + grid.side]) - np.tile(low, 2)
        xmin, ymin, xmax, ymax = np.clip(corners / np.tile(high - low, 2), 0, 1).tolist()
        return Surroundings(at_most(self._shown(number, values)), (xmin, ymin, xmax, ymax))

    def _read_values(self, row: int) -> Array:
        """Read a tile and scale it (size, size, C), values as they are."""
        number = int(self._number[row])
        grid, (x, y) = self._grids[number], self._at[row].tolist()
        slide = self._slides[number]
        values = slide.read(grid.level, x, y, grid.side, grid.side, self._values[number].channels)
        return scale_square(values, self.shape[2])


def _check_groups(groups: Any) -> None:
    if groups not in ("slide", "folder", None) and not callable(groups):
        raise ParameterError(
            f"groups={groups!r}; expected 'slide', 'folder', None, or a function that is given the "
            "name of a slide."
        )


def _groups_of(
    slides: list[str], groups: Literal["slide", "folder"] | Callable[[str], str] | None
) -> list[str] | None:
    if groups is None or groups == "slide":
        return None if groups is None else slides
    name_of = groups if callable(groups) else _folder_of
    known = {slide: str(name_of(slide)) for slide in dict.fromkeys(slides)}
    return [known[slide] for slide in slides]


def _folder_of(slide: str) -> str:
    return slide.rpartition("/")[0]


def _describe_bare(slides: Sequence[str]) -> str:
    """Say which slides hold too little tissue.

    Examples
    --------
    >>> _describe_bare(["a.svs"])
    'no tile with enough tissue in 1 slide: a.svs'
    """
    count = "1 slide" if len(slides) == 1 else f"{len(slides)} slides"
    return f"no tile with enough tissue in {count}: {list_some(slides)}"


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return one_line(error).replace(str(path), path.name)
