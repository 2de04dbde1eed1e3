"""Processes that answer at full speed and are killed: what was acknowledged is kept, once.

Run by ``make test-faults``; these take minutes. Each test prints in which phase the kills hit.
"""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter

import pytest
from answering import CLASSES, OPENING, PHASES, Trail, answer_at_full_speed
from waiting import wait_until

from aift_sklearn.campaign.ledger import Ledger
from aift_sklearn.campaign.ledger.tables import queue
from aift_sklearn.campaign.records import Ask, Round

N_KILLS, N_ASKS = 100, 30_000
PEOPLE = ("Ada", "Bob")


@pytest.fixture
def where(tmp_path):
    return tmp_path / "cells.ledger"


def begin(context, where, folder, annotator):
    Trail(folder, annotator).phase()[0] = OPENING
    process = context.Process(target=answer_at_full_speed, args=(str(where), folder, annotator))
    process.start()
    return process


def wait_for_phase(process, phase, wanted, patience=0.5):
    """Wait until a process is in a phase, which may be over before anybody can tell."""
    deadline = time.monotonic() + patience
    while phase[0] != wanted and time.monotonic() < deadline:
        assert process.is_alive(), process.exitcode


def kill_again_and_again(where, folder):
    """Kill two who answer, one at a time, and let another go on; return the phases of the kills."""
    # Forked from a process that has loaded what they need, and holds nothing of a ledger.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["aift_sklearn.campaign.ledger", "sqlalchemy.dialects.postgresql.psycopg", "psycopg"]
    )
    trails = {who: Trail(folder, who) for who in PEOPLE}
    phases = {who: trails[who].phase() for who in PEOPLE}
    running = {who: begin(context, where, folder, who) for who in PEOPLE}
    rng, hits = random.Random(), []
    while len(hits) < N_KILLS:
        who = rng.choice(PEOPLE)
        n = trails[who].n_stored()
        # One in ten is killed as it opens the ledger, or sends again what it does not know of.
        if rng.random() > 0.1:
            wait_until(lambda who=who, n=n: trails[who].n_stored() > n, pause=0.001)
            time.sleep(rng.uniform(0, 0.1))
        else:
            time.sleep(rng.uniform(0, 0.05))
        if rng.random() < 0.5:
            wait_for_phase(running[who], phases[who], rng.randrange(1, len(PHASES)))
        assert running[who].is_alive(), running[who].exitcode
        os.kill(running[who].pid, signal.SIGKILL)
        running[who].join()
        hits.append(PHASES[phases[who][0]])
        running[who] = begin(context, where, folder, who)
    # The last ones send again what is not acknowledged.
    for who, process in running.items():
        n = trails[who].n_stored()
        wait_until(lambda who=who, n=n: trails[who].n_stored() > n + 5, pause=0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return trails, hits


def check(ledger, trails):
    """Nothing that was acknowledged is lost, and nothing is there twice; return how much it was."""
    answers = ledger.answers()
    stored = {answer.uid: answer for answer in answers}
    assert len(stored) == len(answers)
    told = [answer for trail in trails.values() for answer in trail.sent()]
    acknowledged = [uid for trail in trails.values() for uid in trail.stored()]
    assert len(set(acknowledged)) == len(acknowledged) <= len(answers)
    assert set(acknowledged) <= set(stored) <= {answer.uid for answer in told}
    for answer in told:
        if answer.uid in stored:
            kept = stored[answer.uid]
            assert (kept.candidate, kept.annotator) == (answer.candidate, answer.annotator)
            assert kept.label == answer.label
            assert kept.label in CLASSES
    # Only the very last of each may be neither acknowledged nor stored.
    assert len(told) - len(acknowledged) <= len(trails)
    # Each candidate was answered by one of the two.
    assert max(Counter(answer.candidate for answer in answers).values()) == 1
    counts = ledger.counts()
    assert counts.n_answers == counts.n_labelled == len(answers)
    assert counts.n_open == N_ASKS - len(answers)
    with ledger._store.reading() as connection:
        waiting = set(
            connection.execute(queue.select().with_only_columns(queue.c.candidate)).scalars()
        )
    assert waiting == {ask.candidate for ask in ledger.asks()} - {a.candidate for a in answers}
    return len(acknowledged)


def run(where, folder, report, title):
    with Ledger.create(where, {"classes": list(CLASSES)}) as ledger:
        ledger.add_round(Round(0), [Ask(f"cell-{n:05}", n) for n in range(N_ASKS)])
    begun = time.monotonic()
    trails, hits = kill_again_and_again(where, folder)
    took = time.monotonic() - begun
    with Ledger.open(where) as ledger:
        n = check(ledger, trails)
        # It can still be written to, and be copied.
        with Ledger.open(ledger.backup(folder / "copy")) as copy:
            assert copy.answers() == ledger.answers()
    report(f"kill -9 of {N_KILLS} that answer {title}, {n} answers in {took:.0f} s:", hits, PHASES)


def test_answers_in_a_file_outlive_their_process(where, tmp_path, report):
    run(where, tmp_path, report, "into SQLite")


def test_answers_in_a_database_outlive_their_process(server, tmp_path, report):
    run(server.url(server.new_database()), tmp_path, report, "into PostgreSQL")
