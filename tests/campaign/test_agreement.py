"""Kappas, majorities and counts, against loops written by hand."""

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aift_sklearn.campaign.agreement import (
    consensus,
    labels_of,
    majority_of,
    measure_agreement,
)
from aift_sklearn.campaign.records import Answer, Ask, Kind, Purpose
from aift_sklearn.errors import DataError

READERS = ["anna", "ben", "chen", "dora"]


def answers_of(table):
    """Answers from candidate → annotator → label, a kind in the place of a label, or nothing."""
    answers = []
    for name, given_by in table.items():
        for who, label in given_by.items():
            kind = label if isinstance(label, Kind) else Kind.label
            text = "" if isinstance(label, Kind) else label
            answers.append(Answer(f"{name} {who}", name, who, kind, text))
    return answers


CELL = st.sampled_from(["a", "b", "c", Kind.skip, Kind.unsure])
TABLES = st.dictionaries(
    st.sampled_from("pqrstuvw"), st.dictionaries(st.sampled_from(READERS), CELL), max_size=8
)


def cohen(first, second):
    """Cohen (1960), from counts."""
    n = len(first)
    seen = sum(x == y for x, y in zip(first, second, strict=True)) / n
    chance = sum(first.count(c) * second.count(c) for c in {*first, *second}) / n**2
    return (seen - chance) / (1 - chance)


def fleiss(rows):
    """Fleiss (1971), from counts."""
    n, r = len(rows), len(rows[0])
    per_row = []
    for row in rows:
        pairs = sum(x == y for x, y in itertools.permutations(row, 2))
        per_row.append(pairs / (r * (r - 1)))
    everything = Counter(label for row in rows for label in row)
    chance = sum((count / (n * r)) ** 2 for count in everything.values())
    return (sum(per_row) / n - chance) / (1 - chance)


@given(table=TABLES)
def test_kappas_are_those_of_loops_by_hand(table):
    agreement = measure_agreement(answers_of(table))
    labels = {
        name: {who: x for who, x in given_by.items() if not isinstance(x, Kind)}
        for name, given_by in table.items()
    }
    who = sorted({w for given_by in table.values() for w in given_by})
    assert set(agreement.pairs) == set(itertools.combinations(who, 2))
    for (one, two), found in agreement.pairs.items():
        both = [(x[one], x[two]) for x in labels.values() if one in x and two in x]
        assert found.n == len(both)
        if not both:
            assert (found.value, found.reason) == (None, "no candidate was labelled by both")
        elif len({label for pair in both for label in pair}) == 1:
            assert found.value is None
            assert "chance agrees" in found.reason
        else:
            first, second = map(list, zip(*both, strict=True))
            assert math.isclose(found.value, cohen(first, second), abs_tol=1e-12)
    _check_fleiss(agreement, labels)


def _check_fleiss(agreement, labels):
    sizes = [len(x) for x in labels.values() if len(x) >= 2]
    if not sizes:
        assert agreement.fleiss.value is None
        assert agreement.fleiss_readers is None
        assert agreement.fleiss.reason == "no candidate was labelled by several"
        return
    best = max(sorted(set(sizes)), key=lambda size: (sizes.count(size), size))
    rows = [list(x.values()) for x in labels.values() if len(x) == best]
    assert agreement.fleiss_readers == best
    assert agreement.fleiss.n == len(rows)
    if len({label for row in rows for label in row}) == 1:
        assert agreement.fleiss.value is None
        assert "chance agrees" in agreement.fleiss.reason
    else:
        assert math.isclose(agreement.fleiss.value, fleiss(rows), abs_tol=1e-12)


@given(table=TABLES)
def test_majorities_contradictions_and_readers_are_those_of_loops(table):
    answers = answers_of(table)
    agreement = measure_agreement(answers)
    for name, given_by in table.items():
        votes = [x for x in given_by.values() if not isinstance(x, Kind)]
        if not votes:
            assert name not in agreement.majority
            continue
        tallies = {label: votes.count(label) for label in votes}
        top = [label for label, n in tallies.items() if n == max(tallies.values())]
        assert agreement.majority[name] == (top[0] if len(top) == 1 else None)
        assert (name in agreement.contradictory) is (len(set(votes)) > 1)
    for reader in agreement.readers:
        own = [a for a in answers if a.annotator == reader.annotator]
        assert reader.n_labels == sum(a.kind is Kind.label for a in own)
        assert reader.n_skips == sum(a.kind is Kind.skip for a in own)
        assert reader.n_unsure == sum(a.kind is Kind.unsure for a in own)
        right = []
        for given_by in table.values():
            others = {w: x for w, x in given_by.items() if w != reader.annotator}
            others = {w: x for w, x in others.items() if not isinstance(x, Kind)}
            mine = given_by.get(reader.annotator)
            if mine is not None and not isinstance(mine, Kind) and majority_of(others) is not None:
                right.append(mine == majority_of(others))
        assert reader.with_majority.n == len(right)
        expected = sum(right) / len(right) if right else None
        assert reader.with_majority.value == expected
        assert bool(reader.with_majority.reason) is not bool(right)


@given(table=TABLES, yardstick=st.sets(st.sampled_from("pqrstuvw")))
def test_what_is_trained_on_and_the_yardstick_are_apart(table, yardstick):
    asks = [
        Ask(name, k, Purpose.yardstick if name in yardstick else Purpose.model)
        for k, name in enumerate("pqrst")
    ]
    answers = answers_of(table)
    trained = consensus(asks, answers)
    measured = consensus(asks, answers, yardstick=True)
    majority = measure_agreement(answers).majority
    expected = {n: majority[n] for n in "pqrst" if majority.get(n) is not None}
    assert trained | measured == expected
    assert not trained.keys() & measured.keys()
    assert measured.keys() <= yardstick
    assert not trained.keys() & yardstick


def test_speed_is_of_what_was_timed():
    answers = [
        Answer("1", "p", "anna", label="a", seconds=2.0),
        Answer("2", "q", "anna", label="a", seconds=4.0),
        Answer("3", "r", "anna", Kind.skip, seconds=0.0),
        Answer("4", "s", "anna", label="a"),
        Answer("5", "p", "ben", label="a"),
        Answer("6", "p", "chen", label="a", seconds=0.0),
    ]
    anna, ben, chen = measure_agreement(answers).readers
    assert (anna.seconds, anna.per_minute) == (2.0, 30.0)
    assert (ben.seconds, ben.per_minute) == (None, None)
    assert (chen.seconds, chen.per_minute) == (0.0, None)


@pytest.mark.parametrize("table", [{}, {"p": {"anna": "a"}}, {"p": {"anna": Kind.skip}}])
def test_one_reader_or_none_has_no_agreement_and_a_reason(table):
    agreement = measure_agreement(answers_of(table))
    assert agreement.pairs == {}
    assert agreement.fleiss.value is None
    assert agreement.fleiss.reason
    assert agreement.contradictory == {}


def test_what_was_replaced_has_to_be_left_out():
    answers = [Answer("1", "p", "anna", label="a"), Answer("2", "p", "anna", label="b")]
    with pytest.raises(DataError, match=r"anna has several answers for 'p'.*ledger\.current"):
        labels_of(answers)
    with pytest.raises(DataError, match="several answers"):
        measure_agreement([Answer("1", "p", "anna", Kind.undo)])
