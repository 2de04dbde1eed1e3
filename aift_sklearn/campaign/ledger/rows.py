"""Rows of the tables as records, and records as rows."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..records import Answer, Ask, Kind, Purpose, Round
from .tables import answers, asks, notes, rounds

__all__ = [
    "ANSWER",
    "ASK",
    "NOTE",
    "ROUND",
    "Note",
    "answer_of",
    "ask_of",
    "note_of",
    "round_of",
    "row_of_answer",
    "row_of_ask",
    "row_of_round",
]


@dataclass(frozen=True)
class Note:
    """Something that happened to a campaign.

    Attributes
    ----------
    time : datetime
        When it was noted, in UTC.
    kind : str
        What sort of thing: "learnt", "stopped" ...
    text : str
        For people.
    values : dict
        For programs: JSON values.
    """

    time: datetime.datetime
    kind: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)


# Columns, in the order in which records have them.
ASK = (
    asks.c.candidate,
    asks.c.rank,
    asks.c.purpose,
    asks.c.score,
    asks.c.pattern,
    asks.c.proba,
    asks.c.n_readers,
    asks.c.round,
)
ANSWER = (
    answers.c.uid,
    answers.c.candidate,
    answers.c.annotator,
    answers.c.kind,
    answers.c.label,
    answers.c.seconds,
    answers.c.visible,
    answers.c.replaces,
    answers.c.origin,
    answers.c.time,
)
ROUND = (
    rounds.c.number,
    rounds.c.model,
    rounds.c.parameters,
    rounds.c.seed,
    rounds.c.n_labels,
    rounds.c.time,
)
NOTE = (notes.c.time, notes.c.kind, notes.c.text, notes.c.content)


def ask_of(row: Sequence[Any]) -> Ask:
    """Ask of a row of `ASK`; what follows is left alone."""
    candidate, rank, purpose, score, pattern, proba, n_readers, number = row[:8]
    return Ask(candidate, rank, Purpose(purpose), score, pattern, tuple(proba), n_readers, number)


def answer_of(row: Sequence[Any]) -> Answer:
    """Answer of a row of `ANSWER`; what follows is left alone."""
    uid, candidate, annotator, kind, label, seconds, visible, replaces, origin, time = row[:10]
    return Answer(
        uid,
        candidate,
        annotator,
        Kind(kind),
        label,
        seconds,
        tuple(visible),
        replaces or "",
        origin,
        time,
    )


def round_of(row: Sequence[Any]) -> Round:
    """Round of a row of `ROUND`."""
    return Round(*row)


def note_of(row: Sequence[Any]) -> Note:
    """Note of a row of `NOTE`."""
    return Note(*row)


def row_of_round(what: Round) -> dict[str, Any]:
    """Row of a round."""
    return _shallow(what)


def row_of_ask(ask: Ask) -> dict[str, Any]:
    """Row of an ask."""
    return _shallow(ask) | {"purpose": ask.purpose.value, "proba": list(ask.proba)}


def row_of_answer(answer: Answer, said: Iterable[str]) -> dict[str, Any]:
    """Row of an answer, with what the client said was visible."""
    return _shallow(answer) | {
        "kind": answer.kind.value,
        "visible": list(answer.visible),
        "said": list(said),
        "replaces": answer.replaces or None,
    }


def _shallow(record: Any) -> dict[str, Any]:
    return {each.name: getattr(record, each.name) for each in dataclasses.fields(record)}
