"""Whole studies in one call, as the command line offers them: run, print, report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from .._checks import check_option
from .._writing import as_path
from ..errors import ParameterError
from ..models import MODELS, build_model
from .curves import mean_curve
from .datasets import Dataset
from .metrics import summarise
from .report.figures import METRICS
from .report.page import headline, write_report
from .simulate import simulate, whole_pool
from .sources import open_dataset
from .strategies import build_strategy

__all__ = ["print_summary", "run_study"]


def run_study(
    data: str,
    out: str | Path,
    *,
    models: Sequence[str] = ("finetune",),
    views: str = "microscopy",
    n_patches: int = 8,
    strategies: Iterable[str] = ("random", "AIFT"),
    n_rounds: int = 8,
    n_instances: int = 20,
    seeds: Iterable[int] = (0, 1, 2),
    restart: bool = False,
    groups: bool = False,
    metric: str = "auc",
    reference: bool = False,
    size: int | None = None,
    test_fraction: float | None = None,
    max_pool: int | None = None,
    max_test: int | None = None,
    random_state: int | None = None,
    drop_look_alikes: bool | None = None,
    verbose: bool = True,
) -> pd.DataFrame:
    """Simulate campaigns on a labelled pool; write ``table.jsonl`` and ``report.html``.

    The table grows round by round. Called again with the same folder, the study goes on where it
    was interrupted, or is extended by strategies, seeds and rounds.

    Parameters
    ----------
    data : str
        As of `open_dataset`: "tissue", an archive, a list, a folder, boxes ...
    out : path-like
        Folder, made where it does not exist.
    models : sequence of str, default=("finetune",)
        One or more of `MODELS`; several are compared on the same pool.
    views, n_patches
        As of `build_model`.
    strategies, n_rounds, n_instances, seeds, restart, groups
        As of `simulate`.
    metric : {"auc", "balanced_accuracy"}, default="auc"
        What the findings are told in.
    reference : bool, default=False
        Also train on the whole pool, for the line that the curves approach.
    size, test_fraction, max_pool, max_test, random_state, drop_look_alikes
        As of the loader of the data; None leaves its default.
    verbose : bool, default=True
        Whether a progress bar is shown.

    Returns
    -------
    DataFrame
        The table of `simulate`.
    """
    check_option("metric", metric, tuple(METRICS))
    if not models:
        raise ParameterError(f"no model; expected at least one of {', '.join(MODELS)}.")
    built = {name: build_model(name, views=views, n_patches=n_patches) for name in models}
    options = {
        "strategies": [build_strategy(name)[0] for name in strategies],
        "n_rounds": n_rounds,
        "n_instances": n_instances,
        "seeds": list(seeds),
        "restart": restart,
        "groups": groups,
    }
    dataset = open_dataset(
        data,
        size=size,
        verbose=int(verbose),
        **_without_none(
            test_fraction=test_fraction,
            max_pool=max_pool,
            max_test=max_test,
            random_state=random_state,
            drop_look_alikes=drop_look_alikes,
        ),
    )
    out = as_path(out)
    table = _simulate_and_report(
        dataset,
        built if len(built) > 1 else built[models[0]],
        out / "report.html",
        options,
        path=out / "table.jsonl",
        metric=metric,
        reference=reference,
        verbose=verbose,
    )
    _say(f"Table:  {out / 'table.jsonl'}")
    return table


def _without_none(**options: Any) -> dict[str, Any]:
    """Options that are given; the others keep the defaults of the loader."""
    return {name: value for name, value in options.items() if value is not None}


def _simulate_and_report(
    dataset: Dataset,
    model: Any,
    report: Path,
    options: dict[str, Any],
    *,
    path: Path,
    metric: str = "auc",
    reference: bool = False,
    verbose: bool,
) -> pd.DataFrame:
    _say(str(dataset))
    start = time.perf_counter()
    table = _simulate_resumably(dataset, model, options, path, verbose=verbose)
    seconds = time.perf_counter() - start
    console = Console()
    print_summary(table, console, metric=metric)
    models = model if isinstance(model, dict) else {"classifier": model}
    lines = {name: whole_pool(dataset, each) for name, each in models.items() if reference}
    for name, line in lines.items():
        which = f", {name}" if len(lines) > 1 else ""
        _say(f"The whole pool gives {METRICS[metric]} {line[metric]:.3f}{which}.")
    written = write_report(
        table,
        dataset,
        report,
        parameters={**options, **models},
        metric=metric,
        reference=lines if len(models) > 1 else lines.get("classifier"),
    )
    _say(f"Took {seconds:.0f} s.")
    _say(f"Report: {written}")
    return table


def _simulate_resumably(
    dataset: Dataset, model: Any, options: dict[str, Any], path: Path, *, verbose: bool
) -> pd.DataFrame:
    """Simulate, and say what is known from before or kept for later."""
    before = _count_rows(path)
    if before and verbose:
        _say(f"Going on from {before} finished rounds in {path}.")
    try:
        return simulate(dataset, model, **options, path=path, verbose=int(verbose))
    except KeyboardInterrupt:
        finished = _count_rows(path)
        _say(
            f"Interrupted. {finished} finished rounds are in {path}: the same command goes on "
            "from there."
            if finished
            else "Interrupted before the first round was finished: nothing is kept."
        )
        raise


def _count_rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _say(text: str) -> None:
    """Print a line as it is: the terminal wraps it, and a path in it can be copied."""
    Console().print(text, soft_wrap=True, markup=False, highlight=False)


def print_summary(table: pd.DataFrame, console: Console, *, metric: str = "auc") -> None:
    """Print the learning curves and what they say, for each head.

    Parameters
    ----------
    table : DataFrame
        The table of `simulate`.
    console : rich.console.Console
        Where to.
    metric : {"auc", "balanced_accuracy"}, default="auc"
        What is shown.
    """
    heads = table["head"].unique() if "head" in table else [None]
    for head in heads:
        part = table if head is None else table[table["head"] == head].drop(columns="head")
        _print_curves(part, console, metric, "" if head is None else f", {head}")


def _print_curves(table: pd.DataFrame, console: Console, metric: str, which: str) -> None:
    mean = mean_curve(table, metric)
    curves = mean.pivot_table(index="n_labels", columns="strategy", values=metric)
    strategies = list(dict.fromkeys(table["strategy"]))
    summary = summarise(table, metric=metric)
    measured = METRICS[metric][0].upper() + METRICS[metric][1:]
    # Not as the table's title, which wraps at the width of its columns.
    console.print(f"{measured} on the test set{which} (mean over seeds)", markup=False)
    grid = Table()
    grid.add_column("labels", justify="right")
    for name in strategies:
        grid.add_column(name, justify="right")
    for n_labels, row in curves.iterrows():
        cells = ["-" if pd.isna(row[name]) else f"{row[name]:.3f}" for name in strategies]
        grid.add_row(f"{n_labels:g}", *cells)
    grid.add_section()
    grid.add_row("area", *(f"{summary.loc[name, 'alc']:.3f}" for name in strategies))
    if "random" in strategies:
        needed = [str(summary.loc[name, "labels_needed_text"]) for name in strategies]
        grid.add_row("labels to reach\nrandom's last", *needed)
    console.print(grid)
    console.print(headline(table, metric=metric), highlight=False, markup=False)
