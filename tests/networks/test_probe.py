"""A head that is a logistic regression on the embeddings: what it predicts, and when it is fitted.

The oracle is scikit-learn's on what the classifier embeds.
"""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, load
from aift_sklearn.errors import DataError, LabelError, NonFiniteLossError, TrainingInterrupted


def torso():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 12), nn.Tanh())


def probed(**params):
    """One whose backbone stays as it is."""
    return CNNClassifier(torso, **{"lr": 0.0, "max_epochs": 1, "random_state": 0} | params)


def rows(n=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return (rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[y]).astype(np.float32), y


def oracle(cnn, X, y, X_new, weight=None, balanced=False):
    """Probabilities of the classes of y by scikit-learn, on the same embeddings."""
    E, E_new = cnn.embed(X).astype(np.float64), cnn.embed(X_new).astype(np.float64)
    scale = np.sqrt(E.var(axis=0).sum())
    head = LogisticRegression(
        C=10.0, max_iter=1000, tol=1e-8, class_weight="balanced" if balanced else None
    )
    weight = np.ones(len(y)) if weight is None else weight
    head.fit((E - E.mean(axis=0)) / scale, y, sample_weight=weight / weight.mean())
    return head.predict_proba((E_new - E.mean(axis=0)) / scale)


# --- what it predicts -----------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    classes=st.integers(2, 4),
    n=st.integers(12, 60),
    seed=st.integers(0, 99),
    weighted=st.booleans(),
)
def test_the_first_head_is_scikit_learns(classes, n, seed, weighted):
    X, y = rows(n, classes, seed)
    weight = np.random.default_rng(seed).uniform(0.2, 3, n) if weighted else None
    cnn = probed().fit(X, y, sample_weight=weight)
    assert_allclose(cnn.predict_proba(X), oracle(cnn, X, y, X, weight), atol=1e-2)


@pytest.mark.parametrize("weighted", [False, True])
def test_classes_are_balanced_as_in_training(weighted):
    X, y = rows(80, 2)
    few = np.flatnonzero((y == 0) | (np.arange(80) < 24))
    X, y = X[few], y[few]
    weight = np.linspace(0.5, 2, len(y)) if weighted else None
    cnn = probed(class_weight="balanced").fit(X, y, sample_weight=weight)
    totals = np.bincount(y, weights=weight)
    full = (1 if weight is None else weight) / totals[y]
    assert_allclose(cnn.predict_proba(X), oracle(cnn, X, y, X, full), atol=1e-2)
    if not weighted:
        assert_allclose(cnn.predict_proba(X), oracle(cnn, X, y, X, balanced=True), atol=1e-2)


@pytest.mark.parametrize("classes", [["a", "b", "c"], ["a", "b", "c", "d"]])
def test_a_class_without_labels_is_taken_for_rare(classes):
    X, k = rows(30, 2)
    y = np.array(["a", "c"])[k]
    cnn = probed().partial_fit(X, y, classes=classes)
    P = cnn.predict_proba(X)
    rest = P[:, [0, 2]] / P[:, [0, 2]].sum(axis=1, keepdims=True)
    assert_allclose(rest, oracle(cnn, X, y, X), atol=1e-2)
    # In the middle, where the others are as likely as they are anywhere.
    weights = cnn.module_.head.weight.detach().numpy()
    middle = cnn.embed(X).mean(axis=0) @ weights.T + cnn.module_.head.bias.detach().numpy()
    share = np.exp(middle - middle.max()) / np.exp(middle - middle.max()).sum()
    n_missing = len(classes) - 2
    assert_allclose(share[[1, *range(3, len(classes))]], 1 / (31 + n_missing), rtol=1e-3)


def test_one_class_leaves_a_head_that_is_undecided():
    X, _ = rows(10)
    cnn = probed().partial_fit(X, ["a"] * 10, classes=["a", "b"])
    assert_array_equal(cnn.predict_proba(X), np.full((10, 2), 0.5))


def test_images_that_look_the_same_give_the_frequencies():
    y = np.array([0, 0, 0, 1])
    cnn = probed().fit(np.ones((4, 4), np.float32), y)
    assert_allclose(cnn.predict_proba(np.ones((1, 4), np.float32)), [[0.75, 0.25]], atol=1e-2)


def test_without_a_probe_the_head_begins_with_zeros():
    X, y = rows()
    for params in ({"linear_probe": False}, {"pretrained": False}):
        assert not probed(**params).fit(X, y).module_.head.weight.any()


def test_every_view_of_an_epoch_is_learnt_from():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (12, 3, 12, 12), dtype=np.uint8)
    seen = []

    class Watched(nn.Conv2d):
        def forward(self, x):
            if not torch.is_grad_enabled():
                seen.extend(image.numpy().tobytes() for image in x)
            return super().forward(x)

    patches = AffinePatches(2, random_state=0).fit(X)
    cnn = CNNClassifier(
        Watched(3, 4, 5), augmentation=patches, augmentation_views=3, lr=0.0, max_epochs=1,
        random_state=0,
    )  # fmt: skip
    cnn.fit(X, np.arange(12) % 2)
    assert len(set(seen)) >= 36


def test_of_many_images_fewer_views_are_embedded():
    n_embedded = []

    class Watched(nn.Linear):
        def forward(self, x):
            if not torch.is_grad_enabled():
                n_embedded.append(len(x))
            return super().forward(x)

    X, y = rows(9_000, 2)
    body = Watched(4, 3)
    CNNClassifier(body, augmentation_views=5, lr=0.0, max_epochs=1, batch_size=4096).fit(X, y)
    # Each once, for twice is more than 16,384; and the last batch, which is looked at once more.
    assert 9_000 <= sum(n_embedded) < 9_000 + 4_200


# --- all that is labelled -------------------------------------------------------------------------


def test_the_head_is_fitted_to_the_memory_whatever_the_call_holds():
    X, y = rows(60, 3)
    cnn = probed().fit(X[:30], y[:30])
    before = cnn.predict_proba(X)
    only = y == 1
    cnn.partial_fit(X[only], y[only])
    assert_array_equal(cnn.predict_proba(X), before)
    weight = np.linspace(0.5, 2, 60)
    cnn.partial_fit(X[only], y[only], memory=(X, y, weight))
    assert_allclose(cnn.predict_proba(X), oracle(cnn, X, y, X, weight), atol=1e-2)


def test_after_training_the_head_fits_the_embeddings_as_they_are_then():
    X, y = rows(60, 3)
    cnn = probed(lr=0.05, max_epochs=3).fit(X[:30], y[:30])
    E = cnn.embed(X)
    cnn.partial_fit(X[30:], y[30:], memory=(X, y, None))
    assert not np.allclose(cnn.embed(X), E, atol=1e-3)
    assert_allclose(cnn.predict_proba(X), oracle(cnn, X, y, X), atol=1e-2)


def test_training_begins_with_a_head_that_knows_the_memory():
    X, y = rows(60, 3)
    losses = {}
    for name, memory in (("with", (X, y, None)), ("without", None)):
        cnn = probed(lr=1e-6, batch_size=64).fit(X[:4], y[:4] % 2 * 2)
        cnn = probed(lr=1e-6, batch_size=64).partial_fit(X[:4], [0, 1, 0, 1], classes=[0, 1, 2])
        cnn.partial_fit(X, y, memory=memory)
        losses[name] = cnn.history_[-1]["train_loss"]
    assert losses["with"] < 0.6 * losses["without"]


@pytest.mark.parametrize(
    "params", [{"linear_probe": False}, {"pretrained": False}, {"calibration": "temperature"}]
)
def test_the_memory_is_left_alone_where_it_is_not_to_be_learnt(params):
    X, y = rows(60, 3)
    cnn = probed(lr=0.02, **params).fit(X, y)
    other = copy.deepcopy(cnn)
    cnn.partial_fit(X[:20], y[:20], memory=(X, y, None))
    other.partial_fit(X[:20], y[:20])
    assert_array_equal(cnn.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize(
    ("memory", "error"),
    [
        (lambda X, y: (X, np.full(len(y), 7), None), LabelError),
        (lambda X, y: (X[:, :3], y, None), DataError),
        (lambda X, y: (X, y[:-1], None), LabelError),
    ],
)
def test_a_memory_that_does_not_fit_is_refused_and_nothing_changes(memory, error):
    X, y = rows()
    cnn = probed(lr=0.02).fit(X, y)
    before = cnn.predict_proba(X)
    with pytest.raises(error):
        cnn.partial_fit(X, y, memory=memory(X, y))
    assert_array_equal(cnn.predict_proba(X), before)


def test_a_call_that_fails_brings_the_former_head_back():
    X, y = rows()
    cnn = probed(lr=0.01).fit(X[:20], y[:20])
    before = cnn.predict_proba(X)
    cnn.set_params(lr=1e30, max_epochs=3)
    with pytest.raises(NonFiniteLossError):
        cnn.partial_fit(X, y, memory=(X, y, None))
    assert_array_equal(cnn.predict_proba(X), before)


def test_an_interrupt_keeps_what_was_trained_until_then():
    X, y = rows()

    class Stop:
        def __new__(cls):
            from skorch.callbacks import Callback

            class AfterOne(Callback):
                def on_epoch_end(self, net, **kwargs):
                    if len(net.history) == 1:
                        raise KeyboardInterrupt

            return AfterOne()

    cnn = probed(lr=0.02).fit(X[:20], y[:20]).set_params(max_epochs=5, callbacks=[Stop])
    before = cnn.predict_proba(X)
    with pytest.raises(TrainingInterrupted):
        cnn.partial_fit(X, y, memory=(X, y, None))
    assert np.isfinite(cnn.predict_proba(X)).all()
    assert not np.allclose(cnn.predict_proba(X), before)


# --- in a classifier of candidates ----------------------------------------------------------------


@pytest.mark.parametrize("replay", ["mixed", "hard", "all"])
@pytest.mark.parametrize("cut", [False, True], ids=["own views", "cut patches"])
def test_a_classifier_hands_all_that_it_was_taught(replay, cut):
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    X = rng.integers(0, 120, (24, 1, 8, 8), dtype=np.uint8) + (y * 60)[:, None, None, None].astype(
        np.uint8
    )
    patches = AffinePatches(3, random_state=0)
    pool = patches.fit_transform(X) if cut else X
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
    clf = AIFTClassifier(
        CNNClassifier(body, lr=0.0, max_epochs=1),
        patches=None if cut else patches,
        replay=replay,
        training_patches=3,
        random_state=0,
    )
    clf.fit(pool[:12], y[:12], sample_weight=np.ones(12))
    clf.partial_fit(pool[12:], y[12:], sample_weight=np.full(12, 2.0))
    cnn = clf.estimator_
    if cut:
        flat, weight = pool.reshape(-1, *pool.shape[2:]), np.repeat(np.repeat([1.0, 2.0], 12), 3)
        expected = oracle(cnn, flat, np.repeat(y, 3), flat, weight)
        assert_allclose(cnn.predict_proba(flat), expected, atol=5e-3)
    else:
        # Of fresh views: near what the whole candidates give.
        expected = oracle(cnn, X, y, X, np.repeat([1.0, 2.0], 12))
        assert np.abs(cnn.predict_proba(X) - expected).mean() < 0.1


def test_a_model_that_is_loaded_goes_on_the_same(tmp_path):
    X, y = rows(60, 3)
    clf = AIFTClassifier(probed(lr=0.01), random_state=0).fit(X[:20], y[:20])
    clf.save(tmp_path / "model")
    again = load(tmp_path / "model", estimator=AIFTClassifier(probed(lr=0.01), random_state=0))
    for each in (clf, again):
        each.partial_fit(X[20:40], y[20:40])
    assert_array_equal(clf.predict_proba(X), again.predict_proba(X))
    assert math.isfinite(clf.predict_proba(X).sum())
