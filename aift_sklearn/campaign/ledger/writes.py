"""What annotators do to a ledger: many at once, in one commit."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..._checks import check_int, check_number
from ...errors import ConflictError, DataTypeError, LabelError
from ..operations import HELD, Lease, Operation, Release, Saw, Undo
from ..records import Answer, Ask, Kind, Question
from .checks import check_answer, check_name, check_text
from .queue import find_open, refresh
from .reads import read_ask, read_current, read_latest, read_seen, read_settings
from .rows import ANSWER, ASK, answer_of, ask_of, row_of_answer
from .sql import sa
from .store import Store, Writing
from .tables import answers, asks, leases, views

__all__ = ["Result", "apply_operations"]

Result = list[Question] | Answer | None
"""Of an operation: questions of a lease, what was stored of an answer or an undo."""

# Seconds; more is a mistake.
_LONGEST = 365 * 86_400.0


def apply_operations(store: Store, operations: Sequence[Operation]) -> list[Result | Exception]:
    """Do what annotators ask for, in turn, in one transaction.

    Parameters
    ----------
    store : Store
        Where.
    operations : sequence of Answer, Lease, Undo, Release or Saw
        What.

    Returns
    -------
    list
        A result for each; where one was refused, the exception. The others are kept.

    Raises
    ------
    LedgerError
        If the database refuses, for all of them: nothing is kept.
    """
    if len(operations) > 1:
        # Hardly ever is anything refused; and savepoints take as long as what they are for.
        with contextlib.suppress(_RefusedError):
            return _do_all(store, operations)
        with store.writing() as writing:
            batch = _begin(writing, operations)
            return [_do_among_others(store, batch, operation) for operation in operations]
    try:
        return _do_all(store, operations)
    except _RefusedError as refused:
        return [refused.reason]


def _do_all(store: Store, operations: Sequence[Operation]) -> list[Result | Exception]:
    """Do them if none is refused; nothing is kept otherwise."""
    with store.writing() as writing, _refusals(store):
        batch = _begin(writing, operations)
        return [_perform(batch, operation) for operation in operations]


def _do_among_others(store: Store, batch: _Batch, operation: Operation) -> Result | Exception:
    try:
        with _refusals(store), batch.connection.begin_nested():
            return _perform(batch, operation)
    except _RefusedError as refused:
        return refused.reason


class _RefusedError(Exception):
    """What one operation is refused for, on its way out of what it began."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


@contextlib.contextmanager
def _refusals(store: Store) -> Iterator[None]:
    """Tell an operation that is refused from a database that refuses all of them."""
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.DataError) as error:
        raise _RefusedError(store.refused(error)) from error
    except sa.exc.SQLAlchemyError:
        raise
    except Exception as error:
        raise _RefusedError(error) from error


@dataclass
class _Batch:
    """What operations of one transaction share."""

    connection: sa.Connection
    now: datetime.datetime

    @cached_property
    def settings(self) -> dict[str, Any]:
        return read_settings(self.connection)

    @property
    def adjudicate(self) -> bool:
        return bool(self.settings.get("adjudicate", True))


def _begin(writing: Writing, operations: Sequence[Operation]) -> _Batch:
    if any(isinstance(operation, Lease) for operation in operations):
        writing.connection.execute(_EXPIRED, {"now": writing.now})
    return _Batch(writing.connection, writing.now)


def _perform(batch: _Batch, operation: Operation) -> Result:
    match operation:
        case Answer():
            return _answer(batch, operation)
        case Lease():
            return _lease(batch, operation)
        case Undo():
            return _undo(batch, operation)
        case Release():
            _release(batch, operation)
            return None
        case Saw():
            _saw(batch, operation)
            return None
    raise DataTypeError(
        f"an operation is {operation!r:.80} of type {type(operation).__name__}; expected an "
        "Answer, Lease, Undo, Release or Saw."
    )


_OF_UID = sa.select(*ANSWER, answers.c.said).where(answers.c.uid == sa.bindparam("uid"))
_STORE = sa.insert(answers)
_GIVE_BACK = sa.delete(leases).where(
    leases.c.candidate == sa.bindparam("gone"), leases.c.annotator == sa.bindparam("by")
)


def _answer(batch: _Batch, sent: Answer) -> Answer:
    connection = batch.connection
    sent = check_answer(sent, batch.settings["classes"])
    row = connection.execute(_OF_UID, {"uid": sent.uid}).one_or_none()
    if row is not None:
        return _same(answer_of(row), sent, tuple(row.said))
    ask = _find_ask(connection, sent.candidate)
    current = read_current(connection, sent.candidate)
    own = [answer for answer in current if answer.annotator == sent.annotator]
    seen = read_seen(connection, sent.annotator, sent.candidate)
    stored = dataclasses.replace(
        sent,
        visible=tuple(dict.fromkeys((*sent.visible, *seen))),
        replaces=own[0].uid if own else "",
        time=batch.now,
    )
    connection.execute(_STORE, row_of_answer(stored, sent.visible))
    connection.execute(_GIVE_BACK, {"gone": sent.candidate, "by": sent.annotator})
    others = [answer for answer in current if answer.annotator != sent.annotator]
    refresh(connection, ask, [*others, stored], adjudicate=batch.adjudicate)
    return stored


def _same(stored: Answer, sent: Answer, said: tuple[str, ...]) -> Answer:
    """Return the stored answer, if what was sent is the same."""
    before = dataclasses.replace(stored, visible=said, replaces="", time=None)
    odd = [
        f"{each.name}={getattr(sent, each.name)!r}, not {getattr(before, each.name)!r}"
        for each in dataclasses.fields(Answer)
        if getattr(sent, each.name) != getattr(before, each.name)
    ]
    if odd:
        raise ConflictError(
            f"an answer of uid {sent.uid!r} is stored already, and another was sent: "
            f"{'; '.join(odd)}. Give every answer an uid of its own: make_uid()."
        )
    return stored


def _find_ask(connection: sa.Connection, candidate: str) -> Ask:
    ask = read_ask(connection, candidate)
    if ask is None:
        raise LabelError(
            f"candidate {candidate!r:.200} was not asked for in this campaign; expected one of "
            "those that were. add_asks() asks for more."
        )
    return ask


_EXPIRED = sa.delete(leases).where(leases.c.expires <= sa.bindparam("now"))
_HELD = (
    sa.select(*ASK, leases.c.undone)
    .join_from(leases, asks, asks.c.candidate == leases.c.candidate)
    .where(leases.c.annotator == sa.bindparam("annotator"))
    # What was taken back last comes first: the annotator has just asked for it.
    .order_by(leases.c.undone.desc(), asks.c.round.desc(), asks.c.rank, asks.c.candidate)
    .limit(sa.bindparam("n"))
)
_RENEW = (
    sa.update(leases)
    .where(leases.c.annotator == sa.bindparam("by"), leases.c.candidate == sa.bindparam("held"))
    .values(expires=sa.bindparam("until"))
)
_HAND_OUT = sa.insert(leases)


def _lease(batch: _Batch, asked: Lease) -> list[Question]:
    connection = batch.connection
    annotator = check_name("annotator", asked.annotator, error=LabelError)
    n = check_int("n", asked.n, minimum=1)
    seconds = check_number("seconds", asked.seconds, low=0.001, high=_LONGEST)
    expires = batch.now + datetime.timedelta(seconds=seconds)
    held = [
        ask_of(row) for row in connection.execute(_HELD, {"annotator": annotator, "n": n}).all()
    ]
    new = find_open(connection, annotator, n - len(held)) if len(held) < n else []
    if held:
        renewed = [{"by": annotator, "held": ask.candidate, "until": expires} for ask in held]
        connection.execute(_RENEW, renewed)
    for ask in new:
        _hand_out(connection, Question(ask, annotator, expires))
    return [Question(ask, annotator, expires) for ask in (*held, *new)]


def _hand_out(connection: sa.Connection, question: Question, *, undone: int = 0) -> None:
    row = {
        "candidate": question.candidate,
        "annotator": question.annotator,
        "expires": question.expires,
        "undone": undone,
    }
    connection.execute(_HAND_OUT, row)


def _undo(batch: _Batch, asked: Undo) -> Answer | None:
    connection = batch.connection
    annotator = check_name("annotator", asked.annotator, error=LabelError)
    uid = check_name("uid", asked.uid, error=LabelError)
    row = connection.execute(_OF_UID, {"uid": uid}).one_or_none()
    if row is not None:
        stored = answer_of(row)
        if stored.kind is Kind.undo and stored.annotator == annotator:
            return stored
        raise ConflictError(
            f"{uid!r} is the uid of an answer that is stored already, by {stored.annotator!r}; "
            "expected one of its own: make_uid()."
        )
    last = read_latest(connection, annotator)
    if last is None:
        return None
    stored = Answer(
        uid,
        last.candidate,
        annotator,
        Kind.undo,
        replaces=last.uid,
        origin=last.origin,
        time=batch.now,
    )
    (number,) = connection.execute(_STORE, row_of_answer(stored, ())).inserted_primary_key or (0,)
    ask = _find_ask(connection, last.candidate)
    current = read_current(connection, last.candidate)
    refresh(connection, ask, current, adjudicate=batch.adjudicate)
    question = Question(ask, annotator, batch.now + datetime.timedelta(seconds=HELD))
    # The answer gave back the lease that there was.
    _hand_out(connection, question, undone=number)
    return stored


_RELEASE = sa.delete(leases).where(leases.c.annotator == sa.bindparam("by"))


def _release(batch: _Batch, asked: Release) -> None:
    annotator = check_name("annotator", asked.annotator, error=LabelError)
    batch.connection.execute(_RELEASE, {"by": annotator})


_SAW = sa.insert(views)


def _saw(batch: _Batch, seen: Saw) -> None:
    annotator = check_name("annotator", seen.annotator, error=LabelError)
    what = check_name("what", seen.what, error=LabelError)
    ask = _find_ask(batch.connection, check_text("candidate", seen.candidate, error=LabelError))
    # The first time counts.
    if what not in read_seen(batch.connection, annotator, ask.candidate):
        row = {"annotator": annotator, "candidate": ask.candidate, "what": what, "time": batch.now}
        batch.connection.execute(_SAW, row)
