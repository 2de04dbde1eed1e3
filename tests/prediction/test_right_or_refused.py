"""Whatever the network, pools get the estimator's own numbers, with a warning or without."""

import copy
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier, CNNFeatures
from aift_sklearn.errors import BackendWarning, DataError
from aift_sklearn.networks.backbones import BACKBONES, Backbone
from aift_sklearn.prediction import predictor
from aift_sklearn.query import cold_start
from aift_sklearn.scores import patch_consistency

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

from aift_sklearn.onnx import OnnxScorer, engine, shelf
from aift_sklearn.onnx.host_pass import HostPass

X, Y = make_blobs(40, size=16)


def classifier(backbone, backend="onnx", **params):
    cnn = CNNClassifier(
        backbone, pretrained=False, max_epochs=2, lr=0.05, continued_lr_factor=1.0, random_state=0
    )
    return AIFTClassifier(
        cnn, patches=AffinePatches(3, rotation=40), backend=backend, random_state=0, **params
    )


class Head(nn.Module):
    """A convolution, and what a subclass does with its output."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.p = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.after(self.conv(x))


class LearnedPower(Head):
    def after(self, x):
        return x.clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p)


class Gate(Head):
    def after(self, x):
        gate = torch.sigmoid(self.p)
        return gate * x.amax((2, 3)) + (1 - gate) * x.mean((2, 3))


class PerBatch(Head):
    def after(self, x):
        return x - x.mean(0, keepdim=True) + self.p


class Double(Head):
    def forward(self, x):
        return self.conv.double()(x.double()).float() * self.p.float()


class Undecided(Head):
    def after(self, x):
        return x * 2 if float(x.detach().mean()) > 0 else x * self.p


class SelfScaled(Head):
    def forward(self, x):
        return self.conv(x / x.std((1, 2, 3), keepdim=True)) * self.p


def answers(model, pool):
    """Probabilities, scores and embeddings, and whether the engine stepped aside."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = model.predict_patch_proba(pool), model.score_candidates(pool), model.embed(pool)
    assert all(issubclass(one.category, BackendWarning) for one in told)
    return found, len(told)


@pytest.mark.parametrize("network", [LearnedPower, Gate, PerBatch, Double])
def test_three_rounds_give_the_estimators_own_numbers(network):
    fast = classifier(network, classes=["disc", "empty"])
    slow = classifier(network, "torch", classes=["disc", "empty"])
    for start in (0, 10, 20):
        for model in (fast, slow):
            model.partial_fit(X[start : start + 10], Y[start : start + 10])
        found, told = answers(fast, X)
        expected, _ = answers(slow, X)
        assert told <= 1, "said once for each round"
        assert told or network in (LearnedPower, Gate)
        for one, other in zip(found, expected, strict=True):
            assert_allclose(one, other, rtol=2e-3, atol=1e-3)


def test_a_saved_file_computes_what_the_classifier_does(tmp_path):
    model = classifier(LearnedPower).fit(X[:20], Y[:20])
    OnnxScorer(model).score(X)
    model.partial_fit(X[20:], Y[20:])
    path = OnnxScorer(model).save(tmp_path / "model.onnx")
    found = OnnxScorer.load(path).patch_proba(X)
    assert_allclose(found, model.set_params(backend="torch").predict_patch_proba(X), atol=1e-5)


def activation(kind):
    return lambda: nn.Sequential(nn.Conv2d(3, 6, 3), kind(), nn.Conv2d(6, 5, 3))


def test_another_network_of_the_same_tensors_is_not_taken_for_the_first():
    model = classifier(activation(nn.ReLU)).fit(X[:20], Y[:20])
    model.predict_proba(X)
    model.set_params(estimator=classifier(activation(nn.Tanh)).estimator).fit(X[:20], Y[:20])
    fast = model.predict_patch_proba(X)
    assert_allclose(fast, model.set_params(backend="torch").predict_patch_proba(X), atol=1e-5)


def test_a_network_changed_from_outside_is_noticed():
    model = classifier(activation(nn.ReLU)).fit(X[:20], Y[:20])
    before = model.predict_patch_proba(X)
    scorer = OnnxScorer(model)
    scorer.score(X)
    body = model.estimator_.module_.backbone.body
    body[1] = nn.Tanh()
    fast, scored = model.predict_patch_proba(X), scorer.patch_proba(X)
    slow = model.set_params(backend="torch").predict_patch_proba(X)
    assert np.abs(fast - before).max() > 1e-3
    assert_allclose(fast, slow, atol=1e-5)
    assert_allclose(scored, slow, atol=1e-5)
    with torch.no_grad():
        body[0].weight.mul_(-1)
    slow = model.predict_patch_proba(X)
    assert_allclose(scorer.patch_proba(X), slow, atol=1e-5)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_a_prediction_that_is_no_number_names_its_candidate(backend):
    pool = X.copy()
    pool[[7, 31]] = 0
    model = classifier(SelfScaled, backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)
        model.fit(X[:20], Y[:20])
        for ask in (model.predict, model.predict_proba, model.score_candidates, model.embed):
            with pytest.raises(DataError, match=r"candidates? 7"):
                ask(pool)
        with pytest.raises(DataError, match=r"candidates? 7"):
            model.top_candidates(pool, 3)
        assert np.isfinite(model.predict_proba(X)).all()


QUERIES = {
    "typical start": {},
    "typical start in groups": {"groups": np.arange(len(X)) // 2},
    "pretrained start": {"cold_start": "pretrained"},
}


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("params", QUERIES.values(), ids=QUERIES)
def test_an_embedding_that_is_no_number_names_its_candidate_in_the_cold_start(
    params, backend, monkeypatch
):
    def build(pretrained):
        torch.manual_seed(0)
        return Backbone(SelfScaled(), head=nn.Linear(4, 5))

    monkeypatch.setitem(BACKBONES, "self-scaled", build)
    pool = X.copy()
    pool[[7, 31]] = 0
    model = AIFTClassifier(
        CNNClassifier("self-scaled"), patches=AffinePatches(3), backend=backend, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)
        learner = AIFTLearner(model)
        for ask in (learner.query, lambda pool, **given: model.embed(pool)):
            with pytest.raises(DataError, match=r"candidates? 7"):
                ask(pool, n_instances=3, **params)
        assert len(learner.query(X, n_instances=3, **params)[0]) == 3


@pytest.mark.parametrize("seed", range(4))
def test_of_a_subset_the_candidate_is_named_by_its_place_in_the_pool(seed, monkeypatch):
    model = AIFTClassifier(CNNClassifier(SelfScaled()), patches=AffinePatches(3), random_state=0)
    pool = X.copy()
    pool[33:] = 0
    monkeypatch.setattr(cold_start, "_MAX_EMBEDDED", 35)
    with pytest.raises(DataError, match=r"candidate 3[3-9] of the pool") as refused:
        AIFTLearner(model).query(pool, n_instances=3, random_state=seed)
    assert refused.value.index >= 33


@pytest.mark.parametrize("omega", [2, 6])
def test_a_query_names_what_no_score_can_be_told_of(omega):
    pool = X.copy()
    pool[[7, 31]] = 0
    model = classifier(SelfScaled, "torch").fit(X[:20], Y[:20])
    for params in (
        {},
        {"selection": "k-centre", "omega": omega},
        {"selection": "random_extension", "omega": 2},
        {"racing": False},
    ):
        with pytest.raises(DataError, match=r"candidates? 7"):
            AIFTLearner(model).query(pool, n_instances=3, **params)


def test_an_engine_that_fails_while_it_runs_is_replaced_and_tried_again(monkeypatch):
    model = classifier(activation(nn.ReLU), classes=["disc", "empty"]).partial_fit(X[:20], Y[:20])
    expected = model.set_params(backend="torch").predict_patch_proba(X)
    model.set_params(backend="onnx")
    run, broken = HostPass.__call__, [True]

    def sometimes(self, candidates, outputs, views=None):
        if broken[0] and len(candidates) > 2:
            raise RuntimeError("the device is gone\nand more")
        return run(self, candidates, outputs, views)

    monkeypatch.setattr(HostPass, "__call__", sometimes)
    with pytest.warns(BackendWarning, match="cannot run the network: RuntimeError: the device is"):
        assert_array_equal(model.predict_patch_proba(X), expected)
    broken[0] = False
    used = []
    begin = engine.OnnxEngine.begin
    monkeypatch.setattr(
        engine.OnnxEngine, "begin", lambda self, pool: used.append(1) or begin(self, pool)
    )
    model.predict_proba(X)
    assert not used, "not before the model has learnt more"
    model.partial_fit(X[20:], Y[20:])
    model.predict_proba(X)
    assert used


def test_one_class_after_two_is_scored_by_the_estimator():
    pipeline = make_pipeline(CNNFeatures(activation(nn.ReLU), pretrained=False), StandardScaler())
    pipeline = make_pipeline(*[step for _, step in pipeline.steps], LogisticRegression())
    model = AIFTClassifier(pipeline, patches=AffinePatches(3), backend="onnx", random_state=0)
    model.fit(X[:20], Y[:20])
    fast = model.predict_patch_proba(X)
    assert_allclose(fast, model.set_params(backend="torch").predict_patch_proba(X), atol=1e-5)
    disc = X[Y == "disc"]
    single = AIFTClassifier(pipeline, backend="onnx", classes=["disc", "empty"], random_state=0)
    single.fit(disc[:3], ["disc"] * 3)
    with pytest.warns(BackendWarning, match="_OneClass is no CNN"):
        assert (single.predict(X) == "disc").all()


@pytest.fixture
def it_pays(monkeypatch):
    """Let "auto" take ONNX Runtime for pools as small as these."""
    for name in ("_EXPORT_PIXELS", "_REFRESH_PIXELS"):
        monkeypatch.setattr(predictor, name, 1)


def expected_of(model, pool):
    """What the estimator itself gives."""
    alone = copy.copy(model).set_params(backend="torch")
    return alone.predict_patch_proba(pool)


def test_after_each_refit_auto_tries_anew_whatever_the_network_has_become(it_pays, begun):
    model = classifier(activation(nn.ReLU), "auto")
    networks = [activation(nn.ReLU), Double, Double, activation(nn.Tanh), Undecided]
    for round_, (network, fits) in enumerate(zip(networks, [1, 0, 0, 1, 0], strict=True)):
        model.set_params(estimator__backbone=network).fit(X[:20], Y[:20])
        n = len(begun)
        (found, scores, _), n_warnings = answers(model, X)
        assert_allclose(found, expected_of(model, X), atol=1e-5)
        assert_allclose(scores, patch_consistency(found), rtol=1e-6)
        # Either every pass goes through it, or one warning tells why none does.
        assert (len(begun) - n, n_warnings) == ((3, 0) if fits else (0, 1)), round_


@pytest.mark.parametrize("backend", ["auto", "onnx"])
def test_a_pipeline_that_is_refitted_on_one_class_and_on_two_again(backend, it_pays, begun):
    features = CNNFeatures(activation(nn.ReLU), pretrained=False)
    pipeline = make_pipeline(features, StandardScaler(), LogisticRegression())
    model = AIFTClassifier(
        pipeline,
        patches=AffinePatches(3),
        backend=backend,
        classes=["disc", "empty"],
        random_state=0,
    )
    learner = AIFTLearner(model.fit(X[:20], Y[:20]))
    disc = X[Y == "disc"][:5]
    assert_allclose(model.predict_patch_proba(X), expected_of(model, X), atol=1e-5)
    assert len(begun) == 1
    model.fit(disc, ["disc"] * 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)
        assert (model.predict(X) == "disc").all()
        # Too little is known to score by: the cold start is asked.
        assert len(learner.query(X, n_instances=3, random_state=0)[0]) == 3
    n = len(begun)
    model.fit(X[:20], Y[:20])
    learner.set_params(pool_weights=False)
    indices, _ = learner.query(X, n_instances=3, selection="top")
    assert len(begun) == n + 1
    scores = patch_consistency(expected_of(model, X))
    assert_array_equal(indices, np.argsort(-scores, kind="stable")[:3])


@pytest.mark.parametrize("backend", ["auto", "onnx", "torch"])
def test_tensors_are_pools_too(backend, it_pays):
    model = classifier(activation(nn.ReLU), backend).fit(X[:20], Y[:20])
    tensor = torch.from_numpy(X)
    assert_array_equal(model.predict(tensor), model.predict(X))
    learner = AIFTLearner(model)
    for params in (
        {},
        {"selection": "k-centre", "omega": 3},
        {"selection": "random_extension", "omega": 2},
        {"groups": np.arange(40) // 4},
    ):
        asked = {"n_instances": 4, "random_state": 0, **params}
        indices, rows = learner.query(tensor, **asked)
        assert_array_equal(indices, learner.query(X, **asked)[0])
        assert_array_equal(rows, X[indices])
    fresh = AIFTLearner(AIFTClassifier(CNNClassifier(activation(nn.ReLU)()), backend=backend))
    asked = {"n_instances": 4, "random_state": 0}
    assert_array_equal(fresh.query(tensor, **asked)[0], fresh.query(X, **asked)[0])


def test_a_skorch_net_is_not_taken_for_a_cnn_of_this_package():
    class Estimator(LogisticRegression):
        def fit(self, X, y):
            super().fit(X.reshape(len(X), -1), y)
            self.module_ = nn.Flatten()
            return self

        def predict_proba(self, X):
            return super().predict_proba(X.reshape(len(X), -1))

    model = AIFTClassifier(Estimator(), patches=AffinePatches(2), backend="onnx", random_state=0)
    model.fit(X[:20], Y[:20])
    with pytest.warns(BackendWarning, match="Estimator is no CNN"):
        fast = model.predict_proba(X)
    assert_array_equal(fast, model.set_params(backend="torch").predict_proba(X))


def test_sizes_that_take_turns_are_exported_once_each(monkeypatch):
    exported = []
    real = shelf._export
    monkeypatch.setattr(
        shelf, "_export", lambda network, shape: exported.append(shape) or real(network, shape)
    )
    model = classifier(activation(nn.ReLU)).fit(X[:20], Y[:20])
    for _ in range(3):
        for pool in (X, X[:, :, :12], X[:, :, :, :13]):
            model.predict_proba(pool)
    assert len(exported) == 3


def test_probabilities_and_embeddings_come_in_one_pass():
    from aift_sklearn.scanning.engine import EstimatorEngine
    from aift_sklearn.scanning.model import PatchModel
    from aift_sklearn.scanning.pool_pass import PoolPass

    model = classifier(activation(nn.ReLU)).fit(X[:20], Y[:20])
    parts = PatchModel.from_classifier(model)
    fast = OnnxScorer(model)._engine
    for one in (EstimatorEngine(parts), fast):
        P, E = PoolPass(one).proba_and_embeddings(X)
        assert_allclose(P, model.predict_patch_proba(X), atol=1e-5)
        assert_allclose(E, model.embed(X), rtol=1e-4, atol=1e-5)
