"""Processes that save to one folder while others load from it; prints what happened, as JSON.

python tests/persistence/simultaneous.py --loads 10000 --modes own same
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from itertools import count
from pathlib import Path

import numpy as np
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

from aift_sklearn import JitterPatches, _writing, load, save
from aift_sklearn.persistence._format import named_parts

X = np.arange(12.0).reshape(4, 3)


def model_of(number):
    """A model whose every part tells its number."""
    patches = JitterPatches(2, random_state=number).fit(X)
    patches.offsets_ = np.full((40, 3), float(number))
    if number % 5:
        return patches
    head = GaussianNB(priors=[0.5, 0.5]).fit(X + number, [0, 1, 0, 1])
    return Pipeline([("patches", patches), ("head", head)])


def number_of(model):
    """The number that every part tells, or an AssertionError."""
    patches = model
    if isinstance(model, Pipeline):
        patches, head = model["patches"], model["head"]
        assert np.allclose(head.theta_.mean() - X.mean(), patches.random_state)
    assert (patches.offsets_ == patches.random_state).all()
    return patches.random_state


def write(folder, writer, options, stop, first=0):
    for k in count(first):
        if stop.is_set():
            return
        # The same few models of all writers, or models of each writer, in rising order.
        save(model_of(k % 7 if options.same else 10 * k + writer), folder)


def write_and_die(folder, options, stop):
    for life in count():
        if stop.is_set():
            return
        child = os.fork()
        if not child:
            # Each life's numbers are above those of the lives before it.
            write(folder, 0, options, stop, first=10_000 * life)
            os._exit(0)
        time.sleep(random.expovariate(1 / 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def read(folder, options, results):
    failures, last, numbers = [], {}, set()
    for _ in range(options.loads // options.readers):
        time.sleep(random.uniform(0, 2 * options.pause))
        try:
            number = number_of(load(folder))
            if not options.same:
                writer = number % 10
                assert number >= last.get(writer, 0), f"{number} after {last[writer]}"
                last[writer] = number
            numbers.add(number)
        except Exception as error:  # whatever a load raises is what is counted
            failures.append(repr(error)[:300])
    results.put((failures, len(numbers)))


def run(folder, options):
    context = multiprocessing.get_context("fork")
    stop, results = context.Event(), context.Queue()
    # What both kinds import is imported before the processes part.
    for number in (0, 1):
        number_of(load(save(model_of(number), folder)))
    writers = [
        context.Process(target=write, args=(folder, k, options, stop))
        for k in range(1, options.writers + 1)
    ]
    if options.kill:
        writers.append(context.Process(target=write_and_die, args=(folder, options, stop)))
    readers = [
        context.Process(target=read, args=(folder, options, results))
        for _ in range(options.readers)
    ]
    for process in (*writers, *readers):
        process.start()
    found = [results.get() for _ in readers]
    stop.set()
    for process in (*writers, *readers):
        process.join()
    failures = [text for texts, _ in found for text in texts]
    head = (folder / "model.json").read_bytes()
    card = (folder / "README.md").read_text("utf-8")
    return {
        "failures": len(failures),
        "first": failures[:3],
        "different": max(n for _, n in found),
        "exits": sorted({process.exitcode for process in writers}),
        "files": sorted(path.name for path in folder.iterdir()),
        "named": sorted(named_parts(head)),
        "card": all(name in card for name in named_parts(head)),
    }


MODES = ("own", "same", "unlocked", "killed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--loads", type=int, default=300, help="in each mode")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.005, help="seconds between loads")
    options = parser.parse_args()
    told = {}
    for mode in options.modes:
        options.same, options.kill = mode == "same", mode == "killed"
        locks = _writing.fcntl
        if mode == "unlocked":
            _writing.fcntl = None
        with tempfile.TemporaryDirectory() as folder:
            told[mode] = run(Path(folder) / "model", options)
        _writing.fcntl = locks
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
