"""What annotators do to a ledger, besides `Answer`: small values that `Ledger.apply` takes."""

from __future__ import annotations

from dataclasses import dataclass

from .records import Answer

__all__ = ["HELD", "Lease", "Operation", "Release", "Saw", "Undo"]

HELD = 600.0
"""Seconds for which a question is an annotator's, unless it is asked for again."""


@dataclass(frozen=True)
class Lease:
    """Hand questions to an annotator: those that they hold, and then new ones.

    Attributes
    ----------
    annotator : str
        To whom.
    n : int
        Most of them.
    seconds : float
        Until they go to others.
    """

    annotator: str
    n: int = 2
    seconds: float = HELD


@dataclass(frozen=True)
class Undo:
    """Take back the latest answer of an annotator that still counts, and ask its question again.

    Attributes
    ----------
    uid : str
        Made by whoever sends it: the same one, sent again, takes back nothing more.
    annotator : str
        Whose.
    """

    uid: str
    annotator: str


@dataclass(frozen=True)
class Release:
    """Hand back all questions that an annotator holds.

    Attributes
    ----------
    annotator : str
        Who.
    """

    annotator: str


@dataclass(frozen=True)
class Saw:
    """Note that an annotator was shown something of what the model thinks.

    Attributes
    ----------
    annotator, candidate : str
        Who, and of what.
    what : str
        "score", "pattern", "probabilities" ...
    """

    annotator: str
    candidate: str
    what: str


Operation = Answer | Lease | Undo | Release | Saw
"""What `Ledger.apply` takes."""
