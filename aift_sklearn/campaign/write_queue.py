"""A thread that writes to a ledger what many clients send, in one commit for all that wait."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from .._optional import one_line
from ..errors import UnavailableError

__all__ = ["Applies", "WriteQueue"]

# Operations in one transaction: a client waits for those that came with its own.
_BATCH = 64
# Calls that may wait: beyond them clients are told to send again later.
_LONGEST = 10_000

_log = logging.getLogger(__name__)


class Applies(Protocol):
    """A ledger, as far as it is written to."""

    def apply(self, operations: Sequence[Any]) -> list[Any]:
        """Do them in one transaction; a result or an exception for each."""


class _Call(NamedTuple):
    operations: tuple[Any, ...]
    done: Future[list[Any]]


class WriteQueue:
    """Applies operations in the order in which they come, from one thread.

    A commit waits for the disk, some milliseconds; what comes meanwhile goes into the next one
    together. So fifty clients wait for two commits, not for fifty.

    Parameters
    ----------
    ledger : Ledger
        Its ``apply`` is called from the queue's thread alone.

    Examples
    --------
    >>> class Doubling:
    ...     def apply(self, operations):
    ...         return [2 * operation for operation in operations]
    >>> with WriteQueue(Doubling()) as writes:
    ...     writes.submit(1, 2).result()
    [2, 4]
    """

    def __init__(self, ledger: Applies) -> None:
        self._ledger = ledger
        self._calls: queue.Queue[_Call | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, *operations: Any) -> Future[list[Any]]:
        """Queue operations that belong together: they are done in one transaction.

        Returns
        -------
        Future
            The list of their results. It is done once they are on the disk.

        Raises
        ------
        UnavailableError
            If the queue is closed, or too long.
        """
        done: Future[list[Any]] = Future()
        with self._lock:
            if self._closed:
                raise UnavailableError("the server is closing; send it again in a moment.")
            if self._calls.qsize() >= _LONGEST:
                raise UnavailableError(
                    f"{_LONGEST} answers wait to be stored; send it again in a moment."
                )
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aift-ledger", daemon=True)
                self._thread.start()
            self._calls.put(_Call(operations, done))
        return done

    def close(self) -> None:
        """Write what waits, and end the thread; nothing more is taken."""
        with self._lock:
            self._closed = True
            self._calls.put(None)
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> WriteQueue:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _run(self) -> None:
        last = False
        while not last:
            calls, last = self._next_batch()
            if calls:
                self._apply(calls)

    def _next_batch(self) -> tuple[list[_Call], bool]:
        """What waits, at least one call; and whether it is the last batch."""
        calls: list[_Call] = []
        n = 0
        call = self._calls.get()
        while call is not None:
            calls.append(call)
            n += len(call.operations)
            if n >= _BATCH:
                return calls, False
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return calls, False
        return calls, True

    def _apply(self, calls: list[_Call]) -> None:
        operations = [operation for call in calls for operation in call.operations]
        try:
            results = iter(self._ledger.apply(operations))
        except Exception as error:
            _log.exception("the ledger could not be written")
            reason = f"the ledger could not be written ({one_line(error)}); send it again."
            for call in calls:
                _settle(call.done, UnavailableError(reason))
            return
        for call in calls:
            _settle(call.done, [next(results) for _ in call.operations])


def _settle(done: Future[list[Any]], outcome: list[Any] | Exception) -> None:
    # Whoever asked may have left: what was sent is stored all the same.
    if not done.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
