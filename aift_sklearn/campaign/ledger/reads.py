"""What a ledger holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..records import Answer, Ask, Kind, Round
from .rows import ANSWER, ASK, NOTE, ROUND, Note, answer_of, ask_of, note_of, round_of
from .sql import sa
from .tables import answers, asks, leases, notes, rounds, settings, views

__all__ = [
    "StoredRow",
    "read_answers",
    "read_asks",
    "read_asks_of",
    "read_current",
    "read_current_of",
    "read_held",
    "read_history",
    "read_latest",
    "read_notes",
    "read_rounds",
    "read_seen",
    "read_settings",
    "read_stored",
]


class StoredRow(NamedTuple):
    """An answer, and what its client said was visible."""

    answer: Answer
    said: tuple[str, ...]


_SETTINGS = sa.select(settings.c.content).order_by(settings.c.seq.desc()).limit(1)
_ROUNDS = sa.select(*ROUND).order_by(rounds.c.number)
_ASKS = sa.select(*ASK).order_by(asks.c.round, asks.c.rank, asks.c.candidate)
_ASKS_OF = sa.select(*ASK).where(asks.c.candidate.in_(sa.bindparam("names", expanding=True)))
_ANSWERS = sa.select(*ANSWER).order_by(answers.c.seq)
_NOTES = sa.select(*NOTE).order_by(notes.c.seq)
_SEEN = (
    sa.select(views.c.candidate, views.c.annotator, views.c.what)
    .where(views.c.candidate.in_(sa.bindparam("names", expanding=True)))
    .order_by(views.c.seq)
)
_STORED = sa.select(*ANSWER, answers.c.said).where(
    answers.c.uid.in_(sa.bindparam("names", expanding=True))
)
_HELD = (
    sa.select(*ASK, leases.c.annotator)
    .join_from(leases, asks, asks.c.candidate == leases.c.candidate)
    .where(leases.c.annotator.in_(sa.bindparam("names", expanding=True)))
    # What was taken back last comes first: the annotator has just asked for it.
    .order_by(leases.c.undone.desc(), asks.c.round.desc(), asks.c.rank, asks.c.candidate)
)
_BY = answers.c.annotator == sa.bindparam("annotator")
_HISTORY = sa.select(*ANSWER).where(_BY).order_by(answers.c.seq.desc()).limit(sa.bindparam("n"))

# A row that replaces another one, or takes it back.
_later = answers.alias("later")
_CURRENT = (
    sa.select(*ANSWER)
    .where(
        answers.c.kind != Kind.undo.value,
        ~sa.exists().where(_later.c.replaces == answers.c.uid),
    )
    .order_by(answers.c.seq)
)
_CURRENT_OF = _CURRENT.where(answers.c.candidate.in_(sa.bindparam("names", expanding=True)))
_LATEST = _CURRENT.where(_BY).order_by(None).order_by(answers.c.seq.desc()).limit(1)


def read_settings(connection: sa.Connection) -> dict[str, Any]:
    """Settings that hold now."""
    found: dict[str, Any] = connection.execute(_SETTINGS).scalar_one()
    return found


def read_rounds(connection: sa.Connection) -> list[Round]:
    """Rounds, in order."""
    return [round_of(row) for row in connection.execute(_ROUNDS)]


def read_asks(connection: sa.Connection) -> list[Ask]:
    """Asks, by round and rank."""
    return [ask_of(row) for row in connection.execute(_ASKS)]


def read_asks_of(connection: sa.Connection, candidates: Sequence[str]) -> dict[str, Ask | None]:
    """Candidate → its ask, or None where there is none."""
    rows = connection.execute(_ASKS_OF, {"names": candidates})
    return dict.fromkeys(candidates) | {ask.candidate: ask for ask in map(ask_of, rows)}


def read_stored(connection: sa.Connection, uids: Sequence[str]) -> dict[str, StoredRow | None]:
    """Uid → the answer that has it, or None where there is none."""
    rows = connection.execute(_STORED, {"names": uids})
    found = (StoredRow(answer_of(row), tuple(row.said)) for row in rows)
    return dict.fromkeys(uids) | {each.answer.uid: each for each in found}


def read_held(connection: sa.Connection, annotators: Sequence[str]) -> dict[str, list[Ask]]:
    """Annotator → what they hold, in the order in which it is asked."""
    found: dict[str, list[Ask]] = {name: [] for name in annotators}
    for row in connection.execute(_HELD, {"names": annotators}):
        found[row.annotator].append(ask_of(row))
    return found


def read_answers(connection: sa.Connection) -> list[Answer]:
    """Answers as they came, with those that are replaced or taken back, and what took them back."""
    return [answer_of(row) for row in connection.execute(_ANSWERS)]


def read_current(connection: sa.Connection) -> list[Answer]:
    """Answers that count: neither replaced nor taken back."""
    return [answer_of(row) for row in connection.execute(_CURRENT)]


def read_current_of(
    connection: sa.Connection, candidates: Sequence[str]
) -> dict[str, list[Answer]]:
    """Candidate → its answers that count."""
    found: dict[str, list[Answer]] = {name: [] for name in candidates}
    for answer in map(answer_of, connection.execute(_CURRENT_OF, {"names": candidates})):
        found[answer.candidate].append(answer)
    return found


def read_latest(connection: sa.Connection, annotator: str) -> Answer | None:
    """The last answer of an annotator that counts."""
    row = connection.execute(_LATEST, {"annotator": annotator}).one_or_none()
    return None if row is None else answer_of(row)


def read_history(connection: sa.Connection, annotator: str, n: int) -> list[Answer]:
    """Rows of an annotator, the newest first."""
    rows = connection.execute(_HISTORY, {"annotator": annotator, "n": n})
    return [answer_of(row) for row in rows]


def read_seen(
    connection: sa.Connection, candidates: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Candidate → annotator → what they were shown of it, in order."""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in candidates}
    for candidate, annotator, what in connection.execute(_SEEN, {"names": candidates}):
        found[candidate].setdefault(annotator, []).append(what)
    return found


def read_notes(connection: sa.Connection, kind: str | None = None) -> list[Note]:
    """Notes, in order, of a kind or all."""
    wanted = _NOTES if kind is None else _NOTES.where(notes.c.kind == kind)
    return [note_of(row) for row in connection.execute(wanted)]
