"""What annotators do to a ledger: many at once, in one commit."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Sequence

from ..._checks import check_int, check_number
from ...errors import ConflictError, DataTypeError, LabelError
from ..operations import HELD, Lease, Operation, Release, Saw, Undo
from ..records import Answer, Ask, Kind, Question
from .batch import Batch
from .checks import check_answer, check_name, check_text
from .reads import read_latest
from .rows import row_of_answer
from .sql import sa
from .store import Store, Writing
from .tables import answers, leases, views

__all__ = ["Result", "apply_operations"]

Result = list[Question] | Answer | None
"""Of an operation: questions of a lease, what was stored of an answer or an undo."""

# Seconds; more is a mistake.
_LONGEST = 365 * 86_400.0
# Operations for which is read at once: databases limit how many values a statement has.
_AT_ONCE = 200


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
    # Hardly ever is anything refused; and savepoints take as long as what they are for.
    try:
        return _do_all(store, operations)
    except _RefusedError as refused:
        if len(operations) == 1:
            return [refused.reason]
    with store.writing() as writing:
        return [_do_among_others(store, writing, operation) for operation in operations]


def _do_all(store: Store, operations: Sequence[Operation]) -> list[Result | Exception]:
    """Do them if none is refused; nothing is kept otherwise."""
    results: list[Result | Exception] = []
    with store.writing() as writing, _refusals(store):
        for first in range(0, len(operations), _AT_ONCE):
            some = operations[first : first + _AT_ONCE]
            batch = Batch(writing, some)
            results += [_perform(batch, operation) for operation in some]
    return results


def _do_among_others(store: Store, writing: Writing, operation: Operation) -> Result | Exception:
    try:
        # What one that is refused has read and written is forgotten with it.
        with _refusals(store), writing.connection.begin_nested():
            return _perform(Batch(writing, [operation]), operation)
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


def _perform(batch: Batch, operation: Operation) -> Result:
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


_STORE = sa.insert(answers)
_GIVE_BACK = sa.delete(leases).where(
    leases.c.candidate == sa.bindparam("gone"), leases.c.annotator == sa.bindparam("by")
)


def _answer(batch: Batch, sent: Answer) -> Answer:
    sent = check_answer(sent, batch.settings["classes"])
    before = batch.stored(sent.uid)
    if before is not None:
        return _same(before.answer, sent, before.said)
    ask = _find_ask(batch, sent.candidate)
    current = batch.current(sent.candidate)
    own = [answer for answer in current if answer.annotator == sent.annotator]
    seen = batch.seen(sent.annotator, sent.candidate)
    stored = dataclasses.replace(
        sent,
        visible=tuple(dict.fromkeys((*sent.visible, *seen))),
        replaces=own[0].uid if own else "",
        time=batch.now,
    )
    batch.connection.execute(_STORE, row_of_answer(stored, sent.visible))
    batch.answered(stored)
    batch.connection.execute(_GIVE_BACK, {"gone": sent.candidate, "by": sent.annotator})
    batch.gave_back(sent.annotator, sent.candidate)
    others = [answer for answer in current if answer.annotator != sent.annotator]
    batch.refresh(ask, [*others, stored])
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


def _find_ask(batch: Batch, candidate: str) -> Ask:
    ask = batch.ask(candidate)
    if ask is None:
        raise LabelError(
            f"candidate {candidate!r:.200} was not asked for in this campaign; expected one of "
            "those that were. add_asks() asks for more."
        )
    return ask


_RENEW = (
    sa.update(leases)
    .where(leases.c.annotator == sa.bindparam("by"), leases.c.candidate == sa.bindparam("held"))
    .values(expires=sa.bindparam("until"))
)
_HAND_OUT = sa.insert(leases)


def _lease(batch: Batch, asked: Lease) -> list[Question]:
    annotator = check_name("annotator", asked.annotator, error=LabelError)
    n = check_int("n", asked.n, minimum=1)
    seconds = check_number("seconds", asked.seconds, low=0.001, high=_LONGEST)
    expires = batch.now + datetime.timedelta(seconds=seconds)
    held = batch.held(annotator)[:n]
    new = batch.find_open(annotator, n - len(held)) if len(held) < n else []
    questions = [Question(ask, annotator, expires) for ask in (*held, *new)]
    if held:
        rows = [{"by": annotator, "held": ask.candidate, "until": expires} for ask in held]
        batch.connection.execute(_RENEW, rows)
    _hand_out(batch, questions[len(held) :])
    return questions


def _hand_out(batch: Batch, questions: Sequence[Question], *, undone: int = 0) -> None:
    rows = [
        {
            "candidate": question.candidate,
            "annotator": question.annotator,
            "expires": question.expires,
            "undone": undone,
        }
        for question in questions
    ]
    if rows:
        batch.connection.execute(_HAND_OUT, rows)
        batch.handed(questions[0].annotator)


def _undo(batch: Batch, asked: Undo) -> Answer | None:
    connection = batch.connection
    annotator = check_name("annotator", asked.annotator, error=LabelError)
    uid = check_name("uid", asked.uid, error=LabelError)
    before = batch.stored(uid)
    if before is not None:
        stored = before.answer
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
    batch.answered(stored)
    ask = _find_ask(batch, last.candidate)
    batch.refresh(ask, batch.current(last.candidate))
    question = Question(ask, annotator, batch.now + datetime.timedelta(seconds=HELD))
    # The answer gave back the lease that there was.
    _hand_out(batch, [question], undone=number)
    return stored


_RELEASE = sa.delete(leases).where(leases.c.annotator == sa.bindparam("by"))


def _release(batch: Batch, asked: Release) -> None:
    annotator = check_name("annotator", asked.annotator, error=LabelError)
    batch.connection.execute(_RELEASE, {"by": annotator})
    batch.handed(annotator)


_SAW = sa.insert(views)


def _saw(batch: Batch, seen: Saw) -> None:
    annotator = check_name("annotator", seen.annotator, error=LabelError)
    what = check_name("what", seen.what, error=LabelError)
    ask = _find_ask(batch, check_text("candidate", seen.candidate, error=LabelError))
    # The first time counts.
    if what not in batch.seen(annotator, ask.candidate):
        row = {"annotator": annotator, "candidate": ask.candidate, "what": what, "time": batch.now}
        batch.connection.execute(_SAW, row)
        batch.shown(ask.candidate)
