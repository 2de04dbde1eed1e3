"""``aift ask``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import announce, loading

__all__ = ["ask"]


def ask(
    source: options.Source,
    model: options.ModelFolder = None,
    batch: Annotated[
        int, typer.Option("-b", "--batch", min=1, metavar="N", help="How many to ask for.")
    ] = 20,
    labels: options.LabelsCsv = Path("labels.csv"),
    size: options.PoolSize = None,
    groups: options.FolderGroups = False,
    seed: options.Seed = 0,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw what is asked side by side, as a PNG file."),
    ] = None,
    trusted: options.Trusted = None,
    quiet: options.Quiet = False,
) -> None:
    """Choose the images whose labels are worth most, and write their ids into a CSV file.

    Type the labels into its column "label", then: aift learn. Without a model, or before it exists,
    the most typical images are asked for; what the file holds already is not asked for again.

    Example: aift ask images --model model -b 20 --labels labels.csv
    """
    options.check_sheet(sheet, source)
    announce(f"Asking for {batch} labels on {source}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..labelling import LabelsFile, ask_next
        from ..labelling.saved import open_learner, options_of
        from ..pools import contact_sheet, open_sized
    learner = open_learner(model, trusted)
    file = LabelsFile.read(labels)
    if learner is None and model is not None:
        announce(f"No model at {model} yet: the most typical are asked for.", quiet=quiet)
    how = options_of(learner, size) | options.of_groups(groups)
    pool = open_sized(source, verbose=not quiet, **how)
    asked = ask_next(pool, batch, learner=learner, labels=file, random_state=seed)
    for k, name in enumerate(asked.ids):
        score = "" if asked.scores is None else f"\t{asked.scores[k]:.3f}"
        typer.echo(f"{name}{score}")
    if sheet is not None:
        contact_sheet(asked.images, asked.ids, sheet)
    options.report_broken(pool)
    waiting = len(file.waiting)
    announce(
        f"{labels}: {waiting} {'question waits' if waiting == 1 else 'questions wait'} for a label"
        f"; then: aift learn {source} --labels {labels} --model {model or 'model'}",
        quiet=quiet,
    )
