"""Strategies of scikit-activeml, all of them, on candidates of this package."""

import inspect
import sys

import numpy as np
import pytest
from modAL.models import ActiveLearner
from samples import make_blobs
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from aift_sklearn import AIFTClassifier, AIFTLearner
from aift_sklearn.errors import DataError, MissingDependencyError, ParameterError
from aift_sklearn.query import from_skactiveml
from aift_sklearn.query.labelled import labelled_candidates
from aift_sklearn.query.places import PoolPlaces

pool = pytest.importorskip("skactiveml.pool", reason="the extra skactiveml is not installed")

B = 4
# What these want to be told at the least.
PARAMETERS = {
    "Quire": {"classes": [0, 1, 2]},
    "CostEmbeddingAL": {"classes": [0, 1, 2]},
    "SubSamplingWrapper": {"query_strategy": pool.Clue(), "max_candidates": 20},
    "ParallelUtilityEstimationWrapper": {"query_strategy": pool.Badge()},
    "ExpectedErrorReduction": {"enforce_mapping": False},
}
# Of regressions.
REFUSED = {
    "ExpectedModelChangeMaximization", "ExpectedModelOutputChange",
    "ExpectedModelVarianceReduction", "GreedySamplingTarget", "KLDivergenceMaximization",
    "RegressionTreeBasedAL",
}  # fmt: skip
# An abstract class; one that chooses a single candidate; one for two classes.
OTHERS = {
    "ExpectedErrorReduction", "ParallelUtilityEstimationWrapper", "EpistemicUncertaintySampling",
}  # fmt: skip
KINDS = {
    name: kind
    for name in pool.__all__
    if inspect.isclass(kind := getattr(pool, name)) and hasattr(kind, "query")
}


@pytest.fixture(scope="module")
def blobs():
    X = np.random.default_rng(0).normal(size=(70, 3))
    return X, np.array(["c", "a", "b"])[np.abs(X).argmax(axis=1)]


def taught(strategy, blobs, n=16, kind=AIFTLearner):
    X, y = blobs
    learner = kind(AIFTClassifier(LogisticRegression(), random_state=0), strategy)
    learner.teach(X[:n], y[:n])
    return learner


def ask(learner, X, b=B, **params):
    return learner.query(X, n_instances=b, random_state=0, **params)[0]


@pytest.mark.parametrize("name", sorted(set(KINDS) - REFUSED - OTHERS))
def test_every_strategy_asks_for_some_of_the_pool_and_the_same_when_seeded(name, blobs):
    learner = taught(from_skactiveml(KINDS[name](**PARAMETERS.get(name, {}))), blobs)
    asked = ask(learner, blobs[0][16:])
    assert len(set(asked.tolist())) == B
    assert 0 <= asked.min() <= asked.max() < 54
    assert ask(learner, blobs[0][16:]).tolist() == asked.tolist()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_those_that_need_a_regressor_are_refused(name):
    with pytest.raises(ParameterError, match=f"{name} needs reg, which"):
        from_skactiveml(KINDS[name]())


def test_one_for_two_classes_asks_of_two(blobs):
    X, _ = blobs
    y = np.where(X[:, 0] + 0.5 * X[:, 1] > 0, "benign", "malignant")
    learner = taught(from_skactiveml(pool.EpistemicUncertaintySampling()), (X, y))
    assert len(set(ask(learner, X[16:]).tolist())) == B


def test_one_at_a_time_is_asked_so(blobs):
    strategy = pool.ParallelUtilityEstimationWrapper(pool.UncertaintySampling())
    learner = taught(from_skactiveml(strategy), blobs)
    expected = taught(from_skactiveml(pool.UncertaintySampling()), blobs)
    assert ask(learner, blobs[0][16:], 1) == ask(expected, blobs[0][16:], 1)


@pytest.mark.parametrize("kind", [AIFTLearner, ActiveLearner])
def test_uncertainty_is_that_of_the_estimator(blobs, kind):
    learner = taught(from_skactiveml(pool.UncertaintySampling("margin_sampling")), blobs, kind=kind)
    rest = blobs[0][16:]
    sorted_proba = np.sort(learner.estimator.predict_proba(rest), axis=1)
    margin = sorted_proba[:, -1] - sorted_proba[:, -2]
    assert ask(learner, rest, 6).tolist() == np.argsort(margin)[:6].tolist()


def test_core_sets_are_those_of_the_embeddings(blobs):
    learner = taught(from_skactiveml(pool.CoreSet()), blobs)
    known, rest = blobs[0][:16], blobs[0][16:]
    expected = []
    for _ in range(B):
        distance = cdist(rest, np.concatenate([known, rest[expected]])).min(axis=1)
        expected.append(int(distance.argmax()))
    assert ask(learner, rest).tolist() == expected


def test_a_committee_is_the_patches(blobs):
    learner = taught(from_skactiveml(pool.QueryByCommittee("KL_divergence")), blobs)
    rest = blobs[0][16:]
    P = learner.estimator.predict_patch_proba(rest).astype(float)
    P /= P.sum(axis=2, keepdims=True)
    mean = P.mean(axis=1, keepdims=True)
    disagreement = (P * np.log(P / mean)).sum(axis=2).mean(axis=1)
    assert ask(learner, rest).tolist() == np.argsort(-disagreement)[:B].tolist()


def test_images_are_told_by_their_embeddings():
    X, y = make_blobs(24, size=16)

    class Embeds(LogisticRegression):
        def fit(self, X, y):
            return super().fit(X.reshape(len(X), -1), y)

        def predict_proba(self, X):
            return super().predict_proba(X.reshape(len(X), -1))

        def embed(self, X):
            return X.mean(axis=(2, 3))

    learner = AIFTLearner(AIFTClassifier(Embeds()), from_skactiveml(pool.CoreSet()))
    learner.teach(X[:8], y[:8])
    known, rest = (learner.estimator.embed(part) for part in (X[:8], X[8:]))
    first = int(cdist(rest, known).min(axis=1).argmax())
    assert ask(learner, X[8:], 1).tolist() == [first]


def test_the_first_batch_is_the_typical_one(blobs):
    from aift_sklearn import aift_sampling

    learner = AIFTLearner(AIFTClassifier(LogisticRegression()), from_skactiveml(pool.Badge()))
    first = AIFTLearner(AIFTClassifier(LogisticRegression()), aift_sampling)
    assert ask(learner, blobs[0], 5).tolist() == ask(first, blobs[0], 5).tolist()


@pytest.mark.parametrize(
    ("strategy", "options", "error", "message"),
    [
        ("Badge", {}, ParameterError, "expected an object of skactiveml.pool"),
        (pool.Badge, {}, ParameterError, "expected an object of skactiveml.pool"),
        (pool.Badge(), {"cold_start": "warm"}, ParameterError, "^cold_start='warm'"),
    ],
)
def test_what_is_no_strategy_is_refused(strategy, options, error, message):
    with pytest.raises(error, match=message):
        from_skactiveml(strategy, **options)


def test_who_remembers_no_labels_is_named(blobs):
    X, y = blobs
    fitted = LogisticRegression().fit(X[:16], y[:16])
    with pytest.raises(ParameterError, match="no LogisticRegression remembers any"):
        from_skactiveml(pool.Badge())(fitted, X[16:], 3)


def test_more_than_the_pool_are_refused(blobs):
    with pytest.raises(DataError, match="n_instances=9 of a pool of 8"):
        ask(taught(from_skactiveml(pool.Badge()), blobs), blobs[0][:8], 9)


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skactiveml.base", None)
    with pytest.raises(MissingDependencyError, match="scikit-activeml, which is not installed"):
        from_skactiveml(pool.Badge())


def test_labels_are_found_with_the_classifier_or_its_learner(blobs):
    X, y = blobs
    remembers = AIFTClassifier(LogisticRegression()).fit(X[:9], y[:9])
    learner = ActiveLearner(LogisticRegression(), X_training=X[:9], y_training=y[:9])
    for classifier in (remembers, learner, AIFTLearner(remembers)):
        known, labels = labelled_candidates(classifier)
        np.testing.assert_array_equal(known, X[:9])
        assert labels.tolist() == y[:9].tolist()
    assert labelled_candidates(AIFTLearner(LogisticRegression()))[0] is None


@pytest.mark.parametrize("name", ["TypiClust", "ProbCover", "CoreSet", "MaxHerding"])
def test_an_own_first_batch_is_what_the_strategy_chooses_without_labels(name, blobs):
    X, _ = blobs
    learner = AIFTLearner(
        AIFTClassifier(LogisticRegression(), classes=["a", "b", "c"]),
        from_skactiveml(KINDS[name](), cold_start="own"),
    )
    asked = ask(learner, X)
    nothing = np.full(len(X), np.nan)
    seed = int(np.random.default_rng(0).integers(2**31))
    alone = from_skactiveml(KINDS[name]()).strategy.set_params(random_state=seed)
    for given in alone.get_params():
        if given == "cluster_algo_dict":
            alone.set_params(cluster_algo_dict={"random_state": seed})
    places = PoolPlaces(learner.estimator, X).embed_pool().astype(np.float64)
    expected = alone.query(X=places, y=nothing, batch_size=B)
    assert asked.tolist() == expected.tolist()
    typical = ask(
        AIFTLearner(AIFTClassifier(LogisticRegression()), from_skactiveml(KINDS[name]())), X
    )
    assert asked.tolist() != typical.tolist()
    # Of one class alone it goes on, away from what is known.
    learner.teach(X[asked], ["a"] * B)
    again = ask(learner, np.delete(X, asked, axis=0))
    assert len(set(again.tolist())) == B


def test_one_that_needs_a_classifier_begins_at_random(blobs):
    X, _ = blobs
    learner = AIFTLearner(
        AIFTClassifier(LogisticRegression(), classes=["a", "b", "c"]),
        from_skactiveml(pool.Badge(), cold_start="own"),
    )
    expected = np.random.default_rng(0).choice(len(X), B, replace=False)
    assert ask(learner, X).tolist() == expected.tolist()
