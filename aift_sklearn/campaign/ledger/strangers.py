"""Whether a database is a ledger, and nothing else, before anything of it is used.

A SQLite file can come from anybody, and hold triggers and views that run when tables are used. So
all that it declares is compared with what this package makes, to the letter.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from ...errors import LedgerError
from .reasons import reason_of
from .schema import APPLICATION, BODY, FORMAT, Schema, schema_objects
from .sql import sa
from .tables import METADATA, meta

__all__ = ["check_file", "check_postgresql", "holds_tables"]

# Bytes of a file that is looked through at opening: a fraction of a second.
_LOOKED_THROUGH = 64 << 20
_MADE = "Ledger.create makes one"


def check_file(path: Path, schema: Schema) -> int:
    """Refuse a file that is no ledger, or more than that.

    Parameters
    ----------
    path : Path
        The file; nothing is written to it.
    schema : Schema
        What this release knows.

    Returns
    -------
    int
        Version of its tables.

    Raises
    ------
    LedgerError
        If it is missing, damaged, of a newer release, or something else.
    """
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path}; {_MADE}.")
    if not path.is_file():
        raise LedgerError(f"{path} is a folder; expected a ledger, a file. {_MADE}.")
    try:
        # Not read-only, which would leave files of SQLite's own beside it.
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as opened:
            # Not even a view or a trigger that is looked at could call a function.
            opened.execute("PRAGMA trusted_schema=OFF")
            return _version_of_file(opened, path, schema)
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
            raise LedgerError(f"{path} is no ledger, but some other file; {_MADE}.") from error
        raise LedgerError(f"{path}: {reason_of(error)}") from error


def _version_of_file(opened: sqlite3.Connection, path: Path, schema: Schema) -> int:
    (mark,) = opened.execute("PRAGMA application_id").fetchone()
    found = schema_objects(opened)
    tables_of_meta = {row for row in schema.objects(1) if row[1] == "meta" and row[0] == "table"}
    if mark != APPLICATION or not tables_of_meta <= found:
        raise LedgerError(f"{path} is no ledger, but a SQLite file of something else; {_MADE}.")
    # Now "meta" is known to be a plain table.
    facts = dict(opened.execute("SELECT name, content FROM meta").fetchall())
    version = _check_version(str(path), facts, schema)
    expected = schema.objects(version)
    if found != expected:
        raise LedgerError(
            f"{path} is not as this package makes a ledger: {_differences(found, expected)}. "
            "Nothing of it was used. If these are your own, remove them; if the file came from "
            "somebody else, do not trust it."
        )
    if path.stat().st_size <= _LOOKED_THROUGH:
        said = [row[0] for row in opened.execute("PRAGMA quick_check(1)")]
        if said != ["ok"]:
            told = " ".join(said[0].split())
            raise LedgerError(
                f"{path} is damaged ({told}). Keep it, and go on with a backup, or with what the "
                "command 'sqlite3 FILE .recover' finds in it."
            )
    return version


def _differences(found: frozenset[tuple[str, ...]], expected: frozenset[tuple[str, ...]]) -> str:
    more = sorted(f"the {kind} {name!r}" for kind, name, *_ in found - expected)
    less = sorted(f"the {kind} {name!r}" for kind, name, *_ in expected - found)
    said = [f"it has {', '.join(more)}"] if more else []
    said += [f"it lacks {', '.join(less)} of ours"] if less else []
    return " and ".join(said)


def _check_version(shown: str, facts: dict[str, str], schema: Schema) -> int:
    text = str(facts.get("version", ""))
    if facts.get("format") != FORMAT or not text.isascii() or not text.isdigit():
        raise LedgerError(f"{shown} is no ledger, or a damaged one; {_MADE}.")
    version = int(text)
    if version > schema.version:
        raise LedgerError(
            f"{shown} is a ledger of version {version}, of a newer release of aift-sklearn; this "
            f"one knows versions up to {schema.version}. Update it: pip install --upgrade."
        )
    if version < 1:
        raise LedgerError(f"{shown} is a ledger of version {version}, which there never was.")
    return version


_NAMES: sa.BindParameter[list[str]] = sa.bindparam("names", expanding=True)
_TABLES = sa.text(
    "SELECT relname, relkind = 'r' AND NOT relhasrules AND NOT relrowsecurity FROM pg_class "
    "WHERE relname IN :names AND relnamespace = current_schema()::regnamespace"
).bindparams(_NAMES)
# 58: before each statement that updates, deletes or truncates.
_TRIGGERS = sa.text(
    "SELECT t.tgname, c.relname, p.prosrc = :body AND t.tgenabled = 'O' AND t.tgtype = 58 "
    "AND t.tgqual IS NULL AND p.pronamespace = c.relnamespace "
    "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
    "WHERE NOT t.tgisinternal AND c.relname IN :names "
    "AND c.relnamespace = current_schema()::regnamespace"
).bindparams(_NAMES, body=BODY)


def check_postgresql(connection: sa.Connection, shown: str, schema: Schema) -> int:
    """Refuse a database that holds no ledger, or one whose tables are not what they seem.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        To the database.
    shown : str
        What messages call it.
    schema : Schema
        What this release knows.

    Returns
    -------
    int
        Version of its tables.

    Raises
    ------
    LedgerError
        If there is none, or one of a newer release, or one that was changed.
    """
    names = list(METADATA.tables)
    plain = {row[0]: row[1] for row in connection.execute(_TABLES, {"names": names})}
    if not plain.get("meta"):
        raise LedgerError(f"there is no ledger at {shown}; {_MADE}.")
    facts = {row[0]: row[1] for row in connection.execute(sa.select(meta))}
    version = _check_version(shown, facts, schema)
    expected = {(f"{table}_append_only", table, True) for table in schema.guarded(version)}
    found = {tuple(row) for row in connection.execute(_TRIGGERS, {"names": names})}
    odd = sorted({f"the table {name!r}" for name in names if not plain.get(name)})
    odd += sorted({f"the trigger {name!r} of {table!r}" for name, table, _ in found ^ expected})
    if odd:
        raise LedgerError(
            f"{shown} is not as this package makes a ledger: see {', '.join(odd)}. Nothing of it "
            "was used. Restore a backup, or ask whoever changed the database."
        )
    return version


def holds_tables(connection: sa.Connection) -> list[str]:
    """Names of tables of a ledger that a database of PostgreSQL has already."""
    rows = connection.execute(_TABLES, {"names": list(METADATA.tables)})
    return sorted(row[0] for row in rows)
