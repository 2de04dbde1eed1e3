"""The tables of a ledger, as statements name them; `schema.py` makes them."""

from __future__ import annotations

import datetime
import json
from typing import Any

from .sql import sa

__all__ = [
    "METADATA",
    "answers",
    "asks",
    "leases",
    "meta",
    "notes",
    "queue",
    "rounds",
    "settings",
    "views",
]


class Time(sa.TypeDecorator[datetime.datetime]):
    """A moment in UTC; in SQLite a text of fixed length, which sorts as time does."""

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """PostgreSQL has a type for it."""
        timed = sa.DateTime(timezone=True) if dialect.name == "postgresql" else sa.String()
        return dialect.type_descriptor(timed)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        """What the database takes."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(datetime.UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime.datetime | None:
        """What the database gives."""
        if isinstance(value, str):
            return datetime.datetime.fromisoformat(value)
        return None if value is None else value.astimezone(datetime.UTC)


class Json(sa.TypeDecorator[Any]):
    """JSON as text, which is the same in every database, and kept to the letter."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:
        """What the database takes."""
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """What the database gives."""
        # Most lists are empty.
        return [] if value == "[]" else json.loads(value)


METADATA = sa.MetaData()
"""All of them, each after those that it refers to."""


def _text(name: str, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, **options)


def _int(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, **options)


def _time(name: str) -> sa.Column[datetime.datetime]:
    return sa.Column(name, Time)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, Json)


meta = sa.Table("meta", METADATA, _text("name", primary_key=True), _text("content"))

settings = sa.Table(
    "settings", METADATA, _int("seq", primary_key=True), _time("time"), _json("content")
)

rounds = sa.Table(
    "rounds",
    METADATA,
    _int("number", primary_key=True, autoincrement=False),
    _text("model"),
    _json("parameters"),
    _int("seed"),
    _int("n_labels"),
    _time("time"),
)

asks = sa.Table(
    "asks",
    METADATA,
    _text("candidate", primary_key=True),
    sa.Column("round", sa.BigInteger, sa.ForeignKey("rounds.number")),
    _int("rank"),
    _text("purpose"),
    sa.Column("score", sa.Double),
    _text("pattern"),
    _json("proba"),
    _int("n_readers"),
)

answers = sa.Table(
    "answers",
    METADATA,
    _int("seq", primary_key=True),
    _text("uid"),
    sa.Column("candidate", sa.Text, sa.ForeignKey("asks.candidate")),
    _text("annotator"),
    _text("kind"),
    _text("label"),
    sa.Column("seconds", sa.Double),
    # What the client said was visible, and what is known to have been.
    _json("said"),
    _json("visible"),
    sa.Column("replaces", sa.Text, sa.ForeignKey("answers.uid")),
    _text("origin"),
    _time("time"),
)

views = sa.Table(
    "views",
    METADATA,
    _int("seq", primary_key=True),
    _text("annotator"),
    sa.Column("candidate", sa.Text, sa.ForeignKey("asks.candidate")),
    _text("what"),
    _time("time"),
)

notes = sa.Table(
    "notes",
    METADATA,
    _int("seq", primary_key=True),
    _time("time"),
    _text("kind"),
    _text("text"),
    _json("content"),
)

leases = sa.Table(
    "leases",
    METADATA,
    sa.Column("candidate", sa.Text, sa.ForeignKey("asks.candidate"), primary_key=True),
    _text("annotator", primary_key=True),
    _time("expires"),
    # Number of the undo that asks the question again; 0 without one.
    _int("undone"),
)

# Follows from asks and answers: candidates that need more labels, by who has answered them.
queue = sa.Table(
    "queue",
    METADATA,
    sa.Column("candidate", sa.Text, sa.ForeignKey("asks.candidate"), primary_key=True),
    _text("crowd"),
    _json("readers"),
    _int("missing"),
    _int("round"),
    _int("rank"),
)
