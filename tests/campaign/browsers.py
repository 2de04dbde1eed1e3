"""Browsers without a screen, and what an annotator does in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
DESKTOP, TABLET = (1440, 900), (820, 1180)
# The page takes a key or click that comes sooner for one of the question before.
SOON = {"key": 0.25, "click": 0.45}


def start_browser():
    """A Chromium without a screen."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    browser = webdriver.Chrome(options=options, service=service)
    resize(browser, DESKTOP)
    return browser


def stop_browser(browser):
    browser.quit()
    # Selenium leaves the streams of its child to the garbage collector.
    process = browser.service.process
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def resize(browser, size, scheme="dark"):
    values = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", values)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


class Page:
    """The page of a campaign in a browser."""

    def __init__(self, browser, port, path="/"):
        self.browser = browser
        self.address = f"http://127.0.0.1:{port}{path}"

    def open(self, name=""):
        """Open it, and say who one is."""
        # The page before it may still ask a server that is gone.
        self.browser.get("about:blank")
        self.browser.get_log("browser")
        self.browser.get(self.address)
        if name:
            self.say_name(name)
        return self

    def say_name(self, name):
        self.until(lambda: self.all(".aift-name[open] input"))
        field = self.find(".aift-name input")
        field.clear()
        field.send_keys(name, Keys.ENTER)

    def until(self, condition, seconds=15):
        """Wait for something; its value."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, f"waited in vain; the page says {self.text()!r}"
            time.sleep(0.03)
        return value

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector="body"):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    @property
    def candidate(self):
        """What is on the screen, or None."""
        return self.run("return document.querySelector('.aift-stage')?.dataset.candidate ?? null")

    def next(self, before=None):
        """Wait for another question than the one before."""
        return self.until(lambda: self.candidate not in (None, before) and self.candidate)

    def press(self, *keys):
        ActionChains(self.browser).send_keys(*keys).perform()

    def undo(self):
        chain = ActionChains(self.browser)
        chain.key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()

    def answer(self, key):
        """Answer by a key; what was answered."""
        candidate = self.next()
        time.sleep(SOON["key"])
        self.press(key)
        self.until(lambda: self.candidate != candidate)
        return candidate

    def click(self, selector):
        self.find(selector).click()

    def answer_by_click(self, name):
        candidate = self.next()
        time.sleep(SOON["click"])
        self.click(f'[data-answer="{name}"]')
        self.until(lambda: self.candidate != candidate)
        return candidate

    def saved(self):
        self.until(lambda: "Saved" in self.text(".aift-saved"))

    def n_pictures(self):
        """Candidates whose picture and surroundings are there, those that come next among them."""
        return self.run(
            """
            const names = performance.getEntriesByType("resource").filter((r) => r.responseEnd > 0)
              .map((r) => r.name).filter((name) => /picture|surroundings/.test(name));
            const whole = new Set(names.map((name) => name.split("candidate=")[1]));
            return [...whole].filter((one) =>
              names.filter((name) => name.endsWith(`candidate=${one}`)).length > 1).length;
            """
        )

    def pixels(self, viewer=0):
        """Colours in the middle of a viewer's canvas: mean red, and how many there are."""
        return self.run(
            """
            const canvas = document.querySelectorAll(".aift-viewer canvas")[arguments[0]];
            const [x, y] = [canvas.width >> 1, canvas.height >> 1];
            const data = canvas.getContext("2d").getImageData(x - 50, y - 50, 100, 100).data;
            const red = Array.from({ length: 10000 }, (_, i) => data[4 * i]);
            return [red.reduce((a, b) => a + b) / red.length, new Set(red).size];
            """,
            viewer,
        )

    def troubles(self):
        """What the browser complained of: scripts that failed, and what the policy forbade."""
        said = [entry["message"] for entry in self.browser.get_log("browser")]
        # The tests' own looks at pixels.
        return [message for message in said if "willReadFrequently" not in message]

    def save(self, name):
        """Keep a picture of the screen, where the environment says so."""
        folder = os.environ.get("AIFT_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.browser.save_screenshot(str(Path(folder) / f"{name}.png"))


@contextlib.contextmanager
def browsing():
    browser = start_browser()
    try:
        yield browser
    finally:
        stop_browser(browser)
