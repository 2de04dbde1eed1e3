"""Typical candidates against clusters that can be seen, and a literal mean distance."""

import numpy as np
import pytest

from aift_sklearn.errors import DataError
from aift_sklearn.selection import most_typical, typical
from aift_sklearn.selection._points import as_directions


def blobs(centres, n, spread, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(c, spread, (n, len(centres[0]))) for c in centres])


@pytest.mark.parametrize("seed", range(5))
def test_tables_are_compared_by_position_and_networks_by_direction(seed):
    # Two lengths along one direction, and two directions of one length.
    by_length = blobs([(1, 1), (9, 9)], 20, 0.05, seed)
    by_angle = blobs([(5, 1), (1, 5)], 20, 0.05, seed)
    rng = np.random.default_rng(seed)
    picked = most_typical(by_length, 2, directions=False, rng=rng)
    assert sorted(picked // 20) == [0, 1]
    # By direction all of them are one cluster of noise: the length changes nothing.
    longer = by_length * np.linspace(1, 50, 40)[:, None]
    rescaled = (by_length, longer, by_length * 1e-3)
    same = [most_typical(X, 2, rng=np.random.default_rng(seed)).tolist() for X in rescaled]
    assert same[0] == same[1] == same[2]
    assert sorted(most_typical(by_angle, 2, rng=rng) // 20) == [0, 1]


def test_columns_of_a_table_count_alike_whatever_their_units():
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    table = np.stack([rng.normal(size=60) * 1e4, label + rng.normal(0, 0.01, 60)], axis=1)
    table[:, 0] = 1e4 * np.clip(table[:, 0] / 1e4, -1, 1) * 0.01
    for scale in (1.0, 1e-6, 1e6):
        scaled = table * [1.0, scale]
        picked = most_typical(scaled, 2, directions=False, rng=np.random.default_rng(1))
        assert sorted(label[picked]) == [0, 1]


def test_a_column_that_does_not_vary_changes_nothing():
    table = blobs([(0.0, 0.0), (6.0, 6.0)], 15, 0.3)
    constant = np.column_stack([table, np.full(30, 7.0)])
    seeds = [np.random.default_rng(0), np.random.default_rng(0)]
    np.testing.assert_array_equal(
        most_typical(table, 4, directions=False, rng=seeds[0]),
        most_typical(constant, 4, directions=False, rng=seeds[1]),
    )


def test_within_a_cluster_the_nearest_to_its_neighbours_is_taken():
    table = blobs([(0.0, 0.0)], 12, 1.0)
    standard = (table - table.mean(axis=0)) / table.std(axis=0)
    gaps = np.linalg.norm(standard[:, None] - standard[None], axis=2)
    # Fewer than 20 neighbours: all of the cluster count.
    nearest = int((gaps.sum(axis=1) / 11).argmin())
    picked = most_typical(table, 1, directions=False, rng=np.random.default_rng(0))
    assert picked.tolist() == [nearest]


def test_lengths_of_zero_have_no_direction_and_do_no_harm():
    points = np.zeros((5, 3))
    picked = most_typical(points, 3, rng=np.random.default_rng(0))
    assert len(set(picked.tolist())) == 3
    assert np.isfinite(as_directions(points.astype(np.float32))).all()


def slow_typicality(points, cluster, n_searched):
    """Minus the mean distance to the 20 nearest of those that are searched, one by one."""
    result = np.zeros(len(points))
    for i, c in enumerate(cluster):
        members = np.flatnonzero(cluster == c)
        # Every second where at most half may be searched, and so on.
        step = next(k for k in range(1, 999) if len(members[::k]) <= n_searched)
        others = [j for j in members[::step] if j != i]
        n_nearest = min(20, len(members[::step]) - 1)
        gaps = sorted(np.linalg.norm(points[i] - points[j]) for j in others)
        result[i] = -np.mean(gaps[:n_nearest]) if n_nearest else 0
    return result


@pytest.mark.parametrize("n_searched", [4096, 25, 10, 3])
def test_typicality_is_a_literal_mean_distance(n_searched, monkeypatch):
    monkeypatch.setattr(typical, "_MAX_SEARCHED", n_searched)
    points = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    cluster = np.random.default_rng(1).permutation(np.repeat(range(6), [1, 2, 3, 4, 20, 50]))
    np.testing.assert_allclose(
        typical._typicality(points, cluster),
        slow_typicality(points, cluster, n_searched),
        rtol=1e-5,
    )


@pytest.mark.parametrize("seed", range(4))
def test_there_is_a_cluster_more_for_each_that_is_labelled(seed):
    centres = [(5, 0), (0, 5), (-5, 0), (0, -5)]
    points = blobs(centres, 20, 0.2, seed)
    known = points[[3, 27]]
    picked = most_typical(points, 2, known=known, rng=np.random.default_rng(seed))
    assert sorted(picked // 20) == [2, 3]


def test_there_are_no_more_clusters_than_points():
    """Of which k-means would warn."""
    points = np.repeat([[1.0, 2.0], [3.0, -4.0]], 5, axis=0)
    picked = most_typical(points, 6, rng=np.random.default_rng(0))
    assert np.bincount(picked // 5).tolist() == [3, 3]


def test_more_than_there_are_cannot_be_picked():
    with pytest.raises(DataError, match="asked for n_instances=4 of a pool of 3"):
        most_typical(np.eye(3), 4, rng=np.random.default_rng(0))


def test_embeddings_in_half_precision_are_not_squared_in_it():
    points = blobs([(300, 5), (5, 300), (-300, 5)], 20, 4.0).astype(np.float16)
    exact = points.astype(np.float64)
    for known in (None, [3]):
        halves, doubles = (
            most_typical(
                X, 2, known=None if known is None else X[known], rng=np.random.default_rng(0)
            ).tolist()
            for X in (points, exact)
        )
        assert halves == doubles
    mixed = most_typical(exact, 2, known=points[[3]], rng=np.random.default_rng(0))
    assert sorted(mixed // 20) == [1, 2]
