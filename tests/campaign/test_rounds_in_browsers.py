"""A real campaign of three rounds, labelled by two people in two browsers."""

import contextlib
import time

import pytest
from campaign.browsers import SOON, Page, browsing
from campaign.serving import serving
from fakes import Pixels
from PIL import Image
from samples import make_blobs
from sklearn.base import clone

from aift_sklearn import AffinePatches, AIFTClassifier, models
from aift_sklearn.campaign import Campaign, Kind, Purpose
from aift_sklearn.study.demo import run_demo
from aift_sklearn.study.tissue import tissue_points

TRUSTED = ["fakes.Pixels"]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """What learns is a logistic regression on thumbnails."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: clone(model))


def begin_drawn(folder):
    """Begin a campaign on a folder of images; return where it is, and what the images show."""
    X, y = make_blobs(60, size=32)
    (folder / "images").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / "images" / f"{k:02}.png")
    settings = {"batch": 6, "yardstick": 6, "trusted": TRUSTED}
    with Campaign.create(
        folder / "campaign", folder / "images", ["disc", "empty"], **settings
    ) as campaign:
        campaign.ask()
    return folder / "campaign", {f"{k:02}.png": str(label) for k, label in enumerate(y)}


def begin_demo(folder):
    """Run the demo's first round; its campaign goes on in the browsers."""
    settings = {"n_instances": 6, "yardstick": 6, "trusted": TRUSTED}
    campaign = run_demo(folder, n_rounds=1, onnx=False, verbose=False, **settings)
    _, points, labels = tissue_points()
    return campaign, dict(zip(points["id"], labels, strict=True))


@pytest.fixture(params=[begin_drawn, begin_demo])
def begun(request, tmp_path):
    folder, truth = request.param(tmp_path)
    with Campaign.open(folder, trusted=TRUSTED) as campaign:
        yield campaign, truth


@pytest.fixture
def browsers():
    with browsing() as one, browsing() as other:
        yield one, other


def key(campaign, label):
    """What is pressed for a class."""
    return str(1 + campaign.settings.classes.index(label))


def label_all(campaign, pages, truth, noted):
    """Take turns, one with keys and one by clicking, until nothing is left for either."""
    by_keys, by_clicks = pages
    while True:
        waiting = {ask.candidate for ask in campaign.ledger.asks()} - {
            answer.candidate for answer in campaign.ledger.current()
        }
        if not waiting:
            return
        page = by_keys if by_keys.candidate else by_clicks
        candidate = page.candidate
        if candidate is None:
            time.sleep(0.05)
            continue
        if page is by_keys:
            page.answer(key(campaign, truth[candidate]))
        else:
            page.answer_by_click(truth[candidate])
        page.saved()
        noted.append(("Ada" if page is by_keys else "Ben", candidate, truth[candidate]))


def reload(page):
    """Load the page again in the middle of an answer: the question is the same."""
    candidate = page.next()
    page.open()
    assert page.next() == candidate


def restart(campaign, running, port, pages, truth):
    """Stop the server in the middle of a round, answer, and start it again; what was answered."""
    page = pages[1]
    candidate = page.next()
    # Its picture is there.
    page.until(lambda: not page.find(".aift-cover").is_displayed())
    assert [each.troubles() for each in pages] == [[], []]
    running.close()
    n = len(campaign.ledger.answers())
    page.answer(key(campaign, truth[candidate]))
    page.until(lambda: "1 waiting to be saved" in page.text(".aift-saved"))
    assert len(campaign.ledger.answers()) == n
    running.enter_context(serving(campaign, port=port))
    page.saved()
    assert len(campaign.ledger.answers()) == n + 1
    for each in pages:
        # They say that the server was away.
        each.browser.get_log("browser")
    return candidate, truth[candidate]


def test_three_rounds_in_two_browsers(begun, browsers):
    campaign, truth = begun
    noted, before = [], campaign.ledger.answers()
    last = campaign.ledger.rounds()[-1].number
    with contextlib.ExitStack() as running:
        port = running.enter_context(serving(campaign))
        pages = [Page(browsers[0], port).open("Ada"), Page(browsers[1], port).open("Ben")]
        first = [page.next() for page in pages]
        # Two are never asked the same.
        assert first[0] != first[1]
        # Ben answers, sees that it was wrong, takes it back, and answers anew; then skips one.
        (wrong,) = set(campaign.settings.classes) - {truth[first[1]]}
        pages[1].answer(key(campaign, wrong))
        pages[1].saved()
        pages[1].undo()
        pages[1].until(lambda: pages[1].candidate == first[1])
        time.sleep(SOON["key"])
        pages[1].answer_by_click(truth[first[1]])
        pages[1].saved()
        noted.append(("Ben", first[1], truth[first[1]]))
        skipped = pages[1].answer("x")
        pages[1].saved()
        for number in (1, 2, 3):
            if number == 2:
                reload(pages[0])
            if number == 3:
                noted.append(("Ben", *restart(campaign, running, port, pages, truth)))
            label_all(campaign, pages, truth, noted)
            # What Ben skipped Ada is asked.
            if number == 1 and skipped not in {candidate for _, candidate, _ in noted}:
                candidate = pages[0].until(lambda: pages[0].candidate == skipped and skipped)
                pages[0].answer(key(campaign, truth[candidate]))
                pages[0].saved()
                noted.append(("Ada", candidate, truth[candidate]))
            found = campaign.learn()
            assert found.round.number == last + number
            if number < 3:
                # New questions appear by themselves.
                for page in pages:
                    page.until(lambda page=page: page.candidate, seconds=30)
        pages[0].until(lambda: pages[0].all(".aift-line"), seconds=30)
        assert pages[0].troubles() == []
        assert pages[1].troubles() == []
    answers = campaign.ledger.answers()[len(before) :]
    current = {each.uid for each in campaign.ledger.current()}
    labels = [each for each in answers if each.kind is Kind.label and each.uid in current]
    assert sorted((a.annotator, a.candidate, a.label) for a in labels) == sorted(noted)
    kinds = [each.kind for each in answers]
    assert kinds.count(Kind.undo) == 1
    assert kinds.count(Kind.skip) == 1
    # Nobody saw what the model thinks before answering; the correction was of an answer that
    # had been given, after which it is shown.
    blind = [each for each in labels if each.candidate != first[1]]
    assert all(each.visible == () for each in blind)
    asks = campaign.ledger.asks()
    yardstick = {ask.candidate for ask in asks if ask.purpose is Purpose.yardstick}
    assert not yardstick & set(campaign.model().taught_ids_.tolist())
    assert {each.annotator for each in labels} == {"Ada", "Ben"}
