"""Trainings that are killed while people label: labelling goes on, and so does the last model.

Run by ``make test-faults``; these take minutes.
"""

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from samples import make_blobs
from waiting import wait_until

from aift_sklearn import load
from aift_sklearn.campaign import Campaign, Purpose
from aift_sklearn.campaign.background import BackgroundLearner
from aift_sklearn.persistence import hash_of

CLASSES = ["disc", "empty"]
N_KILLS = 5
# Seconds for a training.
PATIENCE = 240


@pytest.fixture
def begun(tmp_path):
    X, y = make_blobs(240, size=32)
    (tmp_path / "images").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:03}.png")
    truth = {f"{k:03}.png": str(label) for k, label in enumerate(y)}
    with Campaign.create(
        tmp_path / "campaign",
        tmp_path / "images",
        CLASSES,
        batch=8,
        yardstick=10,
        model="features",
        n_patches=2,
    ) as campaign:
        yield campaign, truth


class Expert(threading.Thread):
    """Answers what there is, several times a second, and notes how long each answer took."""

    def __init__(self, campaign, truth):
        super().__init__(daemon=True)
        self.campaign, self.truth = campaign, truth
        self.ended, self.took, self.error = threading.Event(), [], None

    def run(self):
        try:
            while not self.ended.is_set():
                for question in self.campaign.questions("ann", 1):
                    start = time.monotonic()
                    self.campaign.answer(question.candidate, self.truth[question.candidate], "ann")
                    self.took.append(time.monotonic() - start)
                self.ended.wait(0.1)
        except Exception as error:
            self.error = error


def is_learning(pid):
    """Whether a process is the command that learns, not the one that asks."""
    try:
        return b"learn" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def kill(learner, campaign, pid):
    """Kill a training and wait for what is told of it; False where it was over before."""
    failures = len(campaign.ledger.notes("learning failed"))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

    def failed():
        return len(campaign.ledger.notes("learning failed")) > failures

    wait_until(
        lambda: (
            failed()
            or (learner.pid is None and campaign.training["state"] == "idle")
            or learner.pid not in (None, pid)
        ),
        PATIENCE,
    )
    return failed()


def is_whole(campaign, round_):
    """Whether the model of a round is the one that the ledger names, and opens."""
    path = campaign.folder.model(round_.number)
    return hash_of(path) == round_.model and bool(load(path))


def test_trainings_are_killed_and_labelling_goes_on(begun, report):
    campaign, truth = begun
    # Loading takes some seconds, and so does training.
    rng, hits, longest = random.Random(0), [], 12.0
    expert = Expert(campaign, truth)
    with BackgroundLearner(campaign, pause=0.1, after_failure=0.5) as learner:
        expert.start()
        while len(hits) < N_KILLS:
            pid = wait_until(lambda: (pid := learner.pid) and is_learning(pid) and pid, PATIENCE)
            before = campaign.ledger.rounds()
            time.sleep(rng.uniform(0, longest))
            if learner.pid != pid or not kill(learner, campaign, pid):
                # It was faster.
                longest *= 0.8
                continue
            # There is no more of a round than all of it.
            after = campaign.ledger.rounds()
            assert after[: len(before)] == before
            assert [is_whole(campaign, each) for each in after[len(before) :]] in ([], [True])
            stood = len(after) > len(before)
            hits.append("its round stood already" if stood else f"after round {len(before) - 1}")
            assert expert.error is None
            assert expert.is_alive()
            if len(hits) % 2:
                # The next one is left to its end.
                wait_until(lambda after=after: len(campaign.ledger.rounds()) > len(after), PATIENCE)
        assert campaign.training["state"] in ("idle", "learning")
    expert.ended.set()
    expert.join(timeout=30)
    assert expert.error is None
    rounds = [each for each in campaign.ledger.rounds() if each.model]
    # Every round went on from the one before, and knew all labels that there were.
    assert all(each.parameters["anew"] == "" for each in rounds)
    assert [each.n_labels for each in rounds] == sorted({each.n_labels for each in rounds})
    taught = campaign.model().taught_ids_.tolist()
    assert len(taught) == rounds[-1].n_labels
    of_yardstick = {a.candidate for a in campaign.ledger.asks() if a.purpose == Purpose.yardstick}
    assert not of_yardstick & set(taught)
    assert len(campaign.ledger.notes("learning failed")) >= N_KILLS
    report(
        f"kill -9 of {N_KILLS} trainings, {len(rounds)} rounds were learnt; {len(expert.took)} "
        f"answers meanwhile, the slowest took {1000 * max(expert.took):.0f} ms",
        hits,
    )
