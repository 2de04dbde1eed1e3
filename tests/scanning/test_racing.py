"""Races return exact scores, evaluate no patch twice, and hardly lose a winner."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from races import Table, run, softmax, table
from samples import SHARED, binary

from aift_sklearn import patch_consistency
from aift_sklearn.errors import ParameterError
from aift_sklearn.scanning.racing import plausible_scores, race, stages

consistencies = st.fixed_dictionaries(
    {
        "entropy_weight": st.sampled_from([1.0, 0.0, 2.5]),
        "diversity_weight": st.sampled_from([1.0, 0.0, 0.3]),
        "reduction": st.sampled_from(["sum", "mean"]),
        "eps": st.sampled_from([None, 1e-7, 1e-3]),
    }
)


def exact_top(P, b, **consistency):
    return np.argsort(-patch_consistency(P, **consistency), kind="stable")[:b]


def recall(P, b, outcome, **consistency):
    return np.isin(exact_top(P, b, **consistency), outcome.indices).mean()


@settings(deadline=None, max_examples=120)
@given(
    n=st.integers(1, 120),
    m=st.integers(1, 20),
    K=st.integers(1, 5),
    b=st.integers(1, 120),
    alpha=st.floats(0.05, 1),
    consistency=consistencies,
    spread=st.sampled_from([0.01, 1.0, 6.0, 40.0]),
    seed=st.integers(0, 99),
)
def test_scores_are_exact_and_no_patch_is_seen_twice(n, m, K, b, alpha, consistency, spread, seed):
    b = min(b, n)
    consistency["alpha"] = alpha
    P = table(n, m, K, seed, spread)
    evaluate = Table(P)
    outcome = race(evaluate, n, m, b, **consistency)
    exact = patch_consistency(P, **consistency)
    assert len(set(outcome.indices.tolist())) == b
    assert_array_equal(outcome.scores, exact[outcome.indices])
    assert (np.diff(outcome.scores) <= 0).all()
    ties = np.diff(outcome.scores) == 0
    assert (np.diff(outcome.indices)[ties] > 0).all()
    assert evaluate.seen.max() == 1
    assert_allclose(outcome.cost, evaluate.seen.mean())
    # Nobody who was scored in full and left out is better.
    full = evaluate.seen.all(axis=1)
    full[outcome.indices] = False
    assert not full.any() or exact[full].max() <= outcome.scores.min()


@pytest.mark.parametrize("K", [2, 3, 10])
def test_a_race_costs_a_fraction_and_finds_the_best(K):
    costs, recalls = [], []
    for seed in range(6):
        P = table(2000, 16, K, seed)
        evaluate = Table(P)
        outcome = race(evaluate, 2000, 16, 20)
        assert evaluate.seen.max() == 1
        costs.append(outcome.cost)
        recalls.append(recall(P, 20, outcome))
    assert np.mean(recalls) >= 0.99
    assert np.mean(costs) < 0.45


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01, 0.001])
def test_a_race_among_scores_that_are_nearly_equal_is_a_race(spread):
    """As over a strongly regularised head, where all probabilities are near a half."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 1, 1)) + 0.05 * rng.normal(size=(3000, 16, 1))
    P = softmax(spread * np.concatenate([logits, -logits], axis=2))
    outcome = run(P, 20)
    assert recall(P, 20, outcome) >= 0.95
    assert outcome.cost <= 0.5


@pytest.mark.parametrize("seed", range(3))
def test_where_first_patches_tell_nothing_it_becomes_a_full_pass(seed):
    """All say one thing, and the others another: those who dropped out are found again."""
    rng = np.random.default_rng(seed)
    first = 0.9 + 0.01 * rng.random((400, 6))
    later = 1 / (1 + np.exp(rng.normal(1.5, 1, (400, 10))))
    p = np.concatenate([first, later], axis=1)
    P = np.stack([p, 1 - p], axis=2).astype(np.float32)
    outcome = run(P, 20)
    assert recall(P, 20, outcome) >= 0.95
    assert outcome.cost > 0.8


def misjudged(n, b, places):
    """Candidates whose order is that of their scores, but for some who are the best.

    All patches of a candidate say the same, so that 1.5·b are scored in full and all others drop
    out. The last patches of those at some places among these, counted from the bar, contradict.
    """
    p = 0.5 + 0.3 * np.arange(n) / n
    P = np.repeat(binary(p).astype(np.float32)[:, None], 16, axis=1)
    hidden = int(1.5 * b) + np.array(places)
    P[hidden, 12:] = binary([0.9, 0.9, 0.7, 0.7])
    exact = patch_consistency(P)
    bar = np.sort(exact)[-b]
    # A surprise need not be a large one.
    assert (exact[hidden] > bar).all()
    assert (exact[hidden] < 2 * patch_consistency(P[hidden, :12], alpha=1 / 3)).all()
    return P, hidden


@pytest.mark.parametrize(
    ("b", "places"),
    [
        (20, [0]),
        (20, [19]),
        # Where one is found, ten more are looked at, and of many that are asked for half as many.
        (20, [0, 45]),
        (100, [0, 80]),
        # Where half of the best are found so, an eighth of the pool.
        (20, [*range(10), 330]),
    ],
    ids=["the nearest", "of a hundredth", "and ten more", "and half of b more", "and an eighth"],
)
def test_those_who_dropped_out_near_the_bar_are_looked_at_again(b, places):
    P, hidden = misjudged(2000, b, places)
    outcome = run(P, b)
    assert np.isin(hidden, outcome.indices).all()
    assert_array_equal(outcome.indices, exact_top(P, b))
    assert outcome.cost < 0.6


@pytest.mark.parametrize("seed", range(8))
def test_a_race_that_saves_little_misses_nobody(seed):
    """Patches of a candidate differ as much as candidates do, as over a strongly shrunk head."""
    rng = np.random.default_rng(seed)
    logits = 0.5 * rng.normal(size=(2000, 1, 1)) + rng.normal(size=(2000, 16, 1))
    P = softmax(0.4 * np.concatenate([logits, -logits], axis=2))
    outcome = run(P, 20)
    assert outcome.cost == 1
    assert recall(P, 20, outcome) == 1


@pytest.mark.skipif(not (SHARED / "data").exists(), reason="the real images are not at hand")
def test_a_race_over_a_shrunk_head_on_radiographs_misses_nobody():
    from sklearn.linear_model import LogisticRegression

    from aift_sklearn import AffinePatches, CNNFeatures
    from aift_sklearn.scanning.engine import EstimatorEngine
    from aift_sklearn.scanning.model import PatchModel
    from aift_sklearn.scanning.pool_pass import PoolPass
    from aift_sklearn.study import load_npz

    data = load_npz(SHARED / "data" / "pneumoniamnist.npz", max_pool=600, random_state=0)
    patches = AffinePatches.for_radiographs().fit(data.X)
    model = PatchModel(CNNFeatures().fit(data.X[:1]), patches, np.empty(0), 4, 1)
    E = PoolPass(EstimatorEngine(model)).embed_patches(data.X)
    recalls = []
    for n in (40, 100, 200):
        head = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
        head.fit(E[:n, ::4].reshape(4 * n, -1), np.repeat(data.y[:n], 4))
        pool = E[n:].reshape(-1, E.shape[2])
        P = head.predict_proba(pool).reshape(-1, 16, 2).astype(np.float32)
        recalls.append(recall(P, 20, run(P, 20)))
    assert np.mean(recalls) >= 0.99


def test_those_who_dropped_out_are_looked_at_again():
    """One candidate looks as sure as its neighbours, and is the best."""
    P = np.repeat(table(600, 1, 2, 0), 16, axis=1)
    order = exact_top(P, 600)
    hidden = order[21]
    P[hidden, 12:] = [[0.999, 0.001], [0.001, 0.999], [0.5, 0.5], [0.7, 0.3]]
    P[hidden, :12] = P[order[21], 0]
    assert hidden in exact_top(P, 20)
    assert hidden in run(P, 20).indices


@given(m=st.integers(1, 40), alpha=st.floats(2 / 3, 1), K=st.integers(2, 3))
@settings(deadline=None, max_examples=40)
def test_where_most_patches_count_there_is_no_race(m, alpha, K):
    P = table(60, m, K, 0)
    evaluate = Table(P)
    outcome = race(evaluate, 60, m, 5, alpha=alpha)
    assert outcome.cost == 1
    assert evaluate.calls == [(60, list(range(m)))]
    assert_array_equal(outcome.indices, exact_top(P, 5, alpha=alpha))


def test_where_a_little_less_than_two_thirds_count_there_is_one():
    P = table(2000, 20, 2, 0)
    outcome = run(P, 20, alpha=0.65)
    assert recall(P, 20, outcome, alpha=0.65) >= 0.95
    assert outcome.cost < 0.8


@pytest.mark.parametrize(("n", "b"), [(1, 1), (30, 30), (30, 20), (200, 199)])
def test_asking_for_nearly_all_is_one_full_pass(n, b):
    P = table(n, 16, 3, 0)
    evaluate = Table(P)
    outcome = race(evaluate, n, 16, b)
    assert outcome.cost == 1
    assert evaluate.calls == [(n, list(range(16)))]
    assert_array_equal(outcome.indices, exact_top(P, b))


def test_identical_candidates_are_taken_in_their_order():
    P = np.repeat(table(1, 16, 2, 0), 200, axis=0)
    assert run(P, 5).indices.tolist() == [0, 1, 2, 3, 4]
    P[:] = P[:, :1]
    outcome = run(P, 5)
    assert outcome.indices.tolist() == [0, 1, 2, 3, 4]
    assert outcome.cost < 0.3


def test_where_nearly_all_are_certain_the_first_fill_up():
    """Fewer than b score above 0; who can only draw level with the bar is no reason to go on."""
    P = np.zeros((2000, 16, 3), dtype=np.float32)
    P[..., 0] = 1
    torn = [100, 900, 1500]
    P[torn] = [0.4, 0.3, 0.3]
    outcome = run(P, 20)
    assert_array_equal(outcome.indices, torn + list(range(17)))
    assert outcome.cost < 0.3


def test_wrong_parameters_are_refused_before_anything_is_evaluated():
    for wrong in ({"alpha": 0}, {"reduction": "max"}, {"eps": 2}, {"diversity_weight": -1}):
        evaluate = Table(table(10, 4, 2, 0))
        with pytest.raises(ParameterError):
            race(evaluate, 10, 4, 2, **wrong)
        assert evaluate.calls == []


@given(m=st.integers(1, 64), size=st.integers(1, 64))
@example(m=16, size=16)
def test_stages_grow_and_leave_a_quarter(m, size):
    seen = stages(m, min(size, m))
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(seen))
    assert not seen or seen[0] == max(2, math.ceil(0.75 * min(size, m)))
    assert not seen or (seen[0] <= m / 2 and seen[-1] <= 0.75 * m < 2 * seen[-1])
    assert seen or max(2, 0.75 * min(size, m)) > m / 2 - 1


def slow_score(P, size, entropy_weight, diversity_weight, reduction, eps, place=0):
    """Score of one candidate, scaled to ``size`` patches, by double loops.

    The class that comes first by its mean has the majority, or that in another place.
    """
    eps = 2.0**-52 if eps is None else eps
    P = P.astype(np.float64)
    leading = P[:, np.argsort(-P.mean(axis=0), kind="stable")[place]]
    kept = P[np.argsort(-leading, kind="stable")[:size]]
    s = len(kept)
    entropies = [-(p * np.log(p + eps)).sum() for p in kept]
    pairs = [
        ((p - q) * (np.log(p + eps) - np.log(q + eps))).sum()
        for p, q in itertools.permutations(kept, 2)
    ]
    score = entropy_weight * np.mean(entropies)
    contradiction = diversity_weight * (np.mean(pairs) if s > 1 else 0)
    if reduction == "mean":
        return score + contradiction
    return size * score + size * (size - 1) * contradiction


@settings(deadline=None, max_examples=60)
@given(
    t=st.integers(2, 7),
    size=st.integers(2, 6),
    K=st.integers(2, 4),
    consistency=consistencies,
    seed=st.integers(0, 99),
)
def test_plausible_scores_are_those_of_a_jackknife(t, size, K, consistency, seed):
    P = table(5, t, K, seed, spread=1)
    low, high = plausible_scores(P, size, **consistency)
    for candidate, lowest, highest in zip(P, low, high, strict=True):
        score = slow_score(candidate, size, **consistency)
        without = [
            slow_score(np.delete(candidate, j, axis=0), size, **consistency) for j in range(t)
        ]
        error = np.sqrt((t - 1) / t * np.sum((without - np.mean(without)) ** 2))
        expected = score + error
        first, second = np.argsort(-candidate.mean(axis=0))[:2]
        lead = candidate[:, first].astype(float) - candidate[:, second]
        if lead.mean() <= 2 * np.sqrt(lead.var(ddof=1) / t):
            expected = max(expected, slow_score(candidate, size, **consistency, place=1))
        assert_allclose(lowest, min(without), rtol=1e-6, atol=1e-9)
        assert_allclose(highest, expected, rtol=1e-6, atol=1e-9)


def test_the_error_of_a_mean_is_that_of_statistics():
    """Of entropies alone, where all patches seen count, it has a closed form."""
    P = table(50, 5, 4, 0, spread=3)
    entropies = -(P * np.log(P)).sum(axis=2, dtype=np.float64)
    _, high = plausible_scores(P, 8, diversity_weight=0)
    # Where the majority is another, all count as well.
    error = entropies.std(axis=1, ddof=1) / np.sqrt(5)
    assert_allclose(high, 8 * (entropies.mean(axis=1) + error), rtol=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("t", [3, 4, 9])
def test_equal_patches_leave_nothing_open(reduction, t):
    P = np.repeat(table(40, 1, 3, 0), 16, axis=1)
    low, high = plausible_scores(P[:, :t], 4, reduction=reduction)
    exact = patch_consistency(P, alpha=0.25, reduction=reduction)
    assert_allclose(low, exact, rtol=1e-9, atol=1e-12)
    assert_allclose(high, exact, rtol=1e-9, atol=1e-12)


def test_plausible_scores_of_many_are_those_of_few():
    P = table(3000, 12, 4, 0)
    whole = np.stack(plausible_scores(P, 4))
    parts = [np.stack(plausible_scores(part, 4)) for part in np.array_split(P, 7)]
    assert_array_equal(whole, np.concatenate(parts, axis=1))
    assert np.stack(plausible_scores(P[:0], 4)).shape == (2, 0)


@given(seed=st.integers(0, 999), m=st.integers(8, 20), t=st.integers(4, 8))
@example(seed=272, m=8, t=4)
def test_few_candidates_exceed_what_is_plausible(seed, m, t):
    P = table(200, m, 2, seed)
    low, high = plausible_scores(P[:, :t], 4)
    exact = patch_consistency(P, alpha=4 / m)
    assert (low <= high).all()
    assert (exact <= high).mean() >= 0.93
