"""How connections are set up, so that what is committed is on the disk; read back at each one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from ..._optional import load_optional
from ...errors import LedgerError
from .addresses import Address
from .sql import sa

__all__ = ["engine_of_file", "engine_of_postgresql", "set_up_sqlite"]

# What a file's connection has to answer. Nothing of a stranger's file is run: see also
# https://www.sqlite.org/security.html
_SQLITE = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "recursive_triggers": 1,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "mmap_size": 0,
    # Kibibytes: the indexes of 100 000 answers, to which every answer adds in odd places.
    "cache_size": -65_536,
}
_SPELT = {"journal_mode": "WAL", "synchronous": "FULL"}

# What PostgreSQL has to answer, and what is wrong otherwise.
_POSTGRESQL = {
    "fsync": (("on",), "a loss of power would take answers that were acknowledged"),
    "synchronous_commit": (
        ("on", "local", "remote_write", "remote_apply"),
        "a loss of power would take answers that were acknowledged",
    ),
    "server_encoding": (("UTF8",), "names would not be kept as they are"),
}
# A process that was stopped in a transaction holds up the others so long, in milliseconds.
_IDLE = 60_000


def engine_of_file(address: Address, patience: float) -> sa.Engine:
    """Make an engine for a SQLite file; nothing is opened yet.

    Parameters
    ----------
    address : Address
        Of the file.
    patience : float
        Seconds to wait for a lock.
    """
    engine = sa.create_engine(
        address.url,
        connect_args={"timeout": patience},
        poolclass=sa.QueuePool,
        max_overflow=-1,
        pool_timeout=patience,
    )

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, record: Any) -> None:
        # Transactions are begun below, and not by the driver, which would do it too late.
        connection.isolation_level = None
        with _closed_on_error(connection):
            set_up_sqlite(connection, address.shown)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # Two that read and then write would fail, not wait.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextlib.contextmanager
def _closed_on_error(connection: Any) -> Iterator[None]:
    """Close a connection that cannot be set up: SQLAlchemy forgets it."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def set_up_sqlite(connection: sqlite3.Connection, shown: str) -> None:
    """Set up a connection to a file, and read back that it is so.

    Parameters
    ----------
    connection : sqlite3.Connection
        The connection.
    shown : str
        What messages call the file.

    Raises
    ------
    LedgerError
        If it is not.
    """
    for name, expected in _SQLITE.items():
        # Some answer with the new value, others with nothing.
        connection.execute(f"PRAGMA {name}={_SPELT.get(name, expected)}").fetchall()
        row = connection.execute(f"PRAGMA {name}").fetchone()
        # A build without memory-mapped files has no size of them.
        if row is not None and row[0] != expected:
            raise LedgerError(
                f"{shown}: SQLite {sqlite3.sqlite_version} has {name}={row[0]!r}; expected "
                f"{expected!r}, so that answers survive a loss of power. Network drives often "
                "refuse that: put the ledger on a disk of this computer, or use PostgreSQL."
            )


def engine_of_postgresql(address: Address, patience: float) -> sa.Engine:
    """Make an engine for PostgreSQL; nothing is opened yet.

    Parameters
    ----------
    address : Address
        Of the database.
    patience : float
        Seconds to wait for a lock, and for the server.

    Raises
    ------
    MissingDependencyError
        If psycopg 3 is not installed.
    """
    load_optional("psycopg", purpose="a ledger in PostgreSQL", extra="postgresql")
    engine = sa.create_engine(
        address.url,
        connect_args={"connect_timeout": max(2, round(patience))},
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_timeout=patience,
        hide_parameters=True,
    )

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        with _closed_on_error(connection):
            with connection.cursor() as cursor:
                _set_up_postgresql(cursor, address, patience)
            connection.commit()

    return engine


def _set_up_postgresql(cursor: Any, address: Address, patience: float) -> None:
    cursor.execute("SET TIME ZONE 'UTC'")
    cursor.execute(f"SET lock_timeout = {max(1, round(patience * 1000))}")
    cursor.execute(f"SET idle_in_transaction_session_timeout = {_IDLE}")
    for name, (expected, otherwise) in _POSTGRESQL.items():
        cursor.execute(f"SHOW {name}")
        (value,) = cursor.fetchone()
        if value not in expected:
            raise LedgerError(
                f"{address.shown}: PostgreSQL has {name} = {value}; expected "
                f"{' or '.join(expected)}: {otherwise}. Change that in the server's settings."
            )
