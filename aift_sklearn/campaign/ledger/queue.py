"""Which questions are open, and for whom.

What is open follows from asks and answers alone. It is kept in the table "queue", which changes
with every answer in the same transaction, so that a question is found without a look at those that
are answered: a row for each candidate that needs more labels. Candidates that the same people have
answered are a crowd, and lie together: an annotator gets the first of each crowd that they are not
of.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..records import Answer, Ask, Kind
from .reads import read_asks, read_current
from .rows import ASK, ask_of
from .sql import sa
from .tables import asks, leases, queue

__all__ = ["Crowd", "enqueue", "find_crowds", "find_open", "n_wanted", "rebuild", "refresh"]


def n_wanted(n_readers: int, labels: Sequence[str], *, adjudicate: bool) -> int:
    """Annotators that are to label a candidate.

    Parameters
    ----------
    n_readers : int
        Those that it was asked of.
    labels : sequence of str
        What annotators said so far.
    adjudicate : bool
        Whether one more is asked where all of them have labelled it, and no class has more than
        half of their labels.

    Examples
    --------
    >>> n_wanted(2, ["cyst"], adjudicate=True), n_wanted(2, ["cyst", "tumour"], adjudicate=True)
    (2, 3)
    >>> n_wanted(2, ["cyst", "tumour", "cyst"], adjudicate=True)
    2
    """
    if not adjudicate or n_readers < 2 or len(labels) < n_readers:
        return n_readers
    most = max(Counter(labels).values())
    return n_readers if 2 * most > len(labels) else n_readers + 1


class _Place(NamedTuple):
    """A row of the table "queue"."""

    candidate: str
    crowd: str
    readers: list[str]
    missing: int
    round: int
    rank: int


def _place_of(ask: Ask, current: Iterable[Answer], adjudicate: bool) -> _Place:
    current = list(current)
    labels = [answer.label for answer in current if answer.kind is Kind.label]
    readers = sorted(answer.annotator for answer in current)
    missing = n_wanted(ask.n_readers, labels, adjudicate=adjudicate) - len(labels)
    return _Place(ask.candidate, _crowd_of(readers), readers, missing, ask.round, ask.rank)


def _crowd_of(readers: list[str]) -> str:
    """Name of those who have answered a candidate: of one length, however many they are."""
    return hashlib.sha256(json.dumps(readers).encode()).hexdigest()[:32] if readers else ""


_DEQUEUE = sa.delete(queue).where(queue.c.candidate == sa.bindparam("gone"))
_ENQUEUE = sa.insert(queue)


def refresh(
    connection: sa.Connection, ask: Ask, current: Iterable[Answer], *, adjudicate: bool
) -> bool:
    """Put a candidate where it belongs, by its answers that count; tell whether it is open."""
    place = _place_of(ask, current, adjudicate)
    connection.execute(_DEQUEUE, {"gone": ask.candidate})
    if place.missing > 0:
        connection.execute(_ENQUEUE, place._asdict())
    return place.missing > 0


def enqueue(connection: sa.Connection, asked: Sequence[Ask]) -> None:
    """Add candidates that nobody has answered."""
    if asked:
        connection.execute(_ENQUEUE, [_place_of(ask, (), False)._asdict() for ask in asked])


def rebuild(connection: sa.Connection, *, adjudicate: bool) -> None:
    """Make the queue anew, from asks and answers."""
    current: dict[str, list[Answer]] = {}
    for answer in read_current(connection):
        current.setdefault(answer.candidate, []).append(answer)
    places = (
        _place_of(ask, current.get(ask.candidate, ()), adjudicate) for ask in read_asks(connection)
    )
    connection.execute(sa.delete(queue))
    open_ones = [place._asdict() for place in places if place.missing > 0]
    if open_ones:
        connection.execute(_ENQUEUE, open_ones)


_ORDER = (queue.c.round.desc(), queue.c.rank, queue.c.candidate)


def _select_crowds() -> sa.Select[Any]:
    """Each crowd, who it is, and where it begins: a look at the index, however many they are."""
    lowest = sa.select(sa.func.min(queue.c.crowd).label("crowd")).cte("crowds", recursive=True)
    after, first = queue.alias("after"), queue.alias("first")
    following = sa.select(sa.func.min(after.c.crowd)).where(after.c.crowd > lowest.c.crowd)
    crowds = lowest.union_all(
        sa.select(following.scalar_subquery()).where(lowest.c.crowd.is_not(None))
    )
    begins = sa.select(queue.c.candidate).where(queue.c.crowd == crowds.c.crowd)
    begins = begins.order_by(*_ORDER).limit(1)
    return sa.select(
        first.c.crowd, first.c.readers, first.c.round, first.c.rank, first.c.candidate
    ).join_from(crowds, first, first.c.candidate == begins.scalar_subquery())


def _select_open_of_crowd() -> sa.Select[Any]:
    others, own = leases.alias("others"), leases.alias("own")
    n_leased = sa.select(sa.func.count()).where(others.c.candidate == queue.c.candidate)
    is_own = sa.exists().where(
        own.c.candidate == queue.c.candidate, own.c.annotator == sa.bindparam("annotator")
    )
    return (
        sa.select(*ASK)
        .join_from(queue, asks, asks.c.candidate == queue.c.candidate)
        .where(
            queue.c.crowd == sa.bindparam("crowd"),
            queue.c.missing > n_leased.scalar_subquery(),
            ~is_own,
        )
        .order_by(*_ORDER)
        .limit(sa.bindparam("n"))
    )


_CROWDS, _OPEN_OF_CROWD = _select_crowds(), _select_open_of_crowd()

_Order = tuple[int, int, str]


class Crowd(NamedTuple):
    """Candidates that the same people have answered, with the place of the first of them."""

    begins: _Order
    name: str
    readers: list[str]


def _order_of(ask: Ask) -> _Order:
    return -ask.round, ask.rank, ask.candidate


def find_crowds(connection: sa.Connection) -> list[Crowd]:
    """Find what is open, by who has answered it; the crowd that begins first comes first."""
    return sorted(
        Crowd((-number, rank, candidate), name, readers)
        for name, readers, number, rank, candidate in connection.execute(_CROWDS)
    )


def find_open(
    connection: sa.Connection, annotator: str, n: int, crowds: Sequence[Crowd]
) -> list[Ask]:
    """Find the first questions that are open for an annotator, those that they hold left out.

    Leases that have expired must have been removed.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction.
    annotator : str
        For whom.
    n : int
        Most of them.
    crowds : sequence of Crowd
        All that there are. Some may have lost candidates since they were read.
    """
    found: list[Ask] = []
    for crowd in crowds:
        if annotator in crowd.readers:
            continue
        if len(found) == n and _order_of(found[-1]) < crowd.begins:
            break
        values = {"annotator": annotator, "crowd": crowd.name, "n": n}
        found += map(ask_of, connection.execute(_OPEN_OF_CROWD, values))
        found = sorted(found, key=_order_of)[:n]
    return found
