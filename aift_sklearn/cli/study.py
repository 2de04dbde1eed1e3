"""``aift study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Quiet
from .terminal import announce, loading

__all__ = ["study"]


def study(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="TOML file: pools, settings, strategies, seeds.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="For campaigns.jsonl, evidence.md and evidence.png."),
    ] = Path("study"),
    jobs: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes; by default as many as cores."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run a planned study of many pools, settings and strategies, and write what it shows.

    Each finished round is kept: the same command goes on after an interruption, and runs what was
    added to the plan.

    Example: aift study examples/study.toml --out study
    """
    announce(f"Reading {plan}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..study.planned.reading import read_plan
        from ..study.planned.running import run_plan
        from ..study.report.evidence import write_evidence
    read = read_plan(plan)
    announce(
        f"{read.title}: {len(read.pools)} pools, {len(read.settings)} settings, {read.n_rounds} "
        f"rounds. Ctrl-C keeps finished rounds in {out}.",
        quiet=quiet,
    )
    run_plan(read, out, jobs=jobs, verbose=not quiet)
    typer.echo(f"Evidence: {write_evidence(out)}")
