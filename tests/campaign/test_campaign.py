"""Campaigns: ask, answer, learn, and what is kept of it all."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from fakes import Pixels
from PIL import Image
from samples import make_blobs
from sklearn.base import clone

from aift_sklearn import AffinePatches, AIFTClassifier, models
from aift_sklearn.campaign import Campaign, Kind, Purpose
from aift_sklearn.campaign.backup import back_up
from aift_sklearn.campaign.explanations import Predictions
from aift_sklearn.campaign.report import write_report
from aift_sklearn.campaign.status import describe
from aift_sklearn.errors import (
    AIFTError,
    DataError,
    LabelError,
    ParameterError,
    UntrustedModelError,
)
from aift_sklearn.persistence import load
from aift_sklearn.pools import ArrayPool, ImageFolder

CLASSES = ["disc", "empty"]
TRUSTED = ["fakes.Pixels"]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Train logistic regressions on thumbnails instead of CNNs."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: clone(model))


@pytest.fixture
def images(tmp_path):
    X, y = make_blobs(80)
    folder = tmp_path / "images"
    folder.mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{k:02}.png")
    return folder, {f"{k:02}.png": str(label) for k, label in enumerate(y)}


@pytest.fixture
def begun(tmp_path, images):
    folder, truth = images
    with Campaign.create(
        tmp_path / "campaign", folder, CLASSES, batch=8, yardstick=10, trusted=TRUSTED
    ) as campaign:
        yield campaign, truth


def answer_all(campaign, truth, annotator="ann"):
    """Answer whatever waits, and return what it was."""
    answered = []
    while questions := campaign.questions(annotator, 4):
        for question in questions:
            campaign.answer(question.candidate, truth[question.candidate], annotator, seconds=2.0)
            answered.append(question.ask)
    return answered


def test_a_whole_campaign(begun):
    campaign, truth = begun
    first = answer_all(campaign, truth)
    assert {ask.purpose for ask in first} == {Purpose.yardstick}
    with pytest.raises(DataError, match="no candidate has a label that may be trained on"):
        campaign.learn()
    typical = campaign.ask()
    assert {ask.purpose for ask in typical} == {Purpose.typical, Purpose.yardstick}
    asked = {ask.candidate for ask in first + typical}
    answer_all(campaign, truth)
    for number in (1, 2, 3):
        found = campaign.learn()
        assert found.round.number == number
        new = {ask.candidate for ask in found.asks}
        assert not new & asked
        assert sum(ask.purpose == Purpose.model for ask in found.asks) == 8
        asked |= new
        answer_all(campaign, truth)
    yardstick = {ask.candidate for ask in campaign.ledger.asks() if ask.purpose == "yardstick"}
    assert len(yardstick) == 10
    # The yardstick is measured, and never trained on.
    learner = campaign.model()
    assert not yardstick & set(learner.taught_ids_.tolist())
    assert len(learner.taught_ids_) == campaign.ledger.rounds()[-1].n_labels == 24
    progress = campaign.progress()
    assert [each.number for each in progress.rounds] == [1, 2, 3]
    assert progress.rounds[-1].performance.n == 10
    assert progress.rounds[-1].performance.balanced > 0.7
    assert progress.n_left == 80 - len(asked)
    assert progress.n_open == 0


def test_nothing_new_is_no_round(begun):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    assert campaign.learn().round.number == 1
    assert campaign.learn() is None
    assert len(campaign.ledger.rounds()) == 2


def test_scores_are_those_of_the_model_that_asked(begun):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    found = campaign.learn()
    model = campaign.model().estimator
    for ask in found.asks:
        image = campaign.pool[campaign.pool.rows_of([ask.candidate])]
        assert ask.score == pytest.approx(model.score_candidates(image)[0], rel=1e-4)
        explained = campaign.explanation(ask.candidate)
        np.testing.assert_allclose(explained.proba, model.predict_patch_proba(image)[0], atol=1e-5)
        np.testing.assert_allclose(ask.proba, explained.proba.mean(axis=0), atol=1e-5)
        assert len(explained.patches) == 3
        # Nothing tells those apart that were drawn at random.
        assert explained.reason == "asked for in round 1"
    # What is seen first is what the model would have asked for first.
    scores = [ask.score for ask in found.asks if ask.purpose == Purpose.model]
    assert len(scores) == 8


def test_typical_candidates_are_explained_without_a_model(begun):
    campaign, _ = begun
    campaign.ask()
    asks = campaign.ledger.asks()
    assert {ask.purpose for ask in asks} == {Purpose.typical, Purpose.yardstick}
    for ask in asks:
        # Nothing tells those apart that were asked for first, nor those drawn at random.
        explained = campaign.explanation(ask.candidate)
        assert explained.proba is None
        assert explained.reason == "asked for in round 0, before there was a model"
        assert Image.open(io.BytesIO(explained.patches[0])).size == (8, 8)
        assert len(explained.patches) == 3
    with pytest.raises(DataError, match="not asked for"):
        campaign.explanation("nothing.png")


def test_a_changed_label_trains_anew_and_an_undone_one_is_forgotten(begun):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    campaign.learn()
    taught = campaign.model().taught_ids_.tolist()
    other = {"disc": "empty", "empty": "disc"}
    campaign.answer(taught[0], other[truth[taught[0]]], "ann")
    found = campaign.learn()
    assert found.round.parameters["anew"] == "1 label was changed"
    last = campaign.answer(taught[1], other[truth[taught[1]]], "ann")
    assert campaign.undo("ann").replaces == last.uid
    found = campaign.learn()
    # The correction was taken back, and with it the label.
    assert found.round.parameters["anew"] == "1 label was taken back"
    assert taught[1] not in campaign.model().taught_ids_.tolist()


def test_answers_that_are_none(begun):
    campaign, _ = begun
    (question,) = campaign.questions("ann")
    for label, kind in (("nonsense", "label"), (None, "label"), ("disc", "skip")):
        with pytest.raises(LabelError):
            campaign.answer(question.candidate, label, "ann", kind=kind)
    with pytest.raises(LabelError):
        campaign.answer("../../etc/passwd", "disc", "ann")
    assert campaign.ledger.answers() == []
    assert campaign.answer(question.candidate, None, "ann", kind="unsure").kind == Kind.unsure


def test_it_goes_on_where_it_was(begun, tmp_path):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    campaign.learn()
    with Campaign.open(tmp_path / "campaign", trusted=TRUSTED) as again:
        assert again.classes == tuple(CLASSES)
        assert again.ledger.asks() == campaign.ledger.asks()
        assert again.ledger.current() == campaign.ledger.current()
        answer_all(again, truth)
        assert again.learn().round.number == 2
        assert len(again.model().taught_ids_) == 16


def test_reading_and_labelling_load_no_torch(begun, tmp_path):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    campaign.learn()
    code = (
        "import sys\n"
        "from aift_sklearn.campaign import Campaign\n"
        "from aift_sklearn.campaign.report import write_report\n"
        f"with Campaign.open({str(tmp_path / 'campaign')!r}) as campaign:\n"
        "    (question,) = campaign.questions('bob')\n"
        "    campaign.picture(question.candidate)\n"
        "    campaign.explanation(question.candidate)\n"
        "    campaign.answer(question.candidate, 'disc', 'bob')\n"
        "    campaign.status('bob')\n"
        f"    write_report(campaign, {str(tmp_path / 'report.html')!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_damaged_model_is_left_and_the_one_before_goes_on(begun):
    campaign, truth = begun
    campaign.ask()
    for _ in range(2):
        answer_all(campaign, truth)
        campaign.learn()
    (campaign.folder.model(2) / "model.json").write_text("{}")
    assert len(campaign.model().taught_ids_) == campaign.ledger.rounds()[1].n_labels
    assert campaign.ledger.notes("model")[0].text.startswith("the model of round 2 is left")
    shutil.rmtree(campaign.folder.model(1))
    shutil.rmtree(campaign.folder.model(2))
    assert campaign.model() is None
    answer_all(campaign, truth)
    assert campaign.learn().round.number == 3


def test_one_process_learns_at_a_time(begun):
    campaign, _ = begun
    lock = campaign.folder.lock()
    assert lock.acquire()
    try:
        with pytest.raises(ParameterError, match="is learning or asking"):
            campaign.ask()
    finally:
        lock.release()


def test_groups_of_the_yardstick_are_not_trained_on(tmp_path):
    X, y = make_blobs(60)
    for k, image in enumerate(X):
        folder = tmp_path / "images" / f"patient{k % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{k:02}.png")
    truth = {f"patient{k % 10}/{k:02}.png": str(label) for k, label in enumerate(y)}
    with Campaign.create(
        tmp_path / "campaign",
        tmp_path / "images",
        CLASSES,
        pool_options={"groups": "folder"},
        batch=6,
        yardstick=8,
        trusted=TRUSTED,
    ) as campaign:
        campaign.ask()
        for _ in range(3):
            answer_all(campaign, truth)
            campaign.learn()
        asks = campaign.ledger.asks()
        held = {ask.candidate.split("/")[0] for ask in asks if ask.purpose == "yardstick"}
        others = {ask.candidate.split("/")[0] for ask in asks if ask.purpose != "yardstick"}
        assert len(held) == 3
        assert not held & others
        while campaign.progress().n_left:
            campaign.ask(20)
        answer_all(campaign, truth)
        assert {each.name: each.met for each in campaign.stopping()}["pool exhausted"]


def test_several_readers(tmp_path, images):
    folder, truth = images
    with Campaign.create(
        tmp_path / "campaign", folder, CLASSES, batch=8, yardstick=4, readers=2, overlap=0.5
    ) as campaign:
        campaign.ask()
        campaign.ask()
        asks = campaign.ledger.asks()
        assert 5 <= sum(ask.n_readers == 2 for ask in asks) <= 15
        answer_all(campaign, truth, "ann")
        seen = {ask.candidate for ask in answer_all(campaign, truth, "bob")}
        assert seen == {ask.candidate for ask in asks if ask.n_readers == 2}
        # They disagree about one: a third is asked.
        name = sorted(seen)[0]
        other = {"disc": "empty", "empty": "disc"}
        campaign.answer(name, other[truth[name]], "bob")
        (question,) = campaign.questions("cat", 5)
        assert question.candidate == name
        campaign.answer(name, truth[name], "cat")
        page = write_report(campaign, tmp_path / "report.html").read_text("utf-8")
        assert "Cohen&#39;s kappa of ann and bob" in page


def test_candidates_in_memory(tmp_path):
    X, y = make_blobs(30)
    with Campaign.create(tmp_path / "a", X, CLASSES, batch=4, yardstick=2) as campaign:
        campaign.ask()
    with (
        Campaign.open(tmp_path / "a") as campaign,
        pytest.raises(ParameterError, match="begun with candidates in memory"),
    ):
        campaign.ask()
    with Campaign.open(tmp_path / "a", pool=X) as campaign:
        truth = dict(zip(campaign.pool.ids.tolist(), y.tolist(), strict=True))
        answer_all(campaign, truth)
        assert campaign.learn().round.n_labels == 4


def test_an_estimator_of_ones_own(tmp_path, images):
    folder, truth = images
    model = AIFTClassifier(
        Pixels(C=0.2), patches=AffinePatches.for_radiographs(n_patches=4, size=8), classes=CLASSES
    )
    with Campaign.create(tmp_path / "b", folder, CLASSES, model, batch=6, yardstick=2) as campaign:
        campaign.ask()
        answer_all(campaign, truth)
        campaign.learn()
    with Campaign.open(tmp_path / "b") as campaign:
        # A model that is not trusted is not taken for one that is damaged.
        with pytest.raises(UntrustedModelError, match=r"fakes\.Pixels"):
            campaign.learn()
        assert campaign.ledger.notes("model") == []
    with Campaign.open(tmp_path / "b", trusted=TRUSTED) as campaign:
        assert campaign.model().estimator.patches.n_patches == 4
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from aift_sklearn import CNNFeatures

    pipeline = make_pipeline(CNNFeatures(), LogisticRegression(C=0.01))
    model = AIFTClassifier(pipeline, patches=AffinePatches(4), classes=CLASSES)
    with Campaign.create(tmp_path / "a", folder, CLASSES, model, batch=4, yardstick=2) as campaign:
        campaign.ask()
        answer_all(campaign, truth)
        campaign.learn()
    with Campaign.open(tmp_path / "a") as campaign:
        learner = campaign.model()
        assert learner.estimator.patches.n_patches == 4
        assert campaign.settings.model == "custom"


def test_broken_images_are_not_asked_for(images, tmp_path):
    folder, truth = images
    for k in range(0, 80, 7):
        path = folder / f"{k:02}.png"
        path.write_bytes(path.read_bytes()[:-60])
    with Campaign.create(tmp_path / "a", folder, CLASSES, batch=30, yardstick=20) as campaign:
        while campaign.progress().n_left and campaign.ask(30):
            pass
        asked = {ask.candidate for ask in campaign.ledger.asks()}
        assert asked == {name for k, name in enumerate(sorted(truth)) if k % 7}
        assert campaign.ask() == []


def test_pictures(begun):
    campaign, truth = begun
    name = sorted(truth)[0]
    seen = np.asarray(Image.open(io.BytesIO(campaign.picture(name))))
    np.testing.assert_array_equal(seen.transpose(2, 0, 1), campaign.pool[0])
    assert campaign.surroundings(name) is None
    assert not campaign.grey
    with pytest.raises(DataError):
        campaign.picture("../campaign/ledger.sqlite")


def test_surroundings_are_pictures(tmp_path):
    Image.new("L", (60, 40), 90).save(tmp_path / "a.png")
    Image.new("L", (60, 40), 10).save(tmp_path / "b.png")
    (tmp_path / "images").mkdir()
    for name in "abcd":
        Image.new("L", (60, 40), 90).save(tmp_path / "images" / f"{name}.png")
    with Campaign.create(tmp_path / "c", tmp_path / "images", CLASSES, yardstick=2) as campaign:
        assert campaign.grey
        picture, box = campaign.surroundings("a.png")
        assert Image.open(io.BytesIO(picture)).size == (60, 40)
        assert box == pytest.approx((1 / 6, 0, 5 / 6, 1))


def test_settings_change_and_a_class_is_added(begun):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    campaign.learn()
    campaign.change(classes=[*CLASSES, "artefact"], guidance="look twice")
    (question,) = campaign.questions("ann")
    campaign.answer(question.candidate, "artefact", "ann")
    answer_all(campaign, truth)
    campaign.learn()
    assert set(campaign.model().estimator.classes_) == {*CLASSES, "artefact"}
    with Campaign.open(campaign.folder.path) as again:
        assert again.settings.guidance == "look twice"
        assert len(again.classes) == 3
    for change, match in (
        ({"classes": ["one", "two"]}, "more of them at the end"),
        ({"classes": [*CLASSES[::-1], "artefact"]}, "as they are"),
        ({"bacth": 3}, "bacth cannot be changed"),
        ({"yardstick": 3}, "settled when a campaign begins"),
        ({"batch": 0}, "batch"),
    ):
        with pytest.raises(ParameterError, match=match):
            campaign.change(**change)


def test_changes_of_two_processes_do_not_undo_each_other(begun):
    campaign, _ = begun
    with Campaign.open(campaign.folder.path) as other:
        other.change(batch=5, show="always")
        campaign.change(guidance="look twice")
    with Campaign.open(campaign.folder.path) as again:
        assert (again.settings.batch, again.settings.show) == (5, "always")
        assert again.settings.guidance == "look twice"
    assert campaign.settings.batch == 5


def test_another_pool_is_refused(tmp_path):
    X, y = make_blobs(30)
    with Campaign.create(tmp_path / "a", X, CLASSES, batch=4, yardstick=2) as campaign:
        campaign.ask()
        truth = dict(zip(campaign.pool.ids.tolist(), y.tolist(), strict=True))
        answer_all(campaign, truth)
    for other in (X[::-1], X[:5]):
        with (
            Campaign.open(tmp_path / "a", pool=other) as campaign,
            pytest.raises(DataError, match="is not the one that the campaign was begun on"),
        ):
            campaign.learn()
    with Campaign.open(tmp_path / "a", pool=X) as campaign:
        assert campaign.learn().round.n_labels == 4


def test_images_that_moved_keep_their_groups(tmp_path):
    X, _ = make_blobs(40)
    for k, image in enumerate(X):
        folder = tmp_path / "images" / f"patient{k % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{k:02}.png")
    with Campaign.create(
        tmp_path / "c",
        tmp_path / "images",
        CLASSES,
        pool_options={"groups": "folder"},
        yardstick=6,
    ) as campaign:
        aside = set(campaign.ledger.rounds()[0].parameters["groups"])
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with Campaign.open(tmp_path / "c", pool=tmp_path / "elsewhere") as campaign:
        asks = campaign.ask(10)
        asked = {ask.candidate.split("/")[0] for ask in asks if ask.purpose == "typical"}
        assert asked
        assert not asked & aside
    with (
        Campaign.open(tmp_path / "c", pool=ImageFolder(tmp_path / "elsewhere")) as campaign,
        pytest.raises(DataError, match="keeps whole groups from training"),
    ):
        campaign.ask(4)


def test_names_that_no_ledger_keeps_are_left_out(tmp_path):
    X, _ = make_blobs(20)
    ids = [f"c{k}" for k in range(18)] + ["odd ", "x" * 600]
    pool = ArrayPool(X, ids=ids)
    with Campaign.create(tmp_path / "a", pool, CLASSES, batch=20, yardstick=2) as campaign:
        campaign.ask()
        campaign.ask()
        assert {ask.candidate for ask in campaign.ledger.asks()} == set(ids[:18])


def test_a_campaign_that_could_not_begin_leaves_nothing(tmp_path):
    X, _ = make_blobs(20)

    class Unsaveable:
        pass

    with pytest.raises(AIFTError):
        Campaign.create(tmp_path / "a", X, CLASSES, Unsaveable(), yardstick=2)
    assert list((tmp_path / "a").iterdir()) == []
    Campaign.create(tmp_path / "a", X, CLASSES, yardstick=2).close()


def test_damaged_predictions_hide_a_round_and_no_answer(begun):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    campaign.learn()
    campaign.folder.predictions(1).write_bytes(b"damage")
    (found,) = campaign.progress().rounds
    assert found.performance is None
    assert campaign.status()["rounds"][0]["n_labels"] == 8


def test_a_status_is_json_and_words(begun):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    campaign.learn()
    found = campaign.status("ann")
    assert json.loads(json.dumps(found)) == found
    assert found["own"]["n_labels"] == campaign.ledger.counts().n_labelled
    assert found["speed"] == pytest.approx(30)
    lines = describe(found)
    assert any(line.startswith("round 1: taught 8 labels; balanced accuracy") for line in lines)


def test_a_report_is_one_file_that_escapes_what_people_typed(tmp_path, images):
    folder, truth = images
    classes = ["<script>alert(1)</script>", "empty"]
    with Campaign.create(
        tmp_path / "a", folder, classes, batch=8, yardstick=6, guidance="<img src=x onerror=a()>"
    ) as campaign:
        assert "No model has been measured" in write_report(
            campaign, tmp_path / "r.html"
        ).read_text("utf-8")
        campaign.ask()
        said = {name: classes[0] if label == "disc" else "empty" for name, label in truth.items()}
        answer_all(campaign, said, "<b>ann</b>")
        campaign.learn()
        page = write_report(campaign, tmp_path / "r.html").read_text("utf-8")
    assert "<script" not in page
    assert "onerror=a()>" not in page
    assert "<b>ann" not in page
    assert "http" not in page.replace("data:image", "")
    assert "With 8 labels the model reaches" in page
    with pytest.raises(ParameterError, match="is a folder"):
        write_report(campaign, tmp_path)


def test_a_report_needs_no_images(begun, images, tmp_path):
    campaign, truth = begun
    answer_all(campaign, truth)
    shutil.rmtree(images[0])
    with Campaign.open(campaign.folder.path) as again:
        assert "no picture" in write_report(again, tmp_path / "r.html").read_text("utf-8")


def test_a_backup_is_a_campaign(begun, tmp_path):
    campaign, truth = begun
    campaign.ask()
    answer_all(campaign, truth)
    campaign.learn()
    copy = back_up(campaign, tmp_path / "copy")
    answer_all(campaign, truth)
    with Campaign.open(copy, trusted=TRUSTED) as restored:
        assert len(restored.ledger.current()) < len(campaign.ledger.current())
        assert len(restored.model().taught_ids_) == 8
        answer_all(restored, truth)
        assert restored.learn().round.number == 2
    with pytest.raises(ParameterError, match="already"):
        back_up(campaign, tmp_path / "copy")
    assert back_up(campaign).name.startswith("campaign-")


def test_predictions_are_of_the_same_candidates_in_every_round(begun):
    campaign, truth = begun
    campaign.ask()
    for _ in range(2):
        answer_all(campaign, truth)
        campaign.learn()
    one, other = (Predictions.read(campaign.folder.predictions(k)) for k in (1, 2))
    assert one.ids == other.ids
    assert one.classes == CLASSES
    model = load(campaign.folder.model(2), trusted=TRUSTED).estimator
    rows = campaign.pool.rows_of(other.ids)
    expected = model.predict_proba(campaign.pool[rows])
    np.testing.assert_allclose(other.proba, expected, atol=1e-5)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", b"\x80\x04\x95"])
def test_damaged_files_are_told(tmp_path, damage):
    (tmp_path / "0001.npz").write_bytes(damage)
    with pytest.raises(DataError, match="damaged"):
        Predictions.read(tmp_path / "0001.npz")


def test_arrays_of_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.array([{}], dtype=object), proba=[0], classes=["a"])
    with pytest.raises(DataError, match="damaged"):
        Predictions.read(tmp_path / "a.npz")
