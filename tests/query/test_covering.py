"""The default query: what is covered, weighed by scores as far as the model is to be trusted."""

import copy
import inspect
import pickle

import modAL.models
import numpy as np
import pytest
from modAL.models import ActiveLearner
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier, aift_sampling
from aift_sklearn.errors import BackendWarning, ParameterError
from aift_sklearn.query import make_query_strategy
from aift_sklearn.query.places import PoolPlaces, untaught
from aift_sklearn.query.trust import trust
from aift_sklearn.selection import coverage, group_codes, shares_of_pool

RETURNS_METRICS = "return_metrics" in inspect.signature(modAL.models.ActiveLearner.query).parameters


def ask(classifier, X, b, **params):
    result = aift_sampling(classifier, X, b, **params)
    return result[0] if RETURNS_METRICS else result


@pytest.fixture
def table():
    X = np.random.default_rng(0).normal(size=(80, 4))
    return X, np.where(X[:, 0] + X[:, 1] > 0, "a", "b")


@pytest.fixture
def taught(table):
    X, y = table
    return AIFTClassifier(LogisticRegression(), random_state=0).fit(X[:20], y[:20])


# --- trust ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_trust_is_that_of_labels_that_can_be_told(seed):
    rng = np.random.default_rng(seed)
    y = np.repeat(["a", "b", "c"], 20)
    apart = np.repeat(np.eye(3) * 9, 20, axis=0) + rng.normal(size=(60, 3))
    assert trust(apart, y) == 1.0
    assert trust(apart * 1e6 + 1e7, y) == 1.0
    assert trust(rng.normal(size=(60, 3)), y) < 0.5
    assert trust(np.zeros((60, 3)), y) == 0.0


def test_trust_is_the_root_of_the_skill_over_chance():
    """One class in two cannot be told, and lies where the third does."""
    y = np.array(["a"] * 20 + ["b"] * 20)
    X = np.zeros((40, 1))
    X[:10] = 1.0
    # Half of class a is told: recalls of 1/2 and 1, against a chance of 1/2.
    assert trust(X, y) == pytest.approx(np.sqrt((0.75 - 0.5) / 0.5))


@pytest.mark.parametrize("y", [[], ["a"] * 4, ["a", "b"], ["a", "a", "a", "b"]])
def test_too_few_labels_tell_nothing(y):
    assert trust(np.arange(len(y), dtype=float)[:, None] * 9, y) == 0.0


def test_labels_of_any_order_are_trusted_alike():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(30, 3)), rng.integers(0, 2, 30)
    X[:, 0] += 2 * y
    assert trust(X, y) == trust(X, y.astype(str)) == trust(X, y) > 0


# --- what is asked for ----------------------------------------------------------------------------


def test_it_covers_with_weights_between_one_and_the_scores(table, taught):
    X, y = table
    scores = taught.score_candidates(X[20:])
    tau = trust(X[:20], y[:20])
    assert 0 < tau < 1
    weights = (1 - tau) + tau * scores / scores.mean()
    expected = coverage(weights, 6, X[20:], known=X[:20], directions=False)
    assert ask(taught, X[20:], 6).tolist() == expected.tolist()
    if RETURNS_METRICS:
        np.testing.assert_allclose(aift_sampling(taught, X[20:], 6)[1], scores[expected])


@pytest.mark.parametrize("learner", [AIFTLearner, ActiveLearner])
def test_a_learner_knows_the_labels_of_an_estimator_that_does_not(table, taught, learner):
    X, y = table

    class Forgets(KNeighborsClassifier):
        def score_candidates(self, X, **consistency):
            return taught.score_candidates(X, **consistency)

    asked = learner(Forgets(), X_training=X[:20], y_training=y[:20]).query(X[20:], n_instances=6)
    if learner is AIFTLearner:
        assert asked[0].tolist() == ask(taught, X[20:], 6).tolist()
    # Without labels nothing can be trusted, and nothing is covered yet.
    alone = ask(Forgets().fit(X[:20], y[:20]), X[20:], 6, random_state=0)
    expected = coverage(np.ones(60), 6, X[20:], directions=False, rng=np.random.default_rng(0))
    assert alone.tolist() == expected.tolist()


def test_queries_are_repeated_exactly_without_a_seed(table, taught):
    X, _ = table
    assert ask(taught, X[20:], 6).tolist() == ask(taught, X[20:], 6).tolist()


@pytest.mark.parametrize("scores", ["zero", "huge", "negative"])
def test_scores_of_any_size_weigh(table, taught, scores):
    X, y = table
    values = {
        "zero": np.zeros(60),
        "huge": np.linspace(0, 1.7e308, 60),
        "negative": np.linspace(-3, -1, 60),
    }[scores]
    strategy = make_query_strategy(lambda classifier, X: values, selection="coverage")
    asked = strategy(taught, X[20:], 5)
    asked = asked[0] if RETURNS_METRICS else asked
    lifted = {"zero": np.ones(60), "huge": np.arange(60) / 59, "negative": np.linspace(0, 1, 60)}
    tau = trust(X[:20], y[:20])
    r = lifted[scores] / lifted[scores].mean()
    expected = coverage((1 - tau) + tau * r, 5, X[20:], known=X[:20], directions=False)
    assert asked.tolist() == expected.tolist()


def tau_and_scores(X, y, taught):
    scores = taught.score_candidates(X[20:])
    tau = trust(X[:20], y[:20])
    return tau, scores, (1 - tau) + tau * scores / scores.mean()


@pytest.mark.parametrize("omega", [1, 2.5, None])
def test_the_trusted_pick_among_the_highest_scores(table, taught, omega):
    X, y = table
    tau, scores, weights = tau_and_scores(X, y, taught)
    b = 3
    # Of 60 candidates; the whole pool without trust, and the top ω·b with all of it.
    length = round(60 ** (1 - tau) * np.ceil((omega or 10) * b) ** tau)
    assert b < length < 60
    highest = np.argsort(-scores, kind="stable")[:length]
    expected = coverage(
        weights, b, X[20:], known=X[:20], candidates=highest, directions=False
    ).tolist()
    assert ask(taught, X[20:], b, omega=omega).tolist() == expected
    assert set(expected) <= set(highest.tolist())


def test_equal_scores_are_all_picked_from(table, taught):
    X, y = table
    values = np.repeat([1.0, 2.0], 30)
    strategy = make_query_strategy(lambda classifier, X: values, selection="coverage", omega=1)
    asked = strategy(taught, X[20:], 3)
    asked = asked[0] if RETURNS_METRICS else asked
    tau = trust(X[:20], y[:20])
    weights = (1 - tau) + tau * (values - 0) / values.mean()
    expected = coverage(
        weights, 3, X[20:], known=X[:20], candidates=np.arange(30, 60), directions=False
    )
    assert round(60 ** (1 - tau) * 3**tau) < 30
    assert asked.tolist() == expected.tolist()


def test_groups_take_turns_among_what_covers_most(table, taught):
    X, _ = table
    groups = np.array(["left", "right", "middle"])[np.arange(60) % 3]
    first = ask(taught, X[20:], 24)
    asked = ask(taught, X[20:], 6, groups=groups)
    assert set(asked.tolist()) <= set(first.tolist())
    assert np.bincount(group_codes(groups[asked], 6)).tolist() == [2, 2, 2]
    for name in np.unique(groups):
        of_group = [i for i in first if groups[i] == name]
        assert [i for i in asked if groups[i] == name] == of_group[:2]


def test_it_never_races(table, taught, monkeypatch):
    def race(*args, **kwargs):
        raise AssertionError("raced")

    monkeypatch.setattr(AIFTClassifier, "top_candidates", race)
    assert len(ask(taught, table[0][20:], 4)) == 4


def test_a_selection_that_is_none_is_refused(table, taught):
    with pytest.raises(ParameterError, match=r"^selection='best'.*coverage"):
        ask(taught, table[0], 4, selection="best")


# --- where candidates lie -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned():
    X, y = make_blobs(40, size=16)
    torso = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Flatten())
    cnn = CNNClassifier(torso, max_epochs=2, lr=0.05)
    views = AffinePatches(4, size=16)
    return AIFTClassifier(cnn, patches=views, random_state=0, backend="torch").fit(X, y), X


def test_candidates_lie_where_the_model_saw_them_before_it_was_taught(tuned):
    model, X = tuned
    before = untaught(model).embed(X)
    assert not np.allclose(before, model.embed(X), atol=1e-3)
    np.testing.assert_array_equal(PoolPlaces(model, X).embed_pool(), before)
    assert hasattr(model, "classes_"), "it is as it was"


def test_without_pre_trained_weights_they_lie_where_it_sees_them_now():
    X, y = make_blobs(30, size=16)
    torso = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
    cnn = CNNClassifier(torso, pretrained=False, max_epochs=1)
    model = AIFTClassifier(cnn, patches=AffinePatches(3), backend="torch").fit(X, y)
    np.testing.assert_array_equal(PoolPlaces(model, X).embed_pool(), model.embed(X))


def test_a_pool_is_embedded_once_and_of_a_large_one_a_sample(monkeypatch):
    from aift_sklearn.query import places as module

    calls = []

    class Embeds(LogisticRegression):
        def embed(self, X):
            calls.append(len(X))
            return np.asarray(X)

    X = np.random.default_rng(0).normal(size=(100, 3))
    places = PoolPlaces(Embeds(), X)
    for _ in range(2):
        places.embed_pool()
        places.embed_pool(np.arange(100))
    assert calls == [100]
    np.testing.assert_allclose(places.shares(X[:4]), shares_of_pool(X, X[:4], directions=False))
    monkeypatch.setattr(module, "_MOST", 20)
    places = PoolPlaces(Embeds(), X)
    sample = places.embed_pool()
    assert len(sample) == 20
    assert places.embed_pool(np.arange(7)).shape == (7, 3)
    expected = shares_of_pool(sample, X[:4], directions=False, n=100)
    np.testing.assert_allclose(places.shares(X[:4]), expected)


def test_features_of_a_network_are_compared_by_direction_and_tables_are_not():
    class Embeds(LogisticRegression):
        def embed(self, X):
            return X

    table = np.zeros((5, 3))
    assert not PoolPlaces(AIFTClassifier(LogisticRegression()), table).directions
    assert PoolPlaces(AIFTClassifier(make_pipeline(Embeds())), table).directions
    assert PoolPlaces(AIFTClassifier(LogisticRegression()), np.zeros((5, 3, 8, 8))).directions


def test_what_is_not_pre_trained_embeds_as_it_did_whatever_it_learns():
    class Learns(LogisticRegression):
        def embed(self, X):
            return np.asarray(X) * self.scale_

        def fit(self, X, y):
            self.scale_ = getattr(self, "scale_", 0) + 1
            return super().fit(X, y)

    X = np.random.default_rng(0).normal(size=(30, 2))
    model = Learns().fit(X, X[:, 0] > 0)
    places = PoolPlaces(model, X)
    pool = places.embed_pool()
    model.fit(X, X[:, 0] > 0)
    np.testing.assert_allclose(places.embed(X), pool)


def test_a_pool_is_not_read_again_once_it_was_embedded():
    X = np.random.default_rng(0).normal(size=(30, 2))

    class Closing:
        is_open = True

        @property
        def shape(self):
            if not self.is_open:
                raise ValueError("closed")
            return X.shape

        def __getitem__(self, rows):
            return X[rows]

    pool = Closing()
    places = PoolPlaces(LogisticRegression(), pool)
    places.embed_pool()
    pool.is_open = False
    np.testing.assert_allclose(places.shares(X[:3]), shares_of_pool(X, X[:3], directions=False))


def test_a_network_that_cannot_be_made_again_embeds_as_it_is(tuned, monkeypatch):
    model, X = tuned
    model = copy.deepcopy(model)

    def offline(self, X):
        raise OSError("no network")

    maker = next(k for k in CNNClassifier.__mro__ if "_build_backbone" in vars(k))
    monkeypatch.setattr(maker, "_build_backbone", offline)
    with pytest.warns(BackendWarning, match="cannot be made again .no network"):
        found = PoolPlaces(model, X).embed_pool()
    np.testing.assert_array_equal(found, model.embed(X))


def test_another_backbone_is_another_model_before_it_was_taught(tuned):
    model = copy.deepcopy(tuned[0])
    before = untaught(model)
    assert untaught(model) is before
    model.set_params(estimator__lr=0.5)
    assert untaught(model).estimator.lr == 0.5
    assert "_untaught" not in vars(pickle.loads(pickle.dumps(model)))
