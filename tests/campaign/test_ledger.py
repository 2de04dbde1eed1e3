"""What a ledger keeps, and what it refuses."""

import dataclasses
import datetime
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import asks_of, named

from aift_sklearn.campaign.ledger import Lease, Ledger, Note, Release, Saw, Undo
from aift_sklearn.campaign.ledger.queue import n_wanted
from aift_sklearn.campaign.ledger.tables import queue
from aift_sklearn.campaign.records import Answer, Ask, Kind, Purpose, Round, make_uid
from aift_sklearn.errors import (
    ConflictError,
    DataError,
    DataTypeError,
    LabelError,
    LedgerError,
    ParameterError,
)


def labelled(candidate, annotator="Ada", label="cyst", **options):
    return Answer(make_uid(), candidate, annotator, label=label, **options)


def test_rounds_and_asks_are_read_as_they_were_added(ledger):
    parameters = {"b": 2, "score": "aift", "weights": [0.5, None], "µ": {"on": True}}
    first = ledger.add_round(Round(0, "abc", parameters, seed=7, n_labels=3), asks_of("b", "a"))
    assert first.time == ledger.clock()
    assert first.time.tzinfo is datetime.UTC
    ask = Ask("c", -1, Purpose.typical, 0.1 + 0.2, "B", (0.25, 0.75), n_readers=2, round=99)
    second = ledger.add_round(Round(1), [ask])
    assert ledger.rounds() == [first, second]
    assert ledger.rounds()[0].parameters == parameters
    assert ledger.asks() == [*asks_of("b", "a"), dataclasses.replace(ask, round=1)]
    (more,) = ledger.add_asks([Ask("d", 5, "yardstick")])
    assert more == Ask("d", 5, Purpose.yardstick, round=1) == ledger.ask_of("d")
    assert ledger.ask_of("e") is None


def test_numbers_and_texts_of_numpy_become_plain(ledger):
    ask = Ask(
        np.str_("a"),
        np.int64(3),
        score=np.float32(0.5),
        proba=np.array([0.25, 0.75]),
        n_readers=np.int8(2),
    )
    what = Round(np.int64(0), parameters={"b": np.int64(3)}, seed=np.int64(5), n_labels=np.int64(0))
    ledger.add_round(what, [ask])
    ledger.answer(
        Answer(make_uid(), np.str_("a"), "Ada", label=np.str_("cyst"), seconds=np.float32(2))
    )
    (stored,) = ledger.current()
    assert type(stored.seconds) is float
    assert type(stored.label) is str
    assert ledger.asks() == [Ask("a", 3, score=0.5, proba=(0.25, 0.75), n_readers=2)]
    assert ledger.rounds()[0].parameters == {"b": 3}


@pytest.mark.parametrize(
    ("asks", "message"),
    [
        (asks_of("a", "new"), "candidate 'a' was asked for before"),
        (asks_of("new", "new"), "'new' is among the asks twice"),
        ([Ask("new", 0, score=math.nan)], "score=nan; expected a number"),
        ([Ask("new", 0, proba=(0.5, math.inf))], "proba=inf; expected a number"),
        ([Ask("new", 0, n_readers=0)], "n_readers=0; expected a whole number from 1 on"),
        ([Ask("new", 0, "best")], "purpose='best'; expected one of model, typical, yardstick"),
        ([Ask("new", 2**63)], "expected a number below"),
        ([Ask("", 0)], "expected a name"),
        ([Ask("n" * 501, 0)], "expected text of at most 500 characters"),
        ([Ask("a\0b", 0)], "expected text without NUL"),
        ([Ask("\udc80", 0)], "expected text without NUL and half characters"),
        (["new"], "of type str; expected an Ask"),
    ],
)
def test_asks_that_cannot_be_are_refused_and_nothing_is_kept(ledger, asks, message):
    ledger.add_round(Round(0), asks_of("a"))
    for add in (ledger.add_asks, lambda asks: ledger.add_round(Round(1), asks)):
        with pytest.raises(DataError, match=message):
            add(asks)
    assert named(ledger.asks()) == ["a"]
    assert len(ledger.rounds()) == 1


def test_rounds_come_in_turn(ledger):
    with pytest.raises(DataError, match="no round yet"):
        ledger.add_asks(asks_of("a"))
    with pytest.raises(DataError, match="number 1; expected 0"):
        ledger.add_round(Round(1), asks_of("a"))
    ledger.add_round(Round(0), [])
    for number in (0, 2):
        with pytest.raises(DataError, match=f"number {number}; expected 1"):
            ledger.add_round(Round(number), asks_of("a"))
    with pytest.raises(DataError, match="parameters holds what is no JSON"):
        ledger.add_round(Round(1, parameters={"x": math.nan}), [])
    assert ledger.asks() == []


def test_many_asks_are_added_at_once(ledger):
    names = [f"cell-{number:05}" for number in range(2500)]
    ledger.add_round(Round(0), asks_of(*names))
    assert named(ledger.asks()) == names
    with pytest.raises(DataError, match="cell-01234"):
        ledger.add_asks(asks_of("x", *(f"y{number}" for number in range(2000)), "cell-01234"))
    assert named(ledger.lease("Ada", n=3)) == names[:3]


def test_an_answer_is_stored_as_it_was_sent(ledger):
    ledger.add_round(Round(0), asks_of("a", "b", "c"))
    sent = labelled("a", seconds=1.1, visible=("score",), origin="page")
    stored = ledger.answer(sent)
    assert stored == dataclasses.replace(sent, time=ledger.clock())
    ledger.answer(Answer(make_uid(), "b", "Ada", Kind.skip))
    ledger.answer(Answer(make_uid(), "c", "Ada", "unsure", origin="import:räume.csv"))
    assert [answer.kind for answer in ledger.answers()] == ["label", "skip", "unsure"]
    assert ledger.answers()[0] == stored == ledger.current_of("a")[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "cat"}, r"the label is 'cat'; expected one of the classes \['cyst', 'tumour'\]"),
        ({"label": ""}, "the label is ''"),
        ({"candidate": "b"}, "candidate 'b' was not asked for"),
        ({"kind": Kind.skip}, "of kind skip has the label 'cyst'; expected none"),
        ({"kind": Kind.undo}, "taken back by undo"),
        ({"kind": "maybe"}, "kind='maybe'; expected label, skip or unsure"),
        ({"uid": ""}, "uid is ''; expected a name"),
        ({"uid": "u" * 101}, "text of at most 100 characters"),
        ({"annotator": " Ada"}, "annotator is ' Ada'; expected a name, without spaces"),
        ({"annotator": None}, "annotator is None; expected text"),
        ({"annotator": "A\0"}, "without NUL"),
        ({"seconds": -1}, "seconds=-1; expected a number of at least 0"),
        ({"seconds": math.inf}, "seconds=inf"),
        ({"visible": "score"}, "visible='score'; expected a tuple"),
        ({"visible": (5,)}, "visible is 5; expected text"),
    ],
)
def test_answers_that_cannot_be_are_refused(ledger, change, message):
    ledger.add_round(Round(0), asks_of("a"))
    answer = dataclasses.replace(labelled("a"), **change)
    with pytest.raises(LabelError, match=message):
        ledger.answer(answer)
    assert ledger.answers() == []
    assert named(ledger.lease("Bob")) == ["a"]


def test_an_answer_that_is_sent_again_is_stored_once(ledger):
    ledger.add_round(Round(0), asks_of("a"))
    ledger.saw("Ada", "a", "pattern")
    sent = labelled("a", seconds=0.1 + 0.2, visible=("score",))
    stored = ledger.answer(sent)
    assert stored.visible == ("score", "pattern")
    ledger.saw("Ada", "a", "patches")
    ledger.clock.after(5)
    assert ledger.answer(sent) == stored
    # Also by somebody who has what was stored, and where the answer counts no more.
    ledger.undo(make_uid(), "Ada")
    assert ledger.answer(dataclasses.replace(sent, time=None, replaces="x")) == stored
    assert len(ledger.answers()) == 2
    assert ledger.current() == []


@pytest.mark.parametrize(
    "change",
    [
        {"label": "tumour"},
        {"annotator": "Bob"},
        {"candidate": "b"},
        {"kind": "skip", "label": ""},
        {"seconds": 3.0},
        {"visible": ()},
        {"origin": "page"},
    ],
)
def test_another_answer_of_the_same_uid_is_a_conflict(ledger, change):
    ledger.add_round(Round(0), asks_of("a", "b"))
    sent = labelled("a", seconds=1.0, visible=("score",))
    stored = ledger.answer(sent)
    with pytest.raises(ConflictError, match=f"{next(iter(change))}=.*, not .*make_uid"):
        ledger.answer(dataclasses.replace(sent, **change))
    assert ledger.answers() == [stored]


def test_a_second_answer_replaces_the_first(ledger):
    ledger.add_round(Round(0), asks_of("a"))
    first = ledger.answer(labelled("a"))
    second = ledger.answer(labelled("a", label="tumour"))
    assert second.replaces == first.uid
    assert ledger.current() == [second]
    assert ledger.answers() == [first, second]
    assert ledger.counts().by_label == {"tumour": 1}


def test_an_undo_takes_back_once_and_asks_again(ledger):
    ledger.add_round(Round(0), asks_of("a", "b", "c"))
    ledger.add_round(Round(1), asks_of("d", "e"))
    answers = [ledger.answer(labelled(name)) for name in "dab"]
    assert named(ledger.lease("Ada")) == ["e", "c"]
    undo = ledger.undo("undo-1", "Ada")
    assert (undo.kind, undo.candidate, undo.replaces) == (Kind.undo, "b", answers[2].uid)
    assert ledger.undo("undo-1", "Ada") == undo
    assert ledger.current() == answers[:2]
    # It comes first, although the question that is held is of a newer round.
    assert named(ledger.lease("Ada")) == ["b", "e"]
    ledger.undo("undo-2", "Ada")
    assert named(ledger.lease("Ada", n=5)) == ["a", "b", "e", "c"]
    assert named(ledger.lease("Bob", n=5)) == []
    ledger.answer(labelled("a"))
    assert [answer.candidate for answer in ledger.current()] == ["d", "a"]
    with pytest.raises(ConflictError, match="by 'Ada'"):
        ledger.undo("undo-1", "Bob")
    with pytest.raises(ConflictError):
        ledger.undo(answers[0].uid, "Ada")
    with pytest.raises(ConflictError):
        ledger.answer(dataclasses.replace(labelled("a"), uid="undo-1"))


def test_an_undo_of_nothing_is_nothing(ledger):
    ledger.add_round(Round(0), asks_of("a"))
    assert ledger.undo(make_uid(), "Ada") is None
    ledger.answer(labelled("a", "Bob"))
    assert ledger.undo(make_uid(), "Ada") is None
    assert len(ledger.answers()) == 1


def test_what_an_undone_correction_replaced_does_not_count_again(ledger):
    ledger.add_round(Round(0), asks_of("a"))
    ledger.answer(labelled("a"))
    ledger.answer(labelled("a", label="tumour"))
    ledger.undo(make_uid(), "Ada")
    assert ledger.current() == []
    assert ledger.counts().n_open == 1
    assert ledger.answer(labelled("a")).replaces == ""


def test_questions_go_to_others_when_they_expire(ledger):
    ledger.add_round(Round(0), asks_of("a", "b", "c"))
    (question,) = ledger.lease("Ada", n=1, seconds=10)
    assert question.expires == ledger.clock() + datetime.timedelta(seconds=10)
    assert named(ledger.lease("Bob", n=1)) == ["b"]
    ledger.clock.after(9)
    # After a reload: the same one, for longer.
    (again,) = ledger.lease("Ada", n=1, seconds=10)
    assert again.ask == question.ask
    assert again.expires > question.expires
    ledger.clock.after(9)
    assert named(ledger.lease("Cyd", n=1)) == ["c"]
    ledger.clock.after(1)
    assert named(ledger.lease("Dan", n=1)) == ["a"]
    # Late, and kept all the same.
    ledger.answer(labelled("a"))
    assert ledger.counts().n_labelled == 1


def test_questions_that_are_released_go_to_others_at_once(ledger):
    ledger.add_round(Round(0), asks_of("a", "b"))
    ledger.lease("Ada")
    assert ledger.lease("Bob") == []
    assert ledger.apply([Release("Ada"), Lease("Bob")])[0] is None
    assert ledger.lease("Ada") == []


def test_skips_and_unsure_leave_a_question_to_others(ledger):
    ledger.add_round(Round(0), asks_of("a"))
    for who, kind in (("Ada", Kind.skip), ("Bob", Kind.unsure)):
        assert named(ledger.lease(who)) == ["a"]
        ledger.answer(Answer(make_uid(), "a", who, kind))
        assert ledger.lease(who) == []
    assert ledger.counts().n_open == 1
    ledger.answer(labelled("a", "Cyd"))
    assert ledger.lease("Dan") == []


def test_readers_who_disagree_are_joined_by_one_more(ledger):
    ledger.add_round(Round(0), asks_of("a", n_readers=2))
    assert named(ledger.lease("Ada")) == named(ledger.lease("Bob")) == ["a"]
    assert ledger.lease("Cyd") == []
    ledger.answer(labelled("a", "Ada"))
    ledger.answer(labelled("a", "Bob", label="tumour"))
    assert named(ledger.lease("Cyd")) == ["a"]
    assert ledger.lease("Ada") == ledger.lease("Bob") == ledger.lease("Dan") == []
    ledger.change_settings({"adjudicate": False})
    assert ledger.counts().n_open == 0
    ledger.change_settings({"adjudicate": True})
    assert ledger.counts().n_open == 1
    ledger.answer(labelled("a", "Cyd"))
    assert ledger.counts().n_open == 0


@given(st.integers(1, 4), st.lists(st.sampled_from("xyz"), max_size=6), st.booleans())
def test_how_many_are_wanted(n_readers, labels, adjudicate):
    split = all(2 * labels.count(label) <= len(labels) for label in labels)
    more = adjudicate and n_readers > 1 and len(labels) >= n_readers and split
    assert n_wanted(n_readers, labels, adjudicate=adjudicate) == n_readers + more


def test_what_was_seen_is_known_of_the_answer(ledger):
    ledger.add_round(Round(0), asks_of("a", "b"))
    for what in ("score", "patches", "score"):
        ledger.saw("Ada", "a", what)
    assert ledger.seen("Ada", "a") == ("score", "patches")
    assert ledger.seen("Bob", "a") == ledger.seen("Ada", "b") == ()
    stored = ledger.answer(labelled("a", visible=("pattern", "score")))
    assert stored.visible == ("pattern", "score", "patches")
    assert ledger.current()[0].visible == stored.visible
    with pytest.raises(LabelError, match="not asked for"):
        ledger.saw("Ada", "c", "score")


def test_one_refused_operation_spoils_no_other(ledger):
    ledger.add_round(Round(0), asks_of("a", "b"))
    results = ledger.apply(
        [
            labelled("a"),
            labelled("nothing"),
            Lease("Ada", n=0),
            "lease",
            Lease("Bob", seconds=0),
            Undo("", "Ada"),
            Saw("Bob", "b", "score"),
            Lease("Bob"),
            dataclasses.replace(labelled("b"), visible=5),
        ]
    )
    refused = [type(one) for one in results if isinstance(one, Exception)]
    assert refused == [
        LabelError,
        ParameterError,
        DataTypeError,
        ParameterError,
        LabelError,
        LabelError,
    ]
    assert results[0] == ledger.current()[0]
    assert results[6] is None
    assert named(results[7]) == ["b"]
    assert ledger.apply([]) == []
    for alone in ("lease", Lease("Ada", n=0)):
        assert isinstance(ledger.apply([alone])[0], DataTypeError | ParameterError)


def test_settings_are_changed_and_those_before_are_kept(ledger):
    ledger.add_round(Round(0), asks_of("a"))
    assert ledger.settings == {"name": "cells", "classes": ["cyst", "tumour"]}
    changed = ledger.change_settings({"show": "always", "pool": {"size": np.int64(3)}})
    assert ledger.settings == changed
    assert changed == {
        "name": "cells",
        "classes": ["cyst", "tumour"],
        "show": "always",
        "pool": {"size": 3},
    }
    ledger.change_settings({"classes": ["cyst", "tumour", "other"]})
    ledger.answer(labelled("a", label="other"))
    with pytest.raises(DataError, match=r"leave out \['other'\], which annotators gave"):
        ledger.change_settings({"classes": ["cyst", "tumour"]})
    ledger.change_settings({"classes": ["tumour", "other"]})
    with pytest.raises(DataError, match="classes='other'; expected a list"):
        ledger.change_settings({"classes": "other"})
    with pytest.raises(DataError, match="expected a mapping"):
        ledger.change_settings(5)


def test_notes_are_kept_in_order(ledger):
    first = ledger.note("learnt", "Round 1 learnt 20 labels.", accuracy=0.5, ids=["a"])
    ledger.clock.after(1)
    second = ledger.note("stopped", "")
    assert first == Note(
        second.time - datetime.timedelta(seconds=1),
        "learnt",
        "Round 1 learnt 20 labels.",
        {"accuracy": 0.5, "ids": ["a"]},
    )
    assert ledger.notes() == [first, second]
    assert ledger.notes("stopped") == [second]
    assert ledger.notes("other") == []
    with pytest.raises(DataError, match="holds what is no JSON"):
        ledger.note("learnt", "", model=object())


TEXTS = ["", " a\nb ", "µ → 細胞 🔬", "\x01\x7f", "'; DROP TABLE answers; --", "%s {0} :x \\"]


def test_any_text_comes_back(ledger):
    for text in TEXTS:
        note = ledger.note("learnt", text, of=text)
        assert ledger.notes()[-1] == note
        assert note.text == text
        assert note.values == {"of": text}
    ledger.add_round(Round(0), asks_of(*(f"x{text}x" for text in TEXTS)))
    for text in TEXTS:
        ledger.answer(labelled(f"x{text}x", f"x{text}x", origin=text))
    assert [answer.origin for answer in ledger.current()] == TEXTS
    assert [answer.annotator for answer in ledger.current()] == named(ledger.asks())


def test_the_queue_is_what_follows_from_asks_and_answers(ledger):
    ledger.add_round(Round(0), asks_of("a", "b", "c", n_readers=2))
    ledger.answer(labelled("a"))
    ledger.answer(labelled("b"))
    ledger.answer(labelled("b", "Bob"))

    def rows():
        with ledger._store.reading() as connection:
            found = connection.execute(queue.select()).all()
        return sorted((row.candidate, row.readers, row.missing) for row in found)

    before = rows()
    assert before == [("a", ["Ada"], 1), ("c", [], 2)]
    # Any change makes it anew.
    ledger.change_settings({"show": "always"})
    assert rows() == before


def test_a_closed_ledger_says_so(places):
    with places.create() as ledger:
        where = str(ledger)
    assert where.startswith("Ledger('")
    for call in (ledger.rounds, lambda: ledger.lease("Ada")):
        with pytest.raises(LedgerError, match="is closed; open it again"):
            call()


def test_a_ledger_is_made_once(places):
    where = places.fresh()
    with pytest.raises(DataError, match="settings have classes=None; expected a list"):
        Ledger.create(where, {"name": "cells"})
    with pytest.raises(LedgerError, match="there is no ledger at"):
        Ledger.open(where)
    Ledger.create(where, {"classes": ["a", "b"]}).close()
    with pytest.raises(LedgerError, match="already, and is left as it is"):
        Ledger.create(where, {"classes": ["c", "d"]})
    with Ledger.open(where) as ledger:
        assert ledger.settings == {"classes": ["a", "b"]}
        # By the computer's clock, or the server's, which is the same one here.
        now = datetime.datetime.now(datetime.UTC)
        assert abs(ledger.note("x", "").time - now) < datetime.timedelta(seconds=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_uses_connections_of_its_own(ledger):
    ledger.add_round(Round(0), asks_of("a", "b"))
    ledger.lease("Ada", n=1)
    store = ledger._store
    with store.reading() as connection:
        parents = connection.connection.driver_connection
    # As another thread of the parent may, which is not there in the child.
    with store._lock:
        child = os.fork()
        if child == 0:
            found = named(ledger.lease("Bob"))
            with store.reading() as connection:
                is_own = connection.connection.driver_connection is not parents
            ledger.close()
            os._exit(0 if found == ["b"] and is_own else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert named(ledger.lease("Bob")) == ["b"]
    ledger.answer(labelled("a"))
