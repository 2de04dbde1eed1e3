"""Races return exact scores, evaluate no patch twice, and hardly lose a winner."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from aift_sklearn import patch_consistency

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")

from aift_sklearn.scanning.racing import optimistic_scores, race, stages


def table(n, m, K, seed, spread=6.0):
    """Patch probabilities of candidates of which some are torn, and most are sure."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(n, 1, K)) * spread
    logits = centre + rng.normal(size=(n, m, K)) * rng.gamma(0.5, 0.5, size=(n, 1, 1))
    P = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (P / P.sum(axis=2, keepdims=True)).astype(np.float32)


class Table:
    """Evaluates patches by looking them up, and counts."""

    def __init__(self, P):
        self.P, self.seen = P, np.zeros(P.shape[:2], dtype=int)

    def __call__(self, rows, views):
        assert (np.diff(rows) > 0).all()
        self.seen[np.ix_(rows, views)] += 1
        return self.P[np.ix_(rows, views)]


@settings(deadline=None, max_examples=80)
@given(
    n=st.integers(1, 120),
    m=st.integers(1, 20),
    K=st.integers(2, 5),
    b=st.integers(1, 120),
    alpha=st.floats(0.05, 1),
    weights=st.sampled_from([(1.0, 1.0), (0.0, 1.0), (1.0, 0.0)]),
    reduction=st.sampled_from(["sum", "mean"]),
    seed=st.integers(0, 99),
)
def test_scores_are_exact_and_no_patch_is_seen_twice(n, m, K, b, alpha, weights, reduction, seed):
    b = min(b, n)
    consistency = {
        "alpha": alpha,
        "entropy_weight": weights[0],
        "diversity_weight": weights[1],
        "reduction": reduction,
    }
    P = table(n, m, K, seed)
    evaluate = Table(P)
    outcome = race(evaluate, n, m, b, **consistency)
    exact = patch_consistency(P, **consistency)
    assert len(set(outcome.indices.tolist())) == b
    assert_array_equal(outcome.scores, exact[outcome.indices])
    assert (np.diff(outcome.scores) <= 0).all()
    assert evaluate.seen.max() == 1
    assert_allclose(outcome.cost, evaluate.seen.mean())
    # Nobody who was scored in full and left out is better.
    full = evaluate.seen.all(axis=1)
    full[outcome.indices] = False
    assert not full.any() or exact[full].max() <= outcome.scores.min()


def test_a_race_costs_a_fraction_and_finds_the_best():
    costs, recalls = [], []
    for seed in range(10):
        P = table(2000, 16, 3, seed)
        exact = np.argsort(-patch_consistency(P), kind="stable")[:20]
        outcome = race(Table(P), 2000, 16, 20)
        costs.append(outcome.cost)
        recalls.append(len(set(exact) & set(outcome.indices)) / 20)
    assert np.mean(recalls) >= 0.99
    assert np.mean(costs) < 0.45


def test_where_most_patches_count_there_is_no_race():
    P = table(300, 16, 3, 0)
    outcome = race(Table(P), 300, 16, 20, alpha=1)
    assert outcome.cost == 1
    exact = np.argsort(-patch_consistency(P, alpha=1), kind="stable")[:20]
    assert_array_equal(outcome.indices, exact)


def test_identical_candidates_are_taken_in_their_order():
    P = np.repeat(table(1, 16, 2, 0), 50, axis=0)
    assert race(Table(P), 50, 16, 5).indices.tolist() == [0, 1, 2, 3, 4]


@given(m=st.integers(1, 64), size=st.integers(1, 64))
def test_stages_grow_and_leave_half(m, size):
    seen = stages(m, min(size, m))
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(seen))
    assert all(2 <= t <= m / 2 for t in seen)


@given(seed=st.integers(0, 999), m=st.integers(8, 20), t=st.integers(4, 8))
def test_few_candidates_exceed_their_hopes(seed, m, t):
    P = table(200, m, 2, seed)
    hopes = optimistic_scores(P[:, :t], 4)
    exact = patch_consistency(P, alpha=4 / m)
    assert (exact <= hopes).mean() >= 0.95
