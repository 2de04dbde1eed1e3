"""Racing for the top b against the full pass: time, patches evaluated, and winners lost."""

import itertools
import time

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, CNNFeatures
from aift_sklearn.onnx import OnnxScorer
from aift_sklearn.scanning.pool_pass import PoolPass
from aift_sklearn.study import load_boxes, load_npz, load_tissue

LABELS = (40, 100, 200)
B = 20
HEADS = {
    "fine-tuned": CNNClassifier,
    "frozen": lambda: make_pipeline(
        CNNFeatures(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    ),
}


def pools(bccd, pneumonia):
    """Pools by name: candidates, classes and views. What is not at hand is left out."""
    known = {"tissue": (load_tissue, AffinePatches.for_microscopy)}
    if bccd is not None:
        known["blood cells"] = (lambda: load_boxes(bccd, size=64), AffinePatches.for_microscopy)
    if pneumonia is not None:
        known["pneumonia"] = (lambda: load_npz(pneumonia), AffinePatches.for_radiographs)
    for name, (load, views) in known.items():
        dataset = load()
        order = np.random.default_rng(0).permutation(len(dataset.X))
        yield name, dataset.X[order], dataset.y[order], views()


def measure(bccd=None, pneumonia=None):
    """Rows of head, pool and labels: seconds of both ways, cost, recall."""
    rows = []
    for name, X, y, views in pools(bccd, pneumonia):
        for head, n_labels in itertools.product(HEADS, LABELS):
            model = AIFTClassifier(
                HEADS[head](),
                patches=views,
                classes=np.unique(y),
                backend="torch",
                random_state=0,
            ).partial_fit(X[:n_labels], y[:n_labels])
            pool = X[n_labels:]
            scorer = OnnxScorer(model).prepare(pool.shape)
            full, raced = (timed(scorer, pool, racing=racing) for racing in (False, True))
            rows.append(
                {
                    "head": head,
                    "pool": name,
                    "labels": n_labels,
                    "n": len(pool),
                    "full": full[0],
                    "raced": raced[0],
                    "cost": PoolPass(scorer._engine).race(pool, B).cost,
                    "recall": len(set(full[1]) & set(raced[1])) / B,
                }
            )
            print(rows[-1], flush=True)
    return sorted(rows, key=lambda row: list(HEADS).index(row["head"]))


def timed(scorer, pool, *, racing):
    """Best of two."""
    best = np.inf
    for _ in range(2):
        start = time.perf_counter()
        indices, _ = scorer.top(pool, B, racing=racing)
        best = min(best, time.perf_counter() - start)
    return best, indices.tolist()
