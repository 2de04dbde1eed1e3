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
from aift_sklearn.errors import (
    DataError,
    LabelError,
    NonFiniteLossError,
    ParameterError,
    TrainingInterrupted,
)


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
        C=40.0, max_iter=2000, tol=1e-8, class_weight="balanced" if balanced else None
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


@pytest.mark.parametrize("n", [4, 33, 70])
def test_images_that_look_the_same_give_the_frequencies(n):
    # In batches of different sizes their embeddings differ by rounding.
    y = np.append(np.zeros(n - 1, int), 1)
    same = np.tile(rows(1)[0], (n, 1))
    cnn = probed().fit(same, y)
    assert_allclose(cnn.predict_proba(same[:1]), [[1 - 1 / n, 1 / n]], atol=1e-2)
    assert np.abs(cnn.module_.head.weight.detach().numpy()).max() < 1e3


def test_embeddings_that_are_not_finite_are_left_to_training():
    class Broken(nn.Linear):
        def forward(self, x):
            return super().forward(x) / (x[:, :1] < 50)

    X, y = rows()
    X[40] = 99
    with pytest.raises(NonFiniteLossError):
        CNNClassifier(Broken(4, 3), random_state=0, augmentation_views=3).fit(X, y)


def test_a_seed_gives_one_head_whatever_else_draws():
    class Noisy(nn.Linear):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x), 0.3, training=True)

    X, y = rows()
    torch.manual_seed(0)
    body = Noisy(4, 6)
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        cnn = CNNClassifier(body, lr=0.0, max_epochs=1, random_state=0).fit(X, y)
        heads.append(cnn.module_.head.weight.detach().numpy())
        assert torch.equal(torch.get_rng_state(), before)
    assert_array_equal(*heads)


def test_views_larger_than_the_images_are_drawn_in_parts():
    drawn = []

    class Watched(AffinePatches):
        def sample(self, X, rng):
            drawn.append(len(X))
            return super().sample(X, rng)

    X = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    views = Watched(2, size=24, random_state=0).fit(X)
    cnn = CNNClassifier(
        nn.Conv2d(1, 3, 3), augmentation=views, augmentation_views=4, batch_size=8, max_epochs=1
    )
    cnn.fit(X, np.arange(40) % 2)
    assert max(drawn) == 8


def test_how_many_views_each_has_changes_the_strength_of_the_prior_little():
    X, y = rows(60, 2)
    spread = [np.ptp(probed(augmentation_views=v).fit(X, y).predict_proba(X)) for v in (1, 8)]
    assert_allclose(*spread, rtol=1e-2)


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
        cnn = probed(lr=1e-6, batch_size=64).partial_fit(X[:4], [0, 1, 0, 1], classes=[0, 1, 2])
        cnn.partial_fit(X, y, memory=memory)
        losses[name] = cnn.history_[-1]["train_loss"]
    assert losses["with"] < 0.6 * losses["without"]


def embeddings_of_a_call(cnn, X, y, **how):
    """How many images a call embeds without gradients."""
    n_embedded = []

    def note(module, given, out):
        if not torch.is_grad_enabled():
            n_embedded.append(len(out))

    handle = cnn.module_.backbone.register_forward_hook(note)
    cnn.partial_fit(X, y, **how)
    handle.remove()
    return sum(n_embedded)


def test_the_memory_is_embedded_once_or_twice_where_it_has_a_class_that_is_new_to_the_head():
    X, y = rows(60, 3)
    params = {"lr": 1e-3, "batch_size": 64}
    tells = probed(**params).partial_fit(X[:9], y[:9])
    lacks = probed(**params).partial_fit(X[:2], y[:2], classes=[0, 1, 2])
    looks = embeddings_of_a_call(copy.deepcopy(tells), X[:3], y[:3])
    memory = X[:9], y[:9]
    assert embeddings_of_a_call(tells, X[:3], y[:3], memory=memory) == looks + 9
    assert embeddings_of_a_call(lacks, X[:3], y[:3], memory=memory) == looks + 18
    assert embeddings_of_a_call(lacks, X[:3], y[:3], memory=memory) == looks + 9


@pytest.mark.parametrize(
    "params",
    [
        {"linear_probe": False},
        {"pretrained": False},
        {"calibration": "temperature"},
        {"early_stopping": 2},
    ],
)
def test_the_memory_is_left_alone_where_it_is_not_to_be_learnt(params):
    X, y = rows(60, 3)
    cnn = probed(lr=0.02, **params).fit(X, y)
    other = copy.deepcopy(cnn)
    cnn.partial_fit(X[:45], y[:45], memory=(X, y, None))
    other.partial_fit(X[:45], y[:45])
    assert_array_equal(cnn.predict_proba(X), other.predict_proba(X))


def test_where_nothing_could_be_held_out_the_memory_is_learnt():
    X, y = rows(60, 3)
    cnn = probed(early_stopping=2).fit(X, y)
    cnn.partial_fit(X[:3], y[:3], memory=(X, y))
    assert_allclose(cnn.predict_proba(X), oracle(cnn, X, y, X), atol=1e-2)


def test_a_temperature_of_another_head_is_not_kept():
    X, y = rows(60, 3)
    cnn = probed(calibration="temperature").fit(X, y)
    assert cnn.temperature_ != 1
    cnn.set_params(calibration=None).partial_fit(X, y, memory=(X, y))
    assert cnn.temperature_ == 1


def rates(cnn, X, y, **how):
    """Largest learning rates of head and backbone in a call."""
    from skorch.callbacks import Callback

    seen = []

    class Notes(Callback):
        def on_batch_begin(self, net, **kwargs):
            seen.append([group["lr"] for group in net.optimizer_.param_groups])

    cnn.set_params(callbacks=[Notes]).partial_fit(X, y, **how)
    return np.max(seen, axis=0)


def test_the_head_learns_fast_until_a_probe_tells_its_classes():
    X, y = rows(60, 3)
    params = {"lr": 1e-4, "continued_lr_factor": 1.0, "max_epochs": 5}
    one_class = probed(**params)
    assert_allclose(rates(one_class, X[:3], [0] * 3, classes=[0, 1, 2]), [1e-3, 1e-4])
    assert_allclose(rates(one_class, X, y), [1e-3, 1e-4])
    assert_allclose(rates(one_class, X, y, memory=(X, y)), [1e-4, 1e-4])
    assert_allclose(rates(one_class, X, y), [1e-4, 1e-4])
    two_classes = probed(**params)
    few = y < 2
    assert_allclose(rates(two_classes, X[few], y[few], classes=[0, 1, 2]), [1e-4, 1e-4])
    assert_allclose(rates(two_classes, X, y), [1e-3, 1e-4])
    fixed = probed(head_lr_factor=3.0, **params)
    assert_allclose(rates(fixed, X, y), [3e-4, 1e-4])


@pytest.mark.parametrize(
    ("memory", "error"),
    [
        (lambda X, y: (X, np.full(len(y), 7), None), LabelError),
        (lambda X, y: (X[:, :3], y, None), DataError),
        (lambda X, y: (X, y[:-1], None), LabelError),
        (lambda X, y: X, ParameterError),
        (lambda X, y: 3, ParameterError),
        (lambda X, y: (X,), ParameterError),
    ],
)
def test_a_memory_that_does_not_fit_is_refused_and_nothing_changes(memory, error):
    X, y = rows()
    cnn = probed(lr=0.02).fit(X, y)
    before = cnn.predict_proba(X)
    with pytest.raises(error):
        cnn.partial_fit(X, y, memory=memory(X, y))
    assert_array_equal(cnn.predict_proba(X), before)


def test_a_memory_that_is_none_is_refused_in_a_first_call_too():
    X, y = rows()
    with pytest.raises(ParameterError, match=r"memory=int of no parts; expected \(X, y\)"):
        probed().partial_fit(X, y, memory=3)


def test_whether_to_probe_is_yes_or_no():
    X, y = rows()
    with pytest.raises(ParameterError, match="linear_probe='no'"):
        probed(linear_probe="no").fit(X, y)


def test_a_call_that_fails_brings_the_former_head_back():
    X, y = rows()
    cnn = probed(lr=0.01).fit(X[:20], y[:20])
    before = cnn.predict_proba(X)
    cnn.set_params(lr=1e30, max_epochs=3)
    with pytest.raises(NonFiniteLossError):
        cnn.partial_fit(X, y, memory=(X, y, None))
    assert_array_equal(cnn.predict_proba(X), before)


class Interrupted(nn.Module):
    """A body that is interrupted when it has been asked for so many embeddings without gradient."""

    def __init__(self):
        super().__init__()
        self.body = torso()
        self.left = None

    def forward(self, x):
        if self.left is not None and not torch.is_grad_enabled():
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return self.body(x)


def interrupted(n_embedded):
    """A classifier that was interrupted, with what it was before and what one that was not is."""
    X, y = rows()
    torch.manual_seed(0)
    body = Interrupted()
    cnn = CNNClassifier(body, lr=0.02, max_epochs=2, batch_size=64, random_state=0)
    # The head is to be told of a class: the memory is embedded before training, too.
    cnn.partial_fit(X[:2], y[:2], classes=[0, 1, 2])
    before, whole = copy.deepcopy(cnn), copy.deepcopy(cnn)
    whole.partial_fit(X, y, memory=(X, y))
    cnn.module_.backbone.body.left = n_embedded
    error = None
    try:
        cnn.partial_fit(X, y, memory=(X, y))
    except KeyboardInterrupt as caught:
        error = caught
    for each in (cnn, before, whole):
        each.module_.backbone.body.left = None
    return cnn, before, whole, error


def test_an_interrupt_of_the_first_probe_changes_nothing():
    X, _ = rows()
    cnn, before, _, error = interrupted(0)
    assert type(error) is KeyboardInterrupt
    assert_array_equal(cnn.predict_proba(X), before.predict_proba(X))
    assert len(cnn.history_) == 2


def test_an_interrupt_of_the_last_probe_keeps_what_was_trained():
    X, _ = rows()
    # The memory once before; a last look at the images of training; the memory once more.
    cnn, before, whole, error = interrupted(2)
    assert type(error) is TrainingInterrupted
    assert_array_equal(cnn.embed(X), whole.embed(X))
    assert not np.array_equal(cnn.embed(X), before.embed(X))
    assert len(cnn.history_) == 4
    assert not np.array_equal(cnn.predict_proba(X), whole.predict_proba(X))


def test_an_interrupt_of_training_keeps_the_last_epoch():
    from skorch.callbacks import Callback

    class AfterOne(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 1:
                raise KeyboardInterrupt

    X, y = rows()
    cnn = probed(lr=0.02, schedule="constant").fit(X[:20], y[:20])
    whole = copy.deepcopy(cnn)
    cnn.set_params(max_epochs=5, callbacks=[AfterOne])
    before = cnn.embed(X)
    with pytest.raises(TrainingInterrupted):
        cnn.partial_fit(X, y, memory=(X, y, None))
    assert not np.allclose(cnn.embed(X), before, atol=1e-4)
    # The head is the one that was trained, and no longer that of the embeddings as they were.
    assert np.abs(cnn.predict_proba(X) - oracle(whole, X, y, X)).max() > 1e-3
    assert len(cnn.history_) == 2


# --- in a classifier of candidates ----------------------------------------------------------------


@pytest.mark.parametrize("replay", ["mixed", "hard", "all"])
@pytest.mark.parametrize("cut", [False, True], ids=["own views", "cut patches"])
def test_a_classifier_hands_all_that_it_was_taught(replay, cut):
    rng = np.random.default_rng(0)
    # Those that are taught first teach the opposite.
    y = (np.arange(24) + (np.arange(24) < 12)) % 2
    lift = (np.arange(24) % 2 * 60)[:, None, None, None].astype(np.uint8)
    X = rng.integers(0, 120, (24, 1, 8, 8), dtype=np.uint8) + lift
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
        # Of fresh views, of which each knows all but the place: it lies in the middle.
        expected = oracle(cnn, X, y, X, np.repeat([1.0, 2.0], 12))
        only_new = oracle(cnn, X[12:], y[12:], X)
        told = cnn.predict_proba(X)
        assert np.abs(told - expected).mean() < 0.5 * np.abs(told - only_new).mean()


def test_an_estimator_that_knows_no_memory_is_not_given_any():
    class Former(CNNClassifier):
        def partial_fit(self, X, y, classes=None, sample_weight=None, groups=None):
            return super().partial_fit(X, y, classes, sample_weight, groups)

    X, y = rows(60, 3)
    clf = AIFTClassifier(Former(torso, max_epochs=1), random_state=0).fit(X[:30], y[:30])
    assert clf.partial_fit(X[30:], y[30:]).memory_.y.shape == (60,)


def test_a_model_that_is_loaded_goes_on_the_same(tmp_path):
    X, y = rows(60, 3)
    clf = AIFTClassifier(probed(lr=0.01), random_state=0).fit(X[:20], y[:20])
    clf.save(tmp_path / "model")
    again = load(tmp_path / "model", estimator=AIFTClassifier(probed(lr=0.01), random_state=0))
    for each in (clf, again):
        each.partial_fit(X[20:40], y[20:40])
    assert_array_equal(clf.predict_proba(X), again.predict_proba(X))
    assert math.isfinite(clf.predict_proba(X).sum())
