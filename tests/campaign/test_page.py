"""What annotators do and see, in real browsers."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from campaign.browsers import DESKTOP, SOON, TABLET, Page, browsing, resize
from campaign.fakes import CLASSES, FakeCampaign, FakeLedger
from campaign.serving import served, serving
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from aift_sklearn.campaign.ledger import Ledger
from aift_sklearn.campaign.records import Ask, Kind, Round

TOKEN = "a-token-of-the-tests-0123456789"
HISTORY = "return document.querySelectorAll('.aift-history button').length"


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def other_browser():
    with browsing() as browser:
        yield browser


@contextlib.contextmanager
def opened(browser, campaign, name="Ada", **options):
    """A campaign's page, in which nothing may go wrong unseen."""
    with serving(campaign, **options) as port:
        page = Page(browser, port).open(name)
        yield page
        assert page.troubles() == []
        browser.get("about:blank")


def said(campaign):
    return [(row.candidate, row.kind, row.label) for row in campaign.ledger.current()]


def test_clicks_and_keys_answer_and_the_next_question_is_there_at_once(browser):
    campaign = FakeCampaign()
    with opened(browser, campaign) as page:
        first = page.answer_by_click(CLASSES[1])
        # Its picture was fetched before.
        second = page.next()
        time.sleep(SOON["key"])
        start = time.monotonic()
        page.press("1")
        page.until(lambda: page.candidate not in (None, second))
        assert time.monotonic() - start < 1
        third, fourth = page.answer("u"), page.answer("x")
        page.saved()
        page.until(lambda: "4 by you" in page.text(".aift-count"))
    assert said(campaign) == [
        (first, Kind.label, CLASSES[1]),
        (second, Kind.label, CLASSES[0]),
        (third, Kind.unsure, ""),
        (fourth, Kind.skip, ""),
    ]
    for row in campaign.ledger.rows:
        assert (row.annotator, row.origin, row.visible) == ("Ada", "page", ())
        assert 0.2 < row.seconds < 10


def test_undo_brings_the_question_back(browser):
    campaign = FakeCampaign()
    with opened(browser, campaign) as page:
        first, second = page.answer("1"), page.answer("2")
        page.next(second)
        page.undo()
        page.until(lambda: page.candidate == second)
        assert page.answer("3") == second
        # Also after a reload, when the page remembers nothing.
        page.saved()
        page.open()
        page.next()
        page.undo()
        page.until(lambda: page.candidate == second)
        page.undo()
        page.until(lambda: page.candidate == first)
        page.until(lambda: said(campaign) == [])
        page.undo()
        page.until(lambda: "nothing to take back" in page.text(".aift-toast"))


def test_an_answer_is_corrected_in_the_history(browser):
    campaign = FakeCampaign()
    with opened(browser, campaign) as page:
        first = page.answer("1")
        page.answer("2")
        present = page.next()
        page.press("h")
        # By script: the list is drawn anew when an answer comes in.
        page.until(lambda: page.run(HISTORY) == 2)
        assert CLASSES[1] in page.text(".aift-history button")
        page.until(lambda: page.run("return document.activeElement.innerText").startswith("Close"))
        page.run("document.querySelectorAll('.aift-history button')[1].click()")
        page.until(lambda: page.candidate == first)
        assert CLASSES[0] in page.text(".aift-note")
        page.press(Keys.ESCAPE)
        page.until(lambda: page.candidate == present)
        page.press("h")
        page.until(lambda: page.run(HISTORY) == 2)
        page.run("document.querySelectorAll('.aift-history button')[1].click()")
        page.until(lambda: page.candidate == first)
        page.answer("3")
        page.until(lambda: page.candidate == present)
        page.until(lambda: (first, Kind.label, CLASSES[2]) in said(campaign))
        page.answer("1")
        page.until(lambda: len(said(campaign)) == 3)
    old, _, new, _ = campaign.ledger.rows
    assert new.replaces == old.uid
    # What the model thinks was seen meanwhile.
    assert "probabilities" in new.visible


def test_two_annotators_are_never_asked_the_same(browser, other_browser):
    campaign = FakeCampaign(FakeLedger(11))
    with serving(campaign) as port:
        pages = [Page(browser, port).open("Ada"), Page(other_browser, port).open("Grace")]
        for turn in range(5):
            seen = [page.next() for page in pages]
            assert len(set(seen)) == 2
            pages[turn % 2].answer("1")
            if turn % 3 == 0:
                pages[(turn + 1) % 2].answer("2")
        for page in pages:
            page.saved()
            assert page.troubles() == []
    rows = campaign.ledger.rows
    assert len({row.candidate for row in rows}) == len(rows) == 7


def test_a_reload_in_mid_answer_changes_nothing(browser):
    campaign = FakeCampaign()
    with opened(browser, campaign) as page:
        page.answer("1")
        present = page.next()
        page.saved()
        page.open()
        assert page.next() == present
        assert page.text(".aift-who") == "Ada"
        page.answer("2")
        page.until(lambda: len(said(campaign)) == 2)


def test_answers_wait_while_the_server_is_down(browser, tmp_path):
    path = tmp_path / "cells.ledger"
    with Ledger.create(path, {"classes": list(CLASSES)}) as ledger:
        ledger.add_round(Round(0), [Ask(f"cell-{i:03d}", i) for i in range(6)])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = Page(browser, port)
    with served(path, port=port) as (process, _):
        page.until(lambda: reaches(port))
        page.open("Ada")
        first = page.answer("1")
        page.saved()
        page.next()
        page.until(lambda: page.n_pictures() == 3)
        process.kill()
        process.wait()
        second = page.answer("2")
        page.until(lambda: "1 waiting to be saved" in page.text(".aift-saved"))
        third = page.answer("3")
        page.until(lambda: "2 waiting to be saved" in page.text(".aift-saved"))
        assert "the server does not answer" in page.text(".aift-saved")
    with served(path, port=port):
        page.until(lambda: reaches(port))
        page.saved()
        fourth = page.answer("1")
        page.saved()
    with Ledger.open(path) as ledger:
        rows = ledger.answers()
    assert [(row.candidate, row.label) for row in rows] == [
        (first, CLASSES[0]),
        (second, CLASSES[1]),
        (third, CLASSES[2]),
        (fourth, CLASSES[0]),
    ]
    page.browser.get_log("browser")


def reaches(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_what_waits_is_sent_after_a_reload(browser):
    campaign = FakeCampaign()
    with serving(campaign) as port:
        page = Page(browser, port).open("Ada")
        page.next()
        page.until(lambda: page.n_pictures() == 2)
    candidate = page.answer("2")
    page.until(lambda: "1 waiting" in page.text(".aift-saved"))
    browser.get("about:blank")
    with serving(campaign, port=port):
        page.open()
        page.until(lambda: said(campaign) == [(candidate, Kind.label, CLASSES[1])])
        page.saved()
        browser.get("about:blank")


def test_an_answer_that_is_refused_is_shown_and_kept(browser):
    campaign = FakeCampaign()
    with serving(campaign) as port:
        page = Page(browser, port).open("Ada")
        page.next()
        campaign.ledger.classes = ("another",)
        page.answer("1")
        page.until(lambda: "Not taken: lymphocyte" in page.text(".aift-banner"))
        assert "expected one of" in page.text(".aift-banner")
        page.open()
        page.until(lambda: "Not taken" in page.text(".aift-banner"))
        page.click(".aift-banner button")
        page.until(lambda: not page.find(".aift-banner").is_displayed())
        browser.get("about:blank")
        browser.get_log("browser")
    assert said(campaign) == []


def test_what_the_model_thinks_is_not_there_before_the_answer(browser):
    campaign = FakeCampaign()
    with opened(browser, campaign) as page:
        first = page.next()
        page.press("w")
        page.press("w")
        time.sleep(0.3)
        text = page.run("return document.documentElement.outerHTML")
        assert "aift-patches" not in text
        assert "%" not in page.text(".aift-side .aift-card")
        assert campaign.ledger.views == []
        page.answer("1")
        page.until(lambda: len(page.all(".aift-patches li")) == 8)
        card = page.text(".aift-card")
        assert first in card
        assert "contradict each other" in card
        assert "disagree most" in card
        page.saved()
    assert {candidate for _, candidate, _ in campaign.ledger.views} == {first}
    assert campaign.ledger.rows[0].visible == ()


@pytest.mark.parametrize("show", ["request", "always"])
def test_what_was_shown_before_is_recorded(browser, show):
    campaign = FakeCampaign(show=show)
    with opened(browser, campaign) as page:
        page.next()
        if show == "request":
            assert not page.all(".aift-patches li")
            page.press("w")
        page.until(lambda: len(page.all(".aift-patches li")) == 8)
        assert "THIS CANDIDATE" in page.text(".aift-card").upper()
        page.answer("1")
        page.until(lambda: len(campaign.ledger.rows) == 1)
    assert "score" in campaign.ledger.rows[0].visible


def test_all_is_done_without_a_mouse(browser):
    campaign = FakeCampaign(guidance="Look at the nucleus.")
    with opened(browser, campaign, name="") as page:
        page.until(lambda: page.all(".aift-name[open]"))
        assert "Look at the nucleus." in page.text(".aift-name")
        # The dialog does not go away without a name.
        page.press(Keys.ESCAPE)
        page.press(Keys.ESCAPE)
        page.until(lambda: page.all(".aift-name[open]"))
        page.press("Ada", Keys.ENTER)
        page.next()
        page.press("?")
        page.until(lambda: page.all("dialog[open]"))
        # Keys belong to the dialog while it is open.
        page.press("1", Keys.ESCAPE)
        page.until(lambda: not page.all("dialog[open]"))
        page.press("g")
        page.until(lambda: page.all("dialog[open]"))
        page.press(Keys.ENTER)
        page.until(lambda: not page.all("dialog[open]"))
        assert said(campaign) == []
        names = set()
        for _ in range(40):
            page.press(Keys.TAB)
            focus = page.run(
                """
                const e = document.activeElement, s = getComputedStyle(e);
                const name = e.getAttribute("aria-label") || e.innerText || e.parentNode.innerText;
                return [name, s.outlineStyle, parseFloat(s.outlineWidth), e.dataset.answer ?? ""];
                """
            )
            if focus[1] == "solid":
                assert focus[2] >= 2
                names.add(focus[0].split("\n")[0].strip())
            if focus[3] == CLASSES[1] and not said(campaign):
                time.sleep(SOON["key"])
                page.press(Keys.SPACE)
                page.until(lambda: len(said(campaign)) == 1)
        assert said(campaign)[0][2] == CLASSES[1]
        assert {"Help", "Answers", "Zoom in", "Skip", "Undo", "The candidate"} <= names
        assert page.run("return document.querySelector('[role=status][aria-live]').textContent")


def test_a_double_click_or_a_key_held_down_answers_once(browser):
    campaign = FakeCampaign()
    with opened(browser, campaign) as page:
        first = page.next()
        time.sleep(SOON["click"])
        button = page.find(f'[data-answer="{CLASSES[0]}"]')
        ActionChains(browser).double_click(button).perform()
        second = page.next(first)
        time.sleep(SOON["key"])
        for repeat in (False, True, True, True):
            values = {"type": "keyDown", "key": "2", "code": "Digit2", "text": "2"}
            browser.execute_cdp_cmd("Input.dispatchKeyEvent", values | {"autoRepeat": repeat})
            time.sleep(0.1)
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", "key": "2"})
        page.next(second)
        # Enter, held down on the button that has the focus.
        page.run("document.querySelector('[data-answer=skip]').focus()")
        time.sleep(SOON["click"])
        for repeat in (False, True, True, True):
            values = {"type": "keyDown", "key": "Enter", "code": "Enter", "text": "\r"}
            browser.execute_cdp_cmd("Input.dispatchKeyEvent", values | {"autoRepeat": repeat})
            time.sleep(0.15)
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", "key": "Enter"})
        page.saved()
        time.sleep(0.2)
    assert [label for _, _, label in said(campaign)] == [CLASSES[0], CLASSES[1], ""]


def test_names_are_text_whatever_they_hold(browser):
    script = "<img src=x onerror=window.taken=1><script>window.taken=1</script>"
    classes = (f"{script[:99]}", "</button><b>bold</b>", "javascript:window.taken=1")
    ledger = FakeLedger(0, classes=classes)
    ledger.add_asks([f"{script}{i}.png" for i in range(4)])
    campaign = FakeCampaign(ledger, classes=classes, guidance=script, name=script)
    with opened(browser, campaign, name=script[:99]) as page:
        page.answer("1")
        page.answer("2")
        page.press("h")
        page.until(lambda: len(page.all(".aift-history button")) == 2)
        page.saved()
        assert script in page.text("h1")
        assert page.text(".aift-who") == script[:99]
        assert classes[1] in page.text(".aift-classes")
        assert script in page.text(".aift-history")
        assert page.run("return window.taken") is None
        assert not page.all(".aift b") or "bold" not in page.text(".aift b")
        assert page.run("return document.title").startswith(script)
    assert {row.annotator for row in campaign.ledger.rows} == {script[:99]}


def test_grey_pictures_have_a_window(browser):
    campaign = FakeCampaign(grey=True)
    with opened(browser, campaign) as page:
        page.next()
        full, _ = page.until(lambda: page.pixels()[1] > 5 and page.pixels())
        shift = ActionChains(browser).key_down(Keys.SHIFT)
        shift.send_keys("3").key_up(Keys.SHIFT).perform()
        page.until(lambda: page.pixels()[0] > full + 20)
        page.click(".aift-tools [aria-keyshortcuts='Shift+5']")
        page.until(lambda: abs(page.pixels()[0] - (255 - full)) < 2)
        page.click(".aift-tools [aria-keyshortcuts='Shift+1']")
        page.until(lambda: abs(page.pixels()[0] - full) < 1)
        # The right button drags the window: up is darker in the middle, so brighter pictures.
        canvas = page.find(".aift-viewer canvas")
        drag = {"x": canvas.rect["x"] + 200, "y": canvas.rect["y"] + 200, "button": "right"}
        for kind, up in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):
            values = drag | {"type": kind, "y": drag["y"] - up, "buttons": 2, "clickCount": 1}
            browser.execute_cdp_cmd("Input.dispatchMouseEvent", values)
        page.until(lambda: page.pixels()[0] > full + 5)
        # It stays for the next candidate.
        level = page.find(".aift-sliders input").get_attribute("value")
        page.answer("1")
        page.next()
        assert page.find(".aift-sliders input").get_attribute("value") == level != "128"


def test_pictures_are_zoomed_and_their_surroundings_shown(browser):
    campaign = FakeCampaign()
    with opened(browser, campaign) as page:
        page.next()
        # The first size is that of the candidate beside its surroundings.
        fit = page.until(lambda: page.text(".aift-scale"))
        page.press("+")
        page.until(lambda: page.text(".aift-scale") != fit)
        page.press("0")
        page.until(lambda: page.text(".aift-scale") == fit)
        smooth = page.pixels()[1]
        page.press("p")
        page.until(lambda: page.pixels()[1] < smooth)
        assert len([v for v in page.all(".aift-viewer") if v.is_displayed()]) == 2
        page.press("s")
        page.until(lambda: len([v for v in page.all(".aift-viewer") if v.is_displayed()]) == 1)
        # Looks are remembered.
        page.open()
        page.next()
        assert len([v for v in page.all(".aift-viewer") if v.is_displayed()]) == 1
        page.press("s", "p")
        page.until(lambda: len([v for v in page.all(".aift-viewer") if v.is_displayed()]) == 2)
    assert said(campaign) == []


def test_new_questions_appear_by_themselves(browser):
    campaign = FakeCampaign(FakeLedger(2))
    with opened(browser, campaign) as page:
        page.answer("1")
        campaign.training = {"state": "learning", "text": "Round 1: learning from 2 answers."}
        page.answer("2")
        page.until(lambda: "learning from 2 answers" in page.text(".aift-cover"))
        page.save("learning")
        campaign.training = {"state": "idle", "text": ""}
        campaign.ledger.add_asks(["cell-new"])
        assert page.next() == "cell-new"


def test_a_question_that_went_to_somebody_else_is_replaced(browser):
    campaign = FakeCampaign()
    lease = campaign.ledger._lease
    campaign.ledger._lease = lambda one: lease(type(one)(one.annotator, one.n, 0.6))
    with opened(browser, campaign) as page:
        first = page.next()
        # Nothing is renewed while the page is hidden.
        page.run("Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})")
        time.sleep(0.8)
        campaign.ledger._lease = lease
        assert campaign.ledger.lease("Grace")[0].candidate == first
        page.run("Object.defineProperty(document, 'hidden', {get: () => false})")
        page.press("1")
        second = page.next(first)
        assert "somebody else" in page.text(".aift-toast")
        assert said(campaign) == []
        assert page.answer("1") == second


def test_the_same_annotator_in_two_windows(browser):
    campaign = FakeCampaign()
    with opened(browser, campaign) as page:
        first = page.next()
        one = browser.current_window_handle
        browser.switch_to.new_window("window")
        page.open()
        assert page.answer("1") == first
        page.saved()
        browser.close()
        browser.switch_to.window(one)
        page.until(lambda: page.candidate not in (None, first))
    assert len(campaign.ledger.rows) == 1


# Tokens, and other sites


class OtherSite(BaseHTTPRequestHandler):
    """A page of another site, which does what it can."""

    text = ""

    def do_GET(self):
        body = self.text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def other_site(text):
    handler = type("Handler", (OtherSite,), {"text": text})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_a_link_with_the_token_leads_in_from_anywhere(browser):
    with serving(FakeCampaign(), token=TOKEN) as port:
        page = Page(browser, port)
        browser.get(page.address)
        assert "A token is needed" in page.text()
        link = f'<a href="{page.address}?token={TOKEN}">the campaign</a>'
        with other_site(link) as address:
            browser.get(address)
            page.click("a")
            page.say_name("Ada")
            page.answer("1")
            page.saved()
        assert TOKEN not in browser.current_url
        assert TOKEN not in page.run("return document.cookie")
        # Typed, too.
        browser.delete_all_cookies()
        browser.get(page.address)
        page.find("input").send_keys(TOKEN, Keys.ENTER)
        page.next()
        assert TOKEN not in browser.current_url
        browser.get("about:blank")
        browser.get_log("browser")


def test_other_sites_reach_nothing(browser):
    campaign = FakeCampaign()
    with serving(campaign) as port:
        answer = {"uid": "0" * 32, "candidate": "cell-000", "annotator": "Eve", "kind": "skip"}
        attack = f"""
        <iframe src="http://127.0.0.1:{port}/" id="frame"></iframe>
        <form action="http://127.0.0.1:{port}/api/answers" method="post" enctype="text/plain"
          target="sink"><input name='{json.dumps(answer)[:-1]},"x":"' value='"}}'></form>
        <iframe name="sink"></iframe>
        <img src="http://127.0.0.1:{port}/api/picture?candidate=cell-000" id="image">
        <script>
        const seen = window.seen = [];
        const body = {json.dumps(json.dumps(answer))};
        for (const options of [
          {{method: "POST", body, headers: {{"content-type": "application/json"}}}},
          {{method: "POST", body, mode: "no-cors"}},
          {{}},
        ]) fetch("http://127.0.0.1:{port}/api/answers", options).then(
          async (reply) => seen.push(await reply.text()), () => seen.push(""));
        document.querySelector("form").submit();
        </script>
        """
        with other_site(attack) as address:
            page = Page(browser, port)
            browser.get(address)
            page.until(lambda: page.run("return window.seen.length") == 3)
            assert page.run("return window.seen.join('')") == ""
            assert page.run("return document.querySelector('#image').naturalWidth") == 0
            time.sleep(0.3)
            browser.get("about:blank")
        browser.get_log("browser")
    assert campaign.ledger.rows == []


# How it looks


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("tablet", TABLET)])
def test_it_fits_the_screen(browser, name, size, scheme):
    campaign = FakeCampaign(guidance="Name the large cell.", grey=scheme == "light")
    resize(browser, size, scheme)
    try:
        with opened(browser, campaign) as page:
            page.answer("1")
            page.answer("2")
            page.next()
            page.until(lambda: len(page.all(".aift-patches li")) == 8)
            page.until(lambda: page.all(".aift-line"))
            time.sleep(0.3)
            page.save(f"{name}-{scheme}")
            width = page.run("return document.documentElement.scrollWidth")
            assert width <= size[0]
            for button in page.all("[data-answer]"):
                box = button.rect
                assert box["y"] + box["height"] <= size[1]
                assert box["height"] >= 40
            assert page.find(".aift-viewer").rect["height"] > 0.4 * size[1]
            assert not cut_off(page)
            for colours in contrasts(page):
                assert colours[0] >= 4.5, colours
    finally:
        resize(browser, DESKTOP)


def cut_off(page):
    """Buttons whose text does not fit."""
    return page.run(
        """
        return [...document.querySelectorAll(".aift button")].filter(
          (b) => b.offsetParent && b.scrollWidth > b.clientWidth + 1).map((b) => b.innerText);
        """
    )


def contrasts(page):
    """Contrast of each text with what is behind it, as of WCAG."""
    return page.run(
        """
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (e) => {
          const ground = getComputedStyle(e).backgroundColor;
          const clear = (parse(ground)[3] ?? 1) === 0;
          return clear && e.parentElement ? behind(e.parentElement) : ground;
        };
        const found = [];
        const kinds = "button, kbd, span, p, h1, h2, h3, dt, dd";
        for (const e of document.querySelectorAll(`.aift :is(${kinds})`)) {
          const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
          const apart = e.closest(":disabled, .aift-scale, .aift-hidden");
          if (!own || !e.offsetParent || apart) continue;
          const pair = [getComputedStyle(e).color, behind(e)];
          const [a, b] = pair.map((c) => light(parse(c))).sort((x, y) => y - x);
          found.push([(a + 0.05) / (b + 0.05), e.innerText, ...pair]);
        }
        return found;
        """
    )
