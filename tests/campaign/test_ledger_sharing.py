"""Many who write at the same time: threads, processes, and copies that are made meanwhile."""

import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from ledgers import SETTINGS, asks_of

from aift_sklearn.campaign.ledger import Lease, Ledger
from aift_sklearn.campaign.records import Answer, Round, make_uid
from aift_sklearn.errors import LedgerError

# Answers all that is handed out to it, and prints what that was.
ANNOTATOR = """
import json, sys
from aift_sklearn.campaign.ledger import Ledger
from aift_sklearn.campaign.records import Answer, make_uid

where, annotator = sys.argv[1:]
with Ledger.open(where) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    handed_out = []
    while questions := ledger.lease(annotator, n=2):
        for question in questions:
            handed_out.append(question.candidate)
            ledger.answer(Answer(make_uid(), question.candidate, annotator, label="cyst"))
print(json.dumps(handed_out))
"""


def names(n):
    return [f"cell-{number:03}" for number in range(n)]


def test_processes_get_the_same_question_only_to_read_it_twice(places):
    once, twice = names(60)[:30], names(60)[30:]
    with places.create() as ledger:
        ledger.add_round(Round(0), asks_of(*once))
        ledger.add_round(Round(1), asks_of(*twice, n_readers=2))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ANNOTATOR, str(ledger.where), who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in ("Ada", "Bob")
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    handed_out = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    for one in handed_out:
        assert sorted(set(one)) == sorted(one)
        assert set(twice) <= set(one)
    assert Counter(chain(*handed_out)) == dict.fromkeys(once, 1) | dict.fromkeys(twice, 2)
    with Ledger.open(ledger.where) as ledger:
        assert ledger.counts().n_open == 0
        assert len(ledger.answers()) == 90


def test_threads_get_no_question_twice(places):
    with places.create() as ledger:
        ledger.add_round(Round(0), asks_of(*names(60)))
        start = threading.Barrier(6)

        def annotate(who):
            start.wait()
            handed_out = []
            while questions := ledger.lease(who):
                ledger.counts()
                for question in questions:
                    handed_out.append(question.candidate)
                    answer = Answer(make_uid(), question.candidate, who, label="cyst")
                    ledger.apply([answer, answer, Lease(who)])
            return handed_out

        with ThreadPoolExecutor(6) as pool:
            handed_out = list(pool.map(annotate, "abcdef"))
        assert sorted(chain(*handed_out)) == names(60)
        assert ledger.counts().n_labelled == len(ledger.answers()) == 60


def test_the_same_answer_from_many_threads_is_stored_once(places):
    with places.create() as ledger:
        ledger.add_round(Round(0), asks_of("a"))
        answer = Answer(make_uid(), "a", "Ada", label="cyst")
        with ThreadPoolExecutor(5) as pool:
            stored = list(pool.map(ledger.answer, [answer] * 20))
        assert ledger.answers() == [stored[0]]
        assert stored == [stored[0]] * 20


def test_one_of_many_makes_a_ledger(places):
    where = places.fresh()

    def create(number):
        try:
            Ledger.create(where, {"classes": ["a", "b"], "number": number}).close()
        except LedgerError as error:
            return str(error)
        return number

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(create, range(4)))
    (made,) = [one for one in said if isinstance(one, int)]
    assert all("already, and is left as it is" in str(one) for one in said if one != made)
    with Ledger.open(where) as ledger:
        assert ledger.settings["number"] == made


def test_copies_are_of_one_moment_while_others_write(places, tmp_path):
    with places.create() as ledger, Ledger.open(ledger.where) as other:
        ledger.add_round(Round(0), asks_of(*names(400), n_readers=2))
        done, copies = threading.Event(), []

        def write():
            while not done.is_set():
                pair = ledger.lease("Ada", 1)[0].candidate
                # Both or none.
                ledger.apply(
                    [Answer(make_uid(), pair, who, label="cyst") for who in ("Ada", "Bob")]
                )

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                for number in range(5):
                    copies.append(other.backup(tmp_path / f"copy-{number}"))
                    n = other.counts().n_answers
                    while other.counts().n_answers == n:
                        pass
            finally:
                done.set()
            writing.result()
        everything, before = ledger.answers(), -1
    for path in copies:
        with Ledger.open(path) as copy:
            answers, counts = copy.answers(), copy.counts()
            assert len(answers) > before
            before = len(answers)
            assert answers == everything[:before]
            assert set(Counter(answer.candidate for answer in answers).values()) <= {2}
            assert counts.n_open == 400 - before // 2
            assert copy.settings == SETTINGS
