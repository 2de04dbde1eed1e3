"""``aift status``, ``import``, ``report`` and ``backup``: of a campaign, without its model."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import announce, loading

__all__ = ["backup", "import_answers", "report", "status"]


class AnswersFormat(enum.StrEnum):
    """What answers come as."""

    csv = "csv"
    label_studio = "label-studio"
    coco = "coco"


def status(
    campaign: options.CampaignArgument = Path("campaign"),
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say how a campaign stands: answers, rounds, the yardstick, and what speaks for stopping.

    Example: aift status campaign
    """
    from ..campaign import Campaign
    from ..campaign.status import describe

    with Campaign.open(campaign) as opened:
        found = opened.status()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        for line in describe(found):
            typer.echo(line)


def report(
    campaign: options.CampaignArgument = Path("campaign"),
    out: Annotated[Path, typer.Option(metavar="FILE", help="What to write.")] = Path(
        "campaign-report.html"
    ),
    quiet: options.Quiet = False,
) -> None:
    """Write a page on a campaign: what was labelled, by whom, and how well the model does.

    It is made from the ledger, without the model; it is one file, without scripts.

    Example: aift report campaign --out campaign-report.html
    """
    with loading(quiet=quiet):
        from ..campaign import Campaign
        from ..campaign.report import write_report
    with Campaign.open(campaign) as opened:
        path = write_report(opened, out)
    typer.echo(f"Report: {path}")


def backup(
    campaign: options.CampaignArgument = Path("campaign"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Made; by default named by the campaign and the time."),
    ] = None,
) -> None:
    """Copy a campaign, consistently, while people label: ledger, models and predictions.

    The copy is a campaign, with its ledger in a file of SQLite.

    Example: aift backup campaign --out campaign-2027-01-31
    """
    from ..campaign import Campaign
    from ..campaign.backup import back_up

    with Campaign.open(campaign) as opened:
        path = back_up(opened, out)
        n = opened.ledger.counts().n_answers
    typer.echo(f"{path}: {n:,} answers")


def import_answers(
    campaign: Annotated[Path, typer.Argument(metavar="CAMPAIGN", help="Folder of a campaign.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Answers from elsewhere.")],
    kind: Annotated[
        AnswersFormat | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="csv, label-studio or coco; by default what the file seems to be.",
        ),
    ] = None,
    annotator: Annotated[
        str, typer.Option(metavar="NAME", help="Of answers where the file names nobody.")
    ] = "import",
    add: Annotated[
        bool,
        typer.Option(
            "--add",
            help="Take labels of images too that the campaign did not ask for, as from before it.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="The file is right where it contradicts the campaign, and neither is known to be "
            "later. Nothing is erased: the ledger keeps both.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be stored, and store nothing.")
    ] = False,
) -> None:
    """Bring answers into a campaign that were given elsewhere, such as in Label Studio.

    Ids and labels that the campaign does not know, and conflicts, are listed and left out. The
    same file, imported again, adds nothing.

    Example: aift import campaign annotations.json
    """
    announce(f"Reading {file}.")
    from ..campaign import Campaign
    from ..campaign.transfer import import_answers as bring_in

    with Campaign.open(campaign) as opened:
        found = bring_in(
            opened,
            file,
            None if kind is None else kind.value,
            annotator=annotator,
            add=add,
            overwrite=overwrite,
            store=not dry_run,
        )
    for line in found.describe():
        typer.echo(line)
    if dry_run:
        typer.echo("Nothing was stored.")
