"""Label Studio: tasks and a page out, its exports in, by a fake that does as release 1.23 does."""

import json
from xml.etree import ElementTree

import pytest
from exchanges import CLASSES, NASTY, FakeLabelStudio, FakeLedger, campaigns, said
from hypothesis import given
from hypothesis import strategies as st

from aift_sklearn.campaign.exchange import (
    Place,
    export_label_studio,
    label_studio_config,
    plan_import,
    read_answers,
    save_pictures,
)
from aift_sklearn.campaign.exchange.label_studio import unsure_choice
from aift_sklearn.campaign.records import Ask, Kind
from aift_sklearn.campaign.settings import Settings
from aift_sklearn.errors import DataError, ParameterError

SETTINGS = Settings("cells", ("RBC", "WBC"), "images")
ASK = Ask("a.png", 1, score=1.5, pattern="B", proba=(0.25, 0.75), round=1)


def tasks_of(path, asks=(ASK,), settings=SETTINGS, picture_of="https://x/{}".format, **options):
    export_label_studio(path, asks, settings, picture_of, **options)
    return json.loads(path.read_text("utf-8"))


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_a_task_holds_what_the_model_thinks_in_fields_of_its_own(tmp_path):
    (task,) = tasks_of(tmp_path / "tasks.json")
    assert task == {
        "data": {
            "image": "https://x/a.png",
            "aift_id": "a.png",
            "aift_order": 1,
            "aift_score": 1.5,
            "aift_confidence": 0.75,
            "aift_pattern": "B",
            "aift_round": 1,
        }
    }


@pytest.mark.parametrize("show", ["after", "request", "always"])
@pytest.mark.parametrize("asked", [None, False, True])
def test_readers_are_blind_unless_they_may_see(tmp_path, show, asked):
    settings = Settings("cells", ("RBC", "WBC"), "images", show=show)
    without = Ask("b.png", 2, round=1)
    with_model, blind = tasks_of(
        tmp_path / "tasks.json", [ASK, without], settings, predictions=asked
    )
    assert "predictions" not in blind
    shown = asked if asked is not None else show != "after"
    assert ("predictions" in with_model) is shown
    if shown:
        (prediction,) = with_model["predictions"]
        assert prediction["score"] == 0.75
        assert prediction["result"][0]["value"] == {"choices": ["WBC"]}


def test_the_order_is_that_of_the_campaign(tmp_path):
    asks = [
        Ask("old", 0),
        Ask("second", 5, round=2),
        Ask("first", 2, round=2),
        Ask("third", 9, round=1),
    ]
    tasks = tasks_of(tmp_path / "tasks.json", asks)
    ids = [task["data"]["aift_id"] for task in tasks]
    assert ids == ["first", "second", "third", "old"]
    assert [task["data"]["aift_order"] for task in tasks] == [1, 2, 3, 4]


def test_pictures_are_served_from_the_root(tmp_path):
    def url(picture, root=tmp_path):
        tasks = tasks_of(tmp_path / "tasks.json", picture_of=lambda name: picture, root=root)
        return tasks[0]["data"]["image"]

    served = "/data/local-files/?d="
    assert url(tmp_path / "crops" / "a b#1.png") == served + "crops/a%20b%231.png"
    assert url("crops/100%.png", None) == served + "crops/100%25.png"
    assert url(Place("crops/図.png"), None) == served + "crops/%E5%9B%B3.png"
    assert url("s3://bucket/a.png", None) == "s3://bucket/a.png"
    assert url("/data/upload/1/a.png", None) == "/data/upload/1/a.png"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert url(tmp_path / "link" / "a.png", tmp_path / "real") == served + "a.png"
    assert url(tmp_path / "real" / "a.png", tmp_path / "link") == served + "a.png"
    assert url(tmp_path / "link" / "a.png") == served + "link/a.png"
    for outside in (tmp_path.parent / "a.png", tmp_path / ".." / "a.png"):
        with pytest.raises(ParameterError, match="lies outside"):
            url(outside)
    with pytest.raises(ParameterError, match="lies outside"):
        url("../a.png", None)
    with pytest.raises(ParameterError, match="expected root="):
        url(tmp_path / "a.png", None)


def test_pictures_are_saved_under_names_that_tell_nothing_and_stay(tmp_path):
    drawn = []

    def picture(name):
        drawn.append(name)
        return name.encode("utf-8", "surrogatepass")

    folder = tmp_path / "served" / "tasks"
    names = [*NASTY, "../../etc/passwd", "\udcff", "x" * 5000]
    saved = save_pictures(folder, names, picture)
    assert {path.parent for path in saved.values()} == {folder}
    assert len({path.name for path in saved.values()}) == len(names) == len(list(folder.iterdir()))
    assert all(
        path.read_bytes() == name.encode("utf-8", "surrogatepass") for name, path in saved.items()
    )
    assert save_pictures(folder, names[:3], picture) == dict(list(saved.items())[:3])
    assert drawn == names
    tasks = tasks_of(
        tmp_path / "served" / "tasks.json",
        [Ask("-a", 1)],
        picture_of=saved.get,
        root=tmp_path / "served",
    )
    assert tasks[0]["data"]["image"] == f"/data/local-files/?d=tasks/{saved['-a'].name}"


def test_scores_have_few_digits(tmp_path):
    ask = Ask("a", 1, score=2.0570677285076866, proba=(1 / 3, 2 / 3))
    data = tasks_of(tmp_path / "tasks.json", [ask])[0]["data"]
    assert (data["aift_score"], data["aift_confidence"]) == (2.05707, 0.666667)


def test_probabilities_have_to_be_those_of_the_classes(tmp_path):
    settings = Settings("cells", ("a", "b", "c"), "images")
    with pytest.raises(DataError, match="has 2 probabilities; expected 3"):
        tasks_of(tmp_path / "tasks.json", settings=settings, predictions=True)


@given(classes=CLASSES, guidance=st.sampled_from(["", *NASTY]) | st.text(max_size=30))
def test_names_are_on_the_page_as_they_are(classes, guidance):
    printable = all(sign.isprintable() or sign.isspace() for sign in guidance)
    settings = Settings("x", tuple(classes), "images", guidance=guidance if printable else "")
    root = ElementTree.fromstring(label_studio_config(settings))
    choices = list(root.iter("Choice"))
    stored = [choice.get("alias") or choice.get("value") for choice in choices]
    assert stored == [*classes, unsure_choice(classes)]
    shown = [choice.get("value") for choice in choices]
    assert [name.replace("\u200b", "") for name in shown] == [
        n.replace("\u200b", "") for n in stored
    ]
    # A variable is "$" and a letter: Label Studio would show a field of the task in its place.
    texts = shown + [head.get("value") for head in root.iter("Header")]
    assert not any(
        text[k] == "$" and (text[k + 1].isalnum() or text[k + 1] in "_[].{}")
        for text in texts
        for k in range(len(text) - 1)
    )
    keys = [choice.get("hotkey") for choice in choices]
    assert keys[:10] == list("1234567890")[: len(keys)]


def test_guidance_is_a_header():
    settings = Settings("x", ("a", "b"), "images", guidance='Look at the "nucleus" & more\nfirst')
    assert (
        '<Header value=\'Look at the "nucleus" &amp; more first\' size="5"/>'
        in label_studio_config(settings)
    )


def test_more_classes_than_keys_have_buttons_without_keys():
    settings = Settings("x", tuple(f"class {k}" for k in range(12)), "images")
    config = label_studio_config(settings)
    assert config.count("hotkey=") == 10
    assert config.count("<Choice ") == 13


@given(campaign=campaigns(), minimal=st.booleans(), emails=st.booleans(), shown=st.booleans())
def test_answers_come_back_whatever_the_names(campaign, minimal, emails, shown, tmp_path_factory):
    classes, asks, answers = campaign
    settings = Settings("cells", classes, "images")
    path = tmp_path_factory.mktemp("ls") / "tasks.json"
    asks = [Ask(a.candidate, a.rank, proba=(1.0,) + (0.0,) * (len(classes) - 1)) for a in asks]
    tasks = tasks_of(path, asks, settings, predictions=shown)
    studio = FakeLabelStudio(tasks, label_studio_config(settings))
    place = {task["data"]["aift_id"]: k for k, task in enumerate(tasks)}
    users = {name: k for k, name in enumerate(sorted({a.annotator for a in answers}), 1)}
    for answer in answers:
        user = users[answer.annotator]
        user = {"id": user, "email": answer.annotator} if emails else user
        choice = None if answer.kind is Kind.skip else len(classes)
        if answer.kind is Kind.label:
            choice = classes.index(answer.label)
        studio.annotate(place[answer.candidate], user, choice, answer.seconds)
    exported = studio.export(minimal)
    if minimal:
        answers = [answer for answer in answers if answer.kind is not Kind.skip]
    if not exported:
        return
    reading = read_answers(
        write(path, exported), classes, annotators={str(k): name for name, k in users.items()}
    )
    ledger = FakeLedger()
    plan = plan_import(reading, asks, ledger.rows, classes)
    for answer in plan.answers:
        ledger.answer(answer)
    assert said(ledger.current()) == said(answers)
    assert not any((plan.unknown_ids, plan.unknown_labels, plan.duplicates, plan.conflicts))
    # Whoever saw a prediction is known to have.
    expected = ("prediction",) if shown and not minimal else ()
    assert all(answer.visible == expected for answer in plan.answers)
    again = plan_import(reading, asks, ledger.rows, classes)
    assert (again.answers, again.unchanged) == ((), len(answers))


def test_a_change_there_is_a_correction_here_by_either_export(tmp_path):
    studio = FakeLabelStudio(tasks_of(tmp_path / "tasks.json"), label_studio_config(SETTINGS))
    ledger = FakeLedger()
    number = studio.annotate(0, 7, 0, 3.5, "2026-01-01T00:00:00Z")

    def bring(minimal):
        path = write(tmp_path / f"export-{len(ledger.rows)}.json", studio.export(minimal))
        plan = plan_import(
            read_answers(path, SETTINGS.classes), [ASK], ledger.rows, SETTINGS.classes
        )
        for answer in plan.answers:
            ledger.answer(answer)
        return [(a.label, a.annotator) for a in ledger.current()]

    assert bring(False) == bring(True) == [("RBC", "label-studio:7")]
    studio.change(number, 1, "2026-01-01T00:05:00Z")
    assert bring(True) == bring(False) == [("WBC", "label-studio:7")]
    studio.change(number, None, "2026-01-01T00:06:00Z")
    bring(False)
    assert [a.kind for a in ledger.current()] == [Kind.skip]
    assert len(ledger.rows) == 3


def annotation(**changes):
    result = {"from_name": "label", "to_name": "image", "type": "choices"}
    result["value"] = {"choices": ["RBC"]}
    return {"id": 5, "completed_by": 1, "result": [result], "was_cancelled": False} | changes


def choices(*names):
    value = {"choices": list(names)}
    return [{"from_name": "label", "to_name": "image", "type": "choices", "value": value}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"result": choices("RBC", "WBC")}, "several labels in one answer"),
        ({"result": choices("RBC") + choices("WBC")}, "several labels in one answer"),
        ({"result": []}, "no choice of the control 'label'"),
        ({"result": None}, "no choice of the control 'label'"),
        ({"result": [{"from_name": "other", "type": "choices"}]}, "no choice of the control"),
        ({"result": choices(3)}, "is no text"),
    ],
)
def test_annotations_that_say_nothing_clear_are_listed(tmp_path, changes, reason):
    task = {"id": 3, "data": {"aift_id": "a.png"}, "annotations": [annotation(**changes)]}
    reading = read_answers(write(tmp_path / "e.json", [task]), SETTINGS.classes)
    (listed,) = plan_import(reading, [ASK], [], SETTINGS.classes).conflicts
    assert str(listed).startswith("task 3, annotation 5: ")
    assert reason in str(listed)


def test_several_annotations_of_a_task_are_answers_of_several(tmp_path):
    annotations = [annotation(id=k, completed_by=k) for k in (1, 2)]
    annotations.append(annotation(id=3, completed_by=1, result=choices("WBC")))
    task = {"id": 3, "data": {"aift_id": "a.png"}, "annotations": annotations}
    foreign = {"id": 4, "data": {"image": "x"}, "annotations": [annotation()]}
    path = write(tmp_path / "e.json", [task, foreign])
    plan = plan_import(read_answers(path, SETTINGS.classes), [ASK], [], SETTINGS.classes)
    assert [answer.annotator for answer in plan.answers] == ["label-studio:2"]
    assert [one.entry.where for one in plan.conflicts] == [
        "task 3, annotation 1",
        "task 3, annotation 3",
    ]
    assert [one.entry.where for one in plan.unknown_ids] == ["task 4, annotation 5"]


def test_what_nobody_labelled_is_no_answer(tmp_path):
    minimal = {"aift_id": "a.png", "id": 1, "annotation_id": None, "annotator": None}
    assert read_answers(write(tmp_path / "e.json", [minimal]), ["a", "b"]).entries == ()
    full = {"id": 1, "data": {"aift_id": "a.png"}, "annotations": [], "drafts": [annotation()]}
    assert read_answers(write(tmp_path / "e.json", [full]), ["a", "b"]).entries == ()
    assert read_answers(write(tmp_path / "e.json", []), ["a", "b"]).entries == ()


def test_several_choices_of_the_minimal_export_are_listed(tmp_path):
    record = {"aift_id": "a.png", "id": 1, "annotation_id": 2, "annotator": "anna@x.org"}
    record["label"] = [{"choices": ["RBC", "WBC"]}]
    reading = read_answers(write(tmp_path / "e.json", [record]), SETTINGS.classes)
    assert "several labels" in reading.entries[0].problem
    assert reading.entries[0].annotator == "anna@x.org"


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1, column 2 is not JSON"),
        ("", "line 1, column 1 is not JSON"),
        (DEEP, "is not a readable JSON file|is not JSON"),
        ("9" * 5000, "is not a readable JSON file"),
        ("3", "holds a int; expected a list of tasks"),
        ("[3]", "task at place 1: 3; expected an object"),
        ('[{"data": {"aift_id": "a"}}]', "neither 'annotations' nor 'annotation_id'"),
        ('[{"id": 4, "annotations": []}]', "task 4: 'data' is None; expected an object"),
        ('[{"id": 4, "data": {}, "annotations": []}]', "no task with 'aift_id'"),
        ('[{"data": {"aift_id": "a"}, "annotations": 3}]', "'annotations' is 3; expected a list"),
        ('[{"data": {"aift_id": "a"}, "annotations": [3]}]', "'annotation 1' is 3"),
    ],
)
def test_what_is_no_such_file_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "export.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as refused:
        read_answers(path, SETTINGS.classes, format="label-studio")
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"completed_by": None}, "the annotator is None"),
        ({"completed_by": {}}, r"the annotator is \{\}"),
        ({"completed_by": True}, "the annotator is True"),
        ({"completed_by": "\ud800"}, r"the annotator is '\\ud800'"),
        ({"lead_time": "soon"}, "seconds are 'soon'"),
        ({"lead_time": float("nan")}, "seconds are nan"),
        ({"lead_time": -2}, "seconds are -2"),
        ({"updated_at": 17}, "the time is 17"),
        ({"result": 3}, "'result' is 3; expected a list"),
        ({"result": [3]}, "'result' is 3; expected an object"),
        ({"result": [{"from_name": "label", "type": "choices"}]}, "'value' is None"),
    ],
)
def test_damaged_annotations_are_named_by_their_place(tmp_path, changes, message):
    task = {"id": 3, "data": {"aift_id": "a.png"}, "annotations": [annotation(**changes)]}
    path = write(tmp_path / "export.json", [task])
    with pytest.raises(DataError, match=f"task 3, annotation 5: {message}"):
        read_answers(path, SETTINGS.classes)
