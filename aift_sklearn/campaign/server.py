"""The server of a campaign: annotators open it in their browsers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import ipaddress
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import __version__
from .._checks import check_int
from .._optional import one_line
from ..errors import AddressTakenError, AIFTError, MissingDependencyError, ParameterError
from .api_models import what_is_wrong
from .desk import Desk, status_code
from .security import Guard
from .served import Served
from .tokens import Token, make_token
from .write_queue import WriteQueue

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
except ImportError as error:
    raise MissingDependencyError(
        error.name or "fastapi", extra="campaign", purpose="the page of a campaign"
    ) from error

from .routes import add_api, add_page

__all__ = ["create_app", "serve"]

# Pictures that are drawn at a time: two cores have other things to do too.
_PAINTERS = 4
_FIRST_PORT, _PORTS = 8000, 32
# Seconds for what is under way when the server is told to stop.
_LEAVING = 10

_ABOUT = """Questions of a labelling campaign, and their answers.

A client asks for questions, shows their pictures, and sends answers; each under a uid of its own,
so that one that may have got lost can be sent again. Errors are `{"error": "..."}`. Where there is
a token it goes into the header `Authorization: Bearer ...`.
"""


def create_app(
    campaign: Served,
    *,
    token: str | None = None,
    hosts: Iterable[str] = ("127.0.0.1", "localhost", "::1"),
    any_address: bool = False,
) -> FastAPI:
    """Make the application that `serve` runs; for servers of one's own.

    Parameters
    ----------
    campaign : Campaign
        What is labelled.
    token : str, optional
        What annotators have to know. Without one everybody who reaches the server may answer.
    hosts : sequence of str
        Names by which browsers call the server; others are refused, since any name can be made to
        point at a server.
    any_address : bool, default=False
        Whether any IP address will do as its name.

    Returns
    -------
    fastapi.FastAPI
        Answers are written by one thread, which ends with the application's lifespan. Run it in
        one process: leases are the ledger's, but what was read is kept in memory.

    Raises
    ------
    ParameterError
        If the token is too short, or cannot stand in an address.
    """
    if token is not None:
        Token(token)
    writes = WriteQueue(campaign.ledger)
    painters = ThreadPoolExecutor(_PAINTERS, thread_name_prefix="aift-painter")

    async def write(*operations: Any) -> list[Any]:
        return await asyncio.wrap_future(writes.submit(*operations))

    async def work(function: Callable[..., Any], *arguments: Any) -> Any:
        call = functools.partial(function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(painters, call)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(writes.close)
        painters.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title=f"aift_sklearn: {campaign.name}",
        description=_ABOUT,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    add_api(app, Desk(campaign, write, work))
    add_page(app)
    app.add_exception_handler(AIFTError, _tell)
    app.add_exception_handler(RequestValidationError, _tell_what_is_wrong)
    app.add_exception_handler(HTTPException, _tell_in_json)
    app.add_middleware(Guard, token=token, hosts=tuple(hosts), any_address=any_address)
    return app


async def _tell(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AIFTError)
    return JSONResponse({"error": str(error)}, status_code(error))


async def _tell_what_is_wrong(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"error": what_is_wrong(error.errors())}, 422)


async def _tell_in_json(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = f"{request.method} {request.url.path[:200]}: {error.detail}."
    return JSONResponse({"error": said}, error.status_code, headers=error.headers)


def serve(
    campaign: Served,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | bool | None = None,
    *,
    hosts: Iterable[str] = (),
    open_browser: bool = False,
    say: Callable[[str], object] = print,
) -> None:
    """Serve a campaign's page until Ctrl-C; a signal to end ends the program by SystemExit.

    Annotators say who they are, and are believed: the token lets people in, and tells none from
    another. What travels is not encrypted; across networks that others share, put a proxy with
    HTTPS before it, or a tunnel.

    Parameters
    ----------
    campaign : Campaign
        What is labelled.
    host : str, default="127.0.0.1"
        Address to listen at: by itself only of this machine; "0.0.0.0" of all of its networks.
    port : int, optional
        Where; without one the first free port from 8000 on.
    token : str or bool, optional
        What annotators have to know, at least 16 letters. True makes one. Without it one is made
        where other machines reach the page. On a machine that others log in to, pass True. False
        asks for none, on this machine only.
    hosts : sequence of str
        Further names by which browsers call the server, such as that of a proxy before it.
    open_browser : bool, default=False
        Whether to open the page here.
    say : callable
        Is told the page's address, with the token.

    Raises
    ------
    AddressTakenError
        If another program listens there, or the address is none of this machine's.
    ParameterError
        If there is no such port, or other machines could reach the page without a token.
    """
    if port is not None and not 0 <= check_int("port", port, minimum=0) < 2**16:
        raise ParameterError(f"port={port}; expected a number below {2**16}.")
    token = _choose_token(host, token)
    local = _is_local(host)
    with _listen(host, port) as listening:
        at = listening.getsockname()[1]
        names = (host, "127.0.0.1", "localhost", "::1", *hosts)
        own = () if local else (socket.gethostname(), f"{socket.gethostname()}.local")
        app = create_app(campaign, token=token, hosts=(*names, *own), any_address=not local)
        # Nothing goes to a log of requests: a first address holds the token.
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            ws="none",
            lifespan="on",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_LEAVING,
        )
        address = _address(host, at, token)
        say(f"The page is at {address}")
        if open_browser:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt), _ending_by_exit(), _without_long_pauses():
            uvicorn.Server(config).run(sockets=[listening])


@contextlib.contextmanager
def _ending_by_exit() -> Iterator[None]:
    """Let a signal to end unwind the program, so that whoever opened a ledger closes it.

    uvicorn answers what is under way, and then sends itself the signal that it got.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _without_long_pauses() -> Iterator[None]:
    """Spare the garbage collector what is there already, and stays.

    To look through all of it takes a tenth of a second and more, in which nobody is answered.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _choose_token(host: str, token: str | bool | None) -> str | None:
    if token is True or (token is None and not _is_local(host)):
        return make_token()
    if not token and not _is_local(host):
        raise ParameterError(
            f"host={host!r} and token={token!r}; other machines could read and answer the "
            "questions. Leave the token out, and one is made; or pass one of your own."
        )
    return token or None


def _is_local(host: str) -> bool:
    """Whether only this machine reaches an address.

    Examples
    --------
    >>> _is_local("127.0.0.1"), _is_local("localhost"), _is_local("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int | None) -> socket.socket:
    """Take a port before anything else is done."""
    ports = range(_FIRST_PORT, _FIRST_PORT + _PORTS) if port is None else [port]
    reason = ""
    for one in ports:
        try:
            family, _, _, _, where = socket.getaddrinfo(host, one, type=socket.SOCK_STREAM)[0]
            return socket.create_server(where[:2], family=family, backlog=1024)
        except OSError as error:
            reason = one_line(error)
    at = f"port {port}" if port is not None else f"any port from {ports[0]} to {ports[-1]}"
    raise AddressTakenError(
        f"the page cannot be served at {host!r}, {at}: {reason}. Is it served already? "
        "Pass another port, or none for one that is free."
    )


def _address(host: str, port: int, token: str | None) -> str:
    """Where the page is opened.

    Examples
    --------
    >>> _address("::1", 8000, None)
    'http://[::1]:8000/'
    """
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")
