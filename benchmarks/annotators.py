"""Many annotators at once: whether every answer is kept, and how long one waits for it.

Usage: python benchmarks/annotators.py [--annotators N] [--answers N] [--only KIND ...]

Writes docs/annotators.md; kinds are sqlite and postgresql, where that is installed. A server in a
process of its own serves a ledger that is on the disk. Each annotator asks for a question, fetches
its picture, thinks or does not, and answers; half of the annotators answer over a connection that
is kept, as browsers do. With training a CNN is fine-tuned meanwhile, on all cores, by a process
that gives way as the one of a campaign does. Afterwards the ledger is read:

- lost: answers that were acknowledged and are not in it.
- crossed: answers that are in it and are not what was sent, or of a question of somebody else's.
- p50, p99, max: milliseconds from the request of an answer to its reply.
"""

import argparse
import asyncio
import contextlib
import datetime
import gc
import io
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

from aift_sklearn.campaign.background import NICE
from aift_sklearn.campaign.ledger import Ledger
from aift_sklearn.campaign.records import Ask, Round
from aift_sklearn.campaign.server import serve
from aift_sklearn.campaign.settings import Settings
from aift_sklearn.models import build_model
from aift_sklearn.study import load_tissue

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import postgres  # noqa: E402

PAGE = ROOT / "docs" / "annotators.md"
# Seconds of thought, and whether a CNN learns meanwhile.
RUNS = tuple(itertools.product((1.0, 0.0), (False, True)))
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
CLASSES = ("lymphocyte", "neutrophil", "monocyte")


class Campaign:
    """What a server needs of one, besides its ledger."""

    name = "annotators"
    settings = Settings(name, CLASSES, "none")
    grey = False

    def __init__(self, ledger):
        self.ledger = ledger
        file = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        self._png = file.getvalue()

    def picture(self, candidate):
        """The same for every candidate."""
        return self._png

    def surroundings(self, candidate):
        """There is no more of the image."""

    def explanation(self, candidate):
        """There is no model."""

    def status(self, annotator=None):
        """What the ledger counts."""
        counts = self.ledger.counts()
        return {"counts": vars(counts), "per_annotator": counts.by_annotator}


class Client:
    """Plain HTTP, light enough for many of them on one core."""

    def __init__(self, port, keeps):
        self.port, self.keeps = port, keeps
        self.streams = None

    async def ask(self, method, path, values=None):
        """Body of the reply; None if there is none."""
        body = b"" if values is None else json.dumps(values).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        data = await reader.readexactly(int(fields.get("content-length", 0)))
        if not self.keeps:
            await self.close()
        status = int(lines[0].split()[1])
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {data!r}")
        return data

    async def close(self):
        """Close the connection."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def annotate(port, number, n_answers, think, sent, milliseconds):
    """One annotator: what they sent, by uid, and how long each answer took."""
    name = f"annotator {number:02d}"
    client = Client(port, keeps=number % 2 == 0)
    reply = json.loads(await client.ask("POST", "/api/questions", {"annotator": name}))
    rng = np.random.default_rng(number)
    for _ in range(n_answers):
        candidate = reply["questions"][0]["candidate"]
        await client.ask("GET", f"/api/picture?candidate={candidate}")
        if think:
            await asyncio.sleep(think * rng.uniform(0.5, 1.5))
        label = CLASSES[rng.integers(len(CLASSES))]
        answer = {"uid": uuid.uuid4().hex, "candidate": candidate, "annotator": name}
        answer |= {"kind": "label", "label": label, "seconds": 1.5}
        begun = time.perf_counter()
        reply = json.loads(await client.ask("POST", "/api/answers", answer))
        milliseconds.append(1000 * (time.perf_counter() - begun))
        sent[answer["uid"]] = (candidate, name, label)
    await client.close()


async def annotate_all(port, arguments, think):
    """All of them at once."""
    sent, milliseconds = {}, []
    await asyncio.gather(
        *(
            annotate(port, number, arguments.answers, think, sent, milliseconds)
            for number in range(arguments.annotators)
        )
    )
    return sent, milliseconds


def measure(where, arguments, think):
    """Run it on an empty ledger; figures by name."""
    n = arguments.annotators * (arguments.answers + 2)
    with Ledger.create(where, Campaign.settings.to_json()) as ledger:
        ledger.add_round(Round(0), [Ask(f"cell-{i:06d}", i) for i in range(n)])
    with started("--serve", str(where)) as process:
        port = int(process.stdout.readline().rsplit(":", 1)[1].strip("/\n"))
        # Pauses of the garbage collector here are not the server's.
        gc.collect()
        gc.freeze()
        begun = time.perf_counter()
        sent, milliseconds = asyncio.run(annotate_all(port, arguments, think))
        seconds = time.perf_counter() - begun
    with Ledger.open(where) as ledger:
        stored = {row.uid: (row.candidate, row.annotator, row.label) for row in ledger.answers()}
    twice = len(stored) - len({candidate for candidate, _, _ in stored.values()})
    return {
        "answers": len(stored),
        "lost": len(sent.keys() - stored.keys()),
        "crossed": sum(stored[uid] != sent.get(uid) for uid in stored) + twice,
        "a second": f"{len(sent) / seconds:.0f}",
        "p50, ms": f"{np.percentile(milliseconds, 50):.0f}",
        "p99, ms": f"{np.percentile(milliseconds, 99):.0f}",
        "max, ms": f"{max(milliseconds):.0f}",
    }


@contextlib.contextmanager
def started(*options):
    """Run this file in another process, as long as the context lasts."""
    command = [sys.executable, __file__, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def training():
    """Fine-tune meanwhile, in a process that gives way as a campaign's does."""
    with started("--train") as process:
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        process.stdout.readline()
        yield


def train():
    """Fine-tune a CNN again and again; say when it has begun."""
    data = load_tissue()
    model = build_model("finetune")
    print("begun", flush=True)
    while True:
        model.fit(data.X[:200], data.y[:200])


@contextlib.contextmanager
def ledgers(kind):
    """A function that names an empty place for a ledger at each call."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            yield lambda: Path(tempfile.mkdtemp(dir=folder)) / "campaign.ledger"
            return
        with postgres.running_server() as server:
            yield lambda: server.url(server.new_database())


def run(arguments):
    """Rows of the table."""
    for kind in arguments.only:
        with ledgers(kind) as new_place:
            for think, trains in RUNS:
                with training() if trains else contextlib.nullcontext():
                    figures = measure(new_place(), arguments, think)
                row = {"ledger": NAMES[kind], "thought": f"{think:g} s" if think else "none"}
                row |= {"a CNN learns": "yes" if trains else "no"} | figures
                print(row, flush=True)
                yield row


def write(rows, arguments):
    """Write the page."""
    today = datetime.date.today().isoformat()
    lines = [
        "# Many annotators at once",
        f"Written by `python benchmarks/annotators.py` on {today}: {arguments.annotators} "
        f"annotators who begin at once, {arguments.answers} answers each, from another process of "
        f"the same machine, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{platform.system()}. Milliseconds are from sending an answer to the reply that it is on "
        "the disk, with the next question. Thought is between a picture and its answer, half as "
        "long to half as long again; without any, the server is as busy as it can be. Where a CNN "
        "learns, it is fine-tuned meanwhile on all cores, by a process that gives way.",
        "",
        f"| {' | '.join(rows[0])} |",
        f"| {' | '.join('---' for _ in rows[0])} |",
        *(f"| {' | '.join(str(value) for value in row.values())} |" for row in rows),
    ]
    PAGE.write_text("\n".join(lines) + "\n", "utf-8")


def main():
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--answers", type=int, default=20)
    there = ["sqlite"] if postgres.why_not() else list(NAMES)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=there)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train()
    elif arguments.serve:
        with Ledger.open(arguments.serve) as ledger:
            serve(Campaign(ledger), say=lambda text: print(text, flush=True))
    else:
        write(list(run(arguments)), arguments)


if __name__ == "__main__":
    main()
