"""``aift annotate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import announce, loading

__all__ = ["annotate"]


def annotate(
    campaign: options.CampaignArgument = Path("campaign"),
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Where the page is served. On any but 127.0.0.1 a token is needed; 0.0.0.0 lets "
            "other machines in.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, metavar="N", help="By default the first from 8000 on that is free."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="AIFT_TOKEN",
            help="What annotators need to be let in; one is made and printed where it is needed.",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    learning: Annotated[
        bool,
        typer.Option(
            "--learning/--no-learning",
            help="Learn in the background, while people label, whenever a round is due.",
        ),
    ] = True,
    trusted: options.Trusted = None,
    quiet: options.Quiet = False,
) -> None:
    """Open the page on which people label, and learn in the background meanwhile.

    Ctrl-C ends it; every answer that the page showed as saved is in the ledger, and the same
    command goes on.

    Example: aift annotate campaign
    """
    announce(f"Opening {campaign}.", quiet=quiet)
    with loading(quiet=quiet):
        import contextlib

        from ..campaign import Campaign
        from ..campaign.background import BackgroundLearner
        from ..campaign.server import serve
    with Campaign.open(campaign, trusted=trusted or ()) as opened:
        # Before anybody waits for a picture.
        pool = opened.pool
        options.report_broken(pool)
        with BackgroundLearner(opened) if learning else contextlib.nullcontext():
            serve(opened, host, port, token, open_browser=browser, say=typer.echo)
