"""What the campaigns of a planned study show: differences, ranks, labels saved. Tables only.

Everything is paired: strategies of one seed share their pool, their split and, unless each chooses
its own, their first batch. Pool and split are the same for all seeds, so that intervals tell how
far a difference depends on first batches and on the chance in training and asking, not how it would
be on other images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from ...errors import ParameterError
from ..curves import fill_chance
from ..metrics import (
    area_under_curve,
    compare_with_baseline,
    labels_to_reach,
    shared_level,
)
from .campaigns import rounds_of

__all__ = [
    "Saved",
    "cold_start_differences",
    "compare",
    "labels_saved",
    "median_interval",
    "rank_strategies",
    "tables_of",
]


def tables_of(campaigns: pd.DataFrame, setting: str) -> dict[str, pd.DataFrame]:
    """Rounds of one setting, by pool, in the order of the study, of seeds that all ran with."""
    chosen = campaigns[campaigns["setting"] == setting]
    if chosen.empty:
        known = list(pd.unique(campaigns["setting"]))
        raise ParameterError(f"setting is {setting!r}; expected one of {known}.")
    tables = {}
    for pool in pd.unique(chosen["pool"]):
        rows = chosen[chosen["pool"] == pool]
        runs = rows.groupby("seed")["strategy"].transform("nunique")
        tables[str(pool)] = rounds_of(rows[runs == runs.max()])
    return tables


def compare(
    tables: dict[str, pd.DataFrame], metric: str, *, ours: str = "AIFT", baseline: str = "random"
) -> pd.DataFrame:
    """Compare areas under the learning curves, pool by pool.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Rounds by pool, of `tables_of`.
    metric : str
        Column to integrate.
    ours, baseline : str
        Strategies to compare the others with.

    Returns
    -------
    DataFrame, by pool and strategy
        Mean ``area``; ``difference`` from the baseline with its 95 % t interval, ``low`` to
        ``high``, and ``p``; the same from ours as ``ours_difference`` ... Each p is corrected by
        Holm's method for the strategies of the pool; those against ours for the rivals alone, and
        for the variants of ours, "AIFT top" and the like, alone, so that neither hides the other.
    """
    parts = {}
    columns = ["difference", "low", "high", "p"]
    for pool, table in tables.items():
        area = area_under_curve(table, metric).mean(axis=1).rename("area")
        to_baseline = compare_with_baseline(table, metric, baseline=baseline)[columns]
        is_variant = table["strategy"].str.startswith(f"{ours} ")
        families = [table[is_variant | (table["strategy"] == ours)], table[~is_variant]]
        to_ours = pd.concat(
            compare_with_baseline(family, metric, baseline=ours)[columns] for family in families
        )
        to_ours = to_ours[~to_ours.index.duplicated(keep="last")].add_prefix("ours_")
        parts[pool] = pd.concat([area, to_baseline, to_ours], axis=1)
    return pd.concat(parts, names=["pool"])


def rank_strategies(compared: pd.DataFrame) -> pd.DataFrame:
    """Rank strategies over pools.

    Parameters
    ----------
    compared : DataFrame
        Of `compare`.

    Returns
    -------
    DataFrame, by strategy, best first
        ``mean_rank`` of the area over the pools that all strategies were run on (1 is the best,
        ties share), ``mean`` and ``worst`` difference from the baseline on them.

    Examples
    --------
    >>> index = pd.MultiIndex.from_product([["a", "b"], ["random", "AIFT"]],
    ...                                    names=["pool", "strategy"])
    >>> compared = pd.DataFrame({"area": [.5, .6, .7, .6], "difference": [0, .1, 0, -.1]}, index)
    >>> rank_strategies(compared)[["mean_rank", "worst"]]
              mean_rank  worst
    strategy
    random          1.5    0.0
    AIFT            1.5   -0.1
    """
    area = compared["area"].unstack("strategy").dropna()
    ranks = area.rank(axis=1, ascending=False)
    # The baseline's own is not defined, and nothing.
    difference = compared["difference"].unstack("strategy").loc[area.index].fillna(0.0)
    order = pd.unique(compared.index.get_level_values("strategy"))
    told = pd.DataFrame(
        {"mean_rank": ranks.mean(), "mean": difference.mean(), "worst": difference.min()}
    )
    return told.reindex(pd.Index(order, name="strategy")).sort_values("mean_rank", kind="stable")


class Saved(NamedTuple):
    """Labels that a strategy needs for where the baseline ended; see `labels_saved`."""

    labels: float
    baseline_labels: float
    share: float
    low: float
    high: float
    reached: int
    seeds: int


def labels_saved(
    table: pd.DataFrame, metric: str, *, ours: str = "AIFT", baseline: str = "random"
) -> Saved:
    """Share of the labels saved at the level that the baseline ends with, seed by seed.

    Parameters
    ----------
    table : DataFrame
        Rounds of one pool and setting.
    metric : str
        What is to be reached.
    ours, baseline : str
        Strategies.

    Returns
    -------
    Saved
        Medians over the seeds of the ``labels`` needed and of the ``share`` saved, 1 − ours /
        baseline's; the median's interval ``low`` to ``high`` (`median_interval`); in how many seeds
        the level was ``reached``. A seed that never reaches it counts as minus infinity.
    """
    pair = table[table["strategy"].isin([ours, baseline])]
    level = shared_level(pair, metric, baseline=baseline)
    needed = labels_to_reach(pair, level, metric).T
    needed = needed[needed[baseline].notna()]
    first, second = needed[ours], needed[baseline]
    share = 1 - first.fillna(np.inf) / second
    low, high = median_interval(share)
    return Saved(
        labels=float(first.fillna(np.inf).median()),
        baseline_labels=float(second.median()),
        share=float(share.median()),
        low=low,
        high=high,
        reached=int(first.notna().sum()),
        seeds=len(needed),
    )


def median_interval(values: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a median from the order of the values alone.

    It holds the median of all seeds in at least ``level`` of all studies, whatever the values'
    distribution, infinite ones among them; below six values none does, and all of them are given.

    Parameters
    ----------
    values : array-like of shape (n,)
        One per seed.
    level : float
        Confidence.

    Returns
    -------
    tuple of float
        Two of the values.

    Examples
    --------
    >>> median_interval([5, 1, 3, 2, 4, 9, 7, 8, 6, 10])
    (2.0, 9.0)
    >>> median_interval([1, 2, 3])
    (1.0, 3.0)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n == 0:
        return float("nan"), float("nan")
    # At most (1 − level) / 2 of all studies have fewer than k values below the median.
    k = int(np.sum(stats.binom.cdf(np.arange(n // 2), n, 0.5) <= (1 - level) / 2))
    k = max(1, k)
    return float(ordered[k - 1]), float(ordered[n - k])


def cold_start_differences(
    table: pd.DataFrame, metric: str, *, n_labels: int = 60, baseline: str = "random"
) -> pd.Series:
    """Lowest mean difference from the baseline among the rounds up to so many labels.

    Returns
    -------
    Series, by strategy
        Difference of the means over seeds, where it is lowest; NaN where the first batch is larger.
    """
    filled = fill_chance(table, metric)
    early = filled[filled["n_labels"] <= n_labels]
    if early.empty:
        return pd.Series(np.nan, index=pd.unique(table["strategy"]))
    means = early.groupby(["strategy", "round"], sort=False)[metric].mean().unstack("round")
    lowest: pd.Series = (means - means.loc[baseline]).min(axis=1)
    return lowest
