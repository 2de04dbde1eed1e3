"""Which channels of slides are read, and whether their values need a window."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, ParameterError
from .slide_levels import Slide

__all__ = ["SlideValues", "check_channels", "choose_channels", "count_channels"]

# Channels that are read where none are chosen.
_MOST = 4


class SlideValues(NamedTuple):
    """What is read of a slide.

    Attributes
    ----------
    channels : tuple of int
        Which channels.
    deep : bool
        Whether the values are no bytes.
    """

    channels: tuple[int, ...]
    deep: bool


def check_channels(channels: Any) -> tuple[int, ...] | None:
    """Return the channels that a user chose, or None."""
    if channels is None:
        return None
    try:
        numbers = tuple(int(channel) for channel in channels)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ParameterError(
            f"channels={channels!r}; expected their numbers from 0 on, such as (0, 2)."
        )
    return numbers


def choose_channels(slide: Slide, asked: tuple[int, ...] | None) -> SlideValues:
    """Choose channels of a slide: those that are asked for, or all of a few.

    Raises
    ------
    DataError
        If there are more than 4, or it does not have one that is asked for.
    """
    n, deep = slide.n_channels, slide.dtype != np.uint8
    if asked is None:
        if n > _MOST:
            raise DataError(f"{n} channels; expected up to {_MOST}. Pass channels=(0, 1, 2), say")
        return SlideValues(tuple(range(n)), deep)
    if max(asked) >= n:
        raise DataError(f"no channel {max(asked)}; it has {n}, from 0 on")
    return SlideValues(asked, deep)


def count_channels(found: Iterable[SlideValues]) -> int:
    """Count the channels that tiles of all slides have; grey beside colour becomes colour.

    Raises
    ------
    DataError
        If slides differ otherwise.
    """
    counts = {len(values.channels) for values in found}
    if len(counts) > 1 and counts != {1, 3}:
        raise DataError(
            f"the slides have different numbers of channels, {sorted(counts)}; expected one "
            "number. Pass channels=(0,), say, to read the first of each."
        )
    return max(counts)
