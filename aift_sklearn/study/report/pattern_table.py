"""The papers' pattern table as a figure: seven histograms of patch probabilities, six scores."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...scores import _TEMPLATES, diversity, entropy, select_majority
from .patterns import LETTERS, MEANING

__all__ = ["SHAPES", "pattern_scores", "plot_pattern_table"]

SHAPES = {
    "A": "peak at .5",
    "B": "flat",
    "C": "both ends",
    "D": "one end (high)",
    "E": "one end (low)",
    "F": "low end + outliers",
    "G": "high end + outliers",
}
ALPHA = 0.25
_COLUMNS = ("E", "E¼", "D", "D¼", "E+D", "(E+D)¼")


def pattern_scores(*, eps: float | None = None) -> dict[str, dict[str, float]]:
    """Score the seven published shapes: entropy E, diversity D, their sum, with and without ¼.

    Parameters
    ----------
    eps : float, default=2**-52
        As of `patch_consistency`; the diversity of saturated shapes depends on it.

    Returns
    -------
    dict of str to dict
        By letter, then by column: "E", "E¼", "D", "D¼", "E+D", "(E+D)¼", where ¼ is majority
        selection with α = 1/4.

    Examples
    --------
    >>> {name: round(value, 2) for name, value in pattern_scores()["B"].items()}
    {'E': 4.57, 'E¼': 0.83, 'D': 1237.21, 'D¼': 20.79, 'E+D': 1241.77, '(E+D)¼': 21.62}
    """
    P = np.stack([1 - _TEMPLATES, _TEMPLATES], axis=-1)
    kept = select_majority(P, ALPHA)
    e, e4 = entropy(P, eps=eps), entropy(kept, eps=eps)
    d, d4 = diversity(P, eps=eps), diversity(kept, eps=eps)
    table = np.stack([e, e4, d, d4, e + d, e4 + d4], axis=1)
    return {
        letter: dict(zip(_COLUMNS, map(float, row), strict=True))
        for letter, row in zip(LETTERS, table, strict=True)
    }


def plot_pattern_table(*, eps: float | None = None) -> Figure:
    """Draw the table: one row per shape, with its histogram, what it means, and its scores.

    The darker a cell, the earlier that score would ask for the shape.

    Parameters
    ----------
    eps : float, default=2**-52
        As of `pattern_scores`.

    Returns
    -------
    Figure
        Without pyplot; `Figure.savefig` writes it.
    """
    scores = pattern_scores(eps=eps)
    figure = Figure(figsize=(9.6, 7.0), layout="constrained")
    grid = figure.add_gridspec(len(LETTERS), 2, width_ratios=[1, 2.6])
    numbers = np.array([list(row.values()) for row in scores.values()])
    ranks = numbers.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    for row, (letter, p) in enumerate(zip(LETTERS, _TEMPLATES, strict=True)):
        ax = figure.add_subplot(grid[row, 0])
        # Eleven values 0, .1, … 1 in the middle of their bins.
        ax.hist(p, bins=[k / 10 - 0.05 for k in range(12)], color="#0072B2", rwidth=0.85)
        ax.set(xlim=(-0.06, 1.06), ylim=(0, 7.5), yticks=[])
        ax.set_xticks([0, 0.5, 1], ["0", "", "1"] if row == len(LETTERS) - 1 else ["", "", ""])
        ax.set_ylabel(letter, rotation=0, fontsize=13, fontweight="bold", va="center", labelpad=14)
        ax.spines[["top", "right", "left"]].set_visible(False)
        if row == len(LETTERS) - 1:
            ax.set_xlabel("probability of class 1, 11 patches")
    table = figure.add_subplot(grid[:, 1])
    table.set_axis_off()
    table.set(xlim=(0, len(_COLUMNS)), ylim=(len(LETTERS), -0.35))
    for column, name in enumerate(_COLUMNS):
        table.text(column + 0.5, -0.12, name, ha="center", va="bottom", fontweight="bold")
    for row, letter in enumerate(LETTERS):
        table.text(0.05, row + 0.17, f"{SHAPES[letter]}: {MEANING[letter]}", fontsize=9)
        for column, value in enumerate(numbers[row]):
            # The same value has the same shade.
            equal = numbers[:, column].round(2) == round(value, 2)
            shade = ranks[equal, column].min() / (len(LETTERS) - 1)
            table.add_patch(
                _cell(column, row, (1 - 0.55 * shade, 1 - 0.33 * shade, 1 - 0.12 * shade))
            )
            table.text(column + 0.5, row + 0.6, f"{value:.2f}", ha="center", va="center")
    return figure


def _cell(column: int, row: int, colour: tuple[float, float, float]) -> Rectangle:
    return Rectangle((column + 0.03, row + 0.3), 0.94, 0.6, facecolor=colour, edgecolor="none")
