"""How much anonymous memory work takes above what stands there already, each in a fresh process.

``python benchmarks/memory.py NAME`` measures one, and prints it as JSON.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier
from aift_sklearn.onnx import OnnxScorer
from aift_sklearn.scanning.racing import race

MB = 2**20


class Constant(ClassifierMixin, BaseEstimator):
    """Learns nothing, and takes no memory for it."""

    def fit(self, X, y):
        """Note what it is given."""
        self.classes_, self.given_ = np.unique(y), X.nbytes
        return self

    def predict_proba(self, X):
        """A half each."""
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def anonymous():
    """Anonymous memory of this process, MB."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def growth(function):
    """Most MB that a function takes while it runs, and seconds."""
    before, most, stop = anonymous(), [0.0], threading.Event()

    def watch():
        while not stop.wait(0.01):
            most[0] = max(most[0], anonymous() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    function()
    took = time.perf_counter() - start
    stop.set()
    watcher.join()
    return most[0], took


def images(n, size, seed=0, channels=3):
    """Noise."""
    return np.random.default_rng(seed).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def pool_on_disk(n_scored=200_000):
    """Score 200,000 candidates (16 px, two patches of 8 px) of a sparse 50 GB memory map."""
    views = AffinePatches(2, size=8)
    cnn = CNNClassifier(torch.nn.Conv2d(1, 4, 3), pretrained=False, max_epochs=1)
    model = AIFTClassifier(cnn, patches=views, backend="torch", random_state=0)
    model.fit(images(20, 16, channels=1), ["a", "b"] * 10)
    with tempfile.TemporaryDirectory() as folder:
        n = 50 * 2**30 // 256
        pool = np.memmap(Path(folder) / "pool", np.uint8, "w+", shape=(n, 1, 16, 16))
        scorer = OnnxScorer(model).prepare(pool.shape)
        scorer.score(pool[:1000])
        return growth(lambda: scorer.score(pool[:n_scored]))[0]


def fit():
    """Fit on 1,000 candidates of 224 px, four of 16 patches each: beside those four."""
    X, y = images(1000, 224), np.arange(1000) % 2
    model = AIFTClassifier(Constant(), patches=AffinePatches(16, rotation=30), training_patches=4)
    grown, _ = growth(lambda: model.fit(X, y))
    return grown - model.estimator_.given_ / MB


def large_patches_torch():
    """Score 300 candidates of 32 px with 16 patches of 224 px, in torch."""
    return _large_patches("torch")


def large_patches_onnx():
    """Score 300 candidates of 32 px with 16 patches of 224 px, in ONNX Runtime."""
    return _large_patches("onnx")


def _large_patches(backend):
    X = images(320, 32)
    cnn = CNNClassifier(trainable="head", max_epochs=1)
    model = AIFTClassifier(
        cnn, patches=AffinePatches(16, size=224), backend=backend, training_patches=1
    ).fit(X[:20], ["a", "b"] * 10)
    model.score_candidates(X[:2])
    return growth(lambda: model.score_candidates(X[20:]))[0]


def race_of_a_million():
    """Race for the best 20 of a million candidates, m = 16, K = 10, a simulated engine."""
    n, m, K = 10**6, 16, 10

    def evaluate(rows, views):
        # Noise by who is asked about together: it is the memory that counts here.
        found = np.empty((len(rows), len(views), K), dtype=np.float32)
        for start in range(0, len(rows), 20_000):
            part = rows[start : start + 20_000]
            level = (part * 2654435761 % 2**32 / 2**32)[:, None, None]
            noise = np.random.default_rng(int(part[0])).random((len(part), len(views), K))
            logits = 6 * level * (np.arange(K) == 0) + noise
            P = np.exp(logits)
            found[start : start + 20_000] = P / P.sum(axis=2, keepdims=True)
        return found

    return growth(lambda: race(evaluate, n, m, b=20))[0]


NAMES = {
    "fit": 300,
    "large_patches_torch": 500,
    "large_patches_onnx": 500,
    "race_of_a_million": 1024,
    "pool_on_disk": 1024,
}


def measure():
    """Rows of what was done, and the most memory that it took (MB)."""
    rows = []
    for name, limit in NAMES.items():
        done = subprocess.run(
            [sys.executable, __file__, name], capture_output=True, text=True, check=True
        )
        what = globals()[name].__doc__
        rows.append({"what": what, "mb": json.loads(done.stdout), "limit": limit})
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(globals()[sys.argv[1]]()))
