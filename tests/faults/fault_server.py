"""A campaign's server that is killed while people answer: what it acknowledged is kept, once.

Run by ``make test-faults``; these take minutes. Each test prints in which phase the kills hit.
"""

import http.client
import json
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections import Counter

import numpy as np
from campaign_process import PHASES, Phase, serve_noting
from waiting import wait_until

from aift_sklearn.campaign import Ask, Campaign

N_KILLS, N_ASKS = 100, 20_000
CLASSES = ["disc", "empty"]


class Client(threading.Thread):
    """Answers at full speed, and sends again what was not acknowledged, until it is told to end."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.ended = port, threading.Event()
        self.sent, self.acknowledged, self.errors = {}, [], Counter()

    def run(self):
        connection = None
        question = None
        while not self.ended.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                if question is None:
                    asked = self.post(connection, "questions", annotator="ann", n=1)
                    question = self.think(asked["questions"][0]["candidate"])
                reply = self.post(connection, "answers", **question)
                assert reply["answer"]["uid"] == question["uid"]
                self.acknowledged.append(question["uid"])
                question = self.think(reply["questions"][0]["candidate"])
            except (OSError, http.client.HTTPException) as error:
                self.errors[type(error).__name__] += 1
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.002)
        if connection is not None:
            connection.close()

    def think(self, candidate):
        question = {
            "uid": uuid.uuid4().hex,
            "candidate": candidate,
            "annotator": "ann",
            "kind": "label",
            "label": CLASSES[len(self.sent) % 2],
        }
        self.sent[question["uid"]] = question
        return question

    def post(self, connection, name, **values):
        body = json.dumps(values)
        connection.request("POST", f"/api/{name}", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        data = reply.read()
        if reply.status == 503:
            raise ConnectionError(data)
        assert reply.status == 200, data
        return json.loads(data)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def kill_again_and_again(folder, marks):
    # Forked from a process that has loaded what a server needs, and holds nothing of a campaign.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["uvicorn", "aift_sklearn.campaign.server", "psycopg"])
    port, phase, rng, hits = free_port(), Phase(marks), random.Random(0), []
    client = Client(port)

    def begin():
        process = context.Process(target=serve_noting, args=(str(folder), port, str(marks)))
        process.start()
        return process

    running = begin()
    client.start()
    while len(hits) < N_KILLS:
        n = len(client.acknowledged)
        # One in ten is killed as it starts.
        if rng.random() > 0.1:
            wait_until(lambda n=n: len(client.acknowledged) > n, pause=0.001)
            time.sleep(rng.uniform(0, 0.1))
        else:
            time.sleep(rng.uniform(0, 0.1))
        if rng.random() < 0.5:
            wanted = rng.randrange(1, len(PHASES))
            end = time.monotonic() + 0.5
            while phase.now != wanted and time.monotonic() < end:
                pass
        assert running.is_alive(), running.exitcode
        os.kill(running.pid, signal.SIGKILL)
        running.join()
        hits.append(PHASES[phase.now])
        assert client.is_alive()
        running = begin()
    n = len(client.acknowledged)
    wait_until(lambda: len(client.acknowledged) > n + 5, pause=0.001)
    client.ended.set()
    client.join(timeout=30)
    os.kill(running.pid, signal.SIGKILL)
    running.join()
    return client, hits


def check(folder, client):
    with Campaign.open(folder) as campaign:
        answers = campaign.ledger.answers()
    stored = {answer.uid: answer for answer in answers}
    assert len(stored) == len(answers)
    assert set(client.acknowledged) <= set(stored) <= set(client.sent)
    assert len(set(client.acknowledged)) == len(client.acknowledged)
    # Every question was answered once, by what was sent.
    assert max(Counter(answer.candidate for answer in answers).values()) == 1
    for answer in answers:
        sent = client.sent[answer.uid]
        assert (answer.candidate, answer.label) == (sent["candidate"], sent["label"])
    assert len(client.sent) - len(answers) <= 1
    return len(client.acknowledged)


def run(tmp_path, ledger, report, title):
    X = np.zeros((4, 1, 8, 8), dtype=np.uint8)
    folder = tmp_path / "campaign"
    with Campaign.create(folder, X, CLASSES, ledger=ledger, yardstick=0) as campaign:
        campaign.ledger.add_asks([Ask(f"cell-{n:05}", n) for n in range(N_ASKS)])
    begun = time.monotonic()
    client, hits = kill_again_and_again(folder, tmp_path / "phase")
    n = check(folder, client)
    report(
        f"kill -9 of a server {N_KILLS} times, answers into {title}: {n} acknowledged and kept "
        f"in {time.monotonic() - begun:.0f} s, {client.errors.total()} broken connections",
        hits,
        PHASES,
    )


def test_answers_in_a_file_outlive_their_server(tmp_path, report):
    run(tmp_path, None, report, "SQLite")


def test_answers_in_a_database_outlive_their_server(server, tmp_path, report):
    run(tmp_path, server.url(server.new_database()), report, "PostgreSQL")
