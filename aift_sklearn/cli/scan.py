"""``aift scan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import announce, loading

__all__ = ["scan"]


def scan(
    source: options.Source,
    size: options.PoolSize = None,
    groups: options.FolderGroups = False,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to draw the contact sheet, a PNG file."),
    ] = Path("contact-sheet.png"),
    quiet: options.Quiet = False,
) -> None:
    """Look at a pool of images: how many, which cannot be read, what comes twice.

    Every image is read once. Prints what there is and draws some of it side by side.

    Example: aift scan images --size 64
    """
    options.check_sheet(sheet, source)
    announce(f"Reading {source}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..labelling.scanning import print_survey, survey_pool
        from ..pools import contact_sheet, open_sized
    pool = open_sized(source, size, verbose=not quiet, **options.of_groups(groups))
    survey = survey_pool(pool, verbose=not quiet)
    print_survey(survey)
    if sheet is not None and len(survey.shown):
        typer.echo(f"Contact sheet: {contact_sheet(survey.shown, survey.names, sheet)}")
