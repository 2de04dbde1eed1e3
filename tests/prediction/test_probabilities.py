"""What an estimator gives in the place of probabilities is refused wherever it is asked."""

import numpy as np
import pytest
from modAL.uncertainty import classifier_entropy, classifier_uncertainty
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNFeatures
from aift_sklearn.errors import DataError
from aift_sklearn.query import make_query_strategy

RNG = np.random.default_rng(0)
F = RNG.normal(size=(40, 3))
Y = np.where(F[:, 0] > 0, "b", "a")


class Mine(LogisticRegression):
    """A user's own classifier, whose probabilities are changed by a function."""

    def __init__(self, change=None):
        super().__init__()
        self.change = change

    def predict_proba(self, X):
        return self.change(super().predict_proba(X))


RANGE = r"values from \S+ to \S+; expected probabilities in \[0, 1\]"
WRONG = {
    "logits": (np.log, RANGE),
    "percentages": (lambda P: 100 * P, RANGE),
    "one too large": (lambda P: P + np.array([0, 0.5]), RANGE),
    "halves": (lambda P: P / 2, r"rows that sum to 0\.5; expected 1"),
    "of each class by itself": (lambda P: np.minimum(2 * P, 1), r"rows that sum to [12]"),
    "one column": (lambda P: P[:, 1], r"shape \(\d+,\); expected \(\d+, 2\)"),
    "a column too many": (lambda P: np.pad(P, ((0, 0), (0, 1))), r"shape \(\d+, 3\); expected"),
}

ASKS = {
    "predict": lambda model: model.predict(F),
    "predict_proba": lambda model: model.predict_proba(F),
    "predict_patch_proba": lambda model: model.predict_patch_proba(F),
    "score": lambda model: model.score(F, Y),
    "score_candidates": lambda model: model.score_candidates(F),
    "top_candidates": lambda model: model.top_candidates(F, 3),
    "replay": lambda model: model.partial_fit(F[30:], Y[30:]),
    **{
        utility.__name__: lambda model, utility=utility: AIFTLearner(
            model, make_query_strategy(utility)
        ).query(F, n_instances=3)
        for utility in (classifier_uncertainty, classifier_entropy)
    },
    "query": lambda model: AIFTLearner(model).query(F, n_instances=3),
}


class Continues(Mine):
    """Has a ``partial_fit``, so that the hard ones are found by predicting them."""

    def partial_fit(self, X, y, classes=None):
        return self.fit(X, y)


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_probability_is_refused_naming_the_estimator(wrong, ask):
    change, message = WRONG[wrong]
    model = AIFTClassifier(Continues(change), random_state=0).fit(F[:30], Y[:30])
    with pytest.raises(DataError, match=rf"predict_proba of Continues gives {message}"):
        ASKS[ask](model)


def test_the_step_of_a_pipeline_is_named():
    pipeline = make_pipeline(StandardScaler(), Mine(lambda P: -P))
    model = AIFTClassifier(pipeline, random_state=0).fit(F, Y)
    with pytest.raises(DataError, match="predict_proba of Mine gives values from"):
        model.predict(F)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_a_head_behind_a_network_is_refused_by_every_backend(backend):
    X, y = make_blobs(30)
    features = CNNFeatures(lambda: nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), pretrained=False)
    pipeline = make_pipeline(features, Mine(lambda P: 2 * P))
    model = AIFTClassifier(pipeline, patches=AffinePatches(3), backend=backend, random_state=0)
    model.fit(X, y)
    with pytest.raises(DataError, match="predict_proba of Mine gives values from"):
        model.predict(X)


@pytest.mark.parametrize("change", [lambda P: P + 1e-7, lambda P: P.astype(np.float16), np.round])
def test_rounding_is_no_fault(change):
    model = AIFTClassifier(Mine(change), random_state=0).fit(F, Y)
    assert np.abs(model.predict_proba(F).sum(axis=1) - 1).max() < 1e-3


def test_what_is_not_finite_still_names_its_candidate():
    def change(P):
        P[len(P) // 2 :] = np.inf
        return P

    model = AIFTClassifier(Mine(change), random_state=0).fit(F, Y)
    with pytest.raises(DataError, match=r"not finite.*candidates 20, 21"):
        model.predict(F)


def test_pretrained_probabilities_are_checked_too():
    class Pretrained(Mine):
        def pretrained_proba(self, X):
            return np.full((len(X), 5), 0.3)

    model = AIFTClassifier(Pretrained(lambda P: P), random_state=0).fit(F, Y)
    with pytest.raises(
        DataError, match=r"pretrained_proba of Pretrained gives rows that sum to 1\.5"
    ):
        model.pretrained_patch_proba(F)
