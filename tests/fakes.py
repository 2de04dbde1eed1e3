"""A classifier in ten lines: it looks probabilities up, and counts."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from aift_sklearn import AIFTClassifier
from aift_sklearn.errors import ModelNotFittedError
from aift_sklearn.scores import patch_consistency


class TableModel(ClassifierMixin, BaseEstimator):
    """Scores candidates by a table of patch probabilities; candidate i is the row [i]."""

    def __init__(self, table, embeddings=None):
        self.table = table
        self.embeddings = embeddings

    def fit(self, X, y):
        self.classes_seen_, self.taught_ = [], []
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        self.classes_seen_ = np.unique(np.append(getattr(self, "classes_seen_", []), y))
        self.taught_ = [*getattr(self, "taught_", []), *np.asarray(X)[:, 0].tolist()]
        return self

    def score_candidates(self, X, **consistency):
        if not hasattr(self, "classes_seen_"):
            raise ModelNotFittedError("no labels yet")
        return patch_consistency(self.table[np.asarray(X)[:, 0].astype(int)], **consistency)

    def predict(self, X):
        return self.table[np.asarray(X)[:, 0].astype(int)].mean(axis=1).argmax(axis=1)


def spied_classifier():
    """An AIFTClassifier that notes its calls as (method, number of candidates), and the notes."""
    calls = []

    class Spy(AIFTClassifier):
        def fit(self, X, y):
            calls.append(("fit", len(X)))
            return super().fit(X, y)

        def partial_fit(self, X, y, classes=None):
            calls.append(("partial_fit", len(X)))
            return super().partial_fit(X, y, classes)

    return Spy, calls


class Pixels(LogisticRegression):
    """A fast classifier of images: it flattens them."""

    def fit(self, X, y):
        return super().fit(X.reshape(len(X), -1), y)

    def predict_proba(self, X):
        return super().predict_proba(X.reshape(len(X), -1))
