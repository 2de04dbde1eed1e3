"""Some of the patches without the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from samples import make_blobs

from aift_sklearn import AffinePatches, JitterPatches
from aift_sklearn.errors import DataError
from aift_sklearn.patches import affine, count_patches, cut_views, takes_views

IMAGES, _ = make_blobs(3, size=12)
TABLE = np.random.default_rng(0).normal(size=(5, 4))


class Mirrored:
    """Patches of somebody who does not know of views."""

    def transform(self, X):
        return np.stack([X, X[:, ::-1]], axis=1)


KINDS = {
    "affine": (AffinePatches(5, size=7, rotation=40).fit(IMAGES), IMAGES),
    "jitter": (JitterPatches(5).fit(TABLE), TABLE),
}


@pytest.mark.parametrize("kind", KINDS)
@given(views=st.lists(st.integers(0, 4), min_size=1, max_size=7))
def test_views_are_those_of_all_patches(kind, views):
    patches, X = KINDS[kind]
    assert_array_equal(patches.transform(X, views=views), patches.transform(X)[:, views])
    assert_array_equal(cut_views(patches, X, views), patches.transform(X)[:, views])


def test_patches_that_nobody_asked_for_are_not_cut(monkeypatch):
    cut = []
    real = affine.cut_patches
    monkeypatch.setattr(
        affine,
        "cut_patches",
        lambda X, matrices, size: cut.append(len(matrices)) or real(X, matrices, size),
    )
    cut_views(KINDS["affine"][0], IMAGES, [0, 3])
    assert cut == [2]


def test_any_transformer_can_be_asked_for_some():
    own = Mirrored()
    assert not takes_views(own)
    assert_array_equal(cut_views(own, TABLE, [1]), TABLE[:, None, ::-1])
    assert_array_equal(cut_views(own, TABLE), own.transform(TABLE))
    ready = np.arange(24.0).reshape(2, 3, 4)
    assert_array_equal(cut_views(None, ready, [2, 0]), ready[:, [2, 0]])


def test_patches_are_counted():
    assert count_patches(None, (7, 3, 1, 4, 4)) == 3
    assert count_patches(KINDS["affine"][0], IMAGES.shape) == 5
    assert count_patches(KINDS["jitter"][0], TABLE.shape) == 5
    assert count_patches(Mirrored(), TABLE.shape) is None
    changed = AffinePatches(4).fit(IMAGES).set_params(n_patches=9)
    assert count_patches(changed, IMAGES.shape) == 4, "views were drawn when it was fitted"


def test_patches_of_another_shape_are_refused():
    class Flat:
        def transform(self, X):
            return X

    with pytest.raises(DataError, match=r"Flat.transform gave shape \(5, 4\) for 5 candidates"):
        cut_views(Flat(), TABLE)
