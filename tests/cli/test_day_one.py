"""The first day: a folder of unlabelled images, four commands, and no line of Python."""

import csv
import re

import pytest
from fakes import Pixels
from PIL import Image
from samples import make_blobs
from sklearn.base import clone
from typer.testing import CliRunner

from aift_sklearn import AffinePatches, AIFTClassifier, cli, load, models


@pytest.fixture
def fast(monkeypatch):
    """Train logistic regressions on thumbnails instead of CNNs."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: clone(model))


@pytest.fixture
def day(tmp_path, monkeypatch):
    """A folder of images, one of them broken, and what an expert would say of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    X, y = make_blobs(60)
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:02}.png")
    (tmp_path / "images" / "empty.png").touch()
    return {f"{k:02}.png": str(label) for k, label in enumerate(y)}


def run(*arguments):
    trusted = ["--trusted", "fakes.Pixels"] if arguments[0] != "scan" else []
    result = CliRunner().invoke(cli.app, [*arguments, *trusted])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def type_labels(path, truth):
    """Fill the empty cells in, as an expert would with a spreadsheet; what was asked."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    asked = [name for name, label in rows if not label]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([name, label or truth[name]] for name, label in rows)
    return asked


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_four_commands_from_a_folder_to_the_second_question(day, fast, tmp_path):
    scanned = run("scan", "images").output
    assert re.search(r"images\s+60 that can be read, as 3 × 16 × 16 uint8", scanned)
    assert re.search(r"broken\s+1\s+empty.png: an empty file", scanned)
    assert size_of(tmp_path / "contact-sheet.png")[0] > 1000

    asked = run("ask", "images", "-b", "10", "--sheet", "ask.png")
    assert "empty.png: an empty file" in asked.stderr
    assert "10 questions wait" in asked.stderr
    first = type_labels(tmp_path / "labels.csv", day)
    assert asked.stdout.split() == first
    assert size_of(tmp_path / "ask.png")[1] > 200

    learnt = run("learn", "images", "--labels", "labels.csv", "--model", "model").stdout
    assert "10 labels, 10 of them new" in learnt
    assert load(tmp_path / "model", trusted=["fakes.Pixels"]).y_training.tolist() == [
        day[name] for name in first
    ]

    again = run("ask", "images", "--model", "model", "-b", "8", "--quiet").stdout
    second = type_labels(tmp_path / "labels.csv", day)
    assert [line.split("\t")[0] for line in again.splitlines()] == second
    assert len(set(first) | set(second)) == 18

    learnt = run("learn", "images", "--labels", "labels.csv", "--model", "model").stdout
    assert re.search(r"18 labels, 8 of them new: .*\n\d of the 8 new ones were predicted", learnt)
    assert len(load(tmp_path / "model", trusted=["fakes.Pixels"]).y_training) == 18


def test_labels_that_nobody_typed_teach_nothing(day, fast, tmp_path):
    run("ask", "images", "-b", "4")
    result = CliRunner().invoke(cli.app, ["learn", "images"])
    assert "Type labels into the column 'label'" in str(result.exception)
    assert not (tmp_path / "model").exists()


def test_one_class_is_told(day, fast, tmp_path):
    run("ask", "images", "-b", "4")
    type_labels(tmp_path / "labels.csv", dict.fromkeys(day, "cyst"))
    assert "One class so far" in run("learn", "images").output
    run("ask", "images", "-b", "4", "--model", "model")
    type_labels(tmp_path / "labels.csv", dict.fromkeys(day, "tumour"))
    assert "Trained anew, on all labels: tumour is new to it." in run("learn", "images").output


def test_a_model_of_something_else_is_refused(day, fast, tmp_path):
    AIFTClassifier(Pixels()).save(tmp_path / "model")
    arguments = ["ask", "images", "--model", "model", "--trusted", "fakes.Pixels"]
    result = CliRunner().invoke(cli.app, arguments)
    assert "expected an AIFTLearner" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "images", "--sheet", "images/ask.png"], "would lie among the images"),
        (["scan", "images", "--sheet", "images/x/sheet.png"], "would lie among the images"),
        (["learn", "images", "--kind", "features"], "--kind and --views are those of a new model"),
        (["learn", "images", "--size", "32"], "taught candidates of 16 pixels"),
        (["ask", "images", "--model", "model", "--size", "32"], "taught candidates of 16 pixels"),
    ],
)
def test_options_that_do_not_fit_are_refused(day, fast, tmp_path, arguments, message):
    run("ask", "images", "-b", "4")
    type_labels(tmp_path / "labels.csv", day)
    run("learn", "images")
    trusted = ["--trusted", "fakes.Pixels"] if arguments[0] != "scan" else []
    result = CliRunner().invoke(cli.app, [*arguments, *trusted])
    assert result.exit_code != 0
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", result.output).split()) + str(result.exception)
    assert message in told


def test_a_model_that_is_not_there_yet_is_said(day, fast):
    assert "No model at modle yet" in run("ask", "images", "--model", "modle", "-b", "3").stderr


def test_the_contact_sheet_is_no_candidate(day, fast, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "images")
    run("scan", ".")
    assert (tmp_path / "images" / "contact-sheet.png").exists()
    assert "60 that can be read" in run("scan", ".").output
