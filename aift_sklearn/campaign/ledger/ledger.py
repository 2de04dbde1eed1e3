"""What a campaign asked and was answered: kept for good, and shared by all who work on it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from ..._checks import check_int
from ..operations import HELD, Lease, Operation, Saw, Undo
from ..records import Answer, Ask, Question, Round
from . import reads
from .addresses import find_address
from .copies import copy_ledger
from .counts import Counts, Tally
from .making import make_ledger, open_ledger
from .plans import add_asks, add_note, add_round, change_settings
from .rows import Note
from .schema import SCHEMA, Schema
from .sql import sa
from .store import Clock, Store
from .writes import Result, apply_operations

__all__ = ["Ledger"]


class Ledger:
    """A record of what was asked and answered, to which rows are only ever added.

    It lies in a SQLite file, or in a database of PostgreSQL, which several computers may write to.
    What a method has returned is on the disk: neither a killed process nor a loss of power takes
    it. All methods may be called from several threads. Processes may share a ledger; each opens it.

    `create` makes one, and `open` goes on with it.

    Examples
    --------
    >>> import tempfile
    >>> from aift_sklearn.campaign.records import Answer, Ask, Round, make_uid
    >>> folder = tempfile.TemporaryDirectory()
    >>> ledger = Ledger.create(folder.name + "/cells.ledger", {"classes": ["cyst", "tumour"]})
    >>> _ = ledger.add_round(Round(0), [Ask("a.png", rank=0), Ask("b.png", rank=1)])
    >>> [question.candidate for question in ledger.lease("Ada")]
    ['a.png', 'b.png']
    >>> _ = ledger.answer(Answer(make_uid(), "a.png", "Ada", label="cyst"))
    >>> ledger.counts()
    Counts(n_asked=2, n_open=1, n_labelled=1, n_skipped=0, n_unsure=0, n_answers=1,
    by_annotator={'Ada': 1}, by_label={'cyst': 1})
    >>> ledger.close()
    >>> folder.cleanup()
    """

    def __init__(self, store: Store, schema: Schema = SCHEMA) -> None:
        self._store, self._schema = store, schema
        self._tally = Tally(store)

    @classmethod
    def create(
        cls,
        where: str | os.PathLike[str] | sa.URL,
        settings: Mapping[str, Any],
        *,
        clock: Clock | None = None,
        patience: float = 30.0,
        schema: Schema = SCHEMA,
    ) -> Self:
        """Make a ledger.

        Parameters
        ----------
        where : path-like, str or sqlalchemy.URL
            Path of a new file, or a URL such as "postgresql+psycopg://ada@localhost/cells". A
            database of PostgreSQL holds one ledger in each of its schemas.
        settings : mapping
            JSON values, with "classes", a list of names.
        clock : callable, optional
            Tells the time; if not given, this computer does, or the server of PostgreSQL.
        patience : float, default=30
            Seconds to wait for others who write, before a LedgerError.
        schema : Schema, optional
            Its tables.

        Raises
        ------
        LedgerError
            If there is something already, which is left as it is, or the database refuses.
        DataError
            If the settings are no JSON, or without classes.
        """
        address = find_address(where)
        store = make_ledger(address, settings, schema, clock=clock, patience=patience)
        return cls(store, schema)

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str] | sa.URL,
        *,
        clock: Clock | None = None,
        patience: float = 30.0,
        schema: Schema = SCHEMA,
    ) -> Self:
        """Go on with a ledger, whoever made it: nothing of a stranger's file is run.

        One of an older release is led to this one's version. The file before is kept beside it, as
        NAME.version-N; in PostgreSQL the tables are, as TABLE_version_N.

        Parameters
        ----------
        where, clock, patience, schema
            As of `create`.

        Raises
        ------
        LedgerError
            If there is none, or it is damaged, of a newer release, or not as this package makes
            ledgers.
        """
        address = find_address(where)
        return cls(open_ledger(address, schema, clock=clock, patience=patience), schema)

    def close(self) -> None:
        """Close it; what it holds is on the disk before that."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({self._store.address.shown!r})"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that hold now."""
        with self._store.reading() as connection:
            return reads.read_settings(connection)

    def change_settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings; those before stay in the ledger.

        Parameters
        ----------
        values : mapping
            New values by name; the others stay as they are.

        Returns
        -------
        dict
            All of them.

        Raises
        ------
        DataError
            If they are no JSON, or a class is left out that was answered.
        """
        return change_settings(self._store, values)

    def add_round(self, round: Round, asks: Sequence[Ask]) -> Round:
        """Add a round and what it asks, in one step.

        Parameters
        ----------
        round : Round
            Its number is that of the last one plus 1; the first is 0.
        asks : sequence of Ask
            Candidates; their ``round`` becomes this one.

        Returns
        -------
        Round
            As it is stored, with its time.

        Raises
        ------
        DataError
            If the number is another, or a candidate was asked for before.
        """
        return add_round(self._store, round, asks)

    def add_asks(self, asks: Sequence[Ask]) -> list[Ask]:
        """Ask for more in the present round; see `add_round`."""
        return add_asks(self._store, asks)

    def rounds(self) -> list[Round]:
        """Rounds, in order."""
        with self._store.reading() as connection:
            return reads.read_rounds(connection)

    def asks(self) -> list[Ask]:
        """Asks, by round and rank."""
        with self._store.reading() as connection:
            return reads.read_asks(connection)

    def ask_of(self, candidate: str) -> Ask | None:
        """Ask of a candidate; None if it was not asked for."""
        with self._store.reading() as connection:
            return reads.read_asks_of(connection, [candidate])[candidate]

    def answers(self) -> list[Answer]:
        """All answers as they came: also those that were replaced or taken back, and the undos."""
        with self._store.reading() as connection:
            return reads.read_answers(connection)

    def current(self) -> list[Answer]:
        """Answers that count, in order: neither replaced nor taken back."""
        with self._store.reading() as connection:
            return reads.read_current(connection)

    def current_of(self, candidate: str) -> list[Answer]:
        """Answers of a candidate that count: at most one of each annotator."""
        with self._store.reading() as connection:
            return reads.read_current_of(connection, [candidate])[candidate]

    def history(self, annotator: str, n: int = 50) -> list[Answer]:
        """The last ``n`` answers of an annotator, the newest first; undos are among them."""
        check_int("n", n, minimum=1)
        with self._store.reading() as connection:
            return reads.read_history(connection, annotator, n)

    def seen(self, annotator: str, candidate: str) -> tuple[str, ...]:
        """What an annotator was shown of what the model thinks of a candidate."""
        with self._store.reading() as connection:
            return tuple(reads.read_seen(connection, [candidate])[candidate].get(annotator, ()))

    def counts(self) -> Counts:
        """How far the campaign is."""
        return self._tally.counts()

    def apply(self, operations: Sequence[Operation]) -> list[Result | Exception]:
        """Do what many annotators ask for with one commit: the disk is waited for once.

        Parameters
        ----------
        operations : sequence of Answer, Lease, Undo, Release or Saw
            They are done in turn.

        Returns
        -------
        list
            For each what `answer`, `lease`, `undo` ... return, or the exception if it was refused;
            that spoils none of the others.

        Raises
        ------
        LedgerError
            If the database refuses. Nothing is kept then; send all of them again.
        """
        return apply_operations(self._store, operations)

    def lease(self, annotator: str, n: int = 2, seconds: float = HELD) -> list[Question]:
        """Hand questions to an annotator: those that they hold, for longer, and then new ones.

        A question is open for an annotator who has not answered it, while it has fewer labels, and
        annotators who hold it, than it needs. Skips and "unsure" are no labels. It needs
        ``n_readers`` labels, and one more if all those annotators have labelled it, no class has
        more than half of the labels, and the settings do not say ``"adjudicate": false``.

        Parameters
        ----------
        annotator : str
            To whom.
        n : int, default=2
            Most of them.
        seconds : float, default=600
            Until they go to others, unless they are answered or asked for again.

        Returns
        -------
        list of Question
            What was taken back first, then those of the newest round, by rank. Fewer than ``n``, or
            none, if no more are open.
        """
        return cast(list[Question], self._do(Lease(annotator, n, seconds)))

    def answer(self, answer: Answer) -> Answer:
        """Store an answer. Nobody needs to hold the question.

        An annotator's second answer of a candidate replaces the first. The same answer, sent again,
        is stored once.

        Parameters
        ----------
        answer : Answer
            Its ``replaces`` and ``time`` are filled in, and what `saw` knows is added to
            ``visible``.

        Returns
        -------
        Answer
            As it is stored.

        Raises
        ------
        LabelError
            If the class is unknown, or the candidate was not asked for.
        ConflictError
            If another answer has this uid.
        """
        return cast(Answer, self._do(answer))

    def undo(self, uid: str, annotator: str) -> Answer | None:
        """Take back an annotator's latest answer that counts, and ask its question again.

        What that answer had replaced does not count again.

        Parameters
        ----------
        uid : str
            Of the undo: the same one, sent again, takes back nothing more.
        annotator : str
            Whose.

        Returns
        -------
        Answer or None
            The undo as it is stored: of its ``candidate``, and of the answer in ``replaces``. None
            if there is nothing to take back.

        Raises
        ------
        ConflictError
            If an answer, or an undo of somebody else, has this uid.
        """
        return cast(Answer | None, self._do(Undo(uid, annotator)))

    def saw(self, annotator: str, candidate: str, what: str) -> None:
        """Note that an annotator was shown something of what the model thinks; once is enough."""
        self._do(Saw(annotator, candidate, what))

    def _do(self, operation: Operation) -> Result:
        (result,) = self.apply([operation])
        if isinstance(result, Exception):
            raise result
        return result

    def note(self, kind: str, text: str, **values: Any) -> Note:
        """Note that something happened.

        Parameters
        ----------
        kind : str
            What sort of thing: "learnt", "stopped" ...
        text : str
            For people.
        **values
            For programs: JSON values.
        """
        return add_note(self._store, kind, text, values)

    def notes(self, kind: str | None = None) -> list[Note]:
        """Notes in order; of one kind, or all."""
        with self._store.reading() as connection:
            return reads.read_notes(connection, kind)

    def backup(self, path: str | os.PathLike[str]) -> Path:
        """Copy the ledger, as it is at one moment, into a new SQLite file, which is a ledger too.

        Others may write meanwhile.

        Parameters
        ----------
        path : path-like
            The file; it must not exist.

        Returns
        -------
        Path
            The file.
        """
        return copy_ledger(self._store, path, self._schema)
