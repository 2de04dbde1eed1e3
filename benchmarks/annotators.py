"""Many annotators at once: whether every answer is kept, and how long one waits for it.

Usage: python benchmarks/annotators.py [--annotators N] [--answers N] [--think SECONDS]
                                       [--ledger PATH_OR_URL] [--json]

A server in a process of its own serves a ledger that is on the disk. Each annotator asks for a
question, fetches its picture, and answers, without a pause unless told so; half of the annotators
answer over a connection that is kept, as browsers do. Afterwards the ledger is read:

- n: answers that it holds.
- lost: answers that were acknowledged and are not in it.
- crossed: answers that are in it and are not what was sent, or of a question of somebody else's.
- p50, p99, max: milliseconds from the request of an answer to its reply.
"""

import argparse
import asyncio
import io
import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

from aift_sklearn.campaign.ledger import Ledger
from aift_sklearn.campaign.records import Ask, Round
from aift_sklearn.campaign.server import serve
from aift_sklearn.campaign.settings import Settings

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


async def annotate_all(port, arguments):
    """All of them at once."""
    sent, milliseconds = {}, []
    await asyncio.gather(
        *(
            annotate(port, number, arguments.answers, arguments.think, sent, milliseconds)
            for number in range(arguments.annotators)
        )
    )
    return sent, milliseconds


def measure(where, arguments):
    """Run it on an empty ledger; figures by name."""
    n = arguments.annotators * (arguments.answers + 2)
    with Ledger.create(where, Campaign.settings.to_json()) as ledger:
        ledger.add_round(Round(0), [Ask(f"cell-{i:06d}", i) for i in range(n)])
    command = [sys.executable, __file__, "--serve", str(where)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline().rsplit(":", 1)[1].strip("/\n"))
            begun = time.perf_counter()
            sent, milliseconds = asyncio.run(annotate_all(port, arguments))
            seconds = time.perf_counter() - begun
        finally:
            process.terminate()
    with Ledger.open(where) as ledger:
        stored = {row.uid: (row.candidate, row.annotator, row.label) for row in ledger.answers()}
    twice = len(stored) - len({candidate for candidate, _, _ in stored.values()})
    return {
        "n": len(stored),
        "lost": len(sent.keys() - stored.keys()),
        "crossed": sum(stored[uid] != sent.get(uid) for uid in stored) + twice,
        "p50": round(float(np.percentile(milliseconds, 50)), 1),
        "p99": round(float(np.percentile(milliseconds, 99)), 1),
        "max": round(max(milliseconds), 1),
        "per second": round(len(sent) / seconds, 1),
    }


def main():
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--think", type=float, default=0.0)
    parser.add_argument("--ledger", help="where to make it; a temporary file without")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with Ledger.open(arguments.serve) as ledger:
            serve(Campaign(ledger), say=lambda text: print(text, flush=True))
        return
    with tempfile.TemporaryDirectory() as folder:
        where = arguments.ledger or Path(folder) / "annotators.ledger"
        figures = measure(where, arguments)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"{arguments.annotators} annotators, {arguments.answers} answers each, at once")
    print(" | ".join(figures))
    print(" | ".join(str(value) for value in figures.values()))


if __name__ == "__main__":
    main()
