"""Trainings that are killed while people label: labelling goes on, and so does the last model.

Run by ``make test-faults``; these take minutes.
"""

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from samples import make_blobs

from aift_sklearn.campaign import Campaign, Purpose
from aift_sklearn.campaign.background import BackgroundLearner

CLASSES = ["disc", "empty"]
N_KILLS = 5


@pytest.fixture
def begun(tmp_path):
    X, y = make_blobs(120, size=32)
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


def wait_until(condition, patience=240):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def is_learning(pid):
    """Whether a process is the command that learns, not the one that asks."""
    try:
        return b"learn" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def test_trainings_are_killed_and_labelling_goes_on(begun, capsys):
    campaign, truth = begun
    rng, killed = random.Random(0), []
    expert = Expert(campaign, truth)
    with BackgroundLearner(campaign, pause=0.1, after_failure=0.5) as learner:
        expert.start()
        while len(killed) < N_KILLS:
            wait_until(lambda: learner.pid is not None and is_learning(learner.pid))
            n_rounds, pid = len(campaign.ledger.rounds()), learner.pid
            # Loading takes some seconds, and so does training.
            time.sleep(rng.uniform(0, 12))
            if learner.pid != pid:
                # It was faster.
                continue
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: campaign.training["state"] == "failed")
            assert len(campaign.ledger.rounds()) == n_rounds
            killed.append(n_rounds - 1)
            assert expert.error is None
            assert expert.is_alive()
            if len(killed) % 2:
                # The next one is left to its end.
                wait_until(lambda: len(campaign.ledger.rounds()) > killed[-1] + 1)
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
    with capsys.disabled():
        print(
            f"\n{N_KILLS} trainings were killed, after rounds {killed}; {len(rounds)} rounds were "
            f"learnt; {len(expert.took)} answers meanwhile, the slowest took "
            f"{1000 * max(expert.took):.0f} ms"
        )
