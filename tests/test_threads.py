"""A good neighbour: threads by affinity, quota and load, asleep while they wait; the user wins."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, _threads
from aift_sklearn._threads import blas_threads, compute_threads, count_threads, free_cores

CORES = len(os.sched_getaffinity(0))
BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS")

several = pytest.mark.skipif(CORES < 2, reason="there is one core")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in (*BY_USER, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def two_threads(monkeypatch):
    """As torch begins on these cores, its threads asleep while they wait."""
    monkeypatch.setattr(_threads, "_sleeps", event := _threads.threading.Event())
    event.set()
    before = torch.get_num_threads()
    torch.set_num_threads(CORES)
    yield event
    torch.set_num_threads(before)


def test_threads_follow_affinity_and_quota(tmp_path):
    for text, expected in (
        ("max 100000", CORES),
        ("100000 100000", 1),
        ("150000 100000", min(2, CORES)),
        ("1000 100000", 1),
        ("rubbish", CORES),
    ):
        (tmp_path / "cpu.max").write_text(text)
        assert count_threads(tmp_path) == expected
    assert count_threads(tmp_path / "nowhere") == CORES


@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), ("1,4", 1), ("9999", CORES), ("", CORES), ("two", CORES)]
)
def test_threads_follow_what_a_scheduler_sets(value, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert count_threads(tmp_path) == expected


def proc_with(folder, *, running, own):
    """A /proc in which so many threads run, some of them this process's own."""
    (folder / "loadavg").write_text(f"9.00 9.00 9.00 {running}/321 4711\n")
    for k in range(own + 3):
        task = folder / "self" / "task" / str(k)
        task.mkdir(parents=True)
        state = "R" if k < own else "S"
        (task / "stat").write_text(f"{k} (a name) with R in it) {state} 1 1 1 0")
    return folder


@pytest.mark.parametrize(
    ("others", "own", "cores", "expected"),
    [
        (0, 1, 2, 2),
        (0, 4, 2, 2),
        (1, 1, 2, 1),
        (2, 3, 2, 1),
        (50, 1, 2, 1),
        (1, 1, 8, 7),
        (7, 1, 8, 1),
        (0, 1, 1, 1),
    ],
)
def test_cores_that_others_use_are_not_free(others, own, cores, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    proc = proc_with(tmp_path, running=others + own, own=own)
    assert free_cores(proc, cores=cores) == expected


def test_on_a_large_machine_a_small_share_of_it_may_be_free(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    proc = proc_with(tmp_path, running=41, own=1)
    assert free_cores(proc, cores=2) == 2
    assert free_cores(proc, cores=64) == 24


@pytest.mark.parametrize("text", [None, "", "0.1 0.1"])
def test_where_the_system_does_not_tell_all_cores_are_free(text, tmp_path):
    if text is not None:
        (tmp_path / "loadavg").write_text(text)
    assert free_cores(tmp_path, cores=5) == 5


def test_own_threads_that_run_are_no_load():
    assert 1 <= free_cores() <= CORES


@several
def test_small_batches_are_computed_on_one_thread(two_threads):
    with compute_threads(16 * 3 * 16 * 16):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == CORES
    with compute_threads(32 * 3 * 64 * 64):
        assert torch.get_num_threads() == CORES
    with pytest.raises(KeyError), compute_threads(1):
        raise KeyError
    assert torch.get_num_threads() == CORES


@several
def test_threads_that_would_spin_leave_busy_cores_to_others(two_threads, monkeypatch):
    monkeypatch.setattr(_threads, "free_cores", lambda: 1)
    with compute_threads(10**6):
        assert torch.get_num_threads() == CORES, "asleep, they leave them anyway"
    two_threads.clear()
    with compute_threads(10**6):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == CORES


@several
@pytest.mark.parametrize("name", BY_USER[:2])
def test_what_the_user_has_set_wins(name, two_threads, monkeypatch):
    monkeypatch.setattr(_threads, "free_cores", lambda: 1)
    two_threads.clear()
    with compute_threads(10**6):
        assert torch.get_num_threads() == 1
    monkeypatch.setenv(name, str(CORES))
    for n_numbers in (1, 10**6):
        with compute_threads(n_numbers):
            assert torch.get_num_threads() == CORES
    monkeypatch.delenv(name)
    # More than there are cores: somebody wants that.
    torch.set_num_threads(CORES + 3)
    with compute_threads(1):
        assert torch.get_num_threads() == CORES + 3


def blas():
    return max(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")


@several
def test_linear_algebra_leaves_busy_cores_to_others(monkeypatch):
    before = blas()
    monkeypatch.setattr(_threads, "free_cores", lambda **_: 1)
    with blas_threads():
        assert blas() == 1
    assert blas() == before
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", str(before))
    with blas_threads():
        assert blas() == before
    monkeypatch.undo()
    monkeypatch.setattr(_threads, "free_cores", lambda **_: CORES)
    with blas_threads():
        assert blas() == before


class Noting(nn.Module):
    """Notes how many threads compute it."""

    def __init__(self):
        super().__init__()
        self.conv, self.seen = nn.Conv2d(3, 4, 3), []

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.seen.append(torch.get_num_threads())
        return self.conv(x).mean((2, 3))


@several
@pytest.mark.parametrize(("size", "expected"), [(12, 1), (96, CORES)])
def test_training_and_prediction_choose_their_threads(size, expected, two_threads):
    network = Noting()
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (16, 3, size, size), dtype=np.uint8)
    cnn = CNNClassifier(network, pretrained=False, max_epochs=1, batch_size=16)
    model = AIFTClassifier(cnn, patches=AffinePatches(2), backend="torch", random_state=0)
    model.fit(X, np.arange(16) % 2)
    network.seen.clear()
    model.partial_fit(X, np.arange(16) % 2)
    assert set(network.seen) == {expected}
    network.seen.clear()
    model.predict_proba(X)
    assert set(network.seen) == {expected}
    assert torch.get_num_threads() == CORES


def told_by_openmp(code, **environment):
    """How often OpenMP's libraries look before they sleep, and what the code prints."""
    env = {name: value for name, value in os.environ.items() if name not in BY_USER}
    env |= {"OMP_DISPLAY_ENV": "verbose", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    counts = [line.split("'")[1] for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    return [int(count) for count in counts], done.stdout


ASK = (
    "import os; from aift_sklearn import _threads; "
    "print(_threads._sleeps.is_set(), os.environ.get('OMP_WAIT_POLICY'))"
)


@pytest.mark.parametrize(
    ("code", "environment", "spins", "expected"),
    [
        ("import aift_sklearn.networks", {}, [1000], "True None"),
        ("import aift_sklearn.cli, aift_sklearn.networks", {}, [1000], "True None"),
        ("import torch, aift_sklearn.networks", {}, [1, 10**6], "False None"),
        (
            "import aift_sklearn.networks",
            {"OMP_WAIT_POLICY": "active"},
            [10**8, 10**12],
            "False active",
        ),
    ],
    ids=["package", "command", "torch before", "set by the user"],
)
def test_openmp_is_told_to_sleep_before_it_is_loaded(code, environment, spins, expected):
    told, printed = told_by_openmp(f"{code}; {ASK}", **environment)
    if not told:
        pytest.skip("this torch has another OpenMP than GNU's, which does not tell")
    assert all(spins[0] <= count <= spins[-1] for count in told)
    assert printed.strip() == expected
