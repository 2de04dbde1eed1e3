"""Reads the plan of a study from a TOML file; what it may not say is refused."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._checks import check_int, check_option
from ..._writing import as_path
from ...errors import DataError, ParameterError
from ...models import MODELS, VIEWS
from ..sources import INSIDE
from ..strategies import build_strategy
from .plan import FIRST_BATCHES, NEEDED, Plan, PoolPlan, SettingPlan

__all__ = ["read_plan"]

# Of the loaders of data, by what a plan and the command line call them.
_OF_THE_DATA = {
    "size": "size",
    "max_pool": "max_pool",
    "max_test": "max_test",
    "test_fraction": "test_fraction",
    "split_seed": "random_state",
}
# Parameters of the model that a plan says by other names, or that a study sets.
_SAID_OTHERWISE = ("patches", "estimator", "random_state", "classes")
_LARGEST_SEED = 2**32 - 1


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read the plan of a study.

    Parameters
    ----------
    path : path-like
        A TOML file. ``title``; tables ``[[pool]]`` with ``name``, ``data`` (as of `open_dataset`;
        paths are relative to the plan's folder) and perhaps ``views``, ``size``, ``max_pool``,
        ``max_test``, ``test_fraction``, ``split_seed``, ``parameters`` (others of the loader);
        tables ``[[setting]]`` with ``name`` and perhaps ``model``, ``patches``, ``parameters``,
        ``strategies``, ``seeds`` (how many, or a list), ``pools`` (names; by default all),
        ``restart``, ``groups``, ``pool_weights``, ``first_batch``. ``rounds`` and ``batch``
        belong to pools. Whatever else but names, data and parameters stands above the tables is the
        default of all of them.

    Returns
    -------
    Plan
        Checked: every strategy, model and name is known.

    Raises
    ------
    DataError
        If there is no such file, or it is no TOML.
    ParameterError
        If a key or a value is not known, or something is missing.

    Examples
    --------
    >>> import tempfile
    >>> text = '''
    ... seeds = 2
    ... strategies = ["random", "AIFT"]
    ... [[pool]]
    ... name = "nuclei"
    ... data = "tissue"
    ... [[setting]]
    ... name = "frozen"
    ... model = "features"
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "plan.toml").write_text(text)
    ...     plan = read_plan(Path(folder, "plan.toml"))
    >>> plan.settings[0].seeds, plan.pools[0].batch, plan.n_rounds
    ((0, 1), 20, 40)
    """
    path = as_path(path)
    try:
        # Some editors put a mark in front.
        text = path.read_text("utf-8-sig")
        told = tomllib.loads(text)
    except OSError as error:
        raise DataError(
            f"there is no file {path} that can be read; expected the plan of a study."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no TOML file: {error}.") from error
    return _Reader(path.parent).read(told, text)


class _Reader:
    """Turns what a file says into a plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, told: dict[str, Any], text: str) -> Plan:
        pools, settings = (_tables(told, name) for name in ("pool", "setting"))
        shared = {k: v for k, v in told.items() if k not in ("title", "pool", "setting")}
        _refuse_unknown("the plan", shared, [k for k in {**_POOL, **_SETTING} if k not in _OWN])
        of_pools = {name: value for name, value in shared.items() if name in _POOL}
        of_settings = {name: value for name, value in shared.items() if name in _SETTING}
        read_pools = [self._pool({**of_pools, **table}) for table in pools]
        names = _different("pool", [pool.name for pool in read_pools])
        read_settings = [_setting({**of_settings, **table}, names) for table in settings]
        _different("setting", [setting.name for setting in read_settings])
        plan = Plan(
            title=_typed("title", told.get("title", "Study"), str),
            pools=tuple(read_pools),
            settings=tuple(read_settings),
            text=text,
        )
        for setting in plan.settings:
            setting.build(read_pools[0].views)
        return plan

    def _pool(self, told: dict[str, Any]) -> PoolPlan:
        where = f"pool {told.get('name', '')!r}"
        _refuse_unknown(where, told, _POOL)
        _demand(where, told, ("name", "data"))
        values = _values(where, told, _POOL)
        loaders = {loader: name for name, loader in _OF_THE_DATA.items() if name in values}
        options = {**values.get("parameters", {}), **{k: values[v] for k, v in loaders.items()}}
        return PoolPlan(
            name=values["name"],
            data=self._beside(values["data"]),
            views=_one_of(where, "views", values.get("views", "microscopy"), VIEWS),
            rounds=check_int("rounds", values.get("rounds", 10), minimum=2),
            batch=check_int("batch", values.get("batch", 20), minimum=1),
            options=options,
        )

    def _beside(self, data: str) -> str:
        """Paths of a plan are relative to its folder."""
        if data in INSIDE or data.startswith("medmnist:"):
            return data
        kind, separator, rest = data.rpartition(":")
        if separator and kind != "boxes":  # a drive of Windows
            return data
        return f"{kind}{separator}{self.folder / as_path(rest)}"


def _setting(told: dict[str, Any], pools: Sequence[str]) -> SettingPlan:
    where = f"setting {told.get('name', '')!r}"
    _refuse_unknown(where, told, _SETTING)
    _demand(where, told, ("name", "strategies"))
    values = _values(where, told, _SETTING)
    seeds = values.get("seeds", 5)
    strategies = _different("strategy", [build_strategy(n)[0] for n in values["strategies"]])
    missing = [name for name in NEEDED if name not in strategies]
    if missing:
        raise ParameterError(
            f"{where}: strategies lack {' and '.join(missing)}, with which the others are compared."
        )
    parameters = dict(values.get("parameters", {}))
    otherwise = [name for name in _SAID_OTHERWISE if name in parameters]
    if otherwise:
        raise ParameterError(
            f"{where}: parameters say {', '.join(otherwise)}, which the study sets itself, or "
            "which model, patches, views and seeds say."
        )
    weights = values.get("pool_weights", "auto")
    chosen = values.get("pools", pools)
    return SettingPlan(
        name=values["name"],
        strategies=tuple(strategies),
        seeds=tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds),
        pools=tuple(_different("pool", [_one_of(where, "pools", name, pools) for name in chosen])),
        model=_one_of(where, "model", values.get("model", "finetune"), MODELS),
        patches=check_int("patches", values.get("patches", 8), minimum=2),
        parameters=parameters,
        restart=values.get("restart", False),
        groups=values.get("groups", False),
        pool_weights=_one_of(where, "pool_weights", weights, ("auto", True, False)),
        first_batch=_one_of(where, "first_batch", values.get("first_batch", "AIFT"), FIRST_BATCHES),
    )


Kind = type | tuple[type, ...] | Callable[[Any], bool]


def _is_name(value: Any) -> bool:
    """A line of a table."""
    return isinstance(value, str) and value.strip() == value and not set(value) & set("|\n")


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _is_seeds(value: Any) -> bool:
    """How many, or which."""
    if isinstance(value, list):
        numbers = [each for each in value if type(each) is int and 0 <= each <= _LARGEST_SEED]
        return 0 < len(numbers) == len(value) == len(set(value))
    return type(value) is int and value > 0


# What a table may say, and of which kind it is.
_POOL: dict[str, Kind] = {
    "name": _is_name, "data": str, "views": str, "rounds": int, "batch": int, "size": int,
    "max_pool": int, "max_test": int, "test_fraction": float, "split_seed": int,
    "parameters": dict,
}  # fmt: skip
_SETTING: dict[str, Kind] = {
    "name": _is_name, "model": str, "patches": int, "parameters": dict, "strategies": _is_names,
    "seeds": _is_seeds, "pools": _is_names, "restart": bool, "groups": bool,
    "pool_weights": (bool, str), "first_batch": str,
}  # fmt: skip
# What only a table itself can say.
_OWN = ("name", "data", "pools", "parameters")
_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false",
    dict: "a table such as {replay = \"hard\"}", _is_names: "a list of names",
    _is_name: "a name without |, on one line",
    _is_seeds: "how many seeds, or a list of different ones", (bool, str): '"auto", true or false',
}  # fmt: skip


def _values(where: str, told: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    return {name: _typed(f"{where}: {name}", value, kinds[name]) for name, value in told.items()}


def _typed(name: str, value: Any, kind: Kind) -> Any:
    """Check what TOML gave; a whole number is no boolean."""
    if kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif isinstance(kind, type | tuple):
        fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    else:
        fits = kind(value)
    if not fits:
        raise ParameterError(f"{name} is {value!r}; expected {_WORDS[kind]}.")
    return value


def _one_of(where: str, name: str, value: Any, known: Iterable[Any]) -> Any:
    check_option(f"{where}: {name}", value, tuple(known))
    return value


def _tables(told: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    tables = told.get(name, [])
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise ParameterError(
            f"the plan has no table [[{name}]]; expected one at least, with a name."
        )
    return tables


def _refuse_unknown(where: str, told: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(told) - set(known))
    if unknown:
        raise ParameterError(
            f"{where} says {', '.join(unknown)}, which is not known; expected of "
            f"{', '.join(known)}."
        )


def _demand(where: str, told: Mapping[str, Any], names: Iterable[str]) -> None:
    missing = [name for name in names if not told.get(name)]
    if missing:
        raise ParameterError(f"{where} says no {' and no '.join(missing)}.")


def _different(what: str, names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ParameterError(f"the {what} {twice[0]!r} comes twice; give each a name of its own.")
    return names
