"""Query strategies: what is asked for, cold start, modAL's conventions."""

import inspect
import subprocess
import sys

import modAL.models
import numpy as np
import pytest
from fakes import TableModel
from modAL.models import ActiveLearner
from modAL.utils.combination import make_linear_combination, make_product
from samples import GOLDEN, binary, make_blobs
from sklearn.linear_model import LogisticRegression
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    aift_sampling,
    patch_diversity,
    patch_entropy,
    scores,
)
from aift_sklearn.errors import DataError, DataTypeError, ParameterError
from aift_sklearn.query._modal import query_result
from aift_sklearn.selection import diversified, random_extension, top, typical

RETURNS_METRICS = "return_metrics" in inspect.signature(modAL.models.ActiveLearner.query).parameters

TABLE = np.concatenate(
    [
        np.stack([binary(p) for p, _ in GOLDEN.values()]),
        binary(np.random.default_rng(0).random((33, 11))),
    ]
)
POOL = np.arange(len(TABLE), dtype=float)[:, None]


def ask(*args, **params):
    result = aift_sampling(*args, **params)
    return result[0] if RETURNS_METRICS else result


@pytest.fixture
def model():
    return TableModel(TABLE).partial_fit(POOL[:2], [0, 1])


@pytest.mark.parametrize("alpha", [0.25, 1.0])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weights", [(1, 1), (0, 1), (1, 0)])
def test_asks_for_the_highest_scores(model, alpha, reduction, weights):
    params = {
        "alpha": alpha,
        "reduction": reduction,
        "entropy_weight": weights[0],
        "diversity_weight": weights[1],
    }
    expected = np.argsort(-scores.patch_consistency(TABLE, **params), kind="stable")[:6]
    assert ask(model, POOL, 6, **params).tolist() == expected.tolist()


def test_prefers_the_published_useful_patterns(model):
    # With majority selection, B (uncertain and contradictory) comes first, C and D last.
    order = ["ABCDEFG"[i] for i in ask(model, POOL[:7], 7)]
    assert order == ["B", "F", "G", "A", "C", "D", "E"]


def test_asks_through_a_learner_as_well_as_directly(model):
    learner = ActiveLearner(model, query_strategy=aift_sampling)
    indices, rows = learner.query(POOL, n_instances=4)
    assert indices.tolist() == ask(model, POOL, 4).tolist()
    np.testing.assert_array_equal(rows, POOL[indices])


def test_random_extension_and_diversification_are_those_of_selection(model):
    model.embed = lambda X: np.concatenate([np.cos(X), np.sin(X)], axis=1)
    score = model.score_candidates(POOL)
    assert ask(model, POOL, 5, random_extension=3, random_state=4).tolist() == (
        random_extension(score, 5, 3, np.random.default_rng(4)).tolist()
    )
    assert ask(model, POOL, 5, diversify=3).tolist() == (
        diversified(score, 5, 3, model.embed(POOL)).tolist()
    )
    groups = np.arange(len(POOL)) // 10
    spread = ask(model, POOL, 4, groups=groups)
    assert sorted(groups[spread]) == [0, 1, 2, 3]
    assert not np.array_equal(spread, top(score, 4))
    both = ask(model, POOL, 4, groups=groups, diversify=4)
    assert sorted(groups[both]) == [0, 1, 2, 3]


def test_diversification_embeds_the_shortlist_only(model):
    asked = []
    model.embed = lambda X: asked.append(len(X)) or np.asarray(X)
    ask(model, POOL, 3, diversify=2)
    assert asked == [6]


def test_the_same_seed_asks_the_same(model):
    draws = [ask(model, POOL, 5, random_extension=4, random_state=s).tolist() for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    legacy = np.random.RandomState(0)
    assert len(ask(model, POOL, 5, random_extension=4, random_state=legacy)) == 5


# --- cold start -------------------------------------------------------------------------------


def clusters(sizes, seed=0):
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, np.pi, len(sizes))
    centres = 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    label = np.repeat(np.arange(len(sizes)), sizes)
    return centres[label] + rng.normal(0, 0.3, (len(label), 2)), label


def test_typical_takes_one_of_each_cluster_largest_first():
    points, label = clusters([30, 50, 20, 40])
    picked = typical.most_typical(points, 4, rng=np.random.default_rng(0))
    assert label[picked].tolist() == [1, 3, 0, 2]


def test_typical_has_the_nearest_neighbours_of_its_cluster():
    points, label = clusters([40, 40])
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    for i in typical.most_typical(points, 2, rng=np.random.default_rng(1)):
        members = np.flatnonzero(label == label[i])
        gaps = np.linalg.norm(directions[members, None] - directions[members], axis=2)
        nearest = np.sort(gaps, axis=1)[:, 1:21].mean(axis=1)
        assert members[nearest.argmin()] == i


def test_typical_keeps_away_from_what_is_labelled():
    points, label = clusters([50, 40, 30])
    known = points[label == 0][:1]
    picked = typical.most_typical(points, 2, known=known, rng=np.random.default_rng(0))
    assert sorted(label[picked]) == [1, 2]


def test_typical_takes_turns_when_points_coincide():
    points = np.repeat([[1.0, 0.0], [0.0, 1.0]], 5, axis=0)
    picked = typical.most_typical(points, 6, rng=np.random.default_rng(0))
    assert len(set(picked.tolist())) == 6
    assert np.bincount(picked // 5).tolist() == [3, 3]


def test_typical_embeds_a_subset_of_a_large_pool(monkeypatch):
    monkeypatch.setattr("aift_sklearn.query.strategies._MAX_EMBEDDED", 30)
    points, _ = clusters([100, 100])
    embedded = []
    model = TableModel(TABLE)
    model.embed = lambda X: embedded.append(len(X)) or X
    picked = ask(model, points, 4, random_state=0)
    assert embedded == [30]
    assert len(set(picked.tolist())) == 4
    assert picked.max() > 30
    assert len(set(ask(model, points, 80, random_state=0).tolist())) == 80


def test_typical_of_features_minds_scale_and_position_not_direction():
    rng = np.random.default_rng(0)
    points = np.repeat([[1.0, 1.0], [5.0, 5.0]], 30, axis=0) + rng.normal(0, 0.2, (60, 2))
    points[:, 1] *= 1e-3
    clf = AIFTClassifier(LogisticRegression())
    for seed in range(10):
        assert sorted(ask(clf, points, 2, random_state=seed) // 30) == [0, 1]


def test_typical_is_found_where_only_some_neighbours_are_searched(monkeypatch):
    points, label = clusters([200, 200])
    monkeypatch.setattr(typical, "_MAX_SEARCHED", 60)
    picked = typical.most_typical(points, 2, rng=np.random.default_rng(0))
    assert sorted(label[picked]) == [0, 1]


@pytest.mark.parametrize("cold_start", ["typical", "random"])
def test_groups_take_turns_in_the_cold_start_too(cold_start):
    points, _ = clusters([30, 30])
    groups = np.arange(60) % 5
    clf = AIFTClassifier(LogisticRegression())
    picked = ask(clf, points, 5, groups=groups, cold_start=cold_start, random_state=0)
    assert sorted(groups[picked]) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="groups has shape"):
        ask(clf, points, 5, groups=["a"], cold_start=cold_start)


def test_cold_start_of_an_untrained_network_looks_at_pixels():
    X, y = make_blobs(40)
    own = CNNClassifier(nn.LazyConv2d(4, 3), pretrained=False)
    picked = ask(AIFTClassifier(own, patches=AffinePatches(2)), X, 10, random_state=0)
    assert set(y[picked]) == {"disc", "empty"}


class RisingOnly:
    """A pool like an HDF5 data set: slices, and index arrays in rising order only."""

    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, key):
        if not isinstance(key, slice):
            assert (np.diff(key) > 0).all()
        return self.X[key]


@pytest.mark.parametrize("wrap", [RisingOnly, list, np.asarray], ids=["lazy", "list", "array"])
def test_pools_of_any_kind_are_asked_alike(wrap):
    X, y = make_blobs(30)
    own = CNNClassifier(nn.LazyConv2d(4, 3), pretrained=False, max_epochs=1)
    clf = AIFTClassifier(own, patches=AffinePatches(2), random_state=0)
    expected = ask(clf, X, 4, random_state=0)
    assert ask(clf, wrap(X), 4, random_state=0).tolist() == expected.tolist()
    clf.fit(X[:20], y[:20])
    expected = ask(clf, X, 4, diversify=3)
    assert ask(clf, wrap(X), 4, diversify=3).tolist() == expected.tolist()
    learner = AIFTLearner(clf)
    np.testing.assert_array_equal(
        learner.query(wrap(X), n_instances=4)[1], X[top(clf.score_candidates(X), 4)]
    )


def test_scores_use_the_eps_that_is_asked_for(model):
    expected = top(scores.patch_consistency(TABLE, eps=1e-3, alpha=1), 5)
    assert ask(model, POOL, 5, eps=1e-3, alpha=1).tolist() == expected.tolist()


def test_cold_start_uses_flat_features_where_nothing_embeds():
    points, label = clusters([30, 20, 25])
    clf = AIFTClassifier(LogisticRegression())
    assert not hasattr(clf, "embed")
    assert sorted(label[ask(clf, points, 3, random_state=0)]) == [0, 1, 2]


def test_cold_start_lasts_until_two_classes_are_known():
    points, label = clusters([30, 20, 25])
    clf = AIFTClassifier(LogisticRegression(), classes=[0, 1, 2])
    clf.partial_fit(points[:1], label[:1])
    assert sorted(label[ask(clf, points, 2, random_state=0)]) == [1, 2]
    clf.partial_fit(points[[0, 40]], label[[0, 40]])
    expected = top(clf.score_candidates(points), 2)
    assert ask(clf, points, 2).tolist() == expected.tolist()


def test_random_cold_start_is_seeded_and_distinct():
    clf = AIFTClassifier(LogisticRegression())
    draws = [ask(clf, POOL, 20, cold_start="random", random_state=s).tolist() for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 20


def test_pretrained_cold_start_scores_imagenet_classes():
    X, _ = make_blobs(12, size=32)
    clf = AIFTClassifier(CNNClassifier(), patches=AffinePatches(4))
    got = ask(clf, X, 3, cold_start="pretrained")
    expected = top(scores.patch_consistency(clf.pretrained_patch_proba(X)), 3)
    assert got.tolist() == expected.tolist()
    assert len(set(ask(clf, X, 3, cold_start="typical", random_state=0).tolist())) == 3


# --- utilities, conventions, errors -------------------------------------------------------------


def test_utilities_combine_in_modal(model):
    entropy = scores.patch_consistency(TABLE, diversity_weight=0)
    diversity = scores.patch_consistency(TABLE, entropy_weight=0)
    np.testing.assert_allclose(patch_entropy(model, POOL), entropy)
    np.testing.assert_allclose(patch_diversity(model, POOL, alpha=0.25), diversity)
    learner = ActiveLearner(model, query_strategy=aift_sampling)
    total = make_linear_combination(patch_entropy, patch_diversity, weights=[1.0, 0.1])
    np.testing.assert_allclose(total(learner, POOL), entropy + 0.1 * diversity)
    product = make_product(patch_entropy, patch_diversity)
    np.testing.assert_allclose(product(learner, POOL), entropy * diversity)


def test_utilities_are_flat_before_two_classes_are_known():
    unfitted = AIFTClassifier(LogisticRegression())
    assert patch_entropy(unfitted, POOL).tolist() == [1.0] * len(POOL)
    assert patch_diversity(unfitted, POOL).tolist() == [1.0] * len(POOL)


def test_strategy_returns_what_the_installed_modal_wants(model):
    result = aift_sampling(model, POOL, 3)
    if RETURNS_METRICS:
        indices, metrics = result
        np.testing.assert_allclose(metrics, model.score_candidates(POOL)[indices])
    else:
        assert isinstance(result, np.ndarray)


def test_query_result_speaks_both_dialects(monkeypatch):
    indices, score = np.array([2, 0]), np.array([0.1, 0.2, 0.3])
    monkeypatch.setattr("aift_sklearn.query._modal._RETURNS_METRICS", False)
    assert query_result(indices, score) is indices
    monkeypatch.setattr("aift_sklearn.query._modal._RETURNS_METRICS", True)
    assert [part.tolist() for part in query_result(indices, score)] == [[2, 0], [0.3, 0.1]]
    assert np.isnan(query_result(indices, None)[1]).all()


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_instances": 41}, DataError, "asked for n_instances=41 of a pool of 40"),
        ({"n_instances": 0}, ParameterError, "n_instances=0"),
        ({"alpha": 0}, ParameterError, "alpha=0"),
        ({"alpha": 1.5}, ParameterError, "alpha=1.5"),
        ({"reduction": "max"}, ParameterError, "reduction='max'"),
        ({"cold_start": "warm"}, ParameterError, "cold_start='warm'"),
        ({"random_extension": 0.5}, ParameterError, "random_extension=0.5"),
        ({"diversify": 0.9}, ParameterError, "diversify=0.9"),
        ({"diversify": 2, "random_extension": 2}, ParameterError, "one of them"),
        ({"groups": ["a"]}, DataError, "groups has shape"),
    ],
)
def test_bad_parameters_are_refused(model, params, error, message):
    with pytest.raises(error, match=message):
        aift_sampling(model, POOL, **params)


def test_bad_parameters_are_refused_in_the_cold_start_too():
    with pytest.raises(ParameterError, match="alpha"):
        aift_sampling(AIFTClassifier(LogisticRegression()), POOL, alpha=2)
    with pytest.raises(ParameterError, match="pre-training head"):
        aift_sampling(AIFTClassifier(LogisticRegression()), POOL, cold_start="pretrained")


def test_a_bare_classifier_is_told_to_be_wrapped():
    with pytest.raises(DataTypeError, match=r"AIFTClassifier\(LogisticRegression"):
        aift_sampling(ActiveLearner(LogisticRegression()), POOL)


def test_modal_keeps_its_own_strategies():
    """Importing the package mends modAL's check_X_y, and nothing else of modAL."""
    code = (
        "import modAL.models.base as b, modAL.models.learners as l, modAL.uncertainty as u\n"
        "before = {(m.__name__, k): v for m in (b, l, u) for k, v in vars(m).items()}\n"
        "import aift_sklearn.query\n"
        "after = {(m.__name__, k): v for m in (b, l, u) for k, v in vars(m).items()}\n"
        "print(sorted({k[1] for k in after if after[k] is not before.get(k)}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['check_X_y']"
