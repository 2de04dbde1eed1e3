"""Who may ask a campaign's server, from where, and how much may be sent."""

import json

import pytest
from campaign.fakes import CLASSES, FakeCampaign
from campaign.serving import Caller, serving

from aift_sklearn.campaign.page import FRONT, front_file
from aift_sklearn.campaign.security import HEADERS, MOST_BYTES
from aift_sklearn.campaign.server import create_app
from aift_sklearn.campaign.tokens import Token, make_token

TOKEN = "a-token-of-the-tests-0123456789"
ANSWER = {
    "uid": "0" * 32,
    "candidate": "cell-000",
    "annotator": "Ada",
    "kind": "label",
    "label": CLASSES[0],
}


@pytest.fixture(scope="module")
def open_to_all():
    campaign = FakeCampaign()
    with serving(campaign) as port:
        yield Caller(port), campaign


@pytest.fixture(scope="module")
def guarded():
    campaign = FakeCampaign()
    with serving(campaign, token=TOKEN) as port:
        yield Caller(port), campaign


@pytest.fixture
def caller(open_to_all):
    caller, campaign = open_to_all
    campaign.ledger.rows.clear()
    return caller


@pytest.fixture
def rows(open_to_all):
    return open_to_all[1].ledger.rows


# Tokens

PATHS = ["/", "/api/campaign", "/api/picture?candidate=cell-000", "/openapi.json", "/nothing"]
GUESSES = ["", "wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "\xfc" * 20]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_told(guarded, path):
    status, headers, body = guarded[0].get(path)
    assert status == 401
    assert "set-cookie" not in headers
    assert b"blood cells" not in (body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize("guess", GUESSES)
def test_wrong_tokens_are_refused_wherever_they_stand(guarded, guess):
    caller, campaign = guarded
    cookie = Token(TOKEN).cookie
    text = guess.encode("latin-1").decode("latin-1")
    assert caller.get("/api/campaign", authorization=f"Bearer {text}")[0] == 401
    assert caller.get("/api/campaign", cookie=f"{cookie}={text}")[0] == 401
    assert caller.get("/api/campaign", cookie=f"aift={TOKEN}; {cookie}")[0] == 401
    quoted = "".join(f"%{byte:02x}" for byte in guess.encode())
    status, headers, _ = caller.get(f"/?token={quoted}")
    assert (status, "set-cookie" in headers) == (401, False)
    assert caller.post("/api/answers", ANSWER, authorization=f"Basic {text}")[0] == 401
    assert campaign.ledger.rows == []


def test_the_token_is_taken_in_a_header_or_a_cookie(guarded):
    caller, _ = guarded
    cookie = Token(TOKEN).cookie
    for headers in (
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN}"},
        {"cookie": f"other=1; {cookie}={TOKEN}; more=2"},
    ):
        assert caller.get("/api/campaign", **headers)[0] == 200
    # In an address it would stay in histories and logs.
    assert caller.get(f"/api/campaign?token={TOKEN}")[0] == 401


def test_the_first_address_hands_out_a_cookie_and_forgets_the_token(guarded):
    caller, _ = guarded
    status, headers, body = caller.get(f"/?token={TOKEN}")
    assert (status, headers["location"], body) == (303, "./", b"")
    pair, *rest = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(rest)
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    status, _, body = caller.get("/", cookie=pair)
    assert (status, body) == (200, front_file("page.html").data)


def test_who_comes_by_a_link_of_another_site_is_led_on_once(guarded):
    caller, _ = guarded
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert caller.get(f"/?token={TOKEN}", **link)[0] == 303
    # A strict cookie is kept back on the way from there; the page asks again by itself.
    status, _, body = caller.get("/", **link)
    assert status == 401
    assert b'http-equiv="refresh"' in body
    status, _, body = caller.get("/", sec_fetch_site="same-origin", sec_fetch_mode="navigate")
    assert status == 401
    assert b"refresh" not in body
    assert b'name="token"' in body


def test_campaigns_of_one_host_have_cookies_of_their_own():
    assert Token(TOKEN).cookie != Token(TOKEN + "x").cookie
    assert TOKEN not in Token(TOKEN).cookie
    assert TOKEN not in repr(Token(TOKEN))
    assert make_token() != make_token()


def test_no_token_is_logged(guarded, caplog):
    caller, _ = guarded
    caplog.set_level(0)
    caller.get(f"/?token={TOKEN}")
    caller.get("/?token=wrong")
    caller.get("/api/campaign", authorization=f"Bearer {TOKEN}")
    assert TOKEN not in caplog.text


# Files


@pytest.mark.parametrize("name", sorted(FRONT))
def test_files_of_the_page_are_everybodys(guarded, name):
    status, headers, data = guarded[0].get(f"/front/{name}")
    assert (status, data) == (200, front_file(name).data)
    assert headers["content-type"] == FRONT[name]
    again = guarded[0].get(f"/front/{name}", if_none_match=headers["etag"])
    assert again[0] == 304


@pytest.mark.parametrize(
    "path",
    [
        "../server.py",
        "..%2fserver.py",
        "%2e%2e/server.py",
        "%2e%2e%2fserver.py",
        "..\\server.py",
        "....//server.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "annotate.js/../../server.py",
        "annotate.js%00.css",
        "annotate.JS",
        "",
        ".",
    ],
)
def test_no_other_file_is_reached(caller, path):
    for start in ("/front/", "/", "/api/"):
        status, _, body = caller.get(start + path)
        assert status in (404, 200 if start + path in ("/", "/.") else 404)
        assert b"import" not in (body if isinstance(body, bytes) else b"")
        assert b"root:" not in (body if isinstance(body, bytes) else b"")


# Headers of replies


@pytest.mark.parametrize(
    "path", ["/", "/front/annotate.js", "/api/campaign", "/nothing", "/api/history"]
)
def test_every_reply_says_what_browsers_may_do_with_it(caller, guarded, path):
    for one in (caller, guarded[0]):
        _, headers, _ = one.get(path)
        assert {name: headers.get(name) for name in HEADERS} == HEADERS


def test_the_policy_allows_no_script_but_our_file():
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in HEADERS["content-security-policy"]
    for name in ("page.html", "token.html", "again.html"):
        text = front_file(name).data.decode()
        assert "://" not in text
        assert " on" not in text.replace(" one", "").replace(" on<", "")
        assert text.count("<script") == (1 if name == "page.html" else 0)


def test_the_page_needs_nothing_from_elsewhere():
    addresses = ("http://www.w3.org/2000/svg", "https://anywidget.dev")
    for name in FRONT:
        text = front_file(name).data.decode()
        for known in addresses:
            text = text.replace(known, "")
        assert "http:" not in text
        assert "https:" not in text
    script = front_file("annotate.js").data.decode()
    for parsed in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert parsed not in script


# Where requests come from


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "evil.example@127.0.0.1:99",
        "",
        "[::1",
        "127.0.0.1, evil.example",
    ],
)
def test_other_names_of_the_server_are_refused(caller, host):
    request = f"GET /api/campaign HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    reply = caller.raw(request.encode())
    if "@127" in host:
        # Only the name decides; what stands before it is a user.
        assert reply.split()[1] in (b"200", b"421", b"400")
    else:
        assert reply.split()[1] in (b"421", b"400")
        assert b"blood cells" not in reply


def test_requests_without_a_name_or_with_two_are_refused(caller):
    for lines in (
        "GET /api/campaign HTTP/1.0\r\n\r\n",
        "GET /api/campaign HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    ):
        reply = caller.raw(lines.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        assert reply.split()[1] in (b"400", b"421")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:1", "[::1]:1"])
def test_the_servers_own_names_are_known(caller, host):
    assert caller.get("/api/campaign", host=host)[0] == 200


def test_any_address_will_do_where_the_server_listens_at_all():
    with serving(FakeCampaign(), any_address=True, hosts=["lab-pc"]) as port:
        caller = Caller(port)
        for host in ("192.168.1.7:8000", "[fe80::1]:8000", "lab-pc"):
            assert caller.get("/api/campaign", host=host)[0] == 200
        assert caller.get("/api/campaign", host="evil.example")[0] == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://localhost"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
    ],
)
def test_other_sites_can_neither_write_nor_read(caller, rows, headers):
    assert caller.post("/api/answers", ANSWER, **headers)[0] == 403
    assert caller.post("/api/questions", {"annotator": "Ada"}, **headers)[0] == 403
    assert rows == []
    assert caller.get("/api/history?annotator=Ada", **headers)[0] == 403
    assert caller.get("/api/why?candidate=cell-000&annotator=Ada", **headers)[0] == 403


def test_no_other_site_is_allowed_to_read_by_cors(caller):
    _, headers, _ = caller.get("/api/campaign", origin=f"http://127.0.0.1:{caller.port}")
    assert not [name for name in headers if name.startswith("access-control")]
    ask = {"origin": "https://evil.example", "access_control_request_method": "POST"}
    assert caller.ask("OPTIONS", "/api/answers", **ask)[0] in (403, 405)


def test_the_page_itself_writes(caller, rows):
    headers = {"origin": f"http://127.0.0.1:{caller.port}", "sec_fetch_site": "same-origin"}
    assert caller.post("/api/answers", ANSWER, **headers)[0] == 200
    assert len(rows) == 1


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain; application/json",
        "application/jsonx",
        "",
    ],
)
def test_forms_are_refused(caller, rows, kind):
    body = json.dumps(ANSWER).encode()
    status, _, reply = caller.post("/api/answers", body, content_type=kind)
    assert (status, rows) == (415, [])
    assert "application/json" in reply["error"]


# How much is sent


def chunks(*parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def chunked(body):
    return (
        b"POST /api/answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body
    )


def test_chunks_are_put_together(caller, rows):
    text = json.dumps(ANSWER).encode()
    reply = caller.raw(chunked(chunks(text[:10], text[10:])))
    assert reply.split()[1] == b"200"
    assert len(rows) == 1


def test_too_much_is_refused_however_it_comes(caller, rows):
    large = json.dumps(ANSWER | {"annotator": "A" * MOST_BYTES}).encode()
    status, _, reply = caller.post("/api/answers", large)
    assert status == 413
    assert str(MOST_BYTES) in reply["error"]
    assert caller.raw(chunked(chunks(*[b" " * 8192] * 12))).split()[1] == b"413"
    # A length that is told, and nothing sent.
    told = (
        b"POST /api/answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 999999999999\r\n\r\n"
    )
    assert caller.raw(told).split()[1] == b"413"
    assert rows == []


def test_a_request_that_does_not_come_is_given_up(caller, rows, monkeypatch):
    monkeypatch.setattr("aift_sklearn.campaign.security._PATIENCE", 0.2)
    slow = (
        b"POST /api/answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    assert caller.raw(slow).split()[1] == b"408"
    assert rows == []


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"POST /api/answers HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_http_does_no_harm(caller, text):
    caller.raw(text)
    assert caller.get("/api/campaign")[0] == 200


def test_websockets_are_refused(caller, guarded):
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec_websocket_version": "13",
    }
    for one in (caller, guarded[0]):
        for path in ("/", "/api/answers", "/ws"):
            status, _, reply = one.get(path, **upgrade)
            assert status == 400
            assert "websockets" in reply["error"]


def test_websockets_are_refused_by_whatever_server_runs_the_application():
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("nothing is read")

    app = create_app(FakeCampaign())
    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"localhost")]}
    with pytest.raises(StopIteration):
        app(scope, receive, send).send(None)
    assert sent == [{"type": "websocket.close", "code": 1008}]
