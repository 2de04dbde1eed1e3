"""What is no pool, no image or no label is refused in plain words; what is one is taken."""

import collections
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier, study
from aift_sklearn._checks import (
    as_array,
    check_classes,
    check_images,
    check_labels,
    image_shape,
)
from aift_sklearn.errors import AIFTError, DataError, DataTypeError, LabelError
from aift_sklearn.query import aift_sampling, random_sampling

X, Y = make_blobs(16)
F = np.random.default_rng(0).normal(size=(16, 3)) + 2 * (np.arange(16) % 2)[:, None]
FY = np.arange(16) % 2


def on_images(**params):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
    cnn = CNNClassifier(network, max_epochs=1)
    return AIFTClassifier(cnn, patches=AffinePatches(2), random_state=0, **params)


def on_features(**params):
    return AIFTClassifier(GaussianNB(), random_state=0, **params)


@pytest.fixture(scope="module")
def fitted():
    return on_images().fit(X, Y)


# --- what is no array -----------------------------------------------------------------------------


class Pictures(Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, k):
        return torch.from_numpy(X[k]), 0


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


class Items:
    def __len__(self):
        return 16

    def __getitem__(self, k):
        return X[k]


TENSORS = TensorDataset(torch.from_numpy(X))
DATA = study.Dataset("blobs", X, Y, X[:2], Y[:2], None, None, "", "", "")
NO_ARRAYS = {
    "tensor dataset": (lambda: TENSORS, r"TensorDataset.*dataset\.tensors\[0\]"),
    "dataset": (Pictures, r"Pictures.*np\.stack\(\[np\.asarray\(image\) for image"),
    "subset": (lambda: Subset(Pictures(), [0, 1]), r"Subset"),
    "stream": (Stream, r"Stream"),
    "loader": (lambda: DataLoader(TENSORS), r"DataLoader.*torch\.cat"),
    "generator": (lambda: (x for x in X), r"generator.*np\.stack\(list\(X\)\)"),
    "iterator": (lambda: iter(X), r"np\.stack\(list\(X\)\)"),
    "map": (lambda: map(np.asarray, X), r"map.*np\.stack\(list\(X\)\)"),
    "zip": (lambda: zip(X, Y, strict=True), r"zip.*np\.stack"),
    "dict": (lambda: {"images": X}, r"dict.*X\['images'\]"),
    "views of a dict": ({"a": X}.values, r"dict_values.*np\.stack"),
    "set": (lambda: {1, 2}, r"set.*np\.stack"),
    "frozenset": (lambda: frozenset({1}), r"frozenset"),
    "items": (Items, r"Items.*Give it a shape"),
    "data of a study": (
        lambda: DATA,
        r"Dataset; .*Pass its candidates, dataset\.X\.",
    ),
    "folder": (lambda: "scans/", r"'scans/'.*load_folder"),
    "path": (lambda: Path("scan.png"), r"scan\.png.*read_images"),
    "paths": (lambda: ["a.png", "b.png"], r"holds paths, such as 'a\.png'.*read_images"),
    "path objects": (lambda: [Path("a.dcm"), Path("b.dcm")], r"'a\.dcm'.*load_csv"),
    "array of paths": (lambda: np.array(["a.TIFF", "b.tiff"]), r"paths.*read_images"),
    "objects of paths": (lambda: np.array([Path("a.png")] * 2, dtype=object), r"paths"),
    "column of paths": (lambda: np.array([["x/1"], ["x/2"]]), r"paths"),
    "series of paths": (lambda: pd.Series(["a.jpg", "b.jpg"]), r"paths"),
    "frame of paths": (
        lambda: pd.DataFrame({"Path": ["a.jpg", "b.jpg"], "age": [1, 2]}),
        r"X\['Path'\] holds paths",
    ),
    "objects of images": (
        lambda: np.array([*X, None], dtype=object)[:-1],
        r"column of ndarrays of shape \(3, 16, 16\).*np\.stack\(X\)",
    ),
    "column of images": (
        lambda: np.array([*X, None], dtype=object)[:-1, None],
        r"np\.stack\(X\.ravel\(\)\)",
    ),
    "series of images": (lambda: pd.Series(list(X)), r"np\.stack\(X\)"),
    "frame of images": (
        lambda: pd.DataFrame({"age": range(16), "scan": list(X)}),
        r"X\['scan'\] is a column of ndarrays.*np\.stack\(X\['scan'\]\)",
    ),
}


@pytest.mark.parametrize("name", NO_ARRAYS)
@pytest.mark.parametrize("kind", ["images", "features"])
def test_what_is_no_array_is_refused_by_type_with_what_to_do(name, kind, fitted):
    make, message = NO_ARRAYS[name]
    model = fitted if kind == "images" else on_features().fit(F, FY)
    learner = AIFTLearner(model)
    fresh = on_images() if kind == "images" else on_features()
    y = Y[:2]
    for ask in (
        model.predict,
        model.predict_patch_proba,
        model.score_candidates,
        learner.query,
        lambda X: model.partial_fit(X, y),
        lambda X: fresh.fit(X, y),
        fitted.embed,
        on_images().embed,
        lambda X: AffinePatches().fit(X),
        fitted.estimator_.predict_proba,
    ):
        with pytest.raises(DataTypeError, match=f"(?s){message}"):
            ask(make())


@pytest.mark.parametrize("strategy", [aift_sampling, random_sampling])
def test_data_of_a_study_are_no_pool_even_where_nothing_is_read(strategy):
    with pytest.raises(DataTypeError, match=r"Pass its candidates, dataset\.X\."):
        AIFTLearner(on_images(), strategy).query(DATA, n_instances=2)


def test_objects_of_different_shapes_and_other_objects_are_told_apart():
    ragged = np.empty(2, dtype=object)
    ragged[:] = [X[0], X[1, :, :8]]
    with pytest.raises(DataError, match="differ in shape"):
        on_images().fit(ragged, Y[:2])
    for other in (np.array([["a"], ["b"]], dtype=object), np.array([[{}], [{}]], dtype=object)):
        with pytest.raises(AIFTError) as caught:
            on_features().fit(other, FY[:2])
        assert "np.stack" not in str(caught.value)
    assert_array_equal(image_shape(collections.deque(X)), (16, 3, 16, 16))
    assert on_features().fit(F.astype(object), FY).predict(F.astype(object)).shape == (16,)


class Lazy:
    """Slices, and has a shape; also derives from a data set, as own pools may."""

    def __init__(self):
        self.shape = X.shape

    def __getitem__(self, rows):
        return X[rows]


class LazyDataset(Lazy, Dataset):
    pass


@pytest.mark.parametrize("pool", [Lazy, LazyDataset])
def test_anything_with_a_shape_that_slices_is_a_pool(pool, fitted):
    assert_array_equal(fitted.predict_proba(pool()), fitted.predict_proba(X))


class OnDevice:
    """What a tensor on a GPU does: it refuses to become an array."""

    def __init__(self, tensor):
        self.tensor, self.shape, self.dtype = tensor, tuple(tensor.shape), tensor.dtype

    def __array__(self, *args, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __getitem__(self, rows):
        return OnDevice(self.tensor[rows])

    def __len__(self):
        return len(self.tensor)

    def detach(self):
        return self

    def cpu(self):
        return self.tensor.detach()


TENSOR_KINDS = {
    "plain": lambda t: t,
    "device": OnDevice,
    "gradient": lambda t: (t / 255 if t.dtype == torch.uint8 else t).requires_grad_(),
    "list": list,
    "list on a device": lambda t: [OnDevice(x) for x in t],
    "tuple": tuple,
}


@pytest.mark.parametrize("kind", TENSOR_KINDS)
def test_tensors_are_taken_everywhere(kind, fitted):
    convert = TENSOR_KINDS[kind]
    pool = convert(torch.from_numpy(X))
    labels = torch.arange(16) % 2
    for method in ("predict_proba", "predict_patch_proba", "score_candidates", "embed"):
        expected = getattr(fitted, method)(X)
        assert_allclose(getattr(fitted, method)(pool), expected, atol=1e-5)
    assert on_images().embed(pool).shape[0] == 16
    clf = on_images().fit(pool, labels, sample_weight=torch.ones(16))
    clf.partial_fit(pool, labels if kind == "gradient" else convert(labels))
    assert clf.classes_.tolist() == [0, 1]
    assert len(clf.memory_.y) == 32
    rows = convert(torch.from_numpy(F))
    table = on_features(classes=torch.tensor([1, 0])).fit(rows, labels)
    assert_allclose(table.predict_proba(rows), table.predict_proba(F))
    if kind in ("plain", "device"):
        learner = AIFTLearner(fitted)
        assert_array_equal(as_array(learner.query(pool, n_instances=2)[1]).shape, (2, 3, 16, 16))


def test_half_precision_tensors_become_floats():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        images = torch.rand(2, 3, 4, 4).to(dtype)
        assert_allclose(check_images(images), images.float().numpy(), atol=1e-6)


# --- axes, and ranges -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        (24, 32, 32, 2),
        (24, 32, 32, 1),
        (24, 32, 32, 3),
        (24, 8, 8, 4),
        (24, 5, 7, 3),
        (24, 64, 3, 3),
        (6, 4, 32, 32, 3),
        (6, 4, 32, 20, 2),
        (6, 2, 9, 9, 1),
    ],
)
def test_channels_last_are_suspected_and_refused(shape, fitted):
    images = np.zeros(shape, dtype=np.uint8)
    axes = "0, 3, 1, 2" if len(shape) == 4 else "0, 1, 4, 2, 3"
    message = re.escape(f"images have shape {shape}, which looks like channels last")
    for ask in (
        lambda X: on_images().fit(X, np.arange(len(X)) % 2),
        lambda X: AIFTClassifier(CNNClassifier()).embed(X),
        fitted.predict,
        fitted.embed,
        lambda X: check_images(X, ndim=X.ndim),
    ):
        with pytest.raises(DataError, match=message + rf"(?s:.*)X\.transpose\({axes}\)"):
            ask(images)
    turned = images.transpose(*map(int, axes.split(", ")))
    assert image_shape(turned) == turned.shape


@given(
    n=st.integers(1, 3),
    channels=st.integers(1, 40),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    m=st.integers(0, 3),
)
def test_channels_first_of_any_size_are_taken_up_to_four_channels(n, channels, height, width, m):
    shape = (n, *([m] if m else []), channels, height, width)
    images = np.zeros(shape, dtype=np.uint8)
    if channels <= 4 or width > 4:
        assert check_images(images, ndim=len(shape)).shape == shape
        assert image_shape(images) == shape
    else:
        with pytest.raises(DataError, match="channels last"):
            check_images(images, ndim=len(shape))


@pytest.mark.parametrize(
    ("change", "advice", "other"),
    [
        (lambda x: x + 1e-5, r"to 1\.00001.*np\.clip\(X, 0, 1\)", "255"),
        (lambda x: x - 1e-5, r"from -9\.99.*e-06.*np\.clip", "255"),
        (lambda x: x * 1.2 - 0.1, r"np\.clip", "255"),
        (lambda x: x * 1.0001, r"np\.clip", "255"),
        (lambda x: x * 255, r"by 255", "clip"),
        (lambda x: x * 256, r"by 255", "clip"),
        (lambda x: x * 2, r"by 255", "clip"),
        (lambda x: x * 4095, r"16-bit.*window", "clip"),
        (lambda x: x * 2 - 1, r"\(X \+ 1\) / 2", "255"),
        (lambda x: x * 4 - 2, r"before normalisation", "255"),
        (lambda x: x * 2000 - 1000, r"Hounsfield.*window", "255"),
    ],
)
def test_floats_outside_the_range_are_told_by_how_they_look(change, advice, other):
    images = np.linspace(0, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    with pytest.raises(DataError, match=f"(?s){advice}") as caught:
        check_images(change(images))
    assert other not in str(caught.value)


def test_floats_that_follow_the_advice_are_taken():
    images = np.linspace(-1e-5, 1 + 1e-5, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    assert check_images(np.clip(images, 0, 1)).dtype == np.float32
    # What single precision makes of the border.
    assert check_images(np.full((1, 3, 8, 8), 1 + 1e-12)).max() == 1


# --- labels ---------------------------------------------------------------------------------------


def objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


TAKEN = {
    "whole numbers": (objects([0, 1] * 8), [0, 1], "i"),
    "of NumPy": (objects([np.int64(0), np.int32(1)] * 8), [0, 1], "i"),
    "floats": (objects([0.0, 1] * 8), [0, 1], "f"),
    "booleans": (objects([False, True] * 8), [False, True], "b"),
    "booleans of NumPy": ([np.False_, np.True_] * 8, [False, True], "b"),
    "text": (objects(["a", "b"] * 8), ["a", "b"], "U"),
    "text of NumPy": (objects([np.str_("a"), "b"] * 8), ["a", "b"], "U"),
    "list": (["a", np.str_("bcd")] * 8, ["a", "bcd"], "U"),
    "tuple": ((3, 1) * 8, [1, 3], "i"),
    "series": (pd.Series(["a", "b"] * 8), ["a", "b"], "U"),
    "whole numbers that may lack": (pd.Series([0, 1] * 8, dtype="Int64"), [0, 1], "i"),
    "categories": (pd.Series(["a", "b"] * 8, dtype="category"), ["a", "b"], "U"),
    "tensors": ([torch.tensor(0), torch.tensor(1)] * 8, [0, 1], "i"),
    "a column": (np.array([0, 1] * 8)[:, None], [0, 1], "i"),
    "a column of a frame": (pd.DataFrame({"y": ["a", "b"] * 8}), ["a", "b"], "U"),
    "a column of lists": ([[0], [1]] * 8, [0, 1], "i"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_labels_of_one_kind_are_taken(name):
    y, classes, kind = TAKEN[name]
    clf = on_features().partial_fit(F, y).partial_fit(F, np.array(classes * 8))
    assert clf.classes_.tolist() == classes
    assert clf.classes_.dtype.kind == kind
    assert clf.memory_.y.dtype.kind == kind
    assert clf.memory_.y[:16].tolist() == np.asarray(y, dtype=object).ravel().tolist()
    assert len(clf.predict(F)) == 16


REFUSED = {
    "none": (objects([0, None] * 8), r"rows 1, 3, 5, 7, 9, 11, 13, 15 have no label"),
    "none in a list": (["a"] * 3 + [None] + ["b"] * 12, r"row 3 has no label"),
    "nan in a list": (["a"] * 3 + [np.nan] + ["b"] * 12, r"row 3 has no label"),
    "nan": (np.array([0.0, 1] * 7 + [np.nan, 1]), r"row 14 has no label"),
    "NA": (pd.Series([0, 1] * 7 + [pd.NA, 1], dtype="Int64"), r"row 14 has no label"),
    "NA text": (pd.Series(["a", "b"] * 7 + [None, "b"]), r"row 14 has no label"),
    "masked": (np.ma.masked_array([0, 1] * 8, mask=[True] + [False] * 15), r"row 0 has no label"),
    "all of them": ([None] * 16, r"rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 6 more have no label"),
    "mixed": (["a"] * 15 + [1], r"mixes number and text: row 15 is number, such as 1"),
    "mixed objects": (objects([0, "b"] * 8), r"mixes number and text"),
    "booleans and numbers": (objects([True] * 2 + [0] * 14), r"rows 0, 1 are boolean"),
    "lists": (objects([["a"], ["a", "b"]] * 8), r"values of type list"),
    "ragged": ([[0], [0, 1]] * 8, r"y"),
    "pairs": ([[0, 1]] * 16, r"shape"),
    "fractions": (np.linspace(0, 1, 16), r"continuous"),
    "nothing": (None, r"y to be passed"),
    "infinite": (np.array([0, np.inf] * 8), r"infinity"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_labels_that_are_missing_or_mixed_are_refused_by_row(name, method):
    y, message = REFUSED[name]
    clf = on_features()
    with pytest.raises(LabelError, match=message):
        getattr(clf, method)(F, y)
    with pytest.raises(LabelError, match=message):
        CNNClassifier(nn.Conv2d(3, 4, 3), pretrained=False).fit(X, y)
    assert not hasattr(clf, "memory_")


def test_a_column_is_flattened_and_later_rounds_may_be_flat():
    column, flat = FY[:, None], FY
    clf = on_features().partial_fit(F, column).partial_fit(F, flat).partial_fit(F, column)
    assert clf.memory_.y.shape == (48,)
    learner = AIFTLearner(on_features())
    learner.estimator.partial_fit(F, flat)
    assert_array_equal(clf.predict(F), learner.estimator.predict(F))


CLASSES = {
    "set": {"b", "a"},
    "frozenset": frozenset("ab"),
    "tuple": ("b", "a"),
    "series": pd.Series(["b", "a"]),
    "index": pd.Index(["a", "b"]),
    "keys": {"a": "benign", "b": "malignant"}.keys(),
    "dict": {"a": "benign", "b": "malignant"},
    "generator": (label for label in "ab"),
    "objects": np.array(["a", "b"], dtype=object),
}


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "generator"])
@pytest.mark.parametrize("where", ["constructor", "partial_fit"])
def test_classes_come_in_any_collection(name, where):
    y = np.array(["a", "b"])[FY]
    given = CLASSES[name]
    clf = AIFTClassifier(LogisticRegression())
    clf.set_params(classes=given if where == "constructor" else None)
    clf.partial_fit(F[FY == 0], y[FY == 0], classes=None if where == "constructor" else given)
    assert clf.classes_.tolist() == ["a", "b"]
    clf.partial_fit(F, y, classes=given)
    assert clf.score(F, y) > 0.8


def test_classes_are_sorted_and_of_one_type():
    assert check_classes(CLASSES["generator"]).tolist() == ["a", "b"]
    assert check_classes({3, 1}).tolist() == [1, 3]
    assert check_classes(objects([True, False])).dtype == bool
    assert check_classes([0, 1, 1]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("ab", r"classes='ab'; expected all classes"),
        (3, r"classes=3"),
        ([], r"shape \(0,\)"),
        ([["a", "b"]], r"shape \(1, 2\)"),
        (["a", None], r"None or NaN at row 1"),
        (["a", 1], r"mixes number and text"),
        ([0, np.nan], r"None or NaN"),
    ],
)
def test_classes_that_are_none_are_refused(classes, message):
    with pytest.raises(LabelError, match=message):
        on_features(classes=classes).partial_fit(F, FY)


@pytest.mark.parametrize(
    ("classes", "y", "kind"),
    [
        ([0, 1], FY.astype(float), "i"),
        ([0, 1], FY.astype(bool), "i"),
        ([0.0, 1.0], FY, "f"),
        ([0, 1], FY.astype(np.uint8), "i"),
    ],
)
def test_labels_take_the_type_of_the_classes(classes, y, kind):
    clf = on_features(classes=classes).fit(F, y)
    assert clf.memory_.y.dtype.kind == clf.predict(F).dtype.kind == kind


@pytest.mark.parametrize(("classes", "y"), [([0, 1], FY.astype(str)), (["0", "1"], FY)])
def test_text_is_no_number(classes, y):
    with pytest.raises(LabelError, match="not among the classes"):
        on_features(classes=classes).fit(F, y)


# --- tables ---------------------------------------------------------------------------------------


def test_arrays_and_frames_may_follow_each_other():
    frame = pd.DataFrame(F, columns=["age", "size", "dose"])
    clf = on_features().fit(frame, FY)
    with pytest.warns(UserWarning, match="valid feature names"):
        clf.partial_fit(F, FY)
    assert_array_equal(clf.memory_.X, np.concatenate([F, F]))
    assert type(clf.memory_.X) is np.ndarray
    other = on_features().fit(F, FY)
    with pytest.warns(UserWarning, match="feature names"):
        other.partial_fit(frame, FY)
    assert_array_equal(other.memory_.X, clf.memory_.X)


def test_columns_in_another_order_are_refused():
    frame = pd.DataFrame(F, columns=["age", "size", "dose"])
    clf = on_features().fit(frame, FY)
    for ask in (clf.predict, lambda X: clf.partial_fit(X, FY)):
        with pytest.raises(DataError, match=r"(?s)same order"):
            ask(frame[["size", "age", "dose"]])
        with pytest.raises(DataError, match=r"(?s)weight"):
            ask(frame.rename(columns={"dose": "weight"}))
    assert len(clf.memory_.y) == 16


def test_labels_are_checked_alike_alone():
    assert check_labels(objects([1, 0]), F[:2]).tolist() == [1, 0]
    with pytest.raises(LabelError, match=r"2 candidates .* and 3 labels"):
        check_labels([0, 1, 0], F[:2])
