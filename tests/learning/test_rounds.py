"""Rounds: what is replayed, what is never forgotten, weights, and what is refused at once."""

import copy

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import has_fit_parameter
from torch import nn

from aift_sklearn import AIFTClassifier, AIFTLearner, CNNClassifier, JitterPatches, load
from aift_sklearn.errors import ParameterError, TrainingWarning


def rows(n=40, classes=2, seed=0):
    k = np.arange(n) % classes
    return np.random.default_rng(seed).normal(size=(n, 3)) + 2 * k[:, None], k


# --- never to forget ------------------------------------------------------------------------------

FORGETFUL = {
    "logistic": LogisticRegression(),
    "forest": RandomForestClassifier(5),
    "neighbours": KNeighborsClassifier(1),
    "tree": DecisionTreeClassifier(),
    "pipeline": make_pipeline(StandardScaler(), GaussianNB()),
    "search": GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1]}, cv=2),
}


@pytest.mark.parametrize("name", FORGETFUL)
def test_a_later_batch_of_one_class_leaves_the_last_good_model(name):
    X, y = rows()
    clf = AIFTClassifier(FORGETFUL[name], replay="none", random_state=0).fit(X[:20], y[:20])
    good, estimator = clf.predict_proba(X), clf.estimator_
    for label in (0, 1, 0):
        one = y == label
        with pytest.warns(TrainingWarning, match=rf"all of \[{label}\]: it stays as it was"):
            clf.partial_fit(X[one][:3], y[one][:3])
        assert clf.estimator_ is estimator
        assert_array_equal(clf.predict_proba(X), good)
        assert set(clf.predict(X)) == {0, 1}
    assert_array_equal(clf.classes_seen_, [0, 1])
    assert len(clf.memory_.y) == 29
    # The labels were kept: they are learnt as soon as they may be.
    clf.set_params(replay="all").partial_fit(X[:2], y[:2])
    assert len(clf.memory_.y) == 31
    assert clf.estimator_ is not estimator


def test_a_batch_that_weighs_one_class_alone_counts_as_of_one_class():
    X, y = rows()
    clf = AIFTClassifier(LogisticRegression(), replay="none").fit(X[:20], y[:20])
    good = clf.predict_proba(X)
    with pytest.warns(TrainingWarning, match=r"all of \[1\]: it stays"):
        clf.partial_fit(X[20:], y[20:], sample_weight=y[20:])
    assert_array_equal(clf.predict_proba(X), good)


def test_a_batch_of_some_classes_says_which_are_forgotten():
    X, y = rows(60, classes=3)
    clf = AIFTClassifier(GaussianNB_without_partial_fit(), replay="none").fit(X[:30], y[:30])
    few = y[30:] < 2
    with pytest.warns(TrainingWarning, match=r"all of \[0, 1\]: it forgets \[2\].*replay='all'"):
        clf.partial_fit(X[30:][few], y[30:][few])
    assert not clf.predict_proba(X)[:, 2].any()


def GaussianNB_without_partial_fit():
    return make_pipeline(StandardScaler(), GaussianNB())


@pytest.mark.parametrize("replay", ["mixed", "hard", "all"])
def test_replayed_classes_are_not_forgotten(replay):
    X, y = rows()
    clf = AIFTClassifier(LogisticRegression(), replay=replay).fit(X[:20], y[:20])
    clf.partial_fit(X[y == 1][-4:], [1] * 4)
    assert set(clf.predict(X)) == {0, 1}


def test_a_warm_start_on_one_class_leaves_the_last_good_model():
    X, y = rows()
    clf = AIFTClassifier(LogisticRegression(), warm_start=True).fit(X, y)
    good = clf.predict_proba(X)
    with pytest.warns(TrainingWarning, match="stays as it was"):
        clf.fit(X[y == 0], y[y == 0])
    assert_array_equal(clf.predict_proba(X), good)


def test_one_class_only_is_still_a_model_of_one_class():
    X, y = rows()
    clf = AIFTClassifier(LogisticRegression(), replay="none", classes=[0, 1])
    clf.partial_fit(X[y == 1], y[y == 1]).partial_fit(X[y == 1], y[y == 1])
    assert_array_equal(clf.predict_proba(X), np.tile([0.0, 1.0], (40, 1)))
    assert clf.partial_fit(X[y == 0], y[y == 0]).score(X, y) > 0.9


# --- a memory that lacks something ----------------------------------------------------------------


def without_memory(clf, folder):
    clf.save(folder, include_memory=False)
    return load(folder)


@pytest.mark.parametrize("replay", ["all", "mixed", "hard"])
@pytest.mark.parametrize("n_rounds", [0, 1, 3])
@pytest.mark.parametrize("again", [None, "with", "without"])
def test_a_memory_left_behind_is_missed_in_every_later_round(replay, n_rounds, again, tmp_path):
    X, y = rows(60)
    clf = AIFTClassifier(GaussianNB(), random_state=0, replay="none").fit(X[:30], y[:30])
    clf = without_memory(clf, tmp_path / "a")
    for number in range(n_rounds):
        part = slice(30 + 4 * number, 34 + 4 * number)
        clf.partial_fit(X[part], y[part])
    if again is not None:
        clf.save(tmp_path / "b", include_memory=again == "with")
        clf = load(tmp_path / "b")
        if again == "without" and n_rounds:
            clf.partial_fit(X[56:], y[56:])
    clf.set_params(replay=replay)
    before = clf.predict_proba(X)
    with pytest.raises(ParameterError, match=rf"(?s)replay='{replay}' needs.*memory=\(X, y\)"):
        clf.partial_fit(X[:4], y[:4])
    assert_array_equal(clf.predict_proba(X), before)
    # Fitting anew knows all that it is given.
    clf.fit(X, y).partial_fit(X[:4], y[:4])
    assert len(clf.memory_.y) == 64


def test_a_memory_that_was_supplied_lacks_nothing(tmp_path):
    X, y = rows(40)
    clf = AIFTClassifier(GaussianNB(), random_state=0, replay="all").fit(X[:30], y[:30])
    clf.save(tmp_path, include_memory=False)
    again = load(tmp_path, memory=(X[:30], y[:30]))
    for one in (clf, again):
        one.partial_fit(X[30:], y[30:])
    assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert len(again.memory_.y) == 40


def test_new_labels_alone_are_no_memory_when_they_were_saved_and_supplied(tmp_path):
    X, y = rows(40)
    clf = AIFTClassifier(GaussianNB(), replay="none").fit(X[:30], y[:30])
    clf = without_memory(clf, tmp_path / "a").partial_fit(X[30:34], y[30:34])
    clf.save(tmp_path / "b", include_memory=False)
    again = load(tmp_path / "b", memory=(X[30:34], y[30:34])).set_params(replay="all")
    with pytest.raises(ParameterError, match="needs the candidates"):
        again.partial_fit(X[34:], y[34:])


def test_what_is_fitted_anew_goes_on_without_memory_only_where_that_is_asked(tmp_path):
    X, y = rows(40)
    clf = AIFTClassifier(LogisticRegression(), replay="none").fit(X[:30], y[:30])
    again = without_memory(clf, tmp_path / "a").partial_fit(X[30:], y[30:])
    assert_array_equal(again.memory_.X, X[30:])
    with pytest.raises(ParameterError, match="needs the candidates"):
        again.set_params(replay="hard").partial_fit(X, y)
    one = AIFTClassifier(LogisticRegression(), replay="none", classes=[0, 1])
    one.fit(X[y == 0], y[y == 0])
    # The stand-in for one class knows nothing that could be continued.
    with pytest.raises(ParameterError) as caught:
        without_memory(one, tmp_path / "b").partial_fit(X[y == 1], y[y == 1])
    assert "go on without" not in str(caught.value)


# --- weights --------------------------------------------------------------------------------------


def classifier(estimator=None, **params):
    estimator = LogisticRegression() if estimator is None else estimator
    return AIFTClassifier(estimator, patches=JitterPatches(3), random_state=0, **params)


@pytest.mark.parametrize(
    "estimator",
    [None, LogisticRegression(), CNNClassifier(), make_pipeline(StandardScaler(), GaussianNB())],
)
def test_weights_are_a_parameter_that_scikit_learn_finds(estimator):
    clf = AIFTClassifier(estimator)
    assert has_fit_parameter(clf, "sample_weight")
    assert "sample_weight" in clf.partial_fit.__code__.co_varnames
    assert has_fit_parameter(clone(clf), "sample_weight")


@pytest.mark.parametrize("routing", [False, True])
def test_boosting_and_calibration_around_it_reach_it_with_weights(routing):
    X, y = rows()
    y[::7] = 1 - y[::7]
    w = np.random.default_rng(1).uniform(0.1, 3, len(y))
    given = []

    class Weighed(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            given.append(sample_weight)
            return super().fit(X, y, sample_weight)

    with sklearn.config_context(enable_metadata_routing=routing):
        inner = Weighed()
        if routing:
            inner.set_fit_request(sample_weight=True)
        boosted = AdaBoostClassifier(classifier(inner), n_estimators=2).fit(X, y)
        assert all(weight is not None and len(weight) == 3 * 40 for weight in given)
        assert np.ptp(given[-1]) > 0
        assert len(given) > 1
        given.clear()
        calibrated = CalibratedClassifierCV(classifier(inner), cv=2).fit(X, y, sample_weight=w)
        assert_allclose(sorted({*given[0], *given[1]}), sorted(w))
        bagged = BaggingClassifier(classifier(inner), 2, random_state=0).fit(X, y)
    assert min(model.score(X, y) for model in (boosted, calibrated, bagged)) > 0.7


@pytest.mark.parametrize("routing", [False, True])
def test_weights_that_are_none_are_none(routing):
    X, y = rows()
    with sklearn.config_context(enable_metadata_routing=routing):
        clf = classifier().fit(X, y, sample_weight=None).partial_fit(X, y, None, None)
        assert clf.memory_.sample_weight is None
        assert clf.score(X, y, sample_weight=np.ones(40)) > 0.9
        neighbours = classifier(KNeighborsClassifier()).fit(X, y, None)
        with pytest.raises(ParameterError if not routing else TypeError, match="sample_weight"):
            neighbours.fit(X, y, np.full(40, 0.5))


def test_whole_weights_are_repetitions():
    X, y = rows(20)
    w = np.random.default_rng(0).integers(0, 4, 20)
    weighed = classifier(LogisticRegression(tol=1e-10)).fit(X, y, sample_weight=w)
    repeated = classifier(LogisticRegression(tol=1e-10)).fit(X.repeat(w, axis=0), y.repeat(w))
    assert_allclose(weighed.patches_.offsets_, repeated.patches_.offsets_)
    assert_allclose(weighed.predict_proba(X), repeated.predict_proba(X), atol=1e-6)


# --- no probabilities -----------------------------------------------------------------------------


class Untrainable(LinearSVC):
    def fit(self, X, y, sample_weight=None):
        raise AssertionError("trained, although what comes of it is known")


WITHOUT = {
    "svc": SVC(),
    "linear svc": Untrainable(),
    "hinge": SGDClassifier(loss="hinge"),
    "ridge": RidgeClassifier(),
    "pipeline": make_pipeline(StandardScaler(), Untrainable()),
    "pipelines": make_pipeline(make_pipeline(StandardScaler(), SVC())),
    "search": GridSearchCV(RidgeClassifier(), {"alpha": [1]}, cv=2),
    "hard votes": VotingClassifier([("nb", GaussianNB())]),
    "stack": StackingClassifier([("nb", GaussianNB())], RidgeClassifier(), cv=2),
}


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_estimator_without_probabilities_is_refused_at_once(name, method):
    X, y = rows()
    clf = AIFTClassifier(WITHOUT[name], classes=[0, 1])
    with pytest.raises(ParameterError, match=r"no predict_proba(?s:.*)CalibratedClassifierCV"):
        getattr(clf, method)(X, y)
    with pytest.raises(NotFittedError):
        clf.predict(X)
    # With one class, before anything is trained, where that is known by then.
    if name not in ("search", "hard votes", "stack"):
        with pytest.raises(ParameterError, match="CalibratedClassifierCV"):
            getattr(clf, method)(X[y == 0], y[y == 0])


def test_the_refusal_comes_before_labels_are_spent():
    X, y = rows()
    learner = AIFTLearner(AIFTClassifier(SVC(), classes=[0, 1]))
    with pytest.raises(ParameterError, match=r"CalibratedClassifierCV\(SVC\(\.\.\.\)\)"):
        learner.teach(X[:10], y[:10])
    assert learner.X_training is None
    calibrated = AIFTLearner(AIFTClassifier(CalibratedClassifierCV(SVC(), cv=3), classes=[0, 1]))
    calibrated.teach(X[:10], y[:10])
    assert len(calibrated.query(X, n_instances=3)[0]) == 3


def test_a_refused_estimator_leaves_the_fitted_one():
    X, y = rows()
    clf = AIFTClassifier(GaussianNB()).fit(X, y)
    before, twin = clf.predict_proba(X), copy.deepcopy(clf)
    clf.set_params(estimator=GridSearchCV(RidgeClassifier(), {"alpha": [1]}, cv=2))
    with pytest.raises(ParameterError):
        clf.fit(X[:20], y[:20])
    assert_array_equal(clf.predict_proba(X), before)
    assert len(clf.memory_.y) == len(twin.memory_.y)


class Delegates(ClassifierMixin, BaseEstimator):
    """Offers what the estimator inside offers, once that is there."""

    def fit(self, X, y):
        self.inner_ = GaussianNB().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def __getattr__(self, name):
        if name.startswith("_") or name in ("inner_", "classes_", "partial_fit"):
            raise AttributeError(name)
        return getattr(self.inner_, name)


@pytest.mark.parametrize(
    "estimator",
    [
        StackingClassifier([("nb", GaussianNB())], cv=2),
        GridSearchCV(
            make_pipeline(StandardScaler(), LinearSVC()), {"linearsvc": [GaussianNB()]}, cv=2
        ),
        VotingClassifier([("nb", GaussianNB())], voting="soft"),
        Delegates(),
    ],
    ids=["stack", "search", "soft votes", "delegates"],
)
def test_an_estimator_that_gains_probabilities_in_training_is_taken(estimator):
    X, y = rows()
    assert AIFTClassifier(estimator, random_state=0).fit(X, y).score(X, y) > 0.8


class Flipping(ClassifierMixin, BaseEstimator):
    """Has a parameter of a name that networks have, and another meaning."""

    def __init__(self, augmentation=None):
        self.augmentation = augmentation

    def fit(self, X, y):
        self.classes_, self.shape_ = np.unique(y), X.shape
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize("augmentation", [None, "flip"])
def test_an_estimator_with_an_augmentation_of_its_own_is_given_patches(augmentation):
    images = np.zeros((6, 3, 8, 8), dtype=np.uint8)
    clf = AIFTClassifier(Flipping(augmentation)).fit(images, [0, 1] * 3)
    assert clf.estimator_.shape_ == (24, 3, 8, 8)
    assert clf.estimator_.augmentation == augmentation


def test_a_network_still_draws_views_of_its_own():
    images = np.zeros((6, 3, 8, 8), dtype=np.uint8)
    cnn = CNNClassifier(nn.Conv2d(3, 4, 3), pretrained=False, max_epochs=1)
    clf = AIFTClassifier(cnn, training_patches=3).fit(images, [0, 1] * 3)
    assert clf.estimator_.augmentation_views == 3
