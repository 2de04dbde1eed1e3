"""Arrays in .npy, .npz, Zarr and HDF5 files, and their names beside them, opened and not read."""

from __future__ import annotations

import contextlib
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._optional import load_optional, one_line
from .._writing import as_path
from ..errors import AIFTError, DataError, MissingDependencyError, ParameterError
from .zarr_chunks import refuse_short_chunks

__all__ = ["StoredArray", "as_address", "holds_array", "open_stored"]

Array = NDArray[Any]
Names = Callable[[str], Array | None]

# Arrays that a message lists, and characters of what a library says.
_LISTED = 12
# What gives names to the rows of an array beside it.
_NAMES = ("ids", "groups")


class StoredArray(NamedTuple):
    """An array in a file.

    Attributes
    ----------
    array : array-like
        What slices.
    key : str
        What it is called in the file; empty where the file holds nothing else.
    names : callable
        "ids" or "groups" → the array of that name beside it, as text, or None.
    """

    array: Any
    key: str
    names: Names


class _NpyHeader(NamedTuple):
    """What an array in an archive is, and where in its member the values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]
    offset: int


def open_stored(
    address: str, key: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> StoredArray:
    """Open an array in a file or at a URL; see `open_array`.

    Parameters
    ----------
    address : str
        Path or URL, as `as_address` returns it.
    key : str, optional
        Which array of several.
    storage_options : mapping, optional
        For fsspec.
    """
    kind = PurePosixPath(address).suffix.lower()
    if not holds_array(address):
        raise ParameterError(
            f"{address!r} is not known to hold an array; expected .npy, .npz, .zarr, .h5 or .hdf5, "
            "or a URL of .zarr."
        )
    if storage_options is not None and not _is_url(address):
        raise ParameterError(f"storage_options are for URLs; {address!r} is a path.")
    key = (key or "").strip("/") or None
    with _readable_errors(address):
        if kind == ".npy":
            return _open_npy(address, key)
        if kind == ".npz":
            return _open_npz(Path(address), key)
        if kind == ".zarr":
            return _open_zarr(address, key, storage_options)
        return _open_hdf5(address, key)


def holds_array(address: str) -> bool:
    """Tell by its name whether a path or URL holds arrays.

    Examples
    --------
    >>> [holds_array(name) for name in ("a.npz", "B.H5", "s3://x/a.zarr", "s3://x/a.npy", "a.png")]
    [True, True, True, False, False]
    """
    kind = PurePosixPath(address).suffix.lower()
    return kind == ".zarr" or (kind in (".npy", ".npz", ".h5", ".hdf5") and not _is_url(address))


def as_address(path: str | os.PathLike[str]) -> str:
    """Return a URL as it is, without a slash at its end, and a path as an absolute one."""
    if isinstance(path, str) and _is_url(path):
        return path.rstrip("/")
    return str(as_path(path).absolute())


def _open_npy(address: str, key: str | None) -> StoredArray:
    _refuse_key(address, key)
    return StoredArray(np.lib.format.open_memmap(address, mode="r"), "", lambda name: None)


def _open_npz(path: Path, key: str | None) -> StoredArray:
    with zipfile.ZipFile(path) as archive:
        headers = {
            info.filename.removesuffix(".npy"): found
            for info in archive.infolist()
            if info.filename.endswith(".npy") and (found := _read_header(archive, info))
        }
        key = key if key in headers else _choose(str(path), headers, key)
        info, header = archive.getinfo(f"{key}.npy"), headers[key]
        if info.compress_type == zipfile.ZIP_STORED and not header.dtype.hasobject:
            start = _find_member(path, info) + header.offset
            array: Array = np.memmap(path, header.dtype, "r", start, header.shape, header.order)
        else:
            array = _load_member(archive, key)

    def names(what: str) -> Array | None:
        member = _beside(key, what)
        if member not in headers:
            return None
        with _readable_errors(str(path)), zipfile.ZipFile(path) as archive:
            return _as_names(path, member, _load_member(archive, member), header.shape[:1])

    return StoredArray(array, key, names)


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _NpyHeader | None:
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            # Tables, whose columns have names outside of Latin-1.
            return None
        return _NpyHeader(shape, dtype, "F" if fortran else "C", file.tell())


def _find_member(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member begins behind its own header, which may be longer than the central one."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(name) + int(extra)


def _load_member(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _open_zarr(
    address: str, key: str | None, storage_options: Mapping[str, Any] | None
) -> StoredArray:
    zarr = load_optional("zarr", purpose=f"opening {address}")
    options: dict[str, Any] = {}
    if _is_url(address):
        load_optional("fsspec", purpose=f"opening {address}")
        options = {"storage_options": dict(storage_options or {})}
    try:
        node = zarr.open(address, mode="r", **options)
    except ImportError as error:
        protocol = address.partition("://")[0]
        raise MissingDependencyError(
            f"fsspec's driver of {protocol}://",
            purpose=f"opening {address}",
            command=one_line(error),
        ) from error
    if hasattr(node, "shape"):
        _refuse_key(address, key)
        return StoredArray(refuse_short_chunks(node), "", lambda name: None)

    def list_arrays() -> dict[str, Any]:
        with warnings.catch_warnings():
            # Of files that lie between, such as those that file managers leave behind.
            warnings.filterwarnings("ignore", "Object at .* is not recognized as a component")
            members = node.members(max_depth=None)
        return {name: member for name, member in members if hasattr(member, "shape")}

    stored = _in_group(address, node, key, list_arrays)
    return stored._replace(array=refuse_short_chunks(stored.array))


def _open_hdf5(address: str, key: str | None) -> StoredArray:
    h5py = load_optional("h5py", purpose=f"opening {address}")
    file = h5py.File(address, "r")

    def list_arrays() -> dict[str, Any]:
        found: dict[str, Any] = {}
        # What it returns would end the visit.
        file.visititems(lambda name, node: found.update({name: node}))
        return {name: node for name, node in found.items() if hasattr(node, "shape")}

    return _in_group(address, file, key, list_arrays)


def _in_group(
    address: str, group: Any, key: str | None, list_arrays: Callable[[], dict[str, Any]]
) -> StoredArray:
    """Find an array, and the names of its rows, in a file of several."""
    if not (key and key in group and hasattr(group[key], "shape")):
        key = _choose(address, list_arrays(), key)
    array = group[key]

    def names(what: str) -> Array | None:
        member = _beside(key, what)
        if member not in group or not hasattr(group[member], "shape"):
            return None
        with _readable_errors(address):
            return _as_names(address, member, group[member][...], array.shape[:1])

    return StoredArray(array, key, names)


def _choose(address: str, arrays: Mapping[str, Any], key: str | None) -> str:
    """Name the only array there is, in a group if ``key`` is one, or say which there are."""
    inside = [name for name in arrays if key is None or name.startswith(f"{key}/")]
    wanted = [name for name in inside if PurePosixPath(name).name not in _NAMES]
    if len(wanted) == 1:
        return wanted[0]
    if not arrays:
        raise DataError(f"{address} holds no array.")
    listed = [f"{name} {_describe(arrays[name])}" for name in sorted(wanted or arrays)]
    some = ", ".join([*listed[:_LISTED], *(["..."] if len(listed) > _LISTED else [])])
    if key is None:
        raise ParameterError(
            f"{address} holds {len(listed)} arrays: {some}. Pass key=, such as "
            f"key={sorted(wanted or arrays)[0]!r}."
        )
    raise ParameterError(f"key={key!r} is no array of {address}, which holds {some}.")


def _describe(array: Any) -> str:
    return f"{array.shape} {array.dtype}"


def _beside(key: str, what: str) -> str:
    return key[: key.rfind("/") + 1] + what


def _as_names(address: Any, member: str, values: Any, expected: tuple[int, ...]) -> Array:
    values = np.asarray(values)
    if values.shape != expected:
        raise DataError(
            f"{member} of {address} has shape {values.shape}; expected {expected}, one for each "
            f"candidate. Pass {PurePosixPath(member).name}= to take others."
        )
    if values.dtype.kind not in "iuUSTO":
        raise DataError(
            f"{member} of {address} has dtype {values.dtype}; expected text or whole numbers."
        )
    texts = [
        value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()
    ]
    return np.array(texts, dtype=str)


def _refuse_key(address: str, key: str | None) -> None:
    if key is not None:
        raise ParameterError(f"key={key!r}, but {address} is a single array; leave it out.")


def _is_url(address: str) -> bool:
    return "://" in address


@contextlib.contextmanager
def _readable_errors(address: str) -> Iterator[None]:
    """Whatever libraries raise for what they cannot open, as one error that names it."""
    try:
        yield
    except (AIFTError, MemoryError):
        raise
    except Exception as error:  # of zarr, fsspec and its drivers there is no common kind
        if not _is_url(address) and not Path(address).exists():
            raise DataError(f"there is no file {address}.") from error
        # NumPy's words, as of archives and of memory maps.
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise DataError(
                f"{address} holds pickled objects, which could run code and are never loaded; "
                "expected numbers or text."
            ) from error
        raise DataError(f"{address} cannot be opened: {one_line(error)}.") from error
