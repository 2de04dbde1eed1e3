"""A study on one page: learning curves, labels saved, and the candidates that were asked.

The page is a single HTML file without scripts or outside requests, so that it can be mailed,
archived beside the data, and opened on a hospital computer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..._page_pictures import figure_uri
from ..._versions import package_versions
from ..._writing import as_path, write_atomically
from ...errors import ParameterError
from ..curves import METRIC_NAMES, by_head, check_metric, check_table
from ..metrics import summarise
from .figures import MANY, METRICS, class_entries, plot_class_balance, plot_learning_curves
from .findings import caveat, headline, is_too_easy, only_strategy, p_value, signed
from .gallery import gallery
from .levels import labels_by_level
from .patterns import LETTERS, pattern_legend, pattern_rows, pattern_shares

if TYPE_CHECKING:
    from ..datasets import Dataset

__all__ = ["headline", "plot_learning_curves", "write_report"]

PACKAGES = ("aift-sklearn", "numpy", "scipy", "pandas", "scikit-learn", "torch", "onnxruntime")
MOST_OPEN = 3  # strategies whose pictures are unfolded; more would bury the rest of the page


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


def _curve(table: pd.DataFrame, metric: str, baseline: str, reference: float | None) -> str:
    height = 4.8 if table["strategy"].nunique() > MANY else 3.8
    figure = Figure(figsize=(5.4, height), layout="constrained")
    axes = figure.subplots()
    plot_learning_curves(table, metric, axes, baseline=baseline, reference=reference)
    return figure_uri(figure)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aift_sklearn.study.report"),
        autoescape=True,  # by default the suffix .jinja would switch escaping off
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "signed": signed, "p_value": p_value}
    return environment.get_template("report.html.jinja")


def _references(
    reference: Mapping[str, Any] | None, heads: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Performance with all labels by head; one that names no head is that of the first."""
    given = dict(reference or {})
    if not any(isinstance(value, Mapping) for value in given.values()):
        given = {heads[0]: given}
    unknown = [name for name in given if name not in heads]
    if unknown:
        raise ParameterError(f"reference names the heads {unknown}; expected some of {[*heads]}.")
    return {head: dict(given.get(head, {})) for head in heads}


def _results(
    table: pd.DataFrame,
    head: str,
    metric: str,
    baseline: str,
    focus: str | None,
    reference: dict[str, float],
) -> dict[str, Any]:
    """Everything the page says about one head, in comparison with its own baseline."""
    summary = summarise(table, metric=metric, baseline=baseline)
    # The measure of the headline comes first.
    metrics = sorted(METRIC_NAMES, key=lambda name: name != metric)
    return {
        "head": head,
        "headline": headline(table, metric=metric, baseline=baseline, focus=focus),
        "caveat": caveat(table, summary, metric, baseline, focus),
        "curves": {
            METRICS[name]: _curve(table, name, baseline, reference.get(name)) for name in metrics
        },
        "summary": summary.reset_index().to_dict("records"),
        "levels": labels_by_level(table, summary, metric),
        "per_round": table.groupby("strategy")[["score_seconds", "train_seconds"]]
        .mean()
        .sum(axis=1),
        "seeds": int(table["seed"].nunique()),
        "undefined_auc": int(table["auc"].isna().sum()),
        "reference": reference,
        "has_baseline": baseline in summary.index,
        "comparisons": int(summary["alc_p"].notna().sum()),
        "ranked": bool(summary["alc_wilcoxon_p"].notna().any()),
    }


def _overview(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Row of the summary by strategy and head; None where a head was not run with a strategy."""
    by_head = [{row["strategy"]: row for row in result["summary"]} for result in results]
    names = dict.fromkeys(name for rows in by_head for name in rows)
    return [{"strategy": name, "cells": [rows.get(name) for rows in by_head]} for name in names]


def _patterns(
    table: pd.DataFrame, classes: Sequence[str], shown: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Legend of the patterns, how often each was asked, and whether drawings are ``shown``."""
    counts = pattern_shares(table)
    pictures = [
        picture for group in shown for each in group["rounds"] for picture in each["pictures"]
    ]
    drawn = {picture["seen"]["pattern"] for picture in pictures if picture["seen"]}
    seen = [letter for letter in LETTERS if counts[letter].any() or letter in drawn]
    legend = pattern_legend(classes, seen)
    rounds = counts.index.get_level_values("round")
    return {
        "legend": legend,
        "rows": pattern_rows(counts, [entry["letter"] for entry in legend]),
        "rounds": [int(rounds.min()), int(rounds.max())] if len(rounds) else [],
        "drawn": bool(drawn),
    }


def _next_steps(heads: Mapping[str, pd.DataFrame], metric: str) -> list[dict[str, str]]:
    """What to do where a study cannot tell anything, with the command for it."""
    alone = [only_strategy(rows) for rows in heads.values()]
    if all(alone):
        asked = alone[0] if len({*alone}) == 1 else "AIFT"
        other, kind = ("AIFT", "active") if asked == "random" else ("random", "random")
        return [
            {
                "text": f"Run {kind} asking beside it, on the same pool. Into the same folder, "
                "what was run is kept, and only the other strategy is added:",
                "command": f'aift simulate --data FOLDER --strategy "{asked}" --strategy {other} '
                "--out study",
            }
        ]
    if any(is_too_easy(rows, metric) for rows in heads.values()):
        return [
            {
                "text": "What the model knows from the first batch on, no question can teach it. "
                "Start with fewer labels, or take harder images:",
                "command": "aift simulate --data FOLDER --batch 4 --out harder",
            }
        ]
    return []


def write_report(
    table: pd.DataFrame,
    dataset: Dataset,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    parameters: Mapping[str, object] | None = None,
    reference: Mapping[str, Any] | None = None,
    metric: str = "auc",
    baseline: str = "random",
    focus: str | None = None,
    max_pictures: int = 12,
) -> Path:
    """Write a study as one self-contained HTML page.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``. Several heads get one section of results each, compared with
        their own baseline; pictures and classes are those of the first. Where ``patch_proba`` is
        there, every picture comes with the patch probabilities of the model that asked.
    dataset : Dataset
        The data the table came from: ``asked`` holds indices into ``dataset.X``.
    path : path-like
        File to write; replaced in one step, so that readers never see half a page.
    title : str, optional
        Heading. By default it names the data set.
    parameters : mapping, optional
        Settings of the study, listed as they are.
    reference : mapping of str to float, optional
        Performance with the labels of the whole pool, by metric: ``{"auc": 0.97}``, which is
        that of the first head; or by head: ``{"cnn": {"auc": 0.97}, "forest": {"auc": 0.91}}``.
    metric : {"auc", "balanced_accuracy"}
        Measure of the headline, the areas, the levels and the labels needed. Both have curves.
    baseline, focus : str
        Strategies of the `headline`.
    max_pictures : int
        Candidates shown per strategy and round, of the first seed. A larger value makes a larger
        file (1 to 6 kB each); 0 shows none.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ParameterError
        If the table is empty, lacks columns, or asks for candidates that the data set lacks, or
        if the metric is another.

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
    path = as_path(path)
    classes = class_entries(dataset)
    check_metric(metric)
    if max_pictures < 0:
        raise ParameterError(f"max_pictures is {max_pictures}; expected 0 or more.")
    heads = by_head(table)
    for rows in heads.values():
        check_table(rows, ["auc", "balanced_accuracy", "score_seconds", "train_seconds", "asked",
                           *(f"n_{entry['name']}" for entry in classes)])  # fmt: skip
    references = _references(reference, [*heads])
    first = next(iter(heads.values()))
    names = [entry["name"] for entry in classes]
    shown = gallery(first, dataset, classes, max_pictures) if max_pictures else []
    headline(table, metric=metric, baseline=baseline, focus=focus)  # refuses a wrong focus
    results = [
        _results(rows, head, metric, baseline, focus, references[head])
        for head, rows in heads.items()
    ]
    page = _template().render(
        title=title or f"Active learning on {dataset.name}",
        results=results,
        overview=_overview(results) if len(heads) > 1 else [],
        measure=metric,
        metric=METRIC_NAMES[metric],
        next_steps=_next_steps(heads, metric),
        first_head=next(iter(heads)) if len(heads) > 1 else "",
        balance=figure_uri(plot_class_balance(first, np.asarray(dataset.y).astype(str), names)),
        gallery=shown,
        most_open=MOST_OPEN,
        patterns=_patterns(first, names, shown),
        first_seed=first["seed"].min(),
        dataset=dataset,
        notes=getattr(dataset, "notes", ()),
        classes=classes,
        groups=_groups(dataset),
        parameters={str(name): str(value) for name, value in (parameters or {}).items()},
        baseline=baseline,
        versions=package_versions(PACKAGES),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_atomically(path, page)
    return path
