"""Chunks of Zarr arrays that were cut short, where the decoder would not notice."""

from __future__ import annotations

import struct
from typing import Any

from ..errors import DataError

__all__ = ["refuse_short_chunks"]

# Blosc's header: how many bytes a chunk has with it, and where that stands.
_HEADER, _LENGTH_AT = 16, 12
_METADATA = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")


def refuse_short_chunks(array: Any) -> Any:
    """Reopen an array so that chunks of Blosc are checked to be as long as they say.

    Blosc as numcodecs calls it reads on behind the end of a truncated chunk, and what lies there
    becomes pixels (numcodecs, issue 228). Other compressors notice.

    Parameters
    ----------
    array : zarr.Array
        The array, of any compressor.

    Returns
    -------
    zarr.Array
        The same, if another compressor is used or chunks lie in shards, which have checksums.
    """
    compressors: Any = getattr(array, "compressors", ())
    is_blosc = bool(compressors) and type(compressors[-1]).__name__.startswith("Blosc")
    if not is_blosc or getattr(array, "shards", None) is not None:
        return array
    import zarr

    class WholeChunks(zarr.storage.WrapperStore[Any]):
        """A store that hands out no chunk that was cut short."""

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            value = await super().get(key, prototype, byte_range)
            if value is not None and byte_range is None and not key.endswith(_METADATA):
                _refuse_short(value[:_HEADER].to_bytes(), len(value))
            return value

    return zarr.open_array(store=WholeChunks(array.store), path=array.path, mode="r")


def _refuse_short(header: bytes, length: int) -> None:
    if len(header) < _HEADER or length < struct.unpack_from("<I", header, _LENGTH_AT)[0]:
        raise DataError("a chunk that was cut short")
