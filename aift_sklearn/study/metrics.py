"""Numbers from learning curves: area, labels needed, paired comparisons of strategies.

Every function takes the tidy table of ``simulate()``, see `aift_sklearn.study.curves`. Strategies
of one seed share their first batch and their split, so they are compared seed by seed (paired).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .comparisons import holm, paired_interval, paired_test
from .curves import by_head, check_table, curves, fill_chance, mean_curve

__all__ = [
    "area_under_curve",
    "compare_with_baseline",
    "labels_for_mean_curve",
    "labels_to_reach",
    "paired_interval",
    "shared_level",
    "summarise",
]

Floats = NDArray[np.float64]


def _by_strategy_and_seed(values: dict[tuple[str, int], float]) -> pd.DataFrame:
    strategies = list(dict.fromkeys(strategy for strategy, _ in values))
    seeds = sorted({seed for _, seed in values})
    return pd.DataFrame(
        [[values.get((strategy, seed), np.nan) for seed in seeds] for strategy in strategies],
        index=pd.Index(strategies, name="strategy"),
        columns=pd.Index(seeds, name="seed"),
        dtype=np.float64,
    )


def _area(labels: Floats, values: Floats, low: float, high: float) -> float:
    if high < low:
        return float("nan")
    if high == low:  # one round, or one shared round: the limit of the mean height
        return float(np.interp(low, labels, values))
    inside = (labels > low) & (labels < high)
    x = np.concatenate([[low], labels[inside], [high]])
    ends = np.interp([low, high], labels, values)
    y = np.concatenate([ends[:1], values[inside], ends[1:]])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (high - low))


def area_under_curve(table: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """Area under each learning curve, divided by its span of labels (ALC).

    The result is the mean height of the curve, in the metric's own units; larger is better.
    Within a seed all strategies are measured over the span of labels that they share, because a
    curve that runs longer would otherwise be favoured.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    metric : str
        Column to integrate over ``n_labels`` by the trapezoid rule.

    Returns
    -------
    DataFrame, strategies × seeds
        NaN where a strategy was not run with a seed, or where no span is shared.

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": "random", "seed": 0, "round": [0, 1, 2],
    ...                       "n_labels": [10, 20, 40], "auc": [0.6, 0.8, 0.9]})
    >>> round(float(area_under_curve(table).loc["random", 0]), 4)  # (7 + 17) / 30
    0.8
    """
    runs = list(curves(table, metric))
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    for (_, seed), labels, _ in runs:
        low[seed] = max(low.get(seed, -np.inf), labels[0])
        high[seed] = min(high.get(seed, np.inf), labels[-1])
    return _by_strategy_and_seed(
        {key: _area(labels, values, low[key[1]], high[key[1]]) for key, labels, values in runs}
    )


def labels_to_reach(
    table: pd.DataFrame, level: float | pd.Series, metric: str = "auc"
) -> pd.DataFrame:
    """Labels known after the first round in which the metric reaches a level.

    Nothing is interpolated: labels are asked in whole batches, and no model between two rounds
    was ever measured. The answer is therefore only as fine as the batch size.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    level : float or Series
        The level to reach, in the metric's units: one for all seeds, or one per seed (index).
    metric : str
        Column to read.

    Returns
    -------
    DataFrame, strategies × seeds
        NaN where the level was never reached (or the strategy was not run with that seed).

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": "random", "seed": 0, "round": [0, 1, 2],
    ...                       "n_labels": [10, 20, 40], "auc": [0.6, 0.8, 0.9]})
    >>> float(labels_to_reach(table, 0.75).loc["random", 0])
    20.0
    """
    needed: dict[tuple[str, int], float] = {}
    for key, labels, values in curves(table, metric):
        target = level.get(key[1], np.nan) if isinstance(level, pd.Series) else level
        reached = np.flatnonzero(values >= target)
        needed[key] = float(labels[reached[0]]) if reached.size else float("nan")
    return _by_strategy_and_seed(needed)


def labels_for_mean_curve(table: pd.DataFrame, level: float, metric: str = "auc") -> pd.Series:
    """Labels known after the first round in which the mean curve over seeds reaches a level.

    This is the number that papers report. It is not the mean of `labels_to_reach`: seeds that
    never get there still pull the mean curve down, and seeds that get there early lift it.
    Nothing is interpolated.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    level : float
        The level to reach, in the metric's units.
    metric : str
        Column to read.

    Returns
    -------
    Series, by strategy
        NaN where the mean curve never reaches the level. Rounds that not every seed of a strategy
        has are left out.

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": "random", "seed": [0, 0, 1, 1], "round": [0, 1, 0, 1],
    ...                       "n_labels": [10, 20, 10, 20], "auc": [0.6, 0.9, 0.7, 0.7]})
    >>> labels_for_mean_curve(table, 0.8).to_dict()
    {'random': 20.0}
    >>> labels_to_reach(table, 0.8).loc["random"].tolist()
    [20.0, nan]
    """
    means = mean_curve(table, metric)
    # The mean of equal numbers may be rounded below them.
    high = means[means[metric] >= level - 1e-12]
    reached = high.groupby("strategy", sort=False)["n_labels"].first()
    needed: pd.Series = reached.reindex(pd.Index(pd.unique(table["strategy"]), name="strategy"))
    return needed.astype(np.float64)


def shared_level(
    table: pd.DataFrame, metric: str = "auc", *, baseline: str = "random"
) -> pd.Series:
    """Level per seed at which strategies are compared: where the baseline ended.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    metric : str
        Column to read.
    baseline : str
        Strategy whose last round sets the level. Where it was not run, the level is the highest
        one that every strategy of the seed reached.

    Returns
    -------
    Series, by seed
        In the metric's units.

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": ["random", "random", "aift", "aift"], "seed": 7,
    ...                       "round": [0, 1, 0, 1], "n_labels": [10, 20, 10, 20],
    ...                       "auc": [0.6, 0.8, 0.6, 0.9]})
    >>> shared_level(table).to_dict()
    {7: 0.8}
    """
    runs = list(curves(table, metric))
    last = _by_strategy_and_seed({key: float(values[-1]) for key, _, values in runs})
    # fmax ignores NaN rounds without the warning that nanmax gives on a curve of NaNs.
    best = _by_strategy_and_seed({key: float(np.fmax.reduce(v)) for key, _, v in runs})
    common: pd.Series = best.min()
    if baseline not in last.index:
        return common
    ends: pd.Series = last.T[baseline]
    return ends.fillna(common)


def compare_with_baseline(
    table: pd.DataFrame, metric: str = "auc", *, baseline: str = "random"
) -> pd.DataFrame:
    """Difference of each strategy's area under the curve from the baseline's, seed by seed.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    metric : str
        Column whose curves are integrated, as by `area_under_curve`.
    baseline : str
        Strategy to compare with.

    Returns
    -------
    DataFrame, by strategy
        ``seeds`` that both were run with; mean ``difference``, and the ends ``low`` and ``high`` of
        its 95 % t interval (`paired_interval`), which is that of one comparison by itself; ``p`` of
        the paired t-test and ``wilcoxon_p`` of the signed-rank test (`paired_test`), both corrected
        by Holm's method for the number of strategies that are compared. NaN where there is
        nothing to compare, no interval (one seed), or no rank test (fewer than six seeds).

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": ["random", "random", "aift", "aift"], "seed": [0, 1] * 2,
    ...                       "round": 0, "n_labels": 10, "auc": [0.6, 0.7, 0.75, 0.83]})
    >>> compare_with_baseline(table).round(3)
              seeds  difference    low   high      p  wilcoxon_p
    strategy
    random        2         NaN    NaN    NaN    NaN         NaN
    aift          2        0.14  0.013  0.267  0.045         NaN
    """
    area = area_under_curve(table, metric)
    rows: dict[str, dict[str, float]] = {}
    for strategy in area.index:
        both = area.loc[area.index.isin([strategy, baseline])].dropna(axis=1)
        seeds = both.shape[1] if baseline in area.index else 0
        row = {"seeds": float(seeds)}
        row |= dict.fromkeys(("difference", "low", "high", "p", "wilcoxon_p"), float("nan"))
        if len(both) == 2 and both.shape[1]:
            ours, theirs = both.loc[strategy], both.loc[baseline]
            row |= zip(("difference", "low", "high"), paired_interval(ours, theirs), strict=True)
            row |= zip(("p", "wilcoxon_p"), paired_test(ours, theirs), strict=True)
        rows[strategy] = row
    compared = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
    compared["seeds"] = compared["seeds"].astype(int)
    for name in ("p", "wilcoxon_p"):
        compared[name] = holm(compared[name].to_numpy(np.float64))
    return compared


def _median_needed(needed: Floats) -> float:
    """Median over seeds, where a seed that never reached the level counts as infinite."""
    median = float(np.median(np.where(np.isnan(needed), np.inf, needed)))
    return median if np.isfinite(median) else float("nan")


def format_labels(needed: ArrayLike, budget: float) -> str:
    """Write labels needed per seed (NaN: never) as their median and what the median hides.

    >>> format_labels([64, 64], 120), format_labels([56, 64, 80], 120)
    ('64', '64 (56–80)')
    >>> format_labels([np.nan, 64, 56], 120), format_labels([np.nan, 64, np.nan], 120)
    ('64 (2 of 3 seeds)', '>120 (1 of 3 seeds)')
    """
    values = np.atleast_1d(np.asarray(needed, np.float64))
    reached = values[~np.isnan(values)]
    median = _median_needed(values)
    text = f">{budget:g}" if np.isnan(median) else f"{median:g}"
    if 0 < reached.size < values.size:
        return f"{text} ({reached.size} of {values.size} seeds)"
    if reached.size and reached.min() < reached.max():
        return f"{text} ({reached.min():g}–{reached.max():g})"
    return text


def summarise(
    table: pd.DataFrame,
    *,
    metric: str = "auc",
    baseline: str = "random",
) -> pd.DataFrame:
    """One row per strategy: where it ended, its area, the labels it needed, the time it took.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``, with ``auc``, ``balanced_accuracy``, ``score_seconds`` and
        ``train_seconds``. Where it holds several heads, each is compared with its own baseline.
    metric : str
        Column for the area and the labels needed.
    baseline : str
        Strategy to compare with; see `shared_level` for tables without it.

    Returns
    -------
    DataFrame, by strategy (by head and strategy, where there are several heads)
        ``seeds``; ``n_labels`` (known at the end, the least over seeds); mean and ``_sd`` over
        seeds (NaN for one) of the final ``auc`` and ``balanced_accuracy`` and of ``alc``;
        ``alc_difference``, ``alc_low``, ``alc_high``, ``alc_p`` and ``alc_wilcoxon_p`` against the
        baseline (see `compare_with_baseline`, NaN for the baseline itself); ``level`` (mean over
        seeds), ``labels_needed`` (median over seeds to reach the level of each, NaN where half of
        the seeds never did),
        ``seeds_reached`` and ``labels_needed_text``; ``score_seconds`` and ``train_seconds``
        (totals of a run, mean over seeds).

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": ["random"] * 3 + ["aift"] * 3, "seed": 0,
    ...     "round": [0, 1, 2] * 2, "n_labels": [10, 20, 30] * 2,
    ...     "auc": [0.6, 0.7, 0.8, 0.6, 0.8, 0.9], "balanced_accuracy": 0.5,
    ...     "score_seconds": 1.0, "train_seconds": 2.0})
    >>> summarise(table)[["n_labels", "alc", "labels_needed_text"]].round(3)
              n_labels    alc labels_needed_text
    strategy
    random          30  0.700                 30
    aift            30  0.775                 20
    """
    heads = by_head(table)
    if len(heads) > 1:
        each = [summarise(rows, metric=metric, baseline=baseline) for rows in heads.values()]
        return pd.concat(each, keys=heads, names=["head"])
    check_table(table, ["auc", "balanced_accuracy", "score_seconds", "train_seconds", metric])
    area = area_under_curve(table, metric)
    level = shared_level(table, metric, baseline=baseline)
    needed = labels_to_reach(table, level, metric)
    compared = compare_with_baseline(table, metric, baseline=baseline)
    compared = compared.drop(columns="seeds").add_prefix("alc_")
    runs = fill_chance(table, "auc").groupby(["strategy", "seed"], sort=False)
    # tail, unlike last, does not hide a NaN of the last round behind an earlier number.
    final = runs.tail(1).set_index(["strategy", "seed"])
    seconds = runs[["score_seconds", "train_seconds"]].sum()
    rows: dict[str, dict[str, object]] = {}
    for strategy in area.index:
        ends = final.loc[strategy]
        of_seeds = needed.loc[strategy, ends.index].to_numpy(np.float64)
        budget = int(ends["n_labels"].min())
        row: dict[str, object] = {"seeds": len(ends), "n_labels": budget}
        for name in ("auc", "balanced_accuracy"):
            row |= {name: ends[name].mean(), f"{name}_sd": ends[name].std()}
        row |= {"alc": area.loc[strategy].mean(), "alc_sd": area.loc[strategy].std()}
        row |= compared.loc[strategy].to_dict()
        row |= {
            "level": level[ends.index].mean(),
            "labels_needed": _median_needed(of_seeds),
            "seeds_reached": int(np.isfinite(of_seeds).sum()),
            "labels_needed_text": format_labels(of_seeds, budget),
        }
        rows[strategy] = row | seconds.loc[strategy].mean().to_dict()
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
