"""What operations of one transaction read: for all of them at once."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from ...errors import DataError
from ..operations import Lease, Operation
from ..records import Answer, Ask
from .checks import check_text
from .queue import Crowd, find_crowds, find_open, refresh
from .reads import (
    StoredRow,
    read_asks_of,
    read_current_of,
    read_held,
    read_seen,
    read_settings,
    read_stored,
)
from .sql import sa
from .store import Writing
from .tables import leases

__all__ = ["Batch"]

_EXPIRED = sa.delete(leases).where(leases.c.expires <= sa.bindparam("now"))


class Batch:
    """A transaction that writes, and what was read in it.

    Fifty people who answer at once need the same few things of a database, which takes longer to
    be asked than to answer. What is written is forgotten here, and read anew.

    Parameters
    ----------
    writing : Writing
        The transaction.
    operations : sequence of Answer, Lease, Undo, Release or Saw
        What is about to be done, checked or not. Anything else may be done too.
    """

    def __init__(self, writing: Writing, operations: Sequence[Operation]) -> None:
        self.connection: sa.Connection = writing.connection
        self.now: datetime.datetime = writing.now
        sent = [each for each in operations if isinstance(each, Answer)]
        asked = [each for each in operations if isinstance(each, Lease)]
        candidates = _plain(each.candidate for each in sent)
        connection = self.connection
        self._stored: dict[str, StoredRow | None] = {}
        self._asks: dict[str, Ask | None] = {}
        self._current: dict[str, list[Answer]] = {}
        self._seen: dict[str, dict[str, list[str]]] = {}
        self._held: dict[str, list[Ask]] = {}
        self._crowds: list[Crowd] | None = None
        if candidates:
            self._stored = read_stored(connection, _plain(each.uid for each in sent))
            self._asks = read_asks_of(connection, candidates)
            self._current = read_current_of(connection, candidates)
            self._seen = read_seen(connection, candidates)
        if asked:
            connection.execute(_EXPIRED, {"now": self.now})
            self._held = read_held(connection, _plain(each.annotator for each in asked))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Those that hold now."""
        return read_settings(self.connection)

    def stored(self, uid: str) -> StoredRow | None:
        """What is stored under a uid."""
        if uid not in self._stored:
            self._stored |= read_stored(self.connection, [uid])
        return self._stored[uid]

    def ask(self, candidate: str) -> Ask | None:
        """Ask of a candidate."""
        if candidate not in self._asks:
            self._asks |= read_asks_of(self.connection, [candidate])
        return self._asks[candidate]

    def current(self, candidate: str) -> list[Answer]:
        """Answers of a candidate that count."""
        if candidate not in self._current:
            self._current |= read_current_of(self.connection, [candidate])
        return self._current[candidate]

    def seen(self, annotator: str, candidate: str) -> list[str]:
        """What an annotator was shown of a candidate."""
        if candidate not in self._seen:
            self._seen |= read_seen(self.connection, [candidate])
        return self._seen[candidate].get(annotator, [])

    def held(self, annotator: str) -> list[Ask]:
        """What an annotator holds."""
        if annotator not in self._held:
            self._held |= read_held(self.connection, [annotator])
        return self._held[annotator]

    def find_open(self, annotator: str, n: int) -> list[Ask]:
        """Find the first questions that are open for an annotator."""
        if self._crowds is None:
            self._crowds = find_crowds(self.connection)
        return find_open(self.connection, annotator, n, self._crowds)

    def refresh(self, ask: Ask, current: Iterable[Answer]) -> None:
        """Put a candidate where it belongs, by its answers that count."""
        adjudicate = bool(self.settings.get("adjudicate", True))
        if refresh(self.connection, ask, current, adjudicate=adjudicate):
            self._crowds = None

    def answered(self, answer: Answer) -> None:
        """Forget what an answer, or an undo, that was stored has changed."""
        self._stored.pop(answer.uid, None)
        self._current.pop(answer.candidate, None)

    def shown(self, candidate: str) -> None:
        """Forget what was seen of a candidate, of which more was seen."""
        self._seen.pop(candidate, None)

    def gave_back(self, annotator: str, candidate: str) -> None:
        """Take what an annotator does not hold any more from what they hold."""
        if annotator in self._held:
            held = self._held[annotator]
            self._held[annotator] = [each for each in held if each.candidate != candidate]

    def handed(self, annotator: str) -> None:
        """Forget what an annotator holds."""
        self._held.pop(annotator, None)


def _plain(values: Iterable[Any]) -> list[str]:
    """Those that a database can be asked for, each once; the others are refused later."""
    found = {}
    for value in values:
        try:
            found[check_text("it", value)] = None
        except DataError:
            continue
    return list(found)
