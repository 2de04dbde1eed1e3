"""The honest yardstick: what is drawn, and how it measures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from aift_sklearn.campaign.yardstick import draw_yardstick, measure


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=60),
    st.integers(0, 30),
    st.integers(0, 1000),
)
def test_what_is_drawn_lies_in_groups_of_its_own(codes, n, seed):
    ids = [f"c{k}" for k in range(len(codes))]
    groups = np.array([f"g{code}" for code in codes])
    drawn = draw_yardstick(ids, groups, n, np.random.default_rng(seed))
    assert len(set(drawn.ids)) == len(drawn.ids) <= min(n, len(ids) // 2)
    if len(set(codes)) < 2:
        assert drawn.groups == []
        assert n == 0 or len(ids) < 2 or "one group" in drawn.note
        return
    of = dict(zip(ids, groups.tolist(), strict=True))
    assert {of[name] for name in drawn.ids} <= set(drawn.groups)
    # Something is left to train on.
    assert set(drawn.groups) < set(groups.tolist())


def test_every_candidate_is_as_likely_without_groups():
    ids = [str(k) for k in range(10)]
    counts = np.zeros(10)
    for seed in range(2000):
        drawn = draw_yardstick(ids, None, 3, np.random.default_rng(seed))
        counts[[int(name) for name in drawn.ids]] += 1
    assert np.abs(counts / 2000 - 0.3).max() < 0.05


def test_few_candidates_in_the_groups_are_told():
    groups = np.array(["a"] * 2 + ["b"] * 3 + ["c"] * 95)
    ids = [str(k) for k in range(100)]
    for seed in range(20):
        drawn = draw_yardstick(ids, groups, 40, np.random.default_rng(seed))
        assert len(drawn.ids) <= 40
        if len(drawn.ids) < 40:
            assert "all there are" in drawn.note


labels = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.integers(0, 4)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40)
@given(labels)
def test_measures_are_those_of_scikit_learn(drawn):
    truth = {str(k): true for k, (true, _, _) in enumerate(drawn)}
    predicted = {str(k): said for k, (_, said, _) in enumerate(drawn)}
    groups = {str(k): str(group) for k, (_, _, group) in enumerate(drawn)}
    found = measure(truth, predicted, groups, n_resamples=200)
    y, p = list(truth.values()), list(predicted.values())
    assert found.n == len(drawn)
    assert found.accuracy == pytest.approx(accuracy_score(y, p))
    classes = sorted(set(y))
    recalls = [np.mean([b == a for a, b in zip(y, p, strict=True) if a == c]) for c in classes]
    assert found.balanced == pytest.approx(np.mean(recalls))
    if set(p) <= set(y) and len(classes) > 1:
        assert found.balanced == pytest.approx(balanced_accuracy_score(y, p))
    assert 0 <= found.accuracy_low <= found.accuracy <= found.accuracy_high <= 1
    assert 0 <= found.balanced_low <= found.balanced <= found.balanced_high <= 1


def test_a_perfect_score_of_few_is_no_certainty():
    truth = {str(k): "ab"[k % 2] for k in range(10)}
    found = measure(truth, truth)
    assert found.accuracy == 1
    # Wilson's interval of 10 of 10.
    assert found.accuracy_low == pytest.approx(0.722, abs=0.001)


def test_alike_candidates_of_few_groups_tell_less():
    truth = {str(k): "ab"[k % 2] for k in range(100)}
    predicted = {name: label if int(name) < 80 else "a" for name, label in truth.items()}
    few = measure(truth, predicted, {name: str(int(name) // 25) for name in truth})
    many = measure(truth, predicted)
    assert few.accuracy_low < many.accuracy_low


def test_intervals_cover_what_they_claim():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        truth = {str(k): "ab"[k % 2] for k in range(40)}
        predicted = {
            name: label if rng.random() < 0.8 else "ba"[label == "b"]
            for name, label in truth.items()
        }
        found = measure(truth, predicted, n_resamples=300)
        covered += found.accuracy_low <= 0.8 <= found.accuracy_high
    assert covered >= 185


def test_nothing_to_measure():
    assert measure({}, {"a": "x"}) is None
    assert measure({"b": "x"}, {"a": "x"}) is None
