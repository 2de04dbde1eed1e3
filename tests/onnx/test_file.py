"""One file that serves without torch, and nothing else."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn
from typer.testing import CliRunner

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, CNNFeatures, cli
from aift_sklearn.errors import DataError, ExportError, ModelFileError, ParameterError

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")
pytest.importorskip("skl2onnx", reason="the extra cpu is not installed")

import onnx
import onnxruntime

from aift_sklearn.onnx import OnnxScorer
from aift_sklearn.onnx.file import _graph_digest

X, Y = make_blobs(40, size=20)
CLASSES = ["absent", "disc", "empty"]


def features(head):
    return make_pipeline(CNNFeatures(nn.Conv2d(3, 6, 5), pretrained=False), *head)


ESTIMATORS = {
    "cnn": lambda: CNNClassifier(
        nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU()),
        pretrained=False,
        max_epochs=2,
        lr=0.02,
        calibration="temperature",
    ),
    "head": lambda: features([StandardScaler(), LogisticRegression()]),
    "forest": lambda: features([RandomForestClassifier(n_estimators=5, random_state=0)]),
}


def fitted(estimator, patches=None, images=X):
    patches = AffinePatches(4, size=16, rotation=40) if patches is None else patches
    model = AIFTClassifier(estimator, patches=patches, classes=CLASSES, backend="torch")
    return model.set_params(random_state=0).fit(images[:30], Y[:30])


@pytest.fixture(scope="module", params=ESTIMATORS)
def model(request):
    return fitted(ESTIMATORS[request.param]())


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return OnnxScorer(model, alpha=0.6).save(tmp_path_factory.mktemp("file") / "model.onnx")


@pytest.fixture(scope="module")
def fitted_cnn():
    return fitted(ESTIMATORS["cnn"]())


@pytest.fixture
def cnn(fitted_cnn):
    """A fitted model that may be changed."""
    return copy.deepcopy(fitted_cnn)


@pytest.fixture(scope="module")
def cnn_path(fitted_cnn, tmp_path_factory):
    return OnnxScorer(fitted_cnn).save(tmp_path_factory.mktemp("file") / "model.onnx")


def test_a_loaded_scorer_scores_as_the_classifier_does(model, path):
    scorer = OnnxScorer.load(path)
    scores, proba = scorer.score(X)
    # A head of scikit-learn's computes in float64, its graph in float32, which shows in scores
    # that are small differences.
    assert_allclose(scores, model.score_candidates(X, alpha=0.6), rtol=1e-3, atol=1e-3)
    assert_allclose(proba, model.predict_proba(X), atol=1e-5)
    assert scorer.classes_.tolist() == CLASSES
    assert_allclose(
        OnnxScorer.load(path, alpha=1.0).score(X)[0],
        model.score_candidates(X, alpha=1.0),
        rtol=1e-3,
        atol=1e-3,
    )
    assert_allclose(scorer.embed(X), model.embed(X), rtol=1e-4, atol=1e-5)
    assert_array_equal(scorer.refresh().top(X, 3, racing=False)[1], np.sort(scores)[::-1][:3])


def test_any_runtime_runs_the_file_from_bytes_to_scores(model, path):
    session = onnxruntime.InferenceSession(path)
    assert [one.name for one in session.get_inputs()] == ["candidates"]
    assert session.get_inputs()[0].type == "tensor(uint8)"
    for n in (0, 1, 40):
        score, proba, P = session.run(["score", "proba", "patch_proba"], {"candidates": X[:n]})
        assert P.shape == (n, 4, 3)
        if n:
            expected = model.score_candidates(X[:n], alpha=0.6)
            assert_allclose(score, expected, rtol=1e-3, atol=1e-3)
            assert_allclose(proba, model.predict_proba(X[:n]), atol=1e-5)
            assert_allclose(P, model.predict_patch_proba(X[:n]), atol=1e-5)


def test_a_file_of_floats_and_one_of_patches_cut_already(fitted_cnn, tmp_path):
    model = fitted_cnn
    scorer = OnnxScorer(model, alpha=np.float32(0.25))
    path = scorer.save(tmp_path / "floats.onnx", dtype=np.float32)
    floats = (X / 255).astype(np.float32)
    (score,) = onnxruntime.InferenceSession(path).run(["score"], {"candidates": floats})
    assert_allclose(score, model.score_candidates(floats), rtol=1e-3, atol=1e-6)
    patches = AffinePatches(3).fit_transform(X)
    cut = AIFTClassifier(ESTIMATORS["cnn"](), backend="torch", random_state=0)
    cut.fit(patches[:30], Y[:30])
    path = OnnxScorer(cut).save(tmp_path / "cut.onnx")
    assert_allclose(
        OnnxScorer.load(path).score(patches)[0],
        cut.score_candidates(patches),
        rtol=1e-4,
        atol=1e-6,
    )


def test_serving_loads_no_torch(cnn_path, tmp_path):
    np.save(tmp_path / "pool.npy", X)
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'onnxscript', 'skl2onnx'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import numpy as np; from aift_sklearn.onnx import OnnxScorer\n"
        f"pool = np.load({str(tmp_path / 'pool.npy')!r}, mmap_mode='r')\n"
        f"scorer = OnnxScorer.load({str(cnn_path)!r})\n"
        "print(scorer.score(pool)[0].tolist()); print(scorer.top(pool, 3)[0].tolist())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scores, best = map(json.loads, there.stdout.splitlines())
    assert_array_equal(scores, OnnxScorer.load(cnn_path).score(X)[0])
    assert best == np.argsort(-np.array(scores), kind="stable")[:3].tolist()


# --- files that are refused -----------------------------------------------------------------------


def changed(path, tmp_path, change, *, sign=True):
    """Change a file as somebody would who knows the format."""
    model = onnx.load(path)
    change(model)
    (known,) = (one for one in model.metadata_props if one.key == "aift_sklearn")
    facts = json.loads(known.value)
    if sign:
        facts["graph"] = _graph_digest(model)
    known.value = json.dumps(facts)
    (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "changed.onnx"


def facts_changed(**values):
    def change(model):
        (known,) = (one for one in model.metadata_props if one.key == "aift_sklearn")
        known.value = json.dumps(json.loads(known.value) | values)

    return change


def custom_operator(model):
    model.graph.node[0].domain = "evil"


def local_function(model):
    model.functions.add(name="f", domain="")


def outside_data(model):
    tensor = model.graph.initializer[0]
    tensor.external_data.add(key="location", value="../../secret")
    tensor.data_location = onnx.TensorProto.EXTERNAL


def hidden_data(model):
    node = model.graph.node.add(op_type="Constant", output=["hidden"])
    tensor = onnx.TensorProto(dims=[1], data_type=1)
    tensor.external_data.add(key="location", value="/etc/passwd")
    node.attribute.append(onnx.helper.make_attribute("value", tensor))


def other_weights(model):
    tensor = next(one for one in model.graph.initializer if len(one.raw_data) > 400)
    tensor.raw_data = tensor.raw_data[:-1] + bytes([tensor.raw_data[-1] ^ 1])


@pytest.mark.parametrize(
    ("change", "sign", "message"),
    [
        (custom_operator, True, r"operators of \['evil'\], which could run code"),
        (local_function, True, "operators of its own"),
        (outside_data, True, "in other files"),
        (hidden_data, True, "in other files"),
        (other_weights, False, "its graph is not the one that was saved"),
        (facts_changed(version=9), True, "has format 9, and this package reads 1 to 1"),
        (facts_changed(format="x"), True, "not exported by this package"),
        (facts_changed(classes=None), True, "damaged: "),
        (facts_changed(matrices="x"), True, "damaged: "),
    ],
)
def test_files_that_could_harm_or_were_harmed_are_refused(
    change, sign, message, cnn_path, tmp_path
):
    path = changed(cnn_path, tmp_path, change, sign=sign)
    with pytest.raises(ModelFileError, match=message):
        OnnxScorer.load(path)


def test_what_is_no_such_file_is_refused(cnn_path, tmp_path):
    data = cnn_path.read_bytes()
    bad = tmp_path / "bad.onnx"
    for contents in (data[: len(data) // 2], b"", b"no model at all", data[:-1]):
        bad.write_bytes(contents)
        with pytest.raises(ModelFileError, match=r"bad\.onnx"):
            OnnxScorer.load(bad)
    with pytest.raises(ModelFileError, match="cannot be read"):
        OnnxScorer.load(tmp_path / "nowhere.onnx")
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    info = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
    onnx.save(onnx.helper.make_model(graph), bad)
    with pytest.raises(ModelFileError, match="not exported by this package"):
        OnnxScorer.load(bad)


def test_pools_of_another_shape_are_refused(cnn_path):
    scorer = OnnxScorer.load(cnn_path)
    with pytest.raises(DataError, match=r"exported for candidates of shape \(3, 20, 20\)"):
        scorer.score(X[:, :, :16])
    with pytest.raises(DataError, match=r"exported for candidates of shape \(3, 20, 20\)"):
        scorer.score(X[:, :1])


def test_what_cannot_be_saved_says_why(cnn, cnn_path, tmp_path):
    with pytest.raises(ExportError, match="loaded from a file"):
        OnnxScorer.load(cnn_path).save(tmp_path / "again.onnx")
    model = cnn
    with pytest.raises(ParameterError, match="expected uint8 or float32"):
        OnnxScorer(model).save(tmp_path / "m.onnx", dtype=np.int16)
    with pytest.raises(ParameterError, match=r"expected \(C, H, W\), with C = 3"):
        OnnxScorer(model).save(tmp_path / "m.onnx", shape=(1, 20, 20))
    with pytest.raises(DataError, match="is a folder"):
        OnnxScorer(model).save(tmp_path)
    del model.memory_
    with pytest.raises(ParameterError, match=r"pass shape=\(C, H, W\)"):
        OnnxScorer(model).save(tmp_path / "m.onnx")
    assert OnnxScorer(model).save(tmp_path / "m.onnx", shape=(3, 20, 20)).exists()
    odd = fitted(features([FunctionTransformer(np.abs), LogisticRegression()]))
    scorer = OnnxScorer(odd)
    assert_allclose(scorer.score(X)[0], odd.score_candidates(X), rtol=1e-4)
    with pytest.raises(ExportError, match="cannot be converted to ONNX"):
        scorer.save(tmp_path / "odd.onnx")
    assert not (tmp_path / "odd.onnx").exists()


def test_the_newest_weights_are_saved(cnn, tmp_path):
    scorer = OnnxScorer(cnn)
    scorer.score(X)
    cnn.partial_fit(X[30:], Y[30:])
    found = OnnxScorer.load(scorer.save(tmp_path / "m.onnx"))
    assert_allclose(found.score(X)[0], cnn.score_candidates(X), rtol=1e-4, atol=1e-6)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def default_cnn():
    """A fitted classifier of the default backbone: commands load no code of anybody's."""
    cnn = CNNClassifier(trainable="head", max_epochs=1)
    return AIFTClassifier(cnn, patches=AffinePatches(2), random_state=0).fit(X[:8], Y[:8])


@pytest.fixture(scope="module")
def folder(default_cnn, tmp_path_factory):
    return default_cnn.save(tmp_path_factory.mktemp("saved") / "model")


def test_a_saved_model_is_exported_by_a_command(default_cnn, folder, tmp_path):
    out = tmp_path / "model.onnx"
    result = CliRunner().invoke(cli.app, ["export", str(folder), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert str(out) in result.output.replace("\n", "")
    found = OnnxScorer.load(out)
    assert_allclose(found.score(X)[0], default_cnn.score_candidates(X), rtol=1e-4, atol=1e-6)


def test_a_size_that_is_none_is_refused(folder, capsys):
    for size in ("64", "axbxc", "3x0"):
        with pytest.raises(SystemExit):
            cli.main(["export", str(folder), "--size", size])
        assert "expected" in capsys.readouterr().err
