"""Pools of points in volumes, each seen in three orthogonal slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int, check_number, check_option
from ..errors import DataError, MissingDependencyError
from .base import Pool
from .decoding import check_window, find_window, to_bytes
from .image_headers import list_some
from .reading import Broken, read_by_part
from .slices import SliceRegion, find_regions, join_slices
from .table_columns import groups_of_rows, number_names
from .volume_files import Volume, VolumeHeader
from .volume_points import ListedPoints, read_points
from .volume_set import VolumeSet, find_volumes, is_folder

__all__ = ["VolumePatches"]

Array = NDArray[Any]
Rows = NDArray[np.intp]

# A field that is so many times as wide as its volume shows next to nothing.
_WIDEST = 10
# Candidates that a window is taken from.
_FOR_WINDOW = 32


class VolumePatches(Pool):
    """Points in volumes as a pool, uint8 (n, 3, size, size): three slices through each.

    The channels are the axial, the coronal and the sagittal slice through a point, as radiologists
    see them: anterior or superior is up, and the patient's right, in the sagittal slice anterior,
    is left. Volumes are turned so that their axes run, as closely as they can, right, anterior and
    superior; slices follow these axes. Every pixel has the same width in mm along all of them:
    thick slices are interpolated, and where pixels are larger than voxels they are means. What
    lies beyond the border of a volume is as dark as ``window`` begins.

    Slices are cut when they are asked for. Of files that are not compressed only the voxels that a
    slice needs are read; a compressed volume is decoded as a whole, once per pass over consecutive
    candidates of it, and kept for the next slice of the pool; that of a compressed .npz file also
    when its header is read. What lies in a volume that cannot be
    read, and points outside of theirs, are in ``broken``.

    Parameters
    ----------
    volumes : path-like, array-like of shape (X, Y, Z), or mapping of str to either
        A file .nii, .nii.gz, .npy or .npz, or an array; or a folder of such files, or a name for
        each of several. What is not in the folder is looked for in its subfolder ``volumes``.
        Names in a list are relative to the folder; one that may lie outside of it is refused.
    points : path-like, mapping, sequence of mappings, DataFrame, or array-like of shape (n, 3)
        A CSV file with a header: volume, x, y, z, and perhaps id and group; such columns, or rows,
        in memory; or, of one volume, x, y and z of each. Other columns do not count.
    size : int, default=64
        Height and width of the slices in pixels.
    width : float, optional
        Height and width of the slices in mm, or in voxels where nothing tells how large they are:
        a larger one shows more surroundings at less detail. By default a pixel is as wide as the
        finest voxel of all volumes.
    coordinates : {"voxel", "world"}, default="voxel"
        What points are given in: indices of the array as it is stored, from 0 on, or RAS
        coordinates in mm, as the affine of a NIfTI file says.
    spacing : tuple of float, optional
        Size of a voxel in mm along x, y and z of arrays and NumPy files, which do not tell; their
        axes are taken to run right, anterior and superior. By default it is 1.
    groups : "volume", None, or sequence of str, default="volume"
        "volume": the column group, such as the patient, where there is one, else the volume; or a
        group for each point that is listed.
    window : "auto" or (float, float), default="auto"
        Darkest and brightest value, which become 0 and 255. "auto" takes 0 to 255 where all volumes
        hold bytes, else the values that all but a thousandth of the voxels around some of the
        points lie between.
    key : str, optional
        Which array of .npz files of several.
    strict : bool, default=False
        Raise at the first point that cannot be read.
    verbose : int, default=0
        1 shows a progress bar while headers are read.

    Attributes
    ----------
    ids : ndarray of str, shape (n,)
        The column id where there is one; else the volume, "#", and the number of the point among
        all that are listed of this volume, from 1 on.
    volumes : ndarray of str, shape (n,)
        Volume of each candidate.
    points : ndarray of float, shape (n, 3)
        Of each candidate, as they are given.
    width : float
        That of the slices.
    window : tuple of float
        The window that is used.

    Raises
    ------
    DataError
        If what is listed is damaged, or none of it can be used.
    MissingDependencyError
        If there are NIfTI files and nibabel is not installed.

    References
    ----------
    Tajbakhsh, Gotway and Liang, "Computer-aided pulmonary embolism detection using a novel
    vessel-aligned multi-planar image representation and convolutional neural networks", 2015. Its
    slices follow the vessel; these follow the axes of the body.

    Examples
    --------
    >>> scan = np.zeros((40, 40, 20), dtype=np.int16)
    >>> scan[25, 10, 4] = 1000
    >>> pool = VolumePatches(scan, [[25, 10, 4], [0, 39, 19]], 9, spacing=(1, 1, 2.5))
    >>> pool.ids.tolist(), pool.shape
    (['volume#1', 'volume#2'], (2, 3, 9, 9))
    >>> pool[0][:, 4, 4].tolist()
    [255, 255, 255]
    """

    def __init__(
        self,
        volumes: Any,
        points: Any,
        size: int = 64,
        *,
        width: float | None = None,
        coordinates: Literal["voxel", "world"] = "voxel",
        spacing: tuple[float, float, float] | None = None,
        groups: Literal["volume"] | Sequence[str] | None = "volume",
        window: Literal["auto"] | tuple[float, float] = "auto",
        key: str | None = None,
        strict: bool = False,
        verbose: int = 0,
    ) -> None:
        check_int("size", size, minimum=4)
        check_option("coordinates", coordinates, ("voxel", "world"))
        if width is not None:
            check_number("width", width, low=1e-6)
        several = isinstance(volumes, Mapping) or is_folder(volumes)
        listed = read_points(points, named=several)
        names, sources = find_volumes(volumes, listed)
        self._files = VolumeSet(sources, spacing=spacing, key=key)
        self._files.read_headers(strict=strict, verbose=verbose)
        if not self._files.headers:
            raise DataError(
                f"none of the volumes of {listed.source} can be read: {self._files.list_unread()}."
            )
        self.size = size
        self.width = float(size * self._files.finest() if width is None else width)
        of_volume = self._files.places_of(names)
        at, reasons = self._locate(listed, of_volume, coordinates)
        ids = listed.ids or number_names([self._files.names[k] for k in of_volume])
        if strict and reasons:
            row = min(reasons)
            raise DataError(f"{ids[row]} cannot be read: {reasons[row]}.")
        kept = np.array([row for row in range(len(ids)) if row not in reasons], dtype=np.intp)
        if not len(kept):
            few = list_some([f"{ids[row]} ({reason})" for row, reason in reasons.items()])
            raise DataError(f"none of the {len(ids)} points of {listed.source} can be read: {few}.")
        grouped = groups_of_rows(groups, "volume", listed.groups or names, "points", listed.source)
        super().__init__(
            (len(kept), 3, size, size),
            np.uint8,
            [ids[row] for row in kept],
            None if grouped is None else [grouped[row] for row in kept],
            strict=strict,
            broken={ids[row]: reason for row, reason in reasons.items()},
            source=listed.source,
        )
        self.volumes = np.array([self._files.names[k] for k in of_volume[kept]])
        self.points, self._at, self._of_volume = listed.points[kept], at[kept], of_volume[kept]
        self.window = self._find_window() if window == "auto" else check_window(window)

    def reading(self) -> dict[str, Any]:
        """Size, width and window, which else follow from what there is."""
        return {"size": self.size, "width": self.width, "window": self.window}

    def _locate(
        self, listed: ListedPoints, of_volume: Rows, coordinates: str
    ) -> tuple[Array, dict[int, str]]:
        """Points in voxels of their volumes, and by row why some cannot be read."""
        at = np.full(listed.points.shape, np.nan)
        reasons: dict[int, str] = {}
        for k, name in enumerate(self._files.names):
            rows = np.flatnonzero(of_volume == k)
            header = self._files.headers.get(k)
            why = self._files.unread[k] if header is None else self._why_not(header, coordinates)
            if header is None or why:
                reasons.update(dict.fromkeys(rows.tolist(), f"{name}: {why}"))
                continue
            at[rows] = header.locate(listed.points[rows], coordinates)
            for row in rows[~header.holds(at[rows])]:
                point = ", ".join(f"{value:g}" for value in listed.points[row])
                shape = " x ".join(map(str, header.stored_shape))
                reasons[int(row)] = (
                    f"the point ({point}), {listed.where[row]}, lies outside of {name}, which has "
                    f"{shape} voxels"
                )
        return at, reasons

    def _why_not(self, header: VolumeHeader, coordinates: str) -> str:
        if coordinates == "world" and header.from_world is None:
            return "no affine tells where world coordinates lie; expected coordinates='voxel'"
        if self.width > _WIDEST * float((header.spacing * header.shape).max()):
            return f"width={self.width:g} is more than {_WIDEST} times as wide as the volume"
        return ""

    def _find_window(self) -> tuple[float, float]:
        if all(self._files.headers[k].bytes_only for k in np.unique(self._of_volume)):
            return 0.0, 255.0
        n = len(self)
        rows = np.unique(np.linspace(0, n - 1, min(_FOR_WINDOW, n)).astype(np.intp))
        values = list(self._by_volume(rows, self._values))

        def read(k: int) -> NDArray[np.float32] | None:
            found = values[k]
            return None if isinstance(found, Broken) else found

        return find_window(read, np.arange(len(rows)))

    def _read(self, rows: Rows) -> Iterable[Array | Broken]:
        return self._by_volume(rows, self._cut)

    def _by_volume(
        self, rows: Rows, read: Callable[[int, Volume], Array | Broken]
    ) -> Iterable[Array | Broken]:
        of_volume = self._of_volume[rows]

        def read_all(rows: Rows) -> list[Array | Broken]:
            k = int(self._of_volume[rows[0]])
            try:
                volume = self._files.load(k)
                return [read(int(row), volume) for row in rows]
            except (MemoryError, MissingDependencyError):
                raise
            except Exception as error:  # readers raise whatever their decoders do
                return [Broken(f"{self._files.names[k]}: {self._files.why(k, error)}")] * len(rows)

        self._files.ask_for(of_volume.tolist())
        return read_by_part(rows, of_volume, read_all, self._files.at_most())

    def _regions(self, row: int) -> list[SliceRegion]:
        header = self._files.headers[int(self._of_volume[row])]
        steps = self.width / self.size / header.spacing
        return find_regions(self._at[row], header.shape, steps, self.size)

    def _values(self, row: int, volume: Volume) -> Array:
        blocks = [volume.read(region.box).ravel() for region in self._regions(row)]
        return np.concatenate(blocks).astype(np.float32)

    def _cut(self, row: int, volume: Volume) -> Array | Broken:
        regions = self._regions(row)
        blocks = [volume.read(region.box) for region in regions]
        if not all(np.isfinite(block).all() for block in blocks):
            return Broken(f"{self.volumes[row]}: values that are not finite")
        return to_bytes(join_slices(regions, blocks, self.window[0]), self.window)
