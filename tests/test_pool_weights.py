"""Labels that stand for the pool: each weighs as much as the share of it that lies nearest."""

import copy
import pickle

import numpy as np
import pytest
import sklearn
from modAL.models import ActiveLearner, Committee
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aift_sklearn import AIFTClassifier, AIFTLearner
from aift_sklearn.errors import DataError, ParameterError
from aift_sklearn.learning.weights import accepts_weights
from aift_sklearn.query import random_sampling
from aift_sklearn.selection import shares_of_pool


class Notes(LogisticRegression):
    """Keeps the weights of its last fit."""

    def fit(self, X, y, sample_weight=None):
        self.weight_ = sample_weight
        return super().fit(X, y, sample_weight)


@pytest.fixture
def table():
    X = np.random.default_rng(0).normal(size=(60, 3))
    return X, np.where(X[:, 0] > 0, "a", "b")


def shares(pool, labelled):
    return shares_of_pool(pool, labelled, directions=False)


def test_all_labels_weigh_their_share_in_every_round(table):
    X, y = table
    learner = AIFTLearner(Notes(), random_sampling, pool_weights=True)
    taught = np.empty(0, dtype=int)
    for round_ in range(3):
        left = np.setdiff1d(np.arange(60), taught)
        asked, rows = learner.query(X[left], n_instances=8, random_state=round_)
        learner.teach(rows, y[left[asked]])
        taught = np.append(taught, left[asked])
        np.testing.assert_allclose(learner.estimator.weight_, shares(X[left], X[taught]))


class Frozen(TransformerMixin, BaseEstimator):
    """Stands for pre-trained features."""

    pretrained = True

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    embed = transform

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (AIFTClassifier(make_pipeline(Frozen(), LogisticRegression())), True),
        (AIFTClassifier(make_pipeline(Frozen(), KNeighborsClassifier())), False),
        (AIFTClassifier(make_pipeline(StandardScaler(), LogisticRegression())), False),
        (AIFTClassifier(LogisticRegression()), False),
        (AIFTClassifier(), False),
        (LogisticRegression(), False),
    ],
)
def test_by_default_a_head_on_frozen_features_is_given_weights(estimator, expected):
    assert AIFTLearner(estimator)._weighs() is expected


def test_a_choice_that_is_none_is_refused(table):
    with pytest.raises(ParameterError, match=r"^pool_weights='always'"):
        AIFTLearner(Notes(), pool_weights="always").query(table[0])


def test_weights_that_were_given_are_kept_until_all_starts_anew(table):
    X, y = table
    learner = weighing(AIFTClassifier(LogisticRegression(), replay="all"))
    learner.query(X, n_instances=4)
    learner.teach(X[:8], y[:8], sample_weight=[0, 1, 1, 1, 1, 1, 1, 2])
    learner.query(X[8:], n_instances=4)
    learner.teach(X[8:12], y[8:12])
    expected = [0, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    assert learner.estimator.memory_.sample_weight.tolist() == expected
    learner.fit(X[:8], y[:8])
    np.testing.assert_allclose(learner.estimator.memory_.sample_weight, shares(X[8:], X[:8]))


def test_a_committee_keeps_no_label_that_cannot_be_weighed(table):
    X, y = table
    committee = Committee([weighing(Notes()).set_pool(X)])
    committee.teach(X[:8], y[:8])
    with pytest.raises(DataError):
        committee.teach(np.full((1, 3), np.nan), y[:1])
    committee.teach(X[8:12], y[8:12])
    assert len(committee.learner_list[0].y_training) == 12


def test_weights_that_are_switched_on_later_take_the_pool_that_was_set(table):
    X, y = table
    learner = AIFTLearner(Notes(), random_sampling, pool_weights=False).set_pool(X)
    learner.set_params(pool_weights=True).query(X[30:], n_instances=4)
    learner.teach(X[:8], y[:8])
    np.testing.assert_allclose(learner.estimator.weight_, shares(X, X[:8]))


@pytest.mark.parametrize("replay", ["all", "none", "hard"])
def test_what_is_remembered_is_weighed_anew(table, replay):
    X, y = table
    model = AIFTClassifier(LogisticRegression(), replay=replay, random_state=0)
    learner = AIFTLearner(model, random_sampling, pool_weights=True)
    first, _ = learner.query(X, n_instances=10, random_state=0)
    learner.teach(X[first], y[first])
    left = np.setdiff1d(np.arange(60), first)
    second, _ = learner.query(X[left], n_instances=10, random_state=1)
    second = left[second]
    learner.teach(X[second], y[second])
    taught = np.concatenate([first, second])
    expected = shares(X[left], X[taught])
    np.testing.assert_allclose(learner.estimator.memory_.sample_weight, expected)


def test_a_pool_that_was_set_stays_whatever_is_queried(table):
    X, y = table
    learner = AIFTLearner(Notes(), random_sampling, pool_weights=True).set_pool(X)
    asked, rows = learner.query(X[30:], n_instances=8, random_state=0)
    learner.teach(rows, y[30:][asked])
    np.testing.assert_allclose(learner.estimator.weight_, shares(X, rows))


def test_a_model_of_weighed_labels_predicts_the_pool_better():
    """Labels of one class were asked for near the border, where few of the pool lie."""
    rng = np.random.default_rng(0)
    pool = np.concatenate([rng.normal(-2, 1, 500), rng.normal(2, 1, 500)])[:, None]
    y = np.repeat([0, 1], 500)
    border = np.flatnonzero((y == 0) & (pool[:, 0] > -0.8))[:30]
    asked = np.concatenate([border, rng.choice(np.flatnonzero(y == 0), 5), np.arange(500, 515)])

    def log_loss(pool_weights):
        learner = AIFTLearner(LogisticRegression(), random_sampling, pool_weights=pool_weights)
        learner.set_pool(pool).teach(pool[asked], y[asked])
        p = learner.predict_proba(pool)[np.arange(1000), y]
        return -np.log(p).mean()

    assert log_loss(True) < log_loss(False)


def weighing(estimator, **params):
    return AIFTLearner(estimator, random_sampling, pool_weights=True, **params)


def weights_after(table, learner=None, **teach):
    X, y = table
    learner = weighing(Notes()) if learner is None else learner
    asked, rows = learner.query(X, n_instances=8, random_state=0)
    learner.teach(rows, y[asked], **teach)
    return learner.estimator.weight_


def test_who_wants_no_weights_is_given_none(table):
    plain = AIFTLearner(Notes(), random_sampling, pool_weights=False)
    assert weights_after(table, plain) is None
    given = np.arange(1.0, 9)
    assert weights_after(table, sample_weight=given).tolist() == given.tolist()
    X, y = table
    unasked = weighing(Notes(), X_training=X[:8], y_training=y[:8])
    assert unasked.estimator.weight_ is None
    with sklearn.config_context(enable_metadata_routing=True):
        assert weights_after(table) is None
    neighbours = weighing(KNeighborsClassifier(3))
    asked, rows = neighbours.query(X, n_instances=8)
    neighbours.teach(rows, y[asked])
    assert neighbours.score(X, y) > 0.5


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (AIFTClassifier(LogisticRegression()), True),
        (AIFTClassifier(), True),
        (AIFTClassifier(KNeighborsClassifier()), False),
        (AIFTClassifier(make_pipeline(LogisticRegression())), True),
        (LogisticRegression(), True),
        (KNeighborsClassifier(), False),
        (make_pipeline(LogisticRegression()), False),
    ],
)
def test_it_is_known_who_takes_weights(estimator, expected):
    assert accepts_weights(estimator) is expected


def test_bootstraps_take_the_weights_of_what_they_draw(table):
    learner = weighing(Notes(), random_state=3)
    found = weights_after(table, learner, bootstrap=True)
    all_of_them = shares(table[0], learner.X_training)
    drawn = np.random.default_rng([3, 0]).integers(8, size=8)
    np.testing.assert_allclose(found, all_of_them[drawn])


def test_a_call_that_fails_leaves_the_weights_as_they_were(table):
    X, y = table
    learner = weighing(AIFTClassifier(LogisticRegression(), replay="all"))
    asked, rows = learner.query(X, n_instances=10, random_state=0)
    learner.teach(rows, y[asked])
    before = learner.estimator.memory_.sample_weight.copy()
    learner.query(X[10:], n_instances=5, random_state=0)
    with pytest.raises(DataError):
        learner.teach(np.full((2, 3), np.nan), ["a", "b"])
    np.testing.assert_array_equal(learner.estimator.memory_.sample_weight, before)
    assert len(learner.y_training) == 10


def test_it_is_a_parameter_that_is_cloned_saved_and_loaded(table, tmp_path):
    learner = AIFTLearner(AIFTClassifier(LogisticRegression()), pool_weights=False)
    assert clone(learner).pool_weights is False
    assert clone(learner).set_params(pool_weights=True).get_params()["pool_weights"] is True
    learner.save(tmp_path / "model")
    assert AIFTLearner.load(tmp_path / "model").pool_weights is False


def test_the_pool_is_not_stored_with_the_learner(table, tmp_path):
    X, y = table
    learner = AIFTLearner(AIFTClassifier(LogisticRegression()), pool_weights=True).set_pool(X)
    learner.teach(X[:8], y[:8])
    twins = [pickle.loads(pickle.dumps(learner)), copy.deepcopy(learner)]
    learner.save(tmp_path / "model")
    for twin in (*twins, AIFTLearner.load(tmp_path / "model")):
        assert twin._places is None
        twin.query(X[8:], n_instances=4)
        assert twin._places is not None


def test_other_learners_and_committees_go_on_as_before(table):
    X, y = table
    plain = ActiveLearner(Notes(), random_sampling, X_training=X[:8], y_training=y[:8])
    asked, rows = plain.query(X, n_instances=4)
    plain.teach(rows, y[asked])
    assert plain.estimator.weight_ is None
    members = [AIFTLearner(Notes(), random_sampling, X[:8], y[:8]) for _ in range(2)]
    committee = Committee(members)
    committee.teach(X[8:12], y[8:12])
    assert all(len(each.y_training) == 12 for each in members)
