"""Labels out of a campaign, and answers into it."""

import csv
import json
from xml.etree import ElementTree

import pytest
from PIL import Image
from samples import make_blobs

from aift_sklearn.campaign import Campaign, Purpose
from aift_sklearn.campaign.transfer import export_labels, import_answers
from aift_sklearn.errors import ParameterError
from aift_sklearn.labelling import LabelsFile

CLASSES = ["disc", "empty"]


@pytest.fixture
def images(tmp_path):
    X, y = make_blobs(30)
    folder = tmp_path / "images"
    folder.mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{k:02}.png")
    return folder, {f"{k:02}.png": str(label) for k, label in enumerate(y)}


@pytest.fixture
def begun(tmp_path, images):
    with Campaign.create(tmp_path / "campaign", images[0], CLASSES, batch=8, yardstick=6) as found:
        yield found, images[1]


def answer_some(campaign, truth, n, annotator="ann"):
    for question in campaign.questions(annotator, n):
        campaign.answer(question.candidate, truth[question.candidate], annotator, seconds=1.5)


def test_csv_goes_into_another_campaign(begun, tmp_path, images):
    campaign, truth = begun
    answer_some(campaign, truth, 4)
    assert export_labels(campaign, tmp_path / "out" / "a.csv") == 4
    with Campaign.create(tmp_path / "b", images[0], CLASSES, batch=8, yardstick=6) as other:
        found = import_answers(other, tmp_path / "out" / "a.csv", store=False)
        assert len(found.answers) == 4
        assert other.ledger.current() == []
        import_answers(other, tmp_path / "out" / "a.csv")
        said = {(a.candidate, a.annotator, a.label, a.seconds) for a in other.ledger.current()}
        mine = {(a.candidate, a.annotator, a.label, a.seconds) for a in campaign.ledger.current()}
        assert said == mine
        again = import_answers(other, tmp_path / "out" / "a.csv")
        assert (len(again.answers), again.unchanged) == (0, 4)


def test_consensus_is_what_learn_reads(begun, tmp_path):
    campaign, truth = begun
    campaign.ledger.add_asks([])
    path = tmp_path / "old.csv"
    path.write_text("id,label\n" + "".join(f"{name},{truth[name]}\n" for name in sorted(truth)))
    found = import_answers(campaign, path, annotator="ann", add=True)
    yardstick = set(campaign.ledger.rounds()[0].parameters["yardstick"])
    taken = {answer.candidate for answer in found.answers}
    # Of the yardstick those alone that were asked for.
    asked = {ask.candidate for ask in campaign.ledger.asks() if ask.purpose == Purpose.yardstick}
    assert taken == (set(truth) - yardstick) | asked
    n = export_labels(campaign, tmp_path / "labels.csv", "consensus")
    known = LabelsFile.read(tmp_path / "labels.csv").answered
    assert len(known) == n == len(set(truth) - yardstick)
    assert all(truth[name] == label for name, label in known.items())


def test_unknown_ids_are_listed_unless_they_are_to_be_added(begun, tmp_path):
    campaign, truth = begun
    asked = {ask.candidate for ask in campaign.ledger.asks()}
    other = next(name for name in sorted(truth) if name not in asked)
    path = tmp_path / "a.csv"
    path.write_text(f"id,label\n{other},disc\n../x.png,disc\n")
    found = import_answers(campaign, path, annotator="ann")
    assert (len(found.answers), len(found.unknown_ids)) == (0, 2)
    found = import_answers(campaign, path, annotator="ann", add=True)
    assert [answer.candidate for answer in found.answers] == [other]


def test_tasks_for_label_studio(begun, tmp_path):
    campaign, truth = begun
    answer_some(campaign, truth, 1)
    n = export_labels(campaign, tmp_path / "tasks.json", "label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == n == len(campaign.ledger.asks()) - 1
    answered = {answer.candidate for answer in campaign.ledger.current()}
    assert not answered & {task["data"]["aift_id"] for task in tasks}
    name = tasks[0]["data"]["image"].partition("d=tasks/")[2]
    assert (tmp_path / "tasks" / name).read_bytes() == campaign.picture(tasks[0]["data"]["aift_id"])
    assert len(list((tmp_path / "tasks").iterdir())) == n
    config = ElementTree.parse(tmp_path / "tasks.xml").getroot()
    assert [each.get("value") for each in config.iter("Choice")][:2] == CLASSES


def test_boxes_get_pictures_of_their_own_and_coco_boxes(tmp_path):
    (tmp_path / "data").mkdir()
    Image.new("L", (90, 60), 120).save(tmp_path / "data" / "a.png")
    with (tmp_path / "data" / "boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "xmin", "ymin", "xmax", "ymax"])
        writer.writerows([["a.png", 5 * k, 4, 5 * k + 8, 14] for k in range(12)])
    source = f"boxes:{tmp_path / 'data'}"
    with Campaign.create(tmp_path / "c", source, CLASSES, batch=8, yardstick=4) as campaign:
        first = campaign.questions("ann")[0].candidate
        campaign.answer(first, "disc", "ann")
        assert export_labels(campaign, tmp_path / "t.json", "label-studio") == 3
        written = list((tmp_path / "t").iterdir())
        assert len(written) == 3
        with Image.open(written[0]) as picture:
            # The whole image, and a frame around the candidate.
            assert picture.size == (90, 60)
            assert (240, 228, 66) in {colour for _, colour in picture.getcolors()}
        export_labels(campaign, tmp_path / "coco.json", "coco")
        coco = json.loads((tmp_path / "coco.json").read_text())
        (annotation,) = [each for each in coco["annotations"] if "category_id" in each]
        row = int(campaign.pool.rows_of([first])[0])
        xmin, ymin, xmax, ymax = campaign.pool.boxes[row]
        assert annotation["bbox"] == [xmin, ymin, xmax - xmin, ymax - ymin]
        assert coco["images"][0]["file_name"] == "a.png"


def test_a_kind_that_is_none(begun, tmp_path):
    with pytest.raises(ParameterError, match="kind='xlsx'"):
        export_labels(begun[0], tmp_path / "a.xlsx", "xlsx")
