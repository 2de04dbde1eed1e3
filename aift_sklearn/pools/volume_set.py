"""Several volumes: found by their names, their headers read, and opened when they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._writing import as_path
from ..errors import DataError, DataTypeError, MissingDependencyError, ParameterError
from ..progress import ProgressBar
from .arrays import lies_elsewhere
from .image_cache import ImageCache
from .image_headers import list_some, printable
from .reading import in_threads
from .table_columns import names_inside
from .volume_files import Volume, VolumeHeader, load_volume, read_volume_header, why_no_volume
from .volume_points import ListedPoints

__all__ = ["VolumeSet", "find_volumes", "is_folder"]

Rows = NDArray[np.intp]

# Bytes of volumes that are kept for the next slice, and of those that are decoded at once.
_KEPT, _AT_ONCE = 512 * 2**20, 2**30


class VolumeSet:
    """Volumes by their names.

    Parameters
    ----------
    sources : mapping of str to Path or array
        Name → where it lies.
    spacing : tuple of float, optional
        Size of a voxel, where a volume does not tell.
    key : str, optional
        Which array of .npz files.

    Attributes
    ----------
    names : list of str
        In alphabetical order, as they can be printed.
    headers : dict of int to VolumeHeader
        By position, of those that can be read.
    unread : dict of int to str
        By position, why others cannot be.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        *,
        spacing: tuple[float, float, float] | None = None,
        key: str | None = None,
    ) -> None:
        self._known = sorted(sources)
        self._sources = [sources[name] for name in self._known]
        self._spacing, self._key = None if spacing is None else _check_spacing(spacing), key
        self.names = [printable(name) for name in self._known]
        self.headers: dict[int, VolumeHeader] = {}
        self.unread: dict[int, str] = {}
        self._cache: ImageCache[Volume] = ImageCache(_KEPT)

    def read_headers(self, *, strict: bool, verbose: int = 0) -> None:
        """Read all headers, in several threads; strict raises at the first that has none."""

        def read(source: Any) -> VolumeHeader | str:
            try:
                return read_volume_header(source, self._spacing, self._key)
            except (MemoryError, MissingDependencyError):
                raise
            except Exception as error:  # readers raise whatever their decoders do
                return why_no_volume(source, error)

        with ProgressBar("looking at volumes", len(self.names), enabled=bool(verbose)) as bar:
            for k, found in enumerate(in_threads(read, self._sources)):
                bar.advance()
                if isinstance(found, VolumeHeader):
                    self.headers[k] = found
                elif strict:
                    raise DataError(f"{self.names[k]} cannot be read: {found}.")
                else:
                    self.unread[k] = found

    def list_unread(self) -> str:
        """Name the first volumes that cannot be read, and why."""
        return list_some([f"{self.names[k]} ({reason})" for k, reason in self.unread.items()])

    def places_of(self, names: Sequence[str]) -> Rows:
        """Find volumes by their names."""
        place = {name: k for k, name in enumerate(self._known)}
        return np.array([place[name] for name in names], dtype=np.intp)

    def finest(self) -> float:
        """Smallest side of a voxel."""
        return min(float(header.spacing.min()) for header in self.headers.values())

    def at_most(self) -> int:
        """Volumes that may be decoded at once."""
        largest = max(header.n_decoded for header in self.headers.values())
        return max(1, _AT_ONCE // max(1, largest))

    def ask_for(self, places: Iterable[int]) -> None:
        """Say which volumes are needed next."""
        self._cache.ask_for(places)

    def load(self, k: int) -> Volume:
        """Open a volume, or take it from those that are kept.

        Raises
        ------
        DataError
            If it is not what its header told.
        Exception
            Whatever its reader raises.
        """
        volume = self._cache.get(k)
        if volume is None:
            volume = load_volume(self._sources[k], self._key)
            if tuple(volume.voxels.shape) != self.headers[k].shape:
                raise DataError("its shape has changed; open the pool anew")
            self._cache.keep(k, volume)
        return volume

    def why(self, k: int, error: Exception) -> str:
        """Say in a few words why a volume cannot be read."""
        return why_no_volume(self._sources[k], error)

    def __getstate__(self) -> dict[str, Any]:
        if any(lies_elsewhere(source) for source in self._sources):
            raise DataTypeError(
                "a pool of volumes that are arrays of open files cannot be pickled, as for other "
                "processes; expected volumes by their paths."
            )
        return self.__dict__.copy()


def is_folder(volumes: Any) -> bool:
    """Tell whether volumes are those of a folder."""
    return isinstance(volumes, (str, os.PathLike)) and as_path(volumes).is_dir()


def find_volumes(volumes: Any, listed: ListedPoints) -> tuple[list[str], dict[str, Any]]:
    """Find the volumes that points lie in.

    Parameters
    ----------
    volumes : path-like, array, or mapping of str to either
        As of `VolumePatches`.
    listed : ListedPoints
        The points.

    Returns
    -------
    names : list of str, length n
        Volume of each point.
    sources : dict of str to Path or array
        Where each lies.
    """
    n = len(listed.where)
    if isinstance(volumes, Mapping):
        names = listed.volumes or []
        unknown = sorted(set(names) - {str(name) for name in volumes})
        if unknown:
            raise DataError(
                f"{listed.source} names {list_some(unknown)}, and volumes are "
                f"{list_some([str(name) for name in volumes])}; expected a volume for each name."
            )
        return names, {
            str(name): _source(one) for name, one in volumes.items() if str(name) in set(names)
        }
    if is_folder(volumes):
        folder = as_path(volumes)
        names = names_inside(listed.source, "volume", listed.volumes or [], listed.where)
        return names, {name: _find_file(folder, name) for name in set(names)}
    source = _source(volumes)
    named = set(listed.volumes or ())
    if len(named) > 1:
        raise ParameterError(
            f"{listed.source} names {len(named)} volumes: {list_some(sorted(named))}; expected the "
            f"folder that they lie in, or a mapping, and volumes is one: {_describe(source)}."
        )
    name = source.name if isinstance(source, Path) else "volume"
    return [name] * n, {name: source}


def _find_file(folder: Path, name: str) -> Path:
    # Path.exists raises for names that no file can have.
    inner = folder / "volumes" / name
    return inner if os.path.exists(inner) and not os.path.exists(folder / name) else folder / name


def _source(volume: Any) -> Any:
    if isinstance(volume, (str, os.PathLike)):
        return as_path(volume)
    if not (hasattr(volume, "shape") and hasattr(volume, "dtype")) or hasattr(volume, "detach"):
        raise DataTypeError(
            f"a volume is of type {type(volume).__name__}; expected a path, or an array (x, y, z)."
        )
    return volume


def _describe(source: Any) -> str:
    return str(source) if isinstance(source, Path) else f"an array of shape {source.shape}"


def _check_spacing(spacing: Any) -> tuple[float, float, float]:
    try:
        x, y, z = (float(side) for side in spacing)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"spacing={spacing!r}; expected the size of a voxel along x, y and z."
        ) from error
    if not (np.isfinite([x, y, z]).all() and min(x, y, z) > 0):
        raise ParameterError(f"spacing={spacing!r}; expected three sizes above 0.")
    return x, y, z
