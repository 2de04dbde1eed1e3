"""A path may start with ~, the home folder, wherever one is taken."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from torch import nn

from aift_sklearn import AIFTClassifier, AIFTLearner, load, save
from aift_sklearn.networks.cnn import CNNClassifier
from aift_sklearn.onnx import OnnxScorer
from aift_sklearn.patches import AffinePatches
from aift_sklearn.scanning.shards import Shards
from aift_sklearn.study import open_dataset, read_table, write_report, write_table
from aift_sklearn.study.tables import Journal


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder, and another one to work in, where nothing may appear."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    yield home
    assert list(here.iterdir()) == []


def test_models(home):
    model = AIFTClassifier(LogisticRegression()).fit([[0.0], [1.0]], [0, 1])
    assert save(model, "~/models/a") == home / "models" / "a"
    assert model.save("~/models/b") == home / "models" / "b"
    AIFTLearner(model).save("~/models/learner", include_memory=False)
    for path in ("~/models/a", "~/models/b", home / "models" / "a"):
        assert load(path).predict([[1.0]]).tolist() == [1]
    assert AIFTClassifier.load("~/models/b").predict([[1.0]]).tolist() == [1]
    assert AIFTLearner.load("~/models/learner").estimator.predict([[1.0]]).tolist() == [1]


def test_exports(home):
    X, y = make_blobs(8, size=16)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, stride=2), nn.ReLU())
    cnn = CNNClassifier(network, pretrained=False, max_epochs=1, random_state=0)
    model = AIFTClassifier(cnn, patches=AffinePatches(2), random_state=0).fit(X, y)
    scorer = OnnxScorer(model)
    assert scorer.save("~/files/a.onnx") == home / "files" / "a.onnx"
    assert_allclose(OnnxScorer.load("~/files/a.onnx").score(X)[1], scorer.score(X)[1], rtol=1e-4)


def test_scores_in_a_folder(home):
    Shards("~/scores", {"model": "a"}, n=3, size=2).save(0, {"score": np.zeros(2)})
    assert list(Shards(home / "scores", {"model": "a"}, n=3, size=2).finished()) == [0]


def test_tables_and_reports(home):
    X, y = make_blobs(12, size=8)
    dataset = SimpleNamespace(
        name="spots", X=X, y=y, X_test=X, y_test=y, groups=None, groups_test=None,
        description="Drawn.", source="here", licence="CC0",
    )  # fmt: skip
    row = {"strategy": "random", "seed": 0, "round": 0, "n_labels": 2, "auc": 0.6,
           "balanced_accuracy": 0.5, "n_disc": 1, "n_empty": 1, "score_seconds": 0.1,
           "train_seconds": 1.0, "asked": [0, 1]}  # fmt: skip
    table = pd.DataFrame([row, {**row, "round": 1, "n_labels": 4, "asked": [2, 3]}])
    assert write_table(table, "~/study/table.jsonl") == home / "study" / "table.jsonl"
    assert len(read_table("~/study/table.jsonl")) == 2
    assert write_report(table, dataset, "~/study/r.html") == home / "study" / "r.html"
    with Journal("~/journal/table.jsonl", {"batch": "2"}) as journal:
        journal.add(row)
    settings = home / "journal" / "table.settings.json"
    assert json.loads(settings.read_text("utf-8"))["study"] == {"batch": "2"}


def test_images(home):
    X, y = make_blobs(12, size=8)
    for k, (image, label) in enumerate(zip(X, y, strict=True)):
        path = home / "images" / label / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    (home / "list.csv").write_text(
        "path,label\n" + "".join(f"~/images/{label}/{k}.png,{label}\n" for k, label in enumerate(y))
    )
    pixels = X.transpose(0, 2, 3, 1)
    arrays = {
        "train_images": pixels[:8],
        "train_labels": y[:8, None],
        "test_images": pixels[8:],
        "test_labels": y[8:, None],
    }
    np.savez(home / "cells.npz", **arrays)
    boxes = pd.DataFrame({"image": [f"{k}.png" for k in range(12)], "label": y})
    (home / "boxes").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(home / "boxes" / f"{k}.png")
    boxes.assign(xmin=1, ymin=1, xmax=6, ymax=6).to_csv(home / "boxes" / "boxes.csv", index=False)
    for source in ("~/images", "~/list.csv", "~/cells.npz", "boxes:~/boxes"):
        assert set(open_dataset(source).y) == {"disc", "empty"}
