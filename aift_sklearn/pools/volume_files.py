"""Volumes in NIfTI and NumPy files: what their headers tell, and their voxels, right side up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._optional import load_optional, one_line
from .._warnings import silent_thread
from ..errors import DataError
from .array_stores import as_address, open_stored

__all__ = [
    "Volume",
    "VolumeHeader",
    "load_volume",
    "read_volume_header",
    "why_no_volume",
]

Array = NDArray[Any]

# Units of NIfTI files in mm; of those that name none it is taken for granted.
_MM = {"meter": 1000.0, "micron": 0.001}
_NIFTI, _NUMPY = (".nii", ".nii.gz"), (".npy", ".npz")


@dataclass(frozen=True)
class VolumeHeader:
    """What a volume is, without its voxels; axes run right, anterior, superior.

    Attributes
    ----------
    shape : tuple of int
        Voxels along each axis.
    stored_shape : tuple of int
        As they lie in the file.
    spacing : ndarray of shape (3,)
        Size of a voxel along each axis, in mm where that is known.
    from_stored : ndarray of shape (4, 4)
        Voxels as they lie in the file → voxels along these axes.
    from_world : ndarray of shape (4, 4), or None
        RAS coordinates in mm → voxels along these axes; None where nothing tells.
    bytes_only : bool
        Whether values are bytes, 0 to 255.
    n_decoded : int
        Bytes of memory that it takes to read any voxel; 0 where they are read one by one.
    """

    shape: tuple[int, ...]
    stored_shape: tuple[int, ...]
    spacing: Array
    from_stored: Array
    from_world: Array | None
    bytes_only: bool
    n_decoded: int

    def locate(self, points: Array, coordinates: str) -> Array:
        """Points (n, 3) as a user gives them, "voxel" or "world" → voxels along these axes."""
        affine = self.from_stored if coordinates == "voxel" else self.from_world
        if affine is None:
            raise DataError("no affine tells where world coordinates lie")
        return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])

    def holds(self, at: Array) -> NDArray[np.bool_]:
        """Tell which points (n, 3) lie in a voxel."""
        return np.asarray(((at >= -0.5) & (at <= np.array(self.shape) - 0.5)).all(axis=1))


class Volume(NamedTuple):
    """Voxels of a volume, of which parts are read; axes run right, anterior, superior."""

    voxels: Any
    slope: float
    intercept: float

    @property
    def nbytes(self) -> int:
        """What it takes, or would if it were read."""
        return int(self.voxels.nbytes)

    def read(self, box: tuple[slice, ...]) -> Array:
        """Read the values of a part, scaled as the header says."""
        values = np.asarray(self.voxels[box])
        return (
            values
            if (self.slope, self.intercept) == (1, 0)
            else (values * self.slope + self.intercept)
        )


def read_volume_header(
    source: Any, spacing: tuple[float, float, float] | None = None, key: str | None = None
) -> VolumeHeader:
    """Read what a volume is.

    Parameters
    ----------
    source : Path or array
        A file .nii, .nii.gz, .npy or .npz, or an array (x, y, z).
    spacing : tuple of float, optional
        Size of a voxel, where the volume does not tell.
    key : str, optional
        Which array of a .npz file.

    Raises
    ------
    DataError
        If it is no volume of one value per voxel.
    MissingDependencyError
        If nibabel is needed and not installed.
    """
    if _is_nifti(source):
        return _header_of_nifti(source)
    array = _open_array(source, key)
    shape = _shape_of_volume(array.shape, np.dtype(array.dtype))
    # Members of an archive that are compressed are read into memory.
    in_file = isinstance(source, Path) and not isinstance(array, np.memmap)
    return VolumeHeader(
        shape=shape,
        stored_shape=shape,
        spacing=np.array(spacing or (1, 1, 1), dtype=np.float64),
        from_stored=np.eye(4),
        from_world=None,
        bytes_only=array.dtype == np.uint8,
        n_decoded=int(array.nbytes) if in_file else 0,
    )


def load_volume(source: Any, key: str | None = None) -> Volume:
    """Open the voxels of a volume: mapped into memory, or decoded where they are compressed."""
    if not _is_nifti(source):
        array = _open_array(source, key)
        return Volume(_squeezed(array), 1.0, 0.0)
    nibabel = load_optional("nibabel", purpose="reading NIfTI files")
    with silent_thread():
        stored = nibabel.load(source, mmap="r")
        proxy = stored.dataobj
        voxels = _squeezed(proxy.get_unscaled())
        turned = nibabel.orientations.apply_orientation(
            voxels, nibabel.orientations.io_orientation(stored.affine)
        )
    return Volume(turned, float(proxy.slope), float(proxy.inter))


def why_no_volume(source: Any, error: Exception) -> str:
    """Say in a few words why a volume cannot be read."""
    if isinstance(source, Path) and not source.exists():
        return "no such file"
    said = str(error)
    if isinstance(source, Path):
        said = said.replace(str(source.absolute()), source.name).replace(str(source), source.name)
    return one_line(DataError(said)) if said else one_line(error)


def _is_nifti(source: Any) -> bool:
    return isinstance(source, Path) and source.name.lower().endswith(_NIFTI)


def _header_of_nifti(path: Path) -> VolumeHeader:
    nibabel = load_optional("nibabel", purpose="reading NIfTI files")
    with silent_thread():
        stored = nibabel.load(path, mmap="r")
        proxy = stored.dataobj
        shape = _shape_of_volume(stored.shape, proxy.dtype)
        unit = _MM.get(stored.header.get_xyzt_units()[0], 1.0)
        affine = np.diag([unit, unit, unit, 1.0]) @ stored.affine
    if not np.isfinite(affine).all() or not np.linalg.det(affine[:3, :3]):
        raise DataError("its affine cannot be inverted")
    orientation = nibabel.orientations.io_orientation(affine)
    if not np.isfinite(orientation).all():
        raise DataError("its affine gives two axes one direction")
    to_stored = nibabel.orientations.inv_ornt_aff(orientation, shape)
    to_world = affine @ to_stored
    plain = (proxy.slope, proxy.inter) == (1, 0)
    return VolumeHeader(
        shape=tuple(shape[axis] for axis in np.argsort(orientation[:, 0])),
        stored_shape=shape,
        spacing=np.asarray(nibabel.affines.voxel_sizes(to_world)),
        from_stored=np.linalg.inv(to_stored),
        from_world=np.linalg.inv(to_world),
        bytes_only=bool(plain and proxy.dtype == np.uint8),
        n_decoded=int(np.prod(shape)) * proxy.dtype.itemsize if path.suffix.lower() == ".gz" else 0,
    )


def _open_array(source: Any, key: str | None) -> Any:
    if not isinstance(source, Path):
        return source
    if not source.name.lower().endswith(_NUMPY):
        raise DataError(f"no volume of the kinds that are read: {', '.join((*_NIFTI, *_NUMPY))}")
    return open_stored(as_address(os.fspath(source)), key).array


def _squeezed(array: Any) -> Any:
    """Without the axes of length 1 that some programs add for time."""
    return array if len(array.shape) == 3 else array.reshape(array.shape[:3])


def _shape_of_volume(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    if len(shape) < 3 or any(length != 1 for length in shape[3:]) or 0 in shape:
        listed = " x ".join(map(str, shape))
        raise DataError(f"an array of {listed} values; expected a volume of three axes")
    if dtype.kind not in "biuf":
        raise DataError(f"voxels of type {dtype}; expected a number each")
    return tuple(int(length) for length in shape[:3])
