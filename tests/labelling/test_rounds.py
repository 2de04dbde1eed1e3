"""Rounds by way of a CSV file: what is asked, learnt, and what a changed label does."""

import numpy as np
import pytest
from fakes import Pixels
from PIL import Image
from samples import make_blobs
from sklearn.base import clone

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, models
from aift_sklearn.errors import DataError, ParameterError
from aift_sklearn.labelling import LabelsFile, ask_next, learn_labels
from aift_sklearn.labelling.scanning import survey_pool
from aift_sklearn.pools import ImageFolder


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Train logistic regressions on thumbnails instead of CNNs."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: clone(model))


@pytest.fixture
def pool(tmp_path):
    X, y = make_blobs(60)
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{k:02}.png")
    pool = ImageFolder(tmp_path)
    pool.truth = {f"{k:02}.png": str(label) for k, label in enumerate(y)}
    return pool


def break_late(pool, name):
    """Cut a file short once its header was read."""
    path = pool.paths[int(pool.rows_of([name])[0])]
    path.write_bytes(path.read_bytes()[:-60])


def answers(pool, ids):
    return {name: pool.truth[name] for name in ids}


def test_rounds_from_no_labels_at_all(pool, tmp_path):
    file = LabelsFile.read(tmp_path / "labels.csv")
    learner, known = None, {}
    for round_ in range(3):
        asked = ask_next(pool, 8, learner=learner, labels=file)
        assert len(set(asked.ids) | set(known)) == 8 * (round_ + 1)
        np.testing.assert_array_equal(asked.images, pool[pool.rows_of(asked.ids)])
        assert (asked.scores is None) == (round_ == 0)
        known |= answers(pool, asked.ids)
        learnt = learn_labels(pool, known, learner)
        learner = learnt.learner
        assert (learnt.n_labels, learnt.n_new) == (len(known), 8)
        assert (learnt.n_foreseen is None) == (round_ == 0)
        assert learnt.anew == ""
    assert LabelsFile.read(tmp_path / "labels.csv").waiting == list(known)
    X = pool[:]
    y = [pool.truth[name] for name in pool.ids]
    assert (learner.predict(X) == y).mean() > 0.9


def test_the_second_round_continues_with_what_is_new_only(pool):
    first = learn_labels(pool, answers(pool, pool.ids[:10]))
    second = learn_labels(pool, answers(pool, pool.ids[:14]), first.learner)
    assert second.learner is first.learner
    assert len(second.learner.y_training) == 14
    again = learn_labels(pool, answers(pool, pool.ids[:14]), second.learner)
    assert (again.n_new, again.n_foreseen, len(again.learner.y_training)) == (0, None, 14)


def test_a_new_class_and_a_changed_label_train_anew(pool):
    labels = answers(pool, pool.ids[:10])
    first = learn_labels(pool, labels)
    other = learn_labels(pool, {**labels, pool.ids[10]: "artefact"}, first.learner)
    assert other.anew == "artefact is new to it"
    assert other.learner is not first.learner
    assert other.learner.estimator.classes_.tolist() == ["artefact", "disc", "empty"]
    swapped = {**labels, pool.ids[0]: "empty" if labels[pool.ids[0]] == "disc" else "disc"}
    changed = learn_labels(pool, swapped, first.learner)
    assert changed.anew == "1 label was changed"
    assert changed.n_new == 0
    assert dict(zip(pool.ids[:10], changed.learner.y_training, strict=True)) == swapped


def test_twins_under_two_labels_are_no_change(pool):
    twin = pool.paths[0].with_name("twin.png")
    twin.write_bytes(pool.paths[0].read_bytes())
    pool_with_twin = ImageFolder(pool.path)
    labels = {**answers(pool, pool.ids[:10]), "twin.png": "disc", "00.png": "empty"}
    first = learn_labels(pool_with_twin, labels)
    assert learn_labels(pool_with_twin, labels, first.learner).anew == ""


def test_labels_of_what_is_not_there_are_told_and_left_out(pool):
    break_late(pool, "03.png")
    labels = {**answers(pool, pool.ids[:10]), "gone.png": "disc"}
    learnt = learn_labels(pool, labels)
    assert learnt.left_out == ["03.png", "gone.png"]
    assert learnt.n_labels == 9
    with pytest.raises(DataError, match=r"1 labels, none of a candidate.*'gone\.png'"):
        learn_labels(pool, {"gone.png": "disc"})
    with pytest.raises(DataError, match="0 labels"):
        learn_labels(pool, {})


def test_a_model_without_what_it_was_taught_cannot_tell_what_is_new(pool):
    forgetful = AIFTLearner(models.build_model())
    forgetful.estimator.fit(pool[:4], [pool.truth[name] for name in pool.ids[:4]])
    with pytest.raises(ParameterError, match="not taught by 'aift learn' alone"):
        learn_labels(pool, answers(pool, pool.ids[:4]), forgetful)
    learner = learn_labels(pool, answers(pool, pool.ids[:4])).learner
    learner.teach(pool[4:6], [pool.truth[name] for name in pool.ids[4:6]])
    with pytest.raises(ParameterError, match="what is new cannot be told"):
        learn_labels(pool, answers(pool, pool.ids[:6]), learner)


def test_a_learner_that_was_taught_nothing_begins(pool):
    learner = AIFTLearner(models.build_model())
    learnt = learn_labels(pool, answers(pool, pool.ids[:4]), learner)
    assert learnt.learner is learner
    assert (learnt.n_new, learnt.n_foreseen, learnt.anew) == (4, None, "")


def test_what_cannot_be_read_is_never_asked(pool, tmp_path):
    learner = learn_labels(pool, answers(pool, pool.ids[:12])).learner
    for taught in (None, learner):
        fresh = ImageFolder(pool.path)
        break_late(fresh, "40.png" if taught is None else "41.png")
        asked = ask_next(fresh, 40, learner=taught)
        assert len(set(asked.ids)) == 40
        assert not set(asked.ids) & set(fresh.broken)
        assert "40.png" in fresh.broken
    file = LabelsFile.read(tmp_path / "all.csv")
    fresh = ImageFolder(pool.path)
    ask_next(fresh, 50, labels=file)
    with pytest.raises(DataError, match=r"20 labels were asked for, and 8 of 60 candidates are"):
        ask_next(fresh, 20, labels=file)


def test_a_label_that_is_taken_back_is_forgotten(pool):
    first = learn_labels(pool, answers(pool, pool.ids[:10]))
    again = learn_labels(pool, answers(pool, pool.ids[1:10]), first.learner)
    assert again.anew == "1 label was taken back"
    assert again.learner.taught_ids_.tolist() == pool.ids[1:10].tolist()


def test_what_is_gone_is_remembered_when_all_is_learnt_anew(pool):
    labels = answers(pool, pool.ids[:10])
    first = learn_labels(pool, labels)
    image = pool[3]
    pool.paths[3].unlink()
    again = ImageFolder(pool.path)
    other = learn_labels(again, {**labels, pool.ids[10]: "artefact"}, first.learner)
    assert other.anew == "artefact is new to it"
    assert other.kept == ["03.png"]
    assert not other.left_out
    place = other.learner.taught_ids_.tolist().index("03.png")
    np.testing.assert_array_equal(other.learner.X_training[place], image)
    assert other.learner.y_training[place] == labels["03.png"]


def test_a_file_that_is_added_changes_nothing_of_the_others(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(8):
        values = rng.integers(100, 4000, (16, 16)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{k}.png")
    pool = ImageFolder(tmp_path, size=16)
    labels = {f"{k}.png": "ab"[k % 2] for k in range(6)}
    learner = learn_labels(pool, labels).learner
    Image.fromarray(np.full((16, 16), 60_000, np.uint16)).save(tmp_path / "bright.png")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "colour.png")
    wider = ImageFolder(tmp_path, **learner.read_as_)
    np.testing.assert_array_equal(wider[:8], pool[:])
    assert learn_labels(wider, labels, learner).n_new == 0
    assert len(ask_next(wider, 3, learner=learner).ids) == 3
    with pytest.raises(DataError, match="taught candidates of 1 x 16 x 16 and the pool has 3 x 8"):
        ask_next(ImageFolder(tmp_path, size=8), 3, learner=learner)


def test_frozen_features_are_weighted_by_the_pool(pool):
    learner = learn_labels(pool, answers(pool, pool.ids[:10]), model="features").learner
    assert np.ptp(learner.estimator.memory_.sample_weight) > 0


def test_groups_of_a_pool_are_spread_over(tmp_path):
    X, _ = make_blobs(60)
    for k, image in enumerate(X):
        folder = tmp_path / f"patient {k % 20}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{k:02}.png")
    pool = ImageFolder(tmp_path, groups="folder")
    break_late(pool, "patient 3/03.png")
    asked = ask_next(pool, 20)
    assert len({name.split("/")[0] for name in asked.ids}) == 20


def test_a_survey_counts_twins_sizes_and_what_is_broken(pool):
    twin = pool.path / "zz.png"
    twin.write_bytes(pool.paths[0].read_bytes())
    surveyed = ImageFolder(pool.path)
    break_late(surveyed, "07.png")
    survey = survey_pool(surveyed)
    assert survey.sizes == {(16, 16): 61}
    assert ["00.png", "zz.png"] in survey.twins
    assert list(surveyed.broken) == ["07.png"]
    assert len(survey.shown) == len(survey.names) >= 47
    assert "07.png" not in survey.names
    sound = surveyed.sound()[:].astype(float)
    assert survey.brightness == pytest.approx((sound.mean(), sound.std()))
