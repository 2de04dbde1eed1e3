"""Query strategies as objects."""

import copy
import inspect
import pickle

import modAL.models
import numpy as np
import pandas as pd
import pytest
from fakes import TableModel
from modAL.models import ActiveLearner
from modAL.uncertainty import classifier_uncertainty
from modAL.utils.combination import make_product
from numpy.random import RandomState
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from aift_sklearn import AIFTLearner, aift_sampling, patch_diversity, patch_entropy
from aift_sklearn.errors import DataError, DataTypeError, ParameterError
from aift_sklearn.query import QueryStrategy, make_query_strategy, random_sampling
from aift_sklearn.selection import top

RETURNS_METRICS = "return_metrics" in inspect.signature(modAL.models.ActiveLearner.query).parameters
TABLE = np.random.default_rng(0).dirichlet([1, 1], (30, 5))
POOL = np.arange(30.0)[:, None]


@pytest.fixture
def model():
    return TableModel(TABLE).partial_fit(POOL[:2], [0, 1])


def indices_of(result):
    return (result[0] if RETURNS_METRICS else result).tolist()


def test_it_asks_for_the_highest_utility(model):
    strategy = make_query_strategy(make_product(patch_entropy, patch_diversity))
    utility = patch_entropy(model, POOL) * patch_diversity(model, POOL)
    assert indices_of(strategy(model, POOL, 5)) == top(utility, 5).tolist()
    learner = ActiveLearner(model, strategy)
    assert learner.query(POOL, n_instances=5)[0].tolist() == top(utility, 5).tolist()
    if RETURNS_METRICS:
        np.testing.assert_allclose(strategy(model, POOL, 5)[1], np.sort(utility)[::-1][:5])


def test_it_has_parameters_like_an_estimator(model):
    strategy = make_query_strategy(
        patch_entropy, selection="k-centre", omega=3, cold_start="random"
    )
    assert strategy.get_params() == {
        "utility": patch_entropy,
        "selection": "k-centre",
        "omega": 3,
        "cold_start": "random",
    }
    assert "omega=3" in repr(strategy)
    assert "patch_entropy" in repr(strategy)
    plain = clone(strategy).set_params(selection="top")
    assert strategy.selection == "k-centre"
    assert indices_of(plain(model, POOL, 4)) == top(patch_entropy(model, POOL), 4).tolist()
    learner = AIFTLearner(model, strategy).set_params(query_strategy__omega=2)
    assert learner.query_strategy.omega == 2
    assert list(inspect.signature(strategy).parameters) == [
        "classifier", "X_pool", "n_instances", "groups", "random_state"
    ]  # fmt: skip


@pytest.mark.parametrize("twin", [pickle.loads, copy.deepcopy], ids=["pickle", "copy"])
def test_it_can_be_pickled_and_copied(model, twin):
    strategy = make_query_strategy(patch_entropy, selection="random_extension", omega=3)
    other = twin(pickle.dumps(strategy) if twin is pickle.loads else strategy)
    seeded = {"n_instances": 4, "random_state": 0}
    assert indices_of(other(model, POOL, **seeded)) == indices_of(strategy(model, POOL, **seeded))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"utility": "entropy"}, "expected a function"),
        ({"cold_start": "pretrained"}, "^cold_start='pretrained'"),
        ({"omega": 0.5}, "^omega=0.5"),
        ({"selection": "best"}, "^selection='best'"),
    ],
)
def test_parameters_are_checked_when_made_and_when_asked(model, params, message):
    with pytest.raises(ParameterError, match=message):
        make_query_strategy(**{"utility": patch_entropy, **params})
    changed = QueryStrategy(patch_entropy).set_params(**params)
    with pytest.raises(ParameterError, match=message):
        changed(model, POOL)


@pytest.mark.parametrize(
    ("utility", "message"),
    [
        (lambda c, X: np.ones((len(X), 2)), r"gave shape \(30, 2\) for 30 candidates"),
        (lambda c, X: np.ones(3), r"gave shape \(3,\)"),
        (lambda c, X: 1.0, r"gave shape \(\)"),
        (lambda c, X: np.where(np.arange(len(X)) < 28, 1, np.nan), "NaN for 2 of 30.*candidate 28"),
    ],
)
def test_utilities_that_are_no_number_for_each_are_refused(model, utility, message):
    with pytest.raises(DataError, match=message):
        make_query_strategy(utility)(model, POOL)


def test_a_utility_may_be_a_column_of_any_type(model):
    column = pd.DataFrame({"site": ["skin"] * 30, "size": range(30)}).to_numpy()[:, 1]
    assert column.dtype == object
    for utility in (column, column.astype(np.uint8), column.tolist()):
        strategy = make_query_strategy(lambda c, X, utility=utility: utility)
        assert indices_of(strategy(model, POOL, 3)) == [29, 28, 27]


def test_any_classifier_and_any_utility_will_do():
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = (X[:, 0] > 0).astype(int)
    learner = AIFTLearner(LogisticRegression(), make_query_strategy(classifier_uncertainty), X, y)
    expected = 1 - learner.predict_proba(X).max(axis=1)
    assert learner.query(X, n_instances=4)[0].tolist() == top(expected, 4).tolist()


# --- numbers and seeds of any kind ----------------------------------------------------------

STRATEGIES = [aift_sampling, random_sampling, make_query_strategy(patch_entropy)]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["aift", "random", "made"])
@pytest.mark.parametrize("n", [1, 30, np.int64(3), np.uint8(4)])
def test_any_whole_number_up_to_the_pool_can_be_asked_for(model, strategy, n):
    assert len(set(indices_of(strategy(model, POOL, n)))) == n


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["aift", "random", "made"])
def test_one_is_asked_for_where_no_number_is_given(model, strategy):
    assert len(indices_of(strategy(model, POOL))) == 1


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["aift", "random", "made"])
@pytest.mark.parametrize(
    ("n", "error"),
    [
        (0, ParameterError), (-1, ParameterError), (2.0, ParameterError), (True, ParameterError),
        (np.True_, ParameterError), ("3", ParameterError), (None, ParameterError),
        (31, DataError), (np.int64(31), DataError),
    ],
)  # fmt: skip
def test_any_other_number_is_refused(model, strategy, n, error):
    with pytest.raises(error, match="n_instances="):
        strategy(model, POOL, n)


@pytest.mark.parametrize(
    "seed",
    [
        lambda: 3,
        lambda: np.int64(3),
        lambda: np.random.default_rng(3),
        lambda: np.random.RandomState(3),
        lambda: np.random.SeedSequence(3),
        lambda: [1, 2],
    ],
    ids=["int", "int64", "Generator", "RandomState", "SeedSequence", "list"],
)
def test_any_seed_repeats_the_draw(model, seed):
    for strategy in (
        random_sampling,
        make_query_strategy(patch_entropy, selection="random_extension", omega=4),
    ):
        once = indices_of(strategy(model, POOL, 5, random_state=seed()))
        assert once == indices_of(strategy(model, POOL, 5, random_state=seed()))


def test_no_two_random_states_draw_alike():
    drawn = {
        tuple(indices_of(random_sampling(None, range(1000), 5, random_state=RandomState(seed))))
        for seed in range(200)
    }
    assert len(drawn) == 200


def test_numpys_global_generator_is_a_seed_too(model):
    drawn = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        drawn.append(indices_of(random_sampling(model, POOL, 5, random_state=np.random)))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("seed", [-1, 1.5, "seed", object()])
def test_what_is_no_seed_is_refused(model, seed):
    with pytest.raises(ParameterError, match="random_state="):
        random_sampling(model, POOL, 2, random_state=seed)


@pytest.mark.parametrize("pool", [5, None])
def test_what_is_no_pool_is_refused(model, pool):
    with pytest.raises(DataError, match="without a length"):
        aift_sampling(model, pool)


@pytest.mark.parametrize("pool", [iter([1, 2]), {"images": POOL}, {1, 2}, (x for x in POOL)])
def test_a_pool_that_can_be_read_only_once_or_has_no_order_is_refused(model, pool):
    with pytest.raises(DataTypeError, match=r"expected an array.* Pass "):
        aift_sampling(model, pool)
