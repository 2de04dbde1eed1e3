"""Whole loops: modAL's learner restarts each round, ours continues."""

import numpy as np
import pandas as pd
import pytest
from fakes import TableModel, spied_classifier
from modAL.models import ActiveLearner
from modAL.uncertainty import uncertainty_sampling
from samples import make_blobs
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    aift_sampling,
)
from aift_sklearn.errors import LabelError


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
    assert copied.get_params()["estimator__replay"] == "hard"


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
