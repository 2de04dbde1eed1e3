"""The first batch: typical candidates, random ones, or the pre-trained scores."""

import inspect

import modAL.models
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from fakes import TableModel
from modAL.uncertainty import classifier_uncertainty
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, aift_sampling, scores
from aift_sklearn.errors import DataError
from aift_sklearn.query import make_query_strategy
from aift_sklearn.query.pool import embeddings
from aift_sklearn.selection import top, typical

RETURNS_METRICS = "return_metrics" in inspect.signature(modAL.models.ActiveLearner.query).parameters
POOL = np.arange(40.0)[:, None]


def indices_of(result):
    return result[0] if RETURNS_METRICS else result


def ask(*args, **params):
    return indices_of(aift_sampling(*args, **params))


def clusters(sizes, seed=0):
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, np.pi, len(sizes))
    centres = 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    label = np.repeat(np.arange(len(sizes)), sizes)
    return centres[label] + rng.normal(0, 0.3, (len(label), 2)), label


def test_typical_takes_one_of_each_cluster_largest_first():
    points, label = clusters([30, 50, 20, 40])
    picked = typical.most_typical(points, 4, rng=np.random.default_rng(0))
    assert label[picked].tolist() == [1, 3, 0, 2]


def test_typical_has_the_nearest_neighbours_of_its_cluster():
    points, label = clusters([40, 40])
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    for i in typical.most_typical(points, 2, rng=np.random.default_rng(1)):
        members = np.flatnonzero(label == label[i])
        gaps = np.linalg.norm(directions[members, None] - directions[members], axis=2)
        nearest = np.sort(gaps, axis=1)[:, 1:21].mean(axis=1)
        assert members[nearest.argmin()] == i


def test_typical_keeps_away_from_what_is_labelled():
    points, label = clusters([50, 40, 30])
    known = points[label == 0][:1]
    picked = typical.most_typical(points, 2, known=known, rng=np.random.default_rng(0))
    assert sorted(label[picked]) == [1, 2]


def test_typical_takes_turns_when_points_coincide():
    points = np.repeat([[1.0, 0.0], [0.0, 1.0]], 5, axis=0)
    picked = typical.most_typical(points, 6, rng=np.random.default_rng(0))
    assert len(set(picked.tolist())) == 6
    assert np.bincount(picked // 5).tolist() == [3, 3]


def test_typical_embeds_a_subset_of_a_large_pool(monkeypatch):
    monkeypatch.setattr("aift_sklearn.query.cold_start._MAX_EMBEDDED", 30)
    points, _ = clusters([100, 100])
    embedded = []
    model = TableModel(None)
    model.embed = lambda X: embedded.append(len(X)) or X
    picked = ask(model, points, 4, random_state=0)
    assert embedded == [30]
    assert len(set(picked.tolist())) == 4
    assert picked.max() > 30
    assert len(set(ask(model, points, 80, random_state=0).tolist())) == 80


def test_typical_of_features_minds_scale_and_position_not_direction():
    rng = np.random.default_rng(0)
    points = np.repeat([[1.0, 1.0], [5.0, 5.0]], 30, axis=0) + rng.normal(0, 0.2, (60, 2))
    points[:, 1] *= 1e-3
    clf = AIFTClassifier(LogisticRegression())
    for seed in range(10):
        assert sorted(ask(clf, points, 2, random_state=seed) // 30) == [0, 1]


def test_typical_is_found_where_only_some_neighbours_are_searched(monkeypatch):
    points, label = clusters([200, 200])
    monkeypatch.setattr(typical, "_MAX_SEARCHED", 60)
    picked = typical.most_typical(points, 2, rng=np.random.default_rng(0))
    assert sorted(label[picked]) == [0, 1]


@pytest.mark.parametrize("cold_start", ["typical", "random"])
def test_groups_take_turns_in_the_cold_start_too(cold_start):
    points, _ = clusters([30, 30])
    groups = np.arange(60) % 5
    clf = AIFTClassifier(LogisticRegression())
    picked = ask(clf, points, 5, groups=groups, cold_start=cold_start, random_state=0)
    assert sorted(groups[picked]) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="groups has shape"):
        ask(clf, points, 5, groups=["a"], cold_start=cold_start)


@pytest.mark.parametrize("cold_start", ["typical", "random"])
def test_of_each_group_the_first_is_asked_for_in_the_cold_start(cold_start):
    points, _ = clusters([30, 30])
    groups = np.random.default_rng(0).integers(0, 5, 60)
    clf = AIFTClassifier(LogisticRegression())
    ranked = ask(clf, points, 20, cold_start=cold_start, random_state=0).tolist()
    firsts = [next(i for i in ranked if groups[i] == group) for group in range(5)]
    picked = ask(clf, points, 5, groups=groups, cold_start=cold_start, random_state=0)
    assert picked.tolist() == sorted(firsts, key=ranked.index)


def test_cold_start_of_an_untrained_network_looks_at_pixels():
    X, y = make_blobs(40)
    own = CNNClassifier(nn.LazyConv2d(4, 3), pretrained=False)
    picked = ask(AIFTClassifier(own, patches=AffinePatches(2)), X, 10, random_state=0)
    assert set(y[picked]) == {"disc", "empty"}


def test_cold_start_uses_flat_features_where_nothing_embeds():
    points, label = clusters([30, 20, 25])
    clf = AIFTClassifier(LogisticRegression())
    assert not hasattr(clf, "embed")
    assert sorted(label[ask(clf, points, 3, random_state=0)]) == [0, 1, 2]


def test_cold_start_lasts_until_two_classes_are_known():
    points, label = clusters([30, 20, 25])
    clf = AIFTClassifier(LogisticRegression(), classes=[0, 1, 2])
    clf.partial_fit(points[:1], label[:1])
    assert sorted(label[ask(clf, points, 2, random_state=0)]) == [1, 2]
    clf.partial_fit(points[[0, 40]], label[[0, 40]])
    expected = top(clf.score_candidates(points), 2)
    assert ask(clf, points, 2, selection="top").tolist() == expected.tolist()


def test_random_cold_start_is_seeded_and_distinct():
    clf = AIFTClassifier(LogisticRegression())
    draws = [ask(clf, POOL, 20, cold_start="random", random_state=s).tolist() for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 20


def test_a_random_cold_start_embeds_nothing():
    def embed(X):
        raise AssertionError("candidates were embedded")

    model = TableModel(None)
    model.embed = embed
    assert len(set(ask(model, POOL, 5, cold_start="random", random_state=0).tolist())) == 5


def test_pretrained_cold_start_scores_imagenet_classes():
    X, _ = make_blobs(12, size=32)
    clf = AIFTClassifier(CNNClassifier(), patches=AffinePatches(4))
    got = ask(clf, X, 3, cold_start="pretrained")
    expected = top(scores.patch_consistency(clf.pretrained_patch_proba(X)), 3)
    assert got.tolist() == expected.tolist()
    assert len(set(ask(clf, X, 3, cold_start="typical", random_state=0).tolist())) == 3


class Lazy2D:
    """A table on disk: it slices, and notes how many rows are read at once."""

    def __init__(self, X):
        self.X, self.shape, self.dtype, self.read = X, X.shape, X.dtype, []

    def __getitem__(self, key):
        self.read.append(len(self.X[key]))
        return self.X[key]


@pytest.mark.parametrize(
    ("n_features", "part", "most"), [(2, 8 * 2 * 10, 10), (1, 8 * 10, 10), (2, 1, 1)]
)
def test_tables_on_disk_are_read_in_parts(n_features, part, most, monkeypatch):
    """As large as are allowed, of numbers in double precision, and one row at least."""
    points = clusters([30, 20, 25])[0][:, :n_features]
    monkeypatch.setattr("aift_sklearn.query.pool._CHUNK_BYTES", part)
    strategy = make_query_strategy(classifier_uncertainty)
    plain = indices_of(strategy(LogisticRegression(), points, 3, random_state=0))
    lazy = Lazy2D(points)
    picked = indices_of(strategy(LogisticRegression(), lazy, 3, random_state=0))
    np.testing.assert_array_equal(picked, plain)
    assert max(lazy.read) == most


def test_embeddings_take_four_bytes_a_number_whatever_gives_them():
    model = TableModel(None)
    model.embed = lambda X: np.asarray(X, dtype=np.float64)
    assert embeddings(model, POOL).dtype == np.float32
    assert embeddings(LogisticRegression(), POOL).dtype == np.float32


@pytest.mark.parametrize(
    "kind",
    [
        *(sp.csr_matrix, sp.coo_matrix, sp.csc_array, pd.DataFrame, list, torch.from_numpy),
        lambda X: pd.DataFrame(X, index=np.linspace(9.5, 1, len(X))),
    ],
)
def test_tables_of_any_kind_start_alike(kind):
    points, _ = clusters([30, 20, 25])
    strategy = make_query_strategy(classifier_uncertainty, selection="k-centre", omega=2)
    plain = indices_of(strategy(LogisticRegression(), points, 3, random_state=0))
    other = indices_of(strategy(LogisticRegression(), kind(points), 3, random_state=0))
    np.testing.assert_array_equal(other, plain)


def test_the_scale_of_a_table_counts_and_its_direction_does_not():
    """Two groups that lie in one direction: by direction alone they would be one."""
    rng = np.random.default_rng(0)
    length = np.where(np.arange(60) % 2, 9.0, 1.0)
    table = length[:, None] * [[1.0, 1e-3]] + rng.normal(0, 0.05, (60, 2)) * [1.0, 1e-3]
    for seed in range(5):
        picked = ask(AIFTClassifier(LogisticRegression()), table, 2, random_state=seed)
        assert sorted(picked % 2) == [0, 1]


def test_a_table_that_a_network_embeds_is_compared_by_direction():
    class Embeds(LogisticRegression):
        def embed(self, X):
            return np.asarray(X)

    class Inside(TableModel):
        estimator = Embeds()

        def embed(self, X):
            return np.asarray(X)

    for seed in range(8):
        picked = ask(Inside(None), two_directions(seed), 2, random_state=seed)
        assert sorted(picked % 2) == [0, 1]


def two_directions(seed):
    """Every other point lies in another direction; by position, the near and the far are apart."""
    rng = np.random.default_rng(seed)
    angle = np.where(np.arange(60) % 2, 0.74, 0.76)
    length = rng.permutation([1.0, 100.0] * 30) * rng.uniform(0.9, 1.1, 60)
    return length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_images_are_compared_by_direction_where_nothing_embeds_them():
    for seed in range(8):
        images = two_directions(seed).reshape(60, 1, 1, 2)
        assert sorted(ask(TableModel(None), images, 2, random_state=seed) % 2) == [0, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_candidate_without_an_embedding_is_named(bad):
    points, _ = clusters([20, 20])
    broken = points.copy()
    broken[[7, 30], 1] = bad
    model = TableModel(None)
    model.embed = lambda X: X
    with pytest.raises(DataError, match=r"candidate 7 of the pool.* 2 in all"):
        ask(model, broken, 2)
    taught = TableModel(np.random.default_rng(0).dirichlet([1, 1], (40, 3)))
    taught.partial_fit(POOL[:2], [0, 1]).embed = lambda X: np.where(np.asarray(X) == 9, bad, X)
    worst_first = np.argsort(-taught.score_candidates(POOL)).tolist()
    omega = worst_first.index(9) + 1
    with pytest.raises(DataError, match="candidate 9 of the pool"):
        ask(taught, POOL, 1, selection="k-centre", omega=omega)


def test_a_table_that_holds_words_is_refused():
    words = pd.DataFrame({"site": ["skin"] * 10, "size": range(10)})
    with pytest.raises(DataError, match="cannot be read as numbers"):
        make_query_strategy(classifier_uncertainty)(LogisticRegression(), words, 2)
