"""What annotators are told, as JSON values."""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

from .explanations import describe_pattern
from .records import Answer, Kind, Question
from .served import Explains, Served
from .stopping import PoolExhausted

__all__ = [
    "campaign_reply",
    "counts_of",
    "explained",
    "next_step",
    "own_answers",
    "parts_shown",
    "questions_reply",
    "status_reply",
    "stored_answer",
]

# The criterion that is met when nothing is left.
_LAST = PoolExhausted.name
# Keys of classes beyond the ninth: letters that the page does not use otherwise.
_LETTERS = "qertyadfjklzcvbnmo"
_COUNTS = ("n_asked", "n_open", "n_labelled", "n_skipped", "n_unsure")


def campaign_reply(campaign: Served) -> dict[str, Any]:
    """What is asked, and how."""
    settings = campaign.settings
    named = "\0".join((campaign.name, settings.source, *settings.classes))
    n_classes = len(settings.classes)
    keys = [*string.digits[1:], *_LETTERS]
    return {
        "id": hashlib.sha256(named.encode()).hexdigest()[:12],
        "name": campaign.name,
        "classes": list(settings.classes),
        "show": settings.show,
        "grey": campaign.grey,
        "guidance": settings.guidance,
        "hotkeys": (keys + [""] * n_classes)[:n_classes],
    }


def questions_reply(questions: Sequence[Question], message: str) -> dict[str, Any]:
    """Questions, without what the model thinks of them; a message where there are none."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "questions": [
            {
                "candidate": question.candidate,
                "seconds": max(0.0, round((question.expires - now).total_seconds(), 1)),
            }
            for question in questions
        ],
        "finished": not questions,
        "message": message,
    }


def stored_answer(answer: Answer) -> dict[str, Any]:
    """Return an answer as the ledger has it.

    Examples
    --------
    >>> stored_answer(Answer("a" * 32, "cell-1", "Ada", Kind.skip))["kind"]
    'skip'
    """
    return {
        "uid": answer.uid,
        "candidate": answer.candidate,
        "kind": answer.kind.value,
        "label": answer.label,
        "seconds": answer.seconds,
        "visible": list(answer.visible),
        "replaces": answer.replaces,
        "time": None if answer.time is None else answer.time.isoformat(),
    }


def own_answers(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return an annotator's answers, with those marked that still count."""
    gone = {answer.replaces for answer in answers}
    return {
        "answers": [
            stored_answer(answer) | {"current": answer.uid not in gone}
            for answer in answers
            if answer.kind is not Kind.undo
        ]
    }


def counts_of(status: Mapping[str, Any]) -> dict[str, int]:
    """Sums over all annotators."""
    return {name: int(status["counts"].get(name, 0)) for name in _COUNTS}


def status_reply(status: Mapping[str, Any], annotator: str | None) -> dict[str, Any]:
    """How far the campaign is; of what the other annotators did, only sums."""
    each = status.get("per_annotator") or {}
    return {
        "counts": counts_of(status),
        "yours": None if annotator is None else int(each.get(annotator, 0)),
        "rounds": list(status.get("rounds") or []),
        "training": _training(status),
        "stopping": list(status.get("stopping") or []),
        "speed": _number(status.get("speed")),
    }


def _training(status: Mapping[str, Any]) -> dict[str, str]:
    """What learns now; how a failure looked is for the log, and for the ledger's notes."""
    training = status.get("training") or {}
    return {"state": str(training.get("state", "idle")), "text": str(training.get("text", ""))}


def next_step(status: Mapping[str, Any]) -> str:
    """What happens when there are no questions for an annotator.

    Examples
    --------
    >>> counts = {"n_asked": 20, "n_open": 1}
    >>> print(next_step({"counts": counts, "training": {"state": "idle"}}))
    The questions that are left are with other annotators. What they leave comes to you by itself.
    """
    training = status.get("training") or {}
    said = str(training.get("text") or "")
    if training.get("state") == "learning":
        said = said.strip(".") or "the model learns from the answers"
        return f"{said[0].upper()}{said[1:]}. New questions appear by themselves."
    if training.get("state") == "failed":
        return f"The model could not learn: {said or 'the log of the server says why.'}"
    if any(one.get("met") and one.get("name") == _LAST for one in status.get("stopping") or []):
        return "Everything was asked for, and answered. Thank you."
    if counts_of(status)["n_open"]:
        return (
            "The questions that are left are with other annotators. "
            "What they leave comes to you by itself."
        )
    return said or "All questions are answered. New ones appear by themselves."


def explained(candidate: str, found: Explains | None) -> dict[str, Any]:
    """What a model thinks of a candidate; its patches as PNG in base 64."""
    reply: dict[str, Any] = {"candidate": candidate, "score": None, "pattern": "", "meaning": ""}
    if found is None:
        reason = "it came with its label, from elsewhere"
        return reply | {"proba": None, "patches": [], "reason": reason}
    return reply | {
        "score": _number(found.score),
        "pattern": found.pattern,
        "meaning": describe_pattern(found.pattern),
        "proba": None if found.proba is None else found.proba.round(4).tolist(),
        "patches": [base64.b64encode(patch).decode("ascii") for patch in found.patches],
        "reason": found.reason,
    }


def parts_shown(why: Mapping[str, Any]) -> list[str]:
    """What of a model's thoughts an explanation holds, as views are called.

    Examples
    --------
    >>> parts_shown(explained("cell-1", None))
    ['reason']
    """
    held = {
        "score": why["score"] is not None,
        "pattern": bool(why["pattern"]),
        "probabilities": why["proba"] is not None,
        "patches": bool(why["patches"]),
        "reason": bool(why["reason"]),
    }
    return [name for name, there in held.items() if there]


def _number(value: float | None) -> float | None:
    """Return a plain number; JSON has neither NaN nor NumPy's."""
    return float(value) if value is not None and math.isfinite(value) else None
