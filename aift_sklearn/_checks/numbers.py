"""Parameters: whole numbers, numbers in a range, one of several."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ParameterError

__all__ = ["check_int", "check_number", "check_option"]


def check_int(name: str, value: Any, *, minimum: int) -> int:
    """Refuse anything but a whole number from ``minimum`` on."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise ParameterError(f"{name}={value!r}; expected a whole number from {minimum} on.")
    return int(value)


def check_number(name: str, value: Any, *, low: float, high: float = math.inf) -> float:
    """Refuse anything but a finite number in [low, high]."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not (low <= value <= high) or not math.isfinite(value):
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise ParameterError(f"{name}={value!r}; expected a number of at least {low:g}{upper}.")
    return float(value)


def check_option(name: str, value: Any, options: tuple[Any, ...]) -> None:
    """Refuse a value that is not one of the options."""
    if not any(value is option or value == option for option in options):
        listed = ", ".join(repr(option) for option in options)
        raise ParameterError(f"{name}={value!r}; expected one of {listed}.")
