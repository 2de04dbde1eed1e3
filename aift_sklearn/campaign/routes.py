"""Addresses of a campaign's server: the page, and the JSON that it asks for and sends."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from .api_models import (
    AnswerReply,
    AnswerSent,
    CampaignReply,
    Candidate,
    ErrorReply,
    HistoryReply,
    Name,
    NameSent,
    QuestionsReply,
    QuestionsSent,
    StatusReply,
    UndoReply,
    UndoSent,
    WhyReply,
)
from .desk import Desk
from .page import FRONT, FrontFile, front_file
from .served import Picture

__all__ = ["api_routes", "page_routes"]

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorReply, "description": "The token is missing or wrong."},
    403: {"model": ErrorReply, "description": "Not before an answer; or another site asks."},
    404: {"model": ErrorReply, "description": "The candidate was not asked for."},
    422: {"model": ErrorReply, "description": "Something does not fit; it says what."},
    503: {"model": ErrorReply, "description": "Not now: send it again in a moment."},
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorReply, "description": "Another answer has this uid."}
}
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "A PNG."},
    304: {"description": "As it was: If-None-Match holds its ETag."},
}

OfCandidate = Annotated[Candidate, Query()]
OfAnnotator = Annotated[Name, Query()]


def page_routes() -> APIRouter:
    """Return the page and its files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page(request: Request) -> Response:
        return _file(front_file("page.html"), request)

    @router.get("/front/{name}")
    async def front(name: str, request: Request) -> Response:
        if name not in FRONT:
            return _error(404, f"there is no file {name[:100]!r}.")
        return _file(front_file(name), request)

    return router


def api_routes(desk: Desk) -> APIRouter:
    """Return the addresses below /api."""
    router = APIRouter(prefix="/api", responses=_ERRORS)

    @router.get("/campaign", response_model=CampaignReply, summary="What is asked, and how")
    async def campaign() -> Any:
        return desk.campaign()

    @router.post("/questions", response_model=QuestionsReply, summary="Ask for questions")
    async def questions(sent: QuestionsSent) -> Any:
        """Those that the annotator holds come first, and are held for longer."""
        return await desk.questions(sent)

    @router.post(
        "/answers", response_model=AnswerReply, responses=_CONFLICT, summary="Send an answer"
    )
    async def answers(sent: AnswerSent) -> Any:
        """It is on the disk when the reply comes. The same one, sent again, is kept once.

        An answer to a candidate that the annotator has answered corrects that answer.
        """
        return await desk.answer(sent)

    @router.post(
        "/undo", response_model=UndoReply, responses=_CONFLICT, summary="Take an answer back"
    )
    async def undo(sent: UndoSent) -> Any:
        """Take back the annotator's latest answer. Its question is asked again."""
        return await desk.undo(sent)

    @router.post("/release", summary="Hand questions back")
    async def release(sent: NameSent) -> dict[str, Any]:
        """Others are asked at once what the annotator holds."""
        return await desk.release(sent)

    @router.get("/status", response_model=StatusReply, summary="How far the campaign is")
    async def status(annotator: OfAnnotator | None = None) -> Any:
        return await desk.status(annotator)

    @router.get("/history", response_model=HistoryReply, summary="An annotator's own answers")
    async def history(annotator: OfAnnotator, n: Annotated[int, Query(ge=1, le=200)] = 50) -> Any:
        return await desk.history(annotator, n)

    _add_pictures(router, desk)
    return router


def _add_pictures(router: APIRouter, desk: Desk) -> None:
    @router.get("/picture", responses=_PNG, response_class=Response, summary="A candidate")
    async def picture(candidate: OfCandidate, request: Request) -> Response:
        return _picture(await desk.picture(candidate), request)

    @router.get(
        "/surroundings",
        responses=_PNG | {204: {"description": "There is no more of the image."}},
        response_class=Response,
        summary="What lies around a candidate",
    )
    async def surroundings(candidate: OfCandidate, request: Request) -> Response:
        """The header X-Box holds the candidate's place: x0, y0, x1, y1 as shares of the sides."""
        found = await desk.surroundings(candidate)
        return Response(status_code=204) if found is None else _picture(found, request)

    @router.get("/why", response_model=WhyReply, summary="What the model thinks of a candidate")
    async def why(candidate: OfCandidate, annotator: OfAnnotator) -> Any:
        """That the annotator saw it is recorded."""
        return await desk.why(candidate, annotator)


def _picture(picture: Picture, request: Request) -> Response:
    headers = {} if picture.box is None else {"X-Box": json.dumps(picture.box)}
    return _cached(picture.data, "image/png", picture.etag, request, headers)


def _file(file: FrontFile, request: Request) -> Response:
    return _cached(file.data, file.kind, file.etag, request, {})


def _cached(
    data: bytes, kind: str, etag: str, request: Request, headers: dict[str, str]
) -> Response:
    # Kept by the browser, but asked for anew: another campaign may be served here next.
    headers = headers | {"ETag": etag, "Cache-Control": "private, no-cache"}
    known = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
    if etag in known:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def _error(status: int, reason: str) -> Response:
    return Response(
        json.dumps({"error": reason}), status_code=status, media_type="application/json"
    )
