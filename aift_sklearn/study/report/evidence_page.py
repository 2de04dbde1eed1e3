"""The evidence of a planned study in words and tables, what does not flatter first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..curves import METRIC_NAMES
from ..metrics import format_labels, labels_for_mean_curve, labels_to_reach
from ..planned.statistics import (
    Saved,
    cold_start_differences,
    compare,
    labels_saved,
    rank_strategies,
    tables_of,
)
from .figures import METRICS
from .findings import p_value, signed

__all__ = ["Evidence", "evidence_section", "markdown_table", "share_saved"]

SHARES = (0.90, 0.95, 0.99)
EARLY = 60
SIGNIFICANT = 0.05
# The decisions first, then the ranking.
MEASURES = ("balanced_accuracy", "auc")


@dataclass(frozen=True)
class Evidence:
    """Campaigns of a study, and the facts about its pools.

    Attributes
    ----------
    campaigns : DataFrame
        Of `read_campaigns`.
    facts : dict
        Of ``study.json``: title, plan, machine, pools.
    """

    campaigns: pd.DataFrame
    facts: dict[str, Any]

    @property
    def settings(self) -> list[str]:
        """Names of the settings, in the order of the plan."""
        return [str(name) for name in pd.unique(self.campaigns["setting"])]

    def whole(self, pool: str, setting: str, metric: str) -> float:
        """What all labels of a pool give, NaN where that was not measured."""
        reached = self.facts["pools"][pool].get("whole", {}).get(setting, {})
        return float(reached.get(metric, np.nan))


def evidence_section(evidence: Evidence, *, level: int = 2, ours: str = "AIFT") -> str:
    """Tell what a study shows.

    Parameters
    ----------
    evidence : Evidence
        The study.
    level : int, default=2
        Of its headings.
    ours : str, default="AIFT"
        Strategy that is compared with the others.

    Returns
    -------
    str
        Markdown: pools, then each setting, then all settings beside each other.
    """
    head = "#" * level
    parts = [f"{head} Pools\n{_pools(evidence)}"]
    for setting in evidence.settings:
        parts.append(f"{head} {setting}\n{_setting(evidence, setting, ours, head + '#')}")
    if len(evidence.settings) > 1:
        parts.append(f"{head} Settings beside each other\n{_settings(evidence, ours)}")
    return "\n\n".join(parts) + "\n\n" + _made_with(evidence) + "\n"


def _pools(evidence: Evidence) -> str:
    lines = []
    for name, facts in evidence.facts["pools"].items():
        known = facts["licence"] != "not stated"
        licence = f" Licence: {facts['licence']}." if known else ""
        asked = f"{facts['rounds']} rounds of {facts['batch']} labels; views for {facts['views']}."
        lines.append(
            f"**{name}.** {facts['description']}{licence} {asked}\n\n```\n{facts['dataset']}\n```"
        )
    return "\n\n".join(lines)


def _setting(evidence: Evidence, setting: str, ours: str, head: str) -> str:
    tables = tables_of(evidence.campaigns, setting)
    chosen = evidence.campaigns[evidence.campaigns["setting"] == setting]
    parameters = chosen["parameters"].iloc[0]
    told = ", ".join(f"{name} {value}" for name, value in parameters.items())
    compared = {metric: compare(tables, metric, ours=ours) for metric in MEASURES}
    seeds = pd.Series([table["seed"].nunique() for table in tables.values()])
    parts = [
        f"{_span(seeds)} paired seeds; {told}. All seeds have one pool and one test set: intervals "
        "tell how far a difference depends on first batches and on chance in training, not how it "
        "would be on other images.",
        _findings(compared, ours),
    ]
    mixed = chosen.groupby("pool")["made"].agg(lambda made: len({m for each in made for m in each}))
    if (mixed > 1).any():
        pools = ", ".join(str(pool) for pool in mixed.index[mixed > 1])
        parts.append(f"**Made with more than one state of the code: {pools}.**")
    for metric in MEASURES:
        parts.append(
            f"{head} {METRICS[metric][0].upper()}{METRICS[metric][1:]}\n"
            "Mean height of the learning curve minus random's, with the 95 % t interval of the "
            f"paired difference. ▲ better and ▼ worse than {ours} (paired t-test, p < 0.05 after "
            f"Holm's correction, for the rivals and for the variants of {ours} apart).\n\n"
            + _differences(compared[metric], ours)
        )
    parts.append(f"{head} Labels needed\n{_labels(evidence, tables, setting)}")
    parts.append(f"{head} The first {EARLY} labels\n{_cold_start(tables)}")
    parts.append(f"{head} What was asked, and how long it took\n{_asked(chosen, evidence)}")
    return "\n\n".join(parts)


def _span(values: pd.Series[Any]) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _findings(compared: dict[str, pd.DataFrame], ours: str) -> str:
    """Sentences; first where ours did not win."""
    bad, good = [], []
    for metric, table in compared.items():
        name = METRIC_NAMES[metric]
        for pool in pd.unique(table.index.get_level_values("pool")):
            rows = pd.DataFrame(table.loc[pool])
            if ours not in rows.index:
                continue
            row = _row(rows, ours)
            # One rule for both: an interval on one side of 0.
            if row["low"] > 0:
                good.append(f"{pool}, {name}: {_interval(row)}.")
            else:
                verdict = "did worse than random" if row["high"] < 0 else "shows no gain"
                bad.append(f"{pool}, {name}: {ours} {verdict}, {_interval(row)}.")
            better = rows.query("ours_low > 0 or (ours_p < @SIGNIFICANT and ours_difference > 0)")
            for rival in better.index:
                each = _row(better, rival)
                after = "after" if each["ours_p"] < SIGNIFICANT else "but not after"
                bad.append(
                    f"{pool}, {name}: {rival} is better than {ours} by "
                    f"{_interval(each, 'ours_')}, {after} correction for all rivals "
                    f"(p {p_value(each['ours_p'])})."
                )
    lines = [f"- {each}" for each in bad]
    if good:
        lines.append(f"- {ours} above random, mean height of the curve: " + " ".join(good))
    lines.append(
        "- Intervals are of one comparison each, also where a rival is named; p-values are those "
        "of paired t-tests after Holm's correction."
    )
    return "\n".join(lines)


def _row(table: pd.DataFrame, label: Any) -> pd.Series[Any]:
    row: pd.Series[Any] = table.loc[label]
    return row


def _interval(row: pd.Series[Any], prefix: str = "") -> str:
    if np.isnan(row[f"{prefix}low"]):
        return f"{signed(row[f'{prefix}difference'])} (one seed)"
    ends = f"{signed(row[f'{prefix}low'])} to {signed(row[f'{prefix}high'])}"
    return f"{signed(row[f'{prefix}difference'])} ({ends})"


def _differences(compared: pd.DataFrame, ours: str) -> str:
    ranked = rank_strategies(compared)
    pools = list(pd.unique(compared.index.get_level_values("pool")))
    rows = []
    for strategy in ranked.index:
        cells = []
        for pool in pools:
            if (pool, strategy) not in compared.index:
                cells.append("–")
                continue
            row = _row(compared, (pool, strategy))
            mark = ""
            if row["ours_p"] < SIGNIFICANT:
                mark = " ▲" if row["ours_difference"] > 0 else " ▼"
            # The baseline differs from nothing: its height.
            cells.append((f"{row['area']:.3f}" if strategy == "random" else _interval(row)) + mark)
        name = f"**{strategy}**" if strategy == ours else str(strategy)
        rank = _row(ranked, strategy)
        rows.append([name, *cells, f"{rank['mean_rank']:.1f}", signed(rank["worst"])])
    return markdown_table(["strategy", *pools, "mean rank", "worst"], rows)


def _labels(evidence: Evidence, tables: dict[str, pd.DataFrame], setting: str) -> str:
    """Labels for where random ended, and for shares of what the whole pool gives."""
    parts = []
    for metric in MEASURES:
        for pool, table in tables.items():
            budget = int(table["n_labels"].max())
            whole = evidence.whole(pool, setting, metric)
            levels = [share * whole for share in SHARES if np.isfinite(whole)]
            of_means = [labels_for_mean_curve(table, level, metric) for level in levels]
            of_seeds = [labels_to_reach(table, level, metric) for level in levels]
            rows = []
            for strategy in pd.unique(table["strategy"]):
                saved = labels_saved(table, metric, ours=str(strategy))
                needed = f"{saved.labels:g}" if np.isfinite(saved.labels) else f">{budget}"
                cells = [needed, share_saved(saved) if strategy != "random" else ""]
                for of_mean, of_seed in zip(of_means, of_seeds, strict=True):
                    reached = of_seed.loc[strategy].notna().mean()
                    share = "" if reached in (0, 1) else f" ({reached:.0%} of seeds)"
                    cells.append(format_labels(of_mean[strategy], budget) + share)
                rows.append([strategy, *cells])
            shares = [f"{s:.0%} of all labels', {s * whole:.3f}" for s in SHARES if levels]
            head = ["strategy", "where random ended", "saved", *shares]
            title = f"{pool}, {METRIC_NAMES[metric]}, of {budget} labels"
            parts.append(f"{title}:\n\n{markdown_table(head, rows)}")
    return (
        "Where random ended: median over the seeds, each at the level of its own random campaign, "
        "with the 95 % interval of the median by order statistics, of fewer than six seeds their "
        "range; – where it was not reached. Shares "
        "of what all labels of the pool give: of the mean curve.\n\n" + "\n\n".join(parts)
    )


def share_saved(saved: Saved) -> str:
    """Write the share of the labels saved, with its interval.

    >>> share_saved(Saved(60, 240, 0.75, 0.5, 0.8, 10, 10))
    '75% (50% to 80%)'
    """

    def percent(value: float) -> str:
        return f"{value:.0%}".replace("-", "−") if np.isfinite(value) else "–"

    return f"{percent(saved.share)} ({percent(saved.low)} to {percent(saved.high)})"


def _cold_start(tables: dict[str, pd.DataFrame]) -> str:
    strategies = list(dict.fromkeys(s for table in tables.values() for s in table["strategy"]))
    columns: list[str] = []
    cells: dict[str, list[str]] = {str(strategy): [] for strategy in strategies}
    for metric in MEASURES:
        for pool, table in tables.items():
            lowest = cold_start_differences(table, metric, n_labels=EARLY)
            columns.append(f"{pool}, {METRIC_NAMES[metric]}")
            for strategy in strategies:
                cells[strategy].append(signed(lowest.get(strategy, np.nan)))
    rows = [[strategy, *cells[strategy]] for strategy in strategies if strategy != "random"]
    return (
        "Difference of the means from random's in the round where it is lowest, among the rounds "
        f"with at most {EARLY} labels.\n\n" + markdown_table(["strategy", *columns], rows)
    )


def _asked(chosen: pd.DataFrame, evidence: Evidence) -> str:
    last = chosen.assign(
        found=[
            rare[-1] / n[-1] for rare, n in zip(chosen["rarest"], chosen["n_labels"], strict=True)
        ],
        alike=[pd.Series(each, dtype=float).mean() for each in chosen["redundancy"]],
    )
    means = last.groupby(["strategy", "pool"], sort=False)[
        ["found", "alike", "score_seconds", "train_seconds"]
    ].mean()
    pools = list(pd.unique(chosen["pool"]))
    rows = []
    for strategy in pd.unique(chosen["strategy"]):
        cells = []
        for pool in pools:
            if (strategy, pool) not in means.index:
                cells.append("–")
                continue
            row = means.loc[(strategy, pool)]
            cells.append(
                f"{row['found']:.1%}, {row['alike']:.2f}, {row['score_seconds']:.1f} + "
                f"{row['train_seconds']:.1f} s"
            )
        rows.append([strategy, *cells])
    rare = ", ".join(
        f"{min(facts['shares'].values()):.1%} in {pool}"
        for pool, facts in evidence.facts["pools"].items()
        if pool in pools
    )
    return (
        f"Share of the rarest class among the labels ({rare}); cosine of each candidate of a batch "
        "to the one most like it; seconds of a campaign for choosing and for training, "
        "in one of the processes of the machine that is named below.\n\n"
        + markdown_table(["strategy", *pools], rows)
    )


def _settings(evidence: Evidence, ours: str) -> str:
    """Heights and seconds of random and ours in every setting."""
    campaigns = evidence.campaigns
    pools = list(pd.unique(campaigns["pool"]))
    rows = []
    for setting in evidence.settings:
        tables = tables_of(campaigns, setting)
        heights = compare(tables, "balanced_accuracy", ours=ours)["area"]
        areas = compare(tables, "auc", ours=ours)["area"]
        for strategy in ("random", ours):
            chosen = campaigns[
                (campaigns["setting"] == setting) & (campaigns["strategy"] == strategy)
            ]
            if chosen.empty:
                continue
            seconds = chosen.groupby("pool")["train_seconds"].mean()
            cells = []
            for pool in pools:
                key = (pool, strategy)
                told = "–"
                if key in heights.index:
                    told = f"{heights[key]:.3f}, {areas[key]:.3f}, {seconds[pool]:.0f} s"
                cells.append(told)
            rows.append([setting, strategy, *cells])
    return (
        "Mean height of the curves in balanced accuracy and in ROC AUC, and seconds of training of "
        "a campaign.\n\n" + markdown_table(["setting", "strategy", *pools], rows)
    )


def _made_with(evidence: Evidence) -> str:
    makers = list(dict.fromkeys(each for made in evidence.campaigns["made"] for each in made))
    listed = "\n".join(f"- {maker}" for maker in makers)
    n = len(evidence.campaigns)
    return f"{n} campaigns, on {evidence.facts['machine']}, one thread each, made with\n\n{listed}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)
