"""Ledgers for tests: where they lie, a clock, and the rules once more, slow and to the letter."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections import Counter

from aift_sklearn.campaign.ledger import Counts, Lease, Ledger, Release, Saw, Undo
from aift_sklearn.campaign.records import Answer, Ask, Kind, Question, Round
from aift_sklearn.errors import ConflictError, LabelError

SETTINGS = {"name": "cells", "classes": ["cyst", "tumour"]}


class Clock:
    """Stands still until it is set."""

    def __init__(self):
        self.now = datetime.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=datetime.UTC)

    def __call__(self):
        return self.now

    def after(self, seconds):
        self.now += datetime.timedelta(seconds=seconds)


class _Places:
    def create(self, settings=SETTINGS, **options):
        """A new ledger; its clock is `ledger.clock`."""
        clock, where = Clock(), self.fresh()
        ledger = Ledger.create(where, settings, clock=clock, **options)
        ledger.clock, ledger.where = clock, where
        return ledger


class Files(_Places):
    """Ledgers in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def fresh(self):
        return self.folder / f"{uuid.uuid4().hex}.ledger"


class Schemas(_Places):
    """Ledgers in schemas of a database, of which each is as good as a database."""

    def __init__(self, server):
        self.server = server

    def fresh(self):
        name = f"s{uuid.uuid4().hex}"
        with self.server.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.server.url()}&options=-csearch_path%3D{name}"


def asks_of(*names, **options):
    """Asks for candidates, in this order."""
    return [Ask(name, rank, **options) for rank, name in enumerate(names)]


def named(questions):
    """Candidates of questions."""
    return [question.candidate for question in questions]


class Model:
    """What a ledger does, by its rules, without an index or a database."""

    def __init__(self, clock):
        self.clock = clock
        self.rounds, self.asks, self.rows, self.views = [], {}, [], []
        # Candidate and annotator -> when it expires, and how late it was taken back.
        self.leases = {}
        self.adjudicate = True

    def add_round(self, asks):
        number = len(self.rounds)
        self.rounds.append(Round(number, time=self.clock()))
        self.add_asks(asks)

    def add_asks(self, asks):
        number = self.rounds[-1].number
        self.asks |= {ask.candidate: dataclasses.replace(ask, round=number) for ask in asks}

    def current(self):
        gone = {row.replaces for row in self.rows}
        return [row for row in self.rows if row.kind is not Kind.undo and row.uid not in gone]

    def labels(self, candidate):
        found = [row for row in self.current() if row.candidate == candidate]
        return [row for row in found if row.kind is Kind.label]

    def wanted(self, candidate):
        n = self.asks[candidate].n_readers
        labels = [row.label for row in self.labels(candidate)]
        all_read = len(labels) >= n
        agreed = any(labels.count(label) > len(labels) / 2 for label in labels)
        return n + 1 if self.adjudicate and n >= 2 and all_read and not agreed else n

    def holds(self, candidate, annotator):
        lease = self.leases.get((candidate, annotator))
        return lease is not None and lease[0] > self.clock()

    def holders(self, candidate):
        return {who for (what, who) in self.leases if what == candidate and self.holds(what, who)}

    def is_open(self, candidate, annotator):
        if any(r.candidate == candidate and r.annotator == annotator for r in self.current()):
            return False
        labelled = {row.annotator for row in self.labels(candidate)} - {annotator}
        others = self.holders(candidate) - {annotator}
        return len(labelled) + len(others) < self.wanted(candidate)

    def in_order(self):
        return sorted(self.asks.values(), key=lambda ask: (-ask.round, ask.rank, ask.candidate))

    def lease(self, asked):
        expires = self.clock() + datetime.timedelta(seconds=asked.seconds)
        who = asked.annotator
        held = [ask for ask in self.in_order() if self.holds(ask.candidate, who)]
        held.sort(key=lambda ask: -self.leases[ask.candidate, who][1])
        held = held[: asked.n]
        others = [ask for ask in self.in_order() if not self.holds(ask.candidate, who)]
        new = [ask for ask in others if self.is_open(ask.candidate, who)][: asked.n - len(held)]
        for ask in new:
            self.leases[ask.candidate, who] = (expires, 0)
        for ask in held:
            self.leases[ask.candidate, who] = (expires, self.leases[ask.candidate, who][1])
        return [Question(ask, who, expires) for ask in (*held, *new)]

    def seen(self, annotator, candidate):
        of = [what for who, where, what in self.views if (who, where) == (annotator, candidate)]
        return tuple(dict.fromkeys(of))

    def answer(self, sent):
        same = [row for row in self.rows if row.uid == sent.uid]
        if same:
            if sent != same[0].sent:
                raise ConflictError
            return same[0].plain()
        if sent.candidate not in self.asks:
            raise LabelError
        key = (sent.candidate, sent.annotator)
        before = [r.uid for r in self.current() if (r.candidate, r.annotator) == key]
        visible = tuple(dict.fromkeys(sent.visible + self.seen(sent.annotator, sent.candidate)))
        plain = {each.name: getattr(sent, each.name) for each in dataclasses.fields(Answer)}
        plain |= {"visible": visible, "time": self.clock(), "replaces": "".join(before)}
        self.rows.append(Row(**plain, sent=sent))
        self.leases.pop(key, None)
        return self.rows[-1].plain()

    def undo(self, asked):
        same = [row for row in self.rows if row.uid == asked.uid]
        if same:
            if same[0].kind is not Kind.undo or same[0].annotator != asked.annotator:
                raise ConflictError
            return same[0].plain()
        own = [row for row in self.current() if row.annotator == asked.annotator]
        if not own:
            return None
        last = own[-1]
        row = Row(
            asked.uid,
            last.candidate,
            asked.annotator,
            Kind.undo,
            replaces=last.uid,
            origin=last.origin,
            time=self.clock(),
        )
        self.rows.append(row)
        expires = self.clock() + datetime.timedelta(seconds=600)
        self.leases[last.candidate, asked.annotator] = (expires, len(self.rows))
        return row.plain()

    def do(self, operation):
        match operation:
            case Lease():
                return self.lease(operation)
            case Undo():
                return self.undo(operation)
            case Answer():
                return self.answer(operation)
            case Release():
                for key in [key for key in self.leases if key[1] == operation.annotator]:
                    del self.leases[key]
            case Saw():
                if operation.candidate not in self.asks:
                    raise LabelError
                self.views.append((operation.annotator, operation.candidate, operation.what))
        return None

    def counts(self):
        current = self.current()
        kinds = Counter(row.kind for row in current)
        is_open = [c for c in self.asks if len(self.labels(c)) < self.wanted(c)]
        return Counts(
            n_asked=len(self.asks),
            n_open=len(is_open),
            n_labelled=sum(bool(self.labels(candidate)) for candidate in self.asks),
            n_skipped=kinds[Kind.skip],
            n_unsure=kinds[Kind.unsure],
            n_answers=len(current),
            by_annotator=Counter(row.annotator for row in current),
            by_label=Counter(row.label for row in current if row.kind is Kind.label),
        )


@dataclasses.dataclass(frozen=True)
class Row(Answer):
    """An answer, and what was sent."""

    sent: Answer | None = None

    def plain(self):
        """As the ledger returns it."""
        return Answer(*(getattr(self, each.name) for each in dataclasses.fields(Answer)))
