"""Where to run: Ray, and how much of it reading and scoring take."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .._checks import check_int, check_number
from .._optional import load_optional
from .._threads import count_threads
from ..errors import DataError, ParameterError

__all__ = ["READING", "Places", "connected", "find_places", "import_ray"]

READING = 0.25
"""Share of a core that reading a block is told to take."""

# What is left of a core to an actor.
_SCORING = 0.75
# Bytes of the object store of a Ray of one's own, at least, and for every core.
_STORE, _STORE_PER_CORE = 2**29, 2**27


@dataclass(frozen=True)
class Places:
    """How many actors score, and what Ray reckons for each.

    Attributes
    ----------
    actors : int
        Most of them.
    num_cpus, num_gpus : float
        Of one.
    """

    actors: int
    num_cpus: float
    num_gpus: float


def find_places(
    actors: int | None = None, num_cpus: float | None = None, num_gpus: float | None = None
) -> Places:
    """Tell how many actors the cluster has room for, and leave room to those that read.

    Parameters
    ----------
    actors, num_cpus, num_gpus
        What the user asks for; see `score_dataset`.

    Raises
    ------
    ParameterError
        If actors would leave no room to read, or there is no room for a single one.
    """
    ray = import_ray()
    there = ray.cluster_resources()
    cores, gpus = float(there.get("CPU", 0)), float(there.get("GPU", 0))
    num_gpus = (
        (1.0 if gpus else 0.0)
        if num_gpus is None
        else float(check_number("num_gpus", num_gpus, low=0))
    )
    num_cpus = (
        min(_SCORING, cores - READING)
        if num_cpus is None
        else float(check_number("num_cpus", num_cpus, low=0))
    )
    room = cores - READING
    if num_cpus > room or num_gpus > gpus:
        raise ParameterError(
            f"an actor of num_cpus={num_cpus:g} and num_gpus={num_gpus:g} has no room in a cluster "
            f"of {cores:g} cores and {gpus:g} GPUs, where reading takes {READING}; pass smaller "
            "ones."
        )
    most = int(min(room / num_cpus if num_cpus else 1e6, gpus / num_gpus if num_gpus else 1e6))
    if actors is None:
        return Places(
            max(1, min(most, int(gpus / num_gpus if num_gpus else cores))), num_cpus, num_gpus
        )
    check_int("actors", actors, minimum=1)
    if actors > most:
        raise ParameterError(
            f"actors={actors} of num_cpus={num_cpus:g} and num_gpus={num_gpus:g} would leave no "
            f"room to those that read, which need {READING} of the {cores:g} cores ({gpus:g} "
            f"GPUs), and wait for them for ever; at most {most} fit, or pass smaller num_cpus."
        )
    return Places(actors, num_cpus, num_gpus)


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or begin a Ray on this machine, unless there is a connection already.

    Parameters
    ----------
    address : str, optional
        Of the cluster.

    Raises
    ------
    DataError
        If there is no cluster at the address.
    ParameterError
        If there is a connection already, whatever the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        if address is not None:
            raise ParameterError(
                f"address={address!r}, and this process is connected to Ray already; leave it out, "
                "or call ray.shutdown() before."
            )
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    # Nobody is told what a hospital computes, unless somebody there wants it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # That a worker's model lies in the object store is said as an error; it stays there.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if address is None:
        cores = count_threads()
        store = _STORE + _STORE_PER_CORE * cores
        # Not that of somebody else on this machine.
        start = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": store}
        ray.init("local", **start, **quiet)
    else:
        try:
            ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise DataError(
                f"there is no Ray cluster at {address!r}: {reason} "
                "Start one by 'ray start --head', or leave the address out."
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """Import Ray with its datasets, or say how to install it."""
    how = {"purpose": "scoring on a cluster", "extra": "ray", "package": "ray[data]"}
    load_optional("ray.data", **how)
    return load_optional("ray", **how)
