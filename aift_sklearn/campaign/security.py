"""What stands before the page: who may ask, from where, and how much may be sent.

A page on the user's own machine can be reached by every site that the user visits: their scripts
may send forms to it, and names of theirs may be made to point at it. So the server looks at the
host it is asked for, at the site that asks, and at what is sent, before anything else sees it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .page import front_file
from .tokens import Token

__all__ = ["HEADERS", "MOST_BYTES", "Guard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BYTES = 64 * 1024
"""Bytes that a request may bring."""

# Seconds in which it has to be there.
_PATIENCE = 20.0

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
"""Headers of every reply."""

_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_RAW.append((b"cache-control", b"no-store"))
_READS = ("GET", "HEAD")
# Files that are in everybody's package, and hold nothing of a campaign.
_OPEN = "/front/"

_log = logging.getLogger(__name__)


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """Lets through what may be asked, as middleware of an ASGI application.

    Parameters
    ----------
    app : callable
        The application.
    token : str, optional
        What callers have to know; without one nobody is asked for it.
    hosts : sequence of str
        Names by which the server may be called.
    any_address : bool, default=False
        Whether it may be called by any IP address too: no name can be made to look like one.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        token: str | None,
        hosts: Iterable[str],
        any_address: bool = False,
    ) -> None:
        self._app = app
        self._token = None if token is None else Token(token)
        self._hosts = {host.lower().strip("[]") for host in hosts}
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._guard(scope, receive, send)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _Headers(scope["headers"])
        reply = _Reply(send)
        try:
            self._check_where(scope, headers)
            if await self._let_in(scope, headers, reply):
                return
            if scope["method"] not in _READS:
                receive = await _read_first(headers, receive)
            await self._app(scope, receive, reply)
        except _Refused as error:
            await _send_json(reply, error.status, str(error))
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if not reply.started:
                await _send_json(reply, 500, "the server failed at this; its log says why.")

    def _check_where(self, scope: Scope, headers: _Headers) -> None:
        """Refuse other hosts, other sites, and what is no plain request."""
        host = headers.one("host")
        if not self._is_ours(_host_name(host)):
            raise _Refused(
                421, f"this server is not called {host[:100]!r}; see its argument hosts."
            )
        if headers.one("upgrade"):
            raise _Refused(400, "websockets are not used here; ask by plain HTTP.")
        site, origin = headers.one("sec-fetch-site"), headers.one("origin")
        elsewhere = bool(origin) and urlsplit(origin).netloc.lower() != host.lower()
        if site in ("cross-site", "same-site"):
            # A link to the page may stand anywhere.
            visits = headers.one("sec-fetch-mode") == "navigate" and scope["path"] == "/"
            elsewhere = elsewhere or scope["method"] not in _READS or not visits
        if elsewhere:
            raise _Refused(403, "requests of other sites are refused.")

    def _is_ours(self, name: str) -> bool:
        return name in self._hosts or (self._any_address and _is_address(name))

    async def _let_in(self, scope: Scope, headers: _Headers, send: Send) -> bool:
        """Check the token; True where the request is answered by that."""
        token = self._token
        if token is None or scope["path"].startswith(_OPEN):
            return False
        if scope["path"] == "/":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if any(token.is_right(text.strip()) for text in query.get("token", [])):
                await _send(send, 303, b"", location="./", set_cookie=token.set_cookie())
                return True
        if token.in_headers(headers.all("cookie"), headers.one("authorization")):
            return False
        if scope["path"] != "/":
            raise _Refused(
                401, "the token is missing or wrong; open the address that the server printed."
            )
        # Browsers keep the cookie back while they come from another site. Once more from here.
        again = headers.one("sec-fetch-site") == "cross-site"
        page = front_file("again.html" if again else "token.html")
        await _send(send, 401, page.data, kind=page.kind)
        return True


class _Headers:
    """Headers of a request, by name in small letters."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in raw:
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for value in self._values.get(name.encode(), ())]

    def one(self, name: str) -> str:
        values = self.all(name)
        if len(values) > 1:
            raise _Refused(400, f"the request has {len(values)} headers {name}; expected one.")
        return values[0].strip() if values else ""


class _Reply:
    """Sends a reply with the headers that every one has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = message.get("headers", [])
            names = {name.lower() for name, _ in given}
            message["headers"] = [*given, *(pair for pair in _RAW if pair[0] not in names)]
        await self._send(message)


def _host_name(host: str) -> str:
    """Name in a header Host, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _read_first(headers: _Headers, receive: Receive) -> Receive:
    """Read what a request brings, as far as it may be; return what hands it on."""
    kind = headers.one("content-type").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _Refused(415, f"content-type is {kind[:50]!r}; expected 'application/json'.")
    told = headers.one("content-length")
    if told.isdecimal() and int(told) > MOST_BYTES:
        raise _Refused(413, _too_large(told))
    try:
        body = await asyncio.wait_for(_read(receive), _PATIENCE)
    except TimeoutError:
        raise _Refused(408, f"the request did not come within {_PATIENCE:g} seconds.") from None
    handed = False

    async def hand_on() -> Message:
        nonlocal handed
        if handed:
            return await receive()
        handed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return hand_on


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "the request broke off.")
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            raise _Refused(413, _too_large("more"))
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(n: str) -> str:
    return f"the request has {n} bytes; at most {MOST_BYTES} are taken."


async def _send_json(send: Send, status: int, error: str) -> None:
    body = json.dumps({"error": error}).encode()
    await _send(send, status, body, kind="application/json")


async def _send(send: Send, status: int, body: bytes, kind: str = "", **headers: str) -> None:
    given = {"content-length": str(len(body))} | ({"content-type": kind} if kind else {})
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    # What was not read of a request would be taken for the next one.
    if status >= 400:
        given["connection"] = "close"
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
