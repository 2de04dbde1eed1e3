"""CSV files that list candidates, as spreadsheets of many countries write them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from .._writing import as_path
from ..errors import DataError

__all__ = ["find_listed_file", "read_listing", "read_rows"]

_SEPARATORS = ",;\t|"


def read_listing(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ("group", "split")
) -> dict[str, list[str]]:
    """Read a CSV file with a header.

    Columns may be separated by commas, semicolons, tabs or bars; the header may be written in any
    case, with spaces around its names and with a byte-order mark.

    Parameters
    ----------
    path : Path
        The file, UTF-8.
    columns : sequence of str
        Columns that are needed, in lower case; no value of theirs may be missing.
    optional : sequence of str, default=("group", "split")
        Columns that are read where they are present; no value may be missing either.

    Returns
    -------
    dict of str to list of str
        The columns, text without spaces around it, and ``line``: where each row begins.

    Raises
    ------
    DataError
        If the file is missing, or no such table; a bad row is named by its line.
    """
    rows, _ = read_rows(path)
    if not rows:
        raise DataError(f"{path} is not a readable CSV file: it is empty.")
    header = [name.strip().lower() for name in rows[0][1]]
    _check_header(path, header, rows[0][1], columns)
    if len(rows) == 1:
        raise DataError(f"{path} lists nothing; expected a row per candidate.")
    kept = [name for name in (*columns, *optional) if name in header]
    values = []
    for line, row in rows[1:]:
        cells = [cell.strip() for cell in row]
        if len(cells) > len(header) and not any(cells[len(header) :]):
            cells = cells[: len(header)]
        if len(cells) > len(header):
            raise DataError(
                f"{path}, line {line} has {len(cells)} values; expected {len(header)}, as in the "
                "header. Put quotes around values with a separator in them."
            )
        values.append([*cells, *[""] * (len(header) - len(cells))])
    columns_of = dict(zip(header, zip(*values, strict=True), strict=True))
    table = {name: list(columns_of[name]) for name in kept}
    table["line"] = [str(line) for line, _ in rows[1:]]
    _check_complete(path, table, kept)
    return table


def find_listed_file(folder: Path, name: str) -> Path:
    """Find a file that a list names: relative to the folder, absolute, or with a home in it.

    Examples
    --------
    >>> find_listed_file(Path("study"), "images/1.png").as_posix()
    'study/images/1.png'
    """
    path = folder / as_path(name)
    if "\\" in name and not path.exists():
        return folder / PureWindowsPath(name).as_posix()
    return path


def read_rows(path: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """Read a CSV file: rows that are not blank, each with the line where it begins.

    Returns
    -------
    rows : list of (int, list of str)
        The header is the first.
    separator : str
        What stands between values.

    Raises
    ------
    DataError
        If the file is missing, or no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            # How spreadsheets name the separator to each other.
            named = header.lower().startswith("sep=")
            separator = header[4:5] if named else max(_SEPARATORS, key=header.count)
            if not named:
                file.seek(0)
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
            rows, begin = [], 1 + named
            for row in reader:
                if any(cell.strip() for cell in row):
                    rows.append((begin, row))
                begin = reader.line_num + 1 + named
            return rows, separator
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV in UTF-8.") from error
    except (csv.Error, TypeError, OSError) as error:
        raise DataError(f"{path} is not a readable CSV file: {error}") from error


def _check_header(
    path: Path, header: list[str], written: list[str], columns: Sequence[str]
) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        hint = ""
        if "xmin" in header and "path" in missing:
            hint = f" Labelled boxes in images: boxes:{path.parent}."
        raise DataError(
            f"{path} lacks the columns {missing} and has {written}; expected a header with "
            f"{list(columns)}, in any case.{hint}"
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(
            f"{path} has several columns {twice[0]!r} (the case does not count); expected one of "
            "each name."
        )


def _check_complete(path: Path, table: dict[str, list[str]], kept: list[str]) -> None:
    empty = [row for row in range(len(table["line"])) if not all(table[name][row] for name in kept)]
    if empty:
        first = empty[0]
        blank = [name for name in kept if not table[name][first]]
        raise DataError(
            f"{path}, line {table['line'][first]}: a value is missing among {blank}; fill it in, "
            f"or remove the row ({len(empty)} such rows)."
        )
