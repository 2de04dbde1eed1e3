"""Files of other tools: read as data, with places for errors, and written in one step."""

from __future__ import annotations

import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

from ..._writing import as_path, write_atomically
from ...errors import DataError
from ...pools.annotation_files import load_json
from ..records import Ask

__all__ = [
    "LARGEST",
    "as_seconds",
    "as_time",
    "by_order",
    "check_size",
    "confidence",
    "origin_of",
    "read_json",
    "write_json",
    "write_text",
]

LARGEST = 2**29
"""Bytes of the largest file that is read: some hundred thousand annotations of Label Studio."""


def check_size(path: Path, largest: int = LARGEST) -> Path:
    """Refuse what is no file, or a larger one than any memory holds as objects.

    Raises
    ------
    DataError
        If it is.
    """
    if not path.exists():
        raise DataError(f"there is no file {path}.")
    if not path.is_file():
        raise DataError(f"{path} is no file; name the file that the other tool exported.")
    size = path.stat().st_size
    if size > largest:
        raise DataError(
            f"{path} has {size / 2**20:.0f} MiB; expected at most {largest / 2**20:.0f}. Export "
            "it in parts, and import one after the other."
        )
    return path


def read_json(path: Path) -> Any:
    """Read a JSON file of limited size; nothing in it is executed.

    Raises
    ------
    DataError
        If it is too large, or no JSON; with the place.
    """
    return load_json(check_size(path))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file in one step.

    Raises
    ------
    DataError
        If it holds what no text file can.
    """
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in one step, in UTF-8.

    Raises
    ------
    DataError
        If it holds what no text file can.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        name = text[max(0, error.start - 20) : error.end + 20]
        raise DataError(f"{name!r} holds what is no text; rename the file.") from error
    write_atomically(as_path(path), content)


def origin_of(path: Path) -> str:
    """Say what an answer came by that a file holds.

    Examples
    --------
    >>> origin_of(Path("exports/labels.csv"))
    'import:labels.csv'
    """
    return f"import:{path.name}"


def by_order(asks: list[Ask]) -> list[Ask]:
    """Sort asks as they are shown: the newest round first, then by rank.

    Examples
    --------
    >>> asks = [Ask("a", 1, round=0), Ask("b", 2, round=1), Ask("c", 1, round=1)]
    >>> [ask.candidate for ask in by_order(asks)]
    ['c', 'b', 'a']
    """
    return sorted(asks, key=lambda ask: (-ask.round, ask.rank))


def confidence(ask: Ask) -> float | None:
    """How sure the model is: the largest of the mean probabilities; None without a model."""
    return max(ask.proba) if ask.proba else None


def as_seconds(source: str, where: str, value: Any) -> float | None:
    """Read a number of seconds; None where there is none.

    Raises
    ------
    DataError
        If it is none.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise DataError(f"{source}, {where}: seconds are {value!r:.80}; expected a number from 0.")
    return float(value)


def as_time(source: str, where: str, value: Any) -> datetime.datetime | None:
    """Read a time of ISO 8601, in UTC unless it says otherwise; None where there is none.

    Raises
    ------
    DataError
        If it is none.

    Examples
    --------
    >>> as_time("a.json", "task 1", "2026-03-09T22:16:08.5Z").isoformat()
    '2026-03-09T22:16:08.500000+00:00'
    """
    if value is None or value == "":
        return None
    try:
        time = datetime.datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{source}, {where}: the time is {value!r:.80}; expected one like "
            "2026-03-09T22:16:08+00:00."
        ) from error
