"""A campaign's server in a thread, and plain HTTP to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import uvicorn

import aift_sklearn
from aift_sklearn.campaign.server import create_app


class Caller:
    """Asks a server, as a browser does or worse; a reply is (status, headers, body)."""

    def __init__(self, port, **headers):
        self.port = port
        self.headers = headers

    def ask(self, method, path, body=None, **headers):
        given = {name.replace("_", "-"): value for name, value in (self.headers | headers).items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, given)
            reply = connection.getresponse()
            data = reply.read()
        head = {name.lower(): value for name, value in reply.getheaders()}
        if head.get("content-type", "").startswith("application/json"):
            data = json.loads(data)
        return reply.status, head, data

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, values, **headers):
        body = values if isinstance(values, bytes) else json.dumps(values).encode()
        return self.ask("POST", path, body, **{"content_type": "application/json"} | headers)

    def questions(self, annotator, n=2):
        return self.post("/api/questions", {"annotator": annotator, "n": n})[2]["questions"]

    def answer(self, annotator, candidate, label="", **values):
        sent = {
            "uid": uuid.uuid4().hex,
            "candidate": candidate,
            "annotator": annotator,
            "kind": "label" if label else "skip",
            "label": label,
        }
        return self.post("/api/answers", sent | values)

    def raw(self, text):
        """Send bytes as they are, and return what comes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(text)
            parts = []
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    parts.append(part)
        return b"".join(parts)


@contextlib.contextmanager
def serving(campaign, *, port=0, **options):
    """Serve a campaign; its port."""
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        create_app(campaign, **options),
        log_level="error",
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from campaign.fakes import FakeCampaign
from aift_sklearn.campaign.ledger import Ledger
from aift_sklearn.campaign.server import serve
ledger = Ledger.open(sys.argv[2]) if sys.argv[2] else None
serve(FakeCampaign(ledger), say=lambda text: print(text, flush=True), **eval(sys.argv[3]))
"""


@contextlib.contextmanager
def served(ledger="", **options):
    """A process that serves a campaign, and the line in which it says where."""
    here, root = Path(__file__).parents[1], Path(aift_sklearn.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(here), str(ledger), repr(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    with process:
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()
