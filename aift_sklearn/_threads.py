"""On how many threads to compute, and how they wait: a good neighbour on a machine that is shared.

Threads of one computation wait for each other many times a second. OpenMP's spin while they wait,
which gains a little on an idle machine; on a busy one they spin in the place of the thread that
they wait for, and training takes ten times as long. So they are told to sleep instead, which has
to be said before the library is loaded. Where somebody else has loaded it, and in BLAS, which
cannot be told, there are fewer threads while other processes keep the cores busy.

What the user has set wins: the variables of `_BY_USER`, and ``torch.set_num_threads``.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["blas_threads", "compute_threads", "count_threads", "free_cores", "passive_waiting"]

# Sleeping at once costs a call of the system for every wait: GNU's OpenMP looks a thousand times
# before, a few microseconds, which is as good on a busy machine and better on an idle one.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
# Variables by which users say how OpenMP and the libraries of linear algebra are to behave.
_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS")
_OF_TORCH = _BY_USER[:2]
# Numbers in a batch below which a second thread brings nothing: more than 32 images of 32 x 32.
_SMALL_BATCH = 2**17

# Whether torch's threads sleep while they wait.
_sleeps = threading.Event()


def count_threads(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the cores that this process may use.

    By its affinity, by its container's quota, and by ``OMP_NUM_THREADS``, which schedulers of
    clusters set.

    Parameters
    ----------
    cgroup : Path
        Where the container's limits lie.

    Returns
    -------
    int
        At least 1.
    """
    cores = _affinity()
    with contextlib.suppress(ValueError):
        # Of several levels of parallel regions the first counts.
        cores = min(cores, max(1, int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])))
    try:
        quota, period = (cgroup / "cpu.max").read_text("ascii").split()[:2]
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        # No such file outside containers, and "max" where there is no limit.
        pass
    return cores


def free_cores(proc: Path = Path("/proc"), *, cores: int | None = None) -> int:
    """Count the cores of this process that others leave free at the moment.

    Parameters
    ----------
    proc : Path
        Where the system tells what runs.
    cores : int, optional
        Those of this process, by default `count_threads`.

    Returns
    -------
    int
        At least 1; all where the system does not tell.
    """
    cores = count_threads() if cores is None else cores
    if cores == 1:
        return 1
    others = []
    # What runs for an instant only is no load.
    for _ in range(3):
        try:
            running = int((proc / "loadavg").read_text("ascii").split()[3].split("/")[0])
        except (OSError, ValueError, IndexError):
            return cores
        others.append(running - _own_running(proc))
        time.sleep(5e-4)
    return max(1, min(cores, (os.cpu_count() or 1) - max(0, min(others))))


def _own_running(proc: Path) -> int:
    """Threads of this process that run or could."""
    n = 0
    for stat in (proc / "self" / "task").glob("*/stat"):
        # A thread may end between the two.
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything.
            n += stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:1] == ["R"]
    return max(1, n)


@contextlib.contextmanager
def passive_waiting() -> Iterator[None]:
    """Let what is loaded inside the block wait asleep, unless the user says how it is to wait.

    Examples
    --------
    >>> with passive_waiting():
    ...     import torch
    """
    if "torch" in sys.modules or any(name in os.environ for name in _WAITING):
        # Loaded already, or said by the user.
        if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
            _sleeps.set()
        yield
        return
    os.environ.update(_WAITING)
    try:
        yield
        if "torch" in sys.modules:
            _sleeps.set()
    finally:
        # Other programs that this process starts are not ours.
        for name in _WAITING:
            os.environ.pop(name, None)


@contextlib.contextmanager
def compute_threads(n_numbers: int) -> Iterator[None]:
    """Compute with torch inside the block, on as many threads as pay, and as others leave free.

    Only lowers what is set, and only where the user has set nothing.

    Parameters
    ----------
    n_numbers : int
        Numbers in a batch of what is computed; of few a single thread is faster.
    """
    torch: Any = sys.modules["torch"]
    before = torch.get_num_threads()
    if before == 1 or _set_by_user(before):
        yield
        return
    # How many threads there are shows in the last digits of a sum. Where it does no harm they do
    # not depend on what else runs, so that a seed gives one network.
    cores = count_threads() if _sleeps.is_set() else free_cores()
    torch.set_num_threads(1 if n_numbers < _SMALL_BATCH else min(cores, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def blas_threads() -> Iterator[None]:
    """Compute inside the block with linear algebra on as many threads as others leave free."""
    if any(name in os.environ for name in _BY_USER):
        yield
        return
    cores = count_threads()
    free = free_cores(cores=cores)
    if free == cores:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(free, user_api="blas"):
        yield


def _set_by_user(n_threads: int) -> bool:
    """Whether torch's number of threads is another than it begins with."""
    if any(name in os.environ for name in _OF_TORCH):
        return True
    from joblib import cpu_count

    logical = _affinity()
    return n_threads not in (logical, min(logical, cpu_count(only_physical_cores=True)))


def _affinity() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
