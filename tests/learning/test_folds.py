"""Folds inside an estimator split candidates: what they measure on noise is chance."""

import contextlib
import pickle
import warnings
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from samples import make_blobs
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFECV, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    LeaveOneOut,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, JitterPatches
from aift_sklearn.errors import DataError, TrainingWarning
from aift_sklearn.learning.folds import (
    CandidateFolds,
    give_folds_back,
    keep_candidates_together,
)

RNG = np.random.default_rng(0)
X, NOISE = RNG.normal(size=(90, 5)), RNG.integers(0, 2, 90)
KNN = KNeighborsClassifier(1)
GRID = {"n_neighbors": [1, 15]}
SHUFFLED = StratifiedKFold(3, shuffle=True, random_state=0)


class Seer(ClassifierMixin, BaseEstimator):
    """Knows the candidates that it was trained on, by their whole part, and notes them."""

    spied: ClassVar[list] = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.known_ = set(np.floor(X[:, 0]).astype(int).tolist())
        return self

    def predict_proba(self, X):
        asked = set(np.floor(X[:, 0]).astype(int).tolist())
        Seer.spied.append((self.known_, asked))
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        self.predict_proba(X)
        return self.classes_[np.floor(X[:, 0]).astype(int) % len(self.classes_)]


@pytest.fixture
def spied():
    Seer.spied = []
    return Seer.spied


# Candidate i is the number i + .5 and some noise, which jitter does not carry over.
NAMED = np.stack([np.arange(24) + 0.5, RNG.normal(size=24)], axis=1)
LABELS = np.arange(24) % 2
STEADY = JitterPatches(4, scale=0.0)

SEARCHES = {
    "number": lambda e: GridSearchCV(e, {}, cv=3),
    "default": lambda e: GridSearchCV(e, {}),
    "shuffled": lambda e: GridSearchCV(e, {}, cv=StratifiedKFold(4, shuffle=True)),
    "plain": lambda e: GridSearchCV(e, {}, cv=KFold(4, shuffle=True, random_state=1)),
    "groups": lambda e: GridSearchCV(e, {}, cv=GroupKFold(4)),
    "both": lambda e: GridSearchCV(e, {}, cv=StratifiedGroupKFold(4)),
    "draws": lambda e: GridSearchCV(e, {}, cv=ShuffleSplit(3, test_size=0.3)),
    "repeated": lambda e: GridSearchCV(e, {}, cv=RepeatedStratifiedKFold(n_splits=3, n_repeats=2)),
    "one out": lambda e: GridSearchCV(e, {}, cv=LeaveOneOut()),
    "predefined": lambda e: GridSearchCV(e, {}, cv=PredefinedSplit(np.arange(24) // 2 % 4)),
    "listed": lambda e: GridSearchCV(e, {}, cv=[(np.arange(12), np.arange(12, 24))]),
    "random": lambda e: RandomizedSearchCV(e, {}, n_iter=1, cv=3),
    "halving": lambda e: HalvingGridSearchCV(e, {}, cv=2, min_resources=24),
    "parallel": lambda e: GridSearchCV(e, {}, cv=3, n_jobs=1),
    "calibrated": lambda e: CalibratedClassifierCV(e, cv=3),
    "calibrated once": lambda e: CalibratedClassifierCV(e, cv=3, ensemble=False),
    "stacked": lambda e: StackingClassifier([("a", e), ("b", e)], cv=3),
    "threshold": lambda e: TunedThresholdClassifierCV(e, cv=3),
    "threshold of a part": lambda e: TunedThresholdClassifierCV(e, cv=0.25),
    "selected": lambda e: make_pipeline(SequentialFeatureSelector(e, cv=3), GaussianNB()),
    "in a pipeline": lambda e: make_pipeline(StandardNothing(), GridSearchCV(e, {}, cv=3)),
    "nested": lambda e: GridSearchCV(CalibratedClassifierCV(e, cv=2), {}, cv=3),
    "three deep": lambda e: GridSearchCV(
        make_pipeline(StandardNothing(), StackingClassifier([("c", CalibratedClassifierCV(e))])), {}
    ),
    "one class against the rest": lambda e: OneVsRestClassifier(GridSearchCV(e, {}, cv=3)),
    "one class against one": lambda e: CalibratedClassifierCV(
        OneVsOneClassifier(GridSearchCV(e, {}, cv=2)), cv=2
    ),
    "choice of folds": lambda e: GridSearchCV(CalibratedClassifierCV(e), {"cv": [2, 3]}, cv=2),
    "choice of estimators": lambda e: GridSearchCV(
        make_pipeline(StandardNothing(), KNN),
        {"kneighborsclassifier": [CalibratedClassifierCV(e, cv=2), GridSearchCV(e, {}, cv=2)]},
        cv=2,
    ),
}


class StandardNothing(BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.UndefinedMetricWarning")
def test_patches_of_one_candidate_never_straddle_folds(name, spied):
    estimator = SEARCHES[name](Seer())
    clf = AIFTClassifier(estimator, patches=STEADY, random_state=0)
    before = {key: repr(value) for key, value in clf.get_params().items()}
    with warnings.catch_warnings():
        # Seer is no good: constant probabilities have no threshold, and empty grids no choice.
        warnings.simplefilter("ignore")
        # One of the searches refuses a constant, once it has tried all folds.
        with contextlib.suppress(ValueError):
            clf.fit(NAMED, LABELS)
    tests = [(known, asked) for known, asked in spied if len(asked) < 24]
    assert tests
    for known, asked in spied:
        # Calibrators also predict what they were trained on; never a mixture.
        assert not known & asked or asked <= known
    assert any(not known & asked for known, asked in spied)
    assert {key: repr(value) for key, value in clf.get_params().items()} == before
    assert "CandidateFolds" not in repr(clone(clf))


MEASURED = {
    "the case": GridSearchCV(KNN, GRID, cv=SHUFFLED),
    "number": GridSearchCV(KNN, GRID, cv=5),
    "groups": GridSearchCV(KNN, GRID, cv=GroupKFold(5)),
    "random": RandomizedSearchCV(KNN, GRID, n_iter=2, cv=3, random_state=0),
    "halving": HalvingGridSearchCV(KNN, GRID, cv=3, random_state=0),
    "pipeline": GridSearchCV(
        make_pipeline(StandardScaler(), KNN), {"kneighborsclassifier__n_neighbors": [1, 15]}
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_a_search_on_random_labels_finds_chance(name):
    clf = AIFTClassifier(MEASURED[name], random_state=0).fit(X, NOISE)
    assert 0.35 < clf.estimator_.best_score_ < 0.65
    # The same search over whole candidates says much the same.
    groups = {"groups": np.arange(90)} if name == "groups" else {}
    alone = clone(MEASURED[name]).fit(X, NOISE, **groups).best_score_
    assert abs(clf.estimator_.best_score_ - alone) < 0.12


def test_models_with_folds_of_their_own_measure_chance():
    # Newer releases ask for their attributes' form, older ones have one.
    known = LogisticRegressionCV().get_params()
    newer = {"l1_ratios": (0,), "use_legacy_attributes": False}
    options = newer if "use_legacy_attributes" in known else {}
    regression = LogisticRegressionCV(Cs=3, scoring="accuracy", **options)
    model = AIFTClassifier(regression, random_state=0).fit(X, NOISE)
    scores = model.estimator_.scores_
    scores = list(scores.values()) if isinstance(scores, dict) else scores
    assert np.mean(scores) < 0.65
    tree = DecisionTreeClassifier(random_state=0)
    selector = RFECV(tree, cv=5)
    model = AIFTClassifier(make_pipeline(selector, KNN), random_state=0).fit(X, NOISE)
    assert max(model.estimator_[0].cv_results_["mean_test_score"]) < 0.65
    stack = StackingClassifier([("tree", tree)], LogisticRegression(), cv=3)
    model = AIFTClassifier(stack, random_state=0).fit(X, NOISE)
    # A tree is always right of its own candidates; the stack knows that it is not of others.
    assert np.abs(model.estimator_.final_estimator_.coef_).max() < 1
    calibrated = AIFTClassifier(CalibratedClassifierCV(tree, cv=5), random_state=0)
    proba = calibrated.fit(X, NOISE).predict_proba(RNG.normal(size=(50, 5)))
    assert np.abs(proba - 0.5).max() < 0.35
    threshold = TunedThresholdClassifierCV(LogisticRegression(), random_state=0, cv=0.3)
    ridge = make_pipeline(StandardScaler(), CalibratedClassifierCV(RidgeClassifierCV(), cv=3))
    for other in (threshold, ridge):
        assert AIFTClassifier(other, random_state=0).fit(X, NOISE).predict(X).shape == (90,)


def test_ridge_leaves_candidates_out_instead_of_rows():
    noisy = np.hstack([X, RNG.normal(size=(90, 60))])
    ridge = CalibratedClassifierCV(RidgeClassifierCV([1e-3, 1e5]), cv=3, ensemble=False)
    inner = AIFTClassifier(ridge, patches=JitterPatches(8, scale=0.01)).fit(noisy, NOISE)
    # An accuracy near chance; of rows left out singly it would be an error, and near 0.
    assert 0.35 < inner.estimator_.calibrated_classifiers_[0].estimator.best_score_ < 0.65


@pytest.mark.parametrize("cut", [1, 4])
def test_the_fitted_estimator_shows_what_the_user_gave(cut):
    search = GridSearchCV(
        CalibratedClassifierCV(LogisticRegression(), cv=4), {"cv": [2, 3]}, cv=SHUFFLED
    )
    clf = AIFTClassifier(search, training_patches=cut, random_state=0).fit(X, NOISE)
    assert repr(clf.estimator_.cv) == repr(SHUFFLED)
    assert clf.estimator_.get_params()["estimator__cv"] == 4
    assert clf.estimator_.best_estimator_.cv in (2, 3)
    assert b"CandidateFolds" not in pickle.dumps(clf)
    assert clone(clf).estimator.cv.n_splits == 3
    assert search.cv is SHUFFLED


def test_images_and_rounds_keep_candidates_together(spied):
    images, labels = make_blobs(16)

    class Looker(Seer):
        def fit(self, X, y):
            return super().fit(X[:, :, 0, 0] * 255, y)

        def predict(self, X):
            self.predict_proba(X[:, :, 0, 0] * 255)
            return np.resize(self.classes_, len(X))

    images[:, 0, :2, :2] = np.arange(16)[:, None, None] * 10
    still = AffinePatches(4, scale=1.0, translation=0.0)
    clf = AIFTClassifier(GridSearchCV(Looker(), {}, cv=2), patches=still)
    clf.partial_fit(images[:8], labels[:8])
    clf.partial_fit(images[8:], labels[8:])
    assert spied
    assert all(not known & asked for known, asked in spied)


# --- the splitter itself --------------------------------------------------------------------------


@given(
    y=st.lists(st.sampled_from("abc"), min_size=4, max_size=30),
    k=st.integers(2, 6),
    m=st.integers(1, 4),
)
def test_folds_are_a_partition_of_whole_candidates(y, k, m):
    y = np.array(y)
    counts = np.unique(y, return_counts=True)[1]
    rows, labels = np.zeros((len(y) * m, 1)), np.repeat(y, m)
    folds = CandidateFolds(k, m)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parts = list(folds.split(rows, labels))
    assert bool(caught) == bool((counts == 1).any())
    assert len(parts) == folds.get_n_splits(rows, labels)
    assert len(parts) == max(2, min([k, *counts[counts > 1]]))
    tested = np.concatenate([test for _, test in parts])
    assert_array_equal(np.sort(tested), np.arange(len(rows)))
    single = np.isin(y, np.unique(y)[counts == 1])
    for train, test in parts:
        for part in (train, test):
            sizes = np.unique(part // m, return_counts=True)[1]
            assert (sizes == m).all()
        both = np.intersect1d(train // m, test // m)
        assert single[both].all()
        assert len(np.union1d(train, test)) == len(rows)
        # Every class can be learnt in every fold.
        assert set(labels[train]) == set(y)


def test_the_first_labels_of_a_rare_class_are_no_dead_end():
    y = np.array([0] * 9 + [1])
    clf = AIFTClassifier(GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}), classes=[0, 1])
    with pytest.warns(TrainingWarning, match=r"\[1\] have one candidate each"):
        clf.partial_fit(X[:10], y)
    assert set(clf.predict_proba(X).argmax(axis=1)) <= {0, 1}
    clf.partial_fit(X[10:12], [1, 1])
    assert len(clf.memory_.y) == 12


@pytest.mark.parametrize("shown", [2, 3, 5])
def test_a_handful_of_candidates_is_enough_for_default_folds(shown):
    rows, y = X[: 2 * shown], np.arange(2 * shown) % 2
    for inner in (GridSearchCV(KNN, {"n_neighbors": [1]}), CalibratedClassifierCV(GaussianNB())):
        assert AIFTClassifier(inner).fit(rows, y).predict(rows).shape == y.shape


def test_groups_that_are_given_count():
    groups = np.repeat([0, 0, 1, 1], 2)
    parts = list(CandidateFolds(GroupKFold(2), 2).split(np.zeros((8, 1)), groups=groups))
    assert sorted(test.tolist() for _, test in parts) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert CandidateFolds(LeaveOneOut(), 2).get_n_splits(np.zeros((8, 1))) == 4
    assert CandidateFolds(None, 2).get_n_splits() == 5
    assert CandidateFolds(3, 2, classifier=False).get_n_splits(np.zeros((8, 1)), groups) == 3


def test_splits_made_of_rows_are_refused_with_what_they_name():
    splits = [(np.arange(100), np.arange(100, 360))]
    with pytest.raises(DataError, match=r"row 99, and there are 90 candidates"):
        AIFTClassifier(GridSearchCV(KNN, GRID, cv=splits)).fit(X, NOISE)
    masks = [(np.arange(90) < 45, np.arange(90) >= 45)]
    train, test = next(CandidateFolds(masks, 2).split(np.zeros((180, 1))))
    assert_array_equal(np.concatenate([train, test]), np.arange(180))


def test_rows_that_were_drawn_singly_are_noticed():
    with pytest.raises(DataError, match=r"7 rows are no patches of whole candidates, 2 of each"):
        next(CandidateFolds(2, 2).split(np.zeros((7, 1)), np.zeros(7)))


def test_what_needs_no_steering_is_left_alone():
    frozen = FrozenEstimator(GridSearchCV(KNN, GRID, cv=3).fit(X, NOISE))
    model = AIFTClassifier(frozen).fit(X, NOISE)
    assert frozen.estimator.cv == 3
    assert_array_equal(model.estimator_.predict(X), frozen.predict(X))
    for kept in (
        StackingClassifier([("nb", GaussianNB())], cv="prefit"),
        RidgeClassifierCV(store_cv_results=True),
    ):
        before = kept.cv
        keep_candidates_together(kept, 4, 0)
        assert kept.cv == before


def test_putting_back_follows_every_part_and_no_circle():
    search = GridSearchCV(make_pipeline(TargetEncoder(), KNN), {"targetencoder__cv": [3, SHUFFLED]})
    keep_candidates_together(search, 4, 0)
    assert isinstance(search.cv, CandidateFolds)
    assert all(isinstance(cv, CandidateFolds) for cv in search.param_grid["targetencoder__cv"])
    search.circle_ = [search, {"cv": search.cv}, (search.cv,)]
    give_folds_back(search)
    assert search.cv is None
    assert search.circle_[1:] == [{"cv": None}, (None,)]
    assert search.estimator[0].cv == 5
    assert search.param_grid["targetencoder__cv"] == [3, SHUFFLED]


# --- what cannot be steered -----------------------------------------------------------------------


class Linear(nn.Module):
    """Probabilities of two classes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, x):
        return self.layer(x.float()).softmax(dim=1)


class Net(NeuralNetClassifier, BaseEstimator):
    """Skorch's oldest release is no estimator to scikit-learn's tags by itself."""


def skorch_net(**params):
    return Net(Linear, max_epochs=1, verbose=0, **params)


OWN = {
    "early_stopping=True": [
        MLPClassifier(4, early_stopping=True, max_iter=3, tol=1e9),
        SGDClassifier(loss="log_loss", early_stopping=True),
        HistGradientBoostingClassifier(max_iter=2, early_stopping=True),
        make_pipeline(StandardScaler(), MLPClassifier(4, early_stopping=True, max_iter=3, tol=1e9)),
    ],
    "n_iter_no_change=2": [GradientBoostingClassifier(n_estimators=2, n_iter_no_change=2)],
    "oob_score=True": [
        RandomForestClassifier(30, oob_score=True),
        BaggingClassifier(n_estimators=30, oob_score=True),
    ],
    "max_samples=0.5": [BaggingClassifier(GridSearchCV(KNN, GRID, cv=2), 2, max_samples=0.5)],
    "train_split=ValidSplit": [
        skorch_net(),
        make_pipeline(StandardScaler(), skorch_net()),
        skorch_net(train_split=ValidSplit(0.3)),
    ],
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("reason", "estimator"), [(reason, each) for reason, some in OWN.items() for each in some]
)
def test_an_estimator_that_splits_patches_by_itself_is_named(reason, estimator):
    with pytest.warns(TrainingWarning, match=rf"\({reason}\) splits patches, not candidates"):
        AIFTClassifier(estimator, random_state=0).fit(X, NOISE)
    # One patch of each candidate is a candidate.
    if "max_samples" not in reason:
        AIFTClassifier(estimator, random_state=0, training_patches=1).fit(X, NOISE)


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(4, max_iter=3, tol=1e9),
        SGDClassifier(loss="log_loss"),
        HistGradientBoostingClassifier(max_iter=2),
        GradientBoostingClassifier(n_estimators=2),
        RandomForestClassifier(3),
        skorch_net(train_split=None),
        skorch_net(train_split=predefined_split(Dataset(X[:4], NOISE[:4]))),
        VotingClassifier([("nb", GaussianNB())], voting="soft"),
        BaggingClassifier(n_estimators=2),
        FixedThresholdClassifier(GaussianNB()),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_that_splits_nothing_is_not_suspected(estimator):
    AIFTClassifier(estimator, random_state=0).fit(X, NOISE)


TINY_MLP = MLPClassifier(4, max_iter=3, tol=1e9)
BOOSTED = GradientBoostingClassifier(n_estimators=2)
CHOSEN = {
    "early_stopping=True": [
        GridSearchCV(TINY_MLP, {"early_stopping": [True]}, cv=2),
        GridSearchCV(TINY_MLP, [{"alpha": [0.1]}, {"early_stopping": (False, True)}], cv=2),
        GridSearchCV(TINY_MLP, {"early_stopping": np.array([False, True])}, cv=2),
        RandomizedSearchCV(TINY_MLP, {"early_stopping": [True]}, n_iter=1, cv=2),
        GridSearchCV(make_pipeline(StandardScaler(), TINY_MLP),
                     {"mlpclassifier__early_stopping": [True]}, cv=2),
        make_pipeline(StandardScaler(), GridSearchCV(TINY_MLP, {"early_stopping": [True]}, cv=2)),
        GridSearchCV(Pipeline([("last", GaussianNB())]),
                     {"last": [TINY_MLP], "last__early_stopping": [True]}, cv=2),
        GridSearchCV(Pipeline([("last", GaussianNB())]),
                     {"last": [clone(TINY_MLP).set_params(early_stopping=True)]}, cv=2),
    ],
    "n_iter_no_change=2": [GridSearchCV(BOOSTED, {"n_iter_no_change": [None, 2]}, cv=2)],
    "oob_score=True": [GridSearchCV(RandomForestClassifier(30), {"oob_score": [True]}, cv=2)],
    "train_split=ValidSplit": [
        GridSearchCV(skorch_net(train_split=None), {"train_split": [ValidSplit(2)]}, cv=2)
    ],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("reason", "search"), [(reason, each) for reason, some in CHOSEN.items() for each in some]
)
def test_a_split_that_a_search_may_choose_is_named_once(reason, search):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", TrainingWarning)
        AIFTClassifier(search, random_state=0).fit(X, NOISE)
    (message,) = (str(one.message) for one in told)
    assert f"({reason}) splits patches, not candidates" in message


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "grid", [{"early_stopping": [False]}, {"alpha": [0.1, 1.0]}, {"validation_fraction": [0.2]}]
)
def test_a_search_that_chooses_no_split_is_not_suspected(grid):
    AIFTClassifier(GridSearchCV(TINY_MLP, grid, cv=2), random_state=0).fit(X, NOISE)


@pytest.mark.parametrize(
    "wrap", [lambda cnn: cnn, lambda cnn: make_pipeline(StandardNothing(), cnn)]
)
def test_a_network_is_told_which_patches_belong_together(wrap):
    images, labels = make_blobs(40)
    told = []

    class Told(CNNClassifier):
        def fit(self, X, y, sample_weight=None, groups=None):
            told.append(groups)
            return super().fit(X, y, sample_weight, groups)

    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU())
    cnn = Told(network, pretrained=False, max_epochs=1, early_stopping=1)
    cut = np.stack([images] * 6, axis=1)
    AIFTClassifier(wrap(cnn), training_patches=3, random_state=0).fit(cut, labels)
    assert_array_equal(told[-1], np.repeat(np.arange(40), 3))
    if wrap(cnn) is cnn:
        search = GridSearchCV(cnn, {"lr": [0.01]}, cv=2)
        with pytest.warns(TrainingWarning, match=r"Told\(early_stopping=1\) splits patches"):
            AIFTClassifier(search, training_patches=3, random_state=0).fit(cut, labels)
