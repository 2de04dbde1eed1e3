"""Runs a plan: every campaign that is missing, in several processes, each round kept at once."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from ..._checks import check_int
from ..._file_lock import FileLock
from ..._writing import as_path, write_atomically
from ...errors import OutOfMemoryError, ParameterError
from ...progress import ProgressBar
from ..simulate import check_dataset
from . import provenance
from .campaigns import write_campaigns
from .plan import Plan
from .tasks import Task, opened, tasks_of

__all__ = ["run_plan"]

# Each process computes on one thread: the answers do not depend on how many work beside it.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Seconds between two looks at what the processes have done.
_TICK = 0.5


def run_plan(
    plan: Plan, out: str | os.PathLike[str], *, jobs: int | None = None, verbose: bool = True
) -> Path:
    """Run what a plan lists, as far as it was not run before.

    Parameters
    ----------
    plan : Plan
        Read by `read_plan`.
    out : path-like
        Folder, made where it does not exist. Every finished round is kept in it at once, and an
        interrupted study goes on; one whose plan was extended runs what is new. Rows of other
        settings are never mixed in, as of `simulate`.
    jobs : int, optional
        Processes; by default as many as cores. Each computes on one thread, so that the rows do not
        depend on their number. A script that calls this with more than one has to do so below
        ``if __name__ == "__main__":``, as with anything that starts processes.
    verbose : bool, default=True
        Whether a progress bar is shown.

    Returns
    -------
    Path
        ``campaigns.jsonl`` in that folder: one row per pool, setting, strategy and seed, with the
        code's commit, releases and parameters; see `read_campaigns`. Of an interrupted study it
        holds the seeds of which every strategy is finished. ``study.json`` beside it holds facts
        about the pools.

    Raises
    ------
    ParameterError
        If the folder holds rounds of other settings, or another study runs in it, or a pool is too
        small for what is to be asked.
    DataError
        If data cannot be read.
    OutOfMemoryError
        If a process was ended from outside, as systems do when memory runs out.
    """
    out = as_path(out)
    n_jobs = (os.cpu_count() or 1) if jobs is None else check_int("jobs", jobs, minimum=1)
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / "study.lock")
    if not lock.acquire():
        raise ParameterError(
            f"another study runs in {out} ({lock.holder()}). Wait until it is done, or use another "
            "folder."
        )
    try:
        facts = _read_pools(plan, out)
        tasks = list(tasks_of(plan, out))
        try:
            _embed(tasks, verbose=verbose)
            _run_tasks(tasks, n_jobs, plan.n_rounds, verbose=verbose)
        finally:
            _collect(tasks, facts, out)
    finally:
        lock.release()
    return out / "campaigns.jsonl"


def _read_pools(plan: Plan, out: Path) -> dict[str, Any]:
    """Read every pool, and see that it is large enough, before anything slow begins."""
    facts: dict[str, Any] = {
        "title": plan.title,
        "plan": plan.text,
        "machine": provenance.machine(),
        "pools": {},
    }
    for pool in plan.pools:
        data = opened(pool)
        check_dataset(data, pool.rounds * pool.batch)
        facts["pools"][pool.name] = {
            "dataset": repr(data),
            "description": data.description,
            "source": data.source,
            "licence": data.licence,
            "n_candidates": data.n_candidates,
            "shares": {str(c): round(float((data.y == c).mean()), 4) for c in data.classes},
            "rounds": pool.rounds,
            "batch": pool.batch,
            "views": pool.views,
            "whole": {},
        }
        for setting in plan.settings:
            if setting.groups and pool.name in setting.pools and data.groups is None:
                raise ParameterError(
                    f"setting {setting.name!r} says groups, but the pool {pool.name!r} has none."
                )
    return facts


def _embed(tasks: Sequence[Task], *, verbose: bool) -> None:
    for task in {(task.pool.name, task.setting.name): task for task in tasks}.values():
        task.embed(verbose=verbose)


def _collect(tasks: Sequence[Task], facts: dict[str, Any], out: Path) -> None:
    """Write what is finished, campaigns and facts together."""
    rows = [row for task in tasks for row in task.finished()]
    if not rows:
        return
    for task in tasks:
        whole = facts["pools"][task.pool.name]["whole"]
        if task.setting.name not in whole:
            whole[task.setting.name] = task.whole_pool() or {}
    write_campaigns(rows, out / "campaigns.jsonl")
    write_atomically(out / "study.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _run_tasks(tasks: Sequence[Task], n_jobs: int, n_rounds: int, *, verbose: bool) -> None:
    # Of tasks with the same data and model, one measures the whole pool.
    firsts = {(task.pool.name, task.setting.name): task for task in tasks}.values()
    wholes = {task.whole_path(): task for task in firsts}.values()
    calls = [*((task, True) for task in wholes), *((task, False) for task in tasks)]
    with ProgressBar("simulating", n_rounds, enabled=verbose) as bar, _one_thread():
        if n_jobs == 1:
            for task, whole in calls:
                task.measure_whole_pool() if whole else task.run(bar.advance)
        else:
            _run_in_processes(calls, n_jobs, bar)


def _run_in_processes(calls: Sequence[tuple[Task, bool]], n_jobs: int, bar: ProgressBar) -> None:
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(n_jobs, context, _begin, (done,))
    try:
        waiting: set[Future[None]] = {pool.submit(_run, *call) for call in calls}
        while waiting:
            finished, waiting = wait(waiting, _TICK, FIRST_COMPLETED)
            with contextlib.suppress(queue.Empty):
                while True:
                    bar.advance(done.get_nowait())
            for future in finished:
                future.result()
    except BrokenProcessPool as error:
        raise OutOfMemoryError(
            f"one of {n_jobs} processes of the study was ended from outside, as systems do when "
            "memory runs out: go on with fewer jobs; finished rounds are kept. A script has to "
            'call run_plan below if __name__ == "__main__":, or its processes cannot begin.'
        ) from error
    except BaseException:
        # Before the pool forgets them. What they have not finished is run again another time.
        processes = set(multiprocessing.active_children()) - others
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    finally:
        pool.shutdown()
        done.close()
        done.join_thread()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread inside the block, and in the processes that are begun inside it."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    n_threads = torch.get_num_threads()
    os.environ.update(_ONE_THREAD)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


_done: Any = None


def _begin(done: Any) -> None:
    """Keep, in a new process, where it tells of finished rounds; end with the one that began it."""
    global _done  # noqa: PLW0603
    _done = done
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _run(task: Task, whole: bool) -> None:
    with _one_thread():
        task.measure_whole_pool() if whole else task.run(_done.put)
