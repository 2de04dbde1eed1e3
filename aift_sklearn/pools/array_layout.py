"""What candidates an array holds, told by its shape and type, and how they are put in order."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import check_option
from ..errors import DataError, DataTypeError, ParameterError
from .decoding import to_bytes

__all__ = ["Layout", "plan_layout"]

Array = NDArray[Any]
Channels = Literal["auto", "first", "last"]

# Channels that an axis is taken for where none is named: grey, colour, colour and transparency.
_CHANNELS = (1, 3, 4)
# Values that are mapped by a window at once, as float32.
_AT_ONCE = 2**20


class Layout(NamedTuple):
    """How candidates lie in an array, and what becomes of them.

    Attributes
    ----------
    shape : tuple of int
        (n, C, H, W) or (n, f), as they are read.
    dtype : dtype
        As they are read.
    channel_axis : {"none", "first", "last"}
        Where channels lie in the array.
    window : tuple of (float, float), or None
        Values that become 0 and 255.
    note : str
        What is left out, if anything is.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channel_axis: Literal["none", "first", "last"]
    window: tuple[float, float] | None
    note: str = ""

    def put(self, block: Array, out: Array) -> list[int]:
        """Put candidates as they lie in the array where they belong.

        Parameters
        ----------
        block : ndarray of shape (k, ...)
            Some candidates of the array.
        out : ndarray of shape (k, C, H, W) or (k, f)
            Where they are put.

        Returns
        -------
        list of int
            Those that a window cannot map, since they are not finite; nothing was put there.
        """
        if self.channel_axis == "last":
            block = block[..., : self.shape[1]].transpose(0, 3, 1, 2)
        elif block.ndim == 3:
            block = block[:, None]
        if self.window is None:
            out[...] = block
            return []
        step = max(1, _AT_ONCE // math.prod(self.shape[1:]))
        bad: list[int] = []
        for start in range(0, len(block), step):
            values = block[start : start + step].astype(np.float32)
            finite = np.isfinite(values).all(axis=(1, 2, 3))
            out[start : start + step][finite] = to_bytes(values[finite], self.window)
            bad += (start + np.flatnonzero(~finite)).tolist()
        return bad


def plan_layout(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    channels: Channels = "auto",
    window: tuple[float, float] | None = None,
) -> Layout:
    """Tell what candidates an array holds.

    Parameters
    ----------
    shape : tuple of int
        Of the array: (n, C, H, W), (n, H, W, C), (n, H, W) or (n, f).
    dtype : dtype
        Of the array.
    channels : {"auto", "first", "last"}, default="auto"
        Where channels lie in images of four axes; "auto" takes a last axis of 1, 3 or 4 for them,
        and raises if the second could be meant as well.
    window : (float, float), optional
        Values that become 0 and 255.

    Raises
    ------
    DataError
        If these are no candidates, or it is not clear where channels lie.
    DataTypeError
        If they are not of a type that images or features have.
    ParameterError
        If ``channels`` or ``window`` does not fit.

    Examples
    --------
    >>> plan_layout((60, 28, 28, 3), np.dtype("uint8")).shape
    (60, 3, 28, 28)
    >>> plan_layout((60, 512, 512), np.dtype("int16"), window=(-1000, 400)).dtype
    dtype('uint8')
    """
    check_option("channels", channels, ("auto", "first", "last"))
    if len(shape) not in (2, 3, 4) or 0 in shape:
        raise DataError(
            f"the array has shape {shape}; expected images (n, C, H, W), (n, H, W, C) or grey "
            "(n, H, W), or features (n, f), at least one."
        )
    if channels != "auto" and len(shape) < 4:
        raise ParameterError(
            f"channels={channels!r}, but the array has shape {shape}, without an axis of channels; "
            "leave it out."
        )
    if window is not None:
        if len(shape) == 2:
            raise ParameterError(
                f"window={window!r}, but the array has shape {shape}: features, not images."
            )
        window = _check_window(window)
    dtype = _dtype_as_read(dtype, images=len(shape) > 2, window=window)
    if len(shape) == 2:
        return Layout(shape, dtype, "none", None)
    if len(shape) == 3:
        return Layout((shape[0], 1, *shape[1:]), dtype, "none", window)
    if (channels if channels != "auto" else _guess_channels(shape)) == "first":
        return Layout(shape, dtype, "first", window)
    n, height, width, n_channels = shape
    note = ""
    if channels == "auto" and n_channels == 4:
        n_channels = 3
        note = (
            "the last of 4 channels is taken for transparency and dropped; channels='last' keeps it"
        )
    return Layout((n, n_channels, height, width), dtype, "last", window, note)


def _guess_channels(shape: tuple[int, ...]) -> Channels:
    first, last = shape[1] <= 4, shape[3] in _CHANNELS
    # As of many channels that come last, behind square images.
    odd = not first and shape[1] == shape[2] != shape[3]
    if (shape[3] > 4 and not odd) or (first and not last):
        return "first"
    if last and not first:
        return "last"
    raise DataError(
        f"the array has shape {shape}, of which it is not clear where the channels lie; pass "
        f"channels='first' for {shape[1]} channels of {shape[2]} x {shape[3]} pixels, or "
        f"channels='last' for {shape[3]} of {shape[1]} x {shape[2]} (height x width)."
    )


def _dtype_as_read(
    dtype: np.dtype[Any], *, images: bool, window: tuple[float, float] | None
) -> np.dtype[Any]:
    if dtype.kind not in "biuf":
        raise DataTypeError(
            f"the array has dtype {dtype}; expected uint8 or float images, or features that are "
            "numbers."
        )
    if window is not None:
        return np.dtype(np.uint8)
    if images and dtype.kind in "iu" and dtype != np.uint8:
        raise DataTypeError(
            f"the images have dtype {dtype}; expected uint8 in [0, 255] or float in [0, 1]. Pass "
            "window=(low, high), the darkest and the brightest value that matter, to map them to 0 "
            "to 255, the same for all images."
        )
    return dtype.newbyteorder("=")


def _check_window(window: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in window)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"window={window!r}; expected (darkest, brightest).") from error
    if not (np.isfinite([low, high]).all() and low < high):
        raise ParameterError(f"window={window!r}; expected the darkest value before the brightest.")
    return low, high
