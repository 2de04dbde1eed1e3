"""CSV lists as spreadsheets and scripts write them; what is wrong is named by its line."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture, save, sort_into_classes

from aift_sklearn.errors import DataError
from aift_sklearn.pools.listings import read_listing
from aift_sklearn.study import load_csv


@pytest.fixture
def folder(tmp_path):
    sort_into_classes(tmp_path)
    return tmp_path


def rows(n=6):
    return [f"{label}/{k}.png,{label}" for label in ("benign", "malignant") for k in range(n)]


def write(folder, text, encoding="utf-8"):
    (folder / "list.csv").write_text(text, encoding, newline="")
    return folder / "list.csv"


@pytest.mark.parametrize("header", ["Path,Label", "PATH,LABEL", " path , label ", '"Path","Label"'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_headers_in_any_case_and_dress(folder, header, encoding, separator, newline):
    text = newline.join([header, *rows()]).replace(",", separator)
    data = load_csv(write(folder, text, encoding))
    assert data.classes.tolist() == ["benign", "malignant"]
    assert len(data.y) + len(data.y_test) == 12
    assert data.notes == ()


def test_spaces_around_values_and_named_separators(folder):
    text = "\n".join(["sep=;", "path;label", *(row.replace(",", " ; ") + "  " for row in rows())])
    assert load_csv(write(folder, text)).classes.tolist() == ["benign", "malignant"]


def test_further_columns_and_blank_lines_do_no_harm(folder):
    text = "\n".join(
        ["id,Path,,Label", "", *(f"1,{r.replace(',', ',x,')}" for r in rows()), "", ""]
    )
    data = load_csv(write(folder, text))
    assert len(data.y) + len(data.y_test) == 12


def test_quoted_separators_and_absolute_and_windows_paths(folder):
    save(folder / "a, b" / "0.png", seed=77)
    named = [
        '"a, b/0.png",benign',
        f"{folder}/benign/0.png,benign",
        "malignant\\0.png,malignant",
        ".\\malignant\\1.png,malignant",
    ]
    data = load_csv(write(folder, "\n".join(["path,label", *named])))
    assert len(data.y) + len(data.y_test) == 4


@given(
    labels=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1))
)
def test_what_a_writer_of_csv_writes_is_read_back(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "list.csv"
    labels = [label for label in labels if label.strip()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Path", "Label"])
        writer.writerows([f"{k}.png", label] for k, label in enumerate(labels))
    if not labels:
        with pytest.raises(DataError, match="lists nothing"):
            read_listing(path, ["path", "label"])
        return
    table = read_listing(path, ["path", "label"])
    assert table["label"] == [label.strip() for label in labels]
    assert table["path"] == [f"{k}.png" for k in range(len(labels))]
    text = path.read_bytes().decode()
    lines = [text[: text.index(f"\n{k}.png") + 1].count("\n") + 1 for k in range(len(labels))]
    assert [int(line) for line in table["line"]] == lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nbenign/0.png,a\n\nbenign/1.png,\n", "line 4: a value is missing"),
        ("path,label\nbenign/0.png,a\nbenign/1.png,   \n", "line 3: a value is missing"),
        ("path,label\nbenign/0.png,a\nbenign/1.png\n", "line 3: a value is missing"),
        ("path,label\nbenign/0.png,a,b\n", "line 2 has 3 values; expected 2"),
        ('path,label\n"a\nb.png",a\nbenign/1.png,\n', "line 4: a value is missing"),
        ("path,label\nbenign/0.png,a\nhttps://x.org/1.png,b\n", r"line 3.* \(a URL; download it"),
        (
            "path,label\nbenign/0.png,a\nbenign/99.png,b\n",
            r"1 of 2.*line 3, benign/99\.png \(no su",
        ),
        ("Path,path,label\nbenign/0.png,x,a\n", "several columns 'path'"),
        ("label\na\n", r"lacks the columns \['path'\]"),
        ("image,xmin,ymin,xmax,ymax,label\na,1,1,2,2,b\n", "Labelled boxes in images: boxes:"),
        ("path,label\n", "lists nothing"),
        ("", "empty"),
        ("\n\n", "empty"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(folder, text, message):
    with pytest.raises(DataError, match=message):
        load_csv(write(folder, text))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused(folder, encoding):
    with pytest.raises(DataError, match="not UTF-8"):
        load_csv(write(folder, "path,label\nbenign/0.png,ä\n", encoding))


def test_a_folder_is_no_list(folder):
    with pytest.raises(DataError, match="not a readable CSV"):
        load_csv(folder)


def test_rows_listed_twice_count_once_and_are_named(folder):
    text = "\n".join(["path,label", *rows(), rows()[2], rows()[7]])
    data = load_csv(write(folder, text))
    assert len(data.y) + len(data.y_test) == 12
    assert data.notes == ("2 rows that are listed before left out: line 14, line 15",)


def test_one_image_under_two_labels_is_named_by_its_lines(folder):
    text = "\n".join(["path,label", *rows(), "benign/0.png,malignant"])
    (note,) = [note for note in load_csv(write(folder, text)).notes if "two labels" in note]
    assert "one image comes under two labels" in note
    assert "line 2, benign/0.png, line 14, benign/0.png" in note


def test_labels_that_differ_in_case_are_noted(folder):
    text = "\n".join(["path,label", *rows(), "benign/0.png,Benign", "malignant/0.png,Benign"])
    assert any("'Benign' and 'benign'" in note for note in load_csv(write(folder, text)).notes)


@pytest.mark.parametrize(
    ("names", "n_test"),
    [
        (("Train", "TEST", "test"), 8),
        (("train", "val", "val"), 8),
        (("training", "Validation", "test"), 4),
    ],
)
def test_a_split_may_be_named_in_any_case(folder, names, n_test):
    text = "\n".join(
        ["Path,Label,Split", *(f"{row},{names[k % 3]}" for k, row in enumerate(rows()))]
    )
    data = load_csv(write(folder, text))
    assert (len(data.y), len(data.y_test)) == (12 - n_test, n_test)


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_a_split_that_is_none_is_refused(folder, split):
    text = "\n".join(["path,label,split", *(f"{row},{split}" for row in rows())])
    with pytest.raises(DataError, match=rf"'{split}'\]; expected 'train' and 'test'"):
        load_csv(write(folder, text))


def test_pixels_keep_their_labels(folder):
    data = load_csv(
        write(
            folder,
            "\n".join(["Label;Path", *(";".join(reversed(row.split(","))) for row in rows())]),
        )
    )
    benign = {np.asarray(picture(k)).transpose(2, 0, 1).tobytes() for k in range(6)}
    assert [image.tobytes() in benign for image in data.X] == (data.y == "benign").tolist()
