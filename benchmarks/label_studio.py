"""A run through a real Label Studio: questions out, two readers on its page, answers back.

Usage: python benchmarks/label_studio.py --bccd FOLDER --label-studio COMMAND [--port 8093]

Label Studio is installed apart from this package, in an environment of its own (pip install
label-studio); COMMAND is its `label-studio`. It also needs Chromium and its driver. Checks that
every answer comes back, once, whatever the classes are called, and draws the pictures of
docs/label-studio.md. Takes five to ten minutes.
"""

import argparse
import contextlib
import dataclasses
import datetime
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from aift_sklearn import prediction_pattern
from aift_sklearn.campaign.exchange import (
    export_label_studio,
    label_studio_config,
    plan_import,
    read_answers,
    save_pictures,
)
from aift_sklearn.campaign.records import Ask
from aift_sklearn.campaign.settings import Settings
from aift_sklearn.models import build_model
from aift_sklearn.study import load_boxes

DOCS = Path(__file__).parents[1] / "docs"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
READERS = {"anna@example.org": "annas-word-1", "ben@example.org": "bens-word-12"}
N_TAUGHT, N_ASKED = 24, 20
GUIDANCE = (
    "A white cell has a stained nucleus. Platelets are the small ones. Unsure is an answer too."
)
NASTY = ("=1+1", "-a", "'=x", 'say "x"', "$image", "costs $5", "$$", "<b>&amp;", "µ 図", "unsure")
# Seconds that a page may take.
PATIENCE = 60
# Seconds until Label Studio has made its database.
START = 900


class Site:
    """Label Studio, started with a folder of its own."""

    def __init__(self, command, port, folder):
        self.url, self.served = f"http://127.0.0.1:{port}", folder / "served"
        self.served.mkdir()
        user, word = next(iter(READERS.items()))
        settings = {
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.served),
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_USERNAME": user,
            "LABEL_STUDIO_PASSWORD": word,
            "LABEL_STUDIO_USER_TOKEN": TOKEN,
            "LATEST_VERSION_CHECK": "false",
            "COLLECT_ANALYTICS": "false",
        }
        start = [command, "start", "--no-browser", "--internal-host", "127.0.0.1"]
        start += ["--port", str(port), "--data-dir", str(folder)]
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                start, env=os.environ | settings, cwd=folder, stdout=log, stderr=log
            )

    def __enter__(self):
        """Wait until it answers: a new database takes minutes."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.call("/api/projects")
                return self
            time.sleep(2)
        self.__exit__()
        raise SystemExit(f"Label Studio does not start: {self.log.read_text()[-2000:]}")

    def __exit__(self, *_):
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def call(self, path, body=None):
        """Call its API; with a body it is a POST."""
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def make_project(self, title, settings, tasks):
        """Make a project of the tasks in a file, with its page and its folder of pictures."""
        page = {"label_config": label_studio_config(settings), "maximum_annotations": 2}
        number = self.call("/api/projects", {"title": title, **page})["id"]
        store = {"project": number, "path": str(self.served / "tasks"), "use_blob_urls": True}
        self.call("/api/storages/localfiles", store)
        self.call(f"/api/projects/{number}/import", json.loads(tasks.read_text("utf-8")))
        return number

    def export(self, project, kind, path):
        """Save an export."""
        content = self.call(f"/api/projects/{project}/export?exportType={kind}")
        path.write_text(json.dumps(content))
        return path


class Reader:
    """Somebody at a browser."""

    def __init__(self, site, user, *, new=False, size="1180,790"):
        options = webdriver.ChromeOptions()
        for each in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
            options.add_argument(each)
        options.add_argument("--hide-scrollbars")
        options.add_argument(f"--window-size={size}")
        # Named, since it is looked for on the network otherwise.
        driver = webdriver.ChromeService(shutil.which("chromedriver"))
        self.site, self.page = site, webdriver.Chrome(options, driver)
        self.page.get(f"{site.url}/user/{'signup' if new else 'login'}")
        self.until(lambda: self.page.find_elements(By.NAME, "password"))
        self.page.find_element(By.NAME, "email").send_keys(user)
        word = self.page.find_element(By.NAME, "password")
        word.send_keys(READERS[user])
        word.submit()
        self.until(lambda: "/user/" not in self.page.current_url)
        self.last = ""

    def until(self, condition):
        """Wait for something that is true, and return it."""
        for _ in range(2 * PATIENCE):
            found = condition()
            if found:
                return found
            time.sleep(0.5)
        raise SystemExit(f"nothing comes at {self.page.current_url}")

    def open(self, path):
        """Open a page, and wait for its picture."""
        self.page.get(self.site.url + path)
        self.until(self.shows_picture)
        time.sleep(3)

    def shows_picture(self):
        """Whether a picture is there."""
        code = "img => img.src && !img.src.startsWith('data:') && img.naturalWidth > 0"
        return self.page.execute_script(f"return [...document.images].some({code})")

    def next_task(self):
        """Wait for another task than the last one."""
        code = (
            "return document.querySelector('.lsf-current-task__task-id')?.firstChild?.textContent"
        )

        def another():
            task = self.page.execute_script(code)
            return task if task and task != self.last and self.shows_picture() else None

        self.last = self.until(another)
        time.sleep(1.5)
        return int(self.last)

    def press(self, text):
        """Press a button."""
        code = (
            "const b = [...document.querySelectorAll('button')].find(b => b.innerText.trim() =="
            " arguments[0] && !b.disabled); if (b) b.click(); return !!b"
        )
        self.until(lambda: self.page.execute_script(code, text))

    def key(self, key):
        """Press a key."""
        ActionChains(self.page).send_keys(key).perform()
        time.sleep(0.8)

    def click(self, place):
        """Click a choice, by its place."""
        choices = "document.querySelectorAll('.ant-radio-wrapper input')"
        self.page.execute_script(f"{choices}[arguments[0]].click()", place)
        time.sleep(0.8)

    def draw(self, name):
        """Save what is seen."""
        image = Image.open(io.BytesIO(self.page.get_screenshot_as_png())).convert("RGB")
        size = (int(image.width * 0.66), int(image.height * 0.66))
        path = DOCS / f"label-studio-{name}.png"
        image.resize(size, Image.Resampling.LANCZOS).save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def ask(dataset):
    """Teach a model a few cells, and ask for what would teach it most."""
    images, labels = dataset.X, dataset.y
    rng = np.random.default_rng(1)
    classes = tuple(str(name) for name in np.unique(labels))
    rows = [rng.permutation(np.flatnonzero(labels == name))[:40] for name in classes]
    taught = np.concatenate([row[: N_TAUGHT // len(classes)] for row in rows])
    others = np.concatenate([row[N_TAUGHT // len(classes) :] for row in rows])
    model = build_model("features").set_params(random_state=0)
    model.fit(images[taught], labels[taught])
    scores, proba = model.score_candidates(images[others]), model.predict_proba(images[others])
    patterns = prediction_pattern(model.predict_patch_proba(images[others]))
    asks = [
        Ask(
            str(dataset.ids[others[k]]),
            rank,
            score=float(scores[k]),
            pattern=str(patterns[k]),
            proba=tuple(map(float, proba[k])),
            round=1,
        )
        for rank, k in enumerate(np.argsort(-scores)[:N_ASKED])
    ]
    truth = {str(dataset.ids[row]): str(labels[row]) for row in others}
    row_of = {str(name): row for row, name in enumerate(dataset.ids)}
    return asks, classes, truth, lambda name: as_png(images[row_of[name]])


def as_png(image):
    """A candidate, enlarged."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image.transpose(1, 2, 0))
    picture.resize((384, 384), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def bring_back(site, project, asks, classes, expected, names):
    """Import both exports twice, and compare the answers with what was done on the page."""
    rows = []
    for kind, times in (("JSON", 2), ("JSON_MIN", 1)):
        path = site.export(project, kind, site.served / f"{kind}.json")
        for _ in range(times):
            reading = read_answers(path, classes, annotators=names)
            plan = plan_import(reading, asks, rows, classes)
            print(kind, *plan.describe(), sep="\n  ")
            now = datetime.datetime.now(datetime.UTC)
            rows += [dataclasses.replace(answer, time=now) for answer in plan.answers]
    found = {(a.candidate, a.annotator): a.label or a.kind.value for a in rows}
    assert found == expected, (found, expected)
    assert len(rows) == len(expected)


def try_cells(site, dataset):
    """Two readers, labels, a skip and a doubt, and the pictures of the documentation."""
    asks, classes, truth, picture = ask(dataset)
    settings = Settings("blood cells", classes, "boxes", guidance=GUIDANCE)
    saved = save_pictures(site.served / "tasks", [a.candidate for a in asks], picture)
    tasks, answers = site.served / "tasks.json", {}
    export_label_studio(tasks, asks, settings, saved.get, root=site.served)
    project = site.make_project("blood cells, round 1", settings, tasks)
    steps = {"anna": ["", "", "", "skip", "", "unsure", "", ""], "ben": ["", classes[0], "", ""]}
    for (user, _), (name, plan) in zip(READERS.items(), steps.items(), strict=True):
        reader = Reader(site, user, new=name == "ben")
        reader.open(f"/projects/{project}/data?labeling=1")
        for place, step in enumerate(plan):
            number = reader.next_task()
            task = site.call(f"/api/tasks/{number}")["data"]
            assert task["aift_order"] == place + 1
            said = step or truth[task["aift_id"]]
            answers[task["aift_id"], name] = said
            if said != "skip":
                reader.key(str([*classes, "unsure"].index(said) + 1))
            reader.press("Skip" if said == "skip" else "Submit")
        if name == "anna":
            task = site.call(f"/api/tasks/{reader.next_task()}")["data"]
            reader.key(str(classes.index(truth[task["aift_id"]]) + 1))
            # Until the note goes that the last answer is saved.
            time.sleep(6)
            reader.draw("page")
        time.sleep(3)
        reader.page.quit()
    bring_back(site, project, asks, classes, answers, {"1": "anna", "2": "ben"})
    export_label_studio(tasks, asks, settings, saved.get, root=site.served, predictions=True)
    seen = site.make_project("blood cells, with predictions", settings, tasks)
    first = site.call(f"/api/tasks?project={seen}")["tasks"][0]["id"]
    reader = Reader(site, next(iter(READERS)))
    reader.open(f"/projects/{seen}/data?task={first}")
    reader.draw("prediction")
    reader.page.set_window_size(1400, 640)
    reader.open(f"/projects/{project}/data")
    reader.draw("tasks")
    reader.page.quit()


def try_names(site):
    """Classes and candidates with names that break what is not escaped; clicked, and predicted."""
    settings = Settings("names", NASTY, "x", guidance='$image & "quotes" {{aift_id}} $5')
    ones = np.eye(len(NASTY)).tolist()
    asks = [Ask(f"{name}\n{name}", k, proba=tuple(ones[k])) for k, name in enumerate(NASTY)]
    picture = as_png(np.full((3, 8, 8), 128, dtype=np.uint8))
    saved = save_pictures(site.served / "tasks", [a.candidate for a in asks], lambda name: picture)
    expected = {(a.candidate, "anna"): name for a, name in zip(asks, NASTY, strict=True)}
    tasks = site.served / "tasks.json"
    for shown in (False, True):
        export_label_studio(tasks, asks, settings, saved.get, root=site.served, predictions=shown)
        project = site.make_project("names", settings, tasks)
        reader = Reader(site, next(iter(READERS)))
        reader.open(f"/projects/{project}/data?labeling=1")
        for place in range(len(NASTY)):
            reader.next_task()
            if not shown:
                reader.click(place)
            reader.press("Submit")
        time.sleep(3)
        reader.page.quit()
        bring_back(site, project, asks, NASTY, expected, {"1": "anna"})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bccd", required=True, help="folder with images and boxes.csv")
    parser.add_argument("--label-studio", default=shutil.which("label-studio"))
    parser.add_argument("--port", type=int, default=8093)
    options = parser.parse_args()
    if not options.label_studio:
        parser.error("no label-studio; name its command")
    dataset = load_boxes(options.bccd, size=96, random_state=0)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Site(options.label_studio, options.port, Path(folder).resolve()) as site,
    ):
        try_cells(site, dataset)
        try_names(site)


if __name__ == "__main__":
    main()
