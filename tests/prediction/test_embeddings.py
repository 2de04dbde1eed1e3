"""Embeddings: the engine that scores gives them too, and an unfitted network is built once."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier, CNNFeatures
from aift_sklearn.networks.backbones import BACKBONES, Backbone
from aift_sklearn.prediction import predictor
from aift_sklearn.scanning import engine as estimators
from aift_sklearn.selection import diversified, most_typical

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

from aift_sklearn.onnx import engine

X, Y = make_blobs(60, size=20)


@pytest.fixture
def passes(monkeypatch):
    """Which engine went over a pool, and over how many candidates."""
    seen = []

    def spy(of, name):
        begin = of.begin

        def began(self, pool):
            begin(self, pool)
            seen.append((name, len(pool)))

        monkeypatch.setattr(of, "begin", began)

    spy(engine.OnnxEngine, "onnx")
    spy(estimators.EstimatorEngine, "estimator")
    for name in ("_EXPORT_PIXELS", "_REFRESH_PIXELS"):
        monkeypatch.setattr(predictor, name, 30 * 400)
    return seen


ESTIMATORS = {
    "network": lambda: CNNClassifier(nn.Conv2d(3, 6, 5), max_epochs=1),
    "features": lambda: make_pipeline(CNNFeatures(nn.Conv2d(3, 6, 5)), LogisticRegression()),
}


def classifier(kind, backend="auto"):
    patches = AffinePatches(4, rotation=40)
    return AIFTClassifier(ESTIMATORS[kind](), patches=patches, backend=backend, random_state=0)


def twins(kind):
    """The same classifier, to be asked with and without ONNX Runtime."""
    model = classifier(kind)
    slow = classifier(kind, "torch").set_params(estimator=model.estimator)
    return model, slow


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_an_unfitted_classifier_embeds_large_pools_by_the_engine_that_scores(kind, passes):
    model, slow = twins(kind)
    found = model.embed(X)
    assert_allclose(found, slow.embed(X), rtol=1e-4, atol=1e-5)
    model.embed(X[:20])
    assert passes == [("onnx", 60), ("estimator", 60), ("estimator", 20)]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_typical_cold_start_embeds_by_the_engine_that_scores(kind, passes):
    model, slow = twins(kind)
    indices, _ = AIFTLearner(model).query(X, n_instances=5, random_state=0)
    assert passes == [("onnx", 60)]
    rng = np.random.default_rng(0)
    assert_array_equal(indices, most_typical(slow.embed(X), 5, directions=True, rng=rng))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_variety_is_measured_by_the_engine_that_scores(kind, passes):
    model = classifier(kind, "onnx").fit(X[:20], Y[:20])
    learner = AIFTLearner(model, pool_weights=False)
    indices, _ = learner.query(X, n_instances=5, selection="k-centre", omega=6)
    assert passes == [("onnx", 60), ("onnx", 30)]
    model.set_params(backend="torch")
    scores = model.score_candidates(X)
    expected = diversified(scores, 5, 6, lambda rows: model.embed(X[rows]))
    assert_array_equal(indices, expected)


def test_features_of_a_study_are_frozen_by_the_engine_that_scores(passes):
    from aift_sklearn.study import Dataset
    from aift_sklearn.study.frozen import freeze

    dataset = Dataset("blobs", X[:30], Y[:30], X[30:], Y[30:], None, None, "", "", "")
    model, slow = twins("features")
    _, fast = freeze(dataset, model)
    assert passes == [("onnx", 30), ("onnx", 30)]
    _, slow = freeze(dataset, slow)
    tables = [each.estimator.steps[0][1].table.embeddings for each in (fast, slow)]
    assert tables[0].shape == (60 * 4, 6)
    assert_allclose(*tables, rtol=1e-4, atol=1e-5)


# --- networks that are built once -----------------------------------------------------------------


class Parts:
    """A pool that counts the parts in which it is read."""

    def __init__(self, X):
        self._X, self.shape, self.dtype, self.n_parts = X, X.shape, X.dtype, 0

    def __getitem__(self, rows):
        self.n_parts += 1
        return self._X[rows]


@pytest.fixture
def built(monkeypatch):
    """What is noted whenever the backbone "counted" is built; parts are small."""
    made = []

    def build(pretrained):
        made.append(pretrained)
        return Backbone(nn.Conv2d(3, 6, 5), head=nn.Linear(6, 8))

    monkeypatch.setitem(BACKBONES, "counted", build)
    monkeypatch.setattr(estimators, "_PART_FLOATS", 7 * 4 * 3 * 400)
    return made


UNFITTED = {
    "embed": lambda model, pool: model.embed(pool),
    "pretrained": lambda model, pool: model.pretrained_patch_proba(pool),
    "typical start": lambda model, pool: AIFTLearner(model).query(pool, n_instances=5),
    "pretrained start": lambda model, pool: AIFTLearner(model).query(
        pool, n_instances=5, cold_start="pretrained"
    ),
}


@pytest.mark.parametrize("ask", UNFITTED)
def test_an_unfitted_network_is_built_once_for_all_parts_of_a_pool(ask, built):
    model = AIFTClassifier(CNNClassifier("counted"), patches=AffinePatches(4), backend="torch")
    pool = Parts(np.repeat(X, 4, axis=0))
    UNFITTED[ask](model, pool)
    assert pool.n_parts > 5
    assert built == [True]


def test_features_of_a_pipeline_are_built_once_for_all_parts_of_a_pool(built):
    pipeline = make_pipeline(CNNFeatures("counted"), LogisticRegression())
    model = AIFTClassifier(pipeline, patches=AffinePatches(4), backend="torch")
    pool = Parts(np.repeat(X, 4, axis=0))
    model.embed(pool)
    assert pool.n_parts > 5
    assert built == [True]
