"""Paired intervals and tests against their definitions, published examples and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from aift_sklearn.errors import ParameterError
from aift_sklearn.study import holm, paired_interval, paired_test

NAN = float("nan")
pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12)

# Student's sleep data (1908), as printed with R's t.test(paired = TRUE).
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_students_own_example() -> None:
    mean, low, high = paired_interval(DRUG_1, DRUG_2)
    assert (mean, low, high) == pytest.approx((-1.58, -2.4598858, -0.7001142), abs=1e-7)
    assert paired_test(DRUG_1, DRUG_2).t == pytest.approx(0.002832890, abs=1e-9)


def t_density(x: float, degrees: int) -> float:
    scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(degrees * math.pi)
    return scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2)


@settings(max_examples=25)
@given(pairs, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_holds_its_level_of_students_density(values, level) -> None:
    a, b = np.transpose(values)
    mean, low, high = paired_interval(a, b, level=level)
    difference = [float(x - y) for x, y in values]
    n = len(difference)
    assert mean == pytest.approx(sum(difference) / n, abs=1e-12)
    spread = sum((d - mean) ** 2 for d in difference) / (n - 1)
    error = math.sqrt(spread / n)
    if error < 1e-9:
        assert (low, high) == pytest.approx((mean, mean), abs=1e-6)
        return
    assert mean - low == pytest.approx(high - mean)
    inside, _ = integrate.quad(t_density, 0, (high - mean) / error, args=(n - 1,), limit=200)
    assert 2 * inside == pytest.approx(level, abs=1e-6)


@settings(max_examples=25)
@given(pairs)
def test_the_interval_turns_round_with_the_pairs_and_agrees_with_the_test(values) -> None:
    a, b = np.transpose(values)
    mean, low, high = paired_interval(a, b)
    assert paired_interval(b, a) == pytest.approx((-mean, -high, -low), abs=1e-12)
    assert paired_interval(a[::-1], b[::-1]) == pytest.approx((mean, low, high), abs=1e-12)
    p = paired_test(a, b).t
    assert paired_test(b, a).t == pytest.approx(p, abs=1e-12)
    assert 0 <= p <= 1
    if min(abs(low), abs(high)) > 1e-9:
        assert (p < 0.05) == (low > 0 or high < 0)


@pytest.mark.parametrize(("n", "draws"), [(2, 3000), (5, 3000), (10, 3000)])
def test_the_interval_covers_the_truth_as_often_as_it_says(n, draws) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.3, 1, (draws, n)), rng.normal(0, 2, (draws, n))
    ends = np.array([paired_interval(x, y)[1:] for x, y in zip(a, b, strict=True)])
    covered = ((ends[:, 0] <= 0.3) & (ends[:, 1] >= 0.3)).mean()
    # Three standard errors of 3,000 draws are 0.012.
    assert covered == pytest.approx(0.95, abs=0.012)
    false = np.mean([paired_test(x - 0.3, y).t < 0.05 for x, y in zip(a, b, strict=True)])
    assert false == pytest.approx(0.05, abs=0.012)


def test_one_pair_has_no_interval_and_no_test() -> None:
    mean, low, high = paired_interval([0.9], [0.7])
    assert mean == pytest.approx(0.2)
    assert math.isnan(low)
    assert math.isnan(high)
    assert np.isnan(paired_test([0.9], [0.7])).all()


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_equal_differences_have_an_interval_of_no_width(n) -> None:
    a = np.linspace(0.1, 0.7, n)
    assert paired_interval(a, a) == (0, 0, 0)
    assert paired_test(a, a).t == 1
    assert math.isnan(paired_test(a, a).wilcoxon)
    mean, low, high = paired_interval(a + 0.1, a)  # 0.1 more, but for rounding
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-12)
    assert low == mean == high
    assert paired_test(a + 0.1, a).t == 0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-40, 40).filter(bool), min_size=6, max_size=9, unique_by=abs).map(
        lambda values: [float(value) for value in values]
    )
)
def test_signed_ranks_against_every_choice_of_signs(difference) -> None:
    ranks = [sorted(map(abs, difference)).index(abs(d)) + 1 for d in difference]
    observed = sum(rank for rank, d in zip(ranks, difference, strict=True) if d > 0)
    middle = sum(ranks) / 2
    sums = [
        sum(rank for rank, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product([False, True], repeat=len(ranks))
    ]
    extreme = np.mean([abs(total - middle) >= abs(observed - middle) for total in sums])
    zeros = [0.0] * len(difference)
    assert paired_test(difference, zeros).wilcoxon == pytest.approx(extreme)


def test_signed_ranks_need_six_differences() -> None:
    up = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert math.isnan(paired_test(up, [0.0] * 5).wilcoxon)
    assert paired_test([*up, 6.0], [0.0] * 6).wilcoxon == 2 / 2**6
    # Pairs that do not differ tell nothing.
    assert math.isnan(paired_test([*up, 6.0], [0.0] * 5 + [6.0]).wilcoxon)


def test_tied_ranks_make_no_warning() -> None:
    p = paired_test([1.0, 1, 1, -1, 2, 2, 0], [0.0] * 7).wilcoxon
    assert 0 < p < 1


# Holm's correction.


def holm_by_definition(p_values) -> list[float]:
    """Smallest level at which each hypothesis is rejected, going down step by step."""
    k = len(p_values)
    order = sorted(range(k), key=lambda i: p_values[i])
    corrected = [0.0] * k
    for place, i in enumerate(order):
        # Rejected once every step before it and its own pass: p_(j) (k − j) ≤ level.
        corrected[i] = min(1.0, max(p_values[order[j]] * (k - j) for j in range(place + 1)))
    return corrected


@given(st.lists(st.floats(0, 1), max_size=9))
def test_holm_is_the_level_at_which_each_would_be_rejected(p_values) -> None:
    assert holm(p_values).tolist() == pytest.approx(holm_by_definition(p_values))


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        # The example of the Wikipedia article on the Holm-Bonferroni method.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
        ([NAN, 0.02, NAN, 0.03], [NAN, 0.04, NAN, 0.04]),
    ],
)
def test_holm_by_published_examples(p_values, expected) -> None:
    np.testing.assert_allclose(holm(p_values), expected)


def test_holm_keeps_false_alarms_below_the_level() -> None:
    rng = np.random.default_rng(0)
    seeds = rng.normal(size=(1500, 6, 8))  # five strategies and a baseline that are all alike
    p_values = stats.ttest_rel(seeds[:, 1:], seeds[:, :1], axis=2).pvalue
    alarms = sum((holm(p) < 0.05).any() for p in p_values)
    assert alarms / 1500 <= 0.067  # 0.05 and three standard errors


@pytest.mark.parametrize("p_values", [[0.2, 1.2], [-0.1], [[0.1, 0.2]], 0.1])
def test_holm_refuses_what_is_no_p_value(p_values) -> None:
    with pytest.raises(ParameterError, match=r"vector of numbers in \[0, 1\]"):
        holm(p_values)


@pytest.mark.parametrize("measure", [paired_interval, paired_test])
@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ([1.0, 2.0], [1.0], r"\(2,\) and b \(1,\)"),
        ([], [], r"shape \(0,\)"),
        ([[1.0, 2.0]], [[1.0, 2.0]], r"shape \(1, 2\)"),
        ([1.0, NAN], [1.0, 2.0], "NaN"),
        ([1.0, float("inf")], [1.0, 2.0], "infinity"),
    ],
)
def test_values_that_are_no_pairs_are_refused(measure, a, b, says) -> None:
    with pytest.raises(ParameterError, match=says):
        measure(a, b)


@pytest.mark.parametrize("level", [0, 1, 95, -0.5])
def test_a_level_is_a_share(level) -> None:
    with pytest.raises(ParameterError, match=f"level is {level}"):
        paired_interval([1.0, 2.0], [1.0, 3.0], level=level)
