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
    # Wilson's interval of 10 of 10 begins at 0.722, and by Student's t a little lower.
    assert 0.6 < found.accuracy_low < 0.722


def test_alike_candidates_of_few_groups_tell_less():
    truth = {str(k): "ab"[k % 2] for k in range(100)}
    predicted = {name: label if int(name) < 80 else "a" for name, label in truth.items()}
    few = measure(truth, predicted, {name: str(int(name) // 25) for name in truth})
    many = measure(truth, predicted)
    assert few.accuracy_low < many.accuracy_low


@pytest.mark.parametrize(
    ("n", "n_groups", "rare"), [(40, 40, 0.5), (50, 50, 0.1), (50, 4, 0.5), (50, 12, 0.5)]
)
def test_intervals_cover_what_they_claim(n, n_groups, rare):
    """Of groups some are easy and some hard; the rare class is found less often."""
    rng = np.random.default_rng(0)
    covered = covered_balanced = total = 0
    for _ in range(250):
        group = np.arange(n) % n_groups
        y = rng.random(n) < rare
        of_group = rng.beta(8, 2, n_groups) if n_groups < n else np.full(n_groups, 0.8)
        right = rng.random(n) < of_group[group]
        truth = {str(k): "ab"[int(y[k])] for k in range(n)}
        if len(set(truth.values())) < 2:
            continue
        predicted = {
            name: label if right[int(name)] else "ba"[label == "b"] for name, label in truth.items()
        }
        groups = {str(k): str(group[k]) for k in range(n)} if n_groups < n else None
        found = measure(truth, predicted, groups, n_resamples=200)
        total += 1
        covered += found.accuracy_low <= 0.8 <= found.accuracy_high
        covered_balanced += found.balanced_low <= 0.8 <= found.balanced_high
    assert covered >= 0.92 * total
    assert covered_balanced >= 0.92 * total


def test_one_group_tells_nothing():
    truth = {str(k): "ab"[k % 2] for k in range(30)}
    found = measure(truth, truth, dict.fromkeys(truth, "patient"))
    assert (found.accuracy_low, found.accuracy_high) == (0, 1)


def test_a_group_that_is_most_of_the_pool_is_trained_on():
    groups = np.array(["a"] * 990 + ["b"] * 10)
    for seed in range(8):
        ids = [str(k) for k in range(1000)]
        drawn = draw_yardstick(ids, groups, 50, np.random.default_rng(seed))
        assert drawn.groups == ["b"]
        assert "intervals are wide" in drawn.note


def test_nothing_to_measure():
    assert measure({}, {"a": "x"}) is None
    assert measure({"b": "x"}, {"a": "x"}) is None
