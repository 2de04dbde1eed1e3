"""Learning in another process, while people go on labelling."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AIFTError
from .agreement import consensus
from .beginning import label_state
from .ledger.counts import Counts
from .records import Purpose

if TYPE_CHECKING:
    from .campaign import Campaign

__all__ = ["NICE", "BackgroundLearner", "what_is_due"]

# Seconds between two looks at the ledger, and before a training that failed is tried again.
_PAUSE, _AFTER_FAILURE = 1.0, 60.0
NICE = 10
"""By how much a process that learns gives way to others, where the system knows that."""

# Below this share of a batch, questions that are left last for about one training.
_RUNNING_LOW = 0.25
# Characters of an error that are told.
_SAID = 500


def what_is_due(campaign: Campaign) -> str:
    """Tell what a campaign wants: "learn", "ask", or nothing.

    It learns once there is enough new, or, where few questions are left, anything new: a
    correction too. It asks where it has not yet, and where all that was asked for was skipped, or
    left as unsure.
    """
    ledger, batch = campaign.ledger, campaign.settings.batch
    rounds, asks = ledger.rounds(), ledger.asks()
    chosen = [ask for ask in asks if ask.purpose in (Purpose.typical, Purpose.model)]
    if not chosen:
        return "ask"
    current = ledger.current()
    seen = {each.candidate for each in current}
    waiting = sum(ask.candidate not in seen for ask in chosen if ask.round == rounds[-1].number)
    now = label_state(consensus(asks, current))
    was = rounds[-1].parameters.get("labels") or {"n": 0, "digest": ""}
    new = now.n - was["n"]
    few = waiting <= _RUNNING_LOW * batch
    if now.n and (new >= batch or (few and now.digest != was["digest"])):
        return "learn"
    return "" if waiting else "ask"


class BackgroundLearner:
    """Starts the command that learns, in a process of its own, whenever a round is due.

    A training that fails, or is killed, changes nothing: the ledger has no round of it, and the
    last good model goes on. It is told, and tried again after a minute.

    Parameters
    ----------
    campaign : Campaign
        Of a pool that can be opened by its source.
    command : callable, optional
        "ask" or "learn" → the command as a list; by default that of the package.
    nice : int, default=10
        By how much the process gives way to others, where the system knows that.

    Examples
    --------
    A context: ``with BackgroundLearner(campaign): serve(campaign)``.
    """

    def __init__(
        self,
        campaign: Campaign,
        command: Callable[[str], Sequence[str]] | None = None,
        *,
        nice: int = NICE,
        pause: float = _PAUSE,
        after_failure: float = _AFTER_FAILURE,
    ) -> None:
        self._campaign, self._nice = campaign, nice
        self._pause, self._after_failure = pause, after_failure
        self._command = command or _command_in(campaign.folder.path, campaign.trusted)
        self._end = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        # What the ledger held when there was nothing to do.
        self._in_vain: Counts | None = None

    @property
    def pid(self) -> int | None:
        """Process that learns, if one does."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def __enter__(self) -> BackgroundLearner:
        self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        if self._thread is not None:
            self._thread.join(timeout=20)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                what = self._due()
                if what:
                    self._start(what)
            except Exception as error:  # whatever happens, labelling goes on
                self._fail(f"{type(error).__name__}: {error}")
            self._end.wait(self._pause)

    def _due(self) -> str:
        if time.monotonic() < self._not_before:
            return ""
        seen = self._campaign.ledger.counts()
        if seen == self._in_vain:
            return ""
        due = what_is_due(self._campaign)
        if not due:
            # Not to be read again until something changes.
            self._in_vain = seen
        return due

    def _start(self, what: str) -> None:
        ledger = self._campaign.ledger
        before = ledger.counts(), len(ledger.rounds())
        text = "training on the new labels" if what == "learn" else "looking for typical candidates"
        self._campaign.training = {"state": "learning", "text": text}
        self._process = subprocess.Popen(
            list(self._command(what)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with self._process as process:
            if hasattr(os, "setpriority"):
                # At once, so that the threads that it begins give way too.
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, process.pid, self._nice)
            _, said = process.communicate()
        if self._end.is_set():
            return
        if process.returncode:
            why = said.strip()[-_SAID:] if process.returncode > 0 else ""
            self._fail(why or f"the process ended by signal {-process.returncode}")
        else:
            self._campaign.training = {"state": "idle", "text": ""}
            after = ledger.counts(), len(ledger.rounds())
            self._in_vain = after[0] if after == before else None

    def _fail(self, why: str) -> None:
        self._not_before = time.monotonic() + self._after_failure
        self._campaign.training = {
            "state": "failed",
            "text": "the last training failed; it is tried again, and labelling goes on",
            "detail": why,
        }
        # A ledger that cannot be written now can be later.
        with contextlib.suppress(AIFTError, OSError):
            self._campaign.ledger.note("learning failed", why)


def _command_in(folder: Path, trusted: Sequence[str]) -> Callable[[str], Sequence[str]]:
    options = [part for each in trusted for part in ("--trusted", each)]

    def command(what: str) -> Sequence[str]:
        return [sys.executable, "-m", "aift_sklearn", what, str(folder), "--quiet", *options]

    return command
