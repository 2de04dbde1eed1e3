"""The page of a campaign in a notebook: the same front end, by messages instead of HTTP."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from .._optional import load_optional
from ..errors import AIFTError, DataError
from .api_models import AnswerSent, NameSent, QuestionsSent, UndoSent, checked
from .desk import Desk, run_at_once, status_code
from .page import front_file
from .served import Picture, Served

__all__ = ["annotation_widget"]

_log = logging.getLogger(__name__)


def annotation_widget(campaign: Served, annotator: str) -> Any:
    """Make a widget in which an annotator answers a campaign's questions.

    Parameters
    ----------
    campaign : Campaign
        What is labelled. While its kernel is busy answers wait in the browser.
    annotator : str
        Who answers.

    Returns
    -------
    anywidget.AnyWidget
        Shown as the last line of a cell.

    Raises
    ------
    MissingDependencyError
        Without anywidget.
    ParameterError
        If the name is empty, too long, or not in one line.
    """
    return _widget_class()(_Messages(campaign, annotator), annotator)


@functools.cache
def _widget_class() -> Any:
    purpose = "a widget of a campaign"
    anywidget = load_optional("anywidget", purpose=purpose, extra="campaign")
    traitlets = load_optional("traitlets", purpose=purpose, extra="campaign")

    base: Any = anywidget.AnyWidget

    class AnnotationWidget(base):
        """A campaign's questions in a notebook."""

        _esm = front_file("annotate.js").data.decode("utf-8")
        _css = front_file("annotate.css").data.decode("utf-8")
        annotator = traitlets.Unicode(read_only=True).tag(sync=True)

        def __init__(self, messages: _Messages, annotator: str) -> None:
            super().__init__()
            self.set_trait("annotator", annotator)
            self.on_msg(lambda widget, content, buffers: self.send(*messages.reply(content)))

    return AnnotationWidget


class _Messages:
    """Replies to messages, as the addresses below /api do."""

    def __init__(self, campaign: Served, annotator: str) -> None:
        self._name = checked(NameSent, {"annotator": annotator}).annotator

        async def write(*operations: Any) -> Any:
            return campaign.ledger.apply(operations)

        async def work(function: Callable[..., Any], *arguments: Any) -> Any:
            return function(*arguments)

        self._desk = Desk(campaign, write, work, origin="widget")

    def reply(self, content: Any) -> tuple[dict[str, Any], list[bytes]]:
        """Return the reply to a message, and its pictures."""
        try:
            called = str(content["id"])
            name, values = str(content["name"]), dict(content.get("values") or {})
        except (KeyError, TypeError, ValueError):
            return {"id": "", "status": 422, "error": f"{content!r:.100} is no message."}, []
        try:
            reply, buffers = self._call(name, values)
        except AIFTError as error:
            return {"id": called, "status": status_code(error), "error": str(error)}, []
        except Exception:
            _log.exception("message %r failed", name)
            error = "the kernel failed at this; its log says why."
            return {"id": called, "status": 500, "error": error}, []
        return {"id": called, "status": 200, "reply": reply}, buffers

    def _call(self, name: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        desk = self._desk
        # Whatever a message says: this widget is of one annotator.
        sent = {**values, "annotator": self._name}
        candidate = str(values.get("candidate", ""))
        calls: dict[str, Callable[[], Any]] = {
            "questions": lambda: desk.questions(checked(QuestionsSent, sent)),
            "answers": lambda: desk.answer(checked(AnswerSent, sent)),
            "undo": lambda: desk.undo(checked(UndoSent, sent)),
            "release": lambda: desk.release(checked(NameSent, sent)),
            "history": lambda: desk.history(self._name),
            "status": lambda: desk.status(self._name),
            "why": lambda: desk.why(candidate, self._name),
        }
        if name == "campaign":
            return desk.campaign(), []
        if name == "picture":
            return _with_picture(run_at_once(desk.picture(candidate)))
        if name == "surroundings":
            return _with_picture(run_at_once(desk.surroundings(candidate)))
        if name not in calls:
            raise DataError(f"there is no message {name[:100]!r}.")
        return run_at_once(calls[name]()), []


def _with_picture(picture: Picture | None) -> tuple[dict[str, Any], list[bytes]]:
    if picture is None:
        return {"found": False}, []
    box = None if picture.box is None else list(picture.box)
    return {"found": True, "box": box}, [picture.data]
