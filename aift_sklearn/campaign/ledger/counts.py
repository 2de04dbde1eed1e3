"""How far a campaign is: sums that are carried on, and not counted anew."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from ..records import Kind
from .sql import sa
from .store import Store
from .tables import answers, asks, queue

__all__ = ["Counts", "Tally"]


@dataclass(frozen=True)
class Counts:
    """How far a campaign is.

    Attributes
    ----------
    n_asked : int
        Candidates that were asked for.
    n_open : int
        Those that need more labels.
    n_labelled : int
        Those with at least one label.
    n_skipped, n_unsure : int
        Answers of that kind.
    n_answers : int
        Answers of any kind. Those that are replaced or taken back count nowhere here.
    by_annotator : dict of str to int
        Answers of each annotator.
    by_label : dict of str to int
        Labels of each class that has any.
    """

    n_asked: int = 0
    n_open: int = 0
    n_labelled: int = 0
    n_skipped: int = 0
    n_unsure: int = 0
    n_answers: int = 0
    by_annotator: dict[str, int] = field(default_factory=dict)
    by_label: dict[str, int] = field(default_factory=dict)


_NEW = (
    sa.select(
        answers.c.seq,
        answers.c.candidate,
        answers.c.annotator,
        answers.c.kind,
        answers.c.label,
        answers.c.replaces,
    )
    .where(answers.c.seq > sa.bindparam("last"))
    .order_by(answers.c.seq)
)
_N_ASKED = sa.select(sa.func.count()).select_from(asks)
_N_OPEN = sa.select(sa.func.count()).select_from(queue)


class Tally:
    """Adds up answers as they come; those that were counted are not read again.

    Parameters
    ----------
    store : Store
        Where they lie. Rows of answers never change, and come in order.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._last = 0
        # Kind and label of what each annotator says of each candidate.
        self._current: dict[tuple[str, str], tuple[str, str]] = {}
        self._kinds: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._annotators: Counter[str] = Counter()
        self._labelled: Counter[str] = Counter()

    def counts(self) -> Counts:
        """Read what is new, and return the sums."""
        with self._lock, self._store.reading() as connection:
            rows = connection.execute(_NEW, {"last": self._last}).all()
            n_asked = connection.execute(_N_ASKED).scalar_one()
            n_open = connection.execute(_N_OPEN).scalar_one()
            for seq, candidate, annotator, kind, label, replaces in rows:
                if replaces is not None:
                    self._count(
                        candidate, annotator, *self._current.pop((candidate, annotator)), -1
                    )
                if kind != Kind.undo.value:
                    self._current[candidate, annotator] = kind, label
                    self._count(candidate, annotator, kind, label, 1)
                self._last = seq
            return Counts(
                n_asked=n_asked,
                n_open=n_open,
                n_labelled=len(self._labelled),
                n_skipped=self._kinds[Kind.skip.value],
                n_unsure=self._kinds[Kind.unsure.value],
                n_answers=len(self._current),
                by_annotator=dict(sorted(self._annotators.items())),
                by_label=dict(sorted(self._labels.items())),
            )

    def _count(self, candidate: str, annotator: str, kind: str, label: str, by: int) -> None:
        _add(self._kinds, kind, by)
        _add(self._annotators, annotator, by)
        if kind == Kind.label.value:
            _add(self._labels, label, by)
            _add(self._labelled, candidate, by)


def _add(counter: Counter[str], name: str, by: int) -> None:
    counter[name] += by
    if not counter[name]:
        del counter[name]
