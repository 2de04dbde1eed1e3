"""The command ``aift``: thin commands over the library."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from . import __version__
from .errors import AIFTError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Active incremental fine-tuning: ask experts about the images that teach most.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_err = Console(stderr=True)


class _Data(enum.StrEnum):
    """Pools that come with the package."""

    tissue = "tissue"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aift-sklearn {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    pass


Seeds = Annotated[int, typer.Option(min=1, help="Paired repetitions; one proves little.")]
Rounds = Annotated[int, typer.Option(min=2, help="Rounds, the first batch among them.")]
Batch = Annotated[int, typer.Option(min=1, help="Labels asked per round.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to write the report.")] = Path(
        "demo-report.html"
    ),
    seeds: Seeds = 3,
    rounds: Rounds = 6,
    batch: Batch = 12,
    quiet: Quiet = False,
) -> None:
    """Compare AIFT with random asking on stained tissue, with a fine-tuned CNN. Works offline.

    Example: aift demo --out demo-report.html
    """
    from .study.demo import run_demo

    run_demo(out, n_rounds=rounds, n_instances=batch, seeds=range(seeds), verbose=not quiet)


@app.command()
def simulate(
    data: Annotated[_Data, typer.Option(help="Pool with known labels.")] = _Data.tissue,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="Strategy by name, several times for several; by default random and AIFT."
        ),
    ] = None,
    rounds: Rounds = 8,
    batch: Batch = 12,
    seeds: Seeds = 3,
    restart: Annotated[
        bool, typer.Option("--restart", help="Train anew each round (RFT, AFT), not on (ACFT).")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for table.jsonl and report.html.")] = Path(
        "aift-study"
    ),
    quiet: Quiet = False,
) -> None:
    """Simulate campaigns on a pool with known labels, and report the labels saved.

    Example: aift simulate --data tissue --strategy random --strategy AIFT --seeds 3 --out study
    """
    from .study.demo import run_study

    run_study(
        data.value,
        out,
        strategies=strategy or ["random", "AIFT"],
        n_rounds=rounds,
        n_instances=batch,
        seeds=range(seeds),
        restart=restart,
        verbose=not quiet,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of the package is one readable line and exit status 2."""
    try:
        app(arguments)
    except AIFTError as error:
        _err.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
