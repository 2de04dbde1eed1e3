"""Runs a plan: every campaign that is missing, in several processes, each round kept at once."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import queue
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from ..._checks import check_int
from ..._writing import as_path, write_atomically
from ...errors import OutOfMemoryError, ParameterError
from ...progress import ProgressBar
from ..datasets import Dataset
from ..demo import build_model
from ..frozen import can_freeze, freeze
from ..simulate import simulate, whole_pool
from . import provenance
from .campaigns import campaign_rows, write_campaigns
from .plan import FIRST_BATCHES, Plan, PoolPlan, SettingPlan

__all__ = ["run_plan"]

# Each process computes on one thread: the answers do not depend on how many work beside it.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Seconds between two looks at what the processes have done.
_TICK = 0.5


@dataclass(frozen=True)
class _Task:
    """Campaigns of all strategies of one setting on one pool, with one seed."""

    pool: PoolPlan
    setting: SettingPlan
    seed: int | None
    """None: train on the whole pool, once."""

    def path(self, out: Path) -> Path:
        """Where its rounds are kept."""
        folder = out / "rounds" / _as_file(self.pool.name) / _as_file(self.setting.name)
        return folder / ("whole-pool.json" if self.seed is None else f"seed-{self.seed}.jsonl")


def _as_file(name: str) -> str:
    """Turn a name into that of a file, different for different names."""
    plain = re.sub(r"[^\w-]+", "-", name).strip("-").lower()
    return plain if plain == name else f"{plain}-{sum(map(ord, name)) % 1000:03d}"


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
        depend on their number.
    verbose : bool, default=True
        Whether a progress bar is shown.

    Returns
    -------
    Path
        ``campaigns.jsonl`` in that folder: one row per pool, setting, strategy and seed, with the
        code's commit, releases and parameters; see `read_campaigns`.

    Raises
    ------
    ParameterError
        If the folder holds rounds of other settings, or is being written by another study.
    DataError
        If data cannot be read.
    OutOfMemoryError
        If a process was ended from outside, as systems do when memory runs out.
    """
    out = as_path(out)
    n_jobs = (os.cpu_count() or 1) if jobs is None else check_int("jobs", jobs, minimum=1)
    out.mkdir(parents=True, exist_ok=True)
    try:
        facts = _prepare(plan, out, verbose=verbose)
        _run_tasks(list(_tasks(plan)), out, n_jobs, plan.n_rounds, verbose=verbose)
    finally:
        collected = [row for task in _tasks(plan) for row in _finished(task, out)]
        if collected:
            write_campaigns(collected, out / "campaigns.jsonl")
    for task in _tasks(plan):
        if task.seed is None:
            whole = json.loads(task.path(out).read_text("utf-8"))
            facts["pools"][task.pool.name].setdefault("whole", {})[task.setting.name] = whole
    write_atomically(out / "study.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return out / "campaigns.jsonl"


def _tasks(plan: Plan) -> Iterator[_Task]:
    """Seed by seed, so that a study that is stopped has all settings with the same seeds."""
    whole = [_Task(plan.pool(name), s, None) for s in plan.settings for name in s.pools]
    yield from whole
    for seed in sorted({seed for setting in plan.settings for seed in setting.seeds}):
        for setting in plan.settings:
            if seed in setting.seeds:
                yield from (_Task(plan.pool(name), setting, seed) for name in setting.pools)


def _prepare(plan: Plan, out: Path, *, verbose: bool) -> dict[str, Any]:
    """Read every pool, and embed what stays as it is, once for all processes."""
    facts: dict[str, Any] = {
        "title": plan.title,
        "plan": plan.text,
        "machine": provenance.machine(),
        "pools": {},
    }
    for pool in plan.pools:
        data = _opened(pool)
        facts["pools"][pool.name] = {
            "dataset": repr(data),
            "description": data.description,
            "source": data.source,
            "licence": data.licence,
            "n_candidates": data.n_candidates,
            "shares": {str(c): round(float((data.y == c).mean()), 4) for c in data.classes},
        }
        for setting in plan.settings:
            if pool.name in setting.pools:
                model = _embedding_model(pool, setting)
                freeze(data, model, folder=_embeddings(out), verbose=int(verbose))
    return facts


def _embedding_model(pool: PoolPlan, setting: SettingPlan) -> Any:
    """The model of a setting, or, where that learns to embed, one that does not."""
    model = setting.build(pool.views)
    if can_freeze(model):
        return model
    return build_model("features", views=pool.views, n_patches=2)


def _embeddings(out: Path) -> Path:
    return out / "embeddings"


@functools.lru_cache(maxsize=4)
def _open_once(data: str, options: tuple[tuple[str, Any], ...]) -> Dataset:
    return PoolPlan("", data, "", 0, 0, dict(options)).open()


def _opened(pool: PoolPlan) -> Dataset:
    return _open_once(pool.data, tuple(sorted(pool.options.items())))


def _run_tasks(
    tasks: Sequence[_Task], out: Path, n_jobs: int, n_rounds: int, *, verbose: bool
) -> None:
    with ProgressBar("simulating", n_rounds, enabled=verbose) as bar, _one_thread():
        if n_jobs == 1:
            for task in tasks:
                _run(task, out, bar.advance)
        else:
            _run_in_processes(tasks, out, n_jobs, bar)


def _run_in_processes(tasks: Sequence[_Task], out: Path, n_jobs: int, bar: ProgressBar) -> None:
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    pool = ProcessPoolExecutor(n_jobs, context, _begin, (done,))
    try:
        waiting: set[Future[None]] = {pool.submit(_run_and_tell, task, out) for task in tasks}
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
            f"memory runs out. Finished rounds are kept in {out}: go on with fewer jobs."
        ) from error
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown()


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
    """Keep, in a new process, where it tells of finished rounds."""
    global _done  # noqa: PLW0603
    _done = done


def _run_and_tell(task: _Task, out: Path) -> None:
    with _one_thread():
        _run(task, out, _done.put)


def _run(task: _Task, out: Path, tell: Callable[[int], None]) -> None:
    """Run one task, and tell how many rounds are finished; of those run before at once."""
    path, setting = task.path(out), task.setting
    data, model = _opened(task.pool), setting.build(task.pool.views)
    path.parent.mkdir(parents=True, exist_ok=True)
    if task.seed is None:
        if not path.exists():
            reached = whole_pool(data, model, precompute=_embeddings(out))
            write_atomically(path, json.dumps(reached))
        return
    n_known = path.read_bytes().count(b"\n") if path.exists() else 0
    tell(n_known)
    if n_known < task.pool.rounds * len(setting.strategies):
        _note_maker(path)
    table = simulate(
        data,
        model,
        setting.strategies,
        n_rounds=task.pool.rounds,
        n_instances=task.pool.batch,
        seeds=[task.seed],
        restart=setting.restart,
        groups=setting.groups,
        pool_weights=setting.pool_weights,
        first_batch=FIRST_BATCHES[setting.first_batch],
        path=path,
        precompute=_embeddings(out),
        on_round=lambda row: tell(1),
    )
    rows = campaign_rows(table, data, places=_places(task, out), **_told(task, path))
    write_campaigns(rows, path.with_suffix(".campaigns"))


def _told(task: _Task, path: Path) -> dict[str, Any]:
    """What every row of a task says of itself."""
    setting = task.setting
    parameters = {
        "model": setting.model,
        "patches": setting.patches,
        **setting.parameters,
        "restart": setting.restart,
        "pool_weights": setting.pool_weights,
        "first_batch": setting.first_batch,
        "batch": task.pool.batch,
    }
    return {
        "pool": task.pool.name,
        "setting": setting.name,
        "parameters": parameters,
        "made": _makers(path),
    }


def _makers(path: Path) -> list[str]:
    beside = path.with_suffix(".made")
    return beside.read_text("utf-8").splitlines() if beside.exists() else []


def _note_maker(path: Path) -> None:
    """Note the code that makes the rounds of a file from here on."""
    maker = f"commit {provenance.commit() or 'unknown'}; {provenance.versions()}"
    known = _makers(path)
    if maker not in known:
        write_atomically(path.with_suffix(".made"), "\n".join([*known, maker]) + "\n")


def _places(task: _Task, out: Path) -> np.ndarray[Any, Any]:
    """Where the candidates of the pool lie: whole, by the network as pre-trained, (n, E)."""
    model = _embedding_model(task.pool, task.setting)
    positions, frozen = freeze(_opened(task.pool), model, folder=_embeddings(out))
    return np.asarray(frozen.estimator.steps[0][1].transform(positions.X))


def _finished(task: _Task, out: Path) -> list[dict[str, Any]]:
    path = task.path(out).with_suffix(".campaigns")
    if task.seed is None or not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise ParameterError(
            f"{path} is damaged; remove it, and run the study again: its rounds are kept."
        ) from error
