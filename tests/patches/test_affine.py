"""Patches: geometry against SciPy, spread, anti-aliasing, fresh training views."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import qmc
from sklearn.base import clone

from aift_sklearn import AffinePatches, JitterPatches
from aift_sklearn.errors import DataError, DataTypeError, ModelNotFittedError, ParameterError
from aift_sklearn.patches import affine

PRESETS = [AffinePatches.for_microscopy, AffinePatches.for_radiographs, AffinePatches.for_endoscopy]


def smooth_images(n, c, h, w, seed=0):
    noise = np.random.default_rng(seed).random((n, c, h, w))
    blurred = ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5), mode="reflect")
    return ((blurred - blurred.min()) / (blurred.max() - blurred.min())).astype(np.float32)


def slow_view(image, view):
    """One view by pixel geometry: rotate by the angle about the centre, zoom, shift, mirror."""
    angle, zoom, down, right, mirrored = view
    h, w = image.shape
    rows, columns = np.mgrid[:h, :w] + 0.5
    y, x = rows - h / 2, columns - w / 2
    if mirrored:
        x = -x
    cos, sin = np.cos(angle), np.sin(angle)
    source_y = (sin * x + cos * y) / zoom + h / 2 + down * h
    source_x = (cos * x - sin * y) / zoom + w / 2 + right * w
    return ndimage.map_coordinates(image, [source_y - 0.5, source_x - 0.5], order=1, mode="reflect")


@settings(max_examples=25)
@given(
    st.integers(8, 30),
    st.integers(8, 30),
    st.floats(0, 180),
    st.floats(0, 0.3),
    st.booleans(),
    st.integers(0, 50),
)
def test_views_agree_with_pixel_geometry(h, w, rotation, translation, flip, seed):
    X = smooth_images(2, 2, h, w, seed)
    patches = AffinePatches(
        5, rotation=rotation, translation=translation, flip=flip, random_state=seed
    ).fit(X)
    got = patches.transform(X)
    for j, view in enumerate(patches.views_):
        for i in range(2):
            for c in range(2):
                np.testing.assert_allclose(got[i, j, c], slow_view(X[i, c], view), atol=2e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_patch_zero_is_the_candidate(channels, dtype):
    X = np.random.default_rng(0).integers(0, 256, (3, channels, 9, 12), dtype=np.uint8)
    expected = X / np.float32(255)
    X = X if dtype is np.uint8 else (X / 255).astype(dtype)
    before = X.copy()
    patches = AffinePatches(4, rotation=30).fit_transform(X)
    assert patches.shape == (3, 4, channels, 9, 12)
    assert patches.dtype == np.float32
    np.testing.assert_allclose(patches[:, 0], expected, atol=1e-7)
    assert patches.min() >= 0
    assert patches.max() <= 1
    np.testing.assert_array_equal(X, before)


def test_shrinking_averages_areas():
    X = np.random.default_rng(0).random((2, 3, 32, 48), dtype=np.float32)
    small = AffinePatches(3, size=(8, 16)).fit_transform(X)
    areas = X.reshape(2, 3, 8, 4, 16, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(small[:, 0], areas, atol=1e-5)
    stripes = np.zeros((1, 1, 32, 32), np.uint8)
    stripes[..., ::2] = 255
    shrunk = AffinePatches(4, size=8, translation=0.05).fit_transform(stripes)
    assert np.ptp(shrunk) < 0.35, "aliasing: the stripes survive shrinking"


def test_size_may_also_enlarge():
    X = smooth_images(1, 1, 16, 16)
    assert AffinePatches(2, size=40).fit_transform(X).shape == (1, 2, 1, 40, 40)


@given(st.integers(0, 30))
def test_views_are_spread_not_clumped(seed):
    patches = AffinePatches.for_microscopy(n_patches=24, random_state=seed)
    X = np.zeros((1, 1, 8, 8), np.uint8)
    views = patches.fit(X).views_
    assert (views[0] == [0, 1, 0, 0, 0]).all()
    low, high = np.log(0.8), np.log(1.25)
    unit = np.stack(
        [views[1:, 0] / (2 * np.pi) + 0.5, (np.log(views[1:, 1]) - low) / (high - low)], axis=1
    ).clip(0, 1)
    random = np.random.default_rng(seed).random((200, 23, 2))
    clumped = np.median([qmc.discrepancy(u) for u in random])
    assert qmc.discrepancy(unit) < clumped
    assert 11 <= views[1:, 4].sum() <= 12, "every other view is mirrored"


def test_views_depend_on_the_seed_only():
    X = smooth_images(6, 3, 16, 16)
    a, b = AffinePatches(8, rotation=90).fit(X), AffinePatches(8, rotation=90).fit(X[:2])
    np.testing.assert_array_equal(a.matrices_, b.matrices_)
    order = [3, 0, 5]
    np.testing.assert_array_equal(a.transform(X)[order], b.transform(X[order]))
    other = AffinePatches(8, rotation=90, random_state=1).fit(X)
    assert not np.array_equal(a.matrices_, other.matrices_)
    fresh = AffinePatches(8, rotation=90, random_state=None)
    assert not np.array_equal(fresh.fit(X).matrices_, fresh.fit(X).matrices_)


def test_matrices_follow_the_grid_convention():
    X = smooth_images(2, 1, 12, 20)
    patches = AffinePatches(6, rotation=40, flip=True).fit(X)
    assert patches.matrices_.shape == (6, 2, 3)
    j = 3
    grid = torch.nn.functional.affine_grid(
        torch.from_numpy(patches.matrices_[[j, j]]), (2, 1, 12, 20), align_corners=False
    )
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(X), grid, padding_mode="reflection", align_corners=False
    )
    np.testing.assert_allclose(patches.transform(X)[:, j], expected.numpy(), atol=1e-6)


def test_large_pools_are_cut_in_blocks(monkeypatch):
    X = smooth_images(7, 3, 16, 16)
    patches = AffinePatches(3).fit(X)
    by_weights = patches.transform(X)
    monkeypatch.setattr(affine, "resampling", lambda *args: None)
    whole = patches.transform(X)
    np.testing.assert_allclose(whole, by_weights, atol=1e-6)
    monkeypatch.setattr(affine, "_BLOCK_BYTES", 1)
    np.testing.assert_array_equal(patches.transform(X), whole)


@settings(max_examples=40)
@given(
    n=st.integers(1, 40),
    channels=st.integers(1, 13),
    h=st.integers(1, 9),
    w=st.integers(5, 9),
    size=st.sampled_from([None, 3, (12, 5)]),
    seed=st.integers(0, 99),
)
def test_patches_do_not_depend_on_what_else_is_cut(n, channels, h, w, size, seed):
    X = np.random.default_rng(seed).integers(0, 256, (n, channels, h, w), dtype=np.uint8)
    patches = AffinePatches(3, size=size, rotation=180, flip=True, random_state=seed).fit(X)
    together = patches.transform(X)
    alone = np.concatenate([patches.transform(X[k : k + 1]) for k in range(n)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(patches.transform(X, views=[2, 0]), together[:, [2, 0]])


def test_views_of_many_pixels_are_cut_band_by_band():
    """A view of more rows than one product takes agrees with torch's sampling."""
    X = np.random.default_rng(0).integers(0, 256, (5, 3, 150, 140), dtype=np.uint8)
    patches = AffinePatches(3, rotation=180, flip=True).fit(X)
    expected = np.empty((5, 3, 3, 150, 140), dtype=np.float32)
    affine._cut_large(affine.as_floats(X), patches.matrices_, expected)
    np.testing.assert_allclose(patches.transform(X), expected, atol=3e-5)


def test_training_views_are_fresh_and_of_the_family():
    X = torch.from_numpy(smooth_images(40, 1, 16, 16))
    rng = np.random.default_rng(0)
    still = AffinePatches(rotation=0, scale=1.0, translation=0.0)
    np.testing.assert_allclose(still.sample(X, rng).numpy(), X.numpy(), atol=1e-5)
    moving = AffinePatches(rotation=20, size=8)
    first, second = moving.sample(X, rng), moving.sample(X, rng)
    assert first.shape == (40, 1, 8, 8)
    assert not torch.equal(first, second)
    np.testing.assert_array_equal(
        moving.sample(X, np.random.default_rng(5)), moving.sample(X, np.random.default_rng(5))
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_can_be_changed_and_cloned(preset):
    patches = preset(n_patches=4, rotation=5.0)
    assert patches.rotation == 5.0
    assert clone(patches).get_params() == patches.get_params()
    assert patches.fit_transform(np.zeros((1, 3, 8, 8), np.uint8)).shape == (1, 4, 3, 8, 8)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), DataError, r"shape \(2, 8, 8\)"),
        (np.full((2, 3, 8, 8), np.nan), DataError, "image 0 holds NaN"),
        (np.full((2, 3, 8, 8), 200.0), DataError, "Divide 8-bit values by 255"),
        (np.full((2, 3, 8, 8), -0.1), DataError, "range from -0.1"),
        (np.zeros((2, 3, 8, 8), np.int16), DataTypeError, "dtype int16"),
        (np.zeros((2, 3, 8, 8), object), DataTypeError, "dtype object"),
        (np.zeros((2, 64, 64, 3), np.uint8), DataError, "channels last"),
        (np.zeros((2, 0, 8, 8), np.uint8), DataError, "shape"),
        ([np.zeros((3, 8, 8)), np.zeros((3, 9, 8))], DataError, "differ in shape"),
    ],
)
def test_bad_images_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        AffinePatches(2).fit_transform(X)


def test_masks_are_images_too():
    X = np.eye(8, dtype=bool)[None, None]
    np.testing.assert_allclose(AffinePatches(1).fit_transform(X)[0, 0, 0], np.eye(8))


@pytest.mark.parametrize(
    "params",
    [
        {"n_patches": 0},
        {"n_patches": 2.5},
        {"rotation": -1},
        {"rotation": 400},
        {"scale": 0},
        {"scale": (1.2, 0.8)},
        {"scale": (0.8, 1, 1.2)},
        {"n_patches": 1, "rotation": -1},
        {"translation": 2},
        {"size": 0},
        {"size": (8, 8, 8)},
    ],
)
def test_bad_parameters_are_refused(params):
    patches = AffinePatches(**({"n_patches": 3} | params))
    with pytest.raises(ParameterError, match=list(params)[-1]):
        patches.fit_transform(np.zeros((1, 1, 8, 8), np.uint8))


def test_unfitted_patches_say_so():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        AffinePatches().transform(np.zeros((1, 1, 8, 8), np.uint8))
    assert issubclass(ModelNotFittedError, NotFittedError)


def test_jitter_moves_every_vector_alike():
    X = np.random.default_rng(0).normal(size=(50, 4)) * [1, 10, 100, 0]
    jitter = JitterPatches(200, scale=0.1).fit(X)
    got = jitter.transform(X[:5])
    assert got.shape == (5, 200, 4)
    np.testing.assert_array_equal(got[:, 0], X[:5])
    np.testing.assert_allclose(got[0] - X[0], got[4] - X[4], atol=1e-12)
    spread = np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    np.testing.assert_allclose((got[0] - X[0])[1:].std(axis=0), 0.1 * spread, rtol=0.2)
    assert np.ptp(JitterPatches().fit_transform(X[:1]), axis=1).min() > 0, "one candidate"


def test_views_that_are_drawn_again_are_the_same_and_nobody_elses():
    X = np.zeros((1, 3, 16, 16), np.uint8)
    first, second = (AffinePatches(7, rotation=90, random_state=3).fit(X) for _ in range(2))
    expected = first.views_.copy()
    np.testing.assert_array_equal(second.views_, expected)
    first.views_[:] = 0
    np.testing.assert_array_equal(second.views_, expected)
    again = AffinePatches(7, rotation=90, random_state=3).fit(X)
    np.testing.assert_array_equal(again.views_, expected)
    other = AffinePatches(7, rotation=90, random_state=4).fit(X)
    assert not np.allclose(other.views_, expected)
