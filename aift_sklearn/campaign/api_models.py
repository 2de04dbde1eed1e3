"""What clients send and get, checked; the descriptions of /openapi.json come from here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from ..errors import MissingDependencyError, ParameterError

try:
    from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
except ImportError as error:
    raise MissingDependencyError(
        error.name or "pydantic", extra="campaign", purpose="the page of a campaign"
    ) from error

__all__ = [
    "AnswerReply",
    "AnswerSent",
    "CampaignReply",
    "ErrorReply",
    "HistoryReply",
    "NameSent",
    "Nothing",
    "Progress",
    "QuestionsReply",
    "QuestionsSent",
    "StatusReply",
    "UndoReply",
    "UndoSent",
    "WhyReply",
    "checked",
    "what_is_wrong",
]

# Problems of one request that are told of.
_TOLD = 3


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected letters in one line, without control characters")
    if text != text.strip():
        raise ValueError("expected no spaces at either end")
    return text


Name = Annotated[
    str,
    Field(min_length=1, max_length=100, description="Who asks or answers, as in the ledger."),
    AfterValidator(_one_line),
]
Candidate = Annotated[
    str, Field(min_length=1, max_length=500, description="Id of the candidate, as in the pool.")
]
Uid = Annotated[
    str,
    Field(
        pattern="^[A-Za-z0-9-]{16,64}$",
        description="Made by the client: what is sent twice under one uid is done once.",
    ),
]


Sent = TypeVar("Sent", bound=BaseModel)


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NameSent(_Sent):
    """Who is meant."""

    annotator: Name


class QuestionsSent(NameSent):
    """Ask for questions; those that are held already come first, their time begins anew."""

    n: int = Field(2, ge=1, le=10, description="How many are wanted.")


class AnswerSent(NameSent):
    """An answer."""

    uid: Uid
    candidate: Candidate
    kind: Literal["label", "skip", "unsure"] = "label"
    label: str = Field("", max_length=100, description="The class, of kind label; else empty.")
    seconds: float | None = Field(
        None, ge=0, le=1e6, description="That the question was on the screen."
    )
    visible: list[Annotated[str, Field(pattern="^[a-z_ ]{1,40}$")]] = Field(
        [], max_length=20, description="What was seen of the model before the answer."
    )


class UndoSent(NameSent):
    """Take back the latest answer."""

    uid: Uid


class Nothing(BaseModel):
    """No more than that it is done."""


class ErrorReply(BaseModel):
    """Why something was refused, or failed."""

    error: str


class CampaignReply(BaseModel):
    """What is asked, and how."""

    id: str = Field(description="Differs from that of other campaigns.")
    name: str
    classes: list[str]
    show: Literal["after", "request", "always"] = Field(
        description="When annotators see what the model thinks."
    )
    grey: bool = Field(description="Whether candidates have one channel.")
    guidance: str
    hotkeys: list[str] = Field(description="A key for each class; empty where there is none left.")


class QuestionReply(BaseModel):
    """A question. What the model thinks of it is no part of it."""

    candidate: str
    seconds: float = Field(description="Until it goes to somebody else.")


class Progress(BaseModel):
    """How far the campaign is, as of a moment ago."""

    n_asked: int
    n_open: int
    n_labelled: int
    n_skipped: int
    n_unsure: int


class QuestionsReply(BaseModel):
    """Questions to answer."""

    questions: list[QuestionReply]
    finished: bool = Field(description="Whether there is none for this annotator now.")
    message: str = Field(description="What happens next, where there is none.")


class StoredAnswer(BaseModel):
    """An answer as the ledger has it."""

    uid: str
    candidate: str
    kind: Literal["label", "skip", "unsure", "undo"]
    label: str
    seconds: float | None
    visible: list[str]
    replaces: str
    time: str | None = Field(description="When it was stored, in UTC.")


class AnswerReply(QuestionsReply):
    """The answer is on the disk; and what comes next."""

    answer: StoredAnswer
    progress: Progress


class UndoReply(QuestionsReply):
    """What was taken back, if there was anything; its question is asked again."""

    undone: StoredAnswer | None
    progress: Progress


class PastAnswer(StoredAnswer):
    """An answer of the annotator's own."""

    current: bool = Field(description="Whether it was neither corrected nor taken back.")


class HistoryReply(BaseModel):
    """An annotator's own answers, the newest first."""

    answers: list[PastAnswer]


class StatusReply(BaseModel):
    """How far the campaign is."""

    counts: Progress
    yours: int | None = Field(description="Candidates that the annotator has answered.")
    rounds: list[dict[str, Any]]
    training: dict[str, Any]
    stopping: list[dict[str, Any]]
    speed: float | None = Field(description="Labels per minute, of all annotators.")


class WhyReply(BaseModel):
    """What the model thinks of a candidate, and why it is asked for."""

    candidate: str
    score: float | None = Field(description="What its label is worth; None without a model.")
    pattern: str
    meaning: str = Field(description="What the pattern means.")
    proba: list[list[float]] | None = Field(description="Of every patch and class, (m, K).")
    patches: list[str] = Field(description="The patches, as PNG in base 64.")
    reason: str


def checked(kind: type[Sent], values: Mapping[str, Any]) -> Sent:
    """Return what was sent, if it is as expected.

    Raises
    ------
    ParameterError
        If it is not.

    Examples
    --------
    >>> checked(QuestionsSent, {"annotator": "Ada", "n": 99})
    Traceback (most recent call last):
    aift_sklearn.errors.ParameterError: n=99: Input should be less than or equal to 10
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise ParameterError(what_is_wrong(error.errors())) from None


def what_is_wrong(errors: Iterable[Mapping[str, Any]]) -> str:
    """Say in a line what is wrong with a request, of what pydantic says.

    Examples
    --------
    >>> what_is_wrong([{"loc": ("body", "n"), "input": 99, "msg": "too many"}])
    'n=99: too many'
    """
    said = []
    for one in itertools.islice(errors, _TOLD):
        where = ".".join(str(part) for part in one["loc"] if part not in ("body", "query"))
        value = one.get("input")
        arrived = f"={value!r}" if isinstance(value, str | int | float) else ""
        arrived = arrived if len(arrived) <= 60 else f"{arrived[:60]} ..."
        said.append(f"{where or 'the request'}{arrived}: {one['msg']}")
    return "; ".join(said)
