"""Which backend predicts a pool, and that it never shows in the numbers."""

import copy
import pickle
import re
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    CNNFeatures,
    load,
)
from aift_sklearn.errors import BackendWarning, MissingDependencyError, ParameterError
from aift_sklearn.prediction import predictor
from aift_sklearn.scanning.engine import EstimatorEngine
from aift_sklearn.scanning.model import PatchModel

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

from aift_sklearn.onnx import engine, shelf

X, Y = make_blobs(50, size=20)


def convolution():
    return nn.Conv2d(3, 6, 5)


def classifier(backend="auto", backbone=None, **params):
    cnn = CNNClassifier(
        convolution if backbone is None else backbone,
        pretrained=False,
        max_epochs=2,
        lr=0.02,
    )
    patches = AffinePatches(4, rotation=40)
    return AIFTClassifier(cnn, patches=patches, backend=backend, random_state=0, **params)


@pytest.fixture
def it_pays(monkeypatch):
    monkeypatch.setattr(predictor, "_EXPORT_PIXELS", 20 * 4 * 400)
    monkeypatch.setattr(predictor, "_REFRESH_PIXELS", 10 * 4 * 400)


def test_a_network_without_parameters_is_predicted_too(it_pays):
    pooled = make_pipeline(CNNFeatures(nn.AvgPool2d(4), pretrained=False), LogisticRegression())
    model = AIFTClassifier(pooled, patches=AffinePatches(4), random_state=0).fit(X[:20], Y[:20])
    slow = clone(model).set_params(backend="torch").fit(X[:20], Y[:20])
    assert_allclose(model.predict_proba(X), slow.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "n_patches", "most"), [(224, 16, 7), (224, 2, 56), (64, 16, 86), (None, 16, 345)]
)
def test_parts_are_as_large_as_their_patches_allow(size, n_patches, most):
    """However small a candidate is, no more than 64 MB of patches are cut at once."""
    seen = []

    class Noting(LogisticRegression):
        def fit(self, X, y):
            return super().fit(X.reshape(len(X), -1)[:, :9], y)

        def predict_proba(self, X):
            seen.append(X.nbytes)
            return super().predict_proba(X.reshape(len(X), -1)[:, :9])

    rng = np.random.default_rng(0)
    pool = rng.integers(0, 256, (2 * most, 3, 32, 32), dtype=np.uint8)
    model = AIFTClassifier(Noting(), patches=AffinePatches(n_patches, size=size), random_state=0)
    model.set_params(training_patches=1).fit(pool[:6], [0, 1] * 3)
    model.predict_proba(pool)
    size = size or 32
    of_a_candidate = 4 * 3 * n_patches * size**2
    assert max(seen) <= 2**26 < max(seen) + of_a_candidate
    assert sum(seen) == len(pool) * of_a_candidate


def test_backends_agree_round_after_round(begun):
    fast, slow = (classifier(name, classes=["disc", "empty"]) for name in ("onnx", "torch"))
    for start in (0, 10, 20):
        for model in (fast, slow):
            model.partial_fit(X[start : start + 10], Y[start : start + 10])
        n = len(begun)
        assert_allclose(fast.predict_patch_proba(X), slow.predict_patch_proba(X), atol=1e-5)
        assert_allclose(fast.predict_proba(X), slow.predict_proba(X), atol=1e-5)
        scores = fast.score_candidates(X, alpha=0.5)
        assert_allclose(scores, slow.score_candidates(X, alpha=0.5), rtol=1e-3, atol=1e-6)
        assert len(begun) == n + 3
        assert fast.predict_proba(X).dtype == slow.predict_proba(X).dtype


def test_large_pools_are_exported_and_small_ones_are_not(begun, it_pays):
    model = classifier().fit(X[:30], Y[:30])
    small = model.predict_proba(X[:19])
    assert begun == []
    assert_allclose(model.predict_proba(X[:20])[:19], small, atol=1e-5)
    assert begun == [20]
    model.predict_proba(X[:10])
    assert begun == [20, 10], "it is there now, and a session is soon open"
    model.predict_proba(X[:9])
    assert begun == [20, 10]


def test_an_export_serves_later_rounds_too(begun, it_pays, monkeypatch):
    exported = []
    real = shelf._export
    monkeypatch.setattr(
        shelf, "_export", lambda network, shape: exported.append(shape) or real(network, shape)
    )
    model = classifier(classes=["disc", "empty"]).partial_fit(X[:10], Y[:10])
    for n in (20, 10, 10):
        begun.clear()
        fast = model.predict_proba(X[:n])
        assert begun == [n], "from the second round on small pools go through it as well"
        slow = model.set_params(backend="torch").predict_proba(X[:n])
        assert_allclose(fast, slow, atol=1e-5)
        model.set_params(backend="auto").partial_fit(X[20:30], Y[20:30])
    assert len(exported) == 1


def test_queries_use_it(begun, it_pays):
    learner = AIFTLearner(classifier(), X_training=X[:20], y_training=Y[:20])
    learner.query(X, n_instances=3, selection="top")
    assert begun == [50]


def test_torch_is_kept_to_where_it_is_asked_for(begun, it_pays):
    model = classifier("torch").fit(X[:30], Y[:30])
    model.predict_proba(X)
    assert begun == []
    with pytest.raises(ParameterError, match=r"^backend='magic'"):
        model.set_params(backend="magic").predict_proba(X)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnxscript"])
def test_without_the_packages_torch_serves(missing, it_pays, monkeypatch):
    model = classifier().fit(X[:30], Y[:30])
    expected = model.set_params(backend="torch").predict_proba(X)
    real = predictor.importlib.util.find_spec
    monkeypatch.setattr(
        predictor.importlib.util, "find_spec", lambda name: None if name == missing else real(name)
    )
    assert_array_equal(model.set_params(backend="auto").predict_proba(X), expected)


def test_a_package_that_cannot_be_loaded_is_told_of_once(it_pays, monkeypatch, tmp_path):
    model = classifier("torch").fit(X[:30], Y[:30])
    expected = model.predict_proba(X)
    model.set_params(backend="auto")
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libcudart.so is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [
        name for name in sys.modules if name.startswith(("aift_sklearn.onnx", "onnxrunt"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.warns(
        BackendWarning, match=r"does not load \(libcudart.so is missing\): .*\.\[gpu\]"
    ):
        assert_array_equal(model.predict_proba(X), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(model.predict_proba(X), expected)


def test_asking_for_onnx_without_the_package_says_what_to_install(monkeypatch):
    model = classifier("onnx").fit(X[:30], Y[:30])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in [name for name in sys.modules if name.startswith("aift_sklearn.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match=r"\.\[cpu\]"):
        model.predict_proba(X)


class Undecided(nn.Module):
    """Takes another way by what it sees, which no graph can hold."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        return x * 2 if float(x.detach().mean()) > 0 else x


@pytest.mark.parametrize("backend", ["auto", "onnx"])
def test_a_network_that_cannot_be_exported_is_told_of_once(backend, it_pays, begun):
    model = classifier(backend, Undecided()).fit(X[:30], Y[:30])
    with pytest.warns(BackendWarning, match=r"cannot be exported .* Pass backend='torch'") as told:
        proba = model.predict_proba(X)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(model.predict_proba(X), proba)
    assert begun == []


def test_other_estimators_predict_themselves(it_pays):
    flat = make_pipeline(FunctionTransformer(flatten), LogisticRegression())
    model = AIFTClassifier(flat, patches=AffinePatches(3), random_state=0).fit(X[:30], Y[:30])
    proba = model.predict_proba(X)
    with pytest.warns(BackendWarning, match="Pipeline is no CNN"):
        assert_array_equal(model.set_params(backend="onnx").predict_proba(X), proba)
    table = AIFTClassifier(LogisticRegression(), backend="onnx").fit([[0.0], [1.0]], [0, 1])
    assert table.predict([[0.0], [1.0]]).tolist() == [0, 1]


def flatten(images):
    return images.reshape(len(images), -1)


def test_sessions_are_left_behind_by_copies(tmp_path):
    model = classifier("onnx").fit(X[:30], Y[:30])
    proba = model.predict_proba(X)
    assert model._seam is not None
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        load(model.save(tmp_path), estimator=classifier()),
    ]
    for one in copies:
        assert one._seam is None
        assert_array_equal(one.predict_proba(X), proba)
    assert clone(model)._seam is None


def test_a_failed_round_leaves_the_session_with_the_old_weights():
    model = classifier("onnx").fit(X[:30], Y[:30])
    proba = model.predict_proba(X)
    model.estimator_.set_params(lr=1e30)
    with pytest.raises(ArithmeticError):
        model.partial_fit(X[30:], Y[30:])
    assert_array_equal(model.predict_proba(X), proba)


@pytest.mark.parametrize(
    ("providers", "serves"),
    [
        (["CPUExecutionProvider"], EstimatorEngine),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], engine.OnnxEngine),
    ],
)
def test_a_network_on_a_gpu_stays_there(providers, serves, it_pays, monkeypatch):
    """It is faster than ONNX Runtime on the CPU, and slower than ONNX Runtime on the GPU."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)

    class OnGPU:
        graph_output = "logits"
        module_ = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(is_cuda=True)]))

    model = PatchModel(OnGPU(), AffinePatches(4).fit(X), np.unique(Y), 4, 3)
    monkeypatch.setattr(predictor, "_GPU_PIXELS", 30 * 4 * 400)
    for pool, expected in ((X[:30], serves), (X[:29], EstimatorEngine)):
        found = predictor.Predictor(model).run(
            pool, lambda done: done.engine, backend="auto", verbose=0
        )
        assert isinstance(found, expected)


@pytest.mark.parametrize(("backend", "where"), [("onnx", "(CUDA|CPU)"), ("torch", "the estimator")])
def test_progress_is_shown_where_it_is_asked_for(backend, where, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    model = classifier(backend).fit(X[:20], Y[:20])
    for verbose in (0, 1):
        model.set_params(verbose=verbose).predict_proba(X)
        shown = re.search(f"scoring on {where}", capsys.readouterr().err)
        assert (shown is not None) == (verbose == 1)


def test_new_views_are_taken():
    model = classifier("onnx")
    model.set_params(patches__random_state=None, random_state=None)
    for _ in range(2):
        model.fit(X[:30], Y[:30])
        fast = model.predict_patch_proba(X)
        model.set_params(backend="torch")
        assert_allclose(fast, model.predict_patch_proba(X), atol=1e-5)
        model.set_params(backend="onnx")
