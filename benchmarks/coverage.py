"""Selection by coverage: its time beside that of a pool pass, and its memory.

Usage: python benchmarks/coverage.py [--sizes N ...] [--trusts T ...]

Scores and embeddings are simulated, 1,280 numbers each as of EfficientNet-Lite0, and made when they
are asked for, as a network would. The pass is that of 64-pixel candidates with 16 patches, measured
on a part of the pool and scaled; embedding what may be asked for, one patch each, belongs to the
selection. The trust in the scores, τ, decides among how many candidates is chosen. Each size and
trust runs in a process of its own.
"""

import argparse
import itertools
import multiprocessing
import time
from pathlib import Path

import numpy as np

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier
from aift_sklearn.selection import coverage

SIZES = (10_000, 100_000, 1_000_000)
# Of a model that knows nothing, of one that is right half of the time, and of a good one.
TRUSTS = (0.0, 0.5, 0.9)
B, M, E, LABELLED, MEASURED = 20, 16, 1280, 200, 1_000
OMEGA = 10


def measure_pass():
    """Seconds per candidate of scoring, and of embedding."""
    X = np.random.default_rng(0).integers(0, 256, (MEASURED, 3, 64, 64), dtype=np.uint8)
    model = AIFTClassifier(CNNClassifier(max_epochs=1), patches=AffinePatches(M), backend="onnx")
    model.fit(X[:20], np.arange(20) % 2)
    seconds = []
    for call in (model.score_candidates, model.embed):
        call(X)  # exports and opens
        start = time.perf_counter()
        call(X)
        seconds.append((time.perf_counter() - start) / MEASURED)
    return seconds


def peak_memory():
    """Most megabytes that this process has held; that of its parent does not count."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def select(n, trust, queue):
    """Seconds and memory of a selection among n, beyond what is there before."""
    rng = np.random.default_rng(1)
    scores, centres = rng.gamma(1, 1, n), rng.normal(size=(64, E)).astype(np.float32)
    known = centres[rng.integers(0, 64, LABELLED)] + rng.normal(size=(LABELLED, E))

    embedded = []

    def embed(rows):
        embedded.append(len(rows))
        noise = np.random.default_rng(2).normal(size=(len(rows), E)).astype(np.float32)
        return centres[rows % 64] + noise

    before = peak_memory()
    start = time.perf_counter()
    length = round(n ** (1 - trust) * min(n, OMEGA * B) ** trust)
    among = np.argpartition(scores, n - length)[n - length :]
    weights = (1 - trust) + trust * scores / scores.mean()
    coverage(weights, B, embed, known, candidates=None if length == n else np.sort(among))
    seconds = time.perf_counter() - start
    peak = peak_memory()
    queue.put((seconds, sum(embedded), peak - before, peak))


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--trusts", type=float, nargs="+", default=TRUSTS)
    arguments = parser.parse_args()
    scored, embedded = measure_pass()
    print(f"scoring {1 / scored:.0f}, embedding {1 / embedded:.0f} candidates per second")
    print("| n | trust | pool pass | embedding | selection | both of the pass | memory | in all |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    context = multiprocessing.get_context("spawn")
    for n, trust in itertools.product(arguments.sizes, arguments.trusts):
        queue = context.Queue()
        process = context.Process(target=select, args=(n, trust, queue))
        process.start()
        seconds, n_embedded, more, peak = queue.get()
        process.join()
        of_pass, embedding = n * scored, n_embedded * embedded
        share = (seconds + embedding) / of_pass
        print(
            f"| {n:,} | {trust:g} | {of_pass:.0f} s | {embedding:.1f} s | {seconds:.1f} s | "
            f"{share:.1%} | {more:.0f} MB | {peak:.0f} MB |"
        )


if __name__ == "__main__":
    main()
