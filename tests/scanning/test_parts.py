"""Pools in parts: each candidate once, a few parts ahead, and nothing lost that was computed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aift_sklearn.errors import DataError
from aift_sklearn.scanning import parts
from aift_sklearn.scanning.parts import Part, as_parts, scan


def test_parts_cover_what_is_wanted_once():
    cut = list(as_parts(23, 5, multiple=7))
    assert [(p.start, p.stop) for p in cut] == [
        *((0, 5), (5, 7), (7, 12), (12, 14), (14, 19), (19, 21), (21, 23))
    ]
    rows = np.array([0, 1, 2, 30, 31, 99])
    cut = list(as_parts(100, 2, rows, reach=10))
    assert [(p.start, p.rows.tolist(), p.at) for p in cut] == [
        *((0, [0, 1], 0), (2, [0], 2), (30, [0, 1], 3), (99, [0], 5))
    ]
    pool = np.arange(100)
    assert np.concatenate([p.read(pool) for p in cut]).tolist() == rows.tolist()


@given(rows=st.sets(st.integers(0, 99)), step=st.integers(1, 7), reach=st.integers(1, 30))
def test_wanted_rows_are_read_in_order(rows, step, reach):
    rows = np.array(sorted(rows), dtype=np.intp)
    cut = list(as_parts(100, step, rows, reach=reach))
    pool = np.arange(100)
    read = [p.read(pool) for p in cut]
    assert np.concatenate([np.empty(0, int), *read]).tolist() == rows.tolist()
    assert all(p.stop - p.start <= max(reach, 1) for p in cut)
    assert all(p.n <= step for p in cut)
    assert [p.at for p in cut] == np.cumsum([0, *map(len, read)])[:-1].tolist()


@given(n=st.integers(0, 60), step=st.integers(1, 9), multiple=st.none() | st.integers(1, 9))
def test_whole_pools_are_cut_into_the_fewest_parts(n, step, multiple):
    cut = list(as_parts(n, step, multiple=multiple))
    blocks = (
        [range(n)] if multiple is None else [range(n)[i:][:multiple] for i in range(0, n, multiple)]
    )
    expected = [block[i:][:step] for block in blocks for i in range(0, len(block), step)]
    assert [range(p.start, p.stop) for p in cut] == expected
    assert [(p.at, p.n, p.rows) for p in cut] == [(r.start, len(r), None) for r in expected]


def test_eight_times_as_much_is_read_for_what_is_wanted():
    near, far = (list(as_parts(99, 5, np.array([2, 2 + gap]))) for gap in (39, 40))
    assert [p.rows.tolist() for p in near] == [[0, 39]]
    assert [(p.start, p.rows.tolist()) for p in far] == [(2, [0]), (42, [0])]


def test_a_part_knows_where_its_candidates_lie():
    every, some = Part(4, 9, None, 4), Part(4, 9, np.array([0, 3]), 7)
    assert (every.n, some.n) == (5, 2)
    assert [every.position(k) for k in range(5)] == [4, 5, 6, 7, 8]
    assert [some.position(k) for k in range(2)] == [4, 7]


class Short:
    """A pool whose file is not complete."""

    shape = (9, 2)

    def __getitem__(self, key):
        return np.zeros((7, 2))[key]


def test_a_pool_that_is_shorter_than_it_says_is_refused():
    assert Part(2, 5, None, 2).read(Short()).shape == (3, 2)
    with pytest.raises(DataError, match=r"pool\[5:9\] has shape \(2, 2\); expected \(4, 2\)"):
        Part(5, 9, np.array([0, 1]), 5).read(Short())


class Pool:
    """Candidates that are their own positions; notes who reads which, and may do more."""

    def __init__(self, n, also=lambda start: None):
        self.shape, self.also, self.read = (n,), also, []

    def __getitem__(self, key):
        self.read.append((key.start, threading.current_thread()))
        self.also(key.start)
        return np.arange(self.shape[0])[key]


class Bar:
    def __init__(self):
        self.steps = []

    def advance(self, steps):
        self.steps.append(steps)


@pytest.mark.parametrize("with_bar", [True, False])
@pytest.mark.parametrize("n_workers", [0, 1, 3])
def test_every_part_is_read_here_computed_there_and_done_here(n_workers, with_bar):
    here, pool, bar, done, workers = threading.current_thread(), Pool(23), Bar(), {}, set()

    def work(part, candidates):
        workers.add(threading.current_thread())
        return {"square": candidates**2}

    def note(part, results):
        assert threading.current_thread() is here
        assert part.start not in done
        done[part.start] = results["square"].tolist()

    cut = list(as_parts(23, 5))
    scan(pool, cut, work, n_workers=n_workers, done=note, bar=bar if with_bar else None)
    assert done == {start: [i**2 for i in range(23)[start:][:5]] for start in range(0, 23, 5)}
    assert pool.read == [(start, here) for start in range(0, 23, 5)]
    assert sorted(bar.steps) == ([3, 5, 5, 5, 5] if with_bar else [])
    assert len(workers) <= max(1, n_workers)
    assert (here in workers) == (n_workers == 0)


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_one_part_waits_for_each_that_is_computed(n_workers):
    """However slow the workers are, that many parts are in memory, and no more."""
    done, present, all_read = [], [], threading.Event()

    def count(start):
        present.append(start + 1 - len(done))
        if start + 1 == 2 * n_workers:
            all_read.set()

    def work(part, candidates):
        all_read.wait(5)
        return {}

    cut = list(as_parts(12, 1))
    scan(Pool(12, count), cut, work, n_workers=n_workers, done=lambda p, _: done.append(p.start))
    assert sorted(done) == list(range(12))
    assert max(present) == 2 * n_workers


def test_nobody_waits_for_the_slowest():
    others_done, done = threading.Event(), []

    def work(part, candidates):
        return {"in_time": np.array(part.start > 0 or others_done.wait(10))}

    def note(part, results):
        assert results["in_time"]
        done.append(part.start)
        if len(done) == 11:
            others_done.set()

    scan(Pool(12), list(as_parts(12, 1)), work, n_workers=2, done=note)
    assert done[-1] == 0
    assert sorted(done) == list(range(12))


@pytest.mark.parametrize("fails", [None, 0])
def test_what_is_being_computed_when_one_interrupts_is_kept(fails, monkeypatch):
    """Two parts are being computed and one waits when the fourth is read."""
    begun, may_end, computed, done = threading.Semaphore(0), threading.Event(), [], []

    class Executor(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            may_end.set()
            super().shutdown(wait=wait)

    def interrupt(start):
        if start == 3:
            assert begun.acquire(timeout=30)
            assert begun.acquire(timeout=30)
            raise KeyboardInterrupt

    def work(part, candidates):
        begun.release()
        assert may_end.wait(30)
        computed.append(part.start)
        if part.start == fails:
            raise ValueError("spoilt")
        return {"half": candidates / 2}

    monkeypatch.setattr(parts, "ThreadPoolExecutor", Executor)
    with pytest.raises(KeyboardInterrupt):
        scan(
            Pool(9, interrupt),
            list(as_parts(9, 1)),
            work,
            n_workers=2,
            done=lambda part, results: done.append((part.start, results["half"].tolist())),
        )
    assert sorted(computed) == [0, 1]
    assert sorted(done) == [(k, [k / 2]) for k in (0, 1) if k != fails]


def test_no_thread_is_left_when_all_is_done(monkeypatch):
    kept, before = [], threading.active_count()

    class Executor(ThreadPoolExecutor):
        """Outlives the call: threads of one that is forgotten end by themselves, some time."""

        def __init__(self, *args, **params):
            super().__init__(*args, **params)
            kept.append(self)

    monkeypatch.setattr(parts, "ThreadPoolExecutor", Executor)
    scan(Pool(9), list(as_parts(9, 1)), lambda *_: {}, n_workers=2, done=lambda *_: None)
    assert kept
    assert threading.active_count() == before


def test_an_error_of_a_worker_comes_out_and_no_thread_is_left():
    before, done = threading.active_count(), []

    def work(part, candidates):
        if part.start == 4:
            raise ValueError("spoilt")
        return {}

    cut = list(as_parts(40, 1))
    with pytest.raises(ValueError, match="spoilt"):
        scan(Pool(40), cut, work, n_workers=2, done=lambda part, _: done.append(part.start))
    assert threading.active_count() == before
    assert len(set(done)) == len(done)
    assert {0, 1, 2, 3} <= set(done)
    assert 4 not in done
