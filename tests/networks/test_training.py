"""Depth of training: schedules, early stopping, callbacks, calibration, weights, interrupts."""

import numpy as np
import pytest
import scipy.special
import sklearn
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import BatchScoring, Callback, Checkpoint, EarlyStopping, EpochScoring
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    JitterPatches,
)
from aift_sklearn.errors import (
    DataError,
    NonFiniteLossError,
    ParameterError,
    TrainingInterrupted,
)
from aift_sklearn.networks._heldout import best_temperature, hold_out


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d(1))


def small(**params):
    defaults = {"pretrained": False, "max_epochs": 3, "lr": 0.03, "random_state": 0}
    return CNNClassifier(network, **defaults | params)


def state(cnn):
    return {name: value.clone() for name, value in cnn.module_.state_dict().items()}


def same(before, after):
    return all(torch.equal(before[name], after[name]) for name in before)


class Notes(Callback):
    """Write down what happens, into a list outside, since callbacks are copied."""

    def __init__(self, notes, stop_after=None):
        self.notes, self.stop_after = notes, stop_after

    def __deepcopy__(self, memo):
        return Notes(self.notes, self.stop_after)

    def on_batch_begin(self, net, training=False, **kwargs):
        if training:
            self.notes.append(net.optimizer_.param_groups[-1]["lr"])

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.stop_after:
            raise KeyboardInterrupt


# --- schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_rises_and_follows_its_schedule(schedule):
    X, y = make_blobs(32)
    rates = []
    cnn = small(schedule=schedule, batch_size=4, max_epochs=5, callbacks=[Notes(rates)])
    cnn.fit(X, y)
    rates = np.array(rates) / 0.03
    assert len(rates) == 40
    assert_allclose(rates[:8], np.arange(1, 9) / 8, rtol=1e-6)
    left = (40 - np.arange(8, 40)) / 33
    expected = {"linear": left, "constant": np.ones(32), "cosine": np.sin(np.pi / 2 * left) ** 2}
    assert_allclose(rates[8:], expected[schedule], rtol=1e-6)


# --- early stopping -------------------------------------------------------------------------------


def test_training_stops_when_the_held_out_loss_does_not_improve():
    X, y = make_blobs(60)
    rng = np.random.default_rng(0)
    noise = rng.permutation(y)  # nothing to learn: soon it only gets worse
    cnn = small(early_stopping=2, max_epochs=40, lr=0.1, batch_size=8).fit(X, noise)
    losses = [epoch["valid_loss"] for epoch in cnn.history_]
    assert len(losses) < 40
    assert np.argmin(losses) == len(losses) - 3
    assert [e["epoch"] for e in cnn.history_] == list(range(1, len(losses) + 1))
    # The best weights are kept: training for so many epochs and no more gives them.
    learnt = small(early_stopping=2, max_epochs=40, lr=0.1, batch_size=8)
    stop = Notes([], stop_after=int(np.argmin(losses)) + 1)
    learnt.set_params(callbacks=[stop])
    with pytest.raises(TrainingInterrupted):
        learnt.fit(X, noise)
    assert same(state(learnt), state(cnn))


def test_held_out_images_are_not_trained_on_and_are_whole():
    X, y = make_blobs(50)
    seen = []

    class Spy(AffinePatches):
        def sample(self, X, rng):
            seen.extend(image.numpy().tobytes() for image in X)
            return super().sample(X, rng)

    views = Spy(2, size=8).fit(X)
    cnn = small(
        early_stopping=5, augmentation=views, augmentation_views=2, max_epochs=2, batch_size=16
    ).fit(X, y)
    held = [image for image in X if image.tobytes() not in set(seen)]
    assert len(held) == 10
    assert len(seen) == 2 * 2 * 40
    kept = {label: sum(image.tobytes() in set(seen) for image in X[y == label]) for label in set(y)}
    assert kept == {"disc": 20, "empty": 20}
    # The accuracy is that of the whole images.
    labels = np.array(
        [label for image, label in zip(X, y, strict=True) if image.tobytes() not in set(seen)]
    )
    expected = (cnn.predict(views.transform_whole(np.stack(held))) == labels).mean()
    best = int(np.argmin([epoch["valid_loss"] for epoch in cnn.history_]))
    assert cnn.history_[best]["valid_accuracy"] == expected


@pytest.mark.parametrize("n", [6, 9])
def test_too_few_images_are_all_trained_on(n):
    X, y = make_blobs(n)
    stopped = small(early_stopping=1, calibration="temperature").fit(X, y)
    plain = small().fit(X, y)
    assert same(state(stopped), state(plain))
    assert stopped.temperature_ == 1.0
    assert "valid_loss" not in stopped.history_[0]


@given(
    sizes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=40),
    fraction=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
@example(sizes=[("a", 1), ("b", 1)] * 8 + [("c", 2)], fraction=0.9, seed=0)
def test_groups_are_held_out_whole_and_in_proportion(sizes, fraction, seed):
    y = np.repeat([label for label, _ in sizes], [size for _, size in sizes])
    groups = np.repeat(np.arange(len(sizes)), [size for _, size in sizes])
    shuffled = np.random.default_rng(seed).permutation(len(y))
    y, groups = y[shuffled], groups[shuffled]
    kept, held = hold_out(y, fraction, np.random.default_rng(seed), groups)
    assert_array_equal(np.sort(np.append(kept, held)), np.arange(len(y)))
    assert not set(groups[kept]) & set(groups[held])
    labels = np.array([label for label, _ in sizes])
    counts = {c: (labels == c).sum() for c in set(labels)}
    wanted = {c: min(round(fraction * n), n - 1) for c, n in counts.items()}
    if sum(wanted.values()) < 4 or sum(map(bool, wanted.values())) < 2:
        assert len(held) == 0
    else:
        held_groups = np.unique(groups[held])
        assert {c: (labels[held_groups] == c).sum() for c in counts} == wanted


def test_patches_of_a_candidate_that_were_cut_already_are_held_out_together():
    X, y = make_blobs(40)
    patches = np.repeat(X[:, None], 3, axis=1)
    patches[:, :, 0, 0, 0] = np.arange(40)[:, None]
    seen, held = set(), set()

    class Look(Callback):
        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            marks = (batch[0][:, 0, 0, 0] * 255).round().int().tolist()
            (seen if training else held).update(marks)

    cnn = small(early_stopping=3, max_epochs=1, callbacks=[Look])
    AIFTClassifier(cnn, training_patches=3).fit(patches, y)
    assert len(held) == 8
    assert seen == set(range(40)) - held


def test_images_of_one_group_are_held_out_together_and_groups_must_fit():
    X, y = make_blobs(20)
    cnn = small(early_stopping=1)
    # One group of each class, of which one is always trained on: nothing is held out.
    assert "valid_loss" not in cnn.fit(X, y, groups=y).history_[-1]
    assert "valid_loss" in cnn.fit(X, y, groups=np.arange(20)).history_[-1]
    proba = cnn.predict_proba(X)
    with pytest.raises(DataError, match=r"groups have shape \(3,\)"):
        cnn.fit(X, y, groups=[1, 2, 3])
    assert_array_equal(cnn.predict_proba(X), proba)


def test_without_the_options_nothing_is_held_out():
    X, y = make_blobs(40)
    assert "valid_loss" not in small().fit(X, y).history_[0]


# --- callbacks ------------------------------------------------------------------------------------


def test_skorch_callbacks_do_their_work(tmp_path):
    X, y = make_blobs(50)

    def train_accuracy(net, X, y=None):
        return float(len(net.history))

    cnn = small(
        early_stopping=10,
        callbacks=[
            ("mine", EpochScoring(train_accuracy, name="count", on_train=True)),
            Checkpoint(dirname=str(tmp_path), monitor="valid_loss_best"),
        ],
    ).fit(X, y)
    assert {"params.pt", "history.json"} <= {path.name for path in tmp_path.iterdir()}
    # The next call starts with fresh copies, and the caller's are untouched.
    assert not hasattr(cnn.callbacks[1], "get_formatted_files_called")
    cnn.partial_fit(X, y)
    assert len(cnn.history_) == 6


@pytest.mark.parametrize("weight", [None, np.linspace(0.5, 2, 50)], ids=["plain", "weighted"])
def test_scores_of_callbacks_are_those_of_the_labels(weight):
    X, y = make_blobs(50)

    def accuracy(net, X, y):
        logits = torch.cat(list(net.forward_iter(X)))
        return float((logits.argmax(dim=1).numpy() == y).mean())

    of_training = EpochScoring(accuracy, on_train=True, name="train_accuracy")
    of_held_out = EpochScoring(accuracy, name="again")
    cnn = small(
        early_stopping=9,
        callbacks=[of_training, of_held_out, BatchScoring(accuracy, name="by_batch")],
    )
    for epoch in cnn.fit(X, y, sample_weight=weight).history_:
        assert epoch["again"] == epoch["valid_accuracy"]
        assert epoch["by_batch"] == pytest.approx(epoch["valid_accuracy"])
        assert 0 <= epoch["train_accuracy"] <= 1
    # At a rate of 0 the network that is scored is the one that predicts.
    cnn.set_params(lr=0, early_stopping=None, callbacks=[of_training]).partial_fit(
        X, y, None, weight
    )
    assert cnn.history_[-1]["train_accuracy"] == cnn.score(X, y)


class Uncopied(Callback):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle a socket")


def test_callbacks_may_be_made_by_functions():
    X, y = make_blobs(10)
    rates, made = [], []

    def notes():
        made.append(Notes(rates))
        return made[-1]

    cnn = small(callbacks=[notes, ("early", lambda: EarlyStopping("train_loss", patience=1))])
    cnn.fit(X, y).partial_fit(X, y)
    assert len(made) == 2
    assert len(rates) == len(cnn.history_)
    small(callbacks=[Uncopied]).fit(X, y)


def test_a_callback_of_the_user_stops_training():
    X, y = make_blobs(10)
    stop = EarlyStopping("train_loss", patience=1, threshold=10, threshold_mode="abs", sink=print)
    assert len(small(max_epochs=9, callbacks=[stop]).fit(X, y).history_) == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"callbacks": [Uncopied()]}, r"Uncopied .* cannot be copied \(cannot pickle a socket\)"),
        ({"callbacks": [3]}, "callbacks hold 3"),
        ({"callbacks": [("name", lambda: None)]}, "expected skorch callbacks, functions"),
        ({"schedule": "step"}, "schedule='step'; expected one of 'linear'"),
        ({"early_stopping": 0}, "early_stopping=0"),
        ({"calibration": "platt"}, "calibration='platt'"),
        ({"validation_fraction": 1.5, "early_stopping": 2}, "validation_fraction=1.5"),
        ({"callbacks": Checkpoint()}, "expected a list of skorch callbacks"),
    ],
)
def test_unfit_options_are_refused(params, message):
    X, y = make_blobs(20)
    with pytest.raises(ParameterError, match=message):
        small(**params).fit(X, y)


# --- calibration ----------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), n_classes=st.integers(2, 5), spread=st.floats(0.1, 30))
def test_the_temperature_is_the_best_of_a_fine_grid(seed, n_classes, spread):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(30, n_classes)) * spread
    y = np.where(rng.random(30) < 0.6, logits.argmax(axis=1), rng.integers(0, n_classes, 30))

    def loss(T):
        return -np.mean(
            [scipy.special.log_softmax(z / T)[c] for z, c in zip(logits, y, strict=True)]
        )

    grid = np.exp(np.linspace(-np.log(5), np.log(20), 61))
    best = min(loss(T) for T in grid)
    found = best_temperature(logits, y)
    assert 0.1999 < found < 20.01
    assert loss(found) <= best + 1e-6


def test_calibration_divides_logits_and_changes_no_class():
    X, y = make_blobs(80)
    wrong = y.copy()
    wrong[::4] = np.where(wrong[::4] == "disc", "empty", "disc")
    options = {"max_epochs": 30, "lr": 0.05}
    cnn = small(calibration="temperature", validation_fraction=0.4, **options).fit(X, wrong)
    assert abs(np.log(cnn.temperature_)) > 0.1
    proba = cnn.predict_proba(X)
    temperature, cnn.temperature_ = cnn.temperature_, 1.0
    raw = cnn.predict_proba(X).astype(float)
    tempered = raw ** (1 / temperature)
    assert_allclose(proba, tempered / tempered.sum(axis=1, keepdims=True), atol=1e-5)
    assert_array_equal(proba.argmax(axis=1), raw.argmax(axis=1))


def test_the_temperature_lasts_until_it_is_measured_again():
    X, y = make_blobs(80)
    cnn = small(calibration="temperature", max_epochs=10).fit(X, y)
    first = cnn.temperature_
    assert first != 1.0
    assert cnn.partial_fit(X[:6], y[:6]).temperature_ == first
    assert cnn.partial_fit(X, np.roll(y, 1)).temperature_ != first
    assert cnn.set_params(calibration=None).fit(X, y).temperature_ == 1.0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_failure_while_calibrating_is_one_of_the_call(error):
    X, y = make_blobs(60)
    fail = []

    class Fragile(nn.Module):
        def forward(self, x):
            if fail and not self.training:
                fail.pop()()
            return x

    body = nn.Sequential(Fragile(), network())
    cnn = CNNClassifier(
        lambda: body, pretrained=False, max_epochs=2, random_state=0, calibration="temperature"
    ).fit(X, y)
    before, temperature, proba = state(cnn), cnn.temperature_, cnn.predict_proba(X)

    class Arm(Callback):
        def on_train_end(self, net, **kwargs):
            # The check for finite weights passes, calibration does not.
            fail.extend([lambda: _raise(error), lambda: None])

    cnn.set_params(callbacks=[Arm])
    expected = TrainingInterrupted if error is KeyboardInterrupt else error
    with pytest.raises(expected):
        cnn.partial_fit(X, y)
    assert not fail
    assert cnn.temperature_ == temperature
    if error is RuntimeError:
        assert same(before, state(cnn))
        assert_array_equal(cnn.predict_proba(X), proba)
        assert len(cnn.history_) == 2
    else:
        # Both epochs were finished.
        assert not same(before, state(cnn))
        assert len(cnn.history_) == 4


def _raise(error):
    raise error("here")


def test_a_call_that_fails_is_as_if_it_had_never_been():
    X, y = make_blobs(40)
    one, other = (small(calibration="temperature").fit(X, y) for _ in range(2))
    one.set_params(lr=1e12)
    with pytest.raises(NonFiniteLossError):
        one.partial_fit(X, y)
    one.set_params(lr=0.03)
    for cnn in (one, other):
        cnn.partial_fit(X, y)
    assert same(state(one), state(other))
    assert one.temperature_ == other.temperature_


@given(seed=st.integers(0, 999), T=st.floats(0.2, 20))
def test_weights_calibrate_as_repetitions_do(seed, T):
    rng = np.random.default_rng(seed)
    logits, y = rng.normal(size=(12, 3)) * T, rng.integers(0, 3, 12)
    times = rng.integers(1, 4, 12)
    repeated = best_temperature(np.repeat(logits, times, axis=0), np.repeat(y, times))
    weighted = best_temperature(logits, y, times.astype(float))
    assert weighted == pytest.approx(repeated, rel=1e-3)


# --- weights --------------------------------------------------------------------------------------


def test_equal_weights_are_no_weights():
    X, y = make_blobs(40)
    plain = small(class_weight="balanced").fit(X, y)
    equal = small(class_weight="balanced").fit(X, y, sample_weight=np.full(40, 3.0))
    for name, value in state(plain).items():
        assert_allclose(state(equal)[name], value, atol=1e-5)


def test_images_of_weight_zero_are_not_trained_on():
    X, y = make_blobs(40)
    weight = np.repeat([1.0, 0.0], 20)
    spoilt = X.copy()
    spoilt[20:] = 0
    one = small().fit(X, y, sample_weight=weight)
    other = small().fit(spoilt, y, sample_weight=weight)
    assert same(state(one), state(other))


def test_a_weighted_loss_is_the_weighted_mean():
    X, y = make_blobs(12)
    weight = np.random.default_rng(0).uniform(0.1, 3, 12)
    # One batch at a rate of 0: the loss is that of the network as it was made.
    cnn = small(lr=0.0, batch_size=12, max_epochs=1, class_weight="balanced").fit(X, y)
    cnn.module_.head.bias.data = torch.tensor([0.7, -0.4])
    cnn.partial_fit(X, y, sample_weight=weight)
    proba = cnn.predict_proba(X)
    loss = -np.log(proba[np.arange(12), (y == "empty").astype(int)])
    # Both classes weigh the same in all.
    balanced = weight / np.where(y == "empty", *(weight[y == c].sum() for c in ("empty", "disc")))
    expected = np.average(loss, weights=balanced)
    assert cnn.history_[-1]["train_loss"] == pytest.approx(expected, 1e-4)


def test_weights_too_small_for_single_precision_do_no_harm():
    X, y = make_blobs(12)
    weight = np.where(np.arange(12) == 3, 1e-50, 1.0)
    cnn = small(batch_size=1, max_epochs=1, class_weight="balanced")
    cnn.fit(X, y, sample_weight=weight)
    assert np.isfinite(cnn.predict_proba(X)).all()


def test_heavier_images_decide():
    X, _ = make_blobs(40)
    X = np.concatenate([X[:20], X[:20]])
    y = np.repeat(["a", "b"], 20)  # every image has both labels
    weight = np.where(y == "b", 5.0, 1.0)
    assert small().fit(X, y, sample_weight=weight).predict_proba(X)[:, 1].mean() > 0.6


@pytest.mark.parametrize(
    "weight", [np.ones(3), np.full(10, np.nan), -np.ones(10), np.zeros(10), ["a"] * 10]
)
@pytest.mark.parametrize("kind", ["cnn", "aift"])
def test_unfit_weights_are_refused(weight, kind):
    X, y = make_blobs(10)
    model = small() if kind == "cnn" else AIFTClassifier(small(), patches=AffinePatches(2))
    with pytest.raises(DataError, match="sample_weight"):
        model.fit(X, y, sample_weight=weight)
    with pytest.raises(NotFittedError):
        model.predict(X)


class Weighed(LogisticRegression):
    """Notes the weights that it is given."""

    given = None

    def fit(self, X, y, sample_weight=None):
        type(self).given = sample_weight
        return super().fit(X, y, sample_weight)


def features(n=24):
    k = np.arange(n) % 2
    return np.random.default_rng(0).normal(size=(n, 3)) + 2 * k[:, None], k


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("routing", [False, True])
def test_weights_are_shared_by_patches_kept_and_replayed(piped, routing):
    X, y = features()
    with sklearn.config_context(enable_metadata_routing=routing):
        inner = Weighed()
        if routing:
            inner.set_fit_request(sample_weight=True)
        scaler = StandardScaler()
        if routing:
            scaler.set_fit_request(sample_weight=False)
        model = AIFTClassifier(
            make_pipeline(scaler, inner) if piped else inner,
            patches=JitterPatches(3),
            training_patches=2,
        )
        w = np.arange(1.0, 25)
        model.fit(X[:8], y[:8], sample_weight=w[:8])
        assert_array_equal(Weighed.given, np.repeat(w[:8], 2))
        model.partial_fit(X[8:16], y[8:16])
        assert_array_equal(Weighed.given, np.repeat([*w[:8], *np.ones(8)], 2))
        model.partial_fit(X[16:], y[16:], sample_weight=w[16:])
        expected = [*w[:8], *np.ones(8), *w[16:]]
        assert_array_equal(Weighed.given, np.repeat(expected, 2))
    assert_array_equal(model.memory_.sample_weight, expected)
    assert_array_equal(model.memory_.round, np.repeat([0, 1, 2], 8))


def test_weights_are_routed_through_a_grid_search():
    X, y = features()
    with sklearn.config_context(enable_metadata_routing=True):
        inner = Weighed().set_fit_request(sample_weight=True)
        model = AIFTClassifier(inner, patches=JitterPatches(2), training_patches=1)
        model.set_score_request(sample_weight=False)
        search = GridSearchCV(model, {"estimator__C": [0.1, 1.0]}, cv=2)
        search.fit(X, y, sample_weight=np.arange(1.0, 25))
        assert_array_equal(Weighed.given, np.arange(1.0, 25))
        unset = clone(model).set_params(estimator=Weighed())
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            unset.fit(X, y, sample_weight=np.ones(24))
        scores = cross_validate(model, X, y, cv=2, params={"sample_weight": np.ones(24)})
        assert len(scores["test_score"]) == 2


def test_weights_reach_a_cnn_that_continues():
    X, y = make_blobs(30)
    weight = np.repeat([1.0, 0.0], 15)
    models = []
    for spoil in (False, True):
        images = X.copy()
        images[15:] = 0 if spoil else images[15:]
        model = AIFTClassifier(small(), patches=AffinePatches(2), random_state=0, replay="all")
        model.fit(images, y, sample_weight=weight).partial_fit(X[:4], y[:4])
        models.append(state(model.estimator_))
    assert same(*models)


def test_the_default_estimator_takes_weights_with_and_without_routing():
    X, y = features()
    for routing in (False, True):
        with sklearn.config_context(enable_metadata_routing=routing):
            AIFTClassifier().fit(X, y, sample_weight=np.ones(24))


def test_counts_of_a_bootstrap_are_repetitions_for_an_estimator_without_weights():
    X, y = features()
    counts = np.random.default_rng(0).multinomial(24, np.full(24, 1 / 24))
    drawn = np.repeat(np.arange(24), counts)
    counted = AIFTClassifier(KNeighborsClassifier(), random_state=0).fit(X, y, counts)
    repeated = AIFTClassifier(KNeighborsClassifier(), random_state=0).fit(X[drawn], y[drawn])
    np.testing.assert_array_equal(counted.predict_proba(X), repeated.predict_proba(X))
    assert counted.memory_.y.tolist() == y[drawn].tolist()
    bagged = BaggingClassifier(AIFTClassifier(KNeighborsClassifier()), 3, random_state=0)
    assert bagged.fit(X, y).score(X, y) > 0.6


def test_an_estimator_without_weights_says_so():
    X, y = features()
    with pytest.raises(ParameterError, match="KNeighborsClassifier does not take it"):
        AIFTClassifier(KNeighborsClassifier()).fit(X, y, sample_weight=np.linspace(0.5, 1, 24))
    with pytest.raises(ParameterError, match="KNeighborsClassifier does not take it"):
        AIFTClassifier(KNeighborsClassifier()).fit(X, y, sample_weight=np.full(24, 2))
    with pytest.raises(ParameterError, match=r"\['weight'\].*sample_weight only"):
        AIFTClassifier().fit(X, y, weight=np.ones(24))


# --- interrupts -----------------------------------------------------------------------------------


def aift(**params):
    return AIFTClassifier(
        small(**params), patches=AffinePatches(2), classes=["disc", "empty"], random_state=0
    )


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_interrupted_first_call_is_usable_once_an_epoch_is_finished(method):
    X, y = make_blobs(30)
    cnn = small(callbacks=[Notes([], stop_after=2)])
    with pytest.raises(TrainingInterrupted):
        getattr(cnn, method)(X, y)
    assert [epoch["epoch"] for epoch in cnn.history_] == [1, 2]
    assert cnn.classes_.tolist() == ["disc", "empty"]
    proba = cnn.predict_proba(X)
    cnn.set_params(callbacks=None).partial_fit(X, y)
    assert not np.array_equal(cnn.predict_proba(X), proba)


@pytest.mark.parametrize("first", [True, False])
def test_an_interrupt_loses_no_label(first):
    X, y = make_blobs(40)
    learner = AIFTLearner(aift())
    if not first:
        learner.teach(X[:10], y[:10])
        before = state(learner.estimator.estimator_)
        learner.estimator.estimator_.set_params(callbacks=[Notes([], stop_after=1)])
    else:
        learner.estimator.set_params(estimator__callbacks=[Notes([], stop_after=1)])
    with pytest.raises(TrainingInterrupted):
        learner.teach(X[10:20], y[10:20])
    n = 10 if first else 20
    memory = learner.estimator.memory_
    assert_array_equal(memory.y, y[20 - n : 20])
    assert_array_equal(learner.y_training, memory.y)
    assert_array_equal(learner.X_training, memory.X)
    assert learner.predict(X).shape == (40,)
    assert first or not same(before, state(learner.estimator.estimator_))
    learner.estimator.estimator_.set_params(callbacks=None)
    learner.teach(X[20:], y[20:])
    assert_array_equal(learner.estimator.memory_.y, y[20 - n :])
    assert learner.estimator.memory_.round.max() == (1 if first else 2)


class Interrupted(BaseEstimator):
    def sample(self, X, rng):
        raise KeyboardInterrupt


@pytest.mark.parametrize("first", [True, False])
def test_an_interrupt_before_the_first_epoch_is_over_can_be_repeated(first):
    X, y = make_blobs(20)
    learner = AIFTLearner(aift())
    model = learner.estimator
    if first:
        model.set_params(estimator__augmentation=Interrupted())
    else:
        learner.teach(X[:10], y[:10])
        before = learner.predict_proba(X)
        views = model.estimator_.augmentation
        model.estimator_.set_params(augmentation=Interrupted())
    with pytest.raises(KeyboardInterrupt) as caught:
        learner.teach(X[10:], y[10:])
    assert not isinstance(caught.value, TrainingInterrupted)
    if first:
        assert learner.X_training is None
        with pytest.raises(NotFittedError):
            learner.predict(X)
        model.set_params(estimator__augmentation=None)
    else:
        assert_array_equal(learner.predict_proba(X), before)
        assert len(learner.y_training) == len(model.memory_.y) == 10
        model.estimator_.set_params(augmentation=views)
    learner.teach(X[10:], y[10:])
    assert len(model.memory_.y) == (10 if first else 20)
