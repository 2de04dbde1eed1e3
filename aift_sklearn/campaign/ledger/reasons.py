"""Why a database refuses, in words that say what to do."""

from __future__ import annotations

from ..._optional import one_line

__all__ = ["reason_of"]

_AGAIN = "Nothing of this call was kept: send it again"
# It may have been lost on the way back.
_UNKNOWN = "Send it again in a while: answers are kept once"
_BUSY = f"it is locked by another program, and stayed so. {_AGAIN} when that is done"
_FULL = f"the disk is full. {_AGAIN} when there is room"
_DAMAGED = (
    "the file is damaged. Keep it, and go on with a backup, or with what the command "
    "'sqlite3 FILE .recover' finds in it"
)

# By what the names of SQLite's errors begin with, and by the classes of those of PostgreSQL.
_SQLITE = {
    "SQLITE_BUSY": _BUSY,
    "SQLITE_LOCKED": _BUSY,
    "SQLITE_FULL": _FULL,
    "SQLITE_IOERR": f"the disk refuses. {_AGAIN} once it has room and can be written to",
    "SQLITE_READONLY": "it cannot be written to; a ledger needs its file and its folder writable",
    "SQLITE_CANTOPEN": "it cannot be opened; a ledger needs its file and its folder writable",
    "SQLITE_PERM": "it cannot be opened; a ledger needs its file and its folder writable",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
}
_POSTGRESQL = {
    "55P03": _BUSY,
    "40P01": _BUSY,
    "53100": _FULL,
    "28": "the user or the password is refused. Check the URL, and what the server lets in",
    "3D": "there is no such database. Make it: createdb NAME",
    "42501": "the user may not do that. Grant it all rights on the ledger's tables",
    "53": f"the server has no room left. {_AGAIN} in a while",
    "57": f"the server is stopping, or ended the connection. {_UNKNOWN}",
    "08": f"the connection was lost. {_UNKNOWN}",
}


def reason_of(error: Exception) -> str:
    """Return what went wrong, and what to do.

    Parameters
    ----------
    error : Exception
        Of SQLAlchemy or of a driver.

    Examples
    --------
    >>> import sqlite3
    >>> try:
    ...     sqlite3.connect("file:/no/such/file?mode=ro", uri=True)
    ... except sqlite3.Error as error:
    ...     print(reason_of(error))
    it cannot be opened; a ledger needs its file and its folder writable (unable to open database
    file).
    """
    original = getattr(error, "orig", None) or error
    said = one_line(original)
    name, state = getattr(original, "sqlite_errorname", ""), getattr(original, "sqlstate", "")
    known = [words for start, words in _SQLITE.items() if (name or "").startswith(start)]
    known += [words for start, words in _POSTGRESQL.items() if (state or "").startswith(start)]
    if known:
        return f"{known[0]} ({said})."
    if type(original).__name__ == "OperationalError" and not name:
        return f"the database cannot be reached. {_UNKNOWN} ({said})."
    return f"the database refuses ({said})."
