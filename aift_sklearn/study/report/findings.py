"""What a study found, as sentences and as labels needed, worded so as not to flatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import ParameterError
from ..curves import METRIC_NAMES, by_head, check_metric, check_table, fill_chance, mean_curve
from ..metrics import (
    compare_with_baseline,
    format_labels,
    labels_to_reach,
    shared_level,
)
from ..planned.statistics import median_interval

__all__ = [
    "caveat",
    "headline",
    "is_too_easy",
    "only_strategy",
    "p_value",
    "signed",
]

FEW_SEEDS = 10
# Mean of a first batch from which on nothing is left to gain.
AS_GOOD_AS_PERFECT = 0.995
# Of fewer values no interval holds the median in 95 % of all studies.
_SEEDS_OF_AN_INTERVAL = 6


def headline(
    table: pd.DataFrame,
    *,
    metric: str = "auc",
    baseline: str = "random",
    focus: str | None = None,
) -> str:
    """Say how many labels a strategy saved, or first of all that no difference was shown.

    Whether there is a difference is told by the area under the curve, with its 95 % interval over
    paired seeds. Labels are those known when a strategy first reached the level that the baseline
    ended with, seed by seed; medians over seeds. Where the other metric of a study tells something
    else, it is named.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``. Several heads give one line each, ``"<head>: <sentences>"``,
        each compared with its own baseline.
    metric : {"auc", "balanced_accuracy"}
        What is to be reached. The AUC weighs a ranking, balanced accuracy the decisions; on
        imbalanced pools of several classes the latter is what people read.
    baseline : str
        Strategy to compare with.
    focus : str, optional
        Strategy the sentence is about. By default, or where a head was not run with it, the first
        whose name contains "aift", else the first that is not the baseline.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        If the table is empty, lacks columns, or has no strategy called ``focus``, or if the
        metric is another.

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": ["random"] * 6 + ["aift"] * 6,
    ...     "seed": [0, 0, 0, 1, 1, 1] * 2, "round": [0, 1, 2] * 4, "n_labels": [10, 20, 40] * 4,
    ...     "auc": [0.6, 0.7, 0.8, 0.6, 0.72, 0.8, 0.6, 0.85, 0.9, 0.6, 0.86, 0.91]})
    >>> needed, interval = headline(table).split(". ")
    >>> needed
    'aift needed 20 labels to reach the AUC of 0.800 for which random needed 40: 50 % fewer ...'
    >>> interval
    'The area under its curve differs by +0.108 (95 % interval +0.097 to +0.118, 2 paired seeds).'
    >>> headline(table[table["seed"] == 0])[:45]
    'One seed shows nothing yet. aift needed 20 la'
    """
    check_metric(metric)
    heads = by_head(table)
    for rows in heads.values():
        check_table(rows, [metric])
    strategies = [str(name) for name in pd.unique(table["strategy"])]
    if focus is not None and focus not in strategies:
        raise ParameterError(f"focus is {focus!r}; expected a strategy of the table: {strategies}.")
    told = {name: _head_finding(rows, metric, baseline, focus) for name, rows in heads.items()}
    if len(told) == 1:
        return next(iter(told.values()))
    return "\n".join(f"{name}: {finding}" for name, finding in told.items())


def _rival(table: pd.DataFrame, baseline: str, focus: str | None) -> str | None:
    """Strategy the headline is about. Never the best one: picking the winner flatters it."""
    strategies = [str(name) for name in pd.unique(table["strategy"])]
    if focus in strategies:
        return focus
    others = [name for name in strategies if name != baseline]
    named = [name for name in others if "aift" in name.lower()]
    return next(iter([*named, *others]), None)


def _shared_seeds(table: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Rows of two strategies, for the seeds that both were run with."""
    both = table[table["strategy"].isin([first, second])]
    runs = both.groupby("seed")["strategy"].transform("nunique")
    return both[runs == len({first, second})]


def only_strategy(table: pd.DataFrame) -> str | None:
    """Name of the strategy where only one was run, in every head."""
    strategies = pd.unique(table["strategy"])
    return str(strategies[0]) if len(strategies) == 1 else None


def _head_finding(table: pd.DataFrame, metric: str, baseline: str, focus: str | None) -> str:
    rival = _rival(table, baseline, focus)
    alone = only_strategy(table)
    if rival is None or alone is not None:
        return f"Only {alone or baseline} was run, so there is nothing to compare it with."
    if baseline not in pd.unique(table["strategy"]):
        return _without_baseline(table, metric, baseline)
    pair = _shared_seeds(table, rival, baseline)
    if pair.empty:
        return f"{rival} and {baseline} share no seed, so they cannot be compared."
    level = shared_level(pair, metric, baseline=baseline)
    if level.isna().any():
        return _undefined(metric)
    if is_too_easy(pair, metric):
        return (
            f"This pool is too easy to tell: with the first batch alone {rival} and {baseline} "
            f"already reach the {METRIC_NAMES[metric]} of {_first_mean(pair, metric):.3f}, so no "
            "question can save labels."
        )
    difference = _area_difference(pair, metric, rival, baseline)
    needed = _labels_compared(pair, metric, rival, baseline, plain=difference.shown == "higher")
    return " ".join([*_opening(difference, rival), needed, *_closing(difference, pair, metric)])


def _first_mean(table: pd.DataFrame, metric: str) -> float:
    first = mean_curve(table, metric).groupby("strategy", sort=False)[metric].first()
    return float(first.min())


def is_too_easy(table: pd.DataFrame, metric: str) -> bool:
    """Whether every strategy is as good as perfect from the first batch on.

    >>> table = pd.DataFrame({"strategy": "random", "seed": 0, "round": [0, 1],
    ...                       "n_labels": [10, 20], "auc": [0.999, 1.0]})
    >>> is_too_easy(table, "auc"), is_too_easy(table.assign(auc=[0.9, 1.0]), "auc")
    (True, False)
    """
    means = mean_curve(table, metric)
    return bool(len(means)) and _first_mean(table, metric) >= AS_GOOD_AS_PERFECT


@dataclass(frozen=True)
class _AreaDifference:
    """Area under the curve of a strategy minus the baseline's, over paired seeds."""

    rival: str
    baseline: str
    mean: float
    low: float
    high: float
    seeds: int

    @property
    def shown(self) -> str:
        """What the interval shows: "higher", "lower", "none", or "" without an interval."""
        if not np.isfinite(self.low):
            return ""
        return "none" if self.low <= 0 <= self.high else "higher" if self.mean > 0 else "lower"

    @property
    def interval(self) -> str:
        """The difference with its interval, for a sentence."""
        if not np.isfinite(self.low):
            return f"{signed(self.mean)} (one seed, no interval)"
        return (
            f"{signed(self.mean)} (95 % interval {signed(self.low)} to {signed(self.high)}, "
            f"{self.seeds} paired seeds)"
        )


def _area_difference(pair: pd.DataFrame, metric: str, rival: str, baseline: str) -> _AreaDifference:
    compared = compare_with_baseline(pair, metric, baseline=baseline)
    mean, low, high, seeds = (
        float(compared[name][rival]) for name in ("difference", "low", "high", "seeds")
    )
    return _AreaDifference(rival, baseline, mean, low, high, int(seeds))


def _opening(difference: _AreaDifference, rival: str) -> list[str]:
    """What has to be said before any number of labels."""
    if difference.shown == "":
        return ["One seed shows nothing yet."] if difference.seeds == 1 else []
    if difference.shown == "none":
        return [f"No difference shown: the area under its curve differs by {difference.interval}."]
    if difference.shown == "lower":
        return [f"{rival} did worse: the area under its curve differs by {difference.interval}."]
    return []


def _closing(difference: _AreaDifference, pair: pd.DataFrame, metric: str) -> list[str]:
    """The interval of a gain, and the other metric where it tells something else."""
    sentences = []
    if difference.shown == "higher":
        sentences.append(f"The area under its curve differs by {difference.interval}.")
    for other in METRIC_NAMES:
        if other == metric or other not in pair or pair[other].isna().all():
            continue
        also = _area_difference(pair, other, difference.rival, difference.baseline)
        if np.isfinite(also.mean) and _disagree(difference, also):
            verdict = {"none": "no difference is shown", "": "one seed shows nothing"}.get(
                also.shown, f"it did {'better' if also.shown == 'higher' else 'worse'}"
            )
            sentences.append(
                f"In {METRIC_NAMES[other]} {verdict}: the area differs by {also.interval}."
            )
    return sentences


def _disagree(one: _AreaDifference, other: _AreaDifference) -> bool:
    """Whether two metrics tell different stories, of more than a rounded zero."""
    opposite = one.mean * other.mean < 0 and min(abs(one.mean), abs(other.mean)) >= 0.0005
    return one.shown != other.shown or opposite


def _undefined(metric: str) -> str:
    name = METRIC_NAMES[metric]
    return f"The {name} could not be computed in every run, so labels cannot be compared."


def _labels_compared(
    pair: pd.DataFrame, metric: str, rival: str, baseline: str, *, plain: bool
) -> str:
    """Labels needed by both; a share saved is told where it is no contradiction (``plain``)."""
    level = shared_level(pair, metric, baseline=baseline)
    needed = labels_to_reach(pair, level, metric).T
    ours, theirs = needed[rival].fillna(np.inf).median(), needed[baseline].median()
    known = pair.groupby(["strategy", "seed"])["n_labels"]
    name, seeds = METRIC_NAMES[metric], len(needed)
    if theirs <= known.min()[baseline].median():
        runs = fill_chance(pair, metric).groupby(["strategy", "seed"])
        ended = runs[metric].last()[rival].mean()
        return (
            f"{baseline} ended no better than it began ({name} {level.mean():.3f}), so there is no "
            f"level for which labels could be saved; {rival} ended at {ended:.3f}."
        )
    goal = f"the {name} of {level.mean():.3f} for which {baseline} needed {theirs:g}"
    reached = int(needed[rival].notna().sum())
    basis = "" if seeds == 1 else f" (medians over {seeds} seeds)"
    if 0 < reached < seeds:
        basis = f" (medians over {seeds} seeds, of which {reached} got there)"
    if not np.isfinite(ours):
        budget = int(known.max()[rival].min())
        verdict = ": it saved no labels here" if budget >= theirs else ""
        return f"{rival} did not reach, within its {budget} labels, {goal}{basis}{verdict}."
    verdict = ""
    if ours >= theirs:
        share = 100 * (ours / theirs - 1)
        verdict = ": it saved none" if ours == theirs else f": {share:.0f} % more"
    elif plain or seeds == 1:
        verdict = f": {100 * (1 - ours / theirs):.0f} % fewer"
        basis = basis[:-1] + _interval_saved(needed[rival], needed[baseline]) + basis[-1:]
    return f"{rival} needed {ours:g} labels to reach {goal}{verdict}{basis}."


def _interval_saved(ours: pd.Series, theirs: pd.Series) -> str:
    """Interval of the median of labels saved, of as many seeds as allow one."""
    saved = (theirs - ours.fillna(np.inf))[theirs.notna()]
    if len(saved) < _SEEDS_OF_AN_INTERVAL:
        return ""
    low, high = median_interval(saved)
    told = [
        f"{value:g}".replace("-", "−") if np.isfinite(value) else "none" for value in (low, high)
    ]
    return f"; labels saved, 95 % interval of the median: {told[0]} to {told[1]}"


def _without_baseline(table: pd.DataFrame, metric: str, baseline: str) -> str:
    level = shared_level(table, metric, baseline=baseline)
    if level.isna().any():
        return _undefined(metric)
    needed = labels_to_reach(table, level, metric)
    budgets = table.groupby(["strategy", "seed"])["n_labels"].max()
    each = ", ".join(
        f"{name} {format_labels(needed.loc[name, budgets[name].index], budgets[name].min())}"
        for name in needed.index
    )
    return (
        f"Labels needed for the {METRIC_NAMES[metric]} of {level.mean():.3f} that every strategy "
        f"reached: {each}."
    )


def signed(value: float) -> str:
    """Write a difference with its sign.

    >>> signed(0.05), signed(-0.05), signed(float("nan"))
    ('+0.050', '−0.050', '–')
    """
    return f"{value:+.3f}".replace("-", "−") if np.isfinite(value) else "–"


def p_value(value: float) -> str:
    """Write a p-value.

    >>> p_value(0.03125), p_value(0.00012), p_value(1.0), p_value(float("nan"))
    ('0.031', '< 0.001', '1.000', '–')
    """
    if not np.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def caveat(
    table: pd.DataFrame, summary: pd.DataFrame, metric: str, baseline: str, focus: str | None
) -> str:
    """Say how far the headline of one head can be trusted; ``summary`` is that of `summarise`."""
    alone = only_strategy(table)
    if alone is not None:
        return (
            "A curve that rises shows that the model learns, not that the questions were good: "
            "random questions may have taught it as much."
        )
    rival = _rival(table, baseline, focus) or baseline
    pair = _shared_seeds(table, rival, baseline) if baseline in summary.index else table
    if not pair.empty and is_too_easy(pair, metric):
        return ""
    seeds = int(pair["seed"].nunique())
    if seeds <= 1:
        return "One seed proves nothing: another first batch may turn the order around."
    sentences = []
    p, ranked = (float(summary[name][rival]) for name in ("alc_p", "alc_wilcoxon_p"))
    if np.isfinite(p):
        others = int(summary["alc_p"].notna().sum())
        tests = [f"Paired t-test p {_equals(p)}"]
        if np.isfinite(ranked):
            tests.append(f"Wilcoxon signed-rank test p {_equals(ranked)}")
        corrected = f", corrected for {others} comparisons by Holm's method" if others > 1 else ""
        sentences.append(f"{' and '.join(tests)}{corrected}.")
    best = summary["alc"].idxmax() if summary["alc"].notna().any() else rival
    if best not in (rival, baseline):
        sentences.append(f"The largest area under the curve was that of {best}.")
    if seeds < FEW_SEEDS:
        sentences.append(f"{seeds} seeds prove little: other first batches may turn out otherwise.")
    return " ".join(sentences)


def _equals(p: float) -> str:
    return p_value(p) if p < 0.001 else f"= {p_value(p)}"
