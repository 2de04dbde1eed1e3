"""Answers of many clients go into one commit; none is lost, whoever leaves."""

import threading

import pytest

from aift_sklearn.campaign.write_queue import WriteQueue
from aift_sklearn.errors import UnavailableError


class Notes:
    """A ledger that notes what it is told, and waits until it may go on."""

    def __init__(self):
        self.batches = []
        self.may_go_on = threading.Event()
        self.begun = threading.Event()

    def apply(self, operations):
        self.begun.set()
        self.may_go_on.wait(10)
        self.batches.append(list(operations))
        if "fails" in operations:
            raise OSError("the disk is full")
        return [f"{operation} done" for operation in operations]


@pytest.fixture
def notes():
    return Notes()


def test_what_comes_meanwhile_goes_into_one_commit_in_its_order(notes):
    with WriteQueue(notes) as writes:
        first = writes.submit("a")
        assert notes.begun.wait(10)
        more = [writes.submit(f"b{i}", f"c{i}") for i in range(10)]
        notes.may_go_on.set()
        assert first.result(10) == ["a done"]
        assert [f.result(10) for f in more] == [[f"b{i} done", f"c{i} done"] for i in range(10)]
    assert notes.batches == [["a"], [name for i in range(10) for name in (f"b{i}", f"c{i}")]]


def test_a_long_queue_is_cut_into_batches_without_parting_calls(notes):
    notes.may_go_on.set()
    with WriteQueue(notes) as writes:
        done = [writes.submit(i, i, i) for i in range(100)]
        for i, future in enumerate(done):
            assert future.result(10) == [f"{i} done"] * 3
    assert max(map(len, notes.batches)) <= 66
    assert all(len(batch) % 3 == 0 for batch in notes.batches)


def test_a_failure_is_told_to_all_of_its_batch_and_the_next_goes_on(notes, caplog):
    notes.may_go_on.set()
    with WriteQueue(notes) as writes:
        with pytest.raises(UnavailableError, match=r"disk is full.*send it again"):
            writes.submit("fails").result(10)
        assert writes.submit("a").result(10) == ["a done"]
    assert "the disk is full" in caplog.text


def test_closing_writes_what_waits_and_takes_no_more(notes):
    writes = WriteQueue(notes)
    futures = [writes.submit(i) for i in range(5)]
    closing = threading.Thread(target=writes.close)
    closing.start()
    notes.may_go_on.set()
    closing.join(10)
    assert [future.result(0) for future in futures] == [[f"{i} done"] for i in range(5)]
    with pytest.raises(UnavailableError, match="closing"):
        writes.submit("late")
    writes.close()


def test_closing_one_that_never_wrote_is_quick(notes):
    WriteQueue(notes).close()
    assert notes.batches == []


def test_what_was_sent_is_written_although_its_sender_has_left(notes):
    with WriteQueue(notes) as writes:
        writes.submit("a")
        assert notes.begun.wait(10)
        left = writes.submit("b")
        assert left.cancel()
        after = writes.submit("c")
        notes.may_go_on.set()
        assert after.result(10) == ["c done"]
    assert [name for batch in notes.batches for name in batch] == ["a", "b", "c"]


def test_more_than_can_wait_is_refused(notes, monkeypatch):
    monkeypatch.setattr("aift_sklearn.campaign.write_queue._LONGEST", 3)
    with WriteQueue(notes) as writes:
        writes.submit("a")
        assert notes.begun.wait(10)
        for i in range(3):
            writes.submit(i)
        with pytest.raises(UnavailableError, match="in a moment"):
            writes.submit("one more")
        notes.may_go_on.set()
