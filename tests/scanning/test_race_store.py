"""A race keeps little in memory, and goes on after an interruption without repeating itself."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from races import Table, run, table

from aift_sklearn.scanning import race_store
from aift_sklearn.scanning.race_store import EvaluatedPatches, RaceFolder
from aift_sklearn.scanning.racing import race
from aift_sklearn.scanning.shards import Shards


class Interrupting(Table):
    """Is interrupted in the k-th call."""

    def __init__(self, P, k):
        super().__init__(P)
        self.k = k

    def __call__(self, rows, views):
        if len(self.calls) == self.k:
            raise KeyboardInterrupt
        return super().__call__(rows, views)


class InMemory(dict):
    """Store of a race without files."""

    def put(self, name, arrays):
        self[name] = arrays


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(race_store, "_FIRST_BLOCK", 64)
    monkeypatch.setattr(race_store, "_BLOCK_BYTES", 2**14)


def folder_of(path, n=400):
    return RaceFolder(Shards(path, {"model": "a"}, n=n, size=100))


@pytest.mark.usefixtures("small_blocks")
def test_interrupted_at_any_call_it_goes_on_with_the_same_outcome(tmp_path):
    P = table(400, 16, 3, 0)
    undisturbed = Table(P)
    expected = race(undisturbed, 400, 16, 10)
    stages_seen = {views[0] for _, views in undisturbed.calls}
    assert stages_seen >= {0, 3, 6}
    assert len(undisturbed.calls) > 8
    for k in range(len(undisturbed.calls)):
        store = folder_of(tmp_path / str(k))
        first, second = Interrupting(P, k), Table(P)
        with pytest.raises(KeyboardInterrupt):
            race(first, 400, 16, 10, store=store)
        outcome = race(second, 400, 16, 10, store=folder_of(tmp_path / str(k)))
        assert_array_equal(outcome.indices, expected.indices)
        assert_array_equal(outcome.scores, expected.scores)
        # Together they evaluate what one would have.
        assert_array_equal(first.seen + second.seen, undisturbed.seen)
        assert_allclose(outcome.cost, second.seen.mean())


def test_what_is_finished_costs_nothing(tmp_path):
    P = table(400, 16, 3, 0)
    first = race(Table(P), 400, 16, 10, store=folder_of(tmp_path))
    again = race(Table(P), 400, 16, 10, store=folder_of(tmp_path))
    assert again.cost == 0 < first.cost
    assert_array_equal(again.indices, first.indices)


def test_another_b_or_score_takes_over_the_first_stage():
    P, store = table(400, 16, 3, 0), InMemory()
    race(Table(P), 400, 16, 10, store=store)
    for b, consistency in ((30, {}), (10, {"diversity_weight": 0.5}), (10, {"reduction": "mean"})):
        evaluate = Table(P)
        outcome = race(evaluate, 400, 16, b, store=store, **consistency)
        assert_array_equal(outcome.indices, run(P, b, **consistency).indices)
        assert evaluate.seen[:, :3].sum() == 0


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 but no archive", None])
def test_damaged_files_are_evaluated_again(tmp_path, damage):
    P = table(400, 16, 3, 0)
    store = folder_of(tmp_path)
    expected = race(Table(P), 400, 16, 10, store=store)
    files = sorted(tmp_path.glob("race-stage-3-*.npz"))
    assert files
    for file in files:
        whole = bytearray(file.read_bytes())
        middle = len(whole) // 2
        whole[middle] ^= 255
        file.write_bytes(bytes(whole) if damage is None else damage)
    evaluate = Table(P)
    outcome = race(evaluate, 400, 16, 10, store=store)
    assert_array_equal(outcome.scores, expected.scores)
    assert evaluate.seen[:, :3].all()
    assert not evaluate.seen[:, 3:].any()


@pytest.mark.parametrize("kept", [0, 2**12, 2**14, 2**29])
@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_blocks_and_memory_make_no_difference(monkeypatch, kept, block):
    P = table(300, 16, 3, 0)
    expected = run(P, 10)
    monkeypatch.setattr(race_store, "_FIRST_BLOCK", block)
    monkeypatch.setattr(race_store, "_BLOCK_BYTES", 4 * 16 * 3 * block)
    monkeypatch.setattr(race_store, "_KEPT_BYTES", kept)
    evaluate = Table(P)
    outcome = race(evaluate, 300, 16, 10)
    assert_array_equal(outcome.indices, expected.indices)
    assert_array_equal(outcome.scores, expected.scores)
    assert_allclose(outcome.cost, evaluate.seen.mean())
    most = max(n for n, _ in evaluate.calls)
    assert most <= block
    assert (evaluate.seen.max() > 1) == (kept < 2**29)


def test_memory_is_bounded(monkeypatch):
    """Whatever the pool: what may be kept, a few blocks, and a few numbers for each candidate."""
    monkeypatch.setattr(race_store, "_FIRST_BLOCK", 1024)
    monkeypatch.setattr(race_store, "_BLOCK_BYTES", 2**20)
    monkeypatch.setattr(race_store, "_KEPT_BYTES", 2**21)
    n, m, K = 20_000, 16, 10
    centre = np.random.default_rng(0).normal(size=(n, 1, K)).astype(np.float32) * 4

    def evaluate(rows, views):
        logits = centre[rows] + np.sin(rows[:, None, None] + np.array(views)[None, :, None])
        P = np.exp(logits.astype(np.float32))
        return P / P.sum(axis=2, keepdims=True)

    tracemalloc.start()
    try:
        race(evaluate, n, m, 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # P of the first stage alone is 2.4 MB, that of the pool 12.8 MB.
    assert peak < 2**21 + 14 * 2**20 + 100 * n


def test_patches_that_were_let_go_are_looked_at_again(monkeypatch):
    P = table(100, 8, 2, 0)
    evaluate = Table(P)
    monkeypatch.setattr(race_store, "_KEPT_BYTES", 100 * 3 * 2 * 4)
    patches = EvaluatedPatches(evaluate, 8, None)
    rows = np.arange(100)
    assert_array_equal(patches.look("a", rows, [0, 3]), P[:, :3])
    assert_array_equal(patches.look("b", rows[::2], [0, 3]), P[::2, :3])
    assert evaluate.seen.sum() == 300
    patches.keep_only(rows[::2])
    assert_array_equal(patches.look("c", rows[::2], [0, 3]), P[::2, :3])
    assert evaluate.seen.sum() == 300
    some = np.array([0, 1, 2, 51])
    assert_array_equal(patches.look("d", some, [0, 3]), P[some, :3])
    assert evaluate.seen.sum() == 306
    assert patches.n_evaluated == 306


def test_a_store_holds_whole_arrays_only(tmp_path):
    store = folder_of(tmp_path)
    assert store.get("stage") is None
    rows, P = np.arange(3), np.ones((3, 2, 2), dtype=np.float32)
    store.put("stage", {"rows": rows, "P": P})
    found = store.get("stage")
    assert_array_equal(found["rows"], rows)
    assert_array_equal(found["P"], P)
    assert found["P"].dtype == np.float32
