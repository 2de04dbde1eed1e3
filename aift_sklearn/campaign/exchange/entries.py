"""What files say, before any of it is stored: entries, and what is to be done about each."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import DataError
from ..records import Answer, Kind

__all__ = ["Entry", "Imported", "Listed", "Place", "Reading", "check_annotator", "rename"]

# Characters of the name of an annotator.
_LONGEST = 200
# How many of a kind are shown.
_SHOWN = 5


@dataclass(frozen=True)
class Place:
    """Where a candidate is seen.

    Attributes
    ----------
    image : str
        Path or URL of an image.
    box : tuple of float, optional
        x, y, width, height of the candidate in it, in pixels; by default it is all of the image.
    size : tuple of int, optional
        Width and height of the image in pixels, where they are known.
    """

    image: str
    box: tuple[float, float, float, float] | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Entry:
    """What a file says that an annotator answered.

    Attributes
    ----------
    candidate, annotator, kind, label, seconds, visible
        As of `Answer`.
    time : datetime, optional
        When it was said or last changed, in UTC, where the file tells.
    uid : str
        Of the answer that was exported, where the file holds it.
    source : str
        What the other tool calls it.
    where : str
        Its place in the file: "line 7", "task 3, annotation 5".
    problem : str
        Why it is no answer; empty where it is one.
    """

    candidate: str
    annotator: str
    kind: Kind = Kind.label
    label: str = ""
    seconds: float | None = None
    visible: tuple[str, ...] = ()
    time: datetime.datetime | None = None
    uid: str = ""
    source: str = ""
    where: str = ""
    problem: str = ""

    @property
    def said(self) -> tuple[Kind, str]:
        """What was answered: two that say the same are one."""
        return self.kind, self.label


@dataclass(frozen=True)
class Reading:
    """A file that was read.

    Attributes
    ----------
    format : str
        "csv", "label-studio" or "coco".
    origin : str
        "import:" and the name of the file, as answers are stored with.
    entries : tuple of Entry
        In the order of the file.
    """

    format: str
    origin: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Listed:
    """An entry that is not imported, and why.

    Examples
    --------
    >>> print(Listed(Entry("a.png", "anna", where="line 2"), "'a.png' was not asked for"))
    line 2: 'a.png' was not asked for
    """

    entry: Entry
    reason: str

    def __str__(self) -> str:
        return f"{self.entry.where}: {self.reason}"


@dataclass(frozen=True)
class Imported:
    """What a file would add to a campaign, and what of it is not taken.

    Attributes
    ----------
    answers : tuple of Answer
        To be stored, in the order of the file.
    corrections : int
        How many of them change what the campaign holds.
    unchanged : int
        Entries that say what it holds already.
    unknown_ids : tuple of Listed
        Of candidates that were not asked for.
    unknown_labels : tuple of Listed
        With labels that are no class.
    duplicates : tuple of Listed
        That repeat another entry of the file.
    conflicts : tuple of Listed
        That contradict another entry of the same annotator, or an answer that the campaign holds
        and that may be later.
    """

    answers: tuple[Answer, ...] = ()
    corrections: int = 0
    unchanged: int = 0
    unknown_ids: tuple[Listed, ...] = ()
    unknown_labels: tuple[Listed, ...] = ()
    duplicates: tuple[Listed, ...] = ()
    conflicts: tuple[Listed, ...] = ()

    def describe(self) -> list[str]:
        """Say it in lines, a few examples of each kind.

        Examples
        --------
        >>> Imported(unchanged=3).describe()
        ['0 answers to store, 0 of them corrections; 3 stored already']
        """
        n = len(self.answers)
        lines = [
            f"{n} answer{'' if n == 1 else 's'} to store, {self.corrections} of them corrections; "
            f"{self.unchanged} stored already"
        ]
        for name in ("unknown_ids", "unknown_labels", "duplicates", "conflicts"):
            listed: tuple[Listed, ...] = getattr(self, name)
            if listed:
                lines.append(f"{name.replace('_', ' ')}, not taken ({len(listed)}):")
                lines += [f"  {one}" for one in listed[:_SHOWN]]
                lines += [f"  and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
        return lines


def check_annotator(source: str, where: str, name: str) -> str:
    """Return the name of an annotator without spaces around it.

    Raises
    ------
    DataError
        If it cannot be one.
    """
    name = name.strip()
    if not name or len(name) > _LONGEST or any(not sign.isprintable() for sign in name):
        raise DataError(
            f"{source}, {where}: the annotator is {name!r:.80}; expected 1 to {_LONGEST} letters "
            "in one line. Name who labelled where the file does not."
        )
    return name


def rename(names: Mapping[str, str] | None, known_as: Sequence[str]) -> str:
    """Return who is meant: the first name that is renamed, or the first there is.

    Examples
    --------
    >>> rename({"7": "anna"}, ["a@example.org", "7"]), rename(None, ["a@example.org", "7"])
    ('anna', 'a@example.org')
    """
    return next((names[name] for name in known_as if names and name in names), known_as[0])
