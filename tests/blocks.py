"""Calls of a function in processes of their own: one that crashes or hangs is reported as that."""

from __future__ import annotations

import faulthandler
import multiprocessing
import time
from collections import deque
from multiprocessing.connection import wait

# Until a process has started, and imported what it needs.
_START_SECONDS = 120.0
# Until one that has nothing left to do has ended.
_END_SECONDS = 20.0


def run_in_blocks(draw, keys, *, n_processes=1, size=10, timeout=300.0):
    """Call a function of each key; processes take a block of keys each.

    Parameters
    ----------
    draw : callable
        Of a module, key → (outcome, what), both str.
    keys : sequence
        What it is called with.
    n_processes : int
        Blocks at once.
    size : int
        Keys of a block.
    timeout : float
        Seconds that one call may take.

    Yields
    ------
    key, outcome, what
        As they come. The outcome of a call that raised, ended its process or took too long is
        "crash"; the rest of its block goes on in another process.
    """
    keys = list(keys)
    waiting = deque(keys[k : k + size] for k in range(0, len(keys), size))
    running = []
    try:
        while waiting or running:
            while waiting and len(running) < n_processes:
                running.append(_Block(draw, waiting.popleft(), timeout))
            wait([block.connection for block in running], timeout=0.2)
            for block in list(running):
                yield from block.take()
                if block.is_over:
                    running.remove(block)
                    if block.keys:
                        waiting.appendleft(list(block.keys))
    finally:
        for block in running:
            block.end()


class _Block:
    def __init__(self, draw, keys, timeout):
        self.keys, self.timeout, self.is_over = deque(keys), timeout, False
        # A fork would take over the threads' locks, and not the threads.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(draw, keys, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.deadline = time.monotonic() + max(timeout, _START_SECONDS)

    def take(self):
        """Yield what came since, and see whether it is over."""
        while not self.is_over and self.connection.poll():
            try:
                message = self.connection.recv()
            except (EOFError, OSError):
                self.process.join()
                yield self._crash(f"its process ended with exit status {self.process.exitcode}")
                return
            self.deadline = time.monotonic() + self.timeout
            if message is not None:
                yield self.keys.popleft(), *message
                if not self.keys:
                    self.process.join(_END_SECONDS)
                    self.end()
        if not self.is_over and time.monotonic() > self.deadline:
            yield self._crash(f"it took more than {self.timeout:g} s")

    def end(self):
        self.is_over = True
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _crash(self, why):
        self.end()
        return self.keys.popleft(), "crash", why


def _work(draw, keys, connection):
    faulthandler.enable()
    connection.send(None)
    for key in keys:
        try:
            message = draw(key)
        except Exception as error:
            message = "crash", f"{type(error).__name__}: {error}"
        connection.send(message)
