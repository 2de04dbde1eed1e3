"""Simulated campaigns: what a strategy would have asked, and what the model would have learnt.

The oracle knows all labels of the pool and gives those that are asked for. Strategies of one seed
share everything but their questions (paired), so their differences are the strategies'.
"""

from __future__ import annotations

import copy
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from .._checks import check_int
from .._writing import as_path
from ..classifier import AIFTClassifier
from ..errors import DataError, LabelError, ParameterError
from ..networks.cnn import CNNClassifier
from ..patches import AffinePatches, JitterPatches
from ..progress import ProgressBar
from ..query import aift_sampling, random_sampling
from .campaign import SimulatedCampaign, evaluate
from .datasets import Dataset
from .frozen import can_freeze, freeze
from .identity import describe_dataset, describe_estimator, describe_strategy
from .strategies import Strategy, begins, build_strategy
from .tables import Journal, as_frame

__all__ = ["evaluate", "simulate", "whole_pool"]


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
    pool_weights: bool | Literal["auto"] = "auto",
    first_batch: Strategy | Literal["own"] = aift_sampling,
    path: str | os.PathLike[str] | None = None,
    precompute: bool | str | os.PathLike[str] = True,
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
    pool_weights : bool or "auto", default="auto"
        Weight labels in training by the share of the pool that they stand for, as of `AIFTLearner`.
    first_batch : callable or "own", default=aift_sampling
        Strategy of the first batch, which all strategies of a seed share; by default the cold
        start of AIFT. "own": every strategy asks for its first batch too; those that know none,
        such as modAL's, begin at random.
    path : path-like, optional
        A ``.jsonl`` file to which every finished round is written at once. Rounds that it holds
        are not run again: an interrupted study goes on where it was, and a finished one can be
        extended by strategies, models, seeds and rounds. Rows depend on the contents of the data,
        on every parameter and the initial weights of the model, and on the code and the parameters
        of a strategy: where one of these is not as it was, the table is refused. One study at a
        time can write to a file.
    precompute : bool or path-like, default=True
        Embed the patches of a pipeline that starts with `CNNFeatures` once instead of in every
        round. The answers are the same; the embeddings, n·m·E float32, lie in memory, or in a
        temporary file where they are more than 4 GiB. A folder keeps them for the next study of
        the same images.
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
        other settings, or is being written by another one.
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
    seeds = list(dict.fromkeys(check_int("seeds", seed, minimum=0) for seed in seeds))
    check_int("n_rounds", n_rounds, minimum=1)
    check_int("n_instances", n_instances, minimum=1)
    check_dataset(dataset, n_rounds * n_instances)
    if not (seeds and named and heads):
        raise ParameterError("no seeds, strategies or heads; expected at least one of each.")
    if groups and dataset.groups is None:
        raise ParameterError(f"groups=True, but the data set {dataset.name!r} has no groups.")
    if isinstance(first_batch, str) and first_batch != "own":
        raise ParameterError(f"first_batch={first_batch!r}; expected a strategy or 'own'.")
    settings = _settings(dataset, n_instances, restart, groups, first_batch, pool_weights)
    parts = _parts(named, heads, dataset)
    study = _Study(
        dataset, named, n_rounds, n_instances, restart, groups, first_batch, pool_weights
    )
    rows: list[dict[str, Any]] = []
    with Journal(path, settings, parts) as journal:
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
    first_batch: Strategy | Literal["own"]
    pool_weights: bool | Literal["auto"]

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
        start: SimulatedCampaign | None = None
        for name, strategy in self.strategies.items():
            rows = known[name]
            if len(rows) == self.n_rounds:
                continue
            if start is None:
                start = self._open(opened, seed)
                if self.first_batch == "own":
                    first = None
                elif first is None:
                    first = start.run_round(self.first_batch)
                else:
                    start.replay([first["asked"]])
            # Copied after the first batch, where that is the same for all.
            branch = copy.deepcopy(start)
            branch.replay([row["asked"] for row in rows[branch.number :]])
            label = {"strategy": name, "head": head} if head else {"strategy": name}
            while len(rows) < self.n_rounds:
                if first is not None and not rows:
                    row = first
                else:
                    # modAL's, for one, take any candidates without a label.
                    blind = not rows and not begins(strategy)
                    row = branch.run_round(random_sampling if blind else strategy)
                rows.append({**row, **label})
                keep(rows[-1])
        return [row for rows in known.values() for row in rows]

    def _open(self, opened: Callable[[], tuple[Dataset, Any]], seed: int) -> SimulatedCampaign:
        return SimulatedCampaign(
            *opened(),
            seed,
            n_instances=self.n_instances,
            restart=self.restart,
            groups=self.groups,
            pool_weights=self.pool_weights,
        )


class _Preparation:
    """Seeded estimators, and data sets whose frozen features are computed once."""

    def __init__(
        self, dataset: Dataset, precompute: bool | str | os.PathLike[str], verbose: int
    ) -> None:
        self.dataset, self.verbose = dataset, verbose
        self.folder = None if isinstance(precompute, bool) else as_path(precompute)
        self.precompute = precompute is not False
        self._frozen: dict[int, tuple[Dataset, Any]] = {}

    def __call__(self, estimator: Any, seed: int) -> tuple[Dataset, Any]:
        dataset, model = self.dataset, estimator
        if self.precompute and can_freeze(estimator):
            if id(estimator) not in self._frozen:
                self._frozen[id(estimator)] = freeze(
                    dataset, estimator, folder=self.folder, verbose=self.verbose
                )
            dataset, model = self._frozen[id(estimator)]
        return dataset, _prepared(model, dataset, seed)


def whole_pool(
    dataset: Dataset,
    estimator: Any,
    *,
    seed: int = 0,
    precompute: bool | str | os.PathLike[str] = True,
) -> dict[str, float]:
    """Measure what labelling the whole pool would give: the line that curves approach.

    Parameters
    ----------
    dataset : Dataset
        Pool and test set.
    estimator : AIFTClassifier
        Cloned and fitted to every label of the pool.
    seed : int, default=0
        Its ``random_state``.
    precompute : bool or path-like, default=True
        As of `simulate`.

    Returns
    -------
    dict
        auc and balanced_accuracy, as of `evaluate`.
    """
    data, model = _Preparation(dataset, precompute, verbose=0)(estimator, seed)
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
    n_instances: int,
    restart: bool,
    groups: bool,
    first_batch: Strategy | Literal["own"],
    pool_weights: bool | Literal["auto"],
) -> dict[str, str]:
    """What all rows of one table must have in common, as text."""
    own = isinstance(first_batch, str)
    told = {
        "data": describe_dataset(dataset, groups=groups),
        "first batch": {"of": "own"} if own else describe_strategy(first_batch),
    }
    return {
        "batch": str(n_instances),
        "restart": str(restart),
        "groups": str(groups),
        "pool weights": str(pool_weights),
        **{f"{of}: {name}": text for of, each in told.items() for name, text in each.items()},
    }


def _parts(
    strategies: Mapping[str, Strategy], heads: Mapping[str, Any], dataset: Dataset
) -> dict[str, dict[str, str]]:
    """What the rows of each strategy and of each head must have in common, as text."""
    parts = {f"strategy {name!r}": describe_strategy(each) for name, each in strategies.items()}
    for head, model in heads.items():
        # As they start in a campaign, so that a default is told as what it stands for.
        prepared = _with_defaults(_prepared(model, dataset, 0), dataset.X.ndim)
        parts[f"model {head!r}" if head else "model"] = describe_estimator(prepared)
    return parts


def _with_defaults(estimator: Any, n_dims: int) -> Any:
    if isinstance(estimator, AIFTClassifier):
        if estimator.estimator is None:
            default = LogisticRegression(max_iter=1000) if n_dims == 2 else CNNClassifier()
            estimator.set_params(estimator=default)
        if estimator.patches is None:
            estimator.set_params(patches=JitterPatches() if n_dims == 2 else AffinePatches())
        if estimator.classes is not None:
            estimator.set_params(classes=np.unique(estimator.classes))
    return estimator


def check_dataset(dataset: Dataset, n_asked: int) -> None:
    """Refuse data that cannot be simulated: too few candidates, one class, groups on both sides."""
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
