"""Cells of tables: no spreadsheet takes one for a formula, and each is read as it was written."""

import pytest
from exchanges import NASTY
from hypothesis import example, given
from hypothesis import strategies as st

from aift_sklearn.errors import DataError
from aift_sklearn.pools.cells import OF_IDS, OF_TEXT, as_cell, find_columns, from_cell, read_cells


@given(text=st.one_of(st.sampled_from(NASTY), st.text()), guard=st.sampled_from([OF_IDS, OF_TEXT]))
@example(text="././-", guard=OF_IDS)
@example(text="''=", guard=OF_TEXT)
def test_cells_are_read_as_they_were_written_and_are_no_formulas(text, guard):
    cell = as_cell(text, guard)
    assert from_cell(cell, guard) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))


def test_rows_are_as_wide_as_the_header(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("Id ;LABEL; note\n a;b\n\nc;d;e; \n")
    header, rows, separator = read_cells(path)
    assert (header, separator) == (["id", "label", "note"], ";")
    assert rows == [(2, ["a", "b", ""]), (4, ["c", "d", "e"])]
    assert find_columns(path, header, ["note", "id"]) == [2, 0]
    path.write_text("")
    assert read_cells(path) == ([], [], ",")


def test_what_is_no_such_table_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,label\na,b,c\n")
    with pytest.raises(DataError, match="line 2 has 3 values; expected 2"):
        read_cells(path)
    with pytest.raises(DataError, match="has no columns 'note'"):
        find_columns(path, ["id"], ["id", "note"])
