"""The table of a study on disk: written round by round, so that an interrupted study goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from .._file_lock import FileLock
from .._writing import as_path, write_atomically
from ..errors import DataError, ParameterError

__all__ = ["Journal", "read_table", "write_table"]

Row = dict[str, Any]
Key = tuple[str, str, int, int]

# Changed settings that an error lists.
_MOST_CHANGES = 8
_MEASURED = ("auc", "balanced_accuracy", "score_seconds", "train_seconds")


class Journal:
    """Rows of a study, appended to a JSON-lines file as they are made.

    Beside ``table.jsonl`` lies ``table.settings.json`` with what every row was made with; rows of
    other settings are never mixed in. One journal at a time writes to a file.

    Parameters
    ----------
    path : path-like, optional
        The ``.jsonl`` file; without it nothing is written or known.
    settings : mapping of str to str, default={}
        What has to be the same for rows to belong to one table.
    parts : mapping of str to mapping of str to str, default={}
        What has to be the same for the rows of one part of the study, such as a strategy. A table
        may be extended by other parts.

    Raises
    ------
    ParameterError
        If the file holds a study with other settings, or another journal writes to it.
    DataError
        If the file is damaged, but for a last line that was cut off, which is dropped.

    Examples
    --------
    >>> import tempfile
    >>> row = {"strategy": "random", "seed": 0, "round": 0, "n_labels": 12, "auc": 0.75}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Journal(f"{folder}/table.jsonl", {"batch": "12"}) as journal:
    ...         journal.add(row)
    ...     with Journal(f"{folder}/table.jsonl", {"batch": "12"}) as journal:
    ...         journal.get("", "random", 0, 0) == row
    True
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        settings: Mapping[str, str] | None = None,
        parts: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.path = None if path is None else as_path(path)
        self._rows: dict[Key, Row] = {}
        self._file: Any = None
        self._lock: FileLock | None = None
        if self.path is None:
            return
        if self.path.is_dir():
            raise ParameterError(
                f"path={str(path)!r} is a folder; expected a file such as "
                f"{self.path / 'table.jsonl'}."
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        if not self._lock.acquire():
            raise ParameterError(
                f"another study is writing {self.path} ({self._lock.holder()}). Wait until it is "
                "done, and run this one again: it takes up the finished rounds. Or write to "
                "another file."
            )
        try:
            self._check_settings(self.path, dict(settings or {}), parts or {})
            self._rows = {_key(row): row for row in _read_rows(self.path, mend=True)}
        except BaseException:
            self._lock.release()
            raise

    def _check_settings(
        self, path: Path, settings: dict[str, str], parts: Mapping[str, Mapping[str, str]]
    ) -> None:
        beside = path.with_suffix(".settings.json")
        known: dict[str, dict[str, str]] = {}
        if path.exists() and path.stat().st_size:
            before, known = _read_settings(path, beside)
            remedy = "Use the same to go on with it"
            _refuse_changes(path, "other settings", before, settings, remedy)
            for name in parts.keys() & known.keys():
                _refuse_changes(
                    path,
                    f"rows of another {name}",
                    known[name],
                    parts[name],
                    f"{remedy}, give this one a name of its own to run it beside those rows",
                )
        told = {"study": settings, "parts": {**known, **{n: dict(p) for n, p in parts.items()}}}
        write_atomically(beside, json.dumps(told, indent=1, ensure_ascii=False))

    def get(self, head: str, strategy: str, seed: int, number: int) -> Row | None:
        """Return the row of a round that was run before, or None."""
        return self._rows.get((head, strategy, seed, number))

    def add(self, row: Row) -> None:
        """Keep a row, on disk before this returns."""
        self._rows[_key(row)] = row
        if self.path is not None:
            if self._file is None:
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write(json.dumps(_plain(row), ensure_ascii=False) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.release()


def _read_settings(path: Path, beside: Path) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    try:
        told = json.loads(beside.read_text("utf-8"))
        return dict(told["study"]), {name: dict(part) for name, part in told["parts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ParameterError(
            f"{path} is there, but {beside.name}, which says how it was made, is missing "
            "or damaged; write to another folder, or remove the table."
        ) from error


def _refuse_changes(
    path: Path,
    of_what: str,
    before: Mapping[str, str],
    now: Mapping[str, str],
    remedy: str,
) -> None:
    """Raise ParameterError where settings are not as they were."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        listed = "; ".join(
            f"{name}: {before.get(name, 'none')} before, {now.get(name, 'none')} now"
            for name in changed[:_MOST_CHANGES]
        )
        if len(changed) > _MOST_CHANGES:
            listed += f"; and {len(changed) - _MOST_CHANGES} more"
        raise ParameterError(
            f"{path} holds a study with {of_what} ({listed}). {remedy}, or write to another folder."
        )


def write_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write the table of `simulate` as JSON lines, which keep the lists in ``asked``.

    Parameters
    ----------
    table : DataFrame
        The table.
    path : path-like
        File to write; replaced in one step.

    Returns
    -------
    Path
        The file written.
    """
    rows = table.to_dict("records")
    text = "".join(json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in rows)
    return write_atomically(as_path(path), text)


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table that `write_table` or `simulate` wrote.

    Parameters
    ----------
    path : path-like
        The ``.jsonl`` file. A last line that was cut off is left out.

    Returns
    -------
    DataFrame
        As of `simulate`.

    Raises
    ------
    DataError
        If there is no such file, or it is damaged.
    """
    path = as_path(path)
    if not path.exists():
        raise DataError(f"there is no file {path}.")
    rows = _read_rows(path, mend=False)
    if not rows:
        raise DataError(f"{path} holds no rows.")
    return as_frame(rows)


def as_frame(rows: list[Row]) -> pd.DataFrame:
    """Rows as a table, with undefined measurements as NaN."""
    table = pd.DataFrame(rows)
    present = [name for name in _MEASURED if name in table]
    return table.astype(dict.fromkeys(present, "float64"))


def _key(row: Row) -> Key:
    return str(row.get("head", "")), str(row["strategy"]), int(row["seed"]), int(row["round"])


def _read_rows(path: Path, *, mend: bool) -> list[Row]:
    """Parse the lines; a last one without its end was being written when the study stopped."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            rows.append(json.loads(line))
            _key(rows[-1])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number} is no row of a study: {error}.") from error
    if mend and len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return rows


def _plain(value: Any) -> Any:
    """What JSON can hold: lists, numbers, and null for NaN."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
