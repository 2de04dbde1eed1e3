"""What modAL, pipelines, searches and committees hand to a query."""

import numpy as np
import pytest
from modAL.disagreement import vote_entropy
from modAL.models import ActiveLearner, Committee
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from aift_sklearn import AIFTClassifier, AIFTLearner, aift_sampling, patch_entropy
from aift_sklearn.errors import DataTypeError
from aift_sklearn.query import make_query_strategy
from aift_sklearn.query.unwrapping import candidate_scorer, knows_two_classes, unwrapped

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
y = (X[:, 0] > 0).astype(int)


def inner():
    return AIFTClassifier(LogisticRegression())


def scaled(classifier=None):
    return make_pipeline(StandardScaler(), classifier or inner())


def searched(estimator, grid):
    return GridSearchCV(estimator, grid, cv=2)


class OtherSearch(BaseEstimator):
    """A search of another package, not yet fitted."""

    def __init__(self, estimator, param_space):
        self.estimator, self.param_space = estimator, param_space


def committee():
    return Committee([AIFTLearner(inner(), aift_sampling, X, y) for _ in range(2)])


WRAPPED = {
    "pipeline": (lambda: scaled().fit(X, y), r"AIFTClassifier\(make_pipeline\(StandardScaler\(\)"),
    "unfitted pipeline": (scaled, r"put the steps inside it"),
    "deep pipeline": (
        lambda: Pipeline([("a", StandardScaler()), ("b", scaled())]),
        r"put the steps inside it",
    ),
    "search": (
        lambda: searched(inner(), {"training_patches": [1, 2]}).fit(X, y),
        "Query with its best_estimator_ in place",
    ),
    "unfitted search": (
        lambda: searched(inner(), {"training_patches": [1, 2]}),
        "Fit the GridSearchCV, and query with its best_estimator_",
    ),
    "random search": (
        lambda: RandomizedSearchCV(inner(), {"replay": ["all"]}, n_iter=1, cv=2).fit(X, y),
        "best_estimator_",
    ),
    "unfitted random search": (
        lambda: RandomizedSearchCV(inner(), {"replay": ["all"]}),
        "Fit the RandomizedSearchCV, and query with its best_estimator_",
    ),
    "search of another package": (
        lambda: OtherSearch(inner(), {"replay": ["all"]}),
        "Fit the OtherSearch, and query with its best_estimator_",
    ),
    "search of pipelines": (
        lambda: searched(scaled(), {"aiftclassifier__replay": ["all"]}).fit(X, y),
        "best_estimator_, a Pipeline, in place",
    ),
    "pipeline of a search": (
        lambda: scaled(searched(inner(), {"replay": ["all"]})).fit(X, y),
        "put the steps inside it",
    ),
    "committee": (committee, r"learner_list\[0\]\.query"),
    "calibration": (
        lambda: CalibratedClassifierCV(inner(), cv=2),
        r"AIFTClassifier\(CalibratedClassifierCV\(\.\.\.\)\)",
    ),
    "bagging": (lambda: BaggingClassifier(inner()), r"AIFTClassifier\(BaggingClassifier\("),
    "voting": (lambda: VotingClassifier([("a", inner())]), r"AIFTClassifier\(VotingClassifier\("),
}


@pytest.mark.parametrize("ask", [aift_sampling, patch_entropy], ids=["query", "utility"])
@pytest.mark.parametrize("learner", [None, ActiveLearner, AIFTLearner])
@pytest.mark.parametrize("name", WRAPPED)
def test_a_classifier_that_is_wrapped_is_seen_and_the_way_out_is_told(name, learner, ask):
    build, way_out = WRAPPED[name]
    wrapped = build() if learner is None else learner(build(), aift_sampling)
    with pytest.raises(DataTypeError, match=way_out) as caught:
        ask(wrapped, X)
    assert "AIFTClassifier inside it can" in str(caught.value)


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression()), None]
)
def test_where_there_is_none_inside_it_says_to_wrap(estimator):
    with pytest.raises(DataTypeError, match=rf"AIFTClassifier\({type(estimator).__name__}"):
        aift_sampling(estimator, X)


def test_what_the_messages_advise_works():
    right = AIFTClassifier(make_pipeline(StandardScaler(), LogisticRegression())).fit(X, y)
    assert candidate_scorer(AIFTLearner(right)) is right
    search = searched(inner(), {"replay": ["all"]}).fit(X, y)
    assert len(AIFTLearner(search.best_estimator_).query(X, n_instances=3)[0]) == 3
    assert len(committee().learner_list[0].query(X, n_instances=3)[0]) == 3


def test_parts_that_hold_each_other_end_the_search():
    class Ring(ClassifierMixin, BaseEstimator):
        def predict(self, X):
            return X

    a, b = Ring(), Ring()
    a.other, b.others = b, [a, (a, b)]
    with pytest.raises(DataTypeError, match=r"AIFTClassifier\(Ring"):
        aift_sampling(a, X)


class Untouched(list):
    """Labels of many candidates."""

    def __iter__(self):
        raise AssertionError("they were searched for a classifier")


def test_the_labels_that_members_keep_are_not_searched():
    members = [ActiveLearner(LogisticRegression(), X_training=X, y_training=y) for _ in range(2)]
    for member in members:
        member.X_training = member.y_training = Untouched([0, 1])
    with pytest.raises(DataTypeError, match=r"AIFTClassifier\(Committee"):
        aift_sampling(Committee(members), X)


def test_a_learner_that_scores_candidates_is_asked_itself():
    class Scoring(AIFTLearner):
        def score_candidates(self, X, **consistency):
            return X[:, 1]

    learner = Scoring(LogisticRegression(), aift_sampling, X, y)
    assert candidate_scorer(learner) is learner


def test_the_copy_inside_a_search_is_not_taken_for_what_it_found():
    search = searched(LogisticRegression(), {"C": [1.0]})
    assert unwrapped(search) is search
    assert unwrapped(ActiveLearner(search)) is search


def test_committees_can_be_asked_by_a_utility():
    strategy = make_query_strategy(vote_entropy, cold_start="random")
    untaught = Committee([AIFTLearner(inner()) for _ in range(2)], strategy)
    assert not knows_two_classes(untaught)
    assert len(untaught.query(X, n_instances=3)[0]) == 3
    taught = committee()
    taught.query_strategy = strategy
    indices, rows = taught.query(X, n_instances=3)
    np.testing.assert_array_equal(rows, X[indices])
