"""Tables of scores: those of the classifier, whatever the shards, and kept whatever happens."""

import json

import numpy as np
import pandas as pd
import pytest
from fakes import Pixels
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from samples import make_blobs
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    JitterPatches,
    ScoreTable,
    load,
    score_pool,
)
from aift_sklearn._writing import lock_folder
from aift_sklearn.batch_scoring import pack_model
from aift_sklearn.batch_scoring.table import MANIFEST, shard_path
from aift_sklearn.batch_scoring.writing import open_table
from aift_sklearn.errors import (
    BackendWarning,
    DataError,
    DataTypeError,
    ModelFileError,
    ModelNotFittedError,
    ParameterError,
)
from aift_sklearn.onnx import OnnxScorer
from aift_sklearn.pools import ArrayPool, ImageFolder

X, Y = make_blobs(60)


def pixels_classifier():
    patches = AffinePatches.for_microscopy(n_patches=3, size=8)
    return AIFTClassifier(Pixels(C=0.1), patches=patches, random_state=0).fit(X[:20], Y[:20])


@pytest.fixture(scope="module")
def classifier():
    return pixels_classifier()


@pytest.fixture(scope="module")
def cnn():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    cnn = CNNClassifier(network, pretrained=False, max_epochs=2, lr=0.01, random_state=0)
    return AIFTClassifier(cnn, patches=AffinePatches(3), random_state=0).fit(X[:20], Y[:20])


@pytest.fixture
def images(tmp_path):
    """A folder of images, the seventh of which is cut short."""
    (tmp_path / "images").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:02}.png")
    path = tmp_path / "images" / "07.png"
    path.write_bytes(path.read_bytes()[:-60])
    return ImageFolder(tmp_path / "images")


def break_file(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    return whole


@pytest.mark.parametrize("row", [0, 8])
def test_what_was_mended_is_scored_where_that_is_asked_for(row, images, classifier, tmp_path):
    path = images.paths[row]
    whole = break_file(path)
    table = score_pool(ImageFolder(path.parent), classifier, tmp_path / "out", shard_size=20)
    assert sorted(table.broken()) == sorted(["07.png", path.name])
    path.write_bytes(whole)
    kept = [shard_path(table.folder, 1), shard_path(table.folder, 2)]
    then = [one.stat().st_mtime_ns for one in kept]
    again = ImageFolder(path.parent)
    assert sorted(score_pool(again, classifier, table.folder).broken()) == sorted(table.broken())
    found = score_pool(again, classifier, table.folder, retry_broken=True)
    assert list(found.broken()) == ["07.png"]
    assert found.read()["score"].null_count == 1
    assert [one.stat().st_mtime_ns for one in kept] == then


def test_a_read_that_failed_once_is_forgotten_once_it_succeeds(classifier, tmp_path):
    pool = ArrayPool(X)
    pool.broken["000003"] = "the network is down"
    assert score_pool(pool, classifier, tmp_path).broken() == {}


class Centred(Pixels):
    """A classifier that cannot look at an image of one colour."""

    def predict_proba(self, X):
        flat = X.reshape(len(X), -1)
        with np.errstate(invalid="ignore"):
            flat = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
        proba = np.clip(flat[:, :1] * 0.01 + 0.5, 0, 1)
        return np.concatenate([proba, 1 - proba], axis=1)


@pytest.mark.parametrize("size", [20, 1])
def test_what_stands_for_a_broken_image_upsets_no_model(size, images, tmp_path, monkeypatch):
    monkeypatch.setattr("aift_sklearn.scanning.pool_pass._PART_BYTES", size * X[0].nbytes)
    patches = AffinePatches.for_microscopy(n_patches=3, size=8)
    centred = AIFTClassifier(Centred(), patches=patches, random_state=0).fit(X[:20], Y[:20])
    found = score_pool(images, centred, tmp_path / "out").read()
    sound = np.delete(np.arange(60), 7)
    expected = centred.score_candidates(X[sound])
    assert_allclose(found["score"].to_numpy()[sound], expected, rtol=1e-5)
    assert list(np.flatnonzero(np.isnan(found["score"].to_numpy()))) == [7]


@pytest.mark.parametrize("fitted", ["classifier", "cnn"])
def test_a_model_that_was_saved_goes_on_with_the_scores_of_the_one_at_hand(
    fitted, request, tmp_path
):
    model = request.getfixturevalue(fitted)
    score_pool(X, model, tmp_path / "scores", shard_size=20)
    shard_path(tmp_path / "scores", 1).unlink()
    given = {"trusted": ["fakes.Pixels"]} if fitted == "classifier" else {"estimator": clone(model)}
    loaded = load(model.save(tmp_path / "model"), **given)
    assert score_pool(X, loaded, tmp_path / "scores").is_complete


def test_a_table_whose_shards_are_gone_is_not_complete(classifier, tmp_path):
    folder = score_pool(X, classifier, tmp_path / "out", shard_size=20).folder
    shard_path(folder, 1).unlink()
    (folder / ".shard-000001.parquet.0123abcd.tmp").touch()
    with pytest.raises(OSError, match="network is down"):
        score_pool(Failing(X, 5), classifier, folder)
    assert not ScoreTable(folder).is_complete
    assert not list(folder.glob(".*"))


def written(folder, scores, shard_size):
    """Table of scores that are given."""
    ids = np.arange(len(scores)).astype(str)
    how = {"shard_size": shard_size, "ids": ids, "groups": None, "why_broken": {}.get}
    with open_table(folder, {"n": len(scores), "classes": []}, **how) as writer:
        writer.put(np.arange(len(scores)), {"score": scores})
        return writer.finish()


def proba_of(table):
    return np.array(table["proba"].to_pylist(), dtype=float)


@given(n=st.integers(1, 60), size=st.integers(1, 70))
def test_scores_are_those_of_the_classifier_whatever_the_shards(n, size, tmp_path_factory):
    classifier, folder = pixels_classifier(), tmp_path_factory.mktemp("scores")
    table = score_pool(X[:n], classifier, folder, shard_size=size, alpha=0.5)
    found = table.read()
    assert found["row"].to_pylist() == list(range(n))
    assert found["id"].to_pylist() == [f"{k:06}" for k in range(n)]
    assert_allclose(found["score"], classifier.score_candidates(X[:n], alpha=0.5), rtol=1e-5)
    assert_allclose(proba_of(found), classifier.predict_proba(X[:n]), atol=1e-6)
    assert found["broken"].null_count == n
    assert len(list(folder.glob("*.parquet"))) == table.n_shards == -(-n // size)
    assert table.is_complete
    assert table.classes == ["disc", "empty"]
    assert len(table) == n


def test_a_table_has_the_ids_and_groups_of_its_pool_and_pandas_reads_it(classifier, tmp_path):
    ids, groups = [f"cell {k}" for k in range(60)], [f"patient {k % 7}" for k in range(60)]
    pool = ArrayPool(X, ids=ids, groups=groups)
    table = score_pool(pool, classifier, tmp_path / "out", shard_size=25)
    frame = pd.read_parquet(tmp_path / "out").sort_values("row")
    assert frame["id"].tolist() == ids
    assert frame["group"].tolist() == groups
    assert_allclose(frame["score"], classifier.score_candidates(X), rtol=1e-5)
    assert repr(table) == f"ScoreTable of 60 candidates in {tmp_path / 'out'}"


def test_what_cannot_be_read_has_no_score_but_a_reason(images, classifier, tmp_path):
    table = score_pool(images, classifier, tmp_path / "out", shard_size=7)
    found = table.read().to_pylist()
    assert [row["id"] for row in found if row["score"] is None] == ["07.png"]
    assert found[7]["proba"] is None
    assert table.broken() == {"07.png": found[7]["broken"]}
    assert "truncated" in found[7]["broken"]
    sound = np.delete(np.arange(60), 7)
    scores = classifier.score_candidates(X[sound])
    assert_allclose([found[k]["score"] for k in sound], scores, rtol=1e-5)
    ids, best = table.top(5)
    order = np.argsort(-scores, kind="stable")[:5]
    assert ids.tolist() == [f"{sound[k]:02}.png" for k in order]
    assert_allclose(best, scores[order], rtol=1e-5)
    with pytest.raises(DataError, match="59 of 60 candidates have scores; ask for fewer"):
        table.top(60)


def test_of_scores_that_tie_the_first_in_the_pool_is_the_best(tmp_path):
    scores = np.array([1.0, 3, 2, 3, np.nan, 2, 2, 3, 0])
    table = written(tmp_path, scores, shard_size=2)
    ids, best = table.top(5)
    assert ids.tolist() == ["1", "3", "7", "2", "5"]
    assert best.tolist() == [3, 3, 3, 2, 2]


def test_networks_go_through_onnx_runtime_and_embed(cnn, tmp_path):
    table = score_pool(X, cnn, tmp_path / "a", shard_size=25, embeddings=True)
    found = table.read()
    scores, proba = OnnxScorer(cnn).score(X)
    assert_allclose(found["score"], scores, rtol=1e-5)
    assert_allclose(proba_of(found), proba, atol=1e-6)
    assert_allclose(np.array(found["embedding"].to_pylist()), cnn.embed(X), rtol=1e-4, atol=1e-5)
    assert pack_model(cnn, X.shape[1:]).kind == "onnx"


def test_a_file_scores_as_the_model_it_was_made_of(cnn, tmp_path):
    path = OnnxScorer(cnn, alpha=0.5).save(tmp_path / "model.onnx")
    table = score_pool(X, path, tmp_path / "a")
    expected = score_pool(X, cnn, tmp_path / "b", alpha=0.5).read()
    assert table.read().drop_columns("proba").equals(expected.drop_columns("proba"))
    assert_array_equal(proba_of(table.read()), proba_of(expected))
    assert table.manifest["consistency"]["alpha"] == 0.5
    with pytest.raises(DataError, match=r"shape \(3, 8, 8\)"):
        score_pool(X[:, :, :8, :8], path, tmp_path / "c")
    with pytest.raises(DataError, match="candidates of 3 axes"):
        score_pool(X[:, 0, 0], path, tmp_path / "c")
    with pytest.raises(ModelFileError, match="cannot be read"):
        score_pool(X, tmp_path / "none.onnx", tmp_path / "c")


def test_learners_and_features_are_scored(tmp_path):
    F = np.random.default_rng(0).normal(size=(50, 4))
    inner = AIFTClassifier(LogisticRegression(), patches=JitterPatches(5), random_state=0)
    learner = AIFTLearner(inner, X_training=F[:20], y_training=F[:20, 0] > 0)
    found = score_pool(F, learner, tmp_path).read()
    assert_array_equal(found["score"], learner.estimator.score_candidates(F))


class Undecided(nn.Module):
    """A network whose way depends on what it sees, which no graph holds."""

    def forward(self, images):
        return images.flatten(1)[:, :8] if images.mean() > 0.2 else images.flatten(1)[:, 8:16]


def test_a_network_that_cannot_be_exported_scores_by_itself(tmp_path):
    cnn = CNNClassifier(Undecided(), pretrained=False, max_epochs=1, random_state=0)
    classifier = AIFTClassifier(cnn, patches=AffinePatches(3), random_state=0, backend="torch")
    classifier.fit(X[:20], Y[:20])
    silent = pack_model(classifier, X.shape[1:])
    with pytest.warns(BackendWarning, match="scoring without ONNX Runtime"):
        told = pack_model(classifier.set_params(backend="auto"), X.shape[1:])
    assert silent.kind == told.kind == "pickle"
    assert silent.digest == told.digest
    found = score_pool(X, told, tmp_path).read()
    classifier.set_params(backend="torch")
    assert_allclose(found["score"], classifier.score_candidates(X), rtol=1e-5)


class Failing:
    """A pool that fails once so many of its candidates were read."""

    def __init__(self, X, after):
        self.X, self.shape, self.dtype, self.after = X, X.shape, X.dtype, after
        self.read = []

    def __getitem__(self, key):
        rows = np.arange(len(self.X))[key]
        if len(rows) > 1:
            self.read += rows.tolist()
        if len(self.read) > self.after:
            raise OSError("the network is down")
        return self.X[key]


def test_a_run_that_fails_goes_on_where_it_was(classifier, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(OSError, match="the network is down"):
        score_pool(Failing(X, 35), classifier, folder, shard_size=10)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert len(kept) == 3
    begun = ScoreTable(folder)
    assert not begun.is_complete
    assert "not complete" in repr(begun)
    with pytest.raises(DataError, match=r"shard-000003.parquet is missing: score the same pool"):
        begun.read()
    pool = Failing(X, 60)
    table = score_pool(pool, classifier, folder)
    assert sorted(pool.read) == list(range(30, 60))
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert table.read().equals(score_pool(X, classifier, tmp_path / "whole", shard_size=10).read())
    pool = Failing(X, 0)
    assert score_pool(pool, classifier, folder).is_complete
    assert pool.read == []


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "empty"])
def test_a_shard_that_is_damaged_is_scored_anew(damage, classifier, tmp_path):
    table = score_pool(X, classifier, tmp_path / "out", shard_size=20)
    expected, path = table.read(), shard_path(tmp_path / "out", 1)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 3] ^= 0x10
    elif damage == "cut":
        data = data[:-20]
    elif damage == "empty":
        data = b""
    else:
        other = score_pool(X[:50], classifier, tmp_path / "other", shard_size=20)
        data = shard_path(other.folder, 1).read_bytes()
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"shard-000001.parquet is damaged: score the same pool"):
        table.read()
    assert score_pool(X, classifier, tmp_path / "out").read().equals(expected)


def test_a_folder_of_other_scores_is_refused(classifier, cnn, tmp_path):
    score_pool(X, classifier, tmp_path)
    for pool, model, options, odd in [
        (X, cnn, {}, "model, precision"),
        (X[::-1], classifier, {}, "images of the pool"),
        (np.concatenate([X[:29], X[[30, 29]], X[31:]]), classifier, {}, "images of the pool"),
        (ArrayPool(X[::-1]), classifier, {}, "images of the pool"),
        (X[:59], classifier, {}, "n, ids, images of the pool"),
        (ArrayPool(X, ids=[f"{k}" for k in range(60)]), classifier, {}, "ids"),
        (ArrayPool(X, groups=["a", "b"] * 30), classifier, {}, "groups"),
        (X.astype(np.float32) / 255, classifier, {}, "candidate, images of the pool"),
        (X, classifier, {"alpha": 0.5}, "consistency"),
    ]:
        with pytest.raises(DataError, match=f"holds scores of something else: {odd} differs"):
            score_pool(pool, model, tmp_path, **options)
    with pytest.raises(DataError, match="precision differs"):
        score_pool(X, cnn, score_pool(X, cnn, tmp_path / "half").folder, precision="float16")
    assert score_pool(X, classifier, tmp_path, alpha=0.25).is_complete
    assert score_pool(ArrayPool(X), classifier, tmp_path).is_complete


def test_two_runs_do_not_write_to_one_folder(classifier, tmp_path):
    score_pool(X, classifier, tmp_path)
    with lock_folder(tmp_path) as held:
        assert held
        with pytest.raises(DataError, match="another process is writing scores"):
            score_pool(X, classifier, tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".parquet"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("{", "is damaged"),
        ("[]", "was not written by this package"),
        ('{"format": "other"}', "was not written by this package"),
        ('{"format": "aift-sklearn score table", "version": 9}', "has format 9"),
        ('{"format": "aift-sklearn score table", "version": 1, "n": 3}', "lacks classes, complete"),
    ],
)
def test_a_manifest_that_is_not_its_own_is_refused(contents, message, classifier, tmp_path):
    (tmp_path / MANIFEST).write_text(contents)
    with pytest.raises(DataError, match=message):
        ScoreTable(tmp_path)
    with pytest.raises(DataError, match=message):
        score_pool(X, classifier, tmp_path)
    assert (tmp_path / MANIFEST).read_text() == contents


def test_bad_input_is_refused(classifier, cnn, tmp_path):
    with pytest.raises(DataError, match="holds no table of scores"):
        ScoreTable(tmp_path)
    with pytest.raises(ModelNotFittedError):
        score_pool(X, AIFTClassifier(), tmp_path)
    with pytest.raises(ParameterError, match="shard_size=0"):
        score_pool(X, classifier, tmp_path, shard_size=0)
    with pytest.raises(ParameterError, match="'s3://bucket/scores' is a URL"):
        score_pool(X, classifier, "s3://bucket/scores")
    with pytest.raises(DataTypeError, match="embeds no candidates"):
        score_pool(X, classifier, tmp_path, embeddings=True)
    with pytest.raises(DataError, match=r"shape \(1, 16, 16\); the model was fitted .* 3 channels"):
        score_pool(X[:, :1], classifier, tmp_path)
    with pytest.raises(DataError, match="expected at least one candidate"):
        score_pool(X[:0], classifier, tmp_path)
    with pytest.raises(ParameterError, match="alpha"):
        score_pool(X, classifier, tmp_path, alpha=2)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        score_pool(X, classifier, tmp_path / "file")
    packed = pack_model(cnn, X.shape[1:])
    with pytest.raises(ParameterError, match="was packed with"):
        pack_model(packed, X.shape[1:], alpha=0.5)
    with pytest.raises(DataError, match="was packed for"):
        pack_model(packed, (3, 8, 8))
    assert pack_model(packed, X.shape[1:], alpha=0.25) is packed
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_can_be_neither_exported_nor_pickled_is_refused(tmp_path):
    class Local(KNeighborsClassifier):
        def __reduce__(self):
            raise TypeError("not this one")

    classifier = AIFTClassifier(Local(), patches=JitterPatches(3), random_state=0)
    F = np.random.default_rng(0).normal(size=(20, 4))
    with pytest.raises(Exception, match="neither exported nor pickled"):
        score_pool(F, classifier.fit(F, F[:, 0] > 0), tmp_path)


@given(data=st.data(), n=st.integers(1, 40), size=st.integers(1, 15))
def test_results_in_any_order_and_more_than_once_make_one_table(data, n, size, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    again = data.draw(st.lists(st.integers(0, n - 1), max_size=20))
    rows = np.array(data.draw(st.permutations([*range(n), *again])))
    scores, ids = np.arange(n) / 7, np.array([f"c{k}" for k in range(n)])
    scores[0] = np.nan
    identity = {"n": n, "classes": [0, 1]}
    how = {"shard_size": size, "ids": ids, "groups": None, "why_broken": {"c0": "odd"}.get}
    at = 0
    with open_table(folder, identity, **how) as writer:
        while at < len(rows):
            some = rows[at : at + data.draw(st.integers(1, 12))]
            at += len(some)
            proba = np.stack([some, -some], axis=1).astype(np.float32)
            writer.put(some, {"score": scores[some], "proba": proba})
        table = writer.finish()
    found = table.read()
    assert found["score"].to_pylist() == [None, *scores[1:].tolist()]
    assert found["id"].to_pylist() == ids.tolist()
    assert_array_equal(proba_of(found)[:, 0], np.arange(n))
    assert table.broken() == {"c0": "odd"}


def test_a_table_of_which_candidates_are_missing_is_not_finished(tmp_path):
    how = {"shard_size": 4, "ids": np.arange(10).astype(str), "groups": None}
    with open_table(tmp_path, {"n": 10, "classes": []}, **how, why_broken={}.get) as writer:
        writer.put(np.arange(7), {"score": np.zeros(7)})
        assert writer.missing == [1, 2]
        with pytest.raises(DataError, match="6 of 10 candidates were not scored"):
            writer.finish()
    assert not json.loads((tmp_path / MANIFEST).read_text())["complete"]
