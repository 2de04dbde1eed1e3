"""What users of scikit-learn and modAL expect to work together, with a CNN inside."""

import joblib
import numpy as np
import pytest
from modAL.models import ActiveLearner
from modAL.uncertainty import classifier_entropy
from modAL.utils.combination import make_linear_combination, make_product
from samples import make_blobs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    CNNFeatures,
    aift_sampling,
    make_query_strategy,
    patch_diversity,
    patch_entropy,
)
from aift_sklearn.errors import DataError, ParameterError

X, Y = make_blobs(48)
GROUPS = np.arange(len(X)) // 6


def small_network():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d(1))


def features():
    """Random features of a small network: they suffice to tell discs from noise."""
    return CNNFeatures(small_network(), pretrained=False)


def over_pipeline(**params):
    pipeline = make_pipeline(features(), StandardScaler(), LogisticRegression(C=0.1))
    return AIFTClassifier(pipeline, patches=AffinePatches(3), random_state=0, **params)


def over_network(**params):
    cnn = CNNClassifier(small_network(), pretrained=False, lr=0.03, max_epochs=12)
    return AIFTClassifier(cnn, patches=AffinePatches(3), random_state=0, **params)


KINDS = {"pipeline": over_pipeline, "network": over_network}


@pytest.fixture(params=KINDS)
def classifier(request):
    return KINDS[request.param]()


def test_a_pipeline_classifies_inside_and_outside():
    pipeline = make_pipeline(features(), StandardScaler(), LogisticRegression(C=0.1))
    outside = pipeline.fit(X[:30], Y[:30]).score(X[30:], Y[30:])
    inside = over_pipeline().fit(X[:30], Y[:30]).score(X[30:], Y[30:])
    assert min(outside, inside) > 0.8


def test_the_classifier_is_the_last_step_of_a_pipeline(classifier):
    class Brighten(StandardScaler):
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return np.minimum(X.astype(int) + 20, 255).astype(np.uint8)

    pipeline = make_pipeline(Brighten(), classifier).fit(X[:30], Y[:30])
    assert pipeline.score(X[30:], Y[30:]) > 0.8
    assert pipeline.predict_proba(X[30:]).shape == (18, 2)


def test_grid_search_sets_nested_parameters_and_refits():
    search = GridSearchCV(
        over_network(), {"estimator__lr": [0.0, 0.03], "patches__n_patches": [1, 3]}, cv=2
    ).fit(X, Y)
    assert search.best_params_["estimator__lr"] == 0.03
    # At a learning rate of 0 nothing was learnt.
    still = search.cv_results_["param_estimator__lr"] == 0.0
    assert search.cv_results_["mean_test_score"][still].max() < search.best_score_
    assert search.best_estimator_.predict_patch_proba(X).shape[1] in (1, 3)
    assert search.predict(X).shape == Y.shape


def test_cross_validation_keeps_groups_apart(classifier):
    seen = []

    class Spy(type(classifier)):
        def fit(self, X, y, sample_weight=None):
            seen.append(set(X[:, 0, 0, 0].tolist()))
            return super().fit(X, y, sample_weight)

    # The first pixel tells the group.
    marked = X.copy()
    marked[:, 0, 0, 0] = GROUPS
    spy = Spy(**classifier.get_params(deep=False))
    scores = cross_val_score(spy, marked, Y, groups=GROUPS, cv=GroupKFold(4))
    assert scores.shape == (4,)
    assert scores.mean() > 0.8
    assert [len(groups) for groups in seen] == [6] * 4


def test_predictions_of_folds_have_a_column_per_class(classifier):
    proba = cross_val_predict(classifier, X, Y, cv=2, method="predict_proba")
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    assert balanced_accuracy_score(Y, np.unique(Y)[proba.argmax(axis=1)]) > 0.8


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_probabilities_can_be_calibrated(classifier, method):
    calibrated = CalibratedClassifierCV(classifier, method=method, cv=2).fit(X, Y)
    proba = calibrated.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    assert calibrated.score(X, Y) > 0.8
    assert calibrated.classes_.tolist() == ["disc", "empty"]


@pytest.mark.parametrize("prefer", ["threads", "processes"])
def test_runs_in_parallel_as_one_after_the_other(classifier, prefer):
    def fit(seed):
        model = clone(classifier).set_params(random_state=seed)
        return model.fit(X[:24], Y[:24]).predict_proba(X[24:])

    serial = [fit(seed) for seed in range(2)]
    parallel = joblib.Parallel(n_jobs=2, prefer=prefer)(joblib.delayed(fit)(s) for s in range(2))
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_cross_validation_in_parallel_gives_the_same_scores():
    serial = cross_val_score(over_pipeline(), X, Y, cv=3)
    parallel = cross_val_score(over_pipeline(), X, Y, cv=3, n_jobs=2)
    np.testing.assert_array_equal(serial, parallel)


# --- modAL ----------------------------------------------------------------------------------------

UTILITIES = {
    "entropy": patch_entropy,
    "diversity": patch_diversity,
    "sum": make_linear_combination(patch_entropy, patch_diversity, weights=[1.0, 0.1]),
    "product": make_product(patch_entropy, patch_diversity, exponents=[1.0, 0.5]),
    "modal": classifier_entropy,
}


@pytest.fixture(scope="module")
def learner():
    return AIFTLearner(over_pipeline(), X_training=X[:10], y_training=Y[:10])


@pytest.mark.parametrize("name", UTILITIES)
def test_a_strategy_made_of_a_utility_asks_for_the_highest(name, learner):
    utility = UTILITIES[name]
    strategy = make_query_strategy(utility)
    expected = np.argsort(-np.asarray(utility(learner, X[10:])), kind="stable")[:5]
    learner.query_strategy = strategy
    np.testing.assert_array_equal(learner.query(X[10:], n_instances=5)[0], expected)
    theirs = ActiveLearner(learner.estimator, strategy)
    np.testing.assert_array_equal(theirs.query(X[10:], n_instances=5)[0], expected)


def test_combinations_are_what_modal_computes(learner):
    entropy, diversity = (u(learner, X) for u in (patch_entropy, patch_diversity))
    np.testing.assert_allclose(UTILITIES["sum"](learner, X), entropy + 0.1 * diversity)
    np.testing.assert_allclose(UTILITIES["product"](learner, X), entropy * diversity**0.5)


def test_the_strategy_of_both_utilities_is_that_of_their_sum():
    # Of fewer patches, the entropy alone keeps one and both together keep two.
    model = over_pipeline().set_params(patches__n_patches=8)
    learner = AIFTLearner(model, X_training=X[:10], y_training=Y[:10])
    both = make_linear_combination(patch_entropy, patch_diversity)
    learner.query_strategy = make_query_strategy(both)
    ours = learner.query(X, n_instances=7)[0]
    learner.query_strategy = aift_sampling
    np.testing.assert_array_equal(ours, learner.query(X, n_instances=7, selection="top")[0])


def test_variety_and_groups_reach_a_strategy_that_was_made(learner):
    scores = patch_entropy(learner, X)
    shortlist = np.argsort(-scores, kind="stable")
    for params, size in (
        ({"selection": "k-centre", "omega": 3.0}, 12),
        ({"selection": "random_extension", "omega": 2.0}, 8),
    ):
        strategy = make_query_strategy(patch_entropy, **params)
        learner.query_strategy = strategy
        asked = learner.query(X, n_instances=4, random_state=0)[0]
        assert set(asked) <= set(shortlist[:size])
    learner.query_strategy = make_query_strategy(patch_entropy)
    asked = learner.query(X, n_instances=4, groups=GROUPS)[0]
    assert len(set(GROUPS[asked])) == 4


def test_a_strategy_that_was_made_starts_cold():
    fresh = AIFTLearner(over_pipeline(), make_query_strategy(patch_entropy))
    typical = fresh.query(X, n_instances=3, random_state=0)[0]
    fresh.query_strategy = aift_sampling
    np.testing.assert_array_equal(typical, fresh.query(X, n_instances=3, random_state=0)[0])
    # A classifier that says nothing of the classes it saw is asked once it is fitted.
    flat = X.reshape(len(X), -1) / 255
    plain = AIFTLearner(LogisticRegression(), make_query_strategy(classifier_entropy))
    assert len(plain.query(flat, n_instances=3, random_state=0)[0]) == 3
    plain.teach(flat[:12], Y[:12])
    expected = np.argsort(-classifier_entropy(plain.estimator, flat), kind="stable")[:3]
    np.testing.assert_array_equal(plain.query(flat, n_instances=3)[0], expected)


@pytest.mark.parametrize(
    ("utility", "message"),
    [
        (lambda classifier, X: np.ones((len(X), 2)), r"shape \(48, 2\) for 48 candidates"),
        (lambda classifier, X: np.full(len(X), np.nan), "NaN for 48 of 48"),
    ],
)
def test_a_utility_that_is_none_is_refused(utility, message, learner):
    learner.query_strategy = make_query_strategy(utility)
    with pytest.raises(DataError, match=message):
        learner.query(X, n_instances=3)


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        (("entropy",), {}),
        ((patch_entropy,), {"selection": "k-centre", "omega": 0.5}),
        ((patch_entropy,), {"cold_start": "pretrained"}),
        ((patch_entropy,), {"selection": "best"}),
    ],
)
def test_a_strategy_of_bad_parameters_is_refused_when_it_is_made(arguments, params):
    with pytest.raises(ParameterError):
        make_query_strategy(*arguments, **params)
