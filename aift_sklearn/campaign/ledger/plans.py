"""What a campaign adds to its ledger: settings, rounds, asks and notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import DataError
from ..records import Ask, Round
from .checks import check_asks, check_json, check_name, check_round, check_settings, check_text
from .queue import enqueue, rebuild
from .reads import read_current, read_settings
from .rows import Note, row_of_ask, row_of_round
from .sql import sa
from .store import Store
from .tables import asks, notes, rounds, settings

__all__ = ["add_asks", "add_note", "add_round", "change_settings"]

# Candidates that are looked for at a time: databases limit the values of a statement.
_SOME = 500
# Rows from which on PostgreSQL is told at once that a table has grown.
_MANY = 1000


def change_settings(store: Store, values: Mapping[str, Any]) -> dict[str, Any]:
    """Change some settings; see `Ledger.change_settings`."""
    changed = check_json("settings", values)
    with store.writing() as writing:
        connection = writing.connection
        before = read_settings(connection)
        after = check_settings(before | changed)
        if after != before:
            _refuse_lost_classes(connection, before["classes"], after["classes"])
            row = {"time": writing.now, "content": after}
            connection.execute(sa.insert(settings), row)
            rebuild(connection, adjudicate=bool(after.get("adjudicate", True)))
        return after


def _refuse_lost_classes(
    connection: sa.Connection, before: Sequence[str], after: Sequence[str]
) -> None:
    if set(before) <= set(after):
        return
    lost = {answer.label for answer in read_current(connection) if answer.label not in after}
    lost.discard("")
    if lost:
        raise DataError(
            f"classes={list(after)!r} leave out {sorted(lost)!r}, which annotators gave as labels; "
            "expected all classes that are in use. Correct those answers first."
        )


_LAST_NUMBER = sa.select(sa.func.max(rounds.c.number))
_FEW = sa.select(asks.c.candidate).where(
    asks.c.candidate.in_(sa.bindparam("candidates", expanding=True))
)


def add_round(store: Store, what: Round, asked: Iterable[Ask]) -> Round:
    """Add a round and what it asks; see `Ledger.add_round`."""
    what = check_round(what)
    checked = check_asks(asked, what.number)
    with store.writing() as writing:
        last = writing.connection.execute(_LAST_NUMBER).scalar_one()
        following = 0 if last is None else last + 1
        if what.number != following:
            raise DataError(
                f"a round has the number {what.number}; expected {following}, the next one."
            )
        what = dataclasses.replace(what, time=writing.now)
        writing.connection.execute(sa.insert(rounds), row_of_round(what))
        _insert(writing.connection, checked)
    return what


def add_asks(store: Store, asked: Iterable[Ask]) -> list[Ask]:
    """Ask for more in the present round; see `Ledger.add_asks`."""
    checked = check_asks(asked, 0)
    with store.writing() as writing:
        number = writing.connection.execute(_LAST_NUMBER).scalar_one()
        if number is None:
            raise DataError("there is no round yet that could ask; add_round() begins one.")
        checked = [dataclasses.replace(ask, round=number) for ask in checked]
        _insert(writing.connection, checked)
    return checked


def _insert(connection: sa.Connection, asked: Sequence[Ask]) -> None:
    for start in range(0, len(asked), _SOME):
        some = [ask.candidate for ask in asked[start : start + _SOME]]
        known = connection.execute(_FEW, {"candidates": some}).scalars().all()
        if known:
            raise DataError(
                f"candidate {min(known)!r} was asked for before; expected candidates that were "
                "not: each is asked for once in a campaign."
            )
    if asked:
        connection.execute(sa.insert(asks), [row_of_ask(ask) for ask in asked])
        enqueue(connection, asked)
    if len(asked) >= _MANY and connection.dialect.name == "postgresql":
        # It plans by what it knows of a table, and would look in a minute.
        connection.exec_driver_sql("ANALYZE asks, queue")


def add_note(store: Store, kind: str, text: str, values: Mapping[str, Any]) -> Note:
    """Note that something happened; see `Ledger.note`."""
    kind, text = check_name("kind", kind), check_text("text", text)
    content = check_json("values", values)
    with store.writing() as writing:
        row = {"time": writing.now, "kind": kind, "text": text, "content": content}
        writing.connection.execute(sa.insert(notes), row)
        return Note(writing.now, kind, text, content)
