"""A process that answers at full speed, and tells in a shared byte what it is doing."""

from __future__ import annotations

import json
import mmap
import os
import time
from pathlib import Path

import sqlalchemy as sa

from aift_sklearn.campaign.ledger import Lease, Ledger
from aift_sklearn.campaign.records import Answer, make_uid

PHASES = (
    "starting, opening the ledger",
    "before the transaction",
    "in the transaction, before the answer is written",
    "in the transaction, after the answer is written",
    "committing",
    "committed, not acknowledged yet",
    "acknowledging",
)
OPENING, BEFORE, WITHIN, WRITTEN, COMMITTING, COMMITTED, ACKNOWLEDGING = range(len(PHASES))

CLASSES = ("cyst", "tumour")


class Trail:
    """What a process that may be killed at any moment leaves: what it sent, and what was stored.

    Parameters
    ----------
    folder : Path
        Of files that outlive the process.
    annotator : str
        Who answers.
    """

    def __init__(self, folder, annotator):
        self.annotator = annotator
        self.sent_path, self.stored_path = (
            Path(folder) / f"{annotator}.{what}" for what in ("sent", "stored")
        )
        self.phase_path = Path(folder) / f"{annotator}.phase"
        if not self.phase_path.exists():
            self.phase_path.write_bytes(bytes(mmap.PAGESIZE))

    def phase(self):
        """The byte, shared with other processes."""
        with self.phase_path.open("r+b") as file:
            return mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def sent(self):
        """Answers that were sent, in order."""
        lines = self.sent_path.read_text().splitlines() if self.sent_path.exists() else []
        return [Answer(**json.loads(line)) for line in lines]

    def n_stored(self):
        """How many answers were acknowledged."""
        # 32 letters of an id, and the end of its line.
        return self.stored_path.stat().st_size // 33 if self.stored_path.exists() else 0

    def stored(self):
        """Ids of answers that were acknowledged, in order."""
        return self.stored_path.read_text().split() if self.stored_path.exists() else []


def _append(descriptor, line):
    # In one call: a line is there or not.
    os.write(descriptor, f"{line}\n".encode())


def _tell_phases(engine, phase):
    """Let SQLAlchemy say how far a transaction is."""

    def executed(connection, cursor, statement, *rest):
        # The first one waits until nobody else writes.
        phase[0] = WRITTEN if statement.startswith("INSERT INTO answers") else max(phase[0], WITHIN)

    def committing(connection):
        phase[0] = COMMITTING

    sa.event.listen(engine, "after_cursor_execute", executed)
    sa.event.listen(engine, "commit", committing)


def answer_at_full_speed(where, folder, annotator):
    """Send again what was not acknowledged, then answer whatever is open, until killed."""
    trail = Trail(folder, annotator)
    phase = trail.phase()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    sent, stored = (os.open(path, flags) for path in (trail.sent_path, trail.stored_path))
    with Ledger.open(where) as ledger:
        _tell_phases(ledger._store.engine, phase)
        done = set(trail.stored())
        waiting = [answer for answer in trail.sent() if answer.uid not in done]
        phase[0] = BEFORE
        questions = ledger.lease(annotator)
        while waiting or questions:
            if not waiting:
                question = questions.pop(0)
                label = CLASSES[len(question.candidate) % 2]
                waiting = [Answer(make_uid(), question.candidate, annotator, label=label)]
                told = {name: getattr(waiting[0], name) for name in ("uid", "candidate")}
                _append(sent, json.dumps(told | {"annotator": annotator, "label": label}))
            answer = waiting.pop(0)
            phase[0] = BEFORE
            result, handed_out = ledger.apply([answer, Lease(annotator)])
            phase[0] = COMMITTED
            # On a network, what is stored is not known at once.
            time.sleep(0.001)
            assert result.uid == answer.uid, result
            questions = handed_out
            phase[0] = ACKNOWLEDGING
            _append(stored, answer.uid)
            phase[0] = BEFORE
