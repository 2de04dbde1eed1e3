"""Figures of a study: learning curves, and the classes that were asked.

Figures are built without pyplot, so that drawing one leaves no global state behind.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..comparisons import paired_interval
from ..curves import fill_chance

if TYPE_CHECKING:
    from ..datasets import Dataset

__all__ = ["plot_class_balance", "plot_learning_curves"]

METRICS = {"auc": "ROC AUC", "balanced_accuracy": "balanced accuracy"}

# Okabe and Ito for strategies, then four darker hues where there are many; Tol's "muted" for
# classes: both are told apart by colour-blind readers, and the two sets are not mistaken for each
# other. Grey is kept for the baseline.
STRATEGY_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5E2D91", "#7B4A12",
    "#A50026", "#6B7A00",
)  # fmt: skip
CLASS_COLOURS = (
    "#44AA99", "#332288", "#DDCC77", "#CC6677", "#88CCEE", "#882255", "#117733", "#999933",
    "#AA4499",
)  # fmt: skip
MARKERS = "osD^vP*"  # their number shares no factor with that of the colours
MANY = 5  # strategies, above which lines are thinner and single seeds are not drawn


def _styles(strategies: Iterable[str], baseline: str) -> dict[str, dict[str, Any]]:
    """Colour and marker per strategy, the same in every plot of a table."""
    styles: dict[str, dict[str, Any]] = {}
    for name in strategies:
        if name == baseline:
            styles[name] = {"color": "#5A5A5A", "linestyle": "--", "marker": "x"}
            continue
        turn = sum(known != baseline for known in styles)
        styles[name] = {
            "color": STRATEGY_COLOURS[turn % len(STRATEGY_COLOURS)],
            "marker": MARKERS[turn % len(MARKERS)],
            "linestyle": "-" if turn < len(STRATEGY_COLOURS) else "-.",
        }
    return styles


def _label_ends(ax: Axes, ends: Sequence[tuple[float, str, Any]]) -> None:
    """Name the curves at the right edge, pushed apart where they would overlap."""
    bottom, top = ax.get_ylim()
    gap = min(0.062, 1 / max(1, len(ends))) * (top - bottom)
    ends = sorted(ends, key=lambda end: end[0])
    heights = [end[0] for end in ends]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    if heights and heights[-1] > top:
        heights[-1] = top
        for i in range(len(heights) - 1, 0, -1):
            heights[i - 1] = min(heights[i - 1], heights[i] - gap)
    for height, (_, name, color) in zip(heights, ends, strict=True):
        ax.annotate(
            name.replace("$", r"\$"),  # a name is text, never TeX
            (1, height),
            xytext=(5, 0),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            va="center",
            color=color,
            annotation_clip=False,
        )


class LearningCurves(Axes):
    """Axes that a notebook shows as a picture, though they belong to no window."""

    def _repr_png_(self) -> bytes:
        return _png_bytes(self.figure, dpi=120)


def plot_learning_curves(
    table: pd.DataFrame,
    metric: str = "auc",
    ax: Axes | None = None,
    *,
    baseline: str = "random",
    reference: float | None = None,
    level: float = 0.95,
) -> Axes:
    """Draw the metric against the labels asked, one line per strategy.

    The line is the mean over seeds, for the rounds that every seed has. With four seeds or more
    the band is the t interval of that mean; with fewer, each seed is a thin line. More
    than five strategies are drawn as means alone, which would else be hidden. Bands are per
    strategy; whether two strategies differ is told by the paired interval of
    `aift_sklearn.study.metrics.summarise`, which is usually narrower.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()``.
    metric : str
        Column to draw, such as ``"auc"`` or ``"balanced_accuracy"``. An undefined AUC (one class
        known) is drawn at chance, 0.5.
    ax : Axes, optional
        Where to draw. By default a new figure, without pyplot.
    baseline : str
        Strategy drawn in dashed grey.
    reference : float, optional
        Performance of the whole pool with all labels: a dashed horizontal line.
    level : float
        Confidence of the band in (0, 1).

    Returns
    -------
    Axes
        Those given, or those of the new figure, ``ax.figure``: as the last line of a notebook's
        cell they show as a picture.

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": "random", "seed": 0, "round": [0, 1],
    ...                       "n_labels": [10, 20], "auc": [0.6, 0.8]})
    >>> ax = plot_learning_curves(table, reference=0.9)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('labels asked', 'ROC AUC on the test set')
    """
    filled = fill_chance(table, metric)
    if ax is None:
        figure = Figure(figsize=(5.4, 3.8), layout="constrained")
        ax = figure.add_subplot(axes_class=LearningCurves)
    ends: list[tuple[float, str, Any]] = []
    styles = _styles(pd.unique(filled["strategy"]), baseline)
    many = len(styles) > MANY
    for name, style in styles.items():
        rows = filled[filled["strategy"] == name]
        values = rows.pivot(index="round", columns="seed", values=metric)
        labels = rows.pivot(index="round", columns="seed", values="n_labels")
        whole = values.notna().all(axis=1)
        x, y = labels[whole].mean(axis=1), values[whole].mean(axis=1)
        ax.plot(x, y, label=name, lw=1.4 if many else 2, ms=4 if many else 5, **style)
        n_seeds = 1 if many else values.shape[1]
        if n_seeds >= 4 and len(y):
            zero = np.zeros(n_seeds)
            band = [paired_interval(row, zero, level=level)[1:]
                    for row in values[whole].to_numpy()]  # fmt: skip
            ax.fill_between(x, *np.transpose(band), color=style["color"], alpha=0.18, lw=0)
        elif n_seeds > 1:
            for seed in values.columns:
                ax.plot(labels[seed], values[seed], color=style["color"], lw=0.8, alpha=0.55)
        if len(y):
            ends.append((float(y.iloc[-1]), str(name), style["color"]))
    if reference is not None:
        ax.axhline(reference, color="black", lw=1, ls=(0, (5, 4)))
        ends.append((reference, "whole pool", "black"))
    ax.set(xlabel="labels asked", ylabel=f"{METRICS.get(metric, metric)} on the test set")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_ylim(top=min(ax.get_ylim()[1], 1.005))
    ax.grid(axis="y", color="#DDDDDD", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    _label_ends(ax, ends)
    return ax


def plot_class_balance(table: pd.DataFrame, y: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Draw the share of each class among the labels of each round, beside that of the pool."""
    strategies = list(pd.unique(table["strategy"]))
    columns = min(2 if len(strategies) < MANY else 3, len(strategies))
    rows = -(-len(strategies) // columns)
    fig = Figure(figsize=(0.8 + 3.4 * columns, 0.6 + 2.0 * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for ax in axes[len(strategies) :]:
        ax.set_visible(False)
    pool = np.array([np.mean(y == name) for name in classes])
    names = [f"n_{name}" for name in classes]
    last = int(table["round"].max())
    for ax in axes[len(strategies) - columns : len(strategies)]:
        ax.set_xlabel("round")
    for ax, strategy in zip(axes, strategies, strict=False):
        runs = table[table["strategy"] == strategy].sort_values("round").set_index("round")
        known = runs.groupby("seed")[names]
        asked = known.diff().fillna(runs[names]).groupby("round").sum()
        share = asked.div(asked.sum(axis=1).replace(0, np.nan), axis=0).fillna(0.0)
        below, pool_below = np.zeros(len(share)), 0.0
        for i, name in enumerate(names):
            color = CLASS_COLOURS[i % len(CLASS_COLOURS)]
            ax.bar(share.index, share[name], 0.86, bottom=below, color=color, label=classes[i])
            ax.bar(last + 1.6, pool[i], 0.86, bottom=pool_below, color=color)
            below, pool_below = below + share[name].to_numpy(), pool_below + pool[i]
        ticks = [*range(0, last + 1, max(1, -(-(last + 1) // 7)))]
        ax.set_xticks([*ticks, last + 1.6], [*map(str, ticks), "pool"])
        ax.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        ax.set_title(str(strategy).replace("$", r"\$"), fontsize=10, loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    fig.supylabel("share of labels", fontsize=10)
    return fig


def _png_bytes(fig: Any, *, dpi: int) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _marks(classes: Sequence[str]) -> list[str]:
    """Short marks that tell classes apart where colours cannot, as on a grey print."""
    # Of "DAB-negative" and "DAB-positive", what follows the last shared separator is telling.
    start = 0
    for position, letters in enumerate(zip(*classes, strict=False), start=1):
        if len(classes) == 1 or len(set(letters)) > 1:
            break
        start = start if letters[0].isalnum() else position
    for length in (1, 2, 3):
        marks = [name[start : start + length].upper() for name in classes]
        if len(set(marks)) == len(classes) and all(marks):
            return marks
    return [str(number) for number in range(1, len(classes) + 1)]


def _ink(colour: str) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#FFFFFF"


def class_entries(dataset: Dataset) -> list[dict[str, Any]]:
    """Number, name, mark, colours and counts of every class, in sorted order."""
    pool, test = np.asarray(dataset.y).astype(str), np.asarray(dataset.y_test).astype(str)
    names = sorted({*pool.tolist(), *test.tolist()})
    colours = [CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in range(len(names))]
    looks = zip(names, _marks(names), colours, strict=True)
    return [
        {
            "number": number, "name": name, "mark": mark, "colour": colour, "ink": _ink(colour),
            "pool": int((pool == name).sum()), "test": int((test == name).sum()),
        }
        for number, (name, mark, colour) in enumerate(looks)
    ]  # fmt: skip
