"""Labels needed at several levels of a metric: savings depend on where they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..curves import mean_curve
from ..metrics import format_labels, labels_for_mean_curve, labels_to_reach

__all__ = ["labels_by_level"]


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
