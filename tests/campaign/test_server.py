"""What clients ask of a campaign's server, over HTTP."""

import gc
import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from campaign.fakes import CLASSES, FakeCampaign, FakeExplanation, FakeLedger
from campaign.serving import Caller, served, serving

from aift_sklearn.campaign.server import create_app, serve
from aift_sklearn.errors import AddressTakenError, DataError, LedgerError, ParameterError


@pytest.fixture
def campaign():
    return FakeCampaign(FakeLedger(6), guidance="Name the cell.")


@pytest.fixture
def caller(campaign):
    with serving(campaign) as port:
        yield Caller(port)


@pytest.fixture(scope="module")
def shared():
    """A caller of one server for many small questions."""
    campaign = FakeCampaign(FakeLedger(6))
    with serving(campaign) as port:
        yield Caller(port), campaign


# Questions and answers


def test_what_is_asked_and_how(caller):
    status, _, reply = caller.get("/api/campaign")
    assert status == 200
    assert reply.pop("id")
    assert reply == {
        "name": "blood cells",
        "classes": list(CLASSES),
        "show": "after",
        "grey": False,
        "guidance": "Name the cell.",
        "hotkeys": ["1", "2", "3"],
    }


def test_more_classes_than_keys():
    classes = [f"class {i}" for i in range(40)]
    with serving(FakeCampaign(classes=classes)) as port:
        keys = Caller(port).get("/api/campaign")[2]["hotkeys"]
    assert len(keys) == 40
    used = [name for name in keys if name]
    assert len(set(used)) == len(used) > 20
    # What the page uses for something else.
    assert not set("uxwhspg0") & set(used)


def test_questions_are_held_and_come_again_in_their_order(caller):
    first = caller.questions("Ada")
    assert [question["candidate"] for question in first] == ["cell-000", "cell-001"]
    assert all(590 < question["seconds"] <= 600 for question in first)
    assert [q["candidate"] for q in caller.questions("Ada")] == ["cell-000", "cell-001"]
    assert [q["candidate"] for q in caller.questions("Grace")] == ["cell-002", "cell-003"]


def test_a_question_tells_nothing_of_the_model(caller):
    assert set(caller.questions("Ada")[0]) == {"candidate", "seconds"}


def test_an_answer_is_stored_and_brings_the_next_questions(caller, campaign):
    caller.questions("Ada")
    status, _, reply = caller.answer("Ada", "cell-000", CLASSES[1], seconds=2.5)
    assert status == 200
    assert [q["candidate"] for q in reply["questions"]] == ["cell-001", "cell-002"]
    assert reply["answer"]["label"] == CLASSES[1]
    assert reply["answer"]["time"].endswith("+00:00")
    (row,) = campaign.ledger.rows
    assert (row.annotator, row.candidate, row.label) == ("Ada", "cell-000", CLASSES[1])
    assert (row.seconds, row.origin, row.visible) == (2.5, "page", ())


@pytest.mark.parametrize("kind", ["skip", "unsure"])
def test_other_answers(caller, campaign, kind):
    assert caller.answer("Ada", "cell-000", kind=kind)[0] == 200
    assert campaign.ledger.rows[0].kind == kind


def test_the_same_answer_sent_again_is_stored_once(caller, campaign):
    uid = "0" * 32
    replies = [caller.answer("Ada", "cell-000", CLASSES[0], uid=uid) for _ in range(3)]
    assert [status for status, _, _ in replies] == [200] * 3
    assert len(campaign.ledger.rows) == 1


@pytest.mark.parametrize(
    ("values", "expected", "said"),
    [
        ({"uid": "0" * 32, "label": CLASSES[1]}, 409, "another answer"),
        ({"label": "basophil"}, 422, "basophil"),
        ({"candidate": "cell-999"}, 422, "not asked for"),
        ({"candidate": "../../etc/passwd"}, 422, "not asked for"),
        ({"kind": "undo"}, 422, "kind"),
        ({"uid": "short"}, 422, "uid"),
        ({"uid": "0" * 65}, 422, "uid"),
        ({"annotator": ""}, 422, "annotator"),
        ({"annotator": "A" * 101}, 422, "annotator"),
        ({"annotator": " Ada"}, 422, "spaces"),
        ({"annotator": "Ada\nGrace"}, 422, "one line"),
        ({"annotator": "Ada\u202e"}, 422, "one line"),
        ({"candidate": "c" * 501}, 422, "candidate"),
        ({"seconds": -1}, 422, "seconds"),
        ({"seconds": float("nan")}, 422, "seconds"),
        ({"visible": ["x"] * 21}, 422, "visible"),
        ({"visible": ["<b>"]}, 422, "visible"),
        ({"label": 3}, 422, "label"),
        ({"replaces": "0" * 32}, 422, "replaces"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_stored(shared, values, expected, said):
    caller, campaign = shared
    caller.answer("Ada", "cell-000", CLASSES[0], uid="0" * 32)
    label = values.pop("label", CLASSES[0])
    candidate = values.pop("candidate", "cell-001")
    annotator = values.pop("annotator", "Ada")
    status, _, reply = caller.answer(annotator, candidate, label, **values)
    assert status == expected
    assert said in reply["error"]
    assert set(reply) == {"error"}
    assert len(campaign.ledger.rows) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{" * 30_000])
def test_what_is_no_request_is_refused(shared, body):
    caller, _ = shared
    status, _, reply = caller.post("/api/answers", body)
    assert status == 422
    assert reply["error"]


@pytest.mark.parametrize("n", [0, 11, 1e9, "two", None])
def test_how_many_questions_may_be_asked_for(shared, n):
    caller, _ = shared
    status, _, reply = caller.post("/api/questions", {"annotator": "Ada", "n": n})
    assert status == 422
    assert "n=" in reply["error"] or "n:" in reply["error"]


def test_undo_takes_back_one_and_asks_it_again(caller, campaign):
    caller.answer("Ada", "cell-000", CLASSES[0])
    sent = {"uid": "1" * 32, "annotator": "Ada"}
    for _ in range(2):
        status, _, reply = caller.post("/api/undo", sent)
        assert status == 200
        assert reply["undone"]["candidate"] == "cell-000"
        assert reply["questions"][0]["candidate"] == "cell-000"
    assert campaign.ledger.current() == []
    assert caller.post("/api/undo", sent | {"uid": "2" * 32})[2]["undone"] is None


def test_what_is_handed_back_is_open_at_once(caller):
    caller.questions("Ada")
    assert caller.post("/api/release", {"annotator": "Ada"})[0] == 200
    assert caller.questions("Grace")[0]["candidate"] == "cell-000"


def test_annotators_see_only_their_own_answers(caller):
    caller.answer("Ada", "cell-000", CLASSES[0])
    caller.answer("Grace", "cell-001", CLASSES[1])
    caller.answer("Ada", "cell-000", CLASSES[2])
    answers = caller.get("/api/history?annotator=Ada")[2]["answers"]
    assert [(a["label"], a["current"]) for a in answers] == [
        (CLASSES[2], True),
        (CLASSES[0], False),
    ]
    assert caller.get("/api/history")[0] == 422
    assert caller.get("/api/history?annotator=Ada&n=201")[0] == 422


def test_the_state_of_the_campaign_names_nobody_else(caller, campaign):
    caller.answer("Ada", "cell-000", CLASSES[0])
    caller.answer("Grace", "cell-001", CLASSES[0])
    time.sleep(0.2)
    reply = caller.get("/api/status?annotator=Ada")[2]
    assert reply["yours"] == 1
    assert reply["counts"]["n_labelled"] == 2
    assert "Grace" not in json.dumps(reply)
    assert reply["rounds"] == campaign.rounds
    assert caller.get("/api/status")[2]["yours"] is None


def test_answers_count_at_once_though_the_rest_takes_long(caller, campaign):
    sum_up = campaign.status

    def slow():
        time.sleep(0.5)
        return sum_up()

    campaign.status = slow
    assert caller.get("/api/status?annotator=Ada")[2]["yours"] == 0
    # What took so long is kept for seconds.
    caller.answer("Ada", "cell-000", CLASSES[0])
    time.sleep(0.2)
    reply = caller.get("/api/status?annotator=Ada")[2]
    assert (reply["yours"], reply["counts"]["n_labelled"]) == (1, 1)


def test_the_state_is_counted_now_and_then_however_many_ask(caller, campaign):
    calls = []
    count = campaign.status

    def slow():
        calls.append(1)
        time.sleep(0.1)
        return count()

    campaign.status = slow
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: caller.get("/api/status"), range(24)))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"training": {"state": "idle", "text": ""}}, "All questions are answered"),
        (
            {"training": {"state": "learning", "text": "it learns"}},
            "It learns. New questions appear",
        ),
        ({"training": {"state": "learning", "text": ""}}, "The model learns from the answers. New"),
        ({"training": {"state": "failed", "text": "no memory"}}, "could not learn: no memory"),
        (
            {"training": {}, "stopping": [{"name": "pool exhausted", "met": True}]},
            "Everything was asked for",
        ),
        ({"training": {}, "stopping": [{"name": "labels agree", "met": True}]}, "New ones appear"),
    ],
)
def test_who_has_answered_all_is_told_what_happens_next(caller, campaign, state, expected):
    for i in range(6):
        caller.answer("Ada", f"cell-{i:03d}", CLASSES[0])
    count = campaign.status
    told = threading.Event()

    def status():
        told.set()
        return count() | {"stopping": []} | state

    campaign.status = status
    # What was summed up before is told for a while.
    end = time.monotonic() + 20
    while not told.is_set():
        assert time.monotonic() < end
        caller.get("/api/status")
    reply = caller.post("/api/questions", {"annotator": "Ada"})[2]
    assert reply["finished"]
    assert reply["questions"] == []
    assert expected in reply["message"]


def test_who_waits_for_others_is_told_so(caller):
    caller.questions("Ada", 6)
    reply = caller.post("/api/questions", {"annotator": "Grace"})[2]
    assert reply["finished"]
    assert "other annotators" in reply["message"]


# Pictures and explanations


def test_pictures_are_sent_once(caller, campaign):
    status, headers, data = caller.get("/api/picture?candidate=cell-000")
    assert status == 200
    assert data == campaign.picture("cell-000")
    assert headers["content-type"] == "image/png"
    assert headers["cache-control"] == "private, no-cache"
    again = caller.get("/api/picture?candidate=cell-000", if_none_match=headers["etag"])
    assert (again[0], again[2]) == (304, b"")
    assert caller.get("/api/picture?candidate=cell-001", if_none_match=headers["etag"])[0] == 200


def test_pictures_are_drawn_once(caller, campaign):
    drawn = []
    draw = campaign.picture
    campaign.picture = lambda name: drawn.append(name) or draw(name)
    for _ in range(3):
        caller.get("/api/picture?candidate=cell-002")
    assert drawn == ["cell-002"]


def test_surroundings_say_where_the_candidate_lies(caller, campaign):
    status, headers, data = caller.get("/api/surroundings?candidate=cell-000")
    expected, box = campaign.surroundings("cell-000")
    assert (status, data) == (200, expected)
    assert tuple(json.loads(headers["x-box"])) == box


def test_a_candidate_may_be_all_there_is():
    with serving(FakeCampaign(around=False)) as port:
        assert Caller(port).get("/api/surroundings?candidate=cell-000")[0] == 204


@pytest.mark.parametrize("what", ["picture", "surroundings", "why"])
@pytest.mark.parametrize("name", ["cell-999", "..%2F..%2Fetc%2Fpasswd", "%00", "/etc/passwd"])
def test_only_what_was_asked_is_served(shared, what, name):
    caller, _ = shared
    status, _, reply = caller.get(f"/api/{what}?candidate={name}&annotator=Ada")
    assert status == 404
    assert "was not asked for" in reply["error"]


def test_what_the_model_thinks_is_shown_after_the_answer(caller, campaign):
    address = "/api/why?candidate=cell-000&annotator=Ada"
    status, _, reply = caller.get(address)
    assert status == 403
    assert "once you have answered" in reply["error"]
    caller.answer("Grace", "cell-000", CLASSES[0])
    assert caller.get(address)[0] == 403
    assert campaign.ledger.views == []
    caller.answer("Ada", "cell-000", CLASSES[0])
    reply = caller.get(address)[2]
    assert reply["pattern"] == "B"
    assert "contradict" in reply["meaning"]
    assert len(reply["proba"]) == len(reply["patches"]) == 8
    seen = campaign.ledger.seen("Ada", "cell-000")
    assert set(seen) == {"score", "pattern", "probabilities", "patches", "reason"}
    caller.get(address)
    assert campaign.ledger.seen("Ada", "cell-000") == seen


@pytest.mark.parametrize("show", ["request", "always"])
def test_what_was_seen_before_the_answer_is_recorded_with_it(show):
    campaign = FakeCampaign(show=show)
    with serving(campaign) as port:
        caller = Caller(port)
        assert caller.get("/api/why?candidate=cell-000&annotator=Ada")[0] == 200
        caller.answer("Ada", "cell-000", CLASSES[0])
        caller.answer("Grace", "cell-000", CLASSES[0])
    ada, grace = campaign.ledger.rows
    assert "probabilities" in ada.visible
    assert grace.visible == ()


def test_numbers_that_json_has_not_are_left_out(campaign):
    campaign.explanation = lambda candidate: FakeExplanation(np.float32("nan"), "", None)
    with serving(campaign) as port:
        caller = Caller(port)
        caller.answer("Ada", "cell-000", CLASSES[0])
        reply = caller.get("/api/why?candidate=cell-000&annotator=Ada")[2]
    assert (reply["score"], reply["proba"]) == (None, None)


def test_what_came_with_its_label_has_a_reason(campaign):
    campaign.explanation = lambda candidate: None
    with serving(campaign) as port:
        caller = Caller(port)
        caller.answer("Ada", "cell-000", CLASSES[0])
        reply = caller.get("/api/why?candidate=cell-000&annotator=Ada")[2]
    assert (reply["score"], reply["proba"], reply["patches"]) == (None, None, [])
    assert "from elsewhere" in reply["reason"]


# The server


def test_the_description_of_the_api_says_what_each_address_does(caller):
    status, _, reply = caller.get("/openapi.json")
    assert status == 200
    assert sorted(reply["paths"]) == [
        "/api/answers",
        "/api/campaign",
        "/api/history",
        "/api/picture",
        "/api/questions",
        "/api/release",
        "/api/status",
        "/api/surroundings",
        "/api/undo",
        "/api/why",
    ]
    for path in reply["paths"].values():
        for call in path.values():
            assert call["summary"]
            assert "401" in call["responses"]
    assert reply["components"]["schemas"]["AnswerSent"]["properties"]["uid"]["description"]


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/api", "/api/nothing", "/index.html"])
def test_what_is_not_there_is_said_in_json(shared, path):
    caller, _ = shared
    status, _, reply = caller.get(path)
    assert status == 404
    assert path in reply["error"]
    assert caller.ask("PUT", "/api/campaign", b"{}", content_type="application/json")[0] == 405


def test_a_bug_is_logged_and_not_told(caller, campaign, caplog):
    def fail(candidate):
        raise ZeroDivisionError("a secret of the pool")

    campaign.picture = fail
    status, headers, reply = caller.get("/api/picture?candidate=cell-000")
    assert status == 500
    assert reply == {"error": "the server failed at this; its log says why."}
    assert headers["x-content-type-options"] == "nosniff"
    assert "a secret of the pool" in caplog.text


def test_a_picture_that_cannot_be_read_is_said(caller, campaign):
    def fail(candidate):
        raise DataError(f"{candidate} cannot be read: it is cut off.")

    campaign.picture = fail
    status, _, reply = caller.get("/api/picture?candidate=cell-000")
    assert (status, reply["error"]) == (404, "cell-000 cannot be read: it is cut off.")


def test_a_ledger_that_cannot_be_written_is_said_and_tried_again(caller, campaign, caplog):
    apply = campaign.ledger.apply

    def fail(operations):
        raise OSError("the disk is full")

    campaign.ledger.apply = fail
    status, _, reply = caller.answer("Ada", "cell-000", CLASSES[0], uid="0" * 32)
    assert status == 503
    assert "send it again" in reply["error"]
    campaign.ledger.apply = apply
    assert caller.answer("Ada", "cell-000", CLASSES[0], uid="0" * 32)[0] == 200
    assert len(campaign.ledger.rows) == 1


def test_a_ledger_that_cannot_be_read_is_said_and_tried_again(caller, campaign):
    def fail(annotator, n):
        raise LedgerError("the database cannot be reached.")

    campaign.ledger.history = fail
    status, _, reply = caller.get("/api/history?annotator=Ada")
    assert (status, reply["error"]) == (503, "the database cannot be reached.")


def test_answers_do_not_wait_for_pictures(caller, campaign):
    drawing, done = threading.Event(), threading.Event()

    def draw(candidate):
        drawing.set()
        assert done.wait(20)
        return b"PNG"

    campaign.picture = draw
    with ThreadPoolExecutor(1) as pool:
        picture = pool.submit(caller.get, "/api/picture?candidate=cell-000")
        assert drawing.wait(20)
        assert caller.answer("Ada", "cell-000", CLASSES[0])[0] == 200
        done.set()
        assert picture.result()[2] == b"PNG"


def test_many_annotators_at_once_share_commits():
    campaign = FakeCampaign(FakeLedger(200))
    apply = campaign.ledger.apply

    def slow(operations):
        time.sleep(0.01)
        return apply(operations)

    campaign.ledger.apply = slow
    with serving(campaign) as port:
        caller = Caller(port)

        def work(name):
            for _ in range(5):
                candidate = caller.questions(name)[0]["candidate"]
                assert caller.answer(name, candidate, CLASSES[0])[0] == 200

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, [f"annotator {i}" for i in range(16)]))
    rows = campaign.ledger.rows
    assert len({row.candidate for row in rows}) == len(rows) == 80
    assert max(campaign.ledger.batches) > 8


def test_closing_answers_what_was_sent():
    campaign = FakeCampaign()
    apply = campaign.ledger.apply
    begun = threading.Event()

    def slow(operations):
        begun.set()
        time.sleep(0.3)
        return apply(operations)

    campaign.ledger.apply = slow
    with ThreadPoolExecutor(4) as pool:
        with serving(campaign) as port:
            caller = Caller(port)
            sent = [
                pool.submit(caller.answer, "Ada", f"cell-{i:03d}", CLASSES[0]) for i in range(4)
            ]
            assert begun.wait(20)
            time.sleep(0.1)
        assert [each.result()[0] for each in sent] == [200] * 4
    assert len(campaign.ledger.rows) == 4


# How it is started


def test_serving_says_where_and_ends_in_peace():
    with served(host="0.0.0.0") as (process, line):
        port, token = re.search(r":(\d+)/\?token=(\S+)$", line).groups()
        caller = Caller(int(port))
        assert len(token) > 40
        assert caller.get("/api/campaign")[0] == 401
        until = time.monotonic() + 20
        while caller.get(f"/?token={token}")[0] != 303 and time.monotonic() < until:
            time.sleep(0.05)
        assert caller.get("/api/campaign", authorization=f"Bearer {token}")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        said = process.stdout.read() + process.stderr.read()
    # Addresses with the token are in no log.
    assert token not in said


def test_serving_ends_with_ctrl_c_and_returns(campaign, monkeypatch):
    opened, said = [], []
    monkeypatch.setattr("webbrowser.open", opened.append)

    def interrupt():
        port = int(said[0].rsplit(":", 1)[1].strip("/"))
        assert Caller(port).get("/api/campaign")[0] == 200
        # What was there before is not collected while people wait.
        assert gc.get_freeze_count()
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:

        def say(text):
            said.append(text)
            calls.append(pool.submit(interrupt))

        calls = []
        serve(campaign, open_browser=True, say=say)
        calls[0].result()
    assert said == [f"The page is at {opened[0]}"]
    assert 8000 <= int(opened[0].rsplit(":", 1)[1].strip("/")) < 8032
    # What was set for signals and garbage is as before.
    assert not gc.get_freeze_count()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_port_that_is_taken_is_said_and_another_is_found(campaign):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressTakenError, match=f"port {port}.*Is it served already"):
            serve(campaign, port=port)
        assert isinstance(AddressTakenError("x"), OSError)


def test_an_address_that_is_not_ours_is_said(campaign):
    with pytest.raises(AddressTakenError, match="cannot be served"):
        serve(campaign, "nowhere.invalid", 8000, token=True)


@pytest.mark.parametrize("port", [-1, 65_536, "8000", True])
def test_a_port_is_a_number(campaign, port):
    with pytest.raises(ParameterError, match="port="):
        serve(campaign, port=port)


@pytest.mark.parametrize("token", [False, ""])
def test_other_machines_are_never_let_in_without_a_token(campaign, token):
    with pytest.raises(ParameterError, match="other machines"):
        serve(campaign, "0.0.0.0", token=token)


@pytest.mark.parametrize("token", ["short", "with spaces in it, which is long", "a" * 201, 7])
def test_a_token_is_long_enough_and_fits_an_address(campaign, token):
    with pytest.raises(ParameterError, match="at least 16") as error:
        create_app(campaign, token=token)
    assert str(token) not in str(error.value) or token == 7
