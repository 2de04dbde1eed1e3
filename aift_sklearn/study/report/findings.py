"""What a study found, as sentences and as labels needed, worded so as not to flatter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...errors import ParameterError
from ..curves import METRIC_NAMES, by_head, check_metric, check_table, fill_chance, mean_curve
from ..metrics import format_labels, labels_for_mean_curve, labels_to_reach, shared_level

__all__ = ["caveat", "headline", "labels_by_level", "signed"]

FEW_SEEDS = 10


def headline(
    table: pd.DataFrame,
    *,
    metric: str = "auc",
    baseline: str = "random",
    focus: str | None = None,
) -> str:
    """Say in one sentence how many labels a strategy saved, or that it saved none.

    Labels are those known when a strategy first reached the level that the baseline ended with,
    seed by seed; the sentence gives medians over seeds.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``. Several heads give one line each, ``"<head>: <sentence>"``,
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
    >>> table = pd.DataFrame({"strategy": ["random"] * 3 + ["aift"] * 3, "seed": 0,
    ...                       "round": [0, 1, 2] * 2, "n_labels": [10, 20, 40] * 2,
    ...                       "auc": [0.6, 0.7, 0.8, 0.6, 0.85, 0.9]})
    >>> headline(table)
    'aift needed 20 labels to reach the AUC of 0.800 for which random needed 40: 50 % fewer.'
    """
    check_metric(metric)
    heads = by_head(table)
    for rows in heads.values():
        check_table(rows, [metric])
    strategies = [str(name) for name in pd.unique(table["strategy"])]
    if focus is not None and focus not in strategies:
        raise ParameterError(f"focus is {focus!r}; expected a strategy of the table: {strategies}.")
    said = {name: _sentence(rows, metric, baseline, focus) for name, rows in heads.items()}
    if len(said) == 1:
        return next(iter(said.values()))
    return "\n".join(f"{name}: {sentence}" for name, sentence in said.items())


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


def _sentence(table: pd.DataFrame, metric: str, baseline: str, focus: str | None) -> str:
    rival = _rival(table, baseline, focus)
    strategies = pd.unique(table["strategy"])
    if rival is None or len(strategies) == 1:
        return f"Only {strategies[0]} was run, so there is nothing to compare it with."
    if baseline not in strategies:
        return _without_baseline(table, metric, baseline)
    pair = _shared_seeds(table, rival, baseline)
    if pair.empty:
        return f"{rival} and {baseline} share no seed, so they cannot be compared."
    return _compare(pair, metric, rival, baseline)


def _undefined(metric: str) -> str:
    name = METRIC_NAMES[metric]
    return f"The {name} could not be computed in every run, so labels cannot be compared."


def _compare(pair: pd.DataFrame, metric: str, rival: str, baseline: str) -> str:
    level = shared_level(pair, metric, baseline=baseline)
    if level.isna().any():
        return _undefined(metric)
    needed = labels_to_reach(pair, level, metric).T
    ours, theirs = needed[rival].fillna(np.inf).median(), needed[baseline].median()
    known = pair.groupby(["strategy", "seed"])["n_labels"]
    name = METRIC_NAMES[metric]
    if theirs <= known.min()[baseline].median():
        runs = fill_chance(pair, metric).groupby(["strategy", "seed"])
        ended = runs[metric].last()[rival].mean()
        return (
            f"{baseline} ended no better than it began ({name} {level.mean():.3f}), so labels "
            f"saved cannot be told; {rival} ended at {ended:.3f}."
        )
    goal = f"the {name} of {level.mean():.3f} for which {baseline} needed {theirs:g}"
    seeds, reached = len(needed), int(needed[rival].notna().sum())
    basis = "" if seeds == 1 else f" (medians over {seeds} seeds)"
    if 0 < reached < seeds:
        basis = f" (medians over {seeds} seeds, of which {reached} got there)"
    if not np.isfinite(ours):
        budget = int(known.max()[rival].min())
        verdict = ": it saved no labels here" if budget >= theirs else ""
        return f"{rival} did not reach, within its {budget} labels, {goal}{basis}{verdict}."
    share = 100 * (ours / theirs - 1)
    verdict = "it saved none" if ours == theirs else f"{abs(share):.0f} % fewer"
    if ours > theirs:
        verdict = f"{share:.0f} % more, so it saved none here"
    return f"{rival} needed {ours:g} labels to reach {goal}: {verdict}{basis}."


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


def caveat(
    table: pd.DataFrame, summary: pd.DataFrame, metric: str, baseline: str, focus: str | None
) -> str:
    """Say how far the headline of one head can be trusted; ``summary`` is that of `summarise`."""
    rival = _rival(table, baseline, focus) or baseline
    compared = _shared_seeds(table, rival, baseline) if baseline in summary.index else table
    seeds = int(compared["seed"].nunique())
    if seeds <= 1:
        return "One seed proves nothing: another first batch may turn the order around."
    text = ""
    difference, low, high = (
        float(summary[name][rival]) for name in ("alc_difference", "alc_low", "alc_high")
    )
    if np.isfinite(low):
        text = (
            f"Averaged over the whole curve, the {METRIC_NAMES[metric]} of {rival} differed from "
            f"that of {baseline} by {signed(difference)} (95 % interval {signed(low)} to "
            f"{signed(high)}, {seeds} paired seeds"
            f"{'; the sign is open' if low <= 0 <= high else ''}). "
        )
    best = summary["alc"].idxmax() if summary["alc"].notna().any() else rival
    if best not in (rival, baseline):
        text += f"The largest area under the curve was that of {best}. "
    if seeds < FEW_SEEDS:
        text += f"{seeds} seeds prove little: such intervals are narrower than they should be."
    return text.strip()


def _round_levels(
    table: pd.DataFrame, metric: str, *, at_least: int = 4, at_most: int = 5
) -> list[float]:
    """Round levels between the first batch and the best final mean: one alone would flatter."""
    means = mean_curve(table, metric).groupby("strategy")[metric]
    start, stop = float(means.first().min()), float(means.last().max())
    levels: list[float] = []
    for step in (0.1, 0.05, 0.02, 0.01, 0.005) if stop > start else ():
        multiples = np.arange(np.floor(start / step + 1e-9) + 1, np.floor(stop / step + 1e-9) + 1)
        levels = [round(float(multiple * step), 3) for multiple in multiples]
        if len(levels) >= at_least:
            break
    return levels[-at_most:]


def labels_by_level(
    table: pd.DataFrame, summary: pd.DataFrame, metric: str
) -> list[dict[str, Any]]:
    """Labels needed at several levels, as text: ``seeds`` and ``mean`` by strategy, per level.

    ``seeds`` is the median over seeds and its range, ``mean`` is read off the mean curve.
    """
    runs = table.groupby("strategy")["seed"].unique()
    levels = _round_levels(table, metric)
    digits = 2 if np.allclose(levels, np.round(levels, 2)) else 3
    rows = []
    for level in levels:
        needed = labels_to_reach(table, level, metric)
        on_average = labels_for_mean_curve(table, level, metric)
        budget = summary["n_labels"]
        rows.append(
            {
                "level": f"{level:.{digits}f}",
                "seeds": {
                    name: format_labels(needed.loc[name, runs[name]], budget[name])
                    for name in summary.index
                },
                "mean": {
                    name: format_labels(on_average[name], budget[name]) for name in summary.index
                },
            }
        )
    return rows
