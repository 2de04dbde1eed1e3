"""Learning in another process, while people label."""

import os
import signal
import sys
import time

import pytest
from PIL import Image
from samples import make_blobs

from aift_sklearn.campaign import Campaign
from aift_sklearn.campaign.agreement import consensus
from aift_sklearn.campaign.background import BackgroundLearner, what_is_due
from aift_sklearn.campaign.beginning import label_state
from aift_sklearn.campaign.records import Ask, Purpose, Round
from aift_sklearn.errors import LedgerError

CLASSES = ["disc", "empty"]


@pytest.fixture
def campaign(tmp_path):
    X, _ = make_blobs(30)
    (tmp_path / "images").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:02}.png")
    with Campaign.create(
        tmp_path / "campaign", tmp_path / "images", CLASSES, batch=8, yardstick=4
    ) as campaign:
        yield campaign


def ask_typical(campaign, n=8):
    """Ask for candidates as a model's absence would have it, without one."""
    asked = {ask.candidate for ask in campaign.ledger.asks()}
    aside = campaign.ledger.rounds()[0].parameters["yardstick"]
    left = [name for name in campaign.pool.ids.tolist() if name not in {*asked, *aside}]
    campaign.ledger.add_asks(
        [Ask(name, 100 + k, Purpose.typical) for k, name in enumerate(left[:n])]
    )


def answer(campaign, n, kind="label"):
    for question in campaign.questions("ann", n):
        campaign.answer(question.candidate, "disc" if kind == "label" else None, "ann", kind=kind)


def answer_yardstick(campaign):
    answer(campaign, len(campaign.ledger.asks()))


def test_a_round_is_due_when_little_is_left_to_ask(campaign):
    assert what_is_due(campaign) == "ask"
    answer_yardstick(campaign)
    # The yardstick is never trained on.
    assert what_is_due(campaign) == "ask"
    ask_typical(campaign)
    assert what_is_due(campaign) == ""
    answer(campaign, 5)
    assert what_is_due(campaign) == ""
    answer(campaign, 1)
    assert what_is_due(campaign) == "learn"


@pytest.mark.parametrize("kind", ["skip", "unsure"])
def test_where_nothing_came_of_a_batch_another_is_asked_for(campaign, kind):
    answer_yardstick(campaign)
    ask_typical(campaign)
    answer(campaign, 8, kind=kind)
    assert what_is_due(campaign) == "ask"


def test_skips_do_not_hold_up_what_was_labelled(campaign):
    answer_yardstick(campaign)
    ask_typical(campaign)
    answer(campaign, 4, kind="skip")
    answer(campaign, 4)
    assert what_is_due(campaign) == "learn"


def state_of(campaign):
    return label_state(consensus(campaign.ledger.asks(), campaign.ledger.current()))


def learn(campaign, n_left=8):
    """Add a round that knows what there is, and asks for some of what is left."""
    names = [name for name in campaign.pool.ids.tolist() if campaign.ledger.ask_of(name) is None]
    number = campaign.ledger.rounds()[-1].number + 1
    state = state_of(campaign)
    campaign.ledger.add_round(
        Round(number, "hash", {"labels": state._asdict()}, 0, state.n),
        [Ask(name, k, Purpose.model, proba=(0.5, 0.5)) for k, name in enumerate(names[:n_left])],
    )


def test_a_new_round_waits_for_new_answers(campaign):
    answer_yardstick(campaign)
    ask_typical(campaign)
    answer(campaign, 8)
    assert what_is_due(campaign) == "learn"
    learn(campaign)
    assert what_is_due(campaign) == ""


def test_the_last_answers_of_a_pool_and_corrections_are_learnt_too(campaign):
    answer_yardstick(campaign)
    ask_typical(campaign, 3)
    answer(campaign, 2)
    learn(campaign, 0)
    answer(campaign, 1)
    assert what_is_due(campaign) == "learn"
    learn(campaign, 0)
    assert what_is_due(campaign) == "ask"
    taught = state_of(campaign)
    aside = campaign.ledger.rounds()[0].parameters["yardstick"]
    name = next(a.candidate for a in campaign.ledger.current() if a.candidate not in aside)
    campaign.answer(name, "empty", "ann")
    assert state_of(campaign) != taught
    assert what_is_due(campaign) == "learn"


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def python(code):
    return lambda what: [sys.executable, "-c", f"what = {what!r}\n{code}"]


def test_the_command_runs_when_it_is_due(campaign, tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write(what + ' ')"
    with BackgroundLearner(campaign, python(code), pause=0.05):
        wait_for(lambda: (tmp_path / "ran").exists() and campaign.training["state"] == "idle")
        ask_typical(campaign)
        answer_yardstick(campaign)
        wait_for(lambda: "learn" in (tmp_path / "ran").read_text())
    assert "ask" in (tmp_path / "ran").read_text()


def test_a_command_that_has_nothing_to_do_is_not_run_again_and_again(campaign, tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write('x')"
    with BackgroundLearner(campaign, python(code), pause=0.02):
        wait_for(lambda: (tmp_path / "ran").exists() and campaign.training["state"] == "idle")
        time.sleep(0.5)
        assert (tmp_path / "ran").read_text() == "x"
        answer(campaign, 1)
        wait_for(lambda: (tmp_path / "ran").read_text() == "xx")


def test_a_training_that_fails_is_told_and_tried_again(campaign, tmp_path):
    code = (
        f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\nimport sys; sys.exit('the disk is full')"
    )
    with BackgroundLearner(campaign, python(code), pause=0.05, after_failure=0.2):
        wait_for(lambda: campaign.training["state"] == "failed")
        assert campaign.training["detail"] == "the disk is full"
        # Labelling goes on.
        answer(campaign, 1)
        wait_for(lambda: len((tmp_path / "ran").read_text()) >= 2)
    assert len(campaign.ledger.current()) == 1
    assert campaign.ledger.notes("learning failed")[0].text == "the disk is full"


def test_a_training_that_is_killed_is_told(campaign):
    with BackgroundLearner(
        campaign, python("import time; time.sleep(60)"), pause=0.05, after_failure=60
    ) as learner:
        wait_for(lambda: learner.pid is not None)
        assert campaign.training["state"] == "learning"
        os.kill(learner.pid, signal.SIGKILL)
        wait_for(lambda: campaign.training["state"] == "failed")
    assert "signal 9" in campaign.training["detail"]


def test_a_command_that_does_not_exist_is_told(campaign):
    with BackgroundLearner(campaign, lambda what: ["/no/such/command"], pause=0.05):
        wait_for(lambda: campaign.training["state"] == "failed")
    assert "No such file" in campaign.training["detail"]


def test_the_end_ends_it(campaign):
    start = time.monotonic()
    with BackgroundLearner(campaign, python("import time; time.sleep(60)"), pause=0.05) as learner:
        wait_for(lambda: learner.pid is not None)
        pid = learner.pid
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


class Failing:
    """A ledger that cannot be read nor written for a while."""

    def __init__(self, ledger):
        self._ledger, self.fails = ledger, True

    def __getattr__(self, name):
        if self.fails:
            raise LedgerError("the database has gone away.")
        return getattr(self._ledger, name)


def test_a_ledger_that_is_away_for_a_while_ends_nothing(campaign, tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write('x')"
    ledger = campaign.ledger
    campaign.ledger = away = Failing(ledger)
    with BackgroundLearner(campaign, python(code), pause=0.02, after_failure=0.1):
        wait_for(lambda: campaign.training["state"] == "failed")
        away.fails = False
        wait_for((tmp_path / "ran").exists)
    campaign.ledger = ledger
