"""Coverage against a literal greedy choice, and samples that stand for large pools."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aift_sklearn import selection
from aift_sklearn.errors import DataError, ParameterError
from aift_sklearn.selection import coverage as coverage_of
from aift_sklearn.selection import kernel_width, shares_of_pool, systematic_sample

module = importlib.import_module("aift_sklearn.selection.coverage")

# Points of which some coincide, and weights of which some are 0.
points = hnp.arrays(
    np.float64, st.tuples(st.integers(3, 25), st.just(2)), elements=st.integers(-3, 3)
)


def literal(points, weights, b, known, width, candidates=None):
    """Gains of every candidate that is left, pair by pair."""
    points, known = np.asarray(points, float), np.asarray(known, float).reshape(-1, points.shape[1])
    centre, spread = np.concatenate([points, known]).mean(0), np.concatenate([points, known]).std(0)
    spread = np.where(spread > 0, spread, 1)
    points, known = (points - centre) / spread, (known - centre) / spread

    def kernel(a, c):
        return np.exp(-((a - c) ** 2).sum() / width)

    picked = []
    for _ in range(b):
        best, gains = None, {}
        for x in range(len(points)) if candidates is None else candidates:
            if x in picked:
                continue
            gain = 0.0
            for i in range(len(points)):
                centres = [*known, *points[picked]]
                covered = max([kernel(points[i], c) for c in centres], default=0.0)
                gain += weights[i] * max(0.0, kernel(points[i], points[x]) - covered)
            gains[x] = gain
        best = max(gains, key=lambda x: (round(gains[x], 5), weights[x], -x))
        picked.append(best)
    return picked, gains


@given(points, st.integers(1, 4), st.integers(0, 3), st.sampled_from([0.3, 1.0, 4.0]), st.data())
def test_it_picks_what_covers_most_weight(points, b, n_known, width, data):
    weights = np.array(
        data.draw(st.lists(st.integers(0, 4), min_size=len(points), max_size=len(points)))
    )
    some = data.draw(st.none() | st.sets(st.sampled_from(range(len(points))), min_size=1))
    candidates = None if some is None else sorted(some)
    b = min(b, len(points) if some is None else len(some))
    known = points[:n_known] + 0.5
    expected, _ = literal(points, weights, b, known, width, candidates)
    picked = coverage_of(
        weights, b, points, known, candidates=candidates, directions=False, width=width
    ).tolist()
    assert len(set(picked)) == b
    assert some is None or set(picked) <= some
    # Up to gains that are equal but for rounding.
    for k in range(b):
        if picked[k] != expected[k]:
            _, gains = literal(points, weights, k + 1, known, width, candidates)
            assert gains[picked[k]] == pytest.approx(gains[expected[k]], abs=1e-4)
            break


def test_equals_are_picked_by_weight_and_then_by_index():
    same = np.zeros((6, 3))
    assert coverage_of([1, 2, 2, 1, 0, 3], 6, same, directions=False).tolist() == [5, 1, 2, 0, 3, 4]
    assert coverage_of(np.zeros(4), 3, np.eye(4)).tolist() == [0, 1, 2]


def test_directions_are_from_the_middle_of_the_pool():
    """All embeddings of a CNN share a large part, which tells no candidate from another."""
    rng = np.random.default_rng(0)
    directions = np.repeat(np.eye(4), 10, axis=0) + rng.normal(0, 0.02, (40, 4))
    shared = directions + 100
    picked = coverage_of(np.ones(40), 4, shared, width=0.2)
    assert sorted(picked // 10) == [0, 1, 2, 3]
    longer = 100 + directions * rng.uniform(1, 5, (40, 1))
    assert sorted(coverage_of(np.ones(40), 4, longer, width=0.2) // 10) == [0, 1, 2, 3]


def test_what_is_labelled_covers_too():
    rng = np.random.default_rng(1)
    centres = np.array([[9.0, 0], [0, 9], [-9, 0], [0, -9]])
    cloud = np.repeat(centres, 12, axis=0) + rng.normal(0, 0.3, (48, 2))
    picked = coverage_of(np.ones(48), 2, cloud, known=centres[:2])
    assert sorted(picked // 12) == [2, 3]


def test_weight_decides_between_equal_crowds():
    cloud = np.repeat(np.array([[9.0, 0], [0, 9], [-9, 0]]), 10, axis=0)
    weights = np.repeat([1.0, 3.0, 2.0], 10)
    picked = coverage_of(weights, 3, cloud, directions=False, width=0.5)
    assert (picked // 10).tolist() == [1, 2, 0]


def test_only_what_may_be_picked_is_embedded(monkeypatch):
    monkeypatch.setattr(module, "_MOST_CANDIDATES", 64)
    monkeypatch.setattr(module, "_MOST_REFERENCES", 16)
    rng = np.random.default_rng(2)
    X = rng.normal(size=(1000, 3))
    weights = rng.random(1000)
    weights[:500] = 0
    asked = []

    def embed(rows):
        asked.append(rows)
        return X[rows]

    picked = coverage_of(weights, 10, embed, rng=np.random.default_rng(3))
    assert len(set(picked.tolist())) == 10
    assert len(asked) == 1
    assert len(np.unique(asked[0])) == 64
    assert set(picked.tolist()) <= set(asked[0].tolist())
    assert (picked >= 500).all()
    again = coverage_of(weights, 10, X, rng=np.random.default_rng(3))
    assert again.tolist() == picked.tolist()


def test_of_a_large_pool_a_few_are_picked_and_a_sample_is_covered(monkeypatch):
    monkeypatch.setattr(module, "_MOST_CANDIDATES", 64)
    monkeypatch.setattr(module, "_MOST_REFERENCES", 16)
    X = np.random.default_rng(2).normal(size=(1000, 3))
    asked = []

    def embed(rows):
        asked.append(rows)
        return X[rows]

    picked = coverage_of(np.ones(1000), 10, embed, candidates=range(900, 940))
    assert len(set(picked.tolist())) == 10
    assert picked.min() >= 900
    assert set(range(900, 940)) < set(asked[0].tolist())
    assert len(asked[0]) <= 56
    picked = coverage_of(np.ones(1000), 10, embed, candidates=np.arange(1000)[::-1][:300])
    assert len(set(picked.tolist())) == 10
    assert picked.min() >= 700
    assert len(asked[1]) <= 80
    with pytest.raises(ParameterError, match="n_instances=10 of 9 candidates"):
        coverage_of(np.ones(1000), 10, embed, candidates=range(9))


@pytest.mark.parametrize(
    "candidates",
    [[True, False, True, True, False], [1, 1, 2], [0.0, 1.0], [-1, 2], [1, 5], [[1, 2]]],
)
def test_what_cannot_be_picked_is_refused(candidates):
    with pytest.raises(ParameterError, match="expected different indices into 5 candidates"):
        coverage_of(np.ones(5), 1, np.eye(5), candidates=candidates)


def test_a_sample_covers_about_as_much_as_the_whole_pool(monkeypatch):
    rng = np.random.default_rng(4)
    cloud = np.repeat(rng.normal(0, 4, (12, 3)), 100, axis=0) + rng.normal(0, 0.3, (1200, 3))

    def covered(picked):
        distance = ((cloud[:, None] - cloud[picked]) ** 2).sum(axis=2)
        return np.exp(-distance.min(axis=1)).mean()

    whole = covered(coverage_of(np.ones(1200), 12, cloud, directions=False, width=0.2))
    monkeypatch.setattr(module, "_MOST_CANDIDATES", 300)
    monkeypatch.setattr(module, "_MOST_REFERENCES", 150)
    sampled = covered(coverage_of(np.ones(1200), 12, cloud, directions=False, width=0.2))
    random = covered(rng.choice(1200, 12, replace=False))
    assert sampled > 0.9 * whole > random


def test_a_pool_in_which_few_weigh_nearly_all_still_gives_b(monkeypatch):
    monkeypatch.setattr(module, "_MOST_CANDIDATES", 8)
    weights = np.full(50, 1e-12)
    weights[7] = 1
    picked = coverage_of(weights, 6, np.random.default_rng(0).normal(size=(50, 2)))
    assert len(set(picked.tolist())) == 6
    assert picked[0] == 7
    assert len(set(coverage_of(np.zeros(50), 6, np.eye(50)).tolist())) == 6


@given(
    hnp.arrays(
        np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 0.5, 1.0, 7.0])
    ).filter(lambda w: w.any()),
    st.integers(1, 60),
    st.integers(0, 20),
)
def test_systematic_samples_draw_each_as_often_as_it_weighs(weights, size, seed):
    drawn = systematic_sample(weights, size, np.random.default_rng(seed))
    expected = weights / weights.sum() * size
    counts = np.bincount(drawn, minlength=len(weights))
    assert drawn.shape == (size,)
    assert (np.diff(drawn) >= 0).all()
    # Never more than one off what is due, and none without weight.
    assert (np.abs(counts - expected) < 1 + 1e-9).all()
    assert not counts[weights == 0].any()


def test_the_width_is_the_mean_squared_distance_to_the_nearest_other(monkeypatch):
    X = np.random.default_rng(5).normal(size=(20, 4))
    distance = ((X[:, None] - X) ** 2).sum(axis=2) + np.diag(np.full(20, np.inf))
    assert kernel_width(X) == pytest.approx(distance.min(axis=1).mean(), 1e-5)
    monkeypatch.setattr(module, "_MOST_REFERENCES", 7)
    monkeypatch.setattr(module, "_BLOCK", 40)
    assert kernel_width(X) == pytest.approx(distance.min(axis=1)[::3].mean(), 1e-5)
    assert kernel_width(X[:1]) == kernel_width(np.zeros((5, 4))) == 1e-3


@given(points, st.integers(1, 3))
def test_shares_count_who_lies_nearest(points, n_known):
    known = points[:n_known]
    scale = np.concatenate([points, known]).std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    counts = np.ones(n_known)
    for point in points:
        counts[(((point - known) / scale) ** 2).sum(axis=1).argmin()] += 1
    found = shares_of_pool(points, known, directions=False)
    assert found.mean() == pytest.approx(1)
    # A point midway may go to either.
    assert np.abs(found - counts / counts.mean()).sum() <= 2 * len(points) / counts.sum() * n_known
    if n_known == 1:
        assert found.tolist() == [1.0]


def test_shares_of_a_sample_are_those_of_the_pool():
    pool = np.repeat(np.array([[0.0], [9.0]]), [300, 100], axis=0)
    whole = shares_of_pool(pool, pool[[0, 399]], directions=False)
    sample = shares_of_pool(pool[::10], pool[[0, 399]], directions=False, n=400)
    np.testing.assert_allclose(whole, np.array([301, 101]) / 201)
    np.testing.assert_allclose(sample, whole)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights": [1, -1, 1]}, DataError, "a weight is -1"),
        ({"weights": [1, np.nan, 1]}, DataError, "NaN or infinity"),
        ({"n_instances": 4}, DataError, "n_instances=4 of a pool of 3"),
        ({"n_instances": 0}, ParameterError, "n_instances=0"),
        ({"width": 0.0}, ParameterError, "^width=0.0"),
        ({"width": np.inf}, ParameterError, "^width=inf"),
        ({"known": np.zeros((2, 5))}, DataError, "have 5 numbers each, and those of the pool 3"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    given = {"weights": np.ones(3), "n_instances": 1, "embeddings": np.eye(3)} | change
    with pytest.raises(error, match=message):
        selection.coverage(**given)
