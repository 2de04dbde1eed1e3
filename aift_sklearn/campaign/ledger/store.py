"""A database, and what every transaction with it is held to."""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..._optional import one_line
from ...errors import AIFTError, LedgerError
from .addresses import Address
from .engines import engine_of_file, engine_of_postgresql
from .reasons import reason_of
from .sql import sa

__all__ = ["Store", "Writing"]

Clock = Callable[[], datetime.datetime]
"""Tells the time, with its zone."""

# Writers to PostgreSQL take turns, ledger by ledger. The time is told after the wait.
_TURN = sa.text(
    "SELECT pg_advisory_xact_lock(:package + coalesce(to_regclass('meta')::oid::bigint, 0)), "
    "clock_timestamp()"
).bindparams(package=0x41494654 << 32)
_READING = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


@dataclass(frozen=True)
class Writing:
    """A transaction that writes, and nobody else meanwhile.

    Attributes
    ----------
    connection : sqlalchemy.Connection
        Commits at the end.
    now : datetime
        Time of what is written, in UTC.
    """

    connection: sa.Connection
    now: datetime.datetime


class Store:
    """Connections to a database, which is SQLite or PostgreSQL.

    Parameters
    ----------
    address : Address
        Where it is.
    clock : callable, optional
        Tells the time. If not given, the clock of this computer tells it for a file, and that of
        the database for PostgreSQL: several computers may write there.
    patience : float
        Seconds to wait for others who write.
    """

    def __init__(
        self, address: Address, *, clock: Clock | None = None, patience: float = 30.0
    ) -> None:
        self.address, self.clock, self.patience = address, clock, patience
        path = address.path
        self.engine = (
            engine_of_postgresql(address, patience)
            if path is None
            else engine_of_file(address, patience)
        )
        self._lock, self._process, self._closed = threading.Lock(), os.getpid(), False

    @property
    def is_file(self) -> bool:
        """Whether it is SQLite."""
        return self.address.path is not None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Read what was committed before, all of one moment."""
        try:
            with self._connected({} if self.is_file else _READING) as connection:
                yield connection
        except AIFTError:
            raise
        except (TypeError, ValueError) as error:
            raise LedgerError(
                f"{self.address.shown} holds a value that no ledger has ({one_line(error)}): it is "
                "damaged, or was changed by something else. Go on with a backup."
            ) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """Write, and nobody else meanwhile; it is on the disk once this ends without an error."""
        self._leave_parent()
        # Threads take turns here: SQLite would let them try again and again.
        if not self._lock.acquire(timeout=self.patience):
            raise LedgerError(
                f"{self.address.shown}: others have been writing to it for {self.patience:g} s. "
                "Nothing of this call was kept: send it again."
            )
        try:
            with self._connected({"writes": True} if self.is_file else {}) as connection:
                yield Writing(connection, self._take_turn(connection))
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close what is open."""
        self._closed = True
        self.engine.dispose()

    def refused(self, error: Exception) -> LedgerError:
        """What the database's error means, without the password."""
        return LedgerError(f"{self.address.shown}: {self.address.hide(reason_of(error))}")

    @contextlib.contextmanager
    def _connected(self, options: dict[str, Any]) -> Iterator[sa.Connection]:
        self._leave_parent()
        if self._closed:
            raise LedgerError(f"{self.address.shown} is closed; open it again.")
        try:
            with self.engine.connect() as connection:
                connection.execution_options(**options)
                with connection.begin():
                    yield connection
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            told = self.address.hide(str(error)) == str(error)
            raise self.refused(error) from (error if told else None)

    def _take_turn(self, connection: sa.Connection) -> datetime.datetime:
        """Wait for others who write to PostgreSQL; tell the time."""
        now = None if self.is_file else connection.execute(_TURN).one()[1]
        if self.clock is not None:
            now = self.clock()
        return (now or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)

    def _leave_parent(self) -> None:
        """Let a forked process use no connection, and wait for no thread, of its parent."""
        if self._process != os.getpid():
            self.engine.dispose(close=False)
            self._lock, self._process = threading.Lock(), os.getpid()
