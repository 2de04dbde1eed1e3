"""Addresses of a campaign's server: the page, and the JSON that it asks for and sends."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from .api_models import (
    AnswerReply,
    AnswerSent,
    CampaignReply,
    Candidate,
    ErrorReply,
    HistoryReply,
    Name,
    NameSent,
    Nothing,
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

__all__ = ["add_api", "add_page"]

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorReply, "description": "The token is missing or wrong."},
    403: {"model": ErrorReply, "description": "Not before an answer; or another site asks."},
    404: {"model": ErrorReply, "description": "The candidate was not asked for."},
    422: {"model": ErrorReply, "description": "Something does not fit; it says what."},
    409: {"model": ErrorReply, "description": "Another answer has this uid."},
    503: {"model": ErrorReply, "description": "Not now: send it again in a moment."},
}
OfCandidate = Annotated[Candidate, Query()]
OfAnnotator = Annotated[Name, Query()]


def add_page(app: FastAPI) -> None:
    """Add the page and its files."""

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return _file(front_file("page.html"), request)

    @app.get("/front/{name}", include_in_schema=False)
    async def front(name: str, request: Request) -> Response:
        if name not in FRONT:
            return JSONResponse({"error": f"there is no file {name[:100]!r}."}, 404)
        return _file(front_file(name), request)


def add_api(app: FastAPI, desk: Desk) -> None:
    """Add the addresses below /api; what is asked for most comes first, and is found first."""
    _add_answers(app, desk)
    _add_pictures(app, desk)
    _add_news(app, desk)


def _describe(reply: type[BaseModel], summary: str) -> dict[str, Any]:
    """What the description says of an address.

    What the desk returns is of that shape already; it is not checked again at every reply.
    """
    said = {200: {"model": reply, "description": "Done."}}
    return {"responses": _ERRORS | said, "summary": summary, "response_class": JSONResponse}


def _add_answers(app: FastAPI, desk: Desk) -> None:
    @app.post("/api/answers", **_describe(AnswerReply, "Send an answer"))
    async def answers(sent: AnswerSent) -> Response:
        """It is on the disk when the reply comes. The same one, sent again, is kept once.

        An answer to a candidate that the annotator has answered corrects that answer.
        """
        return JSONResponse(await desk.answer(sent))

    @app.post("/api/questions", **_describe(QuestionsReply, "Ask for questions"))
    async def questions(sent: QuestionsSent) -> Response:
        """Those that the annotator holds come first, and are held for longer."""
        return JSONResponse(await desk.questions(sent))

    @app.post("/api/undo", **_describe(UndoReply, "Take an answer back"))
    async def undo(sent: UndoSent) -> Response:
        """Take back the annotator's latest answer. Its question is asked again."""
        return JSONResponse(await desk.undo(sent))

    @app.post("/api/release", **_describe(Nothing, "Hand questions back"))
    async def release(sent: NameSent) -> Response:
        """Others are asked at once what the annotator holds."""
        return JSONResponse(await desk.release(sent))


def _add_pictures(app: FastAPI, desk: Desk) -> None:
    png = {"content": {"image/png": {}}, "description": "A PNG."}
    same = {"description": "As it was: If-None-Match holds its ETag."}
    nothing = {"description": "There is no more of the image."}
    responses: dict[int | str, Any] = {**_ERRORS, 200: png, 304: same}
    kind: dict[str, Any] = {"response_class": Response}

    @app.get("/api/picture", responses=responses, summary="A candidate", **kind)
    async def picture(candidate: OfCandidate, request: Request) -> Response:
        return _picture(await desk.picture(candidate), request)

    @app.get(
        "/api/surroundings",
        responses=responses | {204: nothing},
        summary="What lies around a candidate",
        **kind,
    )
    async def surroundings(candidate: OfCandidate, request: Request) -> Response:
        """The header X-Box holds the candidate's place: x0, y0, x1, y1 as shares of the sides."""
        found = await desk.surroundings(candidate)
        return Response(status_code=204) if found is None else _picture(found, request)


def _add_news(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/why", **_describe(WhyReply, "What the model thinks of a candidate"))
    async def why(candidate: OfCandidate, annotator: OfAnnotator) -> Response:
        """That the annotator saw it is recorded."""
        return JSONResponse(await desk.why(candidate, annotator))

    @app.get("/api/status", **_describe(StatusReply, "How far the campaign is"))
    async def status(annotator: OfAnnotator | None = None) -> Response:
        return JSONResponse(await desk.status(annotator))

    @app.get("/api/history", **_describe(HistoryReply, "An annotator's own answers"))
    async def history(
        annotator: OfAnnotator, n: Annotated[int, Query(ge=1, le=200)] = 50
    ) -> Response:
        return JSONResponse(await desk.history(annotator, n))

    @app.get("/api/campaign", **_describe(CampaignReply, "What is asked, and how"))
    async def campaign() -> Response:
        return JSONResponse(desk.campaign())


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
