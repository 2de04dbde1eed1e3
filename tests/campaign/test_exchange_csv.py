"""CSV: nothing is lost on the way out and in, and no spreadsheet takes text for a formula."""

import csv
import dataclasses
import os

import pytest
from exchanges import FakeLedger, campaigns, said
from hypothesis import given

from aift_sklearn.campaign.exchange import (
    export_consensus,
    export_csv,
    files,
    plan_import,
    read_answers,
)
from aift_sklearn.campaign.records import Answer, Ask, Kind, Purpose
from aift_sklearn.errors import DataError, DataTypeError
from aift_sklearn.labelling import LabelsFile


@given(campaign=campaigns())
def test_what_is_exported_is_imported_again_and_once(campaign, tmp_path_factory):
    classes, asks, answers = campaign
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    assert export_csv(path, asks, answers) == len(answers)
    reading = read_answers(path, classes)
    elsewhere = FakeLedger()
    plan = plan_import(reading, asks, elsewhere.rows, classes)
    for answer in plan.answers:
        elsewhere.answer(answer)
    assert said(elsewhere.current()) == said(answers)
    assert [a.uid for a in plan.answers] == [a.uid for a in answers]
    assert [a.visible for a in plan.answers] == [a.visible for a in answers]
    assert [entry.time for entry in reading.entries] == [a.time for a in answers]
    # Into the same campaign, and a second time into the other.
    for rows in (answers, elsewhere.rows):
        again = plan_import(reading, asks, rows, classes)
        assert (again.answers, again.unchanged) == ((), len(answers))
        assert not again.conflicts


@given(campaign=campaigns())
def test_no_cell_of_text_is_a_formula(campaign, tmp_path_factory):
    _, asks, answers = campaign
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    export_csv(path, asks, answers)
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    for row in rows:
        for name, cell in zip(header, row, strict=True):
            assert name in ("score", "confidence") or not cell.startswith(tuple("=+-@\t\r"))


def test_columns_are_those_that_are_documented(tmp_path):
    ask = Ask("a.png", 3, Purpose.typical, 0.5, "B", (0.25, 0.75), round=2)
    answer = Answer("u1", "a.png", "anna", label="cyst", seconds=2.5, visible=("score", "pattern"))
    export_csv(tmp_path / "labels.csv", [ask], [answer])
    assert (tmp_path / "labels.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    with (tmp_path / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        row = next(csv.DictReader(file))
    assert row == {
        "id": "a.png",
        "label": "cyst",
        "annotator": "anna",
        "kind": "label",
        "seconds": "2.5",
        "time": "",
        "visible": "score pattern",
        "origin": "python",
        "uid": "u1",
        "purpose": "typical",
        "round": "2",
        "rank": "3",
        "score": "0.5",
        "confidence": "0.75",
        "pattern": "B",
    }


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_spreadsheet_that_saves_it_changes_nothing(tmp_path, separator):
    asks = [Ask("-a.png", 1), Ask("b.png", 2)]
    answers = [
        Answer("u1", "-a.png", "anna", label="+", seconds=2.5),
        Answer("u2", "b.png", "=ben", Kind.skip, seconds=0.25),
    ]
    path = tmp_path / "labels.csv"
    export_csv(path, asks, answers)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    if separator == ";":
        rows = [
            [cell.replace(".", ",") if k == 4 else cell for k, cell in enumerate(r)] for r in rows
        ]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    reading = read_answers(path, ["+", "-"])
    plan = plan_import(reading, asks, [], ["+", "-"])
    assert said(plan.answers) == said(answers)


def test_a_table_that_people_typed_needs_a_name(tmp_path):
    path = tmp_path / "typed.csv"
    path.write_text("ID; Label\na.png ;cyst\nb.png;\n")
    asks = [Ask("a.png", 1), Ask("b.png", 2)]
    with pytest.raises(DataError, match="line 2: the annotator is ''"):
        read_answers(path, ["cyst", "scar"])
    reading = read_answers(path, ["cyst", "scar"], annotator="anna")
    (answer,) = plan_import(reading, asks, [], ["cyst", "scar"]).answers
    assert (answer.candidate, answer.annotator, answer.label) == ("a.png", "anna", "cyst")
    assert answer.origin == "import:typed.csv"
    named = read_answers(path, ["cyst"], annotator="anna", annotators={"anna": "Dr A"})
    assert named.entries[0].annotator == "Dr A"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na,x\n", "has no columns 'id'"),
        ("id,label,label\na,x,x\n", "has 2 columns 'label'"),
        ("", "has no columns 'id'"),
        ("id,label\na,x,y\n", "line 2 has 3 values; expected 2"),
        ("id,label\n ,x\n", "line 2: a row without an id"),
        ('id,label\n"a,x\n', "is not a readable CSV file"),
        ("id,label,kind\na,,maybe\n", "line 2: kind is 'maybe'; expected label, skip or unsure"),
        ("id,label,kind\na,,undo\n", "line 2: kind is 'undo'"),
        ("id,label,kind\na,x,skip\n", "the label 'x' with the kind 'skip'"),
        ("id,label,seconds\na,x,fast\n", "line 2: seconds are 'fast'; expected a number from 0"),
        ("id,label,seconds\na,x,-1\n", "seconds are -1.0"),
        ("id,label,seconds\na,x,nan\n", "seconds are nan"),
        ("id,label,time\na,x,yesterday\n", "line 2: the time is 'yesterday'"),
        ("id,label,time\na,x,0001-01-01T00:00:00+14:00\n", "line 2: the time is"),
        ("id,label,annotator\na,x,\x07\n", "line 2: the annotator is"),
    ],
)
def test_what_is_no_such_file_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_answers(path, ["x", "y"], annotator="anna")


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_answers(tmp_path / "no.csv", ["x"])
    with pytest.raises(DataError, match="is no file"):
        read_answers(tmp_path, ["x"])
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="is no file"):
        read_answers(tmp_path / "pipe.csv", ["x"])
    with pytest.raises(DataTypeError):
        read_answers(3, ["x"])
    (tmp_path / "large.csv").write_text("id,label\n" + "a,x\n" * 300_000)
    with pytest.raises(DataError, match=r"has 1 MiB; expected at most 1\. Export it in parts"):
        files.check_size(tmp_path / "large.csv", largest=2**20)


def test_the_consensus_is_what_aift_learn_reads(tmp_path):
    asks = [Ask(name, k) for k, name in enumerate(["-a.png", "b.png", "c.png", "d.png"])]
    asks.append(Ask("y.png", 9, Purpose.yardstick))
    given = {"-a.png": ["+", "+", "-"], "b.png": ["+", "-"], "c.png": ["-"], "y.png": ["-"]}
    answers = [
        Answer(f"{name}{k}", name, f"reader {k}", label=label)
        for name, labels in given.items()
        for k, label in enumerate(labels)
    ]
    answers.append(Answer("s", "d.png", "reader 0", Kind.unsure))
    path = tmp_path / "labels.csv"
    assert export_consensus(path, asks, answers) == 2
    assert LabelsFile.read(path).answered == {"-a.png": "+", "c.png": "-"}
    assert path.read_text("utf-8-sig").splitlines() == [
        '"id","label","n_readers","agreement"',
        '"./-a.png","\'+",3,0.6667',
        '"c.png","\'-",1,1.0',
    ]
    assert export_consensus(path, asks, answers, yardstick=True) == 1
    assert LabelsFile.read(path).answered == {"y.png": "-"}


@given(campaign=campaigns())
def test_a_consensus_of_one_reader_each_is_read_whole(campaign, tmp_path_factory):
    _, asks, answers = campaign
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    first = {a.candidate: a for a in reversed(answers)}.values()
    expected = {a.candidate: a.label for a in first if a.kind is Kind.label}
    if any(name != name.strip() or "\r" in name for name in expected):
        with pytest.raises(DataError, match="does not survive in a table"):
            export_consensus(path, asks, first)
    else:
        export_consensus(path, asks, first)
        assert LabelsFile.read(path).answered == expected


def test_names_that_are_no_text_are_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "labels.csv"
    answer = Answer("u", "\udcff.png", "anna", label="x")
    path.write_text("before")
    with pytest.raises(DataError, match="holds what is no text"):
        export_csv(path, [], [answer])
    assert path.read_text() == "before"
    assert export_csv(path, [], [dataclasses.replace(answer, candidate="a.png")]) == 1
