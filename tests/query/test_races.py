"""Queries that race: a few patches of most candidates, and all of those that are asked for."""

import numpy as np
import pytest
from fakes import Pixels
from numpy.testing import assert_array_equal
from sklearn.base import clone
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    aift_sampling,
    patch_consistency,
)
from aift_sklearn.selection import diversified, top

M, B = 16, 10
RNG = np.random.default_rng(0)


def shaded(n):
    """Pictures (n, 3, 12, 12) of two shades, a few of which have an edge through them."""
    shade = RNG.choice([40, 200], n)
    X = np.repeat(shade, 3 * 144).reshape(n, 3, 12, 12)
    edged = RNG.random(n) < 0.1
    columns = RNG.integers(1, 11, n)
    X = np.where(edged[:, None, None, None] & (np.arange(12) >= columns[:, None, None, None]),
                 240 - X, X)  # fmt: skip
    noisy = X + RNG.integers(-15, 16, X.shape)
    return noisy.clip(0, 255).astype(np.uint8), np.where(shade > 100, "bright", "dark")


POOL, _ = shaded(1500)
TAUGHT, LABELS = shaded(60)


class Counting(Pixels):
    """Notes how many patches it was asked to predict."""

    n_asked = 0

    def predict_proba(self, X):
        Counting.n_asked += len(X)
        return super().predict_proba(X)


def taught(estimator, backend="torch"):
    patches = AffinePatches(M, rotation=30)
    model = AIFTClassifier(estimator, patches=patches, backend=backend, random_state=0)
    return model.fit(TAUGHT, LABELS)


@pytest.fixture(scope="module")
def model():
    return taught(Counting(C=1e-4, max_iter=500))


def asked(model, **params):
    """Indices asked for by a learner, and the share of all patches that was predicted."""
    Counting.n_asked = 0
    indices, rows = AIFTLearner(model).query(POOL, n_instances=B, **{"selection": "top"} | params)
    assert_array_equal(rows, POOL[indices])
    return indices, Counting.n_asked / (len(POOL) * M)


def test_a_query_races_and_asks_what_a_whole_pass_asks(model):
    scores = patch_consistency(model.predict_patch_proba(POOL))
    best = top(scores, B)
    assert len(np.unique(scores[best])) == B
    raced, share = asked(model)
    assert_array_equal(raced, best)
    assert share < 0.5
    whole, share = asked(model, racing=False)
    assert_array_equal(whole, best)
    assert share == 1


def test_scores_of_what_is_asked_for_are_those_of_all_patches(model):
    indices, scores = model.top_candidates(POOL, B)
    expected = patch_consistency(model.predict_patch_proba(POOL[indices]))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize("consistency", [{"alpha": 0.5}, {"reduction": "mean", "alpha": 0.125}])
def test_a_race_goes_by_the_score_that_the_query_is_given(model, consistency):
    expected = top(patch_consistency(model.predict_patch_proba(POOL), **consistency), B)
    raced, share = asked(model, **consistency)
    assert_array_equal(raced, expected)
    assert share < 1


def test_variety_and_groups_choose_among_the_winners_of_a_race(model):
    scores = patch_consistency(model.predict_patch_proba(POOL))
    pixels = POOL.reshape(len(POOL), -1).astype(np.float32)
    expected = diversified(scores, B, 3, lambda rows: pixels[rows])
    raced, share = asked(model, selection="k-centre", omega=3)
    assert_array_equal(raced, expected)
    assert share < 0.6
    groups = np.arange(len(POOL)) % 300
    raced, share = asked(model, groups=groups)
    assert_array_equal(raced, asked(model, groups=groups, racing=False)[0])
    assert share < 0.6


def test_a_query_of_a_network_races_in_onnx_runtime_too(monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
    pytest.importorskip("onnxscript", reason="the extra cpu is not installed")
    from aift_sklearn.onnx import engine

    seen = []
    evaluate = engine.OnnxEngine.evaluate

    def evaluated(self, candidates, views, embed=()):
        seen.append(len(candidates) * (M if views is None else len(views)))
        return evaluate(self, candidates, views, embed)

    monkeypatch.setattr(engine.OnnxEngine, "evaluate", evaluated)
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.LazyLinear(4), nn.ReLU())
    cnn = CNNClassifier(network, pretrained=False, max_epochs=20, lr=0.02, random_state=0)
    model = taught(clone(cnn), "onnx")
    best = top(model.score_candidates(POOL), B)
    seen.clear()
    learner = AIFTLearner(model, aift_sampling)
    raced, _ = learner.query(POOL, n_instances=B, selection="top")
    share = sum(seen) / (len(POOL) * M)
    assert len(np.intersect1d(raced, best)) >= B - 1
    assert share < 0.6
