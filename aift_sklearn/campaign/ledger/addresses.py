"""Where a ledger lies: a file, or a database of PostgreSQL; and what may be shown of that."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from ..._writing import as_path
from ...errors import LedgerError
from .sql import sa

__all__ = ["Address", "find_address"]

_EXPECTED = "expected the path of a file, or postgresql+psycopg://user:password@host/database"
# What a text that is no URL may have of a password.
_SECRET = re.compile(r"://.*@", re.DOTALL)
_SECRET_OPTIONS = ("password", "sslpassword")


@dataclass(frozen=True)
class Address:
    """Where a ledger lies.

    Attributes
    ----------
    url : sqlalchemy.URL
        For SQLAlchemy, with the password.
    path : Path or None
        The file, of SQLite.
    shown : str
        What messages call it, without the password.
    """

    url: sa.URL = field(repr=False)
    path: Path | None
    shown: str

    def hide(self, text: str) -> str:
        """Return a text without the password, whoever wrote it."""
        secrets = [self.url.password, *map(self.url.query.get, _SECRET_OPTIONS)]
        for secret in secrets:
            if isinstance(secret, str) and secret:
                for spelt in (secret, quote(secret), quote_plus(secret)):
                    text = text.replace(spelt, "***")
        return text


def find_address(where: str | os.PathLike[str] | sa.URL) -> Address:
    """Tell a file from a database.

    Parameters
    ----------
    where : path-like, str or sqlalchemy.URL
        Path of a SQLite file, or a URL of SQLAlchemy.

    Raises
    ------
    LedgerError
        If it is a URL of another database, or none.

    Examples
    --------
    >>> find_address("cells.ledger").path.name
    'cells.ledger'
    >>> find_address("postgresql://ada:secret@localhost/cells")
    Address(path=None, shown='postgresql+psycopg://ada:***@localhost/cells')
    """
    if not isinstance(where, sa.URL) and not (isinstance(where, str) and "://" in where):
        return _of_file(as_path(where))
    try:
        url = sa.make_url(where)
    except (sa.exc.ArgumentError, ValueError):
        shown = _SECRET.sub("://***@", str(where))
        # Not from the error, which may quote the password.
        raise LedgerError(f"{shown!r} is no URL of a ledger; {_EXPECTED}.") from None
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            raise LedgerError(f"{url!r} names no file; {_EXPECTED}.")
        return _of_file(as_path(url.database))
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise LedgerError(f"a ledger does not lie in {url.drivername}; {_EXPECTED}.")
    url = url.set(drivername="postgresql+psycopg")
    shown = url.difference_update_query(_SECRET_OPTIONS).render_as_string(hide_password=True)
    return Address(url, None, shown)


def _of_file(path: Path) -> Address:
    path = Path(os.path.abspath(path))
    return Address(sa.URL.create("sqlite", database=str(path)), path, str(path))
