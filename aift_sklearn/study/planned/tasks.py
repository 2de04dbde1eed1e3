"""One task of a plan: the campaigns of one setting on one pool with one seed, on disk."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._writing import write_atomically
from ...models import build_model
from ..datasets import Dataset
from ..frozen import can_freeze, freeze
from ..identity import describe_dataset, describe_estimator
from ..simulate import simulate, whole_pool
from . import provenance
from .campaigns import campaign_rows, write_campaigns
from .plan import FIRST_BATCHES, Plan, PoolPlan, SettingPlan

__all__ = ["Task", "opened", "tasks_of"]

# Characters of a name that are kept in that of a folder.
_LONGEST = 40


@dataclass(frozen=True)
class Task:
    """Campaigns of all strategies of one setting on one pool, with one seed.

    Attributes
    ----------
    pool : PoolPlan
        What is asked.
    setting : SettingPlan
        What learns.
    seed : int
        Of the campaigns.
    out : Path
        Folder of the study.
    """

    pool: PoolPlan
    setting: SettingPlan
    seed: int
    out: Path

    @property
    def path(self) -> Path:
        """Where its rounds are kept."""
        folder = self.out / "rounds" / _as_file(self.pool.name) / _as_file(self.setting.name)
        return folder / f"seed-{self.seed}.jsonl"

    def run(self, tell: Callable[[int], None]) -> None:
        """Run what was not run before; tell of finished rounds, of earlier ones at once."""
        setting, path = self.setting, self.path
        data = opened(self.pool)
        path.parent.mkdir(parents=True, exist_ok=True)
        makers = _Makers(path.with_suffix(".made"))
        n_told = 0

        def note(row: dict[str, Any]) -> None:
            nonlocal n_told
            makers.note(row["strategy"])
            n_told += 1
            tell(1)

        table = simulate(
            data,
            setting.build(self.pool.views),
            setting.strategies,
            n_rounds=self.pool.rounds,
            n_instances=self.pool.batch,
            seeds=[self.seed],
            restart=setting.restart,
            groups=setting.groups,
            pool_weights=setting.pool_weights,
            first_batch=FIRST_BATCHES[setting.first_batch],
            path=path,
            precompute=_embeddings(self.out),
            on_round=note,
        )
        tell(len(table) - n_told)
        rows = campaign_rows(table, data, places=self._places())
        told = {
            "pool": self.pool.name,
            "setting": setting.name,
            "parameters": setting.told(),
            "batch": self.pool.batch,
        }
        rows = [{**told, **row, "made": makers.of(row["strategy"])} for row in rows]
        write_campaigns(rows, path.with_suffix(".campaigns"))

    def measure_whole_pool(self) -> None:
        """Train on all labels, unless that was done for the same data and model."""
        path = self.whole_path()
        if _read_json(path) is None:
            model = self.setting.build(self.pool.views)
            reached = whole_pool(opened(self.pool), model, precompute=_embeddings(self.out))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(reached))

    def whole_pool(self) -> dict[str, float] | None:
        """What `measure_whole_pool` found."""
        found: dict[str, float] | None = _read_json(self.whole_path())
        return found

    def whole_path(self) -> Path:
        """Where that is kept: a file of its own for other data and another model."""
        told = describe_dataset(opened(self.pool)) | describe_estimator(
            self.setting.build(self.pool.views)
        )
        name = f"whole-pool-{_digest(json.dumps(told, sort_keys=True))}.json"
        return self.out / "rounds" / _as_file(self.pool.name) / name

    def embed(self, *, verbose: bool) -> None:
        """Embed what stays as it is, once for all tasks."""
        freeze(
            opened(self.pool),
            _embedding_model(self.pool, self.setting),
            folder=_embeddings(self.out),
            verbose=int(verbose),
        )

    def _places(self) -> NDArray[Any]:
        """Where the candidates of the pool lie: whole, by the network as pre-trained, (n, E)."""
        model = _embedding_model(self.pool, self.setting)
        positions, frozen = freeze(opened(self.pool), model, folder=_embeddings(self.out))
        return np.asarray(frozen.estimator.steps[0][1].transform(positions.X))

    def finished(self) -> list[dict[str, Any]]:
        """Rows of its campaigns, once all are finished; a damaged file is written again."""
        path = self.path.with_suffix(".campaigns")
        try:
            rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        except (OSError, ValueError):
            return []
        # Of a plan as it was, perhaps.
        wanted = [row for row in rows if row["strategy"] in self.setting.strategies]
        lengths = {len(row["n_labels"]) for row in wanted}
        whole = len(wanted) == len(self.setting.strategies) and lengths == {self.pool.rounds}
        return wanted if whole else []


class _Makers:
    """Which code made the rounds of each strategy in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, list[str]] = _read_json(path) or {}
        code = f"commit {provenance.commit() or 'unknown'}"
        self.now = f"{code}; {provenance.versions()}; {provenance.machine()}"

    def note(self, strategy: str) -> None:
        """Note that a round was made by the code that runs now."""
        made = self.known.setdefault(strategy, [])
        if self.now not in made:
            made.append(self.now)
            write_atomically(self.path, json.dumps(self.known, indent=1))

    def of(self, strategy: str) -> list[str]:
        """Code that made the rounds of a strategy."""
        return self.known.get(strategy, [])


def tasks_of(plan: Plan, out: Path) -> Iterator[Task]:
    """Seed by seed, so that a study that is stopped has all settings with the same seeds."""
    for seed in sorted({seed for setting in plan.settings for seed in setting.seeds}):
        for setting in plan.settings:
            if seed in setting.seeds:
                yield from (Task(plan.pool(name), setting, seed, out) for name in setting.pools)


def _embedding_model(pool: PoolPlan, setting: SettingPlan) -> Any:
    """Return the model of a setting, or, where that learns to embed, one that does not."""
    model = setting.build(pool.views)
    if can_freeze(model):
        return model
    return build_model("features", views=pool.views, n_patches=2)


def opened(pool: PoolPlan) -> Dataset:
    """Read the data of a pool, once in a process."""
    return _open_once(pool.data, json.dumps(dict(pool.options), sort_keys=True))


@functools.lru_cache(maxsize=8)
def _open_once(data: str, options: str) -> Dataset:
    return PoolPlan("", data, "", 0, 0, json.loads(options)).open()


def _embeddings(out: Path) -> Path:
    return out / "embeddings"


def _as_file(name: str) -> str:
    """Turn a name into that of a folder, different for different names."""
    plain = re.sub(r"[^\w-]+", "-", name).strip("-").lower()[:_LONGEST]
    return f"{plain}-{_digest(name)[:6]}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read_json(path: Path) -> Any:
    """Read a file, or None where there is none that can be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
