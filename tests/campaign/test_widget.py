"""The widget in notebooks: the page's front end, by messages."""

import base64
import contextlib
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from campaign.browsers import Page, browsing
from campaign.fakes import CLASSES, FakeCampaign, FakeLedger

from aift_sklearn.campaign.page import front_file
from aift_sklearn.campaign.widget import annotation_widget
from aift_sklearn.errors import MissingDependencyError, ParameterError


class Kernel:
    """Sends a widget what its front end would, and takes its replies."""

    def __init__(self, campaign, annotator="Ada"):
        self.widget = annotation_widget(campaign, annotator)
        self.replies = []
        self.widget.send = lambda content, buffers: self.replies.append((content, buffers))
        self._lock = threading.Lock()

    def ask(self, content):
        """Reply of the widget, and its pictures."""
        # A kernel does one thing after the other.
        with self._lock:
            self.widget._handle_custom_msg(content, [])
            return self.replies.pop()

    def call(self, name, **values):
        reply, buffers = self.ask({"id": "7", "name": name, "values": values})
        assert reply["id"] == "7"
        return reply, buffers


@pytest.fixture
def campaign():
    return FakeCampaign()


@pytest.fixture
def kernel(campaign):
    return Kernel(campaign)


def test_it_is_the_page_s_front_end(kernel):
    assert kernel.widget._esm == front_file("annotate.js").data.decode()
    assert kernel.widget._css == front_file("annotate.css").data.decode()
    assert kernel.widget.annotator == "Ada"


def test_a_round_of_questions_and_answers(kernel, campaign):
    assert kernel.call("campaign")[0]["reply"]["classes"] == list(CLASSES)
    (question, _) = kernel.call("questions", n=2)[0]["reply"]["questions"]
    sent = {"uid": uuid.uuid4().hex, "candidate": question["candidate"], "label": CLASSES[0]}
    for _ in range(2):
        reply = kernel.call("answers", kind="label", **sent)[0]
        assert (reply["status"], reply["reply"]["answer"]["label"]) == (200, CLASSES[0])
    (row,) = campaign.ledger.rows
    assert (row.annotator, row.origin) == ("Ada", "widget")
    assert kernel.call("status")[0]["reply"]["yours"] == 1
    assert len(kernel.call("history")[0]["reply"]["answers"]) == 1
    assert kernel.call("why", candidate=question["candidate"])[0]["reply"]["pattern"] == "B"
    undone = kernel.call("undo", uid=uuid.uuid4().hex)[0]["reply"]["undone"]
    assert undone["candidate"] == question["candidate"]
    assert kernel.call("release")[0]["status"] == 200
    assert campaign.ledger.leases == {}


def test_pictures_travel_as_they_are(kernel, campaign):
    reply, buffers = kernel.call("picture", candidate="cell-000")
    assert (reply["reply"]["found"], buffers) == (True, [campaign.picture("cell-000")])
    reply, buffers = kernel.call("surroundings", candidate="cell-000")
    assert tuple(reply["reply"]["box"]) == campaign.surroundings("cell-000")[1]
    campaign.around = False
    assert kernel.call("surroundings", candidate="cell-001") == (
        {"id": "7", "status": 200, "reply": {"found": False}},
        [],
    )


def test_it_is_of_one_annotator_whatever_a_message_says(kernel, campaign):
    kernel.call("answers", uid="0" * 32, candidate="cell-000", kind="skip", annotator="Grace")
    assert campaign.ledger.rows[0].annotator == "Ada"


@pytest.mark.parametrize(
    ("name", "values", "status", "said"),
    [
        ("questions", {"n": 99}, 422, "n=99"),
        ("answers", {"uid": "0" * 32, "candidate": "cell-000", "label": "basophil"}, 422, "basoph"),
        ("answers", {}, 422, "uid"),
        ("picture", {"candidate": "cell-999"}, 404, "not asked for"),
        ("picture", {}, 404, "not asked for"),
        ("why", {"candidate": "cell-000"}, 403, "once you have answered"),
        ("__class__", {}, 404, "no message"),
        ("nothing", {}, 404, "no message"),
    ],
)
def test_what_does_not_fit_is_said(kernel, name, values, status, said):
    reply, buffers = kernel.call(name, **values)
    assert (reply["status"], buffers) == (status, [])
    assert said in reply["error"]


@pytest.mark.parametrize("content", [None, 3, {}, {"id": "7"}, {"id": 1, "name": "x", "values": 3}])
def test_what_is_no_message_is_said(kernel, content):
    assert kernel.ask(content)[0]["status"] == 422


def test_a_bug_is_logged_and_not_told(kernel, campaign, caplog):
    def fail(candidate):
        raise ZeroDivisionError("a secret of the pool")

    campaign.picture = fail
    reply, _ = kernel.call("picture", candidate="cell-000")
    assert reply == {
        "id": "7",
        "status": 500,
        "error": "the kernel failed at this; its log says why.",
    }
    assert "a secret of the pool" in caplog.text


@pytest.mark.parametrize("name", ["", " Ada", "A" * 101, "Ada\n", 7, None])
def test_who_answers_has_a_name(campaign, name):
    with pytest.raises(ParameterError, match="annotator"):
        annotation_widget(campaign, name)


def test_without_anywidget_it_is_said_how_to_get_it(campaign, monkeypatch):
    from aift_sklearn.campaign import widget

    widget._widget_class.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "\.\[campaign\]"'):
        annotation_widget(campaign, "Ada")


# In a browser: a page that does what a notebook does with the module and a model.

NOTEBOOK = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<style>body { margin: 20px; } textarea { width: 100%; }</style>
<textarea id="cell">a cell</textarea><div id="output"></div><div id="keys"></div>
<script type="module">
const style = document.createElement("style");
style.textContent = await (await fetch("annotate.css")).text();
document.head.append(style);
const heard = new Set();
const keys = document.querySelector("#keys");
document.addEventListener("keydown", (event) => (keys.textContent += event.key));
const model = {
  get: (name) => ({ annotator: "Ada" })[name],
  on: (name, hear) => heard.add(hear),
  off: (name, hear) => heard.delete(hear),
  async send(content) {
    const options = { method: "POST", body: JSON.stringify(content) };
    const reply = await (await fetch("message", options)).json();
    const parse = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const buffers = reply.buffers.map((text) => new DataView(parse(text).buffer));
    for (const hear of heard) hear(reply.content, buffers);
  },
};
const widget = (await import("./annotate.js")).default;
window.remove = await widget.render({ model, el: document.querySelector("#output") });
window.heard = heard;
</script>"""


@contextlib.contextmanager
def notebook(kernel):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.strip("/")
            page = (NOTEBOOK.encode(), "text/html")
            self._send(*(front_file(name)[:2] if name else page))

        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply, buffers = kernel.ask(content)
            buffers = [base64.b64encode(data).decode() for data in buffers]
            text = json.dumps({"content": reply, "buffers": buffers})
            self._send(text.encode(), "application/json")

        def _send(self, data, kind):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_an_annotator_works_in_a_notebook():
    campaign = FakeCampaign(FakeLedger(4), name="widget")
    kernel = Kernel(campaign)
    with browsing() as browser, notebook(kernel) as port:
        page = Page(browser, port).open()
        first = page.next()
        # Keys in another cell are none of its business.
        page.click("#cell")
        page.press("1")
        time.sleep(0.3)
        assert campaign.ledger.rows == []
        page.answer_by_click(CLASSES[1])
        second = page.answer("2")
        assert page.text("#keys") == "1"
        page.until(lambda: len(page.all(".aift-patches li")) == 8)
        page.undo()
        page.until(lambda: page.candidate == second)
        page.answer("x")
        page.saved()
        page.save("widget")
        assert page.text(".aift-who") == "Ada"
        # JupyterLab's own shortcuts, such as X to cut a cell.
        assert page.all("[data-lm-suppress-shortcuts] .aift-app")
        assert page.troubles() == []
        page.run("window.remove()")
        assert page.run("return window.heard.size") == 0
    rows = campaign.ledger.current()
    assert [(row.candidate, row.label) for row in rows] == [(first, CLASSES[1]), (second, "")]
