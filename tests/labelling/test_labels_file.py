"""The CSV file that people fill in: nothing that was typed is touched."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aift_sklearn.errors import DataError
from aift_sklearn.labelling import LabelsFile

text = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1).filter(
    lambda name: name == name.strip()
)


@given(first=st.lists(text, unique=True, min_size=1), second=st.lists(text, unique=True))
def test_what_is_asked_is_read_again(first, second, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    file = LabelsFile.read(path)
    assert file.labels == {}
    file.append(first)
    before = path.read_bytes()
    again = LabelsFile.read(path)
    assert again.waiting == first == file.waiting
    again.append(new := [name for name in second if name not in first])
    assert path.read_bytes().startswith(before)
    assert LabelsFile.read(path).waiting == first + new


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_of_a_spreadsheet_is_kept_to_the_byte(tmp_path, separator, end):
    path = tmp_path / "labels.csv"
    rows = [["Id", "note", "LABEL"], ["a.png", "blurred?", "cyst"], ["b.png", "", ""]]
    typed = "\ufeff" + "\n".join(separator.join(row) for row in rows) + end
    path.write_bytes(typed.encode())
    file = LabelsFile.read(path)
    assert file.answered == {"a.png": "cyst"}
    assert file.waiting == ["b.png"]
    file.append(["c.png"])
    assert path.read_bytes().startswith(typed.encode())
    again = LabelsFile.read(path)
    assert again.labels == {"a.png": "cyst", "b.png": "", "c.png": ""}
    with path.open(encoding="utf-8-sig", newline="") as opened:
        assert {len(row) for row in csv.reader(opened, delimiter=separator)} == {3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na.png,cyst\n", "has no columns 'id'"),
        ("id,label,label\na.png,,x\n", "has 2 columns 'label'"),
        ("id,label\na.png,benign, likely\n", "line 2 has 3 values; expected 2"),
        ('id,label\na.png,"dark\nb.png,bright\n', "is not a readable CSV file"),
        ('id,label\na.png,"dark\nb.png,bright"\n', "is a quote open"),
        ("id,label\na.png,cyst\na.png,tumour\n", "line 3: a.png has the label 'tumour' here"),
        ("id,label\n,cyst\n", "line 2: a row without an id"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, content, message):
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        LabelsFile.read(tmp_path / "labels.csv")


def test_a_label_that_is_typed_twice_counts_once(tmp_path):
    (tmp_path / "labels.csv").write_text("id,label\na.png,\na.png,cyst\na.png,cyst\na.png,\n")
    assert LabelsFile.read(tmp_path / "labels.csv").labels == {"a.png": "cyst"}


def test_a_spreadsheet_that_saves_meanwhile_loses_nothing(tmp_path):
    path = tmp_path / "labels.csv"
    file = LabelsFile.read(path)
    file.append(["a.png", "b.png"])
    other = LabelsFile.read(path)
    path.write_text("note;label;id\n;cyst;a.png\n;;b.png")
    file.append(["c.png", "a.png"])
    other.append(["c.png", "d.png"])
    assert path.read_text() == "note;label;id\n;cyst;a.png\n;;b.png\n;;c.png\n;;d.png\n"
    assert file.answered == other.answered == {"a.png": "cyst"}


def test_ids_that_look_like_formulas_come_back(tmp_path):
    path = tmp_path / "labels.csv"
    names = ["=1+2.png", "-a.png", "@b.png", "+c.png", "./d.png"]
    LabelsFile.read(path).append(names)
    assert not any(line[0] in "=+-@" for line in path.read_text("utf-8-sig").splitlines())
    assert LabelsFile.read(path).waiting == names


@pytest.mark.parametrize("name", [" a.png", "a.png ", "a\rb.png", ""])
def test_an_id_that_no_table_keeps_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="does not survive in a table"):
        LabelsFile.read(tmp_path / "labels.csv").append(["x.png", name])
    assert not (tmp_path / "labels.csv").exists()


def test_a_shared_file_stays_where_and_whose_it_is(tmp_path):
    shared = tmp_path / "shared.csv"
    shared.write_text("id,label\na.png,x\n")
    shared.chmod(0o664)
    link = tmp_path / "labels.csv"
    link.symlink_to(shared)
    LabelsFile.read(link).append(["b.png"])
    assert link.is_symlink()
    assert shared.stat().st_mode & 0o777 == 0o664
    assert LabelsFile.read(shared).waiting == ["b.png"]


@pytest.mark.parametrize("content", ["", "\ufeff", "\n"])
def test_an_empty_file_is_begun(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_text(content, encoding="utf-8")
    LabelsFile.read(path).append(["a.png"])
    assert LabelsFile.read(path).waiting == ["a.png"]
