"""What comes to a ledger, checked and brought to plain types, before anything is written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..._checks import check_int, check_number
from ...errors import AIFTError, DataError, LabelError, ParameterError
from ..records import Answer, Ask, Kind, Purpose, Round

__all__ = [
    "check_answer",
    "check_asks",
    "check_json",
    "check_name",
    "check_round",
    "check_settings",
    "check_text",
    "is_candidate_name",
]

# Characters: an index of PostgreSQL takes 2700 bytes, at most four a character.
_ID, _NAME = 500, 100
# Both databases hold these numbers.
_BIGGEST = 2**63 - 1


def check_text(
    what: str, value: Any, *, error: type[AIFTError] = DataError, longest: int | None = None
) -> str:
    """Return a text that both databases can keep."""
    text = str(value) if isinstance(value, str) else None
    if text is None or (longest is not None and len(text) > longest):
        expected = "text" if longest is None else f"text of at most {longest} characters"
        raise error(f"{what} is {value!r:.120}; expected {expected}.")
    if "\0" in text or not _is_utf8(text):
        raise error(f"{what} is {text!r:.120}; expected text without NUL and half characters.")
    return text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_candidate_name(name: str) -> bool:
    """Whether a candidate can be called so.

    Examples
    --------
    >>> is_candidate_name("a/b.png"), is_candidate_name("b.png ")
    (True, False)
    """
    try:
        check_name("candidate", name, longest=_ID)
    except DataError:
        return False
    return True


def check_name(
    what: str, value: Any, *, error: type[AIFTError] = DataError, longest: int = _NAME
) -> str:
    """Return a text that is not empty, and without spaces around it that nobody sees.

    Examples
    --------
    >>> check_name("annotator", "Ada")
    'Ada'
    >>> check_name("annotator", "Ada ")
    Traceback (most recent call last):
    aift_sklearn.errors.DataError: annotator is 'Ada '; expected a name, without spaces around it.
    """
    text = check_text(what, value, error=error, longest=longest)
    if not text or text != text.strip():
        raise error(f"{what} is {text!r}; expected a name, without spaces around it.")
    return text


def check_json(what: str, values: Any) -> dict[str, Any]:
    """Return a mapping as it is read again from JSON.

    Examples
    --------
    >>> import numpy as np
    >>> check_json("parameters", {"b": np.int64(3), "classes": ("cyst", "tumour")})
    {'b': 3, 'classes': ['cyst', 'tumour']}
    """
    if not isinstance(values, Mapping):
        raise DataError(f"{what} is {values!r:.80}; expected a mapping of names to JSON values.")
    try:
        text = json.dumps(dict(values), default=_plain, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} holds what is no JSON: {error}.") from error
    # NUL is spelt out in JSON, and needs no check.
    read: dict[str, Any] = json.loads(text)
    return read


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r:.80} of type {type(value).__name__}")


def check_settings(values: Any) -> dict[str, Any]:
    """Return settings; of what they are about, a ledger needs the classes."""
    checked = check_json("settings", values)
    classes: Any = checked.get("classes")
    listed = isinstance(classes, list) and all(isinstance(name, str) and name for name in classes)
    if not listed or len(set(classes)) < len(classes):
        raise DataError(
            f"settings have classes={classes!r}; expected a list of different names, such as "
            "['cyst', 'tumour']."
        )
    return checked


def check_round(what: Any) -> Round:
    """Return a round in plain types."""
    return Round(
        number=_check_int("number", what.number),
        model=check_text("model", what.model),
        parameters=check_json("parameters", what.parameters),
        seed=_check_int("seed", what.seed, minimum=-_BIGGEST),
        n_labels=_check_int("n_labels", what.n_labels),
    )


def check_asks(asks: Iterable[Ask], number: int) -> list[Ask]:
    """Return asks of a round in plain types, each candidate once.

    Raises
    ------
    DataError
        If a candidate is there twice, or a value is none that an ask can have.
    """
    checked = [_check_ask(ask, number) for ask in asks]
    seen: set[str] = set()
    for ask in checked:
        if ask.candidate in seen:
            raise DataError(
                f"candidate {ask.candidate!r} is among the asks twice; expected each once."
            )
        seen.add(ask.candidate)
    return checked


def _check_ask(ask: Ask, number: int) -> Ask:
    if not isinstance(ask, Ask):
        raise DataError(f"an ask is {ask!r:.80} of type {type(ask).__name__}; expected an Ask.")
    candidate = check_name("candidate", ask.candidate, longest=_ID)
    try:
        purpose = Purpose(ask.purpose)
    except ValueError as error:
        expected = ", ".join(purpose.value for purpose in Purpose)
        raise DataError(
            f"candidate {candidate!r} has purpose={ask.purpose!r}; expected one of {expected}."
        ) from error
    return Ask(
        candidate,
        rank=_check_int("rank", ask.rank, minimum=-_BIGGEST),
        purpose=purpose,
        score=None if ask.score is None else _check_float("score", ask.score),
        pattern=check_text("pattern", ask.pattern, longest=_NAME),
        proba=tuple(_check_float("proba", value) for value in ask.proba),
        n_readers=_check_int("n_readers", ask.n_readers, minimum=1),
        round=number,
    )


def _check_int(name: str, value: Any, *, minimum: int = 0) -> int:
    try:
        number = check_int(name, value, minimum=minimum)
    except ParameterError as error:
        raise DataError(str(error)) from error
    if number > _BIGGEST:
        raise DataError(f"{name}={number}; expected a number below 2**63.")
    return number


def _check_float(name: str, value: Any) -> float:
    try:
        return check_number(name, value, low=-math.inf)
    except ParameterError as error:
        raise DataError(str(error)) from error


def check_answer(answer: Answer, classes: Sequence[str]) -> Answer:
    """Return an answer in plain types, without what the ledger fills in.

    Raises
    ------
    LabelError
        If the label is no class, the kind is none, or a text or a number cannot be kept.
    """
    try:
        kind = Kind(answer.kind)
    except ValueError:
        kind = Kind.undo
    if kind is Kind.undo:
        raise LabelError(
            f"an answer has kind={answer.kind!r}; expected label, skip or unsure. An answer is "
            "taken back by undo()."
        )
    label = check_text("label", answer.label, error=LabelError)
    if kind is Kind.label and label not in classes:
        raise LabelError(f"the label is {label!r}; expected one of the classes {list(classes)}.")
    if kind is not Kind.label and label:
        raise LabelError(f"an answer of kind {kind.value} has the label {label!r}; expected none.")
    seconds = answer.seconds
    if seconds is not None:
        try:
            seconds = check_number("seconds", seconds, low=0)
        except ParameterError as error:
            raise LabelError(str(error)) from error
    if not isinstance(answer.visible, tuple | list):
        raise LabelError(f"visible={answer.visible!r:.80}; expected a tuple, such as ('score',).")
    return dataclasses.replace(
        answer,
        uid=check_name("uid", answer.uid, error=LabelError),
        candidate=check_text("candidate", answer.candidate, error=LabelError),
        annotator=check_name("annotator", answer.annotator, error=LabelError),
        kind=kind,
        label=label,
        seconds=seconds,
        visible=tuple(check_name("visible", what, error=LabelError) for what in answer.visible),
        replaces="",
        origin=check_text("origin", answer.origin, error=LabelError),
        time=None,
    )
