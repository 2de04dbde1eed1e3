"""Learning curves out of the table of ``simulate()``: checked, sorted, averaged. pandas only.

The tidy table has one row per strategy, seed and round, with the columns ``strategy``, ``seed``,
``round``, ``n_labels`` (labels known after the round) and one column per metric, and ``head``, the
name of the model, where several models were compared. Rows may come in any order.

A model that has seen a single class gives every candidate the same score. Its ROC AUC is NaN in
the table and counts as chance, 0.5, here: leaving those rounds out would reward the strategy that
was slow to find a second class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import ParameterError

__all__ = [
    "METRIC_NAMES",
    "by_head",
    "check_metric",
    "check_table",
    "curves",
    "fill_chance",
    "mean_curve",
]

Floats = NDArray[np.float64]
METRIC_NAMES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
"""What the metrics of a study are called in a sentence."""
KEYS = ("strategy", "seed", "round", "n_labels")
CHANCE = {"auc": 0.5}


def check_metric(metric: str) -> str:
    """Return the metric, or raise ParameterError if a study has no such metric.

    >>> check_metric("balanced_accuracy")
    'balanced_accuracy'
    """
    if metric not in METRIC_NAMES:
        raise ParameterError(f"metric is {metric!r}; expected one of {[*METRIC_NAMES]}.")
    return metric


def by_head(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split a table by the model, in the order of appearance; one model may have no name.

    >>> table = pd.DataFrame({"head": ["cnn", "forest"], "strategy": "random", "seed": 0})
    >>> [*by_head(table)], [*by_head(table.drop(columns="head"))]
    (['cnn', 'forest'], [''])
    """
    if not isinstance(table, pd.DataFrame) or "head" not in table.columns or table.empty:
        return {"": table}
    names = table["head"].fillna("").astype(str)
    rest = table.drop(columns="head")
    return {str(name): rest[names == name] for name in pd.unique(names)}


def check_table(table: pd.DataFrame, columns: Sequence[str] = ()) -> None:
    """Raise ParameterError unless the table holds learning curves and the given columns.

    >>> check_table(pd.DataFrame({"strategy": ["random"], "seed": [0]}))
    Traceback (most recent call last):
    ...
    aift_sklearn.errors.ParameterError: the table lacks the columns ['round', 'n_labels'] ...
    """
    if not isinstance(table, pd.DataFrame):
        raise ParameterError(f"table is a {type(table).__name__}; expected a pandas DataFrame.")
    missing = [name for name in (*KEYS, *columns) if name not in table.columns]
    if missing:
        raise ParameterError(
            f"the table lacks the columns {missing} and has {[str(c) for c in table.columns]}; "
            "expected the table of simulate(), one row per strategy, seed and round."
        )
    if table.empty:
        raise ParameterError(
            "the table has no rows; expected at least one round. Was a filter put on it?"
        )
    heads = [*by_head(table)]
    if len(heads) > 1:
        raise ParameterError(
            f"the table holds the heads {heads}; expected one, since each has its own baseline. "
            f"Pass one at a time, as in table[table['head'] == {heads[0]!r}]; summarise, headline "
            "and write_report take them together."
        )
    twice = table.duplicated(["strategy", "seed", "round"])
    if twice.any():
        strategy, seed, number = table.loc[twice, ["strategy", "seed", "round"]].iloc[0]
        raise ParameterError(
            f"the table has round {number} of strategy {strategy!r}, seed {seed} more than once; "
            "expected one row each. Tables of several data sets need one report each."
        )
    known = table.sort_values("round").groupby(["strategy", "seed"])["n_labels"]
    if (known.diff() < 0).any():
        raise ParameterError("n_labels falls between rounds; expected the labels known so far.")


def fill_chance(table: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """Sort by strategy (as they appear), seed and round, and put chance for leading NaNs.

    Only the AUC has a chance level. A curve without any number stays NaN: there the metric itself
    could not be computed.

    >>> table = pd.DataFrame({"strategy": "random", "seed": 0, "round": [1, 0, 2],
    ...                       "n_labels": [10, 5, 15], "auc": [np.nan, np.nan, 0.8]})
    >>> fill_chance(table)["auc"].tolist()
    [0.5, 0.5, 0.8]
    """
    check_table(table, [metric])
    filled = table.assign(_order=pd.factorize(table["strategy"])[0])
    filled = filled.sort_values(["_order", "seed", "round"], ignore_index=True)
    filled = filled.drop(columns="_order")
    filled[metric] = filled[metric].astype(float)
    if metric in CHANCE:
        curves = filled.groupby(["strategy", "seed"])[metric]
        leading = curves.ffill().isna() & curves.transform("count").gt(0)
        filled.loc[leading, metric] = CHANCE[metric]
    return filled


def curves(table: pd.DataFrame, metric: str) -> Iterator[tuple[tuple[str, int], Floats, Floats]]:
    """Yield ((strategy, seed), labels, values), each curve in order of its rounds.

    >>> table = pd.DataFrame({"strategy": "random", "seed": 0, "round": [1, 0],
    ...                       "n_labels": [10, 5], "auc": [0.8, 0.6]})
    >>> [(key, labels.tolist(), values.tolist()) for key, labels, values in curves(table, "auc")]
    [(('random', 0), [5.0, 10.0], [0.6, 0.8])]
    """
    for key, rows in fill_chance(table, metric).groupby(["strategy", "seed"], sort=False):
        labels = rows["n_labels"].to_numpy(np.float64)
        yield key, labels, rows[metric].to_numpy(np.float64)  # type: ignore[misc]


def mean_curve(table: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """Average each strategy's curves over its seeds.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    metric : str
        Column to average.

    Returns
    -------
    DataFrame
        ``strategy``, ``round``, ``n_labels`` and the metric, for the rounds in which every seed of
        the strategy has a number: a mean over fewer seeds would jump where one ended.

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": "random", "seed": [0, 0, 1, 1], "round": [0, 1, 0, 1],
    ...                       "n_labels": [10, 20, 10, 20], "auc": [0.5, 0.75, 0.75, 1.0]})
    >>> mean_curve(table)
      strategy  round  n_labels    auc
    0   random      0      10.0  0.625
    1   random      1      20.0  0.875
    """
    filled = fill_chance(table, metric)
    rounds = filled.groupby(["strategy", "round"], sort=False)
    means = rounds[["n_labels", metric]].mean()
    seeds = filled.groupby("strategy")["seed"].nunique()
    whole = rounds[metric].count() == seeds[means.index.get_level_values("strategy")].to_numpy()
    return means[whole].reset_index()
