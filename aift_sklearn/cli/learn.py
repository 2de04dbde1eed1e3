"""``aift learn``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import announce, loading

__all__ = ["learn"]


def learn(
    source: options.Source,
    model: options.ModelFolder = Path("model"),
    labels: options.LabelsCsv = Path("labels.csv"),
    kind: Annotated[
        options.Model | None,
        typer.Option(
            metavar="NAME",
            help="Of a new model. finetune: the whole CNN, the default; features: logistic "
            "regression on frozen features, much faster.",
        ),
    ] = None,
    views: Annotated[
        options.Views | None,
        typer.Option(
            metavar="NAME",
            help="Of a new model: microscopy, the default, radiographs or endoscopy.",
        ),
    ] = None,
    size: options.PoolSize = None,
    seed: options.Seed = 0,
    trusted: options.Trusted = None,
    quiet: options.Quiet = False,
) -> None:
    """Teach a model the labels that were typed into a CSV file, and save it.

    A model that exists continues from what it knows, on what is new; else one is begun.

    SOURCE may be the folder of a campaign (aift init), which learns what its ledger holds, and asks
    for the next batch.

    Example: aift learn images --labels labels.csv --model model
    """
    if options.is_campaign(source):
        options.refuse_given(source, kind=kind, views=views, size=size)
        _learn_in_campaign(Path(source), trusted=trusted, quiet=quiet)
        return
    announce(f"Learning from {labels}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..labelling import LabelsFile, learn_labels
        from ..labelling.saved import describe_learnt, open_learner, options_of
        from ..persistence import save
        from ..pools import open_sized
    folder = Path("model") if model is None else model
    learner = open_learner(folder, trusted)
    if learner is not None and (kind or views):
        raise typer.BadParameter(
            f"--kind and --views are those of a new model, and {folder} holds one; leave them out, "
            "or name another folder."
        )
    answered = LabelsFile.read(labels).answered
    pool = open_sized(source, verbose=not quiet, **options_of(learner, size))
    learnt = learn_labels(
        pool,
        answered,
        learner,
        model=(kind or options.Model.finetune).value,
        views=(views or options.Views.microscopy).value,
        random_state=seed,
    )
    save(learnt.learner, folder)
    for line in describe_learnt(learnt, folder):
        typer.echo(line)
    options.report_broken(pool)


def _learn_in_campaign(folder: Path, *, trusted: list[str] | None, quiet: bool) -> None:
    announce(f"Learning from the answers in {folder}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..campaign import Campaign
        from ..labelling.saved import describe_learnt
    with Campaign.open(folder, trusted=trusted or ()) as campaign:
        found = campaign.learn()
        if found is None:
            typer.echo("Nothing was labelled since the last round.")
            return
        model = campaign.folder.model(found.round.number)
        for line in describe_learnt(found.learnt, model):
            typer.echo(line)
        typer.echo(f"Round {found.round.number}: {len(found.asks)} questions more.")
        options.report_broken(campaign.pool)
    announce(f"To answer them: aift annotate {folder}", quiet=quiet)
