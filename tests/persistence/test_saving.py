"""Saves that fail, and many at once: who loads gets what one of them saved, whole."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
from disks import Died, DyingDisk, FullDisk, RefusingDisk, Unlocked, WatchedDisk, steps_of
from numpy.testing import assert_array_equal
from samples import make_blobs
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    CNNFeatures,
    JitterPatches,
    load,
    save,
)
from aift_sklearn.errors import DataError, ModelFileError, UnsupportedModelError
from aift_sklearn.persistence._reading import read_files
from aift_sklearn.persistence.folder import save_to


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


def another():
    """Another model with every kind of part."""
    model, X, y = pipeline()
    return clone(model).fit(X, np.roll(y, 1)), X


# --- what fails -----------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_model_and_no_rubbish(saved, tmp_path):
    folder, model = saved
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    other, X = another()
    size = sum(path.stat().st_size for path in save(other, tmp_path / "other").iterdir())
    stages = [0, 10, *np.linspace(100, size - 1, 12).astype(int).tolist()]
    for left in stages:
        with pytest.raises(OSError, match="No space left"):
            save_to(folder, other, disk=FullDisk(left))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert_array_equal(load(folder).predict_proba(X), model.predict_proba(X))
    save_to(folder, other, disk=FullDisk(size + 1000))
    assert_array_equal(load(folder).predict_proba(X), other.predict_proba(X))


def test_a_newer_model_replaces_the_older_and_nothing_else(saved):
    folder, _ = saved
    (folder / "notes.txt").write_text("mine")
    (folder / "arrays-mine.npz").write_text("mine")
    save(AIFTClassifier(LogisticRegression()), folder)
    names = {path.name for path in folder.iterdir()}
    assert {"notes.txt", "arrays-mine.npz", "model.json", "README.md"} < names
    assert not list(folder.glob("weights-*"))
    assert repr(load(folder)) == "AIFTClassifier(estimator=LogisticRegression())"


@pytest.mark.parametrize("name", ["README.md", "model.json"])
def test_files_of_something_else_are_not_replaced(name, tmp_path):
    (tmp_path / name).write_text('{"format": "mine"}')
    with pytest.raises(DataError, match=f"{name} was not written by this package"):
        save(LogisticRegression(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"format": "mine"}'
    save(LogisticRegression(), tmp_path / "model")


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="a part of that path is a file"):
        save(LogisticRegression(), tmp_path / "file" / "model")


def test_a_save_that_fails_makes_no_folder(tmp_path):
    with pytest.raises(OSError, match="No space"):
        save_to(tmp_path / "new", LogisticRegression(), disk=FullDisk(3))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("which", ["weights-", "model.json", "README.md"])
def test_a_file_that_cannot_be_put_in_place_leaves_a_whole_model(which, saved):
    folder, model = saved
    files = {path.name for path in folder.iterdir()}
    other, X = another()
    with pytest.raises(PermissionError):
        save_to(folder, other, disk=RefusingDisk(which))
    expected = model
    if which == "README.md":
        # The new model is in place by then.
        expected = other
    else:
        assert {path.name for path in folder.iterdir()} == files
    assert_array_equal(load(folder).predict_proba(X), expected.predict_proba(X))


def test_what_killed_saves_left_is_removed(saved):
    folder, model = saved
    old = folder / ".weights-0123456789ab.safetensors.1.tmp"
    running = folder / ".model.json.2.tmp"
    for path in (old, running, folder / ".notes.tmp"):
        path.touch()
    os.utime(old, (1, 1))
    save(model, folder)
    assert not old.exists()
    assert running.exists()
    assert (folder / ".notes.tmp").exists()


# --- many at once ---------------------------------------------------------------------------------


def model_of(number):
    """A small model whose files all tell its number."""
    patches = JitterPatches(2, random_state=number).fit(np.eye(3))
    patches.offsets_ = np.full((2, 3), float(number))
    return patches


def number_of(model):
    assert (model.offsets_ == model.random_state).all()
    return model.random_state


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


SIMULTANEOUS = Path(__file__).with_name("simultaneous.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_processes_save_to_one_folder_while_others_load():
    done = subprocess.run(
        [sys.executable, str(SIMULTANEOUS), "--loads", "100"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    for mode, told in json.loads(done.stdout).items():
        assert told["failures"] == 0, (mode, told["first"])
        # Else nothing was put to the test.
        assert told["different"] > 3
        assert told["exits"] == [0]
        if mode in ("own", "same"):
            assert told["files"] == sorted(["README.md", "model.json", *told["named"]])
            assert told["card"]


def test_threads_save_and_load_in_one_folder(tmp_path):
    save(model_of(0), tmp_path)
    found, errors, over = set(), [], threading.Event()

    def run(work):
        try:
            while not over.is_set():
                work()
        except Exception as error:
            errors.append(error)
            over.set()

    def write(writer):
        counted = iter(range(writer, 10**6, 2))
        return lambda: save(model_of(next(counted)), tmp_path)

    def read():
        found.add(number_of(load(tmp_path)))
        if len(found) > 12:
            over.set()

    threads = [threading.Thread(target=run, args=(work,)) for work in (write(0), write(1), read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(found) > 12
    assert len(names_in(tmp_path)) == 3


def test_a_model_may_be_replaced_at_any_step_of_a_load(tmp_path):
    save(model_of(0), tmp_path)
    n_steps = steps_of(lambda disk: read_files(tmp_path, disk=disk))
    assert n_steps == 2
    for k in range(n_steps):
        steps = iter([*[False] * k, True])

        def watch(step, path, steps=steps, number=k + 1):
            if next(steps, False):
                save(model_of(number), tmp_path)

        model, parts = read_files(tmp_path, disk=WatchedDisk(watch))
        assert set(model["files"]) == set(parts)
        assert model["model"]["attributes"]["random_state"] == k + 1


def test_what_is_open_is_read_though_it_is_removed(tmp_path):
    save(pipeline()[0], tmp_path)
    parts = set(json.loads((tmp_path / "model.json").read_bytes())["files"])
    opened = []

    class Late(WatchedDisk):
        def open(self, path):
            file = super().open(path)
            opened.append(path.name)
            if parts <= set(opened):
                save(model_of(1), tmp_path)
            return file

    _, read = read_files(tmp_path, disk=Late(lambda *step: None))
    assert set(read) == parts
    assert not any((tmp_path / name).exists() for name in parts)


def test_a_reader_that_is_always_overtaken_holds_the_writers_off(tmp_path):
    save(model_of(0), tmp_path)
    numbers, held = iter(range(1, 99)), []

    def watch(step, path):
        if step == "lock":
            held.append(path)
        if step == "open" and path.suffix == ".npz" and not held:
            save(model_of(next(numbers)), tmp_path)

    read_files(tmp_path, disk=WatchedDisk(watch))
    assert held == [tmp_path]
    assert next(numbers) == 4


def test_a_part_that_is_late_is_waited_for(tmp_path):
    save(model_of(0), tmp_path)
    (part,) = tmp_path.glob("arrays-*")
    data = part.read_bytes()
    part.unlink()
    asked = []

    def watch(step, path):
        asked.append(path.name)
        if asked.count(part.name) == 3:
            part.write_bytes(data)

    read_files(tmp_path, disk=WatchedDisk(watch))
    part.unlink()
    with pytest.raises(ModelFileError, match=rf"{part.name} is missing or cannot be read"):
        load(tmp_path)


def test_a_head_that_cannot_be_opened_for_a_moment_is_waited_for(tmp_path):
    save(model_of(0), tmp_path)
    left = [2]

    def watch(step, path):
        if path.name == "model.json" and left[0]:
            left[0] -= 1
            raise PermissionError("in use")

    read_files(tmp_path, disk=WatchedDisk(watch))
    left[0] = 99
    with pytest.raises(ModelFileError, match=r"model\.json cannot be read: in use"):
        read_files(tmp_path, disk=WatchedDisk(watch))


@pytest.mark.parametrize("own", [0, 1, 2])
@pytest.mark.parametrize("other", [0, 1])
def test_another_may_save_at_any_step_of_a_save(own, other, tmp_path):
    n_steps = steps_of(lambda disk: save_to(tmp_path / "trial", model_of(own), disk=disk))
    for k in range(n_steps + 3):
        folder = tmp_path / str(k)
        save_to(folder, model_of(0), disk=Unlocked())
        left = [k]

        def watch(step, path, folder=folder, left=left):
            if left[0] > 0:
                assert number_of(load(folder)) in (0, own)
            left[0] -= 1
            if left[0] == -1:
                save_to(folder, model_of(other), disk=Unlocked())
                assert number_of(load(folder)) == other

        save_to(folder, model_of(own), disk=WatchedDisk(watch))
        assert number_of(load(folder)) in (own, other)


@pytest.mark.parametrize("before", [True, False])
def test_a_save_that_is_killed_at_any_step_harms_nobody(before, tmp_path):
    n_steps = steps_of(lambda disk: save_to(tmp_path / "trial", model_of(1), disk=disk))
    for k in range(n_steps):
        folder = tmp_path / str(k)
        if before:
            save_to(folder, model_of(0), disk=Unlocked())
        with pytest.raises(Died):
            save_to(folder, model_of(1), disk=DyingDisk(k))
        if before:
            assert number_of(load(folder)) in (0, 1)
        else:
            with contextlib.suppress(ModelFileError):
                assert number_of(load(folder)) == 1
        save_to(folder, model_of(2), disk=Unlocked())
        assert number_of(load(folder)) == 2
        for path in folder.iterdir():
            os.utime(path, (1, 1))
        save(model_of(2), folder)
        assert len(names_in(folder)) == 3


def test_the_first_saves_to_a_folder_may_meet(tmp_path):
    for k in range(20):
        folder, left = tmp_path / str(k), [k]

        def watch(step, path, folder=folder, left=left):
            left[0] -= 1
            if left[0] == -1:
                save_to(folder, model_of(2), disk=Unlocked())

        save_to(folder, model_of(1), disk=WatchedDisk(watch))
        assert number_of(load(folder)) in (1, 2)


def test_images_that_are_to_stay_at_home_do_not_stay_in_the_folder(tmp_path):
    model, *_ = pipeline()
    save(model, tmp_path)
    save(model, tmp_path, include_memory=False)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert model.memory_.X[0].tobytes() not in stored


def test_the_class_that_is_loaded_is_the_class_that_was_asked_for(tmp_path):
    save(CNNClassifier(), tmp_path)
    assert type(CNNClassifier.load(tmp_path)) is CNNClassifier
    with pytest.raises(ModelFileError, match="holds a model of class CNNClassifier, not CNNFeat"):
        CNNFeatures.load(tmp_path)


# --- what is not stored ---------------------------------------------------------------------------


class Session:
    """Cannot be stored, as sessions, locks and files cannot."""


@pytest.mark.parametrize("value", [Session(), {"a": [Session()]}, lambda: 0])
def test_a_private_attribute_that_cannot_be_stored_is_named(value, tmp_path):
    model = AIFTClassifier(LogisticRegression()).fit([[0.0], [1.0]], [0, 1])
    model._handle = value
    with pytest.raises(
        UnsupportedModelError,
        match=r"_handle.*private attribute of AIFTClassifier.*AIFTClassifier\._transient",
    ):
        save(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    cnn = CNNClassifier()
    cnn._handle = value
    with pytest.raises(UnsupportedModelError, match=r"estimator\._handle.*CNNClassifier\._trans"):
        save(AIFTClassifier(cnn), tmp_path / "new")


def test_what_was_learnt_is_never_left_out_to_be_supplied_again(tmp_path):
    learner = AIFTLearner(AIFTClassifier(LogisticRegression()))
    learner.teach(np.eye(2), np.array([0, 1]))
    learner.estimator.note_ = Session()
    with pytest.raises(UnsupportedModelError, match=r"estimator\.note_ is of type Session"):
        save(learner, tmp_path / "new")
    lambdas = make_pipeline(FunctionTransformer(lambda X: X), GaussianNB())
    fitted = AIFTLearner(lambdas, X_training=np.eye(2), y_training=np.array([0, 1]))
    with pytest.raises(UnsupportedModelError, match=r"functiontransformer"):
        save(fitted, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    unfitted = AIFTLearner(make_pipeline(FunctionTransformer(lambda X: X), GaussianNB()))
    save(unfitted, tmp_path / "new")
    with pytest.raises(UnsupportedModelError, match=r"load\(folder, estimator=\.\.\.\)"):
        load(tmp_path / "new")


@pytest.mark.parametrize("value", [Session(), 12345678, np.arange(5), {"a": "secret token"}])
def test_transient_attributes_are_neither_saved_pickled_nor_copied(value, tmp_path, monkeypatch):
    monkeypatch.setattr(CNNFeatures, "_transient", ("_cache",))
    features = CNNFeatures()
    features._cache = value
    model = AIFTClassifier(make_pipeline(features, StandardScaler(), LogisticRegression()))
    model._seam = value
    save(model, tmp_path / "model")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "model").iterdir())
    for name in (b"_cache", b"_seam", b"12345678", b"secret token"):
        assert name not in stored
    again = load(tmp_path / "model")
    assert "_seam" not in vars(again)
    assert "_cache" not in vars(again.estimator[0])
    assert "_cache" not in features.__getstate__()
    assert "_seam" not in model.__getstate__()


def test_transient_attributes_inside_scikit_learn_estimators_are_not_stored(tmp_path):
    model = AIFTClassifier(LogisticRegression()).fit([[0.0], [1.0]], [0, 1])
    model._seam = Session()
    around = GridSearchCV(model, {"random_state": [0]}, cv=2)
    save(around, tmp_path)


def test_a_fitted_classifier_that_has_scored_holds_nothing_more(tmp_path):
    model, X, _ = pipeline()
    fresh = save(model, tmp_path / "fresh")
    model.score_candidates(X)
    scored = save(model, tmp_path / "scored")
    # Those of skops carry the time of day.
    files = [
        [name for name in names_in(path) if name.startswith(("arrays", "weights"))]
        for path in (fresh, scored)
    ]
    assert files[0] == files[1]
    assert len(names_in(fresh)) == len(names_in(scored))
    trees = [json.loads((path / "model.json").read_bytes())["model"] for path in (fresh, scored)]
    assert trees[0] == trees[1]
    joblib.dump(model, tmp_path / "model.joblib")
    assert_array_equal(joblib.load(tmp_path / "model.joblib").predict(X), model.predict(X))
