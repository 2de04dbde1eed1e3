"""Whole studies in one call, as the command line offers them: run, print, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from ..classifier import AIFTClassifier
from ..cnn import CNNClassifier
from ..patches import AffinePatches
from .datasets import Dataset
from .metrics import summarise
from .report import headline, write_report
from .simulate import simulate
from .strategies import build_strategy
from .tables import write_table
from .tissue import load_tissue

__all__ = ["DATASETS", "default_classifier", "print_summary", "run_demo", "run_study"]

DATASETS: dict[str, Callable[[], Dataset]] = {"tissue": load_tissue}
"""Pools with known labels, by the name that the command line takes."""


def default_classifier() -> AIFTClassifier:
    """Build what the studies train: EfficientNet-Lite0, all of it, on microscopy views.

    With few labels in all, replaying every one of them (ACFT(LQ)) costs little and is steadier
    than replaying the hard ones.

    Examples
    --------
    >>> default_classifier().replay
    'all'
    """
    cnn = CNNClassifier(lr=1e-3, max_epochs=4, class_weight="balanced")
    return AIFTClassifier(cnn, patches=AffinePatches.for_microscopy(n_patches=8), replay="all")


def run_demo(
    out: str | Path,
    *,
    n_rounds: int = 6,
    n_instances: int = 12,
    seeds: Iterable[int] = (0,),
    verbose: bool = True,
) -> pd.DataFrame:
    """Compare AIFT with random asking on the tissue pool and write a report.

    Parameters
    ----------
    out : path-like
        HTML file to write.
    n_rounds, n_instances, seeds
        As of `simulate`.
    verbose : bool, default=True
        Whether a progress bar is shown.

    Returns
    -------
    DataFrame
        The table of `simulate`.
    """
    return _run(
        load_tissue(),
        Path(out),
        {"n_rounds": n_rounds, "n_instances": n_instances, "seeds": list(seeds)},
        title="AIFT against random asking on stained tissue",
        verbose=verbose,
    )


def run_study(
    data: str,
    out: str | Path,
    *,
    strategies: Iterable[str] = ("random", "AIFT"),
    n_rounds: int = 8,
    n_instances: int = 20,
    seeds: Iterable[int] = (0, 1, 2),
    restart: bool = False,
    verbose: bool = True,
) -> pd.DataFrame:
    """Simulate campaigns on a pool by name; write ``table.jsonl`` and ``report.html``.

    Parameters
    ----------
    data : str
        A name of `DATASETS`.
    out : path-like
        Folder, made where it does not exist.
    strategies, n_rounds, n_instances, seeds, restart
        As of `simulate`.
    verbose : bool, default=True
        Whether a progress bar is shown.

    Returns
    -------
    DataFrame
        The table of `simulate`.
    """
    options = {
        "strategies": [build_strategy(name)[0] for name in strategies],
        "n_rounds": n_rounds,
        "n_instances": n_instances,
        "seeds": list(seeds),
        "restart": restart,
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    report, rows = out / "report.html", out / "table.jsonl"
    return _run(DATASETS[data](), report, options, title=None, rows=rows, verbose=verbose)


def _run(
    dataset: Dataset,
    path: Path,
    options: dict[str, Any],
    *,
    title: str | None,
    rows: Path | None = None,
    verbose: bool,
) -> pd.DataFrame:
    console = Console()
    console.print(dataset, highlight=False)
    start = time.perf_counter()
    classifier = default_classifier()
    table = simulate(dataset, classifier, **options, verbose=int(verbose))
    seconds = time.perf_counter() - start
    if rows is not None:
        # Before anything else can fail.
        console.print(f"Table:  {write_table(table, rows)}", soft_wrap=True, markup=False)
    print_summary(table, console)
    cnn, patches = classifier.estimator, classifier.patches
    settings = {**options, "classifier": classifier, "cnn": cnn, "patches": patches}
    report = write_report(table, dataset, path, title=title, parameters=settings)
    console.print(f"Took {seconds:.0f} s.")
    console.print(f"Report: {report}", soft_wrap=True, markup=False)
    return table


def print_summary(table: pd.DataFrame, console: Console) -> None:
    """Print the learning curves and what they say.

    Parameters
    ----------
    table : DataFrame
        The table of `simulate`.
    console : rich.console.Console
        Where to.
    """
    curves = table.groupby(["n_labels", "strategy"], sort=False)["auc"].mean().unstack()
    strategies = list(dict.fromkeys(table["strategy"]))
    summary = summarise(table)
    grid = Table(title="ROC AUC on the test set (mean over seeds)", title_justify="left")
    grid.add_column("labels", justify="right")
    for name in strategies:
        grid.add_column(name, justify="right")
    for n_labels, row in curves.iterrows():
        cells = ["-" if pd.isna(row[name]) else f"{row[name]:.3f}" for name in strategies]
        grid.add_row(str(n_labels), *cells)
    grid.add_section()
    grid.add_row("area", *(f"{summary.loc[name, 'alc']:.3f}" for name in strategies))
    if "random" in strategies:
        needed = [str(summary.loc[name, "labels_needed_text"]) for name in strategies]
        grid.add_row("labels to reach\nrandom's last", *needed)
    console.print(grid)
    console.print(headline(table), highlight=False, markup=False)
