"""The first batch: typical candidates, random ones, or the pre-trained scores."""

import inspect

import modAL.models
import numpy as np
import pytest
from fakes import TableModel
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, aift_sampling, scores
from aift_sklearn.errors import DataError
from aift_sklearn.selection import top, typical

RETURNS_METRICS = "return_metrics" in inspect.signature(modAL.models.ActiveLearner.query).parameters
POOL = np.arange(40.0)[:, None]


def ask(*args, **params):
    result = aift_sampling(*args, **params)
    return result[0] if RETURNS_METRICS else result


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
    assert ask(clf, points, 2).tolist() == expected.tolist()


def test_random_cold_start_is_seeded_and_distinct():
    clf = AIFTClassifier(LogisticRegression())
    draws = [ask(clf, POOL, 20, cold_start="random", random_state=s).tolist() for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 20


def test_pretrained_cold_start_scores_imagenet_classes():
    X, _ = make_blobs(12, size=32)
    clf = AIFTClassifier(CNNClassifier(), patches=AffinePatches(4))
    got = ask(clf, X, 3, cold_start="pretrained")
    expected = top(scores.patch_consistency(clf.pretrained_patch_proba(X)), 3)
    assert got.tolist() == expected.tolist()
    assert len(set(ask(clf, X, 3, cold_start="typical", random_state=0).tolist())) == 3
