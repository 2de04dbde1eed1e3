"""What is damaged, foreign or of another format is refused, and earlier formats are read."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose
from packaging.version import parse as parse_version
from samples import make_blobs
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, CNNFeatures, load, save
from aift_sklearn.errors import DataError, ModelFileError
from aift_sklearn.persistence._earlier import upgraded
from aift_sklearn.persistence._format import encode_head, named_parts


@functools.cache
def pipeline():
    """A model with every kind of part, and the images it knows."""
    X, y = make_blobs(12, size=32)
    steps = make_pipeline(CNNFeatures(), StandardScaler(), LogisticRegression(C=0.01))
    model = AIFTClassifier(steps, patches=AffinePatches(2), random_state=0)
    return model.fit(X, y), X, y


@pytest.fixture
def saved(tmp_path):
    model, *_ = pipeline()
    return save(model, tmp_path / "model"), model


# --- damage ---------------------------------------------------------------------------------------


def find(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


PARTS = ["model.json", "arrays-*.npz", "weights-*.safetensors", "s1-*.skops"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "emptied"])
def test_damage_is_noticed_and_named(saved, part, damage):
    path = find(saved[0], part)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(ModelFileError, match=path.name.replace(".", r"\.")):
        load(saved[0])


def rewrite(folder, change):
    """Change model.json as somebody would who knows the format."""
    path = folder / "model.json"
    model = json.loads(path.read_text("utf-8"))
    model.pop("sha256")
    change(model)
    path.write_bytes(encode_head(model))


def attack_path(model):
    model["files"]["../../secret-000000000000.npz"] = "0"


def attack_class(model):
    model["model"] = {"$": "object", "class": "Popen", "attributes": {}}


def attack_function(model):
    model["model"] = {"$": "function", "name": "system"}


def attack_generator(model):
    state = {"$": "dict", "items": {"bit_generator": "seed"}}
    model["model"] = {"$": "generator", "state": state}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), "format 2, and this package reads 1 to 1.*Update"),
        (lambda m: m.update(format="other"), "no model of this package"),
        (lambda m: m.update(version=0), "format 0"),
        (lambda m: m.update(version=True), "format True"),
        (lambda m: m.update(version=2, versions=[]), r"aift-sklearn \?"),
        (lambda m: m.pop("files"), "is damaged"),
        (lambda m: m.update(files=["a"]), "is not as expected"),
        (lambda m: m.update(files=None), "is not as expected"),
        (lambda m: m.update({"class": "Other"}), "holds a AIFTClassifier, and says 'Other'"),
        (lambda m: m.update(model={"$": "what"}), "unknown entry"),
        (lambda m: m.update(model={"$": "array", "array": "a99"}), "damaged"),
        (lambda m: m.update(model={"$": "skops", "file": "s9", "class": "x"}), "damaged"),
        (attack_path, "is not as expected"),
        (attack_class, "unknown class 'Popen'"),
        (attack_function, "unknown function 'system'"),
        (attack_generator, "unknown random generator 'seed'"),
    ],
)
def test_a_file_that_asks_for_something_else_is_refused(saved, change, message):
    rewrite(saved[0], change)
    with pytest.raises(ModelFileError, match=message):
        load(saved[0])


def test_a_pickled_array_is_never_loaded(saved):
    class Bomb:
        def __reduce__(self):
            return (exit, (3,))

    path = find(saved[0], "arrays-*.npz")
    np.savez(path, allow_pickle=True, a0=np.array([Bomb()], dtype=object))
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite(saved[0], lambda model: model["files"].update({path.name: sha}))
    with pytest.raises(ModelFileError, match=r"arrays-.*is damaged"):
        load(saved[0])


def test_folders_and_classes_that_do_not_fit_are_refused(saved, tmp_path):
    for place, message in ((tmp_path, "holds no model"), (tmp_path / "nowhere", "is no folder")):
        with pytest.raises(ModelFileError, match=message):
            load(place)
    with pytest.raises(ModelFileError, match="class AIFTClassifier, not CNNClassifier"):
        CNNClassifier.load(saved[0])
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        save(saved[1], tmp_path / "file")


def test_nesting_without_end_is_damage(saved):
    (saved[0] / "model.json").write_text("[" * 100_000)
    with pytest.raises(ModelFileError, match="damaged"):
        load(saved[0])


def test_a_change_that_keeps_model_json_whole_is_noticed(saved):
    path = saved[0] / "model.json"
    text = path.read_text("utf-8")
    assert text.count('"C": 0.01') == 0
    changed = text.replace('"training_patches": 4', '"training_patches": 5')
    assert changed != text
    path.write_text(changed, "utf-8")
    with pytest.raises(ModelFileError, match=r"model\.json is damaged: its contents are not those"):
        load(saved[0])


def test_parts_are_named_by_heads_of_this_package_alone():
    part = "s0-0123456789ab.skops"
    assert named_parts(
        json.dumps({"files": {part: "", "notes": "", f"../{part}": ""}}).encode()
    ) == {part}
    for text in ("", "[", "[]", "{}", '{"files": 3}', '{"files": ["a"]}', "[" * 100_000, "\xff"):
        assert named_parts(text.encode("latin-1")) == set()


# --- earlier formats ------------------------------------------------------------------------------

EARLIER = Path(__file__).parent / "format_1"
EXPECTED = json.loads((EARLIER / "expected.json").read_text("utf-8"))


def test_a_learner_of_format_1_goes_on():
    cnn = CNNClassifier(
        nn.Conv2d(3, 4, 3, stride=2), pretrained=False, max_epochs=2, lr=0.02, random_state=0
    )
    supply = AIFTClassifier(cnn, patches=AffinePatches(3, size=8), random_state=0)
    X, y = make_blobs(12, size=12)
    learner = load(EARLIER / "learner", estimator=supply)
    assert_allclose(learner.predict_proba(X), EXPECTED["learner"], atol=1e-4)
    assert learner.estimator.memory_.y.tolist() == y[:8].tolist()
    assert learner.estimator.memory_.round.tolist() == [0] * 6 + [1] * 2
    # Of before there was this parameter.
    assert learner.estimator.estimator_.get_params()["linear_probe"] is True
    learner.teach(X[8:], y[8:])
    assert learner.y_training.tolist() == y.tolist()


def written_by_a_later_scikit_learn(name):
    """Whether parts are of a release that the installed one came before: its classes differ."""
    versions = json.loads((EARLIER / name / "model.json").read_text("utf-8"))["versions"]
    return parse_version(versions["scikit-learn"]) > parse_version(sklearn.__version__)


# Their scikit-learn parts are of the release that wrote them.
@pytest.mark.filterwarnings(
    f"ignore::{InconsistentVersionWarning.__module__}.InconsistentVersionWarning"
)
@pytest.mark.parametrize("name", ["one_class", "pipeline"])
def test_classifiers_of_format_1_go_on(name):
    if written_by_a_later_scikit_learn(name):
        pytest.skip("written by a later scikit-learn than the installed one")
    F = np.random.default_rng(0).normal(size=(12, 3))
    y = (F[:, 0] > 0).astype(int)
    memory = (F[:8], y[:8]) if name == "pipeline" else None
    model = load(EARLIER / name, memory=memory)
    assert_allclose(model.predict_proba(F), EXPECTED[name], atol=1e-4)
    model.partial_fit(F[8:], y[8:])
    assert len(model.memory_.y) == (12 if memory else 5)


def test_an_earlier_format_is_turned_into_the_present_one_step_by_step():
    steps = {
        1: lambda model: {"names": [model["name"]]},
        2: lambda model: {"names": model["names"] + ["c"]},
    }
    assert upgraded({"version": 1, "name": "a"}, 3, steps) == {"version": 3, "names": ["a", "c"]}
    assert upgraded({"version": 2, "names": []}, 3, steps) == {"version": 3, "names": ["c"]}
    assert upgraded({"version": 3, "names": []}, 3, steps) == {"version": 3, "names": []}
