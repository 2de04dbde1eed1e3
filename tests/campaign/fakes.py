"""A campaign without a pool or a model, and a ledger in memory, for tests of what is served."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import threading
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from aift_sklearn.campaign.ledger.counts import Counts
from aift_sklearn.campaign.operations import HELD, Lease, Release, Saw, Undo
from aift_sklearn.campaign.records import Answer, Ask, Kind, Question
from aift_sklearn.campaign.settings import Settings
from aift_sklearn.errors import AIFTError, ConflictError, LabelError

CLASSES = ("lymphocyte", "neutrophil", "monocyte")


def now():
    return datetime.datetime.now(datetime.UTC)


class FakeLedger:
    """Answers, leases and views in lists: what a ledger promises, in the plainest way."""

    def __init__(self, n=20, classes=CLASSES, n_readers=1):
        self.classes = classes
        self._lock = threading.RLock()
        self._asks = {
            name: Ask(name, rank, n_readers=n_readers)
            for rank, name in enumerate(f"cell-{i:03d}" for i in range(n))
        }
        self.rows, self.leases, self.views, self.batches = [], {}, [], []
        self.undone = {}

    # What is read.

    def asks(self):
        return list(self._asks.values())

    def ask_of(self, candidate):
        return self._asks.get(candidate)

    def answers(self):
        return list(self.rows)

    def current(self):
        with self._lock:
            gone = {row.replaces for row in self.rows}
            return [r for r in self.rows if r.uid not in gone and r.kind is not Kind.undo]

    def current_of(self, candidate):
        return [row for row in self.current() if row.candidate == candidate]

    def history(self, annotator, n=50):
        return [row for row in reversed(self.rows) if row.annotator == annotator][:n]

    def seen(self, annotator, candidate):
        return tuple(w for a, c, w in self.views if (a, c) == (annotator, candidate))

    def counts(self):
        current = self.current()
        kinds = Counter(row.kind for row in current)
        labelled = {row.candidate for row in current if row.kind is Kind.label}
        return Counts(
            n_asked=len(self._asks),
            n_open=len(self._asks) - len(labelled),
            n_labelled=len(labelled),
            n_skipped=kinds[Kind.skip],
            n_unsure=kinds[Kind.unsure],
            n_answers=len(current),
            by_annotator=dict(Counter(row.annotator for row in current)),
        )

    # What is written.

    def apply(self, operations):
        with self._lock:
            self.batches.append(len(operations))
            return [self._one(operation) for operation in operations]

    def lease(self, annotator, n=2, seconds=HELD):
        return self.apply([Lease(annotator, n, seconds)])[0]

    def answer(self, answer):
        return self.apply([answer])[0]

    def add_asks(self, names):
        with self._lock:
            for name in names:
                self._asks[name] = Ask(name, len(self._asks))

    def _one(self, operation):
        does = {Answer: self._answer, Undo: self._undo, Lease: self._lease}
        try:
            if isinstance(operation, Saw):
                self.views.append((operation.annotator, operation.candidate, operation.what))
            elif isinstance(operation, Release):
                for key in [k for k in self.leases if k[1] == operation.annotator]:
                    del self.leases[key]
                    self.undone.pop(key, None)
            else:
                return does[type(operation)](operation)
        except AIFTError as error:
            return error

    def _answer(self, answer):
        same = next((row for row in self.rows if row.uid == answer.uid), None)
        if same is not None:
            said = ("candidate", "annotator", "kind", "label")
            if any(getattr(same, name) != getattr(answer, name) for name in said):
                raise ConflictError(f"uid={answer.uid!r} is that of another answer.")
            return same
        if answer.candidate not in self._asks:
            raise LabelError(f"{answer.candidate!r} was not asked for.")
        if answer.kind is Kind.label and answer.label not in self.classes:
            raise LabelError(f"label={answer.label!r}; expected one of {self.classes}.")
        before = [a for a in self.current_of(answer.candidate) if a.annotator == answer.annotator]
        seen = dict.fromkeys((*answer.visible, *self.seen(answer.annotator, answer.candidate)))
        row = dataclasses.replace(
            answer,
            replaces=before[-1].uid if before else "",
            visible=tuple(seen),
            time=now(),
        )
        self.rows.append(row)
        self.leases.pop((answer.candidate, answer.annotator), None)
        self.undone.pop((answer.candidate, answer.annotator), None)
        return row

    def _undo(self, undo):
        same = next((row for row in self.rows if row.uid == undo.uid), None)
        if same is not None and (same.kind, same.annotator) == (Kind.undo, undo.annotator):
            return same
        if same is not None:
            raise ConflictError(f"uid={undo.uid!r} is that of another answer.")
        mine = [row for row in self.current() if row.annotator == undo.annotator]
        if not mine:
            return None
        last = mine[-1]
        row = Answer(
            undo.uid, last.candidate, undo.annotator, Kind.undo, replaces=last.uid, time=now()
        )
        self.rows.append(row)
        expires = now() + datetime.timedelta(seconds=HELD)
        self.leases[last.candidate, undo.annotator] = expires
        self.undone[last.candidate, undo.annotator] = len(self.rows)
        return row

    def _lease(self, lease):
        expires = now() + datetime.timedelta(seconds=lease.seconds)
        current = self.current()
        held = [
            c for (c, a), until in self.leases.items() if a == lease.annotator and until > now()
        ]
        # What was taken back last comes first.
        held.sort(key=lambda c: (-self.undone.get((c, lease.annotator), 0), self._asks[c].rank))
        others = [a for a in self._asks if a not in held and self._is_open(a, lease, current)]
        taken = [*held, *others][: lease.n]
        for candidate in taken:
            self.leases[candidate, lease.annotator] = expires
        return [Question(self._asks[name], lease.annotator, expires) for name in taken]

    def _is_open(self, candidate, lease, current):
        here = [row for row in current if row.candidate == candidate]
        if any(row.annotator == lease.annotator for row in here):
            return False
        n = sum(row.kind is Kind.label for row in here)
        n += sum(
            c == candidate and a != lease.annotator and until > now()
            for (c, a), until in self.leases.items()
        )
        return n < self._asks[candidate].n_readers


@dataclass
class FakeExplanation:
    score: float | None
    pattern: str
    proba: np.ndarray | None
    patches: list = field(default_factory=list)
    reason: str = "It is among the candidates whose patches disagree most."


class FakeCampaign:
    """Pictures that are drawn from a candidate's name."""

    def __init__(self, ledger=None, *, grey=False, around=True, **settings):
        self.ledger = FakeLedger() if ledger is None else ledger
        self.settings = Settings(
            **{"name": "blood cells", "classes": CLASSES, "source": "images"} | settings
        )
        self.name = self.settings.name
        self.grey = grey
        self.around = around
        self.training = {"state": "idle", "text": "The model waits for answers."}
        self.rounds = [
            {
                "round": 0,
                "n_labels": 20,
                "balanced": 0.58,
                "low": 0.44,
                "high": 0.71,
                "n_yardstick": 40,
            },
            {
                "round": 1,
                "n_labels": 40,
                "balanced": 0.72,
                "low": 0.58,
                "high": 0.83,
                "n_yardstick": 40,
            },
            {
                "round": 2,
                "n_labels": 60,
                "balanced": 0.81,
                "low": 0.68,
                "high": 0.9,
                "n_yardstick": 40,
            },
        ]

    def picture(self, candidate):
        left = 60 if self.around else 0
        image = self._image(candidate)
        return png(image[left : left + 64, left : left + 64] if self.around else image[:64, :64])

    def surroundings(self, candidate):
        if not self.around:
            return None
        return png(self._image(candidate)), (60 / 184, 60 / 184, 124 / 184, 124 / 184)

    def explanation(self, candidate):
        rng = self._rng(candidate)
        proba = rng.dirichlet(np.full(len(self.settings.classes), 0.7), 8)
        image = self._image(candidate)
        patches = [png(image[60 + i : 120 + i, 62 - i : 122 - i]) for i in range(8)]
        return FakeExplanation(float(rng.gamma(2, 0.4)), "B", proba, patches)

    def status(self, annotator=None):
        counts = dataclasses.asdict(self.ledger.counts())
        return {
            "counts": counts,
            "per_annotator": counts["by_annotator"],
            "rounds": self.rounds,
            "training": self.training,
            "stopping": [
                {"name": "stable", "met": False, "text": "Predictions still change: 6 % of them."},
                {"name": "accuracy", "met": False, "text": "The interval is wider than 10 points."},
            ],
            "speed": 12.0,
        }

    def _rng(self, candidate):
        return np.random.default_rng(int(hashlib.sha256(candidate.encode()).hexdigest()[:8], 16))

    def _image(self, candidate):
        """A large cell in the middle, others around it: (184, 184, 3), or (184, 184) if grey."""
        rng = self._rng(candidate)
        rows, columns = np.mgrid[:184, :184]
        image = np.full((184, 184, 3), (238.0, 226, 218)) + rng.normal(0, 4, (184, 184, 3))
        for _ in range(14):
            y, x = rng.uniform(0, 184, 2)
            distance = np.hypot(rows - y, columns - x) / rng.uniform(12, 17)
            image[distance < 1] += np.array((-18.0, -70, -72)) * rng.uniform(0.7, 1)
            image[distance < 0.4] += (8, 30, 30)
        distance = np.hypot(rows - 92, columns - 92) / rng.uniform(20, 27)
        image[distance < 1] = (196, 170, 208)
        for _ in range(rng.integers(1, 4)):
            y, x = 92 + rng.uniform(-9, 9, 2)
            image[np.hypot(rows - y, columns - x) < rng.uniform(7, 11)] = (104, 62, 148)
        image += rng.normal(0, 5, image.shape)
        image = image.clip(0, 255).astype(np.uint8)
        return image.mean(axis=2).astype(np.uint8) if self.grey else image


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
