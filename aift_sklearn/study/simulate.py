"""Simulated campaigns: what a strategy would have asked, and what the model would have learnt.

The oracle knows all labels of the pool and gives those that are asked for. Strategies of one seed
share everything but their questions (paired), so their differences are the strategies'.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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
from ..scores import prediction_pattern
from .datasets import Dataset
from .frozen import can_freeze, freeze
from .strategies import Strategy, ask, build_strategy
from .tables import Journal, as_frame

__all__ = ["evaluate", "simulate", "whole_pool"]

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
    groups: bool = False,
    first_batch: Strategy = aift_sampling,
    path: str | os.PathLike[str] | None = None,
    precompute: bool = True,
    on_round: Callable[[dict[str, Any]], None] | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Run an active-learning campaign with each strategy and record what it cost and gained.

    Parameters
    ----------
    dataset : Dataset
        Pool, oracle and test set.
    estimator : AIFTClassifier, or mapping of str to AIFTClassifier
        What learns; cloned for every seed, which becomes its ``random_state``. ``classes`` are
        set to those of the data set unless given. Several heads, by a name of your own, are
        compared on the same pool.
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
    groups : bool, default=False
        Hand ``dataset.groups`` to strategies that take groups, so that a batch is spread over
        patients or slides.
    first_batch : callable, default=aift_sampling
        Strategy of the first batch, which all strategies of a seed share; by default the typical
        cold start.
    path : path-like, optional
        A ``.jsonl`` file to which every finished round is written at once. Rounds that it holds
        are not run again: an interrupted study goes on where it was, and a finished one can be
        extended by strategies, seeds and rounds.
    precompute : bool, default=True
        Embed the patches of a pipeline that starts with `CNNFeatures` once instead of in every
        round. The answers are the same; the embeddings, n·m·E float32, lie in memory, or in a
        temporary file where they are more than 4 GiB.
    on_round : callable, optional
        Called with each new row of the table, for output while the simulation runs.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    DataFrame
        Tidy, one row per strategy × seed × round (× head): strategy, seed, round (0 is the first
        batch), n_labels, auc (macro one-vs-rest, NaN while one class was seen),
        balanced_accuracy, one column n_<class> of labels per class, score_seconds,
        train_seconds, asked (the list of pool indices asked in that round), patch_proba (for each
        of them the m by K probabilities that the model gave before it was taught, to four
        decimals; None in the cold start) and pattern (their `prediction_pattern`). With several
        heads, the column head comes first.

    Raises
    ------
    ParameterError
        If a parameter is outside its range, a strategy is unknown, or ``path`` holds a study with
        other settings.
    DataError
        If the pool holds fewer candidates than would be asked, or pool and test set do not fit
        each other.

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
    heads = dict(estimator) if isinstance(estimator, Mapping) else {"": estimator}
    seeds = [check_int("seeds", seed, minimum=0) for seed in seeds]
    check_int("n_rounds", n_rounds, minimum=1)
    check_int("n_instances", n_instances, minimum=1)
    _check_dataset(dataset, n_rounds * n_instances)
    if not (seeds and named and heads):
        raise ParameterError("no seeds, strategies or heads; expected at least one of each.")
    if groups and dataset.groups is None:
        raise ParameterError(f"groups=True, but the data set {dataset.name!r} has no groups.")
    settings = _settings(dataset, heads, n_instances, restart, groups, first_batch)
    study = _Study(dataset, named, n_rounds, n_instances, restart, groups, first_batch)
    rows: list[dict[str, Any]] = []
    with Journal(path, settings) as journal:
        missing = study.count_missing(journal, heads, seeds)
        with ProgressBar("simulating", missing, enabled=bool(verbose)) as bar:

            def keep(row: dict[str, Any]) -> None:
                journal.add(row)
                bar.advance()
                if on_round is not None:
                    on_round(row)

            prepare = _Preparation(dataset, precompute, verbose)
            for (head, model), seed in itertools.product(heads.items(), seeds):
                opened = functools.partial(prepare, model, seed)
                rows += study.run(journal, head, seed, opened, keep)
    table = as_frame(rows)
    labels = [name for name in ("head", "strategy") if name in table]
    return table[[*labels, *(name for name in table if name not in labels)]]


@dataclass(frozen=True)
class _Study:
    """What every campaign of a study has in common."""

    dataset: Dataset
    strategies: dict[str, Strategy]
    n_rounds: int
    n_instances: int
    restart: bool
    groups: bool
    first_batch: Strategy

    def count_missing(self, journal: Journal, heads: Iterable[str], seeds: Iterable[int]) -> int:
        """Rounds that are not in the journal yet."""
        campaigns = itertools.product(heads, self.strategies, seeds)
        return sum(self.n_rounds - len(self._known(journal, *each)) for each in campaigns)

    def _known(self, journal: Journal, head: str, name: str, seed: int) -> list[dict[str, Any]]:
        """Rows of the rounds that were run before, from the first on."""
        rows = (journal.get(head, name, seed, number) for number in range(self.n_rounds))
        return list(itertools.takewhile(lambda row: row is not None, rows))  # type: ignore[arg-type]

    def run(
        self,
        journal: Journal,
        head: str,
        seed: int,
        opened: Callable[[], tuple[Dataset, Any]],
        keep: Callable[[dict[str, Any]], None],
    ) -> list[dict[str, Any]]:
        """Run the campaigns of one seed, as far as they were not run before."""
        known = {name: self._known(journal, head, name, seed) for name in self.strategies}
        first = next((rows[0] for rows in known.values() if rows), None)
        start: _Campaign | None = None
        for name, strategy in self.strategies.items():
            rows = known[name]
            if len(rows) == self.n_rounds:
                continue
            if start is None or first is None:
                start = _Campaign(self, *opened(), seed)
                if first is None:
                    first = start.run_round(self.first_batch)
                else:
                    start.replay([first["asked"]])
            # Copied after the first batch, which is the same for all.
            branch = copy.deepcopy(start)
            branch.replay([row["asked"] for row in rows[1:]])
            label = {"strategy": name, "head": head} if head else {"strategy": name}
            while len(rows) < self.n_rounds:
                row = branch.run_round(strategy) if rows else first
                rows.append({**row, **label})
                keep(rows[-1])
        return [row for rows in known.values() for row in rows]


class _Preparation:
    """Seeded estimators, and data sets whose frozen features are computed once."""

    def __init__(self, dataset: Dataset, precompute: bool, verbose: int) -> None:
        self.dataset, self.precompute, self.verbose = dataset, precompute, verbose
        self._frozen: dict[int, tuple[Dataset, Any]] = {}

    def __call__(self, estimator: Any, seed: int) -> tuple[Dataset, Any]:
        dataset, model = self.dataset, estimator
        if self.precompute and can_freeze(estimator):
            if id(estimator) not in self._frozen:
                self._frozen[id(estimator)] = freeze(dataset, estimator, verbose=self.verbose)
            dataset, model = self._frozen[id(estimator)]
        return dataset, _prepared(model, dataset, seed)


class _Campaign:
    """One learner, what it asked so far, and the oracle."""

    def __init__(self, study: _Study, dataset: Dataset, estimator: Any, seed: int) -> None:
        self.study, self.dataset, self.seed = study, dataset, seed
        self.learner = AIFTLearner(estimator)
        self.asked = np.empty(0, dtype=np.intp)
        self.number = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> _Campaign:
        twin = copy.copy(self)
        twin.learner = copy.deepcopy(self.learner, memo)
        return twin

    def run_round(self, strategy: Strategy) -> dict[str, Any]:
        """Ask, learn, and measure."""
        data = self.dataset
        left = np.setdiff1d(np.arange(len(data.X)), self.asked)
        groups = data.groups[left] if self.study.groups and data.groups is not None else None
        seed = int(np.random.SeedSequence((self.seed, self.number)).generate_state(1)[0])
        start = time.perf_counter()
        asked = ask(strategy, self.learner, data.X[left], self.study.n_instances, seed, groups)
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
            if not self.study.restart:
                self.learner.teach(data.X[new], data.y[new])
        if self.study.restart and batches:
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
    data, model = _Preparation(dataset, precompute=True, verbose=0)(estimator, seed)
    return evaluate(model.fit(data.X, data.y), data)


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


def _settings(
    dataset: Dataset,
    heads: Mapping[str, Any],
    n_instances: int,
    restart: bool,
    groups: bool,
    first_batch: Strategy,
) -> dict[str, str]:
    """What rows of one table must have in common, as text."""
    digest = hashlib.blake2b(digest_size=8)
    for array in (dataset.X, dataset.X_test, dataset.y, dataset.y_test):
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "data": f"{dataset.name} {dataset.X.shape} {digest.hexdigest()}",
        "batch": str(n_instances),
        "restart": str(restart),
        "groups": str(groups),
        "first batch": _text(first_batch),
        **{f"model {head}".strip(): _text(_parameters(model)) for head, model in heads.items()},
    }


def _parameters(estimator: Any) -> Any:
    """Class and changed parameters, nested; the defaults are the class's own."""
    if not hasattr(estimator, "get_params"):
        return estimator
    defaults = inspect.signature(type(estimator)).parameters
    changed = {
        name: _parameters(value)
        for name, value in sorted(estimator.get_params(deep=False).items())
        if name not in defaults or repr(value) != repr(defaults[name].default)
    }
    steps = changed.pop("steps", None)
    if steps is not None:
        changed["steps"] = [(name, _parameters(step)) for name, step in steps]
    return type(estimator).__name__, changed


def _text(value: Any) -> str:
    # A function or a module is told by its name, not by where it lies in memory.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _check_dataset(dataset: Dataset, n_asked: int) -> None:
    if n_asked > len(dataset.X):
        raise DataError(
            f"n_rounds x n_instances = {n_asked} labels of a pool of {len(dataset.X)} candidates; "
            "ask less in a round, or in fewer rounds."
        )
    if len(np.unique(dataset.y_test)) < 2:
        raise DataError("the test set holds one class; nothing can be told apart on it.")
    untaught = np.setdiff1d(dataset.y_test, dataset.y)
    if len(untaught):
        raise DataError(
            f"the test set holds {untaught.tolist()}, which the pool lacks: no strategy can "
            "learn them. Split otherwise, or leave them out."
        )
    if dataset.groups is not None and dataset.groups_test is not None:
        shared = np.intersect1d(dataset.groups, dataset.groups_test)
        if len(shared):
            raise DataError(
                f"{len(shared)} groups, such as {shared.tolist()[0]!r}, are in pool and test set; "
                "expected every group (patient, slide) on one side."
            )
    if "labels" in dataset.classes:
        raise LabelError(
            "a class named 'labels' would collide with the column n_labels; rename it."
        )
