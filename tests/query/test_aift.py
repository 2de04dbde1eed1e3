"""AIFT's query: what is asked for, by a race or a whole pass, of pools of any kind."""

import inspect

import modAL.models
import numpy as np
import pytest
from fakes import TableModel
from hypothesis import given
from hypothesis import strategies as st
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
from aift_sklearn.selection import diversified, random_extension, top

RETURNS_METRICS = "return_metrics" in inspect.signature(modAL.models.ActiveLearner.query).parameters

TABLE = np.concatenate(
    [
        np.stack([binary(p) for p, _ in GOLDEN.values()]),
        binary(np.random.default_rng(0).random((33, 11))),
    ]
)
POOL = np.arange(len(TABLE), dtype=float)[:, None]
seeds = st.integers(0, 20)


def ask(*args, **params):
    result = aift_sampling(*args, **{"selection": "top"} | params)
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
    indices, rows = learner.query(POOL, n_instances=4, selection="top")
    assert indices.tolist() == ask(model, POOL, 4).tolist()
    np.testing.assert_array_equal(rows, POOL[indices])


def test_random_extension_and_diversification_are_those_of_selection(model):
    model.embed = lambda X: np.concatenate([np.cos(X), np.sin(X)], axis=1)
    score = model.score_candidates(POOL)
    assert ask(model, POOL, 5, selection="random_extension", omega=3, random_state=4).tolist() == (
        random_extension(score, 5, 3, np.random.default_rng(4)).tolist()
    )
    assert ask(model, POOL, 5, selection="k-centre", omega=3).tolist() == (
        diversified(score, 5, 3, model.embed(POOL)).tolist()
    )
    groups = np.arange(len(POOL)) // 10
    spread = ask(model, POOL, 4, groups=groups)
    assert sorted(groups[spread]) == [0, 1, 2, 3]
    assert not np.array_equal(spread, top(score, 4))
    both = ask(model, POOL, 4, groups=groups, selection="k-centre", omega=4)
    assert sorted(groups[both]) == [0, 1, 2, 3]


def test_diversification_embeds_the_shortlist_only(model):
    asked = []
    model.embed = lambda X: asked.append(len(X)) or np.asarray(X)
    ask(model, POOL, 3, selection="k-centre", omega=2)
    assert asked == [6]


def test_the_same_seed_asks_the_same(model):
    draws = [
        ask(model, POOL, 5, selection="random_extension", omega=4, random_state=s).tolist()
        for s in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]
    legacy = np.random.RandomState(0)
    assert len(ask(model, POOL, 5, selection="random_extension", omega=4, random_state=legacy)) == 5


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
    expected = ask(clf, X, 4, selection="k-centre", omega=3)
    assert ask(clf, wrap(X), 4, selection="k-centre", omega=3).tolist() == expected.tolist()
    learner = AIFTLearner(clf)
    np.testing.assert_array_equal(
        learner.query(wrap(X), n_instances=4, selection="top")[1],
        X[top(clf.score_candidates(X), 4)],
    )


def test_scores_use_the_eps_that_is_asked_for(model):
    expected = top(scores.patch_consistency(TABLE, eps=1e-3, alpha=1), 5)
    assert ask(model, POOL, 5, eps=1e-3, alpha=1).tolist() == expected.tolist()


# --- races ------------------------------------------------------------------------------------


class Racing(TableModel):
    """A model that finds its highest scores itself, and notes how many it was asked for."""

    def top_candidates(self, X, b, *, racing=True, **consistency):
        self.asked = [*getattr(self, "asked", []), (b, racing)]
        score = TableModel.score_candidates(self, X, **consistency)
        order = np.lexsort((np.arange(len(score)), -score))[:b]
        return order, score[order]

    def score_candidates(self, X, **consistency):
        raise AssertionError("the whole pool was scored")


class Whole(TableModel):
    pass


def both_ways(table, b, **params):
    """Indices and metrics by a race and by a whole pass, and the number of scores raced for."""
    pool = np.arange(float(len(table)))[:, None]
    results, models = [], []
    for Model in (Racing, Whole):
        model = Model(table).partial_fit(pool[:2], [0, 1])
        model.embed = lambda X: np.concatenate([np.cos(X), np.sin(X)], axis=1)
        if len(models) == 0 and params.pop("whole_pool", False):
            model.score_candidates = Whole(table).partial_fit(pool[:2], [0, 1]).score_candidates
        results.append(aift_sampling(model, pool, b, **{"selection": "top"} | params))
        models.append(model)
    return *results, getattr(models[0], "asked", [])


# Few different rows, so that scores tie.
tied_tables = st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.9]), min_size=12, max_size=40).map(
    lambda p: binary(np.stack([p, np.roll(p, 1), np.sort(p)], axis=1))
)
rules = st.one_of(
    st.just({}),
    st.builds(lambda w: {"selection": "k-centre", "omega": w}, st.floats(1, 1.9)),
    st.builds(
        lambda w, s: {"selection": "random_extension", "omega": w, "random_state": s},
        st.floats(1, 1.9),
        seeds,
    ),
    st.builds(
        lambda w, g: {"selection": "k-centre", "omega": w, "groups": g},
        st.floats(1, 1.9),
        st.integers(1, 6),
    ),
)


@given(tied_tables, st.integers(1, 4), rules)
def test_a_race_asks_what_a_whole_pass_asks(table, b, params):
    if "groups" in params:
        params = {**params, "groups": np.arange(len(table)) % params["groups"]}
    raced, whole, asked = both_ways(table, b, **params)
    np.testing.assert_array_equal(raced, whole)
    omega = params.get("omega", 1)
    extra = params.get("selection") == "random_extension"
    assert asked == [(int(np.ceil(round(omega * b, 9))) + extra, True)]


@pytest.mark.parametrize("b", [1, 2, 3])
def test_groups_race_for_four_times_as_many(b):
    groups = np.random.default_rng(0).integers(0, 5, len(TABLE))
    raced, whole, asked = both_ways(TABLE, b, groups=groups)
    np.testing.assert_array_equal(raced, whole)
    assert asked == [(4 * b, True)]


@pytest.mark.parametrize(
    "params",
    [
        {"n_instances": 40},
        {"n_instances": 20, "selection": "k-centre", "omega": 2},
        {"n_instances": 10, "groups": POOL},
    ],
)
def test_who_needs_every_score_does_not_race(params):
    if "groups" in params:
        params["groups"] = np.arange(len(POOL)) // 2
    raced, whole, asked = both_ways(TABLE, params.pop("n_instances"), whole_pool=True, **params)
    np.testing.assert_array_equal(raced, whole)
    assert asked == []


def test_a_race_can_be_declined_and_is_told_how_to_score():
    model = Racing(TABLE).partial_fit(POOL[:2], [0, 1])
    expected = top(scores.patch_consistency(TABLE, alpha=0.5, reduction="mean"), 3)
    params = {"alpha": 0.5, "reduction": "mean"}
    assert ask(model, POOL, 3, racing=False, **params).tolist() == expected.tolist()
    assert ask(model, POOL, 3, **params).tolist() == expected.tolist()
    assert model.asked == [(3, False), (3, True)]
    with pytest.raises(ParameterError, match=r"^racing='never'"):
        ask(model, POOL, 3, racing="never")


@pytest.mark.parametrize(
    "found",
    [
        ([0, 0, 1], [3.0, 2.0, 1.0]),
        ([0, 1], [3.0, 2.0]),
        ([0, 1, 2], [3.0, 2.0]),
        ([-1, 1, 2], [3.0, 2.0, 1.0]),
        ([0, 1, 40], [3.0, 2.0, 1.0]),
    ],
)
def test_a_race_that_ends_wrong_is_refused(found):
    model = Racing(TABLE).partial_fit(POOL[:2], [0, 1])
    model.top_candidates = lambda *args, **params: found
    with pytest.raises(DataError, match="expected 3 different positions in a pool of 40"):
        ask(model, POOL, 3)


def test_nothing_races_in_the_cold_start():
    model = Racing(TABLE)
    model.embed = np.asarray
    assert len(ask(model, POOL, 3, random_state=0)) == 3
    assert not hasattr(model, "asked")


# --- utilities and errors ------------------------------------------------------------


def test_utilities_combine_in_modal(model):
    entropy = scores.patch_consistency(TABLE, diversity_weight=0)
    diversity = scores.patch_consistency(TABLE, entropy_weight=0)
    np.testing.assert_allclose(patch_entropy(model, POOL), entropy)
    np.testing.assert_allclose(patch_diversity(model, POOL), diversity)
    learner = ActiveLearner(model, query_strategy=aift_sampling)
    total = make_linear_combination(patch_entropy, patch_diversity, weights=[1.0, 0.1])
    np.testing.assert_allclose(total(learner, POOL), entropy + 0.1 * diversity)
    product = make_product(patch_entropy, patch_diversity)
    np.testing.assert_allclose(product(learner, POOL), entropy * diversity)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_utilities_keep_as_many_patches_as_they_are_told(model, alpha):
    entropy = scores.patch_consistency(TABLE, alpha=alpha, diversity_weight=0)
    diversity = scores.patch_consistency(TABLE, alpha=alpha, entropy_weight=0)
    np.testing.assert_allclose(patch_entropy(model, POOL, alpha=alpha), entropy)
    np.testing.assert_allclose(patch_diversity(model, POOL, alpha=alpha), diversity)


def test_utilities_are_flat_before_two_classes_are_known():
    unfitted = AIFTClassifier(LogisticRegression())
    assert patch_entropy(unfitted, POOL).tolist() == [1.0] * len(POOL)
    assert patch_diversity(unfitted, POOL).tolist() == [1.0] * len(POOL)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_instances": 41}, DataError, "asked for n_instances=41 of a pool of 40"),
        ({"n_instances": 0}, ParameterError, "n_instances=0"),
        ({"alpha": 0}, ParameterError, "alpha=0"),
        ({"alpha": 1.5}, ParameterError, "alpha=1.5"),
        ({"reduction": "max"}, ParameterError, "reduction='max'"),
        ({"cold_start": "warm"}, ParameterError, "^cold_start='warm'"),
        ({"selection": "random_extension", "omega": 0.5}, ParameterError, "^omega=0.5"),
        ({"selection": "k-centre", "omega": 0.9}, ParameterError, "^omega=0.9"),
        ({"selection": "random_extension", "groups": np.zeros(30)}, ParameterError, "variety"),
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
