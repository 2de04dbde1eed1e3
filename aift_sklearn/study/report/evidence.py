"""Reads what a planned study left in a folder, and writes its page and its figure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..._writing import as_path, write_atomically
from ...errors import DataError
from ..planned.campaigns import read_campaigns
from ..planned.statistics import compare, rank_strategies, tables_of
from .evidence_page import Evidence, evidence_section
from .figures import plot_learning_curves

__all__ = ["draw_evidence", "read_evidence", "write_evidence"]

# Curves that a figure shows at most: more hide each other.
SHOWN = 5


def read_evidence(folder: str | os.PathLike[str]) -> Evidence:
    """Read what `run_plan` wrote to a folder: ``campaigns.jsonl`` and ``study.json``."""
    folder = as_path(folder)
    try:
        facts = json.loads((folder / "study.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder / 'study.json'} cannot be read ({error}); expected the folder of a study "
            "that was run to its end."
        ) from error
    return Evidence(read_campaigns(folder / "campaigns.jsonl"), facts)


def write_evidence(folder: str | os.PathLike[str]) -> Path:
    """Write ``evidence.md`` and ``evidence.png`` from what a study left in a folder.

    Returns
    -------
    Path
        The Markdown file.
    """
    folder = as_path(folder)
    evidence = read_evidence(folder)
    figure = draw_evidence(evidence)
    figure.savefig(folder / "evidence.png", dpi=110)
    text = f"# {evidence.facts['title']}\n![Learning curves](evidence.png)\n\n"
    write_atomically(folder / "evidence.md", text + evidence_section(evidence))
    return folder / "evidence.md"


def draw_evidence(
    evidence: Evidence, metric: str = "balanced_accuracy", *, ours: str = "AIFT"
) -> Figure:
    """Draw the learning curves: a row per setting, a column per pool.

    Of more than five strategies random, ours and the three rivals of the best mean rank are shown.
    """
    settings = evidence.settings
    pools = list(evidence.facts["pools"])
    size = (0.4 + 4.2 * len(pools), 0.3 + 3.4 * len(settings))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(settings), len(pools), squeeze=False)
    for axes, setting in zip(grid, settings, strict=True):
        tables = tables_of(evidence.campaigns, setting)
        ranked = rank_strategies(compare(tables, metric, ours=ours))
        shown = _shown(ranked.index, ours)
        for ax, pool in zip(axes, pools, strict=True):
            if pool not in tables:
                ax.set_visible(False)
                continue
            rows = tables[pool][tables[pool]["strategy"].isin(shown)]
            order = pd.Categorical(rows["strategy"], shown, ordered=True)
            rows = rows.iloc[np.argsort(order.codes, kind="stable")]
            whole = evidence.whole(pool, setting, metric)
            plot_learning_curves(rows, metric, ax, reference=whole if np.isfinite(whole) else None)
            ax.set_title(pool if len(settings) == 1 else f"{pool}: {setting}", fontsize=10)
    return figure


def _shown(ranked: Iterable[str], ours: str) -> list[str]:
    names = list(ranked)
    fixed = [name for name in ("random", ours) if name in names]
    others = [name for name in names if name not in fixed]
    if len(names) > SHOWN:
        others = [name for name in others if not name.startswith(f"{ours} ")]
    return [*fixed, *others[: SHOWN - len(fixed)]]
