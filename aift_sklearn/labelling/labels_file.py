"""A CSV file of questions and answers, which people fill in with whatever they have."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .._writing import as_path, lock_folder, write_atomically
from ..errors import DataError
from ..pools.cells import MARK, OF_TEXT, as_cell, find_columns, from_cell, read_cells

__all__ = ["LabelsFile"]

_COLUMNS = ["id", "label"]


@dataclass
class LabelsFile:
    """A CSV file with the columns id and label, one row for each candidate that was asked for.

    A row without a label is a question that waits. New questions are added below; what stands in
    the file already is never written anew, so that nothing that was typed can be lost.

    Attributes
    ----------
    path : Path
        The file, which need not exist yet.
    labels : dict of str to str
        Id → label, empty where it is missing; in the order of the file.

    Examples
    --------
    >>> import tempfile
    >>> file = LabelsFile.read(tempfile.mkdtemp() + "/labels.csv")
    >>> file.append(["a.png", "b.png"])
    >>> file.path.read_text("utf-8-sig").splitlines()
    ['id,label', 'a.png,', 'b.png,']
    """

    path: Path
    labels: dict[str, str]
    _header: list[str]
    _separator: str = ","

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LabelsFile:
        """Read the file, or begin one that is not there.

        Raises
        ------
        DataError
            If it is no CSV file with these columns, or gives one candidate two labels.
        """
        path = as_path(path)
        header, rows, separator = read_cells(path) if path.exists() else ([], [], ",")
        if not header:
            return cls(path, {}, list(_COLUMNS))
        at = find_columns(path, header, _COLUMNS)
        labels: dict[str, str] = {}
        for line, cells in rows:
            name = from_cell(cells[at[0]].strip())
            label = from_cell(cells[at[1]].strip(), OF_TEXT)
            _check_row(path, line, name, label, labels.get(name, ""))
            labels[name] = label or labels.get(name, "")
        return cls(path, labels, header, separator)

    @property
    def answered(self) -> dict[str, str]:
        """Id → label of those that have one."""
        return {name: label for name, label in self.labels.items() if label}

    @property
    def waiting(self) -> list[str]:
        """Ids of questions without a label."""
        return [name for name, label in self.labels.items() if not label]

    def append(self, ids: Sequence[str]) -> None:
        """Add questions below what the file holds by now, in one step; none is added twice.

        Raises
        ------
        DataError
            If an id has spaces at its ends or breaks a line, which no table keeps.
        """
        for name in ids:
            if name != name.strip() or "\r" in name or not name:
                raise DataError(f"the id {name!r} does not survive in a table; rename the file.")
        with lock_folder(self.path.resolve().parent):
            # Somebody may have saved it meanwhile, another spreadsheet with another separator.
            now = LabelsFile.read(self.path)
            self._header, self._separator = now._header, now._separator
            new = [name for name in ids if name not in now.labels]
            self.labels = now.labels | dict.fromkeys(new, "")
            buffer = io.StringIO()
            writer = csv.writer(buffer, delimiter=self._separator, lineterminator="\n")
            path = self.path.resolve()
            before = path.read_bytes() if path.exists() else b""
            if not before.strip(MARK.encode()).strip():
                writer.writerow(self._header)
                before = MARK.encode()
            elif not before.endswith(b"\n"):
                before += b"\n"
            for name in new:
                row = [as_cell(name) if column == "id" else "" for column in self._header]
                writer.writerow(row)
            mode = path.stat().st_mode if path.exists() else None
            write_atomically(path, before + buffer.getvalue().encode())
            if mode is not None:
                path.chmod(stat.S_IMODE(mode))


def _check_row(path: Path, line: int, name: str, label: str, before: str) -> None:
    if not name:
        raise DataError(f"{path}, line {line}: a row without an id; remove it.")
    if "\n" in label:
        raise DataError(
            f"{path}, line {line}: the label of {name} goes over several lines; is a quote open?"
        )
    if before and label and before != label:
        raise DataError(
            f"{path}, line {line}: {name} has the label {label!r} here and {before!r} above; keep "
            "one."
        )
