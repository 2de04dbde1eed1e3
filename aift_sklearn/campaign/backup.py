"""A copy of a campaign, while people label."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .._writing import as_path
from .folder import CampaignFolder

if TYPE_CHECKING:
    from .campaign import Campaign

__all__ = ["back_up"]


def back_up(campaign: Campaign, out: str | os.PathLike[str] | None = None) -> Path:
    """Copy a campaign, consistently: its ledger, models, and what they predicted.

    The ledger is copied first, and names no model that is not in the copy. That of a database
    becomes a file of SQLite; the copy can be opened like any campaign.

    Parameters
    ----------
    campaign : Campaign
        People and programs may go on writing to it.
    out : path-like, optional
        Folder, made here; by default beside the campaign, named by it and the time.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        If the folder holds something.
    """
    source = campaign.folder
    if out is None:
        now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
        out = source.path.absolute().with_name(f"{source.path.absolute().name}-{now}")
    copy = CampaignFolder(as_path(out))
    copy.prepare()
    campaign.ledger.backup(copy.sqlite)
    _copy_files(source.path / "rounds", copy.path / "rounds")
    _copy_files(source.beginning, copy.beginning)
    for each in campaign.ledger.rounds():
        if each.model:
            _copy_files(source.model(each.number), copy.model(each.number))
    copy.finish()
    return copy.path


def _copy_files(source: Path, to: Path) -> None:
    """Copy the files of a folder; what is removed meanwhile, as a former model, is left out."""
    try:
        found = sorted(path for path in source.iterdir() if path.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return
    to.mkdir(parents=True)
    for path in found:
        try:
            shutil.copy2(path, to / path.name)
        except FileNotFoundError:
            continue
