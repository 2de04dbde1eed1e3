"""What a study is to run: pools × settings × strategies × seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import ParameterError
from ...models import build_model
from ...query import aift_sampling, random_sampling
from ..datasets import Dataset
from ..sources import open_dataset
from ..strategies import Strategy

__all__ = ["FIRST_BATCHES", "NEEDED", "Plan", "PoolPlan", "SettingPlan"]

FIRST_BATCHES: dict[str, Strategy | Literal["own"]] = {
    "AIFT": aift_sampling,
    "random": random_sampling,
    "own": "own",
}
"""First batches by name: the cold start of AIFT or a random draw, shared by all strategies of a
seed; or each strategy's own."""

NEEDED = ("random", "AIFT")
"""Strategies that every setting runs, since the others are compared with them."""


@dataclass(frozen=True)
class PoolPlan:
    """A pool with known labels, and how much of it is asked.

    Attributes
    ----------
    name : str
        What it is called.
    data : str
        As of `open_dataset`.
    views : str
        Family of views, a key of `aift_sklearn.models.VIEWS`.
    rounds, batch : int
        As of `simulate`: its ``n_rounds`` and ``n_instances``.
    options : dict
        Of the loader: ``size``, ``max_pool`` ...
    """

    name: str
    data: str
    views: str
    rounds: int
    batch: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> Dataset:
        """Read it."""
        return open_dataset(self.data, **self.options)


@dataclass(frozen=True)
class SettingPlan:
    """What learns and how, the same for all strategies that are compared.

    Attributes
    ----------
    name : str
        What it is called.
    strategies : tuple of str
        Names that `build_strategy` knows.
    seeds : tuple of int
        One campaign of each strategy on each pool per seed.
    pools : tuple of str
        Names of the pools that it is run on.
    model : str
        A key of `aift_sklearn.models.MODELS`.
    patches : int
        Views of each candidate, m.
    parameters : dict
        Other parameters of the model, as of its ``set_params``.
    restart, groups, pool_weights
        As of `simulate`.
    first_batch : str
        A key of `FIRST_BATCHES`.
    """

    name: str
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    pools: tuple[str, ...]
    model: str
    patches: int
    parameters: Mapping[str, Any]
    restart: bool
    groups: bool
    pool_weights: bool | Literal["auto"]
    first_batch: str

    def build(self, views: str) -> Any:
        """Build the model, for a family of views."""
        built = build_model(self.model, views=views, n_patches=self.patches)
        try:
            return built.set_params(**self.parameters)
        except ValueError as error:
            raise ParameterError(
                f"setting {self.name!r}: the model {self.model!r} has no such parameter: {error}"
            ) from error

    def told(self) -> dict[str, Any]:
        """What learns and how, for the rows that it makes."""
        return {
            "model": self.model,
            "patches": self.patches,
            **self.parameters,
            "restart": self.restart,
            "groups": self.groups,
            "pool_weights": self.pool_weights,
            "first_batch": self.first_batch,
        }


@dataclass(frozen=True)
class Plan:
    """Pools × settings × strategies × seeds.

    Attributes
    ----------
    title : str
        Of its report.
    pools : tuple of PoolPlan
        What is asked.
    settings : tuple of SettingPlan
        What learns.
    text : str
        The file as it was read.
    """

    title: str
    pools: tuple[PoolPlan, ...]
    settings: tuple[SettingPlan, ...]
    text: str

    def pool(self, name: str) -> PoolPlan:
        """Return the pool of this name."""
        return next(pool for pool in self.pools if pool.name == name)

    @property
    def n_rounds(self) -> int:
        """Rounds of all campaigns together."""
        return sum(
            self.pool(name).rounds * len(setting.strategies) * len(setting.seeds)
            for setting in self.settings
            for name in setting.pools
        )
