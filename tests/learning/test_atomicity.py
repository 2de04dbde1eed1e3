"""A call that fails leaves any estimator as it was: predictions, memory, classes, what follows."""

import copy
import itertools
import sys
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from samples import make_blobs
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelPropagation
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier, JitterPatches
from aift_sklearn.errors import TrainingInterrupted, TrainingWarning

ESTIMATORS = {
    "sgd": SGDClassifier(loss="log_loss", average=True, max_iter=5, tol=None),
    "mlp": MLPClassifier(4, max_iter=5, tol=1e9),
    "gaussian_nb": GaussianNB(),
    "multinomial_nb": MultinomialNB(),
    "complement_nb": ComplementNB(),
    "bernoulli_nb": BernoulliNB(binarize=12.0),
    "categorical_nb": CategoricalNB(min_categories=40),
    "one_vs_rest": OneVsRestClassifier(SGDClassifier(loss="log_loss", max_iter=5, tol=None)),
    "logistic": LogisticRegression(),
    "forest": RandomForestClassifier(3, warm_start=True),
    "extra_trees": ExtraTreesClassifier(3),
    "boosting": GradientBoostingClassifier(n_estimators=2),
    "hist_boosting": HistGradientBoostingClassifier(max_iter=2),
    "adaboost": AdaBoostClassifier(n_estimators=2),
    "bagging": BaggingClassifier(n_estimators=2),
    "tree": DecisionTreeClassifier(),
    "extra_tree": ExtraTreeClassifier(),
    "neighbours": KNeighborsClassifier(3),
    "lda": LinearDiscriminantAnalysis(),
    "qda": QuadraticDiscriminantAnalysis(reg_param=0.1),
    "gaussian_process": GaussianProcessClassifier(optimizer=None),
    "propagation": LabelPropagation(max_iter=5000),
    "calibrated": CalibratedClassifierCV(LinearSVC(), cv=2),
    "stacking": StackingClassifier([("nb", GaussianNB())], cv=2),
    "voting": VotingClassifier(
        [("nb", GaussianNB()), ("tree", DecisionTreeClassifier())], voting="soft"
    ),
    "search": GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3]}, cv=2),
    "pipeline": make_pipeline(StandardScaler(), MLPClassifier(4, max_iter=5, tol=1e9)),
}


class Moment(Exception):
    """What goes wrong."""


class CalledAt:
    """Counts calls of scikit-learn's functions, and raises in one of them."""

    def __init__(self, moment=None, error=Moment):
        self.moment, self.error, self.n = moment, error, 0

    def __call__(self, frame, event, argument):
        if event == "call" and "sklearn" in frame.f_code.co_filename.split("aift_sklearn")[-1]:
            self.n += 1
            if self.n == self.moment:
                raise self.error

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *exc):
        sys.setprofile(None)


def rows(n=24, seed=0):
    """Positive rows, whose class shows."""
    k = np.arange(n) % 2
    X = np.random.default_rng(seed).normal(size=(n, 3)) + 2 * k[:, None]
    return X + 10, k


def state(clf, X):
    return {
        "proba": clf.predict_proba(X),
        "memory": clf.memory_.X,
        "labels": clf.memory_.y,
        "rounds": clf.memory_.round,
        "classes": clf.classes_,
        "seen": clf.classes_seen_,
        "features": clf.n_features_in_,
    }


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert_array_equal(left[name], right[name], err_msg=name)


# A fault that strikes while a generator is closed has nobody to go to.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_a_call_that_fails_at_any_moment_changes_nothing(name, method):
    X, y = rows()
    clf = AIFTClassifier(ESTIMATORS[name], patches=JitterPatches(3), random_state=0, replay="all")
    clf.fit(X[:16], y[:16])
    twin = copy.deepcopy(clf)
    rehearsal = copy.deepcopy(clf)
    with CalledAt() as whole:
        getattr(rehearsal, method)(X[16:], y[16:])
    before = state(clf, X)
    rng = np.random.default_rng(len(name))
    last = [whole.n - k for k in range(3)]
    n_failed = 0
    for moment in [*last, *rng.integers(1, whole.n, 3).tolist()]:
        error = rng.choice([Moment, KeyboardInterrupt, MemoryError])
        try:
            with CalledAt(moment, error):
                getattr(clf, method)(X[16:], y[16:])
        except BaseException:  # scikit-learn makes other errors of some
            n_failed += 1
            assert_same(state(clf, X), before)
        else:
            # It happened where scikit-learn takes an error for an answer.
            clf = copy.deepcopy(twin)
    assert n_failed >= 3
    for one in (clf, twin):
        getattr(one, method)(X[16:], y[16:])
    assert_same(state(clf, X), state(twin, X))


def late(kind):
    """The classifier, which raises once its work is done, as long as it is told to."""

    class Late(kind):
        fails = None

        def _raise(self):
            if Late.fails is not None:
                raise Late.fails

        def fit(self, X, y):
            super().fit(X, y)
            self._raise()
            return self

        def partial_fit(self, X, y, classes=None):
            super().partial_fit(X, y, classes)
            self._raise()
            return self

    return Late


@pytest.mark.parametrize("replay", ["mixed", "hard", "all", "none"])
@pytest.mark.parametrize(
    "error", [ValueError("late"), KeyboardInterrupt(), SystemExit(), TrainingInterrupted()]
)
def test_an_update_that_raises_late_is_undone(replay, error):
    X, y = rows()
    kind = late(SGDClassifier)
    clf = AIFTClassifier(kind(loss="log_loss"), random_state=0, replay=replay).fit(X[:16], y[:16])
    before, estimator, coefficients = state(clf, X), clf.estimator_, clf.estimator_.coef_.copy()
    seam = clf._seam
    kind.fails = error
    # What is interrupted without a promise of being usable is undone like everything else.
    raised = KeyboardInterrupt if isinstance(error, TrainingInterrupted) else type(error)
    for method in ("partial_fit", "fit"):
        with pytest.raises(raised) as caught:
            getattr(clf, method)(X[16:], 1 - y[16:])
        assert type(caught.value) is raised
        assert clf.estimator_ is estimator
        assert_array_equal(clf.estimator_.coef_, coefficients)
        assert_same(state(clf, X), before)
        assert clf._seam is seam
    kind.fails = None
    clf.partial_fit(X[16:], y[16:])
    assert clf._seam is not seam
    assert len(clf.memory_.y) == 24


@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_a_first_call_that_fails_leaves_nothing_behind(method):
    X, y = rows()
    kind = late(SGDClassifier)
    clf = AIFTClassifier(kind(loss="log_loss"), random_state=np.random.RandomState(3))
    kind.fails = ValueError("late")
    attributes, drawn = set(vars(clf)), clf.random_state.get_state()[1].copy()
    with pytest.raises(ValueError, match="late"):
        getattr(clf, method)(X, y)
    assert set(vars(clf)) == attributes
    assert_array_equal(clf.random_state.get_state()[1], drawn)
    with pytest.raises(NotFittedError):
        clf.predict(X)


def test_a_learner_whose_teaching_fails_asks_the_same_again():
    X, y = rows()
    kind = late(SGDClassifier)
    learner = AIFTLearner(AIFTClassifier(kind(loss="log_loss"), random_state=0))
    learner.teach(X[:8], y[:8])
    asked = learner.query(X, n_instances=4, random_state=0)[0]
    kind.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        learner.teach(X[8:16], y[8:16])
    kind.fails = None
    assert len(learner.y_training) == 8
    assert_array_equal(learner.query(X, n_instances=4, random_state=0)[0], asked)


class Locked(GaussianNB):
    """Cannot be copied."""

    def fit(self, X, y):
        self.lock_ = threading.Lock()
        return super().fit(X, y)


@pytest.mark.parametrize("replay", ["mixed", "hard", "all"])
def test_what_cannot_be_copied_is_fitted_anew_and_says_so(replay):
    X, y = rows()
    clf = AIFTClassifier(Locked(), replay=replay).fit(X[:16], y[:16])
    before = clf.estimator_
    with pytest.warns(TrainingWarning, match=r"Locked cannot be copied .*_restores_itself"):
        clf.partial_fit(X[16:], y[16:])
    assert clf.estimator_ is not before
    expected = AIFTClassifier(GaussianNB(), patches=clf.patches_).fit(X[:16], y[:16])
    expected.patches_ = clf.patches_
    assert_array_equal(clf.estimator_.class_count_, [48, 48])
    assert_array_equal(before.class_count_, [32, 32])


class Proud(ClassifierMixin, BaseEstimator):
    """Declares that it undoes a call that fails."""

    _restores_itself = True

    def fit(self, X, y):
        return self.partial_fit(X, y, np.unique(y))

    def partial_fit(self, X, y, classes=None):
        self.classes_ = classes
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def __deepcopy__(self, memo):
        raise AssertionError("not to be copied")


def test_what_restores_itself_is_not_copied():
    X, y = rows()
    clf = AIFTClassifier(Proud()).fit(X, y)
    trained = clf.estimator_
    assert clf.partial_fit(X, y).estimator_ is trained
    assert CNNClassifier._restores_itself


class Interrupting(CNNClassifier):
    """Is interrupted after an epoch."""

    def partial_fit(self, X, y, classes=None, sample_weight=None, groups=None):
        raise TrainingInterrupted

    def fit(self, X, y, sample_weight=None, groups=None):
        super().fit(X, y)
        raise TrainingInterrupted


def small(kind=Interrupting):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU())
    return kind(network, pretrained=False, max_epochs=1)


@pytest.mark.parametrize(
    ("wrap", "kept"),
    [
        (lambda cnn: cnn, True),
        (lambda cnn: make_pipeline(StandardImages(), cnn), True),
        (lambda cnn: GridSearchCV(cnn, {"lr": [0.01]}, cv=2, refit=True), False),
        (lambda cnn: VotingClassifier([("cnn", cnn)], voting="soft"), False),
    ],
    ids=["alone", "pipeline", "search", "voting"],
)
def test_an_interrupt_inside_something_larger_keeps_only_what_is_usable(wrap, kept):
    X, y = make_blobs(12)
    clf = AIFTClassifier(wrap(small()), patches=AffinePatches(2), random_state=0)
    with pytest.raises(KeyboardInterrupt) as caught:
        clf.fit(X, y)
    assert isinstance(caught.value, TrainingInterrupted) == kept
    if kept:
        assert clf.predict_proba(X).shape == (12, 2)
        assert len(clf.memory_.y) == 12
    else:
        with pytest.raises(NotFittedError):
            clf.predict(X)


class StandardImages(BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


def test_an_interrupt_while_attributes_are_put_back_loses_none():
    X, y = rows()
    clf = AIFTClassifier(GaussianNB()).fit(X, y)
    names = set(vars(clf))
    for k in itertools.count(1):
        with CalledIn("rollback.py", k) as calls, pytest.raises((ValueError, KeyboardInterrupt)):
            clf.fit(X, y[:-1])
        assert names <= set(vars(clf))
        assert_array_equal(clf.predict(X), clf.predict(clf.memory_.X))
        if calls.n < k:
            break


class CalledIn(CalledAt):
    """Raises at the k-th C call or call made in one file."""

    def __init__(self, file, moment):
        super().__init__(moment, KeyboardInterrupt)
        self.file = file

    def __call__(self, frame, event, argument):
        if event in ("call", "c_call") and frame.f_code.co_filename.endswith(self.file):
            self.n += 1
            if self.n == self.moment:
                raise self.error
