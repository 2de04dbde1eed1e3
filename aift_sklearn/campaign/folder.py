"""Where a campaign lies: its folder, and what is in it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from .._file_lock import FileLock
from .._writing import as_path, write_atomically
from ..errors import DataError, ParameterError

__all__ = ["CampaignFolder"]

_HEAD = "campaign.json"
# Options of a URL that are passwords too.
_SECRETS = ("password", "sslpassword")
_FORMAT, _VERSION = "aift-sklearn campaign", 1


class CampaignFolder:
    """A campaign's folder: where its ledger, its models and what they predicted are.

    Parameters
    ----------
    path : path-like
        The folder.

    Attributes
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path)

    @property
    def exists(self) -> bool:
        """Whether a campaign is in it."""
        return (self.path / _HEAD).is_file()

    def prepare(self) -> None:
        """Make the folder for a new campaign, or refuse.

        Raises
        ------
        ParameterError
            If there is a campaign already.
        DataError
            If it is a file, or holds something else.
        """
        if self.exists:
            raise ParameterError(
                f"there is a campaign in {self.path} already; open it, or name another folder."
            )
        if self.path.is_file():
            raise DataError(f"{self.path} is a file; expected a folder, or a path for a new one.")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise DataError(
                f"{self.path} holds other files; expected an empty folder, or a path for a new one."
            )
        self.path.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove what `prepare` found empty, where a campaign could not be begun."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def finish(self, ledger: str | None = None) -> None:
        """Write the head of a new campaign, once all else is there: from now on it can be opened.

        Parameters
        ----------
        ledger : str, optional
            URL of its database; by default a file of SQLite in the folder. A password in it is not
            written down: name it in the environment (PGPASSWORD), or in ~/.pgpass.
        """
        kept = None if ledger is None else _without_password(ledger)
        head = {"format": _FORMAT, "version": _VERSION, "ledger": kept}
        write_atomically(self.path / _HEAD, json.dumps(head, indent=2).encode() + b"\n")

    @property
    def sqlite(self) -> Path:
        """Ledger of a campaign that names no database."""
        return self.path / "ledger.sqlite"

    @property
    def beginning(self) -> Path:
        """Folder of the estimator that a campaign was given, before it learnt."""
        return self.path / "models" / "beginning"

    def ledger(self) -> str:
        """Where its ledger is: a path or a URL.

        Raises
        ------
        DataError
            If there is no campaign, or its head is damaged or of a newer release.
        """
        head = self._read()
        return head.get("ledger") or str(self.sqlite)

    def _read(self) -> dict[str, Any]:
        if not self.exists:
            raise DataError(
                f"there is no campaign in {self.path}; expected a folder that 'aift init' or "
                "Campaign.create made."
            )
        path = self.path / _HEAD
        try:
            head = json.loads(path.read_text("utf-8"))
            is_ours = head["format"] == _FORMAT
            version = int(head["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}.") from error
        if not is_ours or not isinstance(head.get("ledger"), str | None):
            raise DataError(f"{path} is no head of a campaign.")
        if version > _VERSION:
            raise DataError(
                f"{path} has version {version}, and this release reads up to {_VERSION}; take a "
                "newer aift-sklearn."
            )
        return dict(head)

    def model(self, number: int) -> Path:
        """Folder of the model of a round."""
        return self.path / "models" / f"{number:04d}"

    def predictions(self, number: int) -> Path:
        """File of what a round's model predicted."""
        return self.path / "rounds" / f"{number:04d}.npz"

    def explanations(self, number: int) -> list[Path]:
        """Files of what a round's questions were asked for, the newest first."""
        return sorted((self.path / "rounds").glob(f"{number:04d}-*.npz"), reverse=True)

    def next_explanation(self, number: int) -> Path:
        """Name for another such file."""
        return self.path / "rounds" / f"{number:04d}-{len(self.explanations(number)):03d}.npz"

    def lock(self) -> FileLock:
        """Lock of the one process that may learn, or ask by the model."""
        return FileLock(self.path / "learning.lock")


def _without_password(url: str) -> str:
    """Take the password out of a URL of a database.

    Examples
    --------
    >>> _without_password("postgresql+psycopg://ann:secret@host/cells")
    'postgresql+psycopg://ann@host/cells'
    """
    from sqlalchemy import URL, make_url

    known = make_url(url)
    return URL.create(
        known.drivername,
        known.username,
        host=known.host,
        port=known.port,
        database=known.database,
        query={name: value for name, value in known.query.items() if name not in _SECRETS},
    ).render_as_string(hide_password=False)
