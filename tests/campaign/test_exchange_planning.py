"""What an import adds: nothing twice, nothing guessed, and nothing that undoes what is later."""

import datetime

import pytest
from exchanges import FakeLedger, said
from hypothesis import given
from hypothesis import strategies as st

from aift_sklearn.campaign.exchange import Entry, Reading, export_csv, plan_import, read_answers
from aift_sklearn.campaign.records import Answer, Ask, Kind

ASKS = [Ask("a", 1), Ask("b", 2)]
CLASSES = ("cat", "dog", "cow")
START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def at(minutes):
    return START + datetime.timedelta(minutes=minutes)


def reading(*entries, name="export.json", kind="label-studio"):
    return Reading(kind, f"import:{name}", tuple(entries))


def store(ledger, entries, **options):
    plan = plan_import(entries, ASKS, ledger.rows, CLASSES, **options)
    for answer in plan.answers:
        ledger.answer(answer)
    return plan


def labels(ledger):
    return {(a.candidate, a.annotator): a.label or a.kind.value for a in ledger.current()}


def test_what_is_wrong_is_listed_and_the_rest_is_taken():
    plan = plan_import(
        reading(
            Entry("a", "anna", label="cat", where="line 2"),
            Entry("A", "anna", label="cat", where="line 3"),
            Entry("b", "anna", label="Cat", where="line 4"),
            Entry("a", "anna", label="cat", where="line 5"),
            Entry("b", "ben", label="cat", where="line 6"),
            Entry("b", "ben", label="dog", where="line 7"),
            Entry("b", "chen", Kind.unsure, where="line 8"),
            Entry("b", "dora", where="line 9", problem="several labels in one answer"),
        ),
        ASKS,
        [],
        CLASSES,
    )
    assert said(plan.answers) == {
        ("a", "anna"): (Kind.label, "cat", None),
        ("b", "chen"): (Kind.unsure, "", None),
    }
    assert plan.describe() == [
        "2 answers to store, 0 of them corrections; 0 stored already",
        "unknown ids, not taken (1):",
        "  line 3: 'A' was not asked for",
        "unknown labels, not taken (1):",
        "  line 4: 'Cat' is none of ['cat', 'cow', 'dog']",
        "duplicates, not taken (1):",
        "  line 5: the same as line 2",
        "conflicts, not taken (3):",
        "  line 9: several labels in one answer",
        "  line 6: ben says 'cat' and 'dog' of 'b'",
        "  line 7: ben says 'cat' and 'dog' of 'b'",
    ]


def test_only_a_few_of_many_are_shown():
    many = [Entry(f"x{k}", "anna", label="cat", where=f"line {k}") for k in range(9)]
    lines = plan_import(reading(*many), ASKS, [], CLASSES).describe()
    assert lines[1] == "unknown ids, not taken (9):"
    assert len(lines) == 8
    assert lines[-1] == "  and 4 more"


def test_a_correction_in_the_other_tool_is_one_here_however_often():
    ledger = FakeLedger(now=at(1000))
    for minutes, label in enumerate(["cat", "dog", "cat", "dog"]):
        entries = reading(Entry("a", "anna", label=label, time=at(minutes), source="7"))
        plan = store(ledger, entries)
        assert (len(plan.answers), plan.corrections) == (1, int(minutes > 0))
        assert labels(ledger) == {("a", "anna"): label}
        again = store(ledger, entries)
        assert (again.answers, again.unchanged) == ((), 1)
    skipped = store(ledger, reading(Entry("a", "anna", Kind.skip, time=at(9), source="7")))
    assert skipped.corrections == 1
    assert labels(ledger) == {("a", "anna"): "skip"}


def test_an_old_export_reverts_nothing():
    ledger = FakeLedger(now=at(1000))
    old = reading(Entry("a", "anna", label="cat", time=at(1), source="7", where="task 1"))
    store(ledger, reading(Entry("a", "anna", label="dog", time=at(2), source="7")))
    plan = store(ledger, old)
    assert plan.answers == ()
    assert str(plan.conflicts[0]) == (
        "task 1: anna says 'dog' in the campaign, which is later; the file says 'cat'"
    )
    # Who insists has it.
    assert store(ledger, old, overwrite=True).corrections == 1
    assert labels(ledger) == {("a", "anna"): "cat"}


def test_an_answer_that_was_taken_back_here_does_not_come_again():
    ledger = FakeLedger(now=at(1000))
    entries = reading(Entry("a", "anna", label="cat", time=at(1), source="7"))
    (answer,) = store(ledger, entries).answers
    ledger.undo(answer)
    assert labels(ledger) == {}
    plan = store(ledger, entries)
    assert plan.answers == ()
    assert "anna took the answer back in the campaign, which is later" in plan.conflicts[0].reason
    later = reading(Entry("a", "anna", label="cat", time=at(2000), source="7"))
    assert len(store(ledger, later).answers) == 1
    assert labels(ledger) == {("a", "anna"): "cat"}


def test_nobody_knows_what_is_later_in_a_table_without_times():
    ledger = FakeLedger([Answer("u", "a", "anna", label="cat", origin="page")])
    plan = store(ledger, reading(Entry("a", "anna", label="dog"), kind="csv", name="typed.csv"))
    assert plan.conflicts[0].reason == (
        "anna says 'cat' in the campaign, which may be later; the file says 'dog'"
    )
    # A file of the same name is the same file, which somebody went on with.
    first = reading(Entry("b", "anna", label="cat"), kind="csv", name="typed.csv")
    second = reading(Entry("b", "anna", label="dog"), kind="csv", name="typed.csv")
    for entries, label in ((first, "cat"), (second, "dog"), (first, "cat")):
        store(ledger, entries)
        assert labels(ledger)["b", "anna"] == label


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_row_of_an_export_that_is_edited_is_a_correction(tmp_path, meanwhile):
    ledger = FakeLedger()
    ledger.answer(Answer("u1", "a", "anna", label="cat"))
    ledger.answer(Answer("u2", "b", "anna", label="cat"))
    path = tmp_path / "labels.csv"
    export_csv(path, ASKS, ledger.current())
    as_exported = read_answers(path, CLASSES)
    path.write_text(path.read_text().replace('"a","cat"', '"a","dog"'))
    if meanwhile:
        ledger.answer(Answer("u3", "a", "anna", label="cow"))
    plan = store(ledger, read_answers(path, CLASSES))
    if meanwhile:
        assert plan.answers == ()
        assert "anna says 'cow' in the campaign, which is later" in plan.conflicts[0].reason
        return
    assert (plan.corrections, plan.unchanged) == (1, 1)
    assert store(ledger, read_answers(path, CLASSES)).unchanged == 2
    # Edited once more, and the export as it was, which may be an old one.
    path.write_text(path.read_text().replace('"a","dog"', '"a","cow"'))
    assert store(ledger, read_answers(path, CLASSES)).corrections == 1
    assert labels(ledger) == {("a", "anna"): "cow", ("b", "anna"): "cat"}
    assert len(store(ledger, as_exported).conflicts) == 1


def test_a_row_that_is_given_to_somebody_else_is_a_conflict():
    ledger = FakeLedger([Answer("u1", "a", "anna", label="cat")])
    entry = Entry("a", "ben", label="cat", uid="u1", where="line 2")
    plan = store(ledger, reading(entry, kind="csv"))
    assert str(plan.conflicts[0]) == "line 2: its uid is that of an answer of anna on 'a'"


def test_one_uid_for_two_rows_is_a_conflict():
    entries = reading(*(Entry(name, "anna", label="cat", uid="u1") for name in "ab"), kind="csv")
    plan = plan_import(entries, ASKS, [], CLASSES)
    assert [answer.uid for answer in plan.answers] == ["u1"]
    assert plan.conflicts[0].reason == "its uid is that of an answer of anna on 'a'"
    both = plan_import(entries, ASKS, [], CLASSES, overwrite=True).answers
    assert len({answer.uid for answer in both}) == 2


@pytest.mark.parametrize("uid", ["", "x" * 201, "a\nb"])
def test_uids_that_none_should_be_are_made_anew(uid):
    plan = plan_import(reading(Entry("a", "anna", label="cat", uid=uid)), ASKS, [], CLASSES)
    assert plan.answers[0].uid.startswith("label-studio-")
    assert len(plan.answers[0].uid) <= 80


def test_digits_in_a_uid_that_are_no_time_do_no_harm():
    uid = f"label-studio-99999999T999999999999-{'0' * 32}"
    held = Answer(uid, "a", "anna", label="cat", time=at(5))
    later = reading(Entry("a", "anna", label="dog", time=at(6)))
    assert plan_import(later, ASKS, [held], CLASSES).corrections == 1
    earlier = reading(Entry("a", "anna", label="dog", time=at(4)))
    assert len(plan_import(earlier, ASKS, [held], CLASSES).conflicts) == 1


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("other"), st.sampled_from(CLASSES)),
        st.tuples(st.just("page"), st.sampled_from(CLASSES)),
        st.tuples(st.just("export"), st.none()),
        st.tuples(st.just("import"), st.integers(0, 9)),
    ),
    max_size=30,
)


@given(events=EVENTS)
def test_the_later_answer_counts_whatever_the_order_of_imports(events):
    """An oracle of one pair: what was said last, of what the campaign was told."""
    ledger = FakeLedger(now=START)
    there, exports = None, []
    here, since = None, None
    for minutes, (what, value) in enumerate(events, 1):
        ledger.now = at(minutes)
        if what == "other":
            there = (value, at(minutes))
        elif what == "page":
            answer = ledger.answer(Answer(f"page {minutes}", "a", "anna", label=value))
            here, since = value, answer.time
        elif what == "export":
            exports.append(there)
        elif exports and (told := exports[value % len(exports)]) is not None:
            label, time = told
            plan = store(ledger, reading(Entry("a", "anna", label=label, time=time)))
            later = here is None or (label != here and time > since)
            assert len(plan.answers) == int(later)
            assert len(plan.conflicts) == int(not later and label != here)
            if later:
                here, since = label, time
        assert [a.label for a in ledger.current()] == ([] if here is None else [here])
    assert len({row.uid for row in ledger.rows}) == len(ledger.rows)
