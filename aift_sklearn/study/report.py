"""A study on one page: learning curves, labels saved, and the candidates that were asked.

The page is a single HTML file without scripts or outside requests, so that it can be mailed,
archived beside the data, and opened on a hospital computer.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..errors import ParameterError
from .figures import (
    METRICS,
    class_entries,
    gallery,
    plot_class_balance,
    plot_learning_curves,
    png,
)
from .metrics import (
    check_table,
    fill_chance,
    format_labels,
    labels_to_reach,
    shared_level,
    summarise,
)

if TYPE_CHECKING:
    from .datasets import Dataset

__all__ = ["headline", "plot_learning_curves", "write_report"]

PACKAGES = ("aift-sklearn", "numpy", "scipy", "pandas", "scikit-learn", "torch", "onnxruntime")
FEW_SEEDS = 10
NO_AUC = "The AUC could not be computed in every run, so labels cannot be compared."


def _rival(table: pd.DataFrame, baseline: str, focus: str | None) -> str | None:
    """Strategy the headline is about. Never the best one: picking the winner flatters it."""
    strategies = [str(name) for name in pd.unique(table["strategy"])]
    if focus is not None and focus not in strategies:
        raise ParameterError(f"focus is {focus!r}; expected a strategy of the table: {strategies}.")
    others = [name for name in strategies if name != baseline]
    named = [name for name in others if "aift" in name.lower()]
    return focus or next(iter([*named, *others]), None)


def _shared_seeds(table: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Rows of two strategies, for the seeds that both were run with."""
    both = table[table["strategy"].isin([first, second])]
    runs = both.groupby("seed")["strategy"].transform("nunique")
    return both[runs == len({first, second})]


def headline(table: pd.DataFrame, *, baseline: str = "random", focus: str | None = None) -> str:
    """Say in one sentence how many labels a strategy saved, or that it saved none.

    Labels are those known when a strategy first reached the AUC that the baseline ended with, seed
    by seed; the sentence gives medians over seeds.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    baseline : str
        Strategy to compare with.
    focus : str, optional
        Strategy the sentence is about. By default the first whose name contains "aift", else the
        first that is not the baseline.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        If the table is empty, lacks columns, or has no strategy called ``focus``.

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": ["random"] * 3 + ["aift"] * 3, "seed": 0,
    ...                       "round": [0, 1, 2] * 2, "n_labels": [10, 20, 40] * 2,
    ...                       "auc": [0.6, 0.7, 0.8, 0.6, 0.85, 0.9]})
    >>> headline(table)
    'aift needed 20 labels to reach the AUC of 0.800 for which random needed 40: 50 % fewer.'
    """
    check_table(table, ["auc"])
    rival = _rival(table, baseline, focus)
    strategies = pd.unique(table["strategy"])
    if rival is None or len(strategies) == 1:
        return f"Only {strategies[0]} was run, so there is nothing to compare it with."
    if baseline not in strategies:
        return _without_baseline(table, baseline)
    pair = _shared_seeds(table, rival, baseline)
    if pair.empty:
        return f"{rival} and {baseline} share no seed, so they cannot be compared."
    return _compare(pair, rival, baseline)


def _compare(pair: pd.DataFrame, rival: str, baseline: str) -> str:
    level = shared_level(pair, baseline=baseline)
    if level.isna().any():
        return NO_AUC
    needed = labels_to_reach(pair, level).T
    ours, theirs = needed[rival].fillna(np.inf).median(), needed[baseline].median()
    known = pair.groupby(["strategy", "seed"])["n_labels"]
    if theirs <= known.min()[baseline].median():
        ended = fill_chance(pair).groupby(["strategy", "seed"])["auc"].last()[rival].mean()
        return (
            f"{baseline} ended no better than it began (AUC {level.mean():.3f}), so labels saved "
            f"cannot be told; {rival} ended at {ended:.3f}."
        )
    goal = f"the AUC of {level.mean():.3f} for which {baseline} needed {theirs:g}"
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


def _without_baseline(table: pd.DataFrame, baseline: str) -> str:
    level = shared_level(table, baseline=baseline)
    if level.isna().any():
        return NO_AUC
    needed = labels_to_reach(table, level).T
    each = ", ".join(f"{name} {format_labels(needed[name].dropna(), 0)}" for name in needed)
    return f"Labels needed for the AUC of {level.mean():.3f} that every strategy reached: {each}."


def _caveat(table: pd.DataFrame, summary: pd.DataFrame, baseline: str, focus: str | None) -> str:
    """Say how far the headline can be trusted."""
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
            f"Averaged over the whole curve, the AUC of {rival} differed from that of {baseline} "
            f"by {_signed(difference)} (95 % interval {_signed(low)} to {_signed(high)}, "
            f"{seeds} paired seeds"
            f"{'; the sign is open' if low <= 0 <= high else ''}). "
        )
    best = summary["alc"].idxmax() if summary["alc"].notna().any() else rival
    if best not in (rival, baseline):
        text += f"The largest area under the curve was that of {best}. "
    if seeds < FEW_SEEDS:
        text += f"{seeds} seeds prove little: such intervals are narrower than they should be."
    return text.strip()


def _round_levels(table: pd.DataFrame, *, at_least: int = 3, at_most: int = 5) -> list[float]:
    """Round AUCs between the first batch and the best final mean: one level alone would flatter."""
    curves = fill_chance(table, "auc").groupby(["strategy", "seed"])["auc"]
    start = float(curves.first().groupby("strategy").mean().min())
    stop = float(curves.last().groupby("strategy").mean().max())
    levels: list[float] = []
    for step in (0.1, 0.05, 0.02, 0.01, 0.005) if stop > start else ():
        multiples = np.arange(np.floor(start / step) + 1, np.floor(stop / step + 1e-9) + 1)
        levels = [round(float(multiple * step), 3) for multiple in multiples]
        if len(levels) >= at_least:
            break
    return levels[-at_most:]


def _levels(table: pd.DataFrame, summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Labels needed at several levels of AUC, as text, one dict per level."""
    runs = table.groupby("strategy")["seed"].unique()
    rows = []
    levels = _round_levels(table)
    digits = 2 if np.allclose(levels, np.round(levels, 2)) else 3
    for level in levels:
        needed = labels_to_reach(table, level).T
        cells = [
            format_labels(needed.loc[runs[name], name], summary.loc[name, "n_labels"])
            for name in summary.index
        ]
        rows.append({"level": f"{level:.{digits}f}", "cells": cells})
    return rows


def _groups(dataset: Dataset) -> str:
    """Say whether patients, slides or videos sit on both sides of the split."""
    if dataset.groups is None or dataset.groups_test is None:
        return (
            "No groups (patients, slides) are known, so related candidates may sit on both sides."
        )
    pool, test = set(np.asarray(dataset.groups)), set(np.asarray(dataset.groups_test))
    shared = len(pool & test)
    verdict = f"{shared} ON BOTH SIDES, so the test is too easy" if shared else "none on both sides"
    return f"{len(pool)} groups in the pool, {len(test)} in the test set, {verdict}."


def _versions() -> list[tuple[str, str]]:
    versions = [("Python", platform.python_version())]
    for package in PACKAGES:
        try:
            versions.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:  # optional, or run from a checkout
            continue
    return versions


def _curve(table: pd.DataFrame, metric: str, baseline: str, reference: float | None) -> str:
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    plot_learning_curves(table, metric, axes, baseline=baseline, reference=reference)
    return png(figure)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if np.isfinite(value) else "–"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aift_sklearn.study"),
        autoescape=True,  # by default the suffix .jinja would switch escaping off
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "signed": _signed}
    return environment.get_template("report.html.jinja")


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_report(
    table: pd.DataFrame,
    dataset: Dataset,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    parameters: Mapping[str, object] | None = None,
    reference: Mapping[str, float] | None = None,
    baseline: str = "random",
    focus: str | None = None,
    max_pictures: int = 12,
) -> Path:
    """Write a study as one self-contained HTML page.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    dataset : Dataset
        The data the table came from: ``asked`` holds indices into ``dataset.X``.
    path : path-like
        File to write; replaced in one step, so that readers never see half a page.
    title : str, optional
        Heading. By default it names the data set.
    parameters : mapping, optional
        Settings of the study, listed as they are.
    reference : mapping of str to float, optional
        Performance with the labels of the whole pool, by metric: ``{"auc": 0.97}``.
    baseline, focus : str
        Strategies of the `headline`.
    max_pictures : int
        Candidates shown per strategy and round, of the first seed. A larger value makes a larger
        file (about 15 kB each); 0 shows none.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ParameterError
        If the table is empty, lacks columns, or asks for candidates that the data set lacks.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import tempfile
    >>> dataset = SimpleNamespace(
    ...     name="spots", X=np.zeros((4, 1, 8, 8), np.uint8), y=np.array(["no", "yes"] * 2),
    ...     X_test=np.zeros((2, 1, 8, 8), np.uint8), y_test=np.array(["no", "yes"]),
    ...     groups=None, groups_test=None, description="Drawn.", source="here", licence="CC0")
    >>> table = pd.DataFrame({"strategy": "random", "seed": 0, "round": [0, 1],
    ...     "n_labels": [2, 4], "auc": [0.6, 0.8], "balanced_accuracy": [0.5, 0.7],
    ...     "n_no": [1, 2], "n_yes": [1, 2], "score_seconds": 0.1, "train_seconds": 1.0,
    ...     "asked": [[0, 1], [3, 2]]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(table, dataset, f"{folder}/report.html").read_text("utf-8")
    >>> "Only random was run" in page
    True
    """
    path = Path(path)
    classes = class_entries(dataset)
    check_table(table, ["auc", "balanced_accuracy", "score_seconds", "train_seconds", "asked",
                        *(f"n_{entry['name']}" for entry in classes)])  # fmt: skip
    if max_pictures < 0:
        raise ParameterError(f"max_pictures is {max_pictures}; expected 0 or more.")
    summary = summarise(table, baseline=baseline)
    reference = dict(reference or {})
    names = [entry["name"] for entry in classes]
    page = _template().render(
        title=title or f"Active learning on {dataset.name}",
        headline=headline(table, baseline=baseline, focus=focus),
        caveat=_caveat(table, summary, baseline, focus),
        curves={
            label: _curve(table, metric, baseline, reference.get(metric))
            for metric, label in METRICS.items()
        },
        summary=summary.reset_index().to_dict("records"),
        levels=_levels(table, summary),
        balance=png(plot_class_balance(table, np.asarray(dataset.y).astype(str), names)),
        gallery=gallery(table, dataset, classes, max_pictures) if max_pictures else [],
        per_round=table.groupby("strategy")[["score_seconds", "train_seconds"]].mean().sum(axis=1),
        seeds=table["seed"].nunique(),
        undefined_auc=int(table["auc"].isna().sum()),
        first_seed=table["seed"].min(),
        dataset=dataset,
        classes=classes,
        groups=_groups(dataset),
        parameters={str(name): str(value) for name, value in (parameters or {}).items()},
        reference=reference,
        baseline=baseline,
        has_baseline=baseline in summary.index,
        versions=_versions(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    _write_atomically(path, page)
    return path
