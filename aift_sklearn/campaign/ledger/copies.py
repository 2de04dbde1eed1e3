"""Copies of a ledger, while others write to it; each appears under its name once it is whole."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..._writing import DISK, as_path
from ...errors import LedgerError
from .addresses import find_address
from .reasons import reason_of
from .schema import Schema, make_tables
from .sql import sa
from .store import Store
from .tables import METADATA, meta

__all__ = ["copy_ledger", "free_name", "new_file"]

# Rows that are in memory at a time.
_ROWS = 10_000


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Write a SQLite file under another name, and give it its own once it is whole.

    Parameters
    ----------
    path : Path
        What it is to be called; its folder is made.

    Yields
    ------
    Path
        Where to write it.

    Raises
    ------
    LedgerError
        If there is something of that name: it is never replaced.
    """
    _refuse_existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"{path.parent} cannot be made: {error.strerror}.") from error
    temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        _give_name(temporary, path)
    finally:
        for rest in ("", "-wal", "-shm", "-journal"):
            temporary.with_name(temporary.name + rest).unlink(missing_ok=True)
    DISK.sync(path.parent)


def _refuse_existing(path: Path) -> None:
    if path.is_dir():
        raise LedgerError(f"{path} is a folder; expected the name of a new file.")
    if path.exists():
        raise LedgerError(
            f"{path} exists already, and is left as it is. Ledger.open goes on with a ledger; or "
            "name another file."
        )


def _give_name(temporary: Path, path: Path) -> None:
    try:
        # Unlike renaming, this replaces nothing.
        os.link(temporary, path)
    except FileExistsError:
        _refuse_existing(path)
    except OSError:
        # No such links here: claim the name, and then fill it.
        try:
            path.open("x").close()
        except FileExistsError:
            _refuse_existing(path)
        os.replace(temporary, path)


def free_name(path: Path) -> Path:
    """Return a name that no file has: the given one, or with a number after it."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def copy_ledger(store: Store, path: str | os.PathLike[str], schema: Schema) -> Path:
    """Copy a ledger as it is at one moment into a new SQLite file; others may write meanwhile.

    Parameters
    ----------
    store : Store
        What is copied.
    path : path-like
        The file.
    schema : Schema
        Of both.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    LedgerError
        If the file exists, or the disk refuses.
    """
    target = Path(os.path.abspath(as_path(path)))
    with new_file(target) as temporary:
        if store.is_file:
            _copy_file(store, temporary)
        else:
            _copy_tables(store, temporary, schema)
    return target


def _copy_file(store: Store, path: Path) -> None:
    try:
        with store.reading() as connection, contextlib.closing(sqlite3.connect(path)) as copy:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)
            copy.execute("PRAGMA synchronous=FULL")
            # All pages in one go: between two, others could write, and it would begin again.
            source.backup(copy, pages=-1)
            (said,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(f"{path.parent}: {reason_of(error)}") from error
    if said != "ok":
        raise LedgerError(f"{store.address.shown} is damaged ({said}); its copy was not kept.")


def _copy_tables(store: Store, path: Path, schema: Schema) -> None:
    copy = Store(find_address(path))
    try:
        with store.reading() as source, copy.writing() as writing:
            make_tables(writing.connection, schema)
            for table in METADATA.sorted_tables:
                if table is not meta:
                    _copy_rows(source, writing.connection, table)
    finally:
        copy.close()


def _copy_rows(source: sa.Connection, target: sa.Connection, table: sa.Table) -> None:
    # An answer comes after the one that it replaces.
    wanted = sa.select(table).order_by(*table.primary_key).execution_options(yield_per=_ROWS)
    for rows in source.execute(wanted).mappings().partitions():
        target.execute(sa.insert(table), [dict(row) for row in rows])
