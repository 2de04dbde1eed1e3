"""How a DICOM file asks to be shown: its window, or its table of shades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .decoding import to_bytes

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["show_by_file", "window_ends"]

Values = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def show_by_file(values: Values, settings: Dataset) -> Bytes | None:
    """Map values to 0 to 255 as a file asks for; of several ways the first is taken.

    Parameters
    ----------
    values : ndarray of float32
        In the modality's units.
    settings : Dataset
        Of the frame.

    Returns
    -------
    ndarray of uint8, or None
        None where it does not ask for anything that can be done.
    """
    tables = settings.get("VOILUTSequence")
    if tables and tables[0].get("LUTDescriptor") and tables[0].get("LUTData") is not None:
        return _look_up(
            values, tables[0], little=settings.file_meta.TransferSyntaxUID.is_little_endian
        )
    center, width = (_first(settings.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        return None
    function = str(settings.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID" and width > 0:
        steep = np.clip(4 * (values.astype(np.float64) - center) / width, -50, 50)
        return np.asarray(np.rint(255 / (1 + np.exp(-steep))), dtype=np.uint8)
    ends = window_ends(center, width, exact=function == "LINEAR_EXACT")
    return None if ends is None else to_bytes(values, ends)


def window_ends(center: float, width: float, *, exact: bool = False) -> tuple[float, float] | None:
    """Return the values that a window shows as black and as white; None where it has no width.

    Parameters
    ----------
    center, width : float
        As DICOM has them (PS3.3, C.11.2.1.2).
    exact : bool, default=False
        Of the function LINEAR_EXACT; that of LINEAR, the usual one, counts from the middle of one
        whole value to that of another.

    Examples
    --------
    >>> window_ends(40, 400)
    (-160.0, 239.0)
    >>> window_ends(40, 400, exact=True)
    (-160.0, 240.0)
    """
    if width < (1e-9 if exact else 1):
        return None
    if not exact:
        center, width = center - 0.5, width - 1
    low = float(center - width / 2)
    return low, max(float(center + width / 2), low + 1e-6 * max(1.0, abs(low)))


def _look_up(values: Values, item: Dataset, *, little: bool) -> Bytes:
    length, first, bits = (int(number) for number in item.LUTDescriptor)
    data: Any = item.LUTData
    if isinstance(data, bytes):
        # Entries of 8 bits are packed by some writers, and lie in words of 16 by others.
        packed = len(data) < 2 * (length or 2**16)
        data = np.frombuffer(data, "u1" if packed else "<u2" if little else ">u2")
    table = np.atleast_1d(np.asarray(data, dtype=np.float64))[: length or 2**16]
    # pydicom looks up in integers of the table's depth, which many entries of 8 bits overflow.
    places = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.intp)
    top = max(2.0**bits - 1, float(table.max()))
    return np.asarray(np.rint(table[places] * (255 / top)), dtype=np.uint8)


def _first(value: Any) -> float | None:
    if value is None or isinstance(value, (str, bytes)):
        return None
    value = value if np.ndim(value) == 0 else next(iter(value), None)
    return None if value is None else float(value)
