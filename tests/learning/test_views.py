"""The patches that are trained on: which, and how many are there at once."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

from aift_sklearn import AffinePatches, AIFTClassifier, JitterPatches
from aift_sklearn.errors import DataError
from aift_sklearn.learning import views
from aift_sklearn.learning.views import cut_training_patches, training_views

X = np.random.default_rng(0).integers(0, 256, (23, 3, 12, 12), dtype=np.uint8)


@pytest.mark.parametrize(
    ("m", "wanted", "expected"),
    [
        (16, 4, [0, 4, 8, 12]),
        (8, 2, [0, 4]),
        (8, 3, [0, 2, 5]),
        (11, 4, [0, 2, 5, 8]),
        (4, 4, [0, 1, 2, 3]),
        (3, 9, [0, 1, 2]),
        (16, 1, [0]),
        (1, 4, [0]),
    ],
)
def test_training_patches_are_evenly_spaced_from_the_whole_candidate_on(m, wanted, expected):
    assert training_views(m, wanted) == expected


@given(m=st.integers(1, 60), wanted=st.integers(1, 60))
def test_training_patches_are_distinct_and_as_far_apart_as_they_can_be(m, wanted):
    positions = training_views(m, wanted)
    assert positions[0] == 0
    assert len(set(positions)) == len(positions) == min(m, wanted)
    gaps = np.diff([*positions, m])
    assert gaps.max() - gaps.min() <= 1


class Corners(TransformerMixin, BaseEstimator):
    """Patches that cannot be cut singly."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        corners = [X[..., :6, :6], X[..., :6, 6:], X[..., 6:, :6], X[..., 6:, 6:]]
        return np.stack([*corners, 255 - corners[0]], axis=1) / 255


KINDS = {
    "affine": (AffinePatches(7, rotation=40).fit(X), X),
    "jitter": (JitterPatches(7).fit(X[:, 0, 0]), X[:, 0, 0].astype(float)),
    "own": (Corners(), X),
    "cut": (None, np.stack([X, X[..., ::-1], 255 - X, X[:, :, ::-1]], axis=1)),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("wanted", [1, 2, 3, 9])
@pytest.mark.parametrize("part", [1, 5000, 2**25])
def test_patches_cut_in_parts_are_those_cut_at_once(name, wanted, part, monkeypatch):
    patches, candidates = KINDS[name]
    monkeypatch.setattr(views, "_PART_BYTES", part)
    whole = candidates if patches is None else patches.transform(candidates)
    rows, n_each = cut_training_patches(patches, candidates, wanted)
    kept = training_views(whole.shape[1], wanted)
    assert n_each == len(kept)
    assert_array_equal(rows, whole[:, kept].reshape(-1, *whole.shape[2:]))
    assert rows.dtype == whole.dtype
    # What trains may write into its rows; the memory stays.
    assert not np.may_share_memory(rows, candidates)


class AllAtOnce(Corners):
    """Notes of how many candidates patches are cut at once."""

    def __init__(self):
        self.cut = []

    def transform(self, X):
        self.cut.append(len(X))
        return super().transform(X)


class OneByOne(AllAtOnce):
    """Notes as well which patches are wanted."""

    n_patches = 5

    def __init__(self):
        super().__init__()
        self.wanted = []

    def transform(self, X, views=None):
        self.wanted.append(views)
        return super().transform(X)[:, slice(None) if views is None else views]


def test_no_patch_is_cut_that_is_not_trained_on():
    patches = OneByOne()
    cut_training_patches(patches, X, 2)
    assert patches.wanted
    assert all(views == [0, 2] for views in patches.wanted)


@pytest.mark.parametrize(("kind", "n_cut"), [(OneByOne, 2), (AllAtOnce, 5)])
@pytest.mark.parametrize("part", [1, 9000, 30_000])
def test_parts_are_as_large_as_what_is_cut_of_them_allows(kind, n_cut, part, monkeypatch):
    """What cannot be cut singly is there with all its patches: one candidate, or as many as fit."""
    monkeypatch.setattr(views, "_PART_BYTES", part)
    patches = kind()
    cut_training_patches(patches, X, 2)
    of_a_candidate = n_cut * 3 * 6 * 6 * 8
    assert max(patches.cut) == max(1, part // of_a_candidate)


class Wide(ClassifierMixin, BaseEstimator):
    """Notes the patches that it is given, and keeps none."""

    def fit(self, X, y):
        self.classes_, self.n_bytes_ = np.unique(y), X.nbytes
        self.present_ = tracemalloc.get_traced_memory()[0]
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_holds_little_beside_what_is_trained_on(method):
    images = np.zeros((200, 3, 96, 96), dtype=np.uint8)
    y = np.arange(200) % 2
    clf = AIFTClassifier(Wide(), patches=AffinePatches(16))
    clf.fit(images[:4], y[:4])  # what is looked up once
    tracemalloc.start()
    getattr(clf, method)(images, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    trained_on = clf.estimator_.n_bytes_
    assert trained_on >= 200 * 4 * images[0].size * 4
    # Sixteen patches of each would be four times as much.
    assert peak - trained_on < 2**27


class Growing(Corners):
    def transform(self, X):
        return super().transform(X)[..., : 2 + len(X)]


def test_patches_that_change_their_shape_are_refused(monkeypatch):
    with pytest.raises(DataError, match=r"Growing\.transform gave patches of shape"):
        cut_training_patches(Growing(), X, 2)
