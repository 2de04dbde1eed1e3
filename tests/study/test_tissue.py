"""The offline tissue pool: counts, split, and labels that a second stain unmixing confirms."""

from __future__ import annotations

import socket
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from aift_sklearn.errors import MissingDependencyError, ParameterError
from aift_sklearn.study import Dataset, load_tissue
from aift_sklearn.study import tissue as tissue_module

skimage_data = pytest.importorskip("skimage.data")

CLASSES = ["DAB-negative", "DAB-positive"]


@pytest.fixture(scope="module")
def tissue() -> Dataset:
    return load_tissue()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.asarray(skimage_data.immunohistochemistry())


@pytest.fixture(scope="module")
def nuclei(image: np.ndarray) -> tissue_module._Nuclei:
    return tissue_module._find_nuclei(image)


def oracle_dab(crops: np.ndarray, radius: float) -> np.ndarray:
    """Mean DAB on the central disc: Beer-Lambert with the stain vectors of Ruifrok and Johnston.

    Haematoxylin and DAB only, by least squares, where the package inverts three stains.
    """
    stains = np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776]])
    density = -np.log10((crops.astype(float) + 1) / 256)
    n, _, height, width = crops.shape
    flat = density.transpose(1, 0, 2, 3).reshape(3, -1)
    amounts = np.linalg.lstsq(stains.T, flat, rcond=None)[0]
    y, x = np.mgrid[:height, :width]
    disc = np.hypot(y - height / 2, x - width / 2) <= radius
    return np.asarray(amounts[1].reshape(n, height, width)[:, disc].mean(axis=1))


def test_shapes_types_and_counts(tissue: Dataset) -> None:
    assert tissue.X.shape == (tissue.n_candidates, 3, 32, 32)
    assert tissue.X_test.shape == (len(tissue.y_test), 3, 32, 32)
    assert tissue.X.dtype == tissue.X_test.dtype == np.uint8
    assert tissue.y.dtype.kind == tissue.y_test.dtype.kind == "U"
    assert tissue.classes.tolist() == CLASSES
    assert 320 <= tissue.n_candidates <= 370
    assert 130 <= len(tissue.y_test) <= 160
    for y, groups in ((tissue.y, tissue.groups), (tissue.y_test, tissue.groups_test)):
        assert 0.4 <= (y == "DAB-positive").mean() <= 0.5
        assert groups is not None
        assert len(groups) == len(y)


def test_two_calls_are_equal(tissue: Dataset) -> None:
    again = load_tissue()
    for name in ("X", "y", "X_test", "y_test", "groups", "groups_test"):
        np.testing.assert_array_equal(getattr(again, name), getattr(tissue, name))


def test_no_region_is_on_both_sides(tissue: Dataset) -> None:
    assert tissue.groups is not None
    assert tissue.groups_test is not None
    assert len(set(tissue.groups)) >= 30
    assert len(set(tissue.groups_test)) >= 15
    assert set(tissue.groups).isdisjoint(tissue.groups_test)


def test_pool_and_test_share_no_pixel(tissue: Dataset, nuclei: tissue_module._Nuclei) -> None:
    seen = {}
    for side, rows in (("pool", nuclei.in_pool), ("test", nuclei.in_test)):
        seen[side] = np.zeros((512, 512), dtype=bool)
        for r, c in zip(nuclei.row[rows], nuclei.column[rows], strict=True):
            seen[side][max(r - 16, 0) : r + 16, max(c - 16, 0) : c + 16] = True
    assert nuclei.in_pool.sum() == tissue.n_candidates
    assert nuclei.in_test.sum() == len(tissue.y_test)
    assert not (seen["pool"] & seen["test"]).any()


def test_crops_lie_where_the_table_says(image: np.ndarray, nuclei: tissue_module._Nuclei) -> None:
    exact = load_tissue()
    for X, rows in ((exact.X, nuclei.in_pool), (exact.X_test, nuclei.in_test)):
        for crop, r, c in zip(X, nuclei.row[rows], nuclei.column[rows], strict=True):
            top, left = max(16 - r, 0), max(16 - c, 0)
            inside = image[r - 16 + top : r + 16, c - 16 + left : c + 16]
            height, width = inside.shape[:2]
            shown = crop[:, top : top + height, left : left + width]
            np.testing.assert_array_equal(shown.transpose(1, 2, 0), inside)


def test_nuclei_lie_inside_the_image_once_each(nuclei: tissue_module._Nuclei) -> None:
    centres = np.stack([nuclei.row, nuclei.column], axis=1)
    assert centres.min() >= 4
    assert centres.max() < 512 - 4
    apart = np.abs(centres[:, None] - centres).max(axis=-1)
    assert apart[~np.eye(len(apart), dtype=bool)].min() >= 5


@pytest.mark.parametrize("size", [16, 32, 64])
def test_another_stain_unmixing_agrees_with_the_labels(size: int) -> None:
    tissue = load_tissue(size)
    for X, y in ((tissue.X, tissue.y), (tissue.X_test, tissue.y_test)):
        assert roc_auc_score(y == "DAB-positive", oracle_dab(X, size * 3 / 32)) > 0.95


def test_the_centre_decides_more_than_the_whole_field(tissue: Dataset) -> None:
    positive = tissue.y == "DAB-positive"
    centre = roc_auc_score(positive, oracle_dab(tissue.X, 3))
    field = roc_auc_score(positive, oracle_dab(tissue.X, 32))
    assert centre > field + 0.02


def test_learnable_but_mean_colour_does_not_settle_it(tissue: Dataset) -> None:
    def accuracy(pixels: int) -> float:
        step = 32 // pixels
        train, test = (
            X.reshape(len(X), 3, pixels, step, pixels, step).mean(axis=(3, 5)).reshape(len(X), -1)
            for X in (tissue.X / 255, tissue.X_test / 255)
        )
        model = LogisticRegression(max_iter=2000).fit(train, tissue.y)
        return float(model.score(test, tissue.y_test))

    assert 0.75 < accuracy(1) < 0.93
    assert accuracy(8) > accuracy(1)


@pytest.mark.parametrize("size", [15, 0, -64, 64.0, "64", None, True])
def test_bad_size_is_refused(size: object) -> None:
    with pytest.raises(ParameterError, match=r"size=.*expected .* from 16 on.*as they are") as info:
        load_tissue(size)  # type: ignore[arg-type]
    assert repr(size) in str(info.value)
    assert isinstance(info.value, ValueError)


def test_numpy_integer_is_a_size() -> None:
    assert load_tissue(np.arange(17)[-1]).X.shape[2:] == (16, 16)


def test_no_network_is_asked(monkeypatch: pytest.MonkeyPatch, tissue: Dataset) -> None:
    monkeypatch.setattr(socket, "socket", None)
    np.testing.assert_array_equal(load_tissue().y, tissue.y)


def test_missing_scikit_image_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingDependencyError, match=r"load_tissue\(\) needs scikit-image.*study"):
        load_tissue()


def test_texts_say_how_the_labels_were_made(tissue: Dataset) -> None:
    assert "colour deconvolution" in tissue.description
    assert "not given by an expert" in tissue.description
    assert str(tissue.n_candidates) in tissue.description
    assert "scikit-image" in tissue.source
    assert tissue.licence
    for part in ("pool  342", "test  145", *CLASSES):
        assert part in repr(tissue)
