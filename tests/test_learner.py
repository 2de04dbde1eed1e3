"""Whole loops: modAL's learner restarts each round, ours continues."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from fakes import TableModel, spied_classifier
from modAL.disagreement import consensus_entropy_sampling
from modAL.models import ActiveLearner, Committee
from modAL.uncertainty import uncertainty_sampling
from samples import make_blobs
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    aift_sampling,
)
from aift_sklearn.errors import (
    DataError,
    LabelError,
    ParameterError,
    TrainingInterrupted,
    TrainingWarning,
)
from aift_sklearn.query import make_query_strategy, patch_entropy


def small_cnn():
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.LazyLinear(16), nn.LeakyReLU())


def classifier(**params):
    cnn = CNNClassifier(small_cnn, pretrained=False, lr=2e-2, head_lr_factor=1, max_epochs=15)
    return AIFTClassifier(
        cnn, patches=AffinePatches.for_microscopy(n_patches=4), random_state=0, **params
    )


@pytest.mark.parametrize("Learner", [ActiveLearner, AIFTLearner])
def test_three_rounds_with_uint8_images_and_string_labels(Learner):
    X, y = make_blobs(80)
    X_test, y_test = make_blobs(60, seed=1)
    learner = Learner(classifier(classes=["disc", "empty"], replay="all"), aift_sampling)
    asked = []
    for _ in range(3):
        pool = np.setdiff1d(np.arange(80), asked)
        indices, images = learner.query(
            X[pool], n_instances=12, random_state=0, cold_start="random"
        )
        np.testing.assert_array_equal(images, X[pool[indices]])
        learner.teach(images, y[pool[indices]])
        asked += pool[indices].tolist()
    assert len(set(asked)) == 36
    assert learner.X_training.dtype == np.uint8
    assert len(learner.y_training) == 36
    assert learner.score(X_test, y_test) > 0.75
    np.testing.assert_array_equal(
        learner.predict_proba(X_test), learner.estimator.predict_proba(X_test)
    )


@pytest.mark.parametrize("Learner", [ActiveLearner, AIFTLearner])
def test_a_first_batch_of_one_class_is_no_dead_end(Learner):
    X, y = make_blobs(80)
    empty, disc = np.flatnonzero(y == "empty"), np.flatnonzero(y == "disc")[:4]
    pool = np.concatenate([empty, disc])  # 10 to 1
    learner = Learner(classifier(classes=["disc", "empty"], replay="all"), aift_sampling)
    learner.teach(X[empty[:5]], y[empty[:5]])
    assert learner.estimator.classes_.tolist() == ["disc", "empty"]
    assert learner.predict_proba(X[:2]).shape == (2, 2)
    seen = set(empty[:5])
    for _ in range(3):
        left = np.array([i for i in pool if i not in seen])
        indices, images = learner.query(X[left], n_instances=12, random_state=0)
        learner.teach(images, y[left[indices]])
        seen |= set(left[indices])
    assert len(seen) == 41
    assert set(learner.y_training) == {"disc", "empty"}


def test_ours_continues_and_modals_restarts():
    X, y = make_blobs(40)
    Spy, calls = spied_classifier()
    for Learner in (AIFTLearner, ActiveLearner):
        spy = Spy(LogisticRegression(), classes=["disc", "empty"], patches=AffinePatches(2))
        spy.set_params(estimator=CNNClassifier(small_cnn, pretrained=False, max_epochs=1))
        learner = Learner(spy, aift_sampling)
        learner.teach(X[:10], y[:10])
        learner.teach(X[10:15], y[10:15])
    assert calls == [("fit", 10), ("partial_fit", 5), ("fit", 10), ("fit", 15)]


def test_starts_from_labels_that_are_known():
    X, y = make_blobs(40)
    learner = AIFTLearner(classifier(), X_training=X[:10], y_training=y[:10])
    assert len(learner.estimator.memory_.y) == 10
    learner.teach(X[10:14], y[10:14].tolist())
    assert len(learner.y_training) == len(learner.estimator.memory_.y) == 14


def test_an_answer_that_is_refused_is_not_kept():
    X, y = make_blobs(20)
    learner = AIFTLearner(classifier(classes=["disc", "empty"]))
    learner.teach(X[:6], y[:6])
    with pytest.raises(LabelError, match="artefact"):
        learner.teach(X[6:8], ["disc", "artefact"])
    assert len(learner.y_training) == 6
    learner.teach(X[6:8], y[6:8])
    assert len(learner.y_training) == 8


def test_any_modal_strategy_and_any_estimator_will_do():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int)
    learner = AIFTLearner(LogisticRegression(), uncertainty_sampling, X[:10], y[:10])
    learner.set_params(pool_weights=False)
    indices, _ = learner.query(X, n_instances=4)
    learner.teach(X[indices], y[indices])
    assert len(learner.X_training) == 14
    learner.teach(X[20:30], y[20:30], only_new=True)
    assert learner.score(X, y) > 0.8


def test_lists_and_lazy_pools_are_indexed():
    table = np.random.default_rng(0).dirichlet([1, 1], (9, 5))
    learner = AIFTLearner(TableModel(table).partial_fit([[0], [1]], [0, 1]))
    rows = np.arange(9.0)[:, None]
    from_array = learner.query(rows, n_instances=3)
    from_list = learner.query(rows.tolist(), n_instances=3)
    np.testing.assert_array_equal(from_array[0], from_list[0])
    np.testing.assert_array_equal(from_array[1], from_list[1])

    class Lazy:
        shape = rows.shape
        dtype = rows.dtype

        def __getitem__(self, key):
            return rows[key]

        def __array__(self, dtype=None, copy=None):
            return rows

    np.testing.assert_array_equal(learner.query(Lazy(), n_instances=3)[1], from_array[1])


def test_bootstrap_draws_from_the_new_labels():
    table = np.random.default_rng(0).dirichlet([1, 1], (50, 5))
    learner = AIFTLearner(TableModel(table))
    rows = np.arange(50.0)[:, None]
    learner.teach(rows, np.zeros(50), bootstrap=True)
    taught = learner.estimator.taught_
    assert len(taught) == 50
    assert len(set(taught)) < 50
    assert len(learner.X_training) == 50


def test_repr_and_clone_work():
    learner = AIFTLearner(AIFTClassifier(LogisticRegression()), bootstrap_init=False)
    assert "AIFTLearner" in repr(learner)
    copied = clone(learner)
    assert copied.query_strategy is aift_sampling
    assert copied.estimator is not learner.estimator
    assert copied.get_params()["estimator__replay"] == "mixed"


def test_a_clone_was_taught_nothing():
    X, y = make_blobs(20)
    learner = AIFTLearner(AIFTClassifier(LogisticRegression()), bootstrap_init=True)
    learner.teach(X.reshape(20, -1) / 255, y)
    copied = clone(learner)
    assert copied.X_training is None
    assert copied.bootstrap_init
    assert not hasattr(copied.estimator, "estimator_")


def test_what_is_refused_is_not_kept_without_partial_fit_either():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(15, 3))
    learner = AIFTLearner(LogisticRegression())
    with pytest.raises(ValueError, match="class"):
        learner.teach(X[:5], np.zeros(5))
    learner.teach(X[5:], np.arange(10) % 2)
    assert len(learner.y_training) == 10


def test_scikit_learns_incremental_estimators_need_no_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int)
    learner = AIFTLearner(SGDClassifier(loss="log_loss", random_state=0))
    learner.teach(X[:30], y[:30])
    learner.teach(X[30:], y[30:])
    assert learner.score(X, y) > 0.8
    late = AIFTLearner(SGDClassifier(loss="log_loss", random_state=0))
    late.teach(X[:1], y[:1], classes=[0, 1])
    assert late.predict_proba(X).shape == (60, 2)


def test_frames_stay_frames():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 2)), columns=["area", "roundness"])
    y = (X["area"] > 0).to_numpy().astype(int)
    learner = AIFTLearner(RandomForestClassifier(10, random_state=0), uncertainty_sampling)
    learner.teach(X[:20], y[:20])
    for _ in range(2):
        indices, rows = learner.query(X, n_instances=5)
        learner.teach(rows, y[indices])
    assert list(learner.X_training.columns) == ["area", "roundness"]
    assert len(learner.X_training) == 30


def test_taught_labels_do_not_change_with_the_callers_array():
    X, y = make_blobs(20)
    learner = AIFTLearner(classifier())
    mine = X[:10].copy()
    learner.teach(mine, y[:10])
    mine[:] = 0
    assert learner.X_training.any()


def test_metrics_are_returned_when_asked_for():
    table = np.random.default_rng(0).dirichlet([1, 1], (9, 5))
    learner = AIFTLearner(TableModel(table).partial_fit([[0], [1]], [0, 1]))
    rows = np.arange(9.0)[:, None]
    indices, _, metrics = learner.query(rows, n_instances=3, return_metrics=True)
    if metrics is not None:
        np.testing.assert_allclose(metrics, learner.estimator.score_candidates(rows)[indices])


def test_warm_start_remembers_classes_through_a_batch_of_one():
    X, y = make_blobs(40)
    learner = ActiveLearner(classifier(warm_start=True), aift_sampling)
    learner.teach(X[:12], y[:12])
    empty = np.flatnonzero(y == "empty")[:4]
    learner.teach(X[empty], y[empty], only_new=True)
    assert learner.estimator.classes_seen_.tolist() == ["disc", "empty"]


# --- modAL's Committee ----------------------------------------------------------------------------


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, np.where(X[:, 0] > 0, "malignant", "benign")


def member(seed=0, **params):
    sgd = SGDClassifier(loss="log_loss", random_state=seed)
    return AIFTLearner(AIFTClassifier(sgd, random_state=seed, **params), random_state=seed)


def rounds_of(learner):
    return np.bincount(learner.estimator.memory_.round).tolist()


@pytest.mark.parametrize("only_new", [False, True])
@pytest.mark.parametrize("replay", ["mixed", "hard", "all", "none"])
def test_members_of_a_committee_continue_as_a_learner_alone_does(table, replay, only_new):
    X, y = table
    committee = Committee([member(seed, replay=replay) for seed in range(3)])
    alone = member(1, replay=replay)
    for part in (slice(0, 10), slice(10, 16), slice(16, 20)):
        committee.teach(X[part], y[part], only_new=only_new)
        alone.teach(X[part], y[part], only_new=only_new)
    for learner in committee:
        assert rounds_of(learner) == [10, 6, 4]
        np.testing.assert_array_equal(learner.X_training, X[:20])
        np.testing.assert_array_equal(learner.y_training, y[:20])
    np.testing.assert_array_equal(
        committee.learner_list[1].predict_proba(X), alone.predict_proba(X)
    )
    assert committee.classes_.tolist() == ["benign", "malignant"]
    indices, rows = committee.query(X[20:], n_instances=3)
    np.testing.assert_array_equal(rows, X[20:][indices])


def test_a_committee_of_networks_keeps_its_weights():
    X, y = make_blobs(30)
    still = CNNClassifier(small_cnn, pretrained=False, lr=0.0, max_epochs=1, random_state=0)
    committee = Committee([AIFTLearner(AIFTClassifier(still, patches=AffinePatches(2)))])
    committee.teach(X[:10], y[:10])
    before = committee.predict_proba(X)
    committee.teach(X[10:15], y[10:15])
    np.testing.assert_allclose(committee.predict_proba(X), before, atol=1e-6)


def test_members_that_start_from_labels_of_their_own(table):
    X, y = table
    members = [
        AIFTLearner(AIFTClassifier(SGDClassifier(loss="log_loss")), aift_sampling, X[i::6], y[i::6])
        for i in range(2)
    ]
    committee = Committee(members, consensus_entropy_sampling)
    committee.teach(X[:4], y[:4])
    committee.teach(X[4:6], y[4:6])
    assert [rounds_of(m) for m in members] == [[10, 4, 2], [10, 4, 2]]


def test_rebag_starts_anew_from_a_sample_of_all_labels(table):
    X, y = table
    committee = Committee([member(seed, classes=["benign", "malignant"]) for seed in range(2)])
    committee.teach(X[:20], y[:20])
    committee.teach(X[20:30], y[20:30])
    committee.rebag()
    for learner in committee:
        memory = learner.estimator.memory_
        assert rounds_of(learner) == [30]
        assert 1 < len(np.unique(memory.X, axis=0)) < 30
        assert len(learner.X_training) == 30
    first, second = (learner.estimator.memory_.X for learner in committee)
    assert not np.array_equal(first, second)
    committee.teach(X[30:34], y[30:34])
    assert [rounds_of(learner) for learner in committee] == [[30, 4], [30, 4]]


def test_bagging_in_a_committee_draws_from_the_new_labels(table):
    X, y = table
    committee = Committee([member(seed, classes=["benign", "malignant"]) for seed in range(2)])
    committee.teach(X[:20], y[:20])
    committee.teach(X[20:40], y[20:40], bootstrap=True)
    for learner in committee:
        drawn = learner.estimator.memory_.X[20:]
        assert rounds_of(learner) == [20, 20]
        assert {tuple(row) for row in drawn} < {tuple(row) for row in X[20:40]}
        np.testing.assert_array_equal(learner.X_training, X[:40])


def test_a_committee_forgets_when_it_is_fitted(table):
    X, y = table
    committee = Committee([member(0), member(1)])
    committee.teach(X[:20], y[:20])
    committee.fit(X[20:30], y[20:30])
    for learner in committee:
        assert rounds_of(learner) == [10]
        np.testing.assert_array_equal(learner.X_training, X[20:30])


def test_members_without_partial_fit_learn_from_all_labels_or_the_new(table):
    X, y = table
    for only_new, last in ((False, 30), (True, 10)):
        forests = [RandomForestClassifier(3, random_state=i) for i in range(2)]
        committee = Committee([AIFTLearner(forest, uncertainty_sampling) for forest in forests])
        committee.teach(X[:20], y[:20])
        committee.teach(X[20:30], y[20:30], only_new=only_new)
        for learner in committee:
            expected = clone(learner.estimator).fit(X[30 - last : 30], y[30 - last : 30])
            np.testing.assert_array_equal(learner.predict_proba(X), expected.predict_proba(X))
            assert len(learner.X_training) == 30


def test_labels_that_are_refused_stay_with_no_member(table):
    X, y = table
    committee = Committee([member(seed, classes=["benign", "malignant"]) for seed in range(2)])
    for taught in (0, 10):
        with pytest.raises(LabelError, match="artefact"):
            committee.teach(X[:2], ["benign", "artefact"])
        with pytest.raises(LabelError, match="one label per candidate"):
            committee.teach(X[:3], y[:2])
        assert [len(m.y_training) if taught else m.y_training for m in committee] == (
            [taught or None] * 2
        )
        committee.teach(X[:10], y[:10])
    assert [rounds_of(learner) for learner in committee] == [[10, 10], [10, 10]]


def test_labels_that_were_left_behind_are_missed(table, tmp_path):
    X, y = table
    learner = AIFTLearner(LogisticRegression())
    learner.teach(X[:20], y[:20])
    learner.save(tmp_path / "model", include_memory=False)
    loaded = AIFTLearner.load(tmp_path / "model")
    with pytest.warns(TrainingWarning, match="not here.*fitted anew to these 8 alone"):
        loaded.teach(X[20:28], y[20:28])
    learner.teach(X[20:28], y[20:28])


@pytest.mark.parametrize("inside", [SGDClassifier(loss="log_loss"), LogisticRegression()])
@pytest.mark.parametrize("wrap", [AIFTClassifier, lambda estimator: estimator])
def test_nothing_is_fitted_anew_to_labels_that_are_not_here(table, tmp_path, wrap, inside):
    X, y = table
    learner = AIFTLearner(wrap(inside), uncertainty_sampling)
    with pytest.raises(ParameterError, match=r"no labelled candidates.*Teach some first"):
        Committee([learner]).rebag()
    learner.teach(X[:20], y[:20])
    learner.save(tmp_path / "model", include_memory=False)
    loaded = AIFTLearner.load(tmp_path / "model")
    before = loaded.predict_proba(X)
    with pytest.raises(ParameterError, match=r"no labelled candidates.*memory=\(X, y\)"):
        Committee([loaded]).rebag()
    np.testing.assert_array_equal(loaded.predict_proba(X), before)
    supplied = AIFTLearner.load(tmp_path / "model", memory=(X[:20], y[:20]))
    Committee([supplied]).rebag()
    assert len(supplied.X_training) == 20


def test_what_was_taught_after_a_load_is_no_bag_of_all(table, tmp_path):
    X, y = table
    learner = AIFTLearner(SGDClassifier(loss="log_loss"), uncertainty_sampling)
    learner.teach(X[:20], y[:20])
    learner.save(tmp_path / "model", include_memory=False)
    loaded = AIFTLearner.load(tmp_path / "model")
    loaded.teach(X[20:28], y[20:28])
    loaded.teach(X[28:30], y[28:30])
    loaded.save(tmp_path / "later")
    for each in (loaded, AIFTLearner.load(tmp_path / "later")):
        before = each.predict_proba(X)
        with pytest.raises(ParameterError, match=r"labels that are not here.*these 10 alone"):
            Committee([each]).rebag()
        np.testing.assert_array_equal(each.predict_proba(X), before)
        each.fit(X[:30], y[:30])
        Committee([each]).rebag()


CONSTANT = [RandomForestClassifier(3, random_state=0), KNeighborsClassifier(), SVC()]


@pytest.mark.parametrize("estimator", CONSTANT)
def test_new_labels_of_one_class_alone_make_no_constant(table, estimator):
    X, y = table
    learner = AIFTLearner(clone(estimator), uncertainty_sampling)
    learner.teach(X[:20], y[:20])
    before = learner.predict(X)
    one = np.flatnonzero(y[20:] == "benign")[:5] + 20
    with pytest.warns(TrainingWarning, match=r"all of \['benign'\]: it stays as it was"):
        learner.teach(X[one], y[one], only_new=True)
    np.testing.assert_array_equal(learner.predict(X), before)
    learner.teach(X[30:34], y[30:34])
    expected = clone(estimator).fit(learner.X_training, learner.y_training)
    assert len(learner.y_training) == 29
    np.testing.assert_array_equal(learner.predict(X), expected.predict(X))


def test_labels_that_were_never_here_are_still_missed_after_new_ones_of_one_class(table):
    X, y = table
    learner = AIFTLearner(KNeighborsClassifier(1).fit(X, y), uncertainty_sampling)
    one = np.flatnonzero(y == "benign")[:1]
    with pytest.warns(TrainingWarning, match="stays as it was"):
        learner.teach(X[one], y[one], only_new=True)
    with pytest.warns(TrainingWarning, match="fitted anew to these"):
        learner.teach(X[:6], y[:6])


class Stopped(KNeighborsClassifier):
    """Learns, and is stopped then."""

    def fit(self, X, y):
        super().fit(X, y)
        if len(y) == 6:
            raise TrainingInterrupted("stopped")
        return self


def test_labels_that_were_never_here_are_missed_no_longer_after_an_interrupted_fit(table):
    X, y = table
    learner = AIFTLearner(Stopped(1).fit(X, y), uncertainty_sampling)
    with (
        pytest.warns(TrainingWarning, match="fitted anew to these 6"),
        pytest.raises(TrainingInterrupted),
    ):
        learner.teach(X[:6], y[:6])
    learner.teach(X[6:8], y[6:8])
    assert learner.predict(X[:8]).tolist() == y[:8].tolist()


def test_labels_kept_without_training_outlive_a_later_failure(table):
    X, y = table
    learner = AIFTLearner(KNeighborsClassifier(), uncertainty_sampling)
    learner.teach(X[:20], y[:20])
    one = np.flatnonzero(y == "benign")[:5]
    with pytest.warns(TrainingWarning, match="stays as it was"):
        learner.teach(X[one], y[one], only_new=True)
    with pytest.raises(ValueError, match="NaN"):
        learner.teach(X[:10] * np.nan, y[:10])
    assert len(learner.y_training) == 25


def test_new_labels_of_some_classes_say_which_are_forgotten(table):
    X, _ = table
    y = np.array(["a", "b", "c"] * 20)
    learner = AIFTLearner(RandomForestClassifier(3), uncertainty_sampling)
    learner.teach(X[:30], y[:30])
    some = np.flatnonzero(y[30:] != "b") + 30
    with pytest.warns(TrainingWarning, match=r"all of \['a', 'c'\]: it forgets \['b'\]"):
        learner.teach(X[some], y[some], only_new=True)
    assert learner.estimator.classes_.tolist() == ["a", "c"]
    learner.teach(X[:3], y[:3])
    assert learner.estimator.classes_.tolist() == ["a", "b", "c"]


class FailsLate(SGDClassifier):
    """Raises once it has learnt."""

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        super().partial_fit(X, y, classes, sample_weight)
        if np.any(np.asarray(X) > 99):
            raise ArithmeticError("too late")
        return self


def test_any_estimator_is_as_before_a_call_that_failed(table):
    X, y = table
    learner = AIFTLearner(FailsLate(loss="log_loss", random_state=0))
    learner.teach(X[:20], y[:20])
    learner.teach(X[20:24], y[20:24])
    inside, before = learner.estimator, learner.predict_proba(X)
    bad = X[24:].copy()
    bad[0] = 100
    with pytest.raises(ArithmeticError):
        learner.teach(bad, y[24:])
    assert learner.estimator is inside
    np.testing.assert_array_equal(learner.predict_proba(X), before)
    assert len(learner.y_training) == 24
    learner.teach(X[24:], y[24:])
    assert (learner.predict_proba(X) != before).any()


def test_a_member_that_fails_accepts_the_next_labels(table):
    X, y = table

    class Fails(GaussianNB):
        def partial_fit(self, X, y, classes=None):
            if len(X) == 7:
                raise ArithmeticError("no")
            return super().partial_fit(X, y, classes)

    learner = AIFTLearner(Fails(), uncertainty_sampling)
    committee = Committee([learner])
    committee.teach(X[:20], y[:20])
    with pytest.raises(ArithmeticError):
        committee.teach(X[20:27], y[20:27])
    assert len(learner.y_training) == 20
    committee.teach(X[27:30], y[27:30])
    np.testing.assert_array_equal(learner.X_training, np.concatenate([X[:20], X[27:30]]))


# --- bootstrap samples ---------------------------------------------------------------------------


def taught_rows(random_state, n=50, times=2):
    learner = AIFTLearner(TableModel(None), random_state=random_state)
    rows = np.arange(float(n))[:, None]
    for _ in range(times):
        learner.teach(rows, np.zeros(n), bootstrap=True)
    return learner.estimator.taught_


def test_bootstrap_samples_are_seeded_and_each_is_another():
    once, again, other = taught_rows(1), taught_rows(1), taught_rows(2)
    assert once == again != other
    assert once[:50] != once[50:]
    assert taught_rows(np.int64(1)) == once
    for kind in (np.random.default_rng, np.random.RandomState):
        assert taught_rows(kind(3)) == taught_rows(kind(3))
    global_draws = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        global_draws.append(taught_rows(None))
    assert global_draws[0] == global_draws[1]


def test_bootstrapped_candidates_keep_their_weights(table):
    X, y = table
    weight = np.arange(1.0, 21.0)
    learner = member(classes=["benign", "malignant"])
    learner.teach(X[:20], y[:20], bootstrap=True, sample_weight=weight)
    memory = learner.estimator.memory_
    position = [int(np.flatnonzero((X[:20] == row).all(axis=1))[0]) for row in memory.X]
    np.testing.assert_array_equal(memory.sample_weight, weight[position])


@pytest.mark.parametrize("kind", [list, np.asarray, pd.DataFrame, sp.csr_matrix])
def test_bootstrap_init_takes_any_kind_of_table(table, kind):
    X, y = table
    learner = AIFTLearner(
        RandomForestClassifier(3, random_state=0),
        uncertainty_sampling,
        kind(X),
        list(y),
        bootstrap_init=True,
        random_state=0,
    )
    assert learner.X_training.shape == X.shape
    learner.teach(kind(X[:5]), list(y[:5]), bootstrap=True)
    assert learner.X_training.shape == (65, 3)
    assert learner.score(kind(X), y) > 0.6


# --- kinds of candidates, labels ------------------------------------------------------------------

KINDS = [np.asarray, pd.DataFrame, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.coo_matrix, list]


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_later_candidates_are_kept_as_the_first(table, first, second):
    X, y = table
    learner = AIFTLearner(SGDClassifier(loss="log_loss", random_state=0), uncertainty_sampling)
    learner.teach(first(X[:20]), y[:20])
    kept = type(learner.X_training)
    learner.teach(second(X[20:25]), y[20:25])
    assert type(learner.X_training) is kept
    dense = learner.X_training
    dense = dense.toarray() if sp.issparse(dense) else np.asarray(dense)
    np.testing.assert_array_equal(dense, X[:25])


def test_labels_in_a_column_are_flattened(table):
    X, y = table
    learner = member()
    learner.teach(X[:10], y[:10, None])
    learner.teach(X[10:15], pd.Series(y[10:15]))
    learner.teach(X[15:18], y[15:18, None].tolist())
    np.testing.assert_array_equal(learner.y_training, y[:18])


@pytest.mark.parametrize(
    ("X", "y", "error"),
    [
        (np.zeros((3, 2)), [0, 1], LabelError),
        (np.zeros((1, 2)), "benign", LabelError),
        (np.zeros((3, 2)), None, LabelError),
        ([[1.0, 2.0], [3.0]], [0, 1], DataError),
        (5, [0], LabelError),
    ],
)
def test_candidates_and_labels_that_do_not_match_are_refused(X, y, error):
    learner = AIFTLearner(SGDClassifier(), uncertainty_sampling)
    with pytest.raises(error):
        learner.teach(X, y)
    assert learner.X_training is None
    with pytest.raises(error):
        learner.fit(X, y)
    assert learner.y_training is None


def test_an_unsuccessful_fit_leaves_what_was_taught(table):
    X, y = table
    learner = member()
    learner.teach(X[:10], y[:10])
    with pytest.raises(LabelError):
        learner.fit(X[:3], [None, "a", "b"])
    assert len(learner.y_training) == 10
    learner.teach(X[10:12], y[10:12])
    assert rounds_of(learner) == [10, 2]


# --- what is shown --------------------------------------------------------------------------------


def test_a_taught_learner_is_shown_in_a_few_lines():
    X, y = make_blobs(40)
    learner = AIFTLearner(AIFTClassifier(LogisticRegression()))
    untaught = repr(learner)
    learner.X_training, learner.y_training = X, y
    assert "40 candidates of shape (3, 16, 16), uint8" in repr(learner)
    assert "20 disc, 20 empty" in repr(learner)
    assert len(repr(learner)) < len(untaught) + 200
    html = learner._repr_html_()
    assert "40 candidates" in html or "AIFTLearner" in html
    bundle = learner._repr_mimebundle_()
    for text in (html, *bundle.values()):
        assert str(X[0, 0, 0, :4]).strip("[]") not in text
    assert learner.get_params()["X_training"] is X
    assert learner.X_training is X


@pytest.mark.parametrize(
    ("X", "y", "shown"),
    [
        (pd.DataFrame(np.zeros((3, 2))), ["a", "b", "a"], "3 candidates of shape (2,), DataFrame"),
        (sp.csr_matrix(np.zeros((3, 2))), [1, 2, 1], "2 1, 1 2"),
        (np.zeros((9, 2)), np.arange(9), "labels of shape (9,)"),
        (np.zeros((3, 2)), np.eye(3, 2, dtype=int), "labels of shape (3, 2)"),
        (np.zeros((2, 2)), np.array(["a", None], dtype=object), "labels of shape (2,)"),
    ],
)
def test_any_kind_of_label_is_counted_or_described(X, y, shown):
    learner = AIFTLearner(LogisticRegression())
    learner.X_training, learner.y_training = X, y
    assert shown in repr(learner)


def test_a_clone_has_parameters_of_its_own():
    strategy = make_query_strategy(patch_entropy, selection="k-centre", omega=3)
    learner = AIFTLearner(
        AIFTClassifier(), strategy, random_state=np.random.RandomState(0), bootstrap_init=True
    )
    copied = clone(learner).set_params(query_strategy__omega=2)
    assert (strategy.omega, copied.query_strategy.omega) == (3, 2)
    assert copied.random_state is not learner.random_state
    assert copied.bootstrap_init
