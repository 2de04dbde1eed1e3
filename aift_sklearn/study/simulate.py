"""Simulated campaigns: what a strategy would have asked, and what the model would have learnt.

The oracle knows all labels of the pool and gives those that are asked for. Strategies of one seed
share everything but their questions (paired), so their differences are the strategies'.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from .._checks import check_int
from ..errors import DataError, LabelError, ParameterError
from ..learner import AIFTLearner
from ..progress import ProgressBar
from ..query import aift_sampling
from .datasets import Dataset
from .strategies import Strategy, ask, build_strategy

__all__ = ["evaluate", "read_table", "simulate", "whole_pool", "write_table"]

Array = NDArray[Any]


def simulate(
    dataset: Dataset,
    estimator: Any,
    strategies: Iterable[str] | Mapping[str, Strategy] = ("random", "AIFT"),
    *,
    n_rounds: int = 8,
    n_instances: int = 20,
    seeds: Iterable[int] = (0,),
    restart: bool = False,
    first_batch: Strategy = aift_sampling,
    on_round: Callable[[dict[str, Any]], None] | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Run an active-learning campaign with each strategy and record what it cost and gained.

    Parameters
    ----------
    dataset : Dataset
        Pool, oracle and test set.
    estimator : AIFTClassifier
        What learns; cloned for every seed, which becomes its ``random_state``. ``classes`` are
        set to those of the data set unless given.
    strategies : iterable of str, or mapping of str to callable, default=("random", "AIFT")
        Names of `aift_sklearn.study.strategies.STRATEGIES`, or modAL strategies by a name of
        your own.
    n_rounds : int, default=8
        Rounds, the first batch among them.
    n_instances : int, default=20
        Labels asked per round, b.
    seeds : iterable of int, default=(0,)
        One campaign of each strategy per seed. One or two seeds prove little.
    restart : bool, default=False
        Train anew from the pre-trained weights on all labels in every round (RFT, AFT) instead of
        continuing (ACFT).
    first_batch : callable, default=aift_sampling
        Strategy of the first batch, which all strategies of a seed share; by default the typical
        cold start.
    on_round : callable, optional
        Called with each new row of the table, for output while the simulation runs.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    DataFrame
        Tidy, one row per strategy × seed × round: strategy, seed, round (0 is the first batch),
        n_labels, auc (macro one-vs-rest, NaN while one class was seen), balanced_accuracy, one
        column n_<class> of labels per class, score_seconds, train_seconds, and asked, the list of
        pool indices asked in that round.

    Raises
    ------
    ParameterError
        If a parameter is outside its range or a strategy is unknown.
    DataError
        If the pool holds fewer candidates than would be asked.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AffinePatches, AIFTClassifier
    >>> from aift_sklearn.study import load_tissue
    >>> class Thumbnails(LogisticRegression):  # a fast stand-in for a CNN
    ...     def fit(self, X, y): return super().fit(X.reshape(len(X), -1), y)
    ...     def predict_proba(self, X): return super().predict_proba(X.reshape(len(X), -1))
    >>> clf = AIFTClassifier(Thumbnails(C=0.1), patches=AffinePatches.for_microscopy(size=8))
    >>> table = simulate(load_tissue(32), clf, n_rounds=3, n_instances=10)
    >>> table[["strategy", "round", "n_labels"]]
      strategy  round  n_labels
    0   random      0        10
    1   random      1        20
    2   random      2        30
    3     AIFT      0        10
    4     AIFT      1        20
    5     AIFT      2        30
    """
    named = _named(strategies)
    seeds = [check_int("seeds", seed, minimum=0) for seed in seeds]
    check_int("n_rounds", n_rounds, minimum=1)
    check_int("n_instances", n_instances, minimum=1)
    _check_dataset(dataset, n_rounds * n_instances)
    if not (seeds and named):
        raise ParameterError("no seeds or no strategies; expected at least one of each.")
    rows: list[dict[str, Any]] = []
    total = len(seeds) * (1 + len(named) * (n_rounds - 1))
    with ProgressBar("simulating", total, enabled=bool(verbose)) as bar:
        for seed in seeds:
            campaign = _Campaign(dataset, _prepared(estimator, dataset, seed), seed, restart)
            first = campaign.run_round(first_batch, n_instances)
            bar.advance()
            for name, strategy in named.items():
                # Copied after the first batch, which is the same for all.
                branch = copy.deepcopy(campaign)
                for number in range(n_rounds):
                    row = first if number == 0 else branch.run_round(strategy, n_instances)
                    rows.append({"strategy": name, **row})
                    if on_round is not None:
                        on_round(rows[-1])
                    if number:
                        bar.advance()
    return pd.DataFrame(rows)


class _Campaign:
    """One learner, what it asked so far, and the oracle."""

    def __init__(self, dataset: Dataset, estimator: Any, seed: int, restart: bool) -> None:
        self.dataset, self.seed, self.restart = dataset, seed, restart
        self.learner = AIFTLearner(estimator)
        self.asked = np.empty(0, dtype=np.intp)
        self.number = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> _Campaign:
        twin = copy.copy(self)
        twin.learner = copy.deepcopy(self.learner, memo)
        return twin

    def run_round(self, strategy: Strategy, n_instances: int) -> dict[str, Any]:
        """Ask, learn, and measure."""
        data = self.dataset
        left = np.setdiff1d(np.arange(len(data.X)), self.asked)
        start = time.perf_counter()
        seed = int(np.random.SeedSequence((self.seed, self.number)).generate_state(1)[0])
        new = left[ask(strategy, self.learner, data.X[left], n_instances, seed)]
        scored = time.perf_counter()
        self.asked = np.concatenate([self.asked, new])
        if self.restart:
            self.learner.fit(data.X[self.asked], data.y[self.asked])
        else:
            self.learner.teach(data.X[new], data.y[new])
        trained = time.perf_counter()
        labels = data.y[self.asked]
        row: dict[str, Any] = {
            "seed": self.seed,
            "round": self.number,
            "n_labels": len(labels),
            **evaluate(self.learner.estimator, data),
            **{f"n_{c}": int((labels == c).sum()) for c in data.classes},
            "score_seconds": scored - start,
            "train_seconds": trained - scored,
            "asked": new.tolist(),
        }
        self.number += 1
        return row


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


def whole_pool(dataset: Dataset, estimator: Any, *, seed: int = 0) -> dict[str, float]:
    """Measure what labelling the whole pool would give: the line that curves approach.

    Parameters
    ----------
    dataset : Dataset
        Pool and test set.
    estimator : AIFTClassifier
        Cloned and fitted to every label of the pool.
    seed : int, default=0
        Its ``random_state``.

    Returns
    -------
    dict
        auc and balanced_accuracy, as of `evaluate`.
    """
    return evaluate(_prepared(estimator, dataset, seed).fit(dataset.X, dataset.y), dataset)


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write the table of `simulate` as JSON lines, which keep the lists in ``asked``."""
    path = Path(path)
    table.to_json(path, orient="records", lines=True, double_precision=12)
    return path


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote."""
    table = pd.read_json(Path(path), orient="records", lines=True, dtype=False)
    measured = ["auc", "balanced_accuracy", "score_seconds", "train_seconds"]
    return table.astype(dict.fromkeys(measured, "float64"))


def _named(strategies: Iterable[str] | Mapping[str, Strategy]) -> dict[str, Strategy]:
    if isinstance(strategies, Mapping):
        return dict(strategies)
    if isinstance(strategies, str):
        strategies = [strategies]
    return dict(build_strategy(name) for name in strategies)


def _prepared(estimator: Any, dataset: Dataset, seed: int) -> Any:
    estimator = clone(estimator)
    params = estimator.get_params(deep=False)
    if params.get("classes", "none such") is None:
        estimator.set_params(classes=dataset.classes)
    if "random_state" in params:
        estimator.set_params(random_state=seed)
    return estimator


def _check_dataset(dataset: Dataset, n_asked: int) -> None:
    if n_asked > len(dataset.X):
        raise DataError(
            f"n_rounds x n_instances = {n_asked} labels of a pool of {len(dataset.X)} candidates; "
            "ask less in a round, or in fewer rounds."
        )
    if len(np.unique(dataset.y_test)) < 2:
        raise DataError("the test set holds one class; nothing can be told apart on it.")
    if "labels" in dataset.classes:
        raise LabelError(
            "a class named 'labels' would collide with the column n_labels; rename it."
        )
