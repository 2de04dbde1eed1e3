"""``aift where``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .terminal import loading

__all__ = ["where"]


def where(
    source: options.Source,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="As in labels.csv, or in a list of scores.")
    ],
) -> None:
    """Print the file that an id stands for, which of DICOM files it does not tell.

    Ids of DICOM files are hashes, so that no name of a patient leaves the hospital with them; who
    labels the images needs the files.

    Example: aift where dicom:scans dcm-4f1c09ab2e77d3a0
    """
    with loading(quiet=True):
        from ..pools import open_sized
    pool = open_sized(source, verbose=False)
    for name in ids:
        typer.echo(f"{name}\t{pool.path_of(name)}")
