"""A campaign's server as a process that notes what it is doing, for tests that kill it."""

from __future__ import annotations

import mmap
import socket
from pathlib import Path

import uvicorn

from aift_sklearn.campaign import Campaign
from aift_sklearn.campaign.server import create_app

PHASES = (
    "starting",
    "between requests",
    "a request came, and waits",
    "in the transaction",
    "committed, not acknowledged",
)


class Phase:
    """A byte that two processes share: what a server is doing."""

    def __init__(self, path):
        path = Path(path)
        if not path.exists():
            path.write_bytes(b"\0")
        with path.open("r+b") as file:
            self._byte = mmap.mmap(file.fileno(), 1)

    @property
    def now(self):
        return self._byte[0]

    @now.setter
    def now(self, phase):
        self._byte[0] = phase


class _Noting:
    """A ledger that notes when it writes."""

    def __init__(self, ledger, phase):
        self._ledger, self._phase = ledger, phase

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    def apply(self, operations):
        self._phase.now = 3
        results = self._ledger.apply(operations)
        self._phase.now = 4
        return results


def serve_noting(folder, port, marks):
    """Serve a campaign until the process is killed."""
    phase = Phase(marks)
    phase.now = 0
    campaign = Campaign.open(folder)
    campaign.ledger = _Noting(campaign.ledger, phase)
    app = create_app(campaign)

    async def noting(scope, receive, send):
        if scope["type"] == "http" and scope["method"] == "POST":
            phase.now = 2
            await app(scope, receive, send)
            phase.now = 1
        else:
            await app(scope, receive, send)

    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(noting, log_level="error", access_log=False, ws="none")
    phase.now = 1
    uvicorn.Server(config).run(sockets=[listening])
