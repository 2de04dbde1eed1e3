"""A campaign with an oracle, round by round: ask, learn, and measure what was learnt."""

from __future__ import annotations

import copy
import time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ..learner import AIFTLearner
from ..scores import prediction_pattern
from .datasets import Dataset
from .strategies import Strategy, ask

__all__ = ["SimulatedCampaign", "evaluate"]


class SimulatedCampaign:
    """One learner, what it asked so far, and the oracle.

    Parameters
    ----------
    dataset : Dataset
        Pool, oracle and test set.
    estimator : AIFTClassifier
        What learns.
    seed : int
        Seed of its questions.
    n_instances : int
        Labels asked per round, b.
    restart : bool
        Whether every round trains anew on all labels.
    groups : bool
        Whether strategies are given the groups of the data set.
    pool_weights : bool or "auto"
        As of `AIFTLearner`; the pool is that of the data set.
    """

    def __init__(
        self,
        dataset: Dataset,
        estimator: Any,
        seed: int,
        *,
        n_instances: int,
        restart: bool = False,
        groups: bool = False,
        pool_weights: bool | Literal["auto"] = "auto",
    ) -> None:
        self.dataset, self.seed = dataset, seed
        self.n_instances, self.restart, self.groups = n_instances, restart, groups
        self.learner = AIFTLearner(estimator, pool_weights=pool_weights).set_pool(dataset.X)
        self.asked = np.empty(0, dtype=np.intp)
        self.number = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedCampaign:
        twin = copy.copy(self)
        twin.learner = copy.deepcopy(self.learner, memo).set_pool(self.dataset.X)
        return twin

    def run_round(self, strategy: Strategy) -> dict[str, Any]:
        """Ask, learn, and measure."""
        data = self.dataset
        left = np.setdiff1d(np.arange(len(data.X)), self.asked)
        groups = data.groups[left] if self.groups and data.groups is not None else None
        seed = int(np.random.SeedSequence((self.seed, self.number)).generate_state(1)[0])
        start = time.perf_counter()
        asked = ask(strategy, self.learner, data.X[left], self.n_instances, seed, groups)
        scored = time.perf_counter()
        new = left[asked]
        seen = _what_it_saw(self.learner.estimator, data.X[new])
        number = self.number
        start_training = time.perf_counter()
        self._teach([new])
        trained = time.perf_counter()
        labels = data.y[self.asked]
        return {
            "seed": self.seed,
            "round": number,
            "n_labels": len(labels),
            **evaluate(self.learner.estimator, data),
            **{f"n_{c}": int((labels == c).sum()) for c in data.classes},
            "score_seconds": scored - start,
            "train_seconds": trained - start_training,
            "asked": new.tolist(),
            **seen,
        }

    def replay(self, batches: list[list[int]]) -> None:
        """Learn again what was asked before, so that the campaign goes on from there."""
        self._teach([np.asarray(batch, dtype=np.intp) for batch in batches])

    def _teach(self, batches: list[NDArray[np.intp]]) -> None:
        data = self.dataset
        for new in batches:
            self.asked = np.concatenate([self.asked, new])
            self.number += 1
            if not self.restart:
                self.learner.teach(data.X[new], data.y[new])
        if self.restart and batches:
            self.learner.fit(data.X[self.asked], data.y[self.asked])


def _what_it_saw(estimator: Any, X: Any) -> dict[str, Any]:
    """Patch probabilities of the candidates that are asked about, and their patterns."""
    if len(getattr(estimator, "classes_seen_", ())) < 2:
        return {"patch_proba": None, "pattern": None}
    P = estimator.predict_patch_proba(X)
    rounded = np.round(P.astype(np.float64), 4)
    return {"patch_proba": rounded.tolist(), "pattern": prediction_pattern(P).tolist()}


def evaluate(estimator: Any, dataset: Dataset) -> dict[str, float]:
    """Measure a fitted classifier on the test set.

    Parameters
    ----------
    estimator : AIFTClassifier
        Fitted.
    dataset : Dataset
        Its test set is used.

    Returns
    -------
    dict
        auc, macro one-vs-rest ROC AUC over the classes of the test set, NaN while the classifier
        has seen one class only; and balanced_accuracy.
    """
    proba = estimator.predict_proba(dataset.X_test)
    predicted = estimator.classes_[proba.argmax(axis=1)]
    auc = np.nan
    if len(getattr(estimator, "classes_seen_", estimator.classes_)) > 1:
        present = [k for k, c in enumerate(estimator.classes_) if (dataset.y_test == c).any()]
        truth = [dataset.y_test == estimator.classes_[k] for k in present]
        auc = float(
            np.mean([roc_auc_score(t, proba[:, k]) for t, k in zip(truth, present, strict=True)])
        )
    # By hand: scikit-learn warns of a predicted class that the test set lacks.
    recalls = [np.mean(predicted[dataset.y_test == c] == c) for c in np.unique(dataset.y_test)]
    return {"auc": auc, "balanced_accuracy": float(np.mean(recalls))}
