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
    for name in ("models", "rounds"):
        if (source.path / name).is_dir():
            _copy_tree(source.path / name, copy.path / name)
    copy.finish()
    return copy.path


def _copy_tree(source: Path, to: Path) -> None:
    """Copy files; those that a round in the making replaces meanwhile are of no round yet."""

    def copy(one: str, other: str) -> str:
        try:
            return str(shutil.copy2(one, other))
        except FileNotFoundError:
            return other

    shutil.copytree(source, to, copy_function=copy)
