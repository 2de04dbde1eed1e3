"""Cells of tables that spreadsheets open and save: no text in them is taken for a formula."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .listings import read_rows

__all__ = ["MARK", "OF_IDS", "OF_TEXT", "as_cell", "find_columns", "from_cell", "read_cells"]

MARK = "\ufeff"
"""A byte-order mark, by which spreadsheets know UTF-8."""
OF_IDS = "./"
"""What is put before an id that looks like a formula: to a system of files it is the same name."""
OF_TEXT = "'"
"""What is put before other text that does: spreadsheets take what follows for text."""

# What spreadsheets take for the beginning of a formula, in any width.
_FORMULA = tuple("=+-@\t\r＝＋－＠")


def as_cell(text: str, guard: str = OF_IDS) -> str:
    """Write text so that no spreadsheet takes it for a formula.

    Parameters
    ----------
    text : str
        Any; `from_cell` gives it back.
    guard : str, default=OF_IDS
        What is put before it where it needs that: `OF_IDS` or `OF_TEXT`.

    Examples
    --------
    >>> as_cell("a.png"), as_cell("-1.png"), as_cell("=SUM(A1)", OF_TEXT)
    ('a.png', './-1.png', "'=SUM(A1)")
    """
    return guard + text if _is_formula(text, guard) else text


def from_cell(text: str, guard: str = OF_IDS) -> str:
    """Read what `as_cell` wrote.

    Examples
    --------
    >>> from_cell("a.png"), from_cell("./-1.png"), from_cell("./a.png")
    ('a.png', '-1.png', './a.png')
    """
    if text.startswith(guard) and _is_formula(text, guard):
        return text[len(guard) :]
    return text


def _is_formula(text: str, guard: str) -> bool:
    # What is guarded already is guarded once more, so that reading takes one off.
    while text.startswith(guard):
        text = text[len(guard) :]
    return text.startswith(_FORMULA)


def read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Read a CSV file with a header, as spreadsheets of many countries write it.

    Returns
    -------
    header : list of str
        Names of the columns, in lower case, without spaces around them; empty for an empty file.
    rows : list of (int, list of str)
        Where each begins, and its cells as they are, one for each column.
    separator : str
        What stands between them.

    Raises
    ------
    DataError
        If the file is missing, or no such table; a bad row is named by its line.
    """
    rows, separator = read_rows(path)
    if not rows:
        return [], [], separator
    header = [name.strip().lower() for name in rows[0][1]]
    width = len(header)
    for line, cells in rows[1:]:
        if any(cell.strip() for cell in cells[width:]):
            raise DataError(
                f"{path}, line {line} has {len(cells)} values; expected {width}, as in the header. "
                "Put quotes around values with a separator in them."
            )
        cells[:] = [*cells[:width], *[""] * (width - len(cells))]
    return header, rows[1:], separator


def find_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Find columns by their names, each of which has to be there once.

    Raises
    ------
    DataError
        If one is missing, or there twice.
    """
    for name in columns:
        if header.count(name) != 1:
            raise DataError(
                f"{path} has {header.count(name) or 'no'} columns {name!r} in its header "
                f"{list(header)}; expected {' and '.join(columns)}, once each, as 'aift ask' "
                "writes them. Name another file, or mend the header."
            )
    return [header.index(name) for name in columns]
