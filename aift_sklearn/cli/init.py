"""``aift init``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import announce, loading

__all__ = ["init"]

READERS, MODEL = "Readers", "Model"


class Show(enum.StrEnum):
    """When annotators see what the model thinks."""

    after = "after"
    request = "request"
    always = "always"


def init(
    source: options.Source,
    classes: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", help="What an image can be; the first has the hotkey 1, and so on."
        ),
    ],
    campaign: options.NewCampaign = Path("campaign"),
    batch: Annotated[
        int, typer.Option("-b", "--batch", min=1, metavar="N", help="Images asked for in a round.")
    ] = 20,
    yardstick: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Images drawn at random that are labelled and never trained on: the honest "
            "measure. More give a narrower interval.",
        ),
    ] = 50,
    size: options.PoolSize = None,
    groups: options.FolderGroups = False,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database for a team, such as postgresql+psycopg://ann@host/cells; by default a "
            "file in the campaign's folder.",
        ),
    ] = None,
    guidance: Annotated[str, typer.Option(metavar="TEXT", help="What annotators are told.")] = "",
    readers: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=READERS,
            help="Who label an image that is read more than once.",
        ),
    ] = 2,
    overlap: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            rich_help_panel=READERS,
            help="Of the images that so many people label; 1 means all.",
        ),
    ] = 0.0,
    show: Annotated[
        Show,
        typer.Option(
            metavar="WHEN",
            rich_help_panel=READERS,
            help="When annotators see what the model thinks: after their answer, on request, or "
            "always. Before an answer it anchors them.",
        ),
    ] = Show.after,
    kind: Annotated[
        options.Model,
        typer.Option(
            metavar="NAME",
            rich_help_panel=MODEL,
            help="finetune: the whole CNN; features: logistic regression on frozen features, much "
            "faster.",
        ),
    ] = options.Model.finetune,
    views: Annotated[
        options.Views,
        typer.Option(
            metavar="NAME",
            rich_help_panel=MODEL,
            help="Augmented views: microscopy, radiographs or endoscopy.",
        ),
    ] = options.Views.microscopy,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Begin a labelling campaign on a folder of unlabelled images.

    Then: aift annotate, which opens the page in a browser.

    Example: aift init images --classes benign,malignant
    """
    announce(f"Beginning a campaign on {source} in {campaign}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..campaign import Campaign
    names = [name.strip() for name in classes.split(",") if name.strip()]
    how = ({} if size is None else {"size": size}) | options.of_groups(groups)
    with Campaign.create(
        campaign,
        source,
        names,
        ledger=ledger,
        pool_options=how,
        verbose=not quiet,
        batch=batch,
        yardstick=yardstick,
        guidance=guidance,
        readers=readers,
        overlap=overlap,
        show=show.value,
        model=kind.value,
        views=views.value,
        seed=seed,
    ) as begun:
        pool = begun.pool
        typer.echo(
            f"{len(pool):,} images, {len(names)} classes; the first questions are ready, drawn at "
            "random."
        )
        options.report_broken(pool)
    announce(f"Next: aift annotate {campaign}", quiet=quiet)
