"""Data sets from files: shapes, splits that share nothing, and errors that name the file."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from samples import SHARED

from aift_sklearn.errors import (
    DataError,
    DataTypeError,
    MissingDependencyError,
    ParameterError,
)
from aift_sklearn.study import (
    load_boxes,
    load_csv,
    load_folder,
    load_medmnist,
    load_npz,
    open_dataset,
    split_dataset,
)
from aift_sklearn.study.boxes import crop_boxes
from aift_sklearn.study.datasets import candidate_name
from aift_sklearn.study.images import read_images


def picture(seed=0, size=(12, 10), mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    for label, seeds in (("benign", range(6)), ("malignant", range(6, 12))):
        (tmp_path / "set" / label).mkdir(parents=True)
        for seed in seeds:
            picture(seed).save(tmp_path / "set" / label / f"{seed}.png")
    return tmp_path / "set"


# --- splitting ------------------------------------------------------------------------------------


@given(
    labels=st.lists(st.integers(0, 2), min_size=12, max_size=40),
    fraction=st.floats(0.1, 0.5),
    seed=st.integers(0, 5),
)
def test_a_drawn_split_shares_nothing_and_loses_nothing(labels, fraction, seed):
    y = np.array(labels)
    X = np.arange(len(y), dtype=np.uint8).reshape(-1, 1, 1, 1)
    if np.unique(y, return_counts=True)[1].min() < 2 or len(set(labels)) < 2:
        with pytest.raises(DataError):
            split_dataset("x", X, y, test_fraction=fraction, random_state=seed)
        return
    split = split_dataset("x", X, y, test_fraction=fraction, random_state=seed)
    pool, test = split.X.ravel(), split.X_test.ravel()
    assert sorted([*pool, *test]) == list(range(len(y)))
    # Every class is on both sides, and labels went with their candidates.
    assert set(split.y) == set(split.y_test) == set(y.astype(str))
    assert (split.y == y[pool].astype(str)).all()
    assert (split.y_test == y[test].astype(str)).all()


def test_groups_stay_together_and_classes_in_proportion():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    y = rng.choice(["a", "b"], 400, p=[0.8, 0.2])
    X = rng.integers(0, 256, (400, 1, 2, 2), dtype=np.uint8)
    split = split_dataset("x", X, y, groups=groups, test_fraction=0.25)
    assert not set(split.groups) & set(split.groups_test)
    assert 80 <= len(split.y_test) <= 120
    assert abs((split.y == "a").mean() - (split.y_test == "a").mean()) < 0.12


def test_candidates_keep_their_names(folder):
    data = load_folder(folder, max_pool=5, max_test=3)
    for images, ids in ((data.X, data.ids), (data.X_test, data.ids_test)):
        assert len(ids) == len(images)
        for image, name in zip(images, ids, strict=True):
            expected = np.asarray(Image.open(folder / name)).transpose(2, 0, 1)
            np.testing.assert_array_equal(image, expected)
    assert candidate_name(data, 2) == data.ids[2]
    assert f'alt="{data.ids[0]}"' in data._repr_html_()
    assert candidate_name(dataclasses.replace(data, ids=None), 2) == "candidate 2"


def test_the_same_seed_splits_alike_and_another_does_not():
    X = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    one, same, other = (
        split_dataset("x", X, [0, 1] * 30, random_state=s).X_test.ravel().tolist()
        for s in (0, 0, 1)
    )
    assert one == same != other


def test_a_pool_is_shuffled_and_cut_to_size():
    X = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    y = np.repeat(["a", "b"], 50)
    split = split_dataset("x", X, y, is_test=np.arange(100) % 5 == 0, max_pool=30, max_test=10)
    assert (len(split.y), len(split.y_test)) == (30, 10)
    assert 5 < (split.y[:20] == "a").sum() < 15


def test_images_that_the_test_set_holds_too_leave_the_pool():
    X = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    X[3], X[4] = 15, 16
    split = split_dataset("x", X, [0, 1] * 10, is_test=np.arange(20) >= 10)
    assert sorted(split.X.ravel()) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert "2 images of the pool left out" in repr(split)


def test_a_recompressed_image_leaves_the_pool_where_that_is_asked(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(12):
        smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        image = smooth.resize((64, 64), Image.Resampling.BICUBIC)
        side = "train" if k < 8 else "test"
        path = tmp_path / side / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        if k >= 10:
            image.save(tmp_path / "train" / "ab"[k % 2] / f"{k}.jpg", quality=70)
    assert len(load_folder(tmp_path).X) == 10
    data = load_folder(tmp_path, drop_look_alikes=True)
    assert not any(name.endswith(".jpg") for name in data.ids)
    assert len(data.X) == 8
    assert "2 images of the pool left out: they look like one of the test set" in data.notes


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"y": ["a"] * 12}, "expected two classes"),
        ({"y": ["a"] * 11 + ["b"]}, "'b' has one candidate"),
        ({"groups": [7] * 12}, "all 12 candidates are of the group 7; expected two"),
        ({"groups": [0] * 5 + [1] * 3 + [2] * 2 + [3, 3], "y": ["a"] * 10 + ["b"] * 2}, "no cand"),
        ({"groups": [0, 1] * 6, "is_test": np.arange(12) < 6}, "2 groups are on both sides"),
        ({"groups": [0] * 11}, "12 candidates and 11 groups"),
        ({"y": ["a", "b"] * 5}, "12 candidates and 10 labels"),
        ({"is_test": np.zeros(3, bool)}, "12 candidates and 3 marks of the split"),
        ({"test_fraction": 1.5}, "test_fraction=1.5"),
        ({"max_pool": 0}, "max_pool=0"),
        ({"random_state": None}, "random_state=None"),
    ],
)
def test_splits_that_cannot_be_are_refused(params, message):
    X = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    params = {"y": ["a", "b"] * 6, **params}
    with pytest.raises((DataError, ParameterError), match=message):
        split_dataset("x", X, params.pop("y"), **params)


# --- image files ----------------------------------------------------------------------------------


def test_images_are_read_as_their_pixels(tmp_path):
    images = [picture(seed) for seed in range(3)]
    for k, image in enumerate(images):
        image.save(tmp_path / f"{k}.png")
    X = read_images([tmp_path / f"{k}.png" for k in range(3)])
    np.testing.assert_array_equal(X.transpose(0, 2, 3, 1), np.stack(images))


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)]
)
def test_every_mode_becomes_grey_or_colour(tmp_path, mode, channels):
    picture().convert(mode).save(tmp_path / "a.png")
    assert read_images([tmp_path / "a.png"]).shape == (1, channels, 10, 12)


def test_grey_among_coloured_images_is_repeated(tmp_path):
    picture(mode="L").save(tmp_path / "grey.png")
    picture().save(tmp_path / "colour.png")
    X = read_images([tmp_path / "grey.png", tmp_path / "colour.png"])
    assert X.shape == (2, 3, 10, 12)
    assert (X[0, 0] == X[0, 2]).all()


def triangle(n_in, start, stop, n_out):
    """Weights (n_out, n_in) of the triangle filter that scales [start, stop) to n_out pixels."""
    scale = (stop - start) / n_out
    centres = start + (np.arange(n_out) + 0.5) * scale
    weights = np.clip(1 - np.abs(np.arange(n_in) + 0.5 - centres[:, None]) / scale, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


def test_the_middle_square_is_averaged_to_size(tmp_path):
    image = picture(size=(16, 8), mode="L")
    image.save(tmp_path / "a.png")
    X = read_images([tmp_path / "a.png"], size=4)
    expected = triangle(8, 0, 8, 4) @ np.asarray(image, float) @ triangle(16, 4, 12, 4).T
    np.testing.assert_allclose(X[0, 0], expected, atol=1.01)


def test_a_photograph_is_turned_upright(tmp_path):
    image = picture(size=(6, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    X = read_images([tmp_path / "a.png"])
    np.testing.assert_array_equal(
        X[0].transpose(1, 2, 0), np.rot90(np.asarray(image), k=-1, axes=(0, 1))
    )


def test_all_unreadable_images_are_named_at_once(tmp_path):
    picture(size=(200, 200)).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    names = ["good.png", "cut.png", "text.png", "gone.png"]
    with pytest.raises(DataError, match="3 of 4 images cannot be read") as caught:
        read_images([tmp_path / name for name in names])
    for name in names[1:]:
        assert name in str(caught.value)
    assert "good.png" not in str(caught.value)


def test_sixteen_bits_are_refused_with_a_hint(tmp_path):
    Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataTypeError, match=r"deep\.png has more than 8 bits.*window"):
        read_images([tmp_path / "deep.png"])


def test_images_of_several_sizes_ask_for_one(tmp_path):
    picture(size=(4, 4)).save(tmp_path / "a.png")
    picture(size=(5, 4)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"2 different sizes.*4 x 4, 5 x 4.*size=64"):
        read_images([tmp_path / "a.png", tmp_path / "b.png"])


# --- boxes ----------------------------------------------------------------------------------------


def oracle_crop(pixels, box, size, context):
    """A crop whose square falls on whole pixels, by mirroring and area means of whole blocks."""
    xmin, ymin, xmax, ymax = box
    side = int(context * max(xmax - xmin, ymax - ymin))
    left, top = (xmin + xmax - side) // 2, (ymin + ymax - side) // 2
    mirrored = np.pad(pixels, ((50, 50), (50, 50), (0, 0)), mode="symmetric")
    return mirrored[50 + top : 50 + top + side, 50 + left : 50 + left + side]


@pytest.mark.parametrize(
    "box", [(20, 20, 30, 28), (0, 0, 10, 10), (54, 40, 60, 50), (0, 44, 4, 50)]
)
def test_a_box_is_cut_with_its_surroundings(tmp_path, box):
    image = picture(size=(60, 50))
    image.save(tmp_path / "a.png")
    expected = oracle_crop(np.asarray(image), box, None, 2)
    side = expected.shape[0]
    # At its own size nothing is resampled.
    cut = crop_boxes(tmp_path / "a.png", [box], size=side, context=2)
    np.testing.assert_array_equal(cut[0].transpose(1, 2, 0), expected)
    field = crop_boxes(tmp_path / "a.png", [box], size=side, field=side)
    np.testing.assert_array_equal(field, cut)


@pytest.fixture
def smears(tmp_path):
    """Six images of 40 by 30 with three boxes each."""
    (tmp_path / "images").mkdir()
    rows = ["image,xmin,ymin,xmax,ymax,label"]
    for k in range(6):
        picture(k, size=(40, 30)).save(tmp_path / "images" / f"s{k}.jpg")
        rows += [f"s{k}.jpg,2,3,12,13,red", f"s{k}.jpg,15,5,30,20,white", f"s{k}.jpg,0,0,6,9,red"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_boxes_become_candidates_split_by_image(smears):
    data = load_boxes(smears, size=16)
    assert data.X.shape[1:] == (3, 16, 16)
    assert len(data.y) + len(data.y_test) == 18
    assert data.classes.tolist() == ["red", "white"]
    assert not set(data.groups) & set(data.groups_test)
    assert set(data.groups) | set(data.groups_test) == {f"s{k}.jpg" for k in range(6)}
    # A candidate holds the pixels of its own box.
    row = next(i for i, (g, y) in enumerate(zip(data.groups, data.y, strict=True)) if y == "white")
    path = smears / "images" / str(data.groups[row])
    np.testing.assert_array_equal(data.X[row], crop_boxes(path, [(15, 5, 30, 20)], size=16)[0])


def test_degenerate_boxes_are_left_out_and_named(smears):
    with (smears / "boxes.csv").open("a") as file:
        file.write("s0.jpg,5,5,5,5,red\ns1.jpg,9,9,4,20,red\ns2.jpg,100,0,120,10,red\n")
        file.write("s3.jpg,nan,0,4,4,red\n")
    data = load_boxes(smears, size=16)
    assert len(data.y) + len(data.y_test) == 18
    assert "4 boxes without area or outside the image left out: s0.jpg (line 20)" in repr(data)


def test_a_group_column_splits_by_patient(smears):
    lines = (smears / "boxes.csv").read_text().splitlines()
    grouped = [
        f"{line},{'group' if k == 0 else 'patient ' + str((k - 1) // 3 // 2)}"
        for k, line in enumerate(lines)
    ]
    (smears / "boxes.csv").write_text("\n".join(grouped))
    data = load_boxes(smears, size=8, test_fraction=0.4)
    assert set(data.groups) | set(data.groups_test) == {"patient 0", "patient 1", "patient 2"}
    assert not set(data.groups) & set(data.groups_test)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "boxes.csv").unlink(), "no file"),
        (lambda f: (f / "boxes.csv").write_text("image,label\na,b\n"), "lacks the columns"),
        (lambda f: (f / "boxes.csv").write_text(""), "not a readable CSV"),
        (
            lambda f: (f / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label\n"),
            "lists nothing",
        ),
        (
            lambda f: (f / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label\na,1,2,3,4,\n"),
            "line 2: a value is missing",
        ),
        (lambda f: (f / "images" / "s3.jpg").unlink(), r"1 of 6 images are missing.*s3\.jpg"),
        (lambda f: (f / "images" / "s3.jpg").write_text("no"), r"1 of 6 images are missing"),
        (
            lambda f: (f / "boxes.csv").write_text(
                "image,xmin,ymin,xmax,ymax,label\ns0.jpg,1,1,1,1,a\n"
            ),
            "no usable box",
        ),
    ],
)
def test_broken_boxes_say_what_is_wrong(smears, spoil, message):
    spoil(smears)
    with pytest.raises(DataError, match=message):
        load_boxes(smears, size=16)


def test_what_boxes_leave_out_of_images_is_noted(smears):
    pages = [picture(k, size=(40, 30)) for k in range(2)]
    pages[0].save(smears / "images" / "s3.tif", save_all=True, append_images=pages[1:])
    text = (smears / "boxes.csv").read_text()
    (smears / "boxes.csv").write_text(text.replace("s3.jpg", "s3.tif") + "s0.jpg,2,3,12,13,white\n")
    notes = load_boxes(smears, size=16).notes
    assert "1 image has several pages or frames, of which the first is read: s3.tif" in notes
    assert any("two labels" in note and "s0.jpg (line 20)" in note for note in notes)


def test_boxes_lie_in_the_image_as_it_is_shown(smears):
    exif = Image.Exif()
    exif[0x0112] = 6
    for k in range(6):
        # Shown, it is 40 wide and 30 high.
        picture(k, size=(30, 40)).save(smears / "images" / f"s{k}.jpg", exif=exif, quality=100)
    data = load_boxes(smears, size=16)
    assert all("the test set is" in note for note in data.notes), "no box was left out"
    row = next(i for i, (g, y) in enumerate(zip(data.groups, data.y, strict=True)) if y == "white")
    with Image.open(smears / "images" / str(data.groups[row])) as file:
        upright = np.rot90(np.asarray(file), k=-1)
    upright_file = smears / "upright.png"
    Image.fromarray(upright).save(upright_file)
    np.testing.assert_array_equal(
        data.X[row], crop_boxes(upright_file, [(15, 5, 30, 20)], size=16)[0]
    )


def test_deep_images_of_boxes_are_refused(smears):
    Image.fromarray(np.full((30, 40), 4000, np.uint16)).save(smears / "images" / "deep.png")
    with (smears / "boxes.csv").open("a") as file:
        file.write("deep.png,1,1,9,9,red\n")
    with pytest.raises(DataTypeError, match=r"deep\.png has more than 8 bits.*window"):
        load_boxes(smears, size=16)
    with pytest.raises(DataTypeError, match="more than 8 bits"):
        crop_boxes(smears / "images" / "deep.png", [(1, 1, 9, 9)], size=16)


def test_of_boxes_only_drawn_images_are_decoded(smears):
    whole = load_boxes(smears, size=16, max_pool=2, max_test=2)
    for k in {f"s{k}.jpg" for k in range(6)} - {*whole.groups, *whole.groups_test}:
        path = smears / "images" / k
        path.write_bytes(path.read_bytes()[:-200])
    np.testing.assert_array_equal(load_boxes(smears, size=16, max_pool=2, max_test=2).X, whole.X)


def test_a_truncated_image_of_boxes_is_named(smears):
    path = smears / "images" / "s2.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"s2\.jpg"):
        load_boxes(smears, size=16)


# --- folders and lists ----------------------------------------------------------------------------


def test_a_folder_has_a_class_per_subfolder(folder):
    data = load_folder(folder)
    assert data.classes.tolist() == ["benign", "malignant"]
    assert data.X.shape[1:] == (3, 10, 12)
    assert len(data.y) + len(data.y_test) == 12
    benign = {np.asarray(picture(seed)).transpose(2, 0, 1).tobytes() for seed in range(6)}
    for X, y in ((data.X, data.y), (data.X_test, data.y_test)):
        assert [image.tobytes() in benign for image in X] == (y == "benign").tolist()


def test_what_file_managers_leave_behind_is_no_candidate(folder):
    (folder / "benign" / "Thumbs.db").write_text("none")
    picture().save(folder / "benign" / "._0.png")
    (folder / ".trash").mkdir()
    picture().save(folder / ".trash" / "0.png")
    data = load_folder(folder)
    assert data.classes.tolist() == ["benign", "malignant"]
    assert len(data.y) + len(data.y_test) == 12


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lists_of_spreadsheets_are_read(folder, separator, encoding):
    rows = [f"set/benign/{k}.png{separator}{'äb'[k % 2]}" for k in range(6)]
    path = folder.parent / "list.csv"
    path.write_text("\n".join([f"path{separator}label", *rows]), encoding)
    assert load_csv(path).classes.tolist() == ["b", "ä"]


def test_a_list_of_another_encoding_is_refused(folder):
    path = folder.parent / "list.csv"
    path.write_bytes("path,label\nset/benign/0.png,ä\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        load_csv(path)


def test_a_folder_may_come_split(tmp_path):
    for k, side in enumerate(["train"] * 4 + ["test"] * 2):
        for label in "ab":
            (tmp_path / side / label).mkdir(parents=True, exist_ok=True)
            picture(10 * k + (label == "a")).save(tmp_path / side / label / f"{k}.png")
    data = load_folder(tmp_path)
    assert (len(data.y), len(data.y_test)) == (8, 4)
    assert data.classes.tolist() == ["a", "b"]


def test_a_folder_without_classes_says_what_was_expected(tmp_path):
    picture().save(tmp_path / "a.png")
    with pytest.raises(DataError, match="one subfolder per class"):
        load_folder(tmp_path)


def test_a_list_gives_paths_labels_groups_and_a_split(folder):
    rows = [
        f"set/{label}/{seed}.png,{label},p{seed // 2},{'test' if seed % 6 > 3 else 'train'}"
        for label, seeds in (("benign", range(6)), ("malignant", range(6, 12)))
        for seed in seeds
    ]
    path = folder.parent / "list.csv"
    path.write_text("\n".join(["path,label,group,split", *rows]))
    data = load_csv(path)
    assert (len(data.y), len(data.y_test)) == (8, 4)
    assert set(data.groups_test) == {"p2", "p5"}
    # Without the split, one is drawn by group.
    path.write_text("\n".join(",".join(r.split(",")[:3]) for r in ["path,label,group", *rows]))
    drawn = load_csv(path, test_fraction=0.4)
    assert not set(drawn.groups) & set(drawn.groups_test)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nset/benign/0.png,a\nset/benign/1.png,\n", "line 3: a value is missing"),
        ("file,label\nset/benign/0.png,a\n", r"lacks the columns \['path'\]"),
        ("path,label,split\nset/benign/0.png,a,val\n", "expected 'train' and 'test'"),
        ("path,label\nset/benign/77.png,a\nset/benign/1.png,b\n", r"77\.png \(no such file\)"),
    ],
)
def test_a_broken_list_says_where(folder, text, message):
    path = folder.parent / "list.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_csv(path)


# --- archives -------------------------------------------------------------------------------------


def write_npz(path, *, colour=False, n=(20, 10), **changes):
    rng = np.random.default_rng(0)
    arrays = {}
    for side, count in zip(("train", "test"), n, strict=True):
        shape = (count, 6, 5, 3) if colour else (count, 6, 5)
        arrays[f"{side}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{side}_labels"] = (np.arange(count) % 2)[:, None]
    arrays = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize("colour", [False, True])
def test_an_archive_keeps_its_split(tmp_path, colour):
    arrays = write_npz(tmp_path / "cells.npz", colour=colour)
    data = load_npz(tmp_path / "cells.npz")
    assert data.X.shape == (20, 3 if colour else 1, 6, 5)
    assert data.classes.tolist() == ["0", "1"]
    by_pixels = {
        image.tobytes(): str(label)
        for image, label in zip(arrays["train_images"], arrays["train_labels"].ravel(), strict=True)
    }
    for image, label in zip(data.X, data.y, strict=True):
        back = image.transpose(1, 2, 0) if colour else image[0]
        assert by_pixels[np.ascontiguousarray(back).tobytes()] == label


def test_classes_of_an_archive_are_named(tmp_path):
    write_npz(tmp_path / "cells.npz")
    numbers = load_npz(tmp_path / "cells.npz")
    named = load_npz(tmp_path / "cells.npz", class_names=["normal", "pneumonia"])
    assert named.y.tolist() == [["normal", "pneumonia"][int(k)] for k in numbers.y]
    with pytest.raises(ParameterError, match=r"1 names; .*cells\.npz holds the classes \[0, 1\]"):
        load_npz(tmp_path / "cells.npz", class_names=["normal"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, r"lacks \['train_images'\]"),
        ({"train_images": np.zeros((20, 6, 5), np.float32)}, "expected uint8"),
        ({"train_images": np.zeros((20, 6, 5, 4), np.uint8)}, "1 or 3 channels"),
        ({"train_images": np.zeros((20, 6, 5, 5, 5), np.uint8)}, "Volumes"),
        ({"train_labels": np.zeros((20, 14), int)}, "one label per image"),
        ({"train_labels": np.zeros((19, 1), int)}, "for 20 images"),
        ({"train_labels": np.zeros((20, 1))}, "expected integers or text"),
        ({"test_images": np.zeros((10, 6, 6), np.uint8)}, "differ in shape"),
        ({"train_labels": np.array([{"a": 1}] * 20, dtype=object)}, "pickled objects"),
    ],
)
def test_an_archive_of_something_else_is_refused(tmp_path, changes, message):
    write_npz(tmp_path / "cells.npz", **changes)
    with pytest.raises(DataError, match=message):
        load_npz(tmp_path / "cells.npz")


def test_no_pickle_is_ever_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exit, (3,))

    write_npz(tmp_path / "cells.npz", train_images=np.array([Bomb()] * 20, dtype=object))
    with pytest.raises(DataError, match="never loaded"):
        load_npz(tmp_path / "cells.npz")


@pytest.mark.parametrize("spoil", ["truncated", "text", "empty", "gone", "array", "flipped"])
def test_a_damaged_archive_is_named(tmp_path, spoil):
    path = tmp_path / "cells.npz"
    write_npz(path)
    data = bytearray(path.read_bytes())
    if spoil == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif spoil == "text":
        path.write_text("not an archive, but long enough to be taken for something")
    elif spoil == "empty":
        path.write_bytes(b"")
    elif spoil == "gone":
        path.unlink()
    elif spoil == "flipped":
        data[250] ^= 255
        path.write_bytes(data)
    else:
        np.save(tmp_path / "a.npy", np.zeros(3))
        (tmp_path / "a.npy").replace(path)
    with pytest.raises(DataError, match=r"cells\.npz"):
        load_npz(path)


class FakeMedMNIST:
    """The package's interface: INFO, and a class per data set with imgs and labels."""

    INFO: ClassVar = {
        "cellmnist": {
            "python_class": "CellMNIST",
            "task": "multi-class",
            "label": {"0": "basophil", "1": "eosinophil"},
            "description": "Cells.",
            "license": "CC BY 4.0",
        },
        "chestmnist": {"python_class": "No", "task": "multi-label, binary-class", "label": {}},
        "organmnist3d": {"python_class": "No", "task": "multi-class", "label": {}},
    }

    @staticmethod
    def CellMNIST(*, split, download, size):
        n = 20 if split == "train" else 10
        rng = np.random.default_rng(n)
        images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
        return SimpleNamespace(imgs=images, labels=(np.arange(n) % 2)[:, None])


def test_a_medmnist_set_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "medmnist", FakeMedMNIST)
    data = load_medmnist("cellmnist")
    assert data.X.shape == (20, 3, 28, 28)
    assert data.classes.tolist() == ["basophil", "eosinophil"]
    assert data.licence == "CC BY 4.0"
    for name in ("chestmnist", "organmnist3d", "nothing"):
        with pytest.raises(ParameterError, match=r"expected one of \['cellmnist'\]"):
            load_medmnist(name)


def test_medmnist_by_name_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(MissingDependencyError, match="pip install medmnist"):
        load_medmnist("cellmnist")


# --- by what the command line takes ---------------------------------------------------------------


def test_sources_are_told_apart(folder, smears, monkeypatch):
    monkeypatch.setitem(sys.modules, "medmnist", FakeMedMNIST)
    write_npz(folder.parent / "cells.npz")
    (folder.parent / "list.csv").write_text(
        "path,label\n" + "".join(f"set/benign/{k}.png,{'ab'[k % 2]}\n" for k in range(6))
    )
    expected = {
        "tissue": (3, 32, 32),
        str(folder): (3, 10, 12),
        f"boxes:{smears}": (3, 64, 64),
        str(folder.parent / "cells.npz"): (1, 6, 5),
        str(folder.parent / "list.csv"): (3, 10, 12),
        "medmnist:cellmnist": (3, 28, 28),
    }
    for source, shape in expected.items():
        assert open_dataset(source, verbose=0).X.shape[1:] == shape
    assert open_dataset(f"boxes:{smears}", size=20, max_pool=5).X.shape == (5, 3, 20, 20)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nothing", {}, "no such file or folder"),
        ("boxes:", {}, "expected tissue, fundus, FILE.npz"),
        ("tissue", {"max_pool": 5}, "option max_pool does not apply to the data 'tissue'"),
    ],
)
def test_unknown_sources_say_what_is_known(source, options, message):
    with pytest.raises(ParameterError, match=message):
        open_dataset(source, **options)


# --- real files -----------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED / "data").exists(), reason="the real images are not at hand")
def test_real_blood_cells_and_radiographs():
    cells = load_boxes(SHARED / "data" / "bccd")
    assert len(cells.y) + len(cells.y_test) == 4886
    assert "2 boxes without area" in cells.notes[0]
    assert not set(cells.groups) & set(cells.groups_test)
    radiographs = load_npz(SHARED / "data" / "pneumoniamnist.npz", max_pool=500)
    assert radiographs.X.shape == (500, 1, 28, 28)
    # The file is sorted by class; the pool is not.
    assert 20 < (radiographs.y == "0").sum() < 90
