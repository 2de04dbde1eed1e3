"""Commands of campaigns."""

import json
import threading
import time
import urllib.request

import pytest
from fakes import Pixels
from PIL import Image
from samples import make_blobs
from sklearn.base import clone
from typer.testing import CliRunner

from aift_sklearn import AffinePatches, AIFTClassifier, cli, models
from aift_sklearn.campaign import Campaign
from aift_sklearn.labelling import LabelsFile

TRUSTED = ("--trusted", "fakes.Pixels")


@pytest.fixture(autouse=True)
def day(tmp_path, monkeypatch):
    """A folder of images, one of them broken; and what an expert would say."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: clone(model))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    X, y = make_blobs(60)
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:02}.png")
    (tmp_path / "images" / "empty.png").touch()
    return {f"{k:02}.png": str(label) for k, label in enumerate(y)}


def run(*arguments):
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def begin(*options):
    return run(
        "init", "images", "--classes", "disc, empty", "-b", "8", "--yardstick", "6", *options
    )


def answer_all(truth, annotator="ann"):
    with Campaign.open("campaign") as campaign:
        while questions := campaign.questions(annotator, 10):
            for each in questions:
                campaign.answer(each.candidate, truth[each.candidate], annotator, seconds=3)


def test_a_campaign_by_commands(day):
    begun = begin()
    assert "60 images, 2 classes" in begun.stdout
    assert "empty.png" in begun.stderr
    assert "Next: aift annotate campaign" in begun.stderr
    assert len(run("ask", "campaign", *TRUSTED).stdout.split()) >= 20
    answer_all(day)
    learnt = run("learn", "campaign", *TRUSTED)
    assert "Round 1: " in learnt.stdout
    assert "20 labels, 20 of them new" in learnt.stdout
    assert "Nothing was labelled" in run("learn", "campaign", *TRUSTED).stdout
    asked = run("ask", "campaign", "-b", "4", "--sheet", "ask.png", *TRUSTED).stdout.split()
    assert len(asked) == 4
    with Image.open("ask.png") as sheet:
        assert sheet.width > 100
    said = run("status", "campaign").stdout
    assert "round 1: taught 20 labels; balanced accuracy" in said
    assert json.loads(run("status", "campaign", "--json").stdout)["n_pool"] == 60
    assert "Report: campaign-report.html" in run("report", "campaign").stdout
    assert "26 answers" in run("backup", "campaign", "--out", "copy").stdout
    assert "26 answers" in run("export", "campaign", "--out", "all.csv").stdout
    assert (
        "20 images"
        in run("export", "campaign", "--out", "labels.csv", "--format", "consensus").stdout
    )
    assert len(LabelsFile.read("labels.csv").answered) == 20
    for kind in ("label-studio", "coco"):
        run("export", "campaign", "--out", f"{kind}.json", "--format", kind)
    again = run("import", "campaign", "all.csv").stdout
    assert "0 answers to store" in again
    # What was labelled in the copy comes back by way of a file.
    dry = run("import", "copy", "all.csv", "--dry-run").stdout
    assert "Nothing was stored." in dry


def test_a_folder_that_is_no_campaign(day, capsys):
    for command in ("status", "annotate", "report", "backup"):
        assert "there is no campaign in images" in refused(command, "images", capsys=capsys)
    begin()
    assert "there is a campaign in campaign already" in refused(
        "init", "images", "--classes", "a,b", capsys=capsys
    )
    assert "expected at least two" in refused(
        "init", "images", "--classes", "a", "--campaign", "other", capsys=capsys
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "campaign", "--model", "model"),
        ("learn", "campaign", "--size", "32"),
        ("export", "images", "--format", "csv"),
    ],
)
def test_options_that_a_campaign_has_by_itself_are_refused(arguments):
    begin()
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == 2
    assert "leave" in " ".join(result.stderr.split())


def test_a_model_is_exported_once_there_is_one(day, capsys):
    begin()
    assert "has no model yet" in refused("export", "campaign", "--out", "m.onnx", capsys=capsys)


def fetch(url, **values):
    data = json.dumps(values).encode() if values else None
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json"} if values else {}
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


def test_the_page_is_served(day, monkeypatch):
    """In a thread, whose server is told to end as by Ctrl-C."""
    import uvicorn

    servers = []

    class Watched(uvicorn.Server):
        def __init__(self, config):
            super().__init__(config)
            servers.append(self)

    monkeypatch.setattr(uvicorn, "Server", Watched)
    begin()
    said = []
    arguments = ["annotate", "campaign", "--no-browser", "--no-learning", "--port", "8931"]
    thread = threading.Thread(
        target=lambda: said.append(CliRunner().invoke(cli.app, arguments)), daemon=True
    )
    thread.start()
    end = time.monotonic() + 60
    while not (servers and servers[0].started):
        assert time.monotonic() < end
        assert thread.is_alive(), said
        time.sleep(0.05)
    try:
        address = "http://127.0.0.1:8931/api"
        assert fetch(f"{address}/campaign")["classes"] == ["disc", "empty"]
        questions = fetch(f"{address}/questions", annotator="ann", n=2)["questions"]
        assert len(questions) == 2
    finally:
        servers[0].should_exit = True
        thread.join(timeout=30)
    assert said[0].exit_code == 0, said[0].exception
    assert "The page is at http://127.0.0.1:8931/" in said[0].stdout
