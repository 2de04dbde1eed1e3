"""``aift demo``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from .options import Batch, Quiet
from .terminal import announce, loading

__all__ = ["demo"]

# Seconds on two cores: of a round, to scan and ask; and to train on one label.
_SCANNING, _TRAINING = 8.0, 0.3


def demo(
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="For the campaign, report.html and model.onnx; made here."
        ),
    ] = Path("demo"),
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds with a model.")] = 4,
    batch: Batch = 16,
    quiet: Quiet = False,
) -> None:
    """Run a whole labelling campaign on stained tissue, answered by its known labels. Offline.

    It begins, asks, learns with a fine-tuned CNN, writes a report and an ONNX file, and leaves
    questions for you. After an interruption the same command goes on.

    Example: aift demo --out demo
    """
    announce(_describe(rounds, batch), quiet=quiet)
    with loading(quiet=quiet):
        from ..study.demo import run_demo
    run_demo(out, n_rounds=rounds, n_instances=batch, verbose=not quiet)


def _describe(rounds: int, batch: int) -> str:
    labels = batch * (rounds + 1) / 2
    minutes = math.ceil(rounds * (_SCANNING + _TRAINING * labels) / 60)
    return (
        f"A campaign on stained tissue: {rounds} {'round' if rounds == 1 else 'rounds'} of {batch} "
        f"labels, about {minutes} {'minute' if minutes == 1 else 'minutes'} on two cores. Ctrl-C "
        "loses no answer: the same command goes on."
    )
