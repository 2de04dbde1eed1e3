"""A real campaign of three rounds, labelled by two people in two browsers."""

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

CLASSES = ["disc", "empty"]
KEYS = {"disc": "1", "empty": "2"}


@pytest.fixture
def begun(tmp_path, monkeypatch):
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: clone(model))
    X, y = make_blobs(60, size=32)
    (tmp_path / "images").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:02}.png")
    truth = {f"{k:02}.png": str(label) for k, label in enumerate(y)}
    with Campaign.create(
        tmp_path / "campaign",
        tmp_path / "images",
        CLASSES,
        batch=6,
        yardstick=6,
        trusted=["fakes.Pixels"],
    ) as campaign:
        yield campaign, truth


@pytest.fixture
def browsers():
    with browsing() as one, browsing() as other:
        yield one, other


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
            page.answer(KEYS[truth[candidate]])
        else:
            page.answer_by_click(truth[candidate])
        page.saved()
        noted.append(("Ada" if page is by_keys else "Ben", candidate, truth[candidate]))


def test_three_rounds_in_two_browsers(begun, browsers):
    campaign, truth = begun
    campaign.ask()
    noted = []
    with serving(campaign) as port:
        pages = [Page(browsers[0], port).open("Ada"), Page(browsers[1], port).open("Ben")]
        first = [page.next() for page in pages]
        # Two are never asked the same.
        assert first[0] != first[1]
        # Ben answers, sees that it was wrong, takes it back, and answers anew; then skips one.
        wrong = {"disc": "empty", "empty": "disc"}[truth[first[1]]]
        pages[1].answer(KEYS[wrong])
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
            label_all(campaign, pages, truth, noted)
            # What Ben skipped Ada is asked.
            if number == 1 and skipped not in {candidate for _, candidate, _ in noted}:
                candidate = pages[0].until(lambda: pages[0].candidate == skipped and skipped)
                pages[0].answer(KEYS[truth[candidate]])
                pages[0].saved()
                noted.append(("Ada", candidate, truth[candidate]))
            found = campaign.learn()
            assert found.round.number == number
            if number < 3:
                # New questions appear by themselves.
                for page in pages:
                    page.until(lambda page=page: page.candidate, seconds=30)
        pages[0].until(lambda: pages[0].all(".aift-line"), seconds=30)
        assert pages[0].troubles() == []
        assert pages[1].troubles() == []
    labels = [each for each in campaign.ledger.current() if each.kind is Kind.label]
    assert sorted((a.annotator, a.candidate, a.label) for a in labels) == sorted(noted)
    kinds = [each.kind for each in campaign.ledger.answers()]
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
