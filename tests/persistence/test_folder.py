"""Saved models go on as if they had not been saved; what is damaged or foreign is refused."""

import functools
import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from modAL.models import ActiveLearner
from modAL.utils.combination import make_product
from numpy.testing import assert_array_equal
from samples import make_blobs
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import EarlyStopping
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    CNNFeatures,
    JitterPatches,
    aift_sampling,
    load,
    make_query_strategy,
    patch_diversity,
    patch_entropy,
    save,
)
from aift_sklearn.errors import (
    ParameterError,
    UnsupportedModelError,
    UntrustedModelError,
)
from aift_sklearn.persistence._decoding import Decoder
from aift_sklearn.persistence._encoding import Encoder

ROOT = Path(__file__).parents[2]


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU())


def own_cnn(**params):
    return CNNClassifier(network, **{"pretrained": False, "max_epochs": 2, "lr": 0.02} | params)


def on_images(estimator, **params):
    return AIFTClassifier(estimator, patches=AffinePatches(3, size=12), random_state=0, **params)


def lite0(replay="hard", labels=("disc", "empty")):
    cnn = CNNClassifier(trainable="head", max_epochs=1)
    return AIFTClassifier(
        cnn, patches=AffinePatches(2), classes=list(labels), replay=replay, random_state=0
    )


def head():
    pipeline = make_pipeline(CNNFeatures(), StandardScaler(), LogisticRegression(C=0.01))
    return AIFTClassifier(pipeline, patches=AffinePatches(2), random_state=0)


# --- going on -------------------------------------------------------------------------------------

X, Y = make_blobs(40, size=32)

CAMPAIGNS = {
    "hard": lambda: lite0("hard"),
    "all": lambda: lite0("all"),
    "none": lambda: lite0("none"),
    "pipeline": head,
}


def go_on(learner, n_rounds):
    """Ask and teach; return what was asked, and the predictions at the end."""
    asked = []
    for _ in range(n_rounds):
        indices, images = learner.query(X, n_instances=4, random_state=len(learner.y_training))
        asked.append(indices.tolist())
        learner.teach(images, Y[indices])
    return {
        "asked": asked,
        "proba": learner.predict_proba(X).tolist(),
        "memory": learner.estimator.memory_.y.tolist(),
        "round": learner.estimator.memory_.round.tolist(),
    }


def test_campaigns_go_on_in_a_new_process_as_if_they_had_not_been_saved(tmp_path):
    learners = {}
    for name, classifier in CAMPAIGNS.items():
        learners[name] = AIFTLearner(classifier(), X_training=X[:8], y_training=Y[:8])
        go_on(learners[name], 1)
        learners[name].save(tmp_path / name)
    code = (
        f"import json, pathlib, sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "import torch; torch.set_num_threads(1)\n"
        "from tests.persistence.test_folder import go_on, load\n"
        f"folders = pathlib.Path({str(tmp_path)!r}).iterdir()\n"
        "print(json.dumps({one.name: go_on(load(one), 2) for one in folders}))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(there.stdout)
    assert found.keys() == CAMPAIGNS.keys()
    for name, learner in learners.items():
        assert found[name] == go_on(learner, 2), name


@pytest.mark.parametrize("labels", [["disc", "empty"], [10, 20, 30]])
def test_a_classifier_that_saw_some_classes_goes_on(labels, tmp_path):
    names = np.array(labels)[(Y == "empty").astype(int)]
    model = lite0(labels=labels).partial_fit(X[:6], names[:6])
    again = AIFTClassifier.load(model.save(tmp_path))
    assert_array_equal(again.classes_seen_, model.classes_seen_)
    for one in (model, again):
        one.partial_fit(X[6:12], names[6:12])
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.classes_.dtype == model.classes_.dtype


MODELS = {
    "logistic": lambda: AIFTClassifier(LogisticRegression()),
    "forest": lambda: AIFTClassifier(RandomForestClassifier(5), patches=JitterPatches(3)),
    "sgd": lambda: AIFTClassifier(SGDClassifier(loss="log_loss"), replay="all"),
    "default": AIFTClassifier,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_first", [1, 8])
def test_models_of_features_go_on_even_after_a_batch_of_one_class(name, n_first, tmp_path):
    features = np.random.default_rng(0).normal(size=(30, 3)) + (np.arange(30) % 2)[:, None]
    y = np.arange(30) % 2
    model = MODELS[name]().set_params(classes=[0, 1], random_state=np.random.RandomState(3))
    model.partial_fit(features[:n_first], y[:n_first])
    # skops does not vouch for the compiled tree.
    again = load(save(model, tmp_path), trusted=["sklearn.tree._tree.Tree"])
    assert_array_equal(again.predict_patch_proba(features), model.predict_patch_proba(features))
    for one in (model, again):
        one.partial_fit(features[8:20], y[8:20])
    assert_array_equal(again.predict_proba(features), model.predict_proba(features))


def test_patches_that_were_cut_already_weights_and_calibration_are_kept(tmp_path):
    views = AffinePatches(3, size=16).fit_transform(X)
    cnn = CNNClassifier(max_epochs=1, trainable="head", calibration="temperature", random_state=0)
    model = AIFTClassifier(cnn, random_state=0)
    model.fit(views, Y, sample_weight=np.linspace(0.5, 2, 40))
    again = load(save(model, tmp_path))
    assert again.estimator_.temperature_ == model.estimator_.temperature_ != 1.0
    assert_array_equal(again.memory_.sample_weight, model.memory_.sample_weight)
    assert_array_equal(again.predict_proba(views), model.predict_proba(views))


@pytest.mark.parametrize(
    "estimator",
    [
        lite0(),
        head(),
        AIFTLearner(lite0(), aift_sampling),
        AIFTLearner(lite0(), functools.partial(aift_sampling, alpha=0.5, reduction="mean")),
        CNNClassifier(lr=float("inf"), trainable=3),
        CNNFeatures(batch_size=8),
        AffinePatches.for_microscopy(size=(8, 9)),
        LogisticRegression(C=3),
        make_pipeline(StandardScaler(), GaussianNB()),
    ],
)
def test_what_is_not_fitted_is_saved_with_its_parameters(estimator, tmp_path):
    again = load(save(estimator, tmp_path))
    assert type(again) is type(estimator)
    assert repr(again) == repr(estimator)
    assert repr(clone(again)) == repr(clone(estimator))


def test_patches_and_features_are_saved_fitted(tmp_path):
    patches = AffinePatches(4, random_state=None).fit(X)
    again = load(save(patches, tmp_path / "patches"))
    assert_array_equal(again.transform(X), patches.transform(X))
    features = CNNFeatures().fit(X)
    again = CNNFeatures.load(features.save(tmp_path / "features"))
    assert_array_equal(again.transform(X), features.transform(X))


def test_the_caller_and_the_copy_share_nothing(tmp_path):
    model = AIFTClassifier(LogisticRegression()).fit([[0.0], [1.0]], [0, 1])
    one, other = (load(save(model, tmp_path)) for _ in range(2))
    one.memory_.X[:] = 9
    assert other.memory_.X[0, 0] == model.memory_.X[0, 0] == 0


# --- what is stored -------------------------------------------------------------------------------

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from([np.float32(0.1), np.int8(3), np.bool_(True), np.str_("a"), np.float64("nan")]),
    st.sampled_from(
        [
            np.arange(6).reshape(2, 3).astype(dtype)
            for dtype in ("u1", "i8", "f4", "f8", "?", "U3", "S2", "c16", ">f4")
        ]
        + [np.array(["a", "bc"], dtype=object), np.zeros((0, 3)), np.float32(3) * np.ones(())]
    ),
)
TREES = st.recursive(
    PLAIN,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.lists(inside, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), inside, max_size=3),
    ),
    max_leaves=12,
)


def assert_alike(left, right):
    assert type(left) is type(right)
    if isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_alike(one, other)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        assert_alike(list(left.values()), list(right.values()))
    elif isinstance(left, (np.ndarray, np.generic)):
        assert left.dtype == right.dtype
        assert_array_equal(left, right)
    else:
        assert repr(left) == repr(right)


@given(TREES)
def test_plain_values_come_back_as_they_were(value):
    encoder = Encoder()
    tree = json.loads(json.dumps(encoder.encode(value), allow_nan=False))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **encoder.arrays)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as arrays:
        assert_alike(Decoder(dict(arrays), {}, {}).decode(tree), value)


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generators_go_on(kind):
    generator = np.random.Generator(getattr(np.random, kind)(3))
    generator.random(7)
    encoder = Encoder()
    tree = json.loads(json.dumps(encoder.encode(generator)))
    again = Decoder(encoder.arrays, {}, {}).decode(tree)
    assert_array_equal(again.random(5), generator.random(5))


def test_frames_come_back_as_frames_and_grow(tmp_path):
    frame = pd.DataFrame(
        {"a": np.arange(8.0), "b": np.arange(8) % 2, 3: list("abcdabcd")}, index=np.arange(8) * 2
    )
    encoder = Encoder()
    tree = json.loads(json.dumps(encoder.encode(frame)))
    again = Decoder(encoder.arrays, {}, {}).decode(tree)
    pd.testing.assert_frame_equal(again, frame, check_dtype=False)
    learner = AIFTLearner(AIFTClassifier(LogisticRegression()))
    learner.teach(frame[["a", "b"]], frame["b"])
    saved = load(save(learner, tmp_path))
    saved.teach(frame[["a", "b"]], frame["b"])
    assert saved.X_training.shape == (16, 2)
    assert saved.X_training.columns.tolist() == ["a", "b"]


def test_a_learner_taught_something_else_is_refused_before_anything_is_written(tmp_path):
    learner = AIFTLearner(LogisticRegression())
    learner.teach(scipy.sparse.csr_matrix(np.eye(4)), [0, 1, 0, 1])
    with pytest.raises(UnsupportedModelError, match="X_training is of type csr"):
        save(learner, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_array_that_occurs_twice_is_stored_once(tmp_path):
    learner = AIFTLearner(lite0())
    learner.teach(X, Y)
    learner.save(tmp_path)
    (path,) = tmp_path.glob("arrays-*.npz")
    assert X.nbytes < path.stat().st_size < 1.5 * X.nbytes


def test_nothing_that_is_stored_is_pickled(tmp_path):
    learner = AIFTLearner(head())
    learner.teach(X, Y)
    learner.save(tmp_path)
    for path in tmp_path.iterdir():
        assert path.suffix in (".json", ".npz", ".safetensors", ".skops", ".md")
        data = path.read_bytes()
        if path.suffix in (".npz", ".skops"):
            with zipfile.ZipFile(path) as archive:
                assert not any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())
        with pytest.raises(Exception, match=r".*"):
            pickle.loads(data)


# --- memory that stays at home --------------------------------------------------------------------


def test_without_memory_no_image_leaves_and_predictions_stay(tmp_path):
    learner = AIFTLearner(lite0())
    learner.teach(X[:12], Y[:12])
    learner.save(tmp_path / "without", include_memory=False)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "without").iterdir())
    assert not any(image.tobytes() in stored for image in X)
    assert str(X[0, 0, 0, :3]).strip("[]") not in stored.decode("latin-1")

    again = load(tmp_path / "without")
    assert_array_equal(again.predict_proba(X), learner.predict_proba(X))
    before = again.predict_proba(X)
    with pytest.raises(ParameterError, match=r"load\(folder, memory=\(X, y\)\)"):
        again.teach(X[12:20], Y[12:20])
    assert_array_equal(again.predict_proba(X), before)
    again.estimator.replay = "none"
    again.teach(X[12:20], Y[12:20])
    assert len(again.estimator.memory_.y) == 8

    whole = load(tmp_path / "without", memory=(X[:12], Y[:12]))
    assert_array_equal(whole.X_training, X[:12])
    for one in (learner, whole):
        one.teach(X[12:20], Y[12:20])
    assert_array_equal(whole.predict_proba(X), learner.predict_proba(X))
    assert_array_equal(whole.estimator.memory_.round, learner.estimator.memory_.round)


@pytest.mark.parametrize(
    "memory",
    [(X[:11], Y[:11]), (X[:12][::-1], Y[:12]), (X[:12], Y[:12][::-1]), (X[:12] / 255, Y[:12])],
)
def test_another_memory_is_refused(memory, tmp_path):
    lite0().fit(X[:12], Y[:12]).save(tmp_path, include_memory=False)
    with pytest.raises(ParameterError, match=r"expected the pair \(X, y\)"):
        load(tmp_path, memory=X[:12])
    listed = load(tmp_path, memory=(X[:12].tolist(), Y[:12].tolist()))
    assert_array_equal(listed.memory_.X, X[:12])
    with pytest.raises(ParameterError, match=r"expected the 12 of shape \(12, 3, 32, 32\)"):
        load(tmp_path, memory=memory)


@pytest.mark.parametrize(
    "X_of",
    [
        lambda X: X,
        lambda X: X.astype(object),
        lambda X: pd.DataFrame(X, columns=["age", "size"]).assign(sex=["f", "m"] * 2),
    ],
)
def test_a_learner_around_any_estimator_leaves_its_candidates_out(X_of, tmp_path):
    taught = X_of(np.arange(8.0).reshape(4, 2))
    model = make_pipeline(FunctionTransformer(n_columns), DummyClassifier())
    learner = AIFTLearner(model, X_training=taught, y_training=np.array([0, 0, 1, 1]))
    learner.save(tmp_path, include_memory=False)
    assert not list(tmp_path.glob("arrays-*"))
    trusted = ["tests.persistence.test_folder.n_columns"]
    assert load(tmp_path, trusted=trusted).X_training is None
    again = load(tmp_path, memory=(taught, [0, 0, 1, 1]), trusted=trusted)
    assert_array_equal(again.X_training, np.asarray(taught))
    for y in ([0, 0, 1, 0], ["0", "0", "1", "1"]):
        with pytest.raises(ParameterError, match="expected the 4 of shape"):
            load(tmp_path, memory=(taught, y), trusted=trusted)


def n_columns(X):
    return np.full((len(X), 1), np.shape(X)[1])


def test_a_learner_taught_after_its_classifier_takes_the_memory_of_both(tmp_path):
    learner = AIFTLearner(AIFTClassifier(GaussianNB()).fit([[0.0], [1.0]], [0, 1]))
    learner.save(tmp_path / "untaught", include_memory=False)
    assert load(tmp_path / "untaught", memory=([[0.0], [1.0]], [0, 1])).X_training is None
    learner.teach(np.array([[2.0]]), np.array([1]))
    learner.save(tmp_path / "taught", include_memory=False)
    again = load(tmp_path / "taught", memory=([[0.0], [1.0], [2.0]], [0, 1, 1]))
    assert again.X_training is None
    assert again.estimator.memory_.y.tolist() == [0, 1, 1]


@pytest.mark.parametrize("wrap", [OneVsRestClassifier, lambda model: GridSearchCV(model, {}, cv=2)])
def test_candidates_are_never_left_in_where_they_should_be_left_out(wrap, tmp_path):
    around = wrap(AIFTClassifier(GaussianNB())).fit([[0.0], [1.0]] * 4, ["a", "b"] * 4)
    with pytest.raises(UnsupportedModelError, match=r"include_memory=False does not reach"):
        save(around, tmp_path / "new", include_memory=False)
    own = OwnClassifier(GaussianNB()).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(UnsupportedModelError, match=r"include_memory=False does not reach"):
        save(own, tmp_path / "new", include_memory=False)
    other = ActiveLearner(GaussianNB(), X_training=np.eye(2), y_training=np.array([0, 1]))
    with pytest.raises(UnsupportedModelError, match=r"X_training"):
        save(other, tmp_path / "new", include_memory=False)
    assert not (tmp_path / "new").exists()


class OwnClassifier(AIFTClassifier):
    """Somebody's own."""


@pytest.mark.parametrize("memory", [(3, 4), ([[1.0]], [0, 1]), X[:12], (X[:12], Y[:12], 1)])
def test_memory_that_is_no_pair_of_candidates_and_labels_is_refused(memory, tmp_path):
    lite0().fit(X[:12], Y[:12]).save(tmp_path, include_memory=False)
    with pytest.raises(ParameterError, match=r"expected the pair \(X, y\) of as many"):
        load(tmp_path, memory=memory)


@pytest.mark.parametrize("model", [AIFTClassifier(GaussianNB()), LogisticRegression()])
def test_memory_that_is_not_needed_is_refused(model, tmp_path):
    save(model.fit([[0.0], [1.0]], [0, 1]), tmp_path)
    with pytest.raises(ParameterError, match=r"has no use for it"):
        load(tmp_path, memory=([[0.0], [1.0]], [0, 1]))


# --- what has to be supplied again ----------------------------------------------------------------


@pytest.mark.parametrize("backbone", [network, network(), nn.Sequential(nn.LazyConv2d(4, 3))])
@pytest.mark.parametrize("wrap", ["cnn", "aift", "learner", "features"])
def test_a_network_of_ones_own_is_supplied_again(backbone, wrap, tmp_path):
    def build():
        cnn = own_cnn(random_state=0).set_params(backbone=backbone)
        if wrap == "features":
            return on_images(make_pipeline(CNNFeatures(backbone, pretrained=False), GaussianNB()))
        return cnn if wrap == "cnn" else on_images(cnn)

    model = build().fit(X[:20], Y[:20])
    if wrap == "learner":
        taught = AIFTLearner(build())
        taught.teach(X[:20], Y[:20])
        model = taught
    save(model, tmp_path)
    with pytest.raises(
        UnsupportedModelError, match=r"backbone was .*load\(folder, estimator=\.\.\.\)"
    ):
        load(tmp_path)
    again = load(tmp_path, estimator=build())
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    if wrap in ("cnn", "aift"):
        for one in (model, again):
            one.partial_fit(X[20:], Y[20:])
        assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_another_network_is_refused(tmp_path):
    save(own_cnn().fit(X, Y), tmp_path)
    with pytest.raises(ParameterError, match="saved weights do not fit"):
        load(tmp_path, estimator=own_cnn().set_params(backbone=nn.Conv2d(3, 5, 3)))


def test_callbacks_and_strategies_are_supplied_again(tmp_path):
    learner = AIFTLearner(
        on_images(own_cnn(callbacks=[EarlyStopping(monitor="train_loss")])),
        lambda *args: np.arange(3),
    )
    learner.teach(X, Y)
    learner.save(tmp_path)
    supply = on_images(own_cnn(callbacks=[EarlyStopping(monitor="train_loss")]))
    with pytest.raises(UnsupportedModelError, match=r"query_strategy=\.\.\."):
        load(tmp_path, estimator=supply)
    again = load(tmp_path, estimator=supply, query_strategy=aift_sampling)
    assert again.query_strategy is aift_sampling
    assert isinstance(again.estimator.estimator_.callbacks[0], EarlyStopping)


def test_strategies_by_a_utility_are_kept(tmp_path):
    strategy = make_query_strategy(
        patch_entropy, selection="k-centre", omega=2, cold_start="random"
    )
    again = load(save(AIFTLearner(lite0(), strategy), tmp_path)).query_strategy
    assert again.get_params() == strategy.get_params()
    product = make_query_strategy(
        make_product(patch_entropy, patch_diversity), selection="k-centre", omega=2
    )
    learner = AIFTLearner(lite0(), product)
    save(learner, tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"utility was .*query_strategy=\.\.\."):
        load(tmp_path)
    assert load(tmp_path, query_strategy=product).query_strategy.utility is product.utility
    assert load(tmp_path, estimator=learner).query_strategy.utility is product.utility
    with pytest.raises(UnsupportedModelError, match=r"utility was"):
        load(tmp_path, query_strategy=aift_sampling)


class Oracle(ClassifierMixin, BaseEstimator):
    """A classifier from outside scikit-learn."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def test_types_that_skops_does_not_trust_are_named(tmp_path):
    model = AIFTClassifier(Oracle()).fit([[0.0], [1.0]], [0, 1])
    save(model, tmp_path)
    with pytest.raises(
        UntrustedModelError, match=r"trusted=\['tests.persistence.test_folder.Oracle'\]"
    ):
        load(tmp_path)
    again = load(tmp_path, trusted="tests.persistence.test_folder.Oracle")
    assert isinstance(again.estimator_, Oracle)
    assert again.predict_proba([[3.0]]).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (make_pipeline(FunctionTransformer(lambda X: X), GaussianNB()), r"functiontransformer"),
        (object(), "of type object; expected an estimator"),
        (AIFTClassifier, "expected an estimator"),
        (
            CalibratedClassifierCV(AIFTClassifier(CNNClassifier(nn.Linear(2, 2)))),
            "CalibratedClassifierCV .* save the estimator inside",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(model, message, tmp_path):
    with pytest.raises(UnsupportedModelError, match=message):
        save(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_odd_labels_are_kept(tmp_path):
    model = AIFTClassifier(GaussianNB()).fit([[0.0], [1.0]], ["\ud800", "µ"])
    assert load(model.save(tmp_path)).classes_.tolist() == model.classes_.tolist()
    model.save(tmp_path, include_memory=False)
    assert len(load(tmp_path, memory=([[0.0], [1.0]], ["\ud800", "µ"])).memory_.y) == 2


# --- the card -------------------------------------------------------------------------------------


def test_the_card_says_what_the_model_is(tmp_path, monkeypatch):
    learner = AIFTLearner(lite0())
    learner.teach(X[:6], Y[:6])
    learner.teach(X[6:10], Y[6:10])
    card = (learner.save(tmp_path / "model") / "README.md").read_text("utf-8")
    discs = [int((Y[:6] == "disc").sum()), int((Y[6:10] == "disc").sum())]
    assert card.startswith("---\nlibrary_name: aift-sklearn\n")
    assert f"| disc | {sum(discs)} | {discs[0]} | {discs[1]} |" in card
    assert "10 labelled images (channels x height x width) of 3 x 32 x 32, in 2 rounds" in card
    assert "not calibrated" in card
    assert "2 epochs in all" in card
    for path in (tmp_path / "model").glob("weights-*"):
        assert path.name in card
    (code,) = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    names = {"FOLDER": tmp_path / "model"}
    exec(code, names)
    assert_array_equal(names["model"].predict(X), learner.predict(X))


def test_the_card_of_a_long_campaign_and_of_an_unfitted_model(tmp_path):
    model = AIFTClassifier(GaussianNB(), classes=[0, 1])
    for k in range(14):
        model.partial_fit([[float(k)], [k + 0.5]], [0, 1])
    card = (model.save(tmp_path / "long") / "README.md").read_text("utf-8")
    assert "| all | 28 |\n" in card
    assert "Nothing is recorded" not in card.split("## Limits")[1]
    assert "Not fitted" in (save(lite0(), tmp_path / "new") / "README.md").read_text("utf-8")
    features = CNNFeatures().fit(X[:2])
    assert "Not fitted" in (save(features, tmp_path / "features") / "README.md").read_text("utf-8")
