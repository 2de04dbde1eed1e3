"""What annotators are handed, on a ledger in memory and on a real one: the same."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from campaign.fakes import CLASSES, FakeCampaign, FakeLedger
from hypothesis import given, settings
from hypothesis import strategies as st

from aift_sklearn.campaign.api_models import AnswerSent, NameSent, QuestionsSent, UndoSent
from aift_sklearn.campaign.desk import Desk, run_at_once
from aift_sklearn.campaign.ledger import Ledger
from aift_sklearn.campaign.picture_cache import PictureCache
from aift_sklearn.campaign.records import Ask, Round
from aift_sklearn.errors import AIFTError

CANDIDATES = [f"cell-{i:03d}" for i in range(5)]
NAMES = ["Ada", "Grace", "Lise"]
names, candidates = st.sampled_from(NAMES), st.sampled_from(CANDIDATES)
# Few uids, so that some are used twice.
uids = st.integers(0, 12).map(lambda number: f"{number:032d}")
kinds = st.sampled_from(["label", "skip", "unsure"])
steps = st.one_of(
    st.tuples(st.just("questions"), names, st.integers(1, 4)),
    st.tuples(st.just("answer"), names, candidates, uids, kinds, st.sampled_from(CLASSES)),
    st.tuples(st.just("undo"), names, uids),
    st.tuples(st.just("release"), names),
    st.tuples(st.just("history"), names),
    st.tuples(st.just("why"), names, candidates),
)


def make_desk(ledger):
    async def write(*operations):
        return ledger.apply(operations)

    async def work(function, *arguments):
        return function(*arguments)

    return Desk(FakeCampaign(ledger), write, work)


def do(desk, step):
    """Reply to a step, or what it is refused for, without what differs between ledgers."""
    what, name, *rest = step
    try:
        if what == "questions":
            reply = desk.questions(QuestionsSent(annotator=name, n=rest[0]))
        elif what == "answer":
            candidate, uid, kind, label = rest
            label = label if kind == "label" else ""
            values = {"candidate": candidate, "uid": uid, "kind": kind, "label": label}
            reply = desk.answer(AnswerSent(annotator=name, **values))
        elif what == "undo":
            reply = desk.undo(UndoSent(annotator=name, uid=rest[0]))
        elif what == "release":
            reply = desk.release(NameSent(annotator=name))
        elif what == "history":
            reply = desk.history(name)
        else:
            reply = desk.why(rest[0], name)
        return plain(run_at_once(reply))
    except AIFTError as error:
        return type(error).__name__


def plain(value):
    # How far the campaign is may be as of a moment ago, and times pass.
    left_out = ("time", "seconds", "progress", "message")
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in left_out}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@settings(max_examples=40)
@given(st.lists(steps, max_size=25))
def test_whatever_annotators_do_both_ledgers_say_the_same(todo):
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "cells.ledger"
        with Ledger.create(where, {"classes": list(CLASSES)}) as ledger:
            ledger.add_round(Round(0), [Ask(name, i) for i, name in enumerate(CANDIDATES)])
            real, fake = make_desk(ledger), make_desk(FakeLedger(len(CANDIDATES)))
            for step in todo:
                assert do(real, step) == do(fake, step), step


def test_what_has_to_wait_is_not_run_at_once():
    async def wait():
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits for something"):
        run_at_once(wait())


def test_errors_pass_through_what_is_run_at_once():
    async def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_at_once(fail())


@given(
    st.lists(st.tuples(st.integers(0, 6), st.one_of(st.none(), st.integers(0, 9)))),
    st.integers(0, 20),
    st.integers(1, 5),
)
def test_what_was_used_last_is_kept(calls, n_bytes, n_values):
    """Against a list of keys, the last used at its end."""
    cache = PictureCache(len, n_bytes=n_bytes, n_values=n_values)
    kept = []
    for key, size in calls:
        if size is None:
            expected = dict(kept).get(key)
            assert cache.get(key) == expected
            assert (key in cache) == (expected is not None)
            if expected is not None:
                kept = [pair for pair in kept if pair[0] != key] + [(key, expected)]
        else:
            cache.put(key, b"x" * size)
            kept = [pair for pair in kept if pair[0] != key] + [(key, b"x" * size)]
            while sum(len(value) for _, value in kept) > n_bytes or len(kept) > n_values:
                kept.pop(0)
