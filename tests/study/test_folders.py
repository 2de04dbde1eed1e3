"""Folders as people have them: splits by name, what file managers leave, classes that are none."""

import shutil

import numpy as np
import pytest
from pictures import picture, save, sort_into_classes

from aift_sklearn.errors import DataError
from aift_sklearn.study import load_boxes, load_folder, open_dataset


def pixels_of(seeds):
    return {np.asarray(picture(seed)).transpose(2, 0, 1).tobytes() for seed in seeds}


def images(X):
    return {image.tobytes() for image in X}


# --- splits by name -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("TRAIN", "TEST"),
        ("training", "testing"),
        ("train", "val"),
        ("Train", "Val"),
        ("train", "valid"),
        ("TRAIN", "VALIDATION"),
        ("train", "dev"),
        ("val", "test"),
        ("Validation", "Test"),
    ],
)
def test_a_folder_may_come_split(tmp_path, train, test):
    sort_into_classes(tmp_path / train)
    sort_into_classes(tmp_path / test, n=3, first=100)
    data = load_folder(tmp_path)
    assert data.classes.tolist() == ["benign", "malignant"]
    assert images(data.X) == pixels_of(range(12))
    assert images(data.X_test) == pixels_of(range(100, 106))
    said = " ".join(data.notes)
    assert ("val is the test set" in said) == (test.lower() not in ("test", "testing"))
    assert ("val is the pool" in said) == train.lower().startswith("val")


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION"])
def test_a_validation_set_beside_a_test_set_belongs_to_the_pool(tmp_path, name):
    for k, side in enumerate(("train", name, "test")):
        sort_into_classes(tmp_path / side, n=3, first=100 * k)
    data = load_folder(tmp_path)
    assert images(data.X) == pixels_of([*range(6), *range(100, 106)])
    assert images(data.X_test) == pixels_of(range(200, 206))
    assert "val counts as part of the pool" in data.notes


def test_a_single_side_is_split(tmp_path):
    sort_into_classes(tmp_path / "Train")
    data = load_folder(tmp_path)
    assert data.classes.tolist() == ["benign", "malignant"]
    assert len(data.y) + len(data.y_test) == 12
    assert "there is only train: the test set is drawn from it" in data.notes


@pytest.mark.parametrize(
    "sides", [("train", "val"), ("Train", "Test"), ("train",), ("VAL", "TEST")]
)
def test_sides_without_classes_are_refused(tmp_path, sides):
    for k, side in enumerate(sides):
        save(tmp_path / side / "0.png", seed=k)
        save(tmp_path / side / "1.png", seed=10 + k)
    with pytest.raises(DataError, match=r"holds only .*expected one subfolder per class in each"):
        load_folder(tmp_path)


def test_a_test_set_without_labels_is_left_out_and_another_drawn(tmp_path):
    sort_into_classes(tmp_path / "train")
    save(tmp_path / "test" / "1.png", seed=99)
    data = load_folder(tmp_path)
    assert images(data.X) | images(data.X_test) == pixels_of(range(12))
    assert "test is left out: it holds no subfolders of images" in data.notes


def test_what_lies_beside_a_split_is_left_out_and_named(tmp_path):
    sort_into_classes(tmp_path / "TRAIN")
    sort_into_classes(tmp_path / "TEST", n=2, first=50)
    sort_into_classes(tmp_path / "TEST_SIMPLE", n=2, first=70)
    data = load_folder(tmp_path)
    assert len(data.y_test) == 4
    assert "left out beside TEST, TRAIN: TEST_SIMPLE" in data.notes


def test_a_class_may_have_the_name_of_a_side(tmp_path):
    sort_into_classes(tmp_path, classes=("train", "plane", "car"))
    assert load_folder(tmp_path).classes.tolist() == ["car", "plane", "train"]


def test_names_of_sides_within_classes_mean_nothing(tmp_path):
    for k, label in enumerate("ab"):
        for i, side in enumerate(("train", "test")):
            for j in range(3):
                save(tmp_path / label / side / f"{j}.png", seed=k * 20 + i * 10 + j)
    assert load_folder(tmp_path).classes.tolist() == ["a", "b"]


# --- what is no class -----------------------------------------------------------------------------


def test_boxes_are_recognised_before_anything_is_read(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"is not opened")
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label\n1.png,0,0,4,4,a\n")
    with pytest.raises(DataError, match=rf"did you mean boxes:{tmp_path}\?"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=rf"boxes:{tmp_path}"):
        open_dataset(tmp_path / "boxes.csv")


def test_boxes_beside_class_folders_are_noted(tmp_path):
    sort_into_classes(tmp_path)
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label\n1.png,0,0,4,4,a\n")
    assert any(f"boxes:{tmp_path}" in note for note in load_folder(tmp_path).notes)


def test_the_table_of_boxes_stands_for_its_folder(tmp_path):
    rows = ["Image , XMIN,ymin,xmax,ymax,Label"]
    for k in range(6):
        save(tmp_path / "images" / f"{k}.png", seed=k)
        rows += [f"{k}.png,1,1,6,6,a", f"{k}.png,5,4,11,9,b"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    data = load_boxes(tmp_path / "boxes.csv", size=8)
    np.testing.assert_array_equal(data.X, load_boxes(tmp_path, size=8).X)


def test_unlabelled_images_are_shown_where_to_go(tmp_path):
    for k in range(3):
        save(tmp_path / f"{k}.png", seed=k)
    with pytest.raises(DataError, match=r"holds 3 images and no class folders.*AIFTLearner\.query"):
        load_folder(tmp_path)
    (tmp_path / "labels.csv").write_text("path,label\n0.png,a\n")
    with pytest.raises(DataError, match=r"labels\.csv\?"):
        load_folder(tmp_path)


@pytest.mark.parametrize("inner", [("benign", "malignant"), ("train", "test")])
def test_a_folder_too_high_is_told(tmp_path, inner):
    sort_into_classes(tmp_path / "archive", classes=inner)
    with pytest.raises(DataError, match=rf"only, 'archive'.*Did you mean {tmp_path}/archive\?"):
        load_folder(tmp_path)


def test_one_class_is_too_few(tmp_path):
    sort_into_classes(tmp_path, classes=("benign",))
    with pytest.raises(DataError, match="in one subfolder only, 'benign'; expected") as caught:
        load_folder(tmp_path)
    assert "Did you mean" not in str(caught.value)


def test_a_folder_of_other_files_says_what_it_holds(tmp_path):
    (tmp_path / "a").mkdir()
    for k in range(3):
        (tmp_path / "a" / f"{k}.DCM").write_bytes(b"none")
    with pytest.raises(DataError, match=r"no images in subfolders.*3 \.dcm \(save DICOM as PNG"):
        load_folder(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        load_folder(tmp_path / "gone")


# --- notes ----------------------------------------------------------------------------------------


def note_of(path, part):
    notes = [note for note in load_folder(path).notes if part in note]
    assert len(notes) == 1
    return notes[0]


def test_other_files_are_counted_by_kind(tmp_path):
    sort_into_classes(tmp_path)
    for name in ("1.dcm", "2.DCM", "notes.txt", "README"):
        (tmp_path / "benign" / name).write_bytes(b"none")
    note = note_of(tmp_path, "files left out")
    assert "2 .dcm, 1 " in note
    assert "1 .txt" in note
    assert "1 without extension" in note


def test_an_empty_class_folder_is_named(tmp_path):
    sort_into_classes(tmp_path)
    (tmp_path / "rare").mkdir()
    assert note_of(tmp_path, "holds no images") == "1 class folder holds no images: rare"
    sort_into_classes(tmp_path / "split" / "train")
    sort_into_classes(tmp_path / "split" / "test", n=2, first=50)
    (tmp_path / "split" / "test" / "rare").mkdir()
    assert note_of(tmp_path / "split", "no images").endswith("test/rare")


def test_images_outside_class_folders_are_named(tmp_path):
    sort_into_classes(tmp_path)
    save(tmp_path / "overview.png", seed=77)
    assert note_of(tmp_path, "outside class folders").endswith("overview.png")


def test_one_image_under_two_labels_is_named(tmp_path):
    sort_into_classes(tmp_path)
    shutil.copy(tmp_path / "benign" / "2.png", tmp_path / "malignant" / "copy.png")
    # Other bytes, the same pixels.
    picture(3).save(tmp_path / "malignant" / "twin.png", compress_level=0)
    note = note_of(tmp_path, "under two labels")
    assert note.startswith("2 images come under two labels")
    for name in ("benign/2.png", "malignant/copy.png", "benign/3.png", "malignant/twin.png"):
        assert name in note


def test_repeats_under_one_label_are_no_contradiction(tmp_path):
    sort_into_classes(tmp_path)
    shutil.copy(tmp_path / "benign" / "2.png", tmp_path / "benign" / "copy.png")
    assert not any("two labels" in note for note in load_folder(tmp_path).notes)


def test_classes_that_differ_in_case_are_noted(tmp_path):
    sort_into_classes(tmp_path, classes=("Normal", "normal", "other"))
    assert "'Normal' and 'normal'" in note_of(tmp_path, "differ in case")


def test_a_clean_folder_has_no_notes(tmp_path):
    sort_into_classes(tmp_path)
    assert load_folder(tmp_path).notes == ()


# --- odd folders ----------------------------------------------------------------------------------


def test_what_file_managers_and_archivers_leave_is_unseen(tmp_path):
    sort_into_classes(tmp_path)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png"):
        (tmp_path / "benign" / name).write_bytes(b"none")
    for folder in (".hidden", "__MACOSX", ".ipynb_checkpoints"):
        save(tmp_path / folder / "0.png")
        save(tmp_path / "benign" / folder / "0.png")
    data = load_folder(tmp_path)
    assert data.classes.tolist() == ["benign", "malignant"]
    assert len(data.y) + len(data.y_test) == 12
    assert data.notes == ()


def test_links_are_followed_but_in_no_circle(tmp_path):
    sort_into_classes(tmp_path / "store")
    root = tmp_path / "set"
    root.mkdir()
    for label in ("benign", "malignant"):
        (root / label).symlink_to(tmp_path / "store" / label)
    (tmp_path / "store" / "benign" / "around").symlink_to(tmp_path / "store" / "benign")
    (tmp_path / "store" / "benign" / "up").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "benign" / "top").symlink_to("/")
    (tmp_path / "store" / "benign" / "set").symlink_to(root)
    data = load_folder(root)
    assert len(data.y) + len(data.y_test) == 12
    assert sorted(np.unique([*data.y, *data.y_test], return_counts=True)[1]) == [6, 6]


def test_deeper_folders_count_to_their_class(tmp_path):
    for k in range(4):
        save(tmp_path / "a" / f"patient {k}" / "slide" / "0.png", seed=k)
        save(tmp_path / "b" / f"{k}.png", seed=10 + k)
    data = load_folder(tmp_path)
    assert sorted([*data.y, *data.y_test]) == ["a"] * 4 + ["b"] * 4


def test_extensions_count_in_any_case(tmp_path):
    sort_into_classes(tmp_path)
    (tmp_path / "benign" / "0.png").rename(tmp_path / "benign" / "0.PNG")
    (tmp_path / "benign" / "1.png").rename(tmp_path / "benign" / "1.Jpeg")
    assert len(load_folder(tmp_path).y) + len(load_folder(tmp_path).y_test) == 12


def test_classes_of_any_characters(tmp_path):
    classes = ("10", "2", "grün und blau", "line\nbreak", "\udce9", "a'b")
    sort_into_classes(tmp_path, classes=classes, n=3)
    data = load_folder(tmp_path)
    assert data.classes.tolist() == sorted([*classes[:4], "\\xe9", "a'b"])
    repr(data).encode()


def test_composed_and_decomposed_accents_are_one_class(tmp_path):
    sort_into_classes(tmp_path / "train", classes=("e\u0301", "b"))
    sort_into_classes(tmp_path / "test", classes=("\u00e9", "b"), n=2, first=50)
    assert load_folder(tmp_path).classes.tolist() == ["b", "\u00e9"]


def test_the_folder_may_be_the_present_one(tmp_path, monkeypatch):
    sort_into_classes(tmp_path / "cells")
    monkeypatch.chdir(tmp_path / "cells")
    assert load_folder(".").name == "cells"
