"""What annotators are handed and hand back, whatever it comes by: the page or a notebook."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from ..errors import (
    AIFTError,
    ConflictError,
    DataError,
    HiddenError,
    LedgerError,
    UnavailableError,
)
from .api_models import AnswerSent, NameSent, QuestionsSent, UndoSent
from .operations import Lease, Release, Saw, Undo
from .picture_cache import PictureCache
from .records import Answer, Kind, Question
from .replies import (
    campaign_reply,
    counts_of,
    explained,
    next_step,
    own_answers,
    parts_shown,
    questions_reply,
    status_reply,
    stored_answer,
)
from .served import Picture, Served

__all__ = ["Desk", "run_at_once", "status_code"]

# Seconds for which a sum is good enough, or how often longer than it takes.
_FRESH, _RARELY = 0.1, 10
# Questions that an answer brings along: the one on the screen, and the next.
_AHEAD = 2
_EXPLANATIONS = 32 << 20

T = TypeVar("T")

_log = logging.getLogger(__name__)


class _Sum(Generic[T]):
    """What is summed up again once it is old; who asks meanwhile is content with what was."""

    def __init__(self, sum_up: Callable[[], Awaitable[T]], without: T) -> None:
        self._sum_up = sum_up
        self.known = without
        self._until = -math.inf
        # Those who ask first wait for one sum, and do not all make it.
        self._lock = asyncio.Lock()

    async def value(self) -> T:
        if self._until > -math.inf and (self._lock.locked() or time.monotonic() < self._until):
            return self.known
        async with self._lock:
            began = time.monotonic()
            if began >= self._until:
                try:
                    self.known = await self._sum_up()
                except (AIFTError, OSError):
                    # What is stored is stored, whether or not it can be summed up.
                    _log.exception("the campaign could not be summed up")
                finally:
                    now = time.monotonic()
                    self._until = now + max(_FRESH, _RARELY * (now - began))
            return self.known


class Desk:
    """Answers what annotators ask for, and takes their answers, as JSON values.

    Parameters
    ----------
    campaign : Campaign
        What is labelled.
    write : callable
        Coroutine function that applies operations to the ledger, together, and returns their
        results.
    work : callable
        Coroutine function that calls a function which takes its time.
    origin : str
        What answers come by.
    """

    def __init__(
        self,
        campaign: Served,
        write: Callable[..., Awaitable[Sequence[Any]]],
        work: Callable[..., Awaitable[Any]],
        *,
        origin: str = "page",
    ) -> None:
        self._campaign = campaign
        self._write = write
        self._work = work
        self._origin = origin
        self._asked: set[str] = set()
        self._pictures: PictureCache[Picture | None] = PictureCache(
            lambda picture: 0 if picture is None else len(picture.data)
        )
        self._explained: PictureCache[dict[str, Any]] = PictureCache(
            lambda why: sum(map(len, why["patches"])), n_bytes=_EXPLANATIONS
        )
        self._status = _Sum[dict[str, Any]](lambda: work(campaign.status), {"counts": {}})
        # Cheap, since they are carried on: never as old as the rest may be.
        self._counts = _Sum[Any](lambda: work(campaign.ledger.counts), None)

    def campaign(self) -> dict[str, Any]:
        """What is asked, and how."""
        return campaign_reply(self._campaign)

    async def questions(self, sent: QuestionsSent) -> dict[str, Any]:
        """Hand out questions."""
        (questions,) = await self._done(Lease(sent.annotator, n=sent.n))
        return await self._handed_out(questions)

    async def answer(self, sent: AnswerSent) -> dict[str, Any]:
        """Take an answer, and hand out the next questions."""
        answer = Answer(
            uid=sent.uid,
            candidate=sent.candidate,
            annotator=sent.annotator,
            kind=Kind(sent.kind),
            label=sent.label,
            seconds=sent.seconds,
            visible=tuple(sent.visible),
            origin=self._origin,
        )
        stored, questions = await self._done(answer, Lease(sent.annotator, n=_AHEAD))
        reply = await self._handed_out(questions)
        return reply | {"answer": stored_answer(stored), "progress": await self._progress()}

    async def undo(self, sent: UndoSent) -> dict[str, Any]:
        """Take back the annotator's latest answer, and ask its question again."""
        undo = Undo(uid=sent.uid, annotator=sent.annotator)
        undone, questions = await self._done(undo, Lease(sent.annotator, n=_AHEAD))
        reply = await self._handed_out(questions)
        told = None if undone is None else stored_answer(undone)
        return reply | {"undone": told, "progress": await self._progress()}

    async def release(self, sent: NameSent) -> dict[str, Any]:
        """Hand back the questions that an annotator holds."""
        await self._done(Release(sent.annotator))
        return {}

    async def history(self, annotator: str, n: int = 50) -> dict[str, Any]:
        """Return an annotator's own answers, the newest first."""
        return own_answers(await self._work(self._campaign.ledger.history, annotator, n))

    async def status(self, annotator: str | None = None) -> dict[str, Any]:
        """How far the campaign is; of what the other annotators did, only sums."""
        return status_reply(await self._standing(), annotator)

    async def picture(self, candidate: str) -> Picture:
        """PNG of a candidate that was asked for."""
        found = await self._cached("picture", candidate, self._draw)
        assert found is not None
        return found

    async def surroundings(self, candidate: str) -> Picture | None:
        """PNG of what lies around it, where there is more of the image."""
        return await self._cached("surroundings", candidate, self._draw_around)

    async def why(self, candidate: str, annotator: str) -> dict[str, Any]:
        """What the model thinks of a candidate; that it was seen is noted first.

        Raises
        ------
        HiddenError
            Before the annotator's answer, where the campaign shows it only afterwards.
        DataError
            If the candidate was not asked for.
        """
        seen = await self._work(self._seen, candidate, annotator)
        why = self._explained.get(candidate)
        if why is None:
            why = explained(candidate, await self._work(self._campaign.explanation, candidate))
            self._explained.put(candidate, why)
        shown = [what for what in parts_shown(why) if what not in seen]
        if shown:
            await self._done(*(Saw(annotator, candidate, what) for what in shown))
        return why

    async def _done(self, *operations: Any) -> Sequence[Any]:
        results = await self._write(*operations)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    async def _handed_out(self, questions: Sequence[Question]) -> dict[str, Any]:
        self._asked.update(question.candidate for question in questions)
        message = "" if questions else next_step(await self._standing())
        return questions_reply(questions, message)

    async def _standing(self) -> dict[str, Any]:
        status, counts = await self._status.value(), await self._counts.value()
        if counts is None:
            return status
        return status | {"counts": vars(counts), "per_annotator": counts.by_annotator}

    async def _progress(self) -> dict[str, int]:
        # An answer does not wait for a count: pages ask for that in their own time.
        counts = self._counts.known or await self._counts.value()
        return counts_of({"counts": {} if counts is None else vars(counts)})

    async def _cached(
        self, kind: str, candidate: str, draw: Callable[[str], Picture | None]
    ) -> Picture | None:
        key = (kind, candidate)
        if key in self._pictures:
            return self._pictures.get(key)
        found: Picture | None = await self._work(draw, candidate)
        self._pictures.put(key, found)
        return found

    def _draw(self, candidate: str) -> Picture:
        self._refuse_unasked(candidate)
        data = self._campaign.picture(candidate)
        return Picture(data, _etag(data))

    def _draw_around(self, candidate: str) -> Picture | None:
        self._refuse_unasked(candidate)
        found = self._campaign.surroundings(candidate)
        return None if found is None else Picture(found[0], _etag(found[0]), found[1])

    def _seen(self, candidate: str, annotator: str) -> set[str]:
        """What the annotator has seen of the model's thoughts, if more may be seen."""
        self._refuse_unasked(candidate)
        ledger = self._campaign.ledger
        if self._campaign.settings.show == "after" and not any(
            answer.annotator == annotator and answer.kind is not Kind.skip
            for answer in ledger.current_of(candidate)
        ):
            raise HiddenError("what the model thinks is shown once you have answered.")
        return set(ledger.seen(annotator, candidate))

    def _refuse_unasked(self, candidate: str) -> None:
        if candidate not in self._asked:
            if self._campaign.ledger.ask_of(candidate) is None:
                raise DataError(f"{candidate[:100]!r} was not asked for in this campaign.")
            self._asked.add(candidate)


def run_at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing, whether or not an event loop runs here.

    Examples
    --------
    >>> async def answer():
    ...     return 42
    >>> run_at_once(answer())
    42
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine waits for something, and nothing runs that could bring it.")


def status_code(error: AIFTError) -> int:
    """HTTP status that says what is wrong.

    Examples
    --------
    >>> status_code(DataError("'x' was not asked for.")), status_code(HiddenError("later."))
    (404, 403)
    """
    kinds = [
        (HiddenError, 403),
        (DataError, 404),
        (ConflictError, 409),
        (LedgerError, 503),
        (UnavailableError, 503),
    ]
    return next((code for kind, code in kinds if isinstance(error, kind)), 422)


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:24]}"'
