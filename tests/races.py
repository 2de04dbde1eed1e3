"""Pools to race over: probabilities of patches in a table."""

import numpy as np


def softmax(logits):
    """Probabilities (n, m, K), float32, of logits."""
    P = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (P / P.sum(axis=2, keepdims=True)).astype(np.float32)


def table(n, m, K, seed, spread=6.0):
    """Patch probabilities of candidates of which some are torn, and most are sure."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(n, 1, K)) * spread
    return softmax(centre + rng.normal(size=(n, m, K)) * rng.gamma(0.5, 0.5, size=(n, 1, 1)))


class Table:
    """Evaluates patches by looking them up, and counts."""

    def __init__(self, P):
        self.P, self.seen, self.calls = P, np.zeros(P.shape[:2], dtype=int), []

    def __call__(self, rows, views):
        assert (np.diff(rows) > 0).all()
        self.seen[np.ix_(rows, views)] += 1
        self.calls.append((len(rows), views))
        return self.P[np.ix_(rows, views)]


def run(P, b, **consistency):
    """Race for the b best of a table."""
    from aift_sklearn.scanning.racing import race

    n, m = P.shape[:2]
    return race(Table(P), n, m, b, **consistency)
