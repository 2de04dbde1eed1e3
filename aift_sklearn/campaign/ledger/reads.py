"""What a ledger holds."""

from __future__ import annotations

from typing import Any

from ..records import Answer, Ask, Kind, Round
from .rows import ANSWER, ASK, NOTE, ROUND, Note, answer_of, ask_of, note_of, round_of
from .sql import sa
from .tables import answers, asks, notes, rounds, settings, views

__all__ = [
    "read_answers",
    "read_ask",
    "read_asks",
    "read_current",
    "read_history",
    "read_latest",
    "read_notes",
    "read_rounds",
    "read_seen",
    "read_settings",
]

_SETTINGS = sa.select(settings.c.content).order_by(settings.c.seq.desc()).limit(1)
_ROUNDS = sa.select(*ROUND).order_by(rounds.c.number)
_ASKS = sa.select(*ASK).order_by(asks.c.round, asks.c.rank, asks.c.candidate)
_ASK = sa.select(*ASK).where(asks.c.candidate == sa.bindparam("candidate"))
_ANSWERS = sa.select(*ANSWER).order_by(answers.c.seq)
_NOTES = sa.select(*NOTE).order_by(notes.c.seq)
_SEEN = (
    sa.select(views.c.what)
    .where(
        views.c.annotator == sa.bindparam("annotator"),
        views.c.candidate == sa.bindparam("candidate"),
    )
    .order_by(views.c.seq)
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
_CURRENT_OF = _CURRENT.where(answers.c.candidate == sa.bindparam("candidate"))
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


def read_ask(connection: sa.Connection, candidate: str) -> Ask | None:
    """Ask of a candidate, if there is one."""
    row = connection.execute(_ASK, {"candidate": candidate}).one_or_none()
    return None if row is None else ask_of(row)


def read_answers(connection: sa.Connection) -> list[Answer]:
    """Answers as they came, with those that are replaced or taken back, and what took them back."""
    return [answer_of(row) for row in connection.execute(_ANSWERS)]


def read_current(connection: sa.Connection, candidate: str | None = None) -> list[Answer]:
    """Answers that count, of a candidate or of all: neither replaced nor taken back."""
    if candidate is None:
        rows = connection.execute(_CURRENT)
    else:
        rows = connection.execute(_CURRENT_OF, {"candidate": candidate})
    return [answer_of(row) for row in rows]


def read_latest(connection: sa.Connection, annotator: str) -> Answer | None:
    """The last answer of an annotator that counts."""
    row = connection.execute(_LATEST, {"annotator": annotator}).one_or_none()
    return None if row is None else answer_of(row)


def read_history(connection: sa.Connection, annotator: str, n: int) -> list[Answer]:
    """Rows of an annotator, the newest first."""
    rows = connection.execute(_HISTORY, {"annotator": annotator, "n": n})
    return [answer_of(row) for row in rows]


def read_seen(connection: sa.Connection, annotator: str, candidate: str) -> tuple[str, ...]:
    """What an annotator was shown of a candidate, in order."""
    values = {"annotator": annotator, "candidate": candidate}
    return tuple(connection.execute(_SEEN, values).scalars())


def read_notes(connection: sa.Connection, kind: str | None = None) -> list[Note]:
    """Notes, in order, of a kind or all."""
    wanted = _NOTES if kind is None else _NOTES.where(notes.c.kind == kind)
    return [note_of(row) for row in connection.execute(wanted)]
