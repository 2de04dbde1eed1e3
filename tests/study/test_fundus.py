"""The pool of implanted lesions: exact labels, sides that share nothing, parameters that act."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aift_sklearn.errors import MissingDependencyError, ParameterError
from aift_sklearn.study import fundus as fundus_module
from aift_sklearn.study import load_fundus, open_dataset

pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def fundus():
    return load_fundus()


def darkness_in_the_middle(X):
    """Green of a ring minus that of the middle, in grey levels."""
    y, x = np.mgrid[:32, :32]
    distance = np.hypot(y - 16, x - 16)
    green = X[:, 1].astype(float)
    return green[:, (distance > 8) & (distance < 12)].mean(1) - green[:, distance < 2].mean(1)


def test_counts_and_what_it_says(fundus):
    assert fundus.X.shape == (fundus.n_candidates, 3, 32, 32)
    assert fundus.X.dtype == np.uint8
    assert fundus.n_candidates >= 1500
    assert len(fundus.y_test) >= 400
    assert fundus.classes.tolist() == ["lesion", "other"]
    everything = np.concatenate([fundus.y, fundus.y_test])
    assert np.mean(everything == "lesion") == pytest.approx(0.08, abs=0.02)
    assert set(fundus.groups).isdisjoint(fundus.groups_test)
    assert "they are implanted" in fundus.description
    assert "implanted" in fundus.source
    assert (fundus.y_test == "lesion").sum() > 30


def test_candidates_are_dark_in_the_middle(fundus):
    dark = darkness_in_the_middle(fundus.X)
    assert np.mean(dark > 0) > 0.75
    lesions, others = dark[fundus.y == "lesion"], dark[fundus.y == "other"]
    assert np.mean(lesions > 5) > 0.8
    # A vessel is as dark: darkness alone does not tell.
    assert np.percentile(others, 90) > np.median(lesions)


def test_the_same_seed_gives_the_same_and_another_one_others(fundus):
    again, other = load_fundus(), load_fundus(random_state=1)
    np.testing.assert_array_equal(again.X, fundus.X)
    np.testing.assert_array_equal(again.y, fundus.y)
    assert other.X.shape != fundus.X.shape or (other.X != fundus.X).any()
    assert open_dataset("fundus", random_state=1).X.shape == other.X.shape


def nearest_copy(X):
    """Smallest mean difference of each candidate to another one, among the first 400."""
    rows = X[:400].reshape(400, -1).astype(float)
    far = np.abs(rows[:, None, ::7] - rows[None, :, ::7]).mean(2)
    np.fill_diagonal(far, np.inf)
    return far.min(1)


def test_each_parameter_does_what_it_says(fundus):
    few, many = load_fundus(duplicates=0), load_fundus(duplicates=3)
    assert np.median(nearest_copy(few.X)) > np.median(nearest_copy(many.X))
    balanced = load_fundus(imbalance=0.3)
    assert np.mean(balanced.y == "lesion") == pytest.approx(0.3, abs=0.05)
    grainy, clean = load_fundus(noise=20), load_fundus(noise=0)
    grain = [np.abs(np.diff(d.X.astype(float), axis=-1)).mean() for d in (clean, fundus, grainy)]
    assert grain[0] < grain[1] < grain[2]
    # Nor are the lesions other ones.
    implanted = [d.description.split("which ")[1].split(" round")[0] for d in (clean, grainy)]
    assert implanted[0] == implanted[1]
    # Repetitions come on top: the same spots, lesions and shares.
    assert [d.description.split(" found ")[1].split()[0] for d in (few, many)] == ["133", "133"]
    shares = [np.mean(np.concatenate([d.y, d.y_test]) == "lesion") for d in (few, many)]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert many.n_candidates > 3 * few.n_candidates
    small = load_fundus(n_spots=400)
    assert 400 < small.n_candidates + len(small.y_test) < 700


def test_lesions_darken_as_their_profile_says():
    photograph = np.full((64, 64, 3), 200.0)
    lesions = fundus_module._Lesions(
        np.array([[30.0, 20.0]]), np.array([4.0]), np.array([0.5]), np.array([0.25])
    )
    image = fundus_module._implant(photograph, lesions)
    np.testing.assert_allclose(image[30, 20], [200 * (1 - 0.25 * c) for c in (0.45, 1, 0.7)])
    # Half of it at the edge, nothing outside, and the photograph stays as it was.
    np.testing.assert_allclose(image[34, 20, 1], 200 * (1 - 0.125))
    assert image[40, 20, 1] == pytest.approx(200)
    assert (photograph == 200).all()


def test_no_lesion_touches_another_and_each_sector_has_some():
    eye = np.hypot(*(np.indices((500, 500)) - 249.5)) < 220
    lesions = fundus_module._place(eye, 60, np.random.default_rng(0))
    far = np.linalg.norm(lesions.centre[:, None] - lesions.centre[None], axis=2)
    assert far[~np.eye(60, dtype=bool)].min() >= 30
    per_sector = np.bincount(fundus_module._sector_of(lesions.centre, 500), minlength=24)
    assert per_sector.min() >= 1
    assert len(lesions.radius) == len(lesions.contrast) == 60


def test_a_spot_is_found_once_in_whatever_size():
    rows, columns = np.indices((200, 200))
    green = np.full((200, 200), 180.0)
    for row, column, size in ((60, 60, 3), (60, 140, 5), (140, 100, 7)):
        green -= 60 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * size))
    spots = fundus_module._detect(green, np.ones((200, 200), bool), 10)
    assert sorted(map(tuple, spots)) == [(60, 60), (60, 140), (140, 100)]


@settings(max_examples=60)
@given(st.integers(20, 480), st.integers(20, 480))
def test_a_field_is_on_a_side_only_with_all_its_pixels(row, column):
    sector, pool, test = fundus_module._sides(np.array([[row, column]]), 500)
    pixels = np.indices((32, 32)).reshape(2, -1).T + np.array([row - 16, column - 16])
    across = pixels - 249.5
    angle = np.degrees(np.arctan2(across[:, 0], across[:, 1])) % 360
    in_test = angle < 360 / 24 * 7
    assert test[0] <= in_test.all()
    assert pool[0] <= (~in_test).all()
    # Nothing far from the border is lost.
    if np.hypot(row - 250, column - 250) > 40:
        assert test[0] == in_test.all()
        assert pool[0] == (~in_test).all()
    own = np.degrees(np.arctan2(row - 249.5, column - 249.5)) % 360
    assert sector[0] == int(own // 15)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"noise": -1}, "noise=-1; expected a number of at least 0"),
        ({"imbalance": 0.9}, "imbalance=0.9"),
        ({"duplicates": 9}, "duplicates=9"),
        ({"n_spots": 5}, "n_spots=5; expected a whole number from 100"),
        ({"random_state": 0.5}, "random_state=0.5"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ParameterError, match=message):
        load_fundus(**parameters)


def test_without_scikit_image_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingDependencyError, match="scikit-image"):
        load_fundus()
