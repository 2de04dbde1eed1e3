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

    SOURCE may be the folder of a campaign (aift init), whose page then asks for so many more.

    Example: aift ask images --model model -b 20 --labels labels.csv
    """
    if options.is_campaign(source):
        options.refuse_given(source, model=model, size=size, groups=groups)
        _ask_in_campaign(Path(source), batch, sheet, trusted=trusted, quiet=quiet)
        return
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


def _ask_in_campaign(
    folder: Path, n: int, sheet: Path | None, *, trusted: list[str] | None, quiet: bool
) -> None:
    announce(f"Asking for {n} more in {folder}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..campaign import Campaign
        from ..pools import contact_sheet
    with Campaign.open(folder, trusted=trusted or ()) as campaign:
        ids = [ask.candidate for ask in campaign.ask(n)]
        for name in ids:
            # Not the score: it would tell which ones were drawn at random.
            typer.echo(name)
        if sheet is not None and ids:
            contact_sheet(campaign.pool[campaign.pool.rows_of(ids)], ids, sheet)
        options.report_broken(campaign.pool)
    announce(f"{len(ids)} questions more; to answer them: aift annotate {folder}", quiet=quiet)
