"""Names that tables and other tools get wrong, a ledger in memory, and a Label Studio in memory."""

import dataclasses
import datetime
import json
from xml.etree import ElementTree

from hypothesis import strategies as st

from aift_sklearn.campaign.records import Answer, Ask, Kind

NASTY = [
    "=1+1",
    "-a",
    "'=x",
    "./-b",
    "././=c",
    "a,b;c\td|e",
    'say "x"',
    "図µ ß.png",
    " edges ",
    "$image",
]
NASTY += ["a\nb", "0012", "1e5", "<&'\"> µ", "'", "-", "naïve", "＝SUM(A1)", "C:\\x", "100%.png#1"]


def one_line(names):
    """Names that classes and annotators may have."""
    printable = st.text(
        st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12
    )
    nasty = st.sampled_from([name for name in names if name.isprintable()])
    plain = st.one_of(nasty, printable).map(str.strip)
    return plain.filter(lambda name: name and name.isprintable())


CLASSES = st.lists(one_line(NASTY), min_size=2, max_size=5, unique=True)
ANNOTATORS = one_line([*NASTY, "anna@example.org"])
# Ids are of any letters; those that are blank are none.
IDS = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
).filter(lambda name: name.strip() != "")
SECONDS = st.none() | st.floats(0, 1e6)
TIMES = st.datetimes(
    datetime.datetime(2001, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC)
)
WORDS = st.lists(st.sampled_from(["score", "pattern", "probabilities"]), unique=True).map(tuple)


@st.composite
def campaigns(draw, kinds=(Kind.label, Kind.skip, Kind.unsure)):
    """Classes, asks and current answers."""
    classes = tuple(draw(CLASSES))
    names = draw(st.lists(IDS, min_size=1, max_size=6, unique_by=str.strip))
    asks = [
        Ask(
            name,
            rank,
            score=draw(st.none() | st.floats(-5, 5)),
            pattern=draw(st.sampled_from(["", "A", "=B"])),
            round=draw(st.integers(0, 2)),
        )
        for rank, name in enumerate(names)
    ]
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), ANNOTATORS), max_size=8, unique=True))
    answers = []
    for k, (name, who) in enumerate(pairs):
        kind = draw(st.sampled_from(kinds))
        answers.append(
            Answer(
                f"{draw(st.sampled_from(['=', '', '-']))}uid{k}",
                name,
                who,
                kind,
                draw(st.sampled_from(classes)) if kind is Kind.label else "",
                draw(SECONDS),
                draw(WORDS),
                origin="page",
                time=draw(st.none() | TIMES),
            )
        )
    return classes, asks, answers


def said(answers):
    """What two ledgers hold in common, whatever each calls it."""
    return {(a.candidate, a.annotator): (a.kind, a.label, a.seconds) for a in answers}


class FakeLedger:
    """What a ledger does with answers: rows are added, and none is changed."""

    def __init__(self, rows=(), now=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)):
        self.rows, self.now = list(rows), now

    def current(self):
        gone = {row.replaces for row in self.rows}
        return [r for r in self.rows if r.kind is not Kind.undo and r.uid not in gone]

    def answer(self, answer):
        known = {row.uid: row for row in self.rows}.get(answer.uid)
        if known is not None:
            same = (known.candidate, known.annotator, known.kind, known.label)
            assert same == (answer.candidate, answer.annotator, answer.kind, answer.label)
            return known
        self.now += datetime.timedelta(seconds=1)
        old = [r.uid for r in self.current() if r.candidate == answer.candidate]
        old = [u for u in old if self._by(u).annotator == answer.annotator]
        kept = dataclasses.replace(answer, replaces=old[0] if old else "", time=self.now)
        self.rows.append(kept)
        return kept

    def undo(self, answer):
        self.answer(dataclasses.replace(answer, uid=answer.uid + "undo", kind=Kind.undo, label=""))

    def _by(self, uid):
        return next(row for row in self.rows if row.uid == uid)


class FakeLabelStudio:
    """A project: takes tasks and a page, annotates, and exports, as Label Studio 1.23 does."""

    def __init__(self, tasks, config):
        self.tasks = json.loads(json.dumps(tasks))
        root = ElementTree.fromstring(config)
        self.control = root.find("Choices").get("name")
        # What is stored of a choice is its alias, where it has one.
        self.choices = [c.get("alias") or c.get("value") for c in root.iter("Choice")]
        self.annotations = []

    def annotate(self, task, user, choice, seconds=None, at="2026-03-09T22:16:08.728378Z"):
        """Submit a choice, by its place, or skip a task."""
        value = None if choice is None else self.choices[choice]
        self.annotations.append([task, user, value, seconds, at])
        return len(self.annotations) - 1

    def change(self, annotation, choice, at):
        """Change what was submitted."""
        self.annotations[annotation][2] = None if choice is None else self.choices[choice]
        self.annotations[annotation][4] = at

    def export(self, minimal=False):
        tasks = []
        for k, task in enumerate(self.tasks):
            own = [(n, a) for n, a in enumerate(self.annotations, 1) if a[0] == k]
            full = [self._annotation(n, task, *a[1:]) for n, a in own]
            if minimal:
                tasks += [self._record(k + 1, task, one) for one in full]
            elif full:
                predictions = list(range(len(task.get("predictions", []))))
                tasks.append(
                    {"id": k + 1, "annotations": full, "drafts": [], "predictions": predictions}
                    | {"data": task["data"], "meta": {}, "project": 1, "inner_id": k + 1}
                )
        return [task for task in tasks if task is not None]

    def _annotation(self, number, task, user, value, seconds, at):
        result = {"from_name": self.control, "to_name": "image", "type": "choices", "id": "x1y2"}
        result["value"] = {"choices": [value]}
        return {
            "id": number,
            "completed_by": user,
            "result": [] if value is None else [result],
            "was_cancelled": value is None,
            "ground_truth": False,
            "created_at": "2026-03-01T00:00:00.000000Z",
            "updated_at": at,
            "lead_time": seconds,
            "prediction": (task.get("predictions") or [{}])[0],
        }

    def _record(self, number, task, one):
        if one["was_cancelled"]:
            return None
        record = {**task["data"], "id": number}
        record[self.control] = one["result"][0]["value"]["choices"][0]
        user = one["completed_by"]
        record["annotator"] = user["email"] if isinstance(user, dict) else user
        times = {name: one[name] for name in ("created_at", "updated_at", "lead_time")}
        return record | {"annotation_id": one["id"]} | times
