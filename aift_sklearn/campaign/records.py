"""What a ledger records: rounds, asks, answers; and the questions that are open."""

from __future__ import annotations

import datetime
import enum
import uuid
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Ask", "Kind", "Purpose", "Question", "Round", "make_uid"]


class Kind(enum.StrEnum):
    """What an answer is."""

    label = "label"
    skip = "skip"
    unsure = "unsure"
    undo = "undo"


class Purpose(enum.StrEnum):
    """Why a candidate is asked for."""

    model = "model"
    typical = "typical"
    yardstick = "yardstick"
    imported = "imported"


def make_uid() -> str:
    """Make an id for an answer, which no other has.

    Examples
    --------
    >>> len(make_uid()), make_uid() == make_uid()
    (32, False)
    """
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Round:
    """A model that learnt, and then asked.

    Attributes
    ----------
    number : int
        From 0 on; the ledger refuses any but the next one. Round 0 asks without a model.
    model : str
        Hash of the model's files; empty before there is one.
    parameters : dict
        What it asked by: JSON values.
    seed : int
        Seeds what it drew.
    n_labels : int
        Labels that it was taught.
    time : datetime, optional
        When, in UTC; set by the ledger.
    """

    number: int
    model: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    n_labels: int = 0
    time: datetime.datetime | None = None


@dataclass(frozen=True)
class Ask:
    """A candidate that is to be labelled; each is asked for once in a campaign.

    Attributes
    ----------
    candidate : str
        Its id in the pool.
    rank : int
        Place in its round: lower ones are shown first.
    purpose : Purpose
        Why it is asked for. "yardstick": drawn at random, never trained on.
    score : float or None
        What its label is worth, by the model.
    pattern : str
        Letter of `prediction_pattern`; empty without a model.
    proba : tuple of float
        Mean probabilities of the classes, in the order of the campaign's; empty without a model.
    n_readers : int
        Annotators that are to label it.
    round : int
        Which asked for it.
    """

    candidate: str
    rank: int
    purpose: Purpose = Purpose.model
    score: float | None = None
    pattern: str = ""
    proba: tuple[float, ...] = ()
    n_readers: int = 1
    round: int = 0


@dataclass(frozen=True)
class Answer:
    """What an annotator said of a candidate; or, of kind undo, that an answer is taken back.

    Attributes
    ----------
    uid : str
        Made by whoever sends it: the same answer, sent again, is kept once.
    candidate, annotator : str
        Of what, and by whom.
    kind : Kind
        A label, "unsure", "skip", or "undo" of the answer in ``replaces``.
    label : str
        Class, of kind label; else empty.
    seconds : float or None
        That the question was on the screen.
    visible : tuple of str
        What was seen before the answer: "score", "pattern", "probabilities" ...
    replaces : str
        Uid of the annotator's answer that this one corrects or takes back; empty for a first one.
        The ledger fills it in.
    origin : str
        What it came by: "page", "widget", "python", "import:FILE".
    time : datetime, optional
        When it was stored, in UTC; set by the ledger.
    """

    uid: str
    candidate: str
    annotator: str
    kind: Kind = Kind.label
    label: str = ""
    seconds: float | None = None
    visible: tuple[str, ...] = ()
    replaces: str = ""
    origin: str = "python"
    time: datetime.datetime | None = None


@dataclass(frozen=True)
class Question:
    """An ask that was handed to an annotator, for a while.

    Attributes
    ----------
    ask : Ask
        What is asked.
    annotator : str
        Who is asked.
    expires : datetime
        When it goes to others, in UTC, unless it is answered or asked for again.
    """

    ask: Ask
    annotator: str
    expires: datetime.datetime

    @property
    def candidate(self) -> str:
        """Id of the candidate."""
        return self.ask.candidate
