"""``aift score``: a folder of images becomes a table of scores, and a run goes on where it was."""

import pytest
from fakes import Pixels
from PIL import Image
from samples import make_blobs
from torch import nn
from typer.testing import CliRunner

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, ScoreTable, cli, save
from aift_sklearn.batch_scoring.table import shard_path
from aift_sklearn.onnx import OnnxScorer

X, Y = make_blobs(60)


def pixels():
    patches = AffinePatches.for_microscopy(n_patches=3, size=8)
    return AIFTClassifier(Pixels(C=0.1), patches=patches, random_state=0).fit(X[:20], Y[:20])


@pytest.fixture
def day(tmp_path, monkeypatch):
    """A folder of images in subfolders, larger than the model's, one of them broken."""
    monkeypatch.chdir(tmp_path)
    for k, image in enumerate(X):
        folder = tmp_path / "images" / f"patient{k % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        large = Image.fromarray(image.transpose(1, 2, 0)).resize((40, 40))
        large.save(folder / f"{k:02}.png")
    (tmp_path / "images" / "patient0" / "text.png").write_text("no image")
    path = tmp_path / "images" / "patient1" / "04.png"
    path.write_bytes(path.read_bytes()[:-200])
    save(pixels(), tmp_path / "model")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, ["score", "images", "--trusted", "fakes.Pixels", *arguments])


def test_a_folder_becomes_a_table(day):
    result = run("--groups", "-b", "3", "--shard-size", "25")
    assert result.exit_code == 0, (result.output, result.exception)
    table = ScoreTable(day / "scores")
    ids, scores = table.top(3)
    lines = result.stdout.splitlines()
    assert lines == [f"{name}\t{score:.3f}" for name, score in zip(ids, scores, strict=True)]
    assert "2 cannot be read and were left out" in result.stderr
    assert "patient1/04.png" in result.stderr
    assert "patient0/text.png" in result.stderr
    assert "scores: 59 scores in 3 Parquet files" in result.stderr
    frame = table.read().to_pandas()
    assert set(frame["group"]) == {"patient0", "patient1", "patient2"}
    assert table.manifest["candidate"] == [3, 16, 16, "uint8"]


def test_a_second_run_goes_on_and_names_what_is_broken_again(day):
    run("--shard-size", "25")
    shard_path(day / "scores", 1).unlink()
    then = shard_path(day / "scores", 0).stat().st_mtime_ns
    result = run("-b", "0")
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout == ""
    assert "patient1/04.png" in result.stderr
    assert ScoreTable(day / "scores").is_complete
    assert shard_path(day / "scores", 0).stat().st_mtime_ns == then


def test_a_file_of_onnx_tells_the_size_of_the_images(day):
    cnn = CNNClassifier(nn.Conv2d(3, 4, 3), pretrained=False, max_epochs=1, random_state=0)
    model = AIFTClassifier(cnn, patches=AffinePatches(3), random_state=0).fit(X[:20], Y[:20])
    OnnxScorer(model).save(day / "model.onnx")
    result = run("--model", "model.onnx", "--embeddings", "--quiet")
    assert result.exit_code == 0, (result.output, result.exception)
    table = ScoreTable(day / "scores")
    assert table.manifest["candidate"] == [3, 16, 16, "uint8"]
    assert "embedding" in table.read().column_names
    result = run("--model", "model.onnx", "--size", "32")
    assert result.exit_code != 0
    assert "size=32, and the model was taught candidates of 16 pixels" in str(result.exception)


def test_an_id_leads_to_its_file(day):
    names = ["patient0/03.png", "patient1/07.png"]
    result = CliRunner().invoke(cli.app, ["where", "images", *names])
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.splitlines() == [f"{name}\timages/{name}" for name in names]
    result = CliRunner().invoke(cli.app, ["where", "images", "none.png"])
    assert "1 of 1 ids are not in the pool" in str(result.exception)


def test_options_of_ray_need_ray(day):
    result = run("--actors", "2")
    assert result.exit_code == 2
    assert "those of Ray" in result.stderr
    assert not (day / "scores").exists()


def test_ray_is_told_what_the_user_says(day, monkeypatch):
    told = {}

    def score_pool(pool, model, folder, **how):
        told.update(how)
        from aift_sklearn import score_pool

        return score_pool(pool, model, folder)

    monkeypatch.setattr("aift_sklearn.cluster.score_pool", score_pool)
    result = run("--ray", "head:10001", "--actors", "3", "--cpus", "0.5", "--gpus", "0")
    assert result.exit_code == 0, (result.output, result.exception)
    assert told == {
        "address": "head:10001",
        "actors": 3,
        "num_cpus": 0.5,
        "num_gpus": 0.0,
        "embeddings": False,
        "shard_size": None,
        "retry_broken": False,
        "precision": "auto",
        "verbose": 1,
    }
    run("--ray", "local", "--quiet")
    assert told["address"] is None
    assert told["verbose"] == 0
