"""What a file adds to a campaign: nothing twice, nothing that contradicts what may be later."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import re
from collections.abc import Collection, Iterable

from ..records import Answer, Ask, Kind
from .entries import Entry, Imported, Listed, Reading

__all__ = ["plan_import"]

# Uids that are made here tell when the other tool says that the answer was given.
_MADE_HERE = re.compile(r"(?:csv|label-studio|coco)-(\d{8}T\d{12})-[0-9a-f]{32}")
_STAMP = "%Y%m%dT%H%M%S%f"
# Characters of a uid that is taken over.
_LONGEST_UID = 200

Pair = tuple[str, str]


def plan_import(
    reading: Reading,
    asks: Iterable[Ask],
    answers: Iterable[Answer],
    classes: Collection[str],
    *,
    overwrite: bool = False,
) -> Imported:
    """Tell what a file adds to a campaign; nothing is stored.

    What says the same as the campaign does is left alone, so that a file which is imported twice
    adds nothing. What says something else corrects the campaign where it is known to be later:
    Label Studio changed the annotation after the answer was given, or a row of the campaign's own
    export was edited, or the answer came from a file of this name. Everything else is listed, and
    nothing is guessed. An annotation that is gone from the other tool takes nothing back.

    Parameters
    ----------
    reading : Reading
        Of `read_answers`.
    asks : iterable of Ask
        What was asked: answers of other candidates are not taken.
    answers : iterable of Answer
        All that the campaign holds, in its order, replaced ones and undos too; of current ones
        alone less is known of what is later.
    classes : collection of str
        What a candidate can be.
    overwrite : bool, default=False
        Whether the file is right where it contradicts the campaign and neither is known to be
        later. Contradictions in the file itself stay listed.

    Returns
    -------
    Imported
        Answers to store, in order, by ``for answer in imported.answers: ledger.answer(answer)``,
        and what is not taken. Their uids follow from what they say and what they replace.

    Examples
    --------
    >>> entries = (
    ...     Entry("a.png", "anna", label="cyst", where="line 2"),
    ...     Entry("b.png", "anna", label="cist", where="line 3"),
    ... )
    >>> reading = Reading("csv", "import:a.csv", entries)
    >>> plan = plan_import(reading, [Ask("a.png", 1), Ask("b.png", 2)], [], ["cyst"])
    >>> for line in plan.describe():
    ...     print(line)
    1 answer to store, 0 of them corrections; 0 stored already
    unknown labels, not taken (1):
      line 3: 'cist' is none of ['cyst']
    """
    listed: dict[str, list[Listed]] = {
        name: [] for name in ("unknown_ids", "unknown_labels", "duplicates", "conflicts")
    }
    sound = _sort_out(reading.entries, {ask.candidate for ask in asks}, classes, listed)
    history = _History(answers)
    stored: list[Answer] = []
    corrections = unchanged = 0
    for pair, entry in _one_each(sound, listed).items():
        now = history.current.get(pair)
        if now is not None and (now.kind, now.label) == entry.said:
            unchanged += 1
            continue
        doubt = history.doubt(pair, entry, reading.origin)
        if doubt and not overwrite:
            listed["conflicts"].append(Listed(entry, doubt))
            continue
        corrections += now is not None
        stored.append(_answer(history.uid(pair, entry, reading.format), pair, entry, reading))
    return Imported(
        tuple(stored), corrections, unchanged, **{name: tuple(x) for name, x in listed.items()}
    )


def _sort_out(
    entries: Iterable[Entry],
    asked: Collection[str],
    classes: Collection[str],
    listed: dict[str, list[Listed]],
) -> dict[Pair, list[Entry]]:
    """Answers that can be taken, by candidate and annotator; the others are listed."""
    sound: dict[Pair, list[Entry]] = {}
    for entry in entries:
        name = entry.candidate
        # Tables that people type have spaces where nobody sees them.
        candidate = name if name in asked else name.strip()
        if candidate not in asked:
            listed["unknown_ids"].append(Listed(entry, f"{name!r} was not asked for"))
        elif entry.problem:
            listed["conflicts"].append(Listed(entry, entry.problem))
        elif entry.kind is Kind.label and entry.label not in classes:
            reason = f"{entry.label!r} is none of {sorted(classes)}"
            listed["unknown_labels"].append(Listed(entry, reason))
        else:
            sound.setdefault((candidate, entry.annotator), []).append(entry)
    return sound


def _one_each(sound: dict[Pair, list[Entry]], listed: dict[str, list[Listed]]) -> dict[Pair, Entry]:
    """The answer of each candidate and annotator, where the file has one."""
    chosen = {}
    for pair, (first, *others) in sound.items():
        if all(entry.said == first.said for entry in others):
            chosen[pair] = first
            reason = f"the same as {first.where}"
            listed["duplicates"] += [Listed(entry, reason) for entry in others]
        else:
            several = " and ".join(dict.fromkeys(map(_say, (first, *others))))
            reason = f"{pair[1]} says {several} of {pair[0]!r}"
            listed["conflicts"] += [Listed(entry, reason) for entry in (first, *others)]
    return chosen


class _History:
    """What the campaign holds of each candidate and annotator."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        rows = list(answers)
        self.by_uid = {row.uid: row for row in rows}
        gone = {row.replaces for row in rows}
        self.last: dict[Pair, Answer] = {(row.candidate, row.annotator): row for row in rows}
        self.current = {
            (row.candidate, row.annotator): row
            for row in rows
            if row.kind is not Kind.undo and row.uid not in gone
        }

    def doubt(self, pair: Pair, entry: Entry, origin: str) -> str:
        """Say why an entry may be no correction; nothing where it is one, or the first."""
        last = self.last.get(pair)
        base = self.by_uid.get(entry.uid)
        if base is not None and (base.candidate, base.annotator) != pair:
            return f"its uid is that of an answer of {base.annotator} on {base.candidate!r}"
        if last is None:
            return ""
        later = self._is_later(last, base, entry, origin)
        if later:
            return ""
        holds = "took the answer back" if last.kind is Kind.undo else f"says {_say(last)}"
        when = "may be later" if later is None else "is later"
        return f"{pair[1]} {holds} in the campaign, which {when}; the file says {_say(entry)}"

    def _is_later(
        self, last: Answer, base: Answer | None, entry: Entry, origin: str
    ) -> bool | None:
        """Whether an entry was made after the last answer; None where nobody knows."""
        same_file = last.origin == origin
        if base is not None:
            # A row of an export: if it was edited, what is known is what it was before.
            edited = (base.kind, base.label) != entry.said
            return edited and (base is last or same_file)
        before = _time_of(last)
        if entry.time is not None and before is not None:
            return entry.time > before
        return True if same_file else None

    def uid(self, pair: Pair, entry: Entry, kind: str) -> str:
        """Make a uid: the same for the same entry and the same state of the campaign."""
        own = entry.uid
        if own and own not in self.by_uid and len(own) <= _LONGEST_UID and own.isprintable():
            # Exported from another campaign: it stays the same answer.
            self.by_uid[own] = Answer(own, *pair)
            return own
        last = self.last.get(pair)
        time = None if entry.uid else entry.time
        stamp = "" if time is None else f"{time.year:04}{time:%m%dT%H%M%S%f}-"
        told = [kind, *pair, entry.kind, entry.label, entry.source, stamp, last.uid if last else ""]
        return f"{kind}-{stamp}{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}"


def _say(said: Entry | Answer) -> str:
    return repr(said.label) if said.kind is Kind.label else said.kind.value


def _time_of(answer: Answer) -> datetime.datetime | None:
    """When an answer was given: by the other tool, where it came from there."""
    made = _MADE_HERE.fullmatch(answer.uid)
    if made:
        # Anybody may send digits that are no time.
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(made[1], _STAMP).replace(tzinfo=datetime.UTC)
    time = answer.time
    return time if time is None or time.tzinfo else time.replace(tzinfo=datetime.UTC)


def _answer(uid: str, pair: Pair, entry: Entry, reading: Reading) -> Answer:
    return Answer(
        uid,
        *pair,
        entry.kind,
        entry.label,
        seconds=entry.seconds,
        visible=entry.visible,
        origin=reading.origin,
    )
