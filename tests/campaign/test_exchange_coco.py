"""COCO: images or boxes with labels, and answers back."""

import json

import pytest
from exchanges import FakeLedger, campaigns, said
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aift_sklearn.campaign.exchange import Place, export_coco, plan_import, read_answers
from aift_sklearn.campaign.records import Answer, Ask, Kind, Purpose
from aift_sklearn.campaign.settings import Settings
from aift_sklearn.errors import DataError, LabelError, ParameterError
from aift_sklearn.pools import BoxedImages

SETTINGS = Settings("cells", ("RBC", "WBC"), "images")


@given(campaign=campaigns(), boxed=st.booleans())
def test_labels_are_imported_again_and_once(campaign, boxed, tmp_path_factory):
    classes, asks, answers = campaign
    path = tmp_path_factory.mktemp("coco") / "labels.json"

    def place(name):
        return Place("one.png", (1, 2, 3, 4), (64, 48)) if boxed else Place(name)

    labels = [answer for answer in answers if answer.kind is Kind.label]
    n = export_coco(path, asks, answers, Settings("x", classes, "images"), place)
    assert n == len(labels)
    assert len(json.loads(path.read_text("utf-8"))["images"]) == (1 if boxed else len(asks))
    reading = read_answers(path, classes)
    ledger = FakeLedger()
    plan = plan_import(reading, asks, ledger.rows, classes)
    for answer in plan.answers:
        ledger.answer(answer)
    assert said(ledger.current()) == said(labels)
    assert {a.uid: (a.visible) for a in plan.answers} == {a.uid: a.visible for a in labels}
    for rows in (answers, ledger.rows):
        again = plan_import(reading, asks, rows, classes)
        assert (again.answers, again.unchanged) == ((), n)


def test_what_is_written_is_what_other_tools_read(tmp_path):
    asks = [Ask("c2", 2, score=0.5, pattern="A", proba=(0.1, 0.9)), Ask("c1", 1)]
    answers = [Answer("u1", "c2", "anna", label="WBC", seconds=2.0)]
    places = {
        "c1": Place("a.png", (0, 0, 10, 20), (64, 48)),
        "c2": Place("a.png", (5, 6, 10, 20), (64, 48)),
    }
    path = tmp_path / "labels.json"
    export_coco(path, asks, answers, SETTINGS, places.get)
    assert json.loads(path.read_text()) == {
        "info": {"description": "cells"},
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "RBC"}, {"id": 2, "name": "WBC"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 2,
                "bbox": [5, 6, 10, 20],
                "area": 200,
                "iscrowd": 0,
                "attributes": {
                    "candidate": "c2",
                    "annotator": "anna",
                    "uid": "u1",
                    "seconds": 2.0,
                    "time": None,
                    "visible": [],
                    "score": 0.5,
                    "confidence": 0.9,
                    "pattern": "A",
                },
            }
        ],
    }
    # Such as the pools of boxes of this package.
    Image.new("L", (64, 48)).save(tmp_path / "a.png")
    pool = BoxedImages(tmp_path, path, size=16)
    assert pool.boxes.tolist() == [[5, 6, 15, 26]]


def test_an_image_that_is_its_own_candidate_is_boxed_as_a_whole(tmp_path):
    answers = [
        Answer("u1", "a.png", "anna", label="RBC"),
        Answer("u2", "b.png", "anna", label="RBC"),
    ]
    path = tmp_path / "labels.json"
    places = {"a.png": Place("a.png", size=(64, 48)), "b.png": tmp_path / "b.png"}
    export_coco(path, [Ask("a.png", 1), Ask("b.png", 2)], answers, SETTINGS, places.get)
    content = json.loads(path.read_text())
    assert content["annotations"][0]["bbox"] == [0, 0, 64, 48]
    assert "bbox" not in content["annotations"][1]
    assert "width" not in content["images"][1]


def test_for_training_each_candidate_has_one_label_and_the_yardstick_none(tmp_path):
    asks = [Ask("a", 1), Ask("b", 2), Ask("y", 3, Purpose.yardstick)]
    said_of = {"a": ["RBC", "WBC", "WBC"], "b": ["RBC", "WBC"], "y": ["RBC"]}
    answers = [
        Answer(f"{name}{k}", name, f"reader {k}", label=label)
        for name, labels in said_of.items()
        for k, label in enumerate(labels)
    ]
    path = tmp_path / "labels.json"
    assert export_coco(path, asks, answers, SETTINGS, "{}.png".format) == 6
    assert export_coco(path, asks, answers, SETTINGS, "{}.png".format, each="candidate") == 1
    (one,) = json.loads(path.read_text())["annotations"]
    assert one["category_id"] == 2
    assert one["attributes"]["n_readers"] == 3
    assert one["attributes"]["agreement"] == 0.6667
    with pytest.raises(ParameterError, match="each='image'"):
        export_coco(path, asks, answers, SETTINGS, str, each="image")


def test_a_label_that_is_no_class_is_refused(tmp_path):
    answer = Answer("u", "a", "anna", label="plasma")
    with pytest.raises(LabelError, match="'a' has the label 'plasma'; expected one of"):
        export_coco(tmp_path / "x.json", [Ask("a", 1)], [answer], SETTINGS, str)


def coco(**changes):
    return {
        "images": [{"id": 9, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "RBC"}],
        "annotations": [{"id": 5, "image_id": 9, "category_id": 3}],
    } | changes


def test_a_file_of_another_tool_names_candidates_by_their_images(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(coco()))
    reading = read_answers(path, SETTINGS.classes, annotator="anna")
    (answer,) = plan_import(reading, [Ask("a.png", 1)], [], SETTINGS.classes).answers
    assert (answer.candidate, answer.label, answer.origin) == ("a.png", "RBC", "import:other.json")


def with_attributes(**attributes):
    annotation = {"image_id": 9, "category_id": 3, "attributes": attributes}
    return coco(annotations=[annotation])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no list 'images'"),
        ({"images": []}, "has no list 'categories'"),
        (coco(annotations=None), "has no list 'annotations'"),
        (coco(images=[{"id": 9}]), "image 1: expected an 'id' and a 'file_name'"),
        (coco(categories=[{"id": 9}]), "category 1: expected an 'id' and a 'name'"),
        (coco(categories=[{"id": 3, "name": x} for x in "ab"]), "category 2: another category"),
        (coco(annotations=[{"image_id": 9}]), "annotation 1: category_id is None"),
        (coco(annotations=[{"image_id": 8, "category_id": 3}]), "annotation 1: image_id is 8"),
        (coco(), "annotation 1: the annotator is ''"),
        (with_attributes(annotator=3), "annotation 1: 'annotator' is 3; expected text"),
        (with_attributes(annotator="x", visible="score"), "'visible' is 'score'"),
        (with_attributes(annotator="x", seconds="2"), "annotation 1: seconds are '2'"),
    ],
)
def test_what_is_no_such_file_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_answers(path, SETTINGS.classes)
