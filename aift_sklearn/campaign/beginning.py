"""How a campaign begins: what is set aside, and what is watched."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..pools import ArrayPool, Pool, open_sized
from .ledger.checks import is_candidate_name
from .records import Ask, Purpose, Round
from .settings import Settings
from .yardstick import draw_yardstick

__all__ = [
    "LabelState",
    "Source",
    "fingerprints",
    "label_state",
    "open_source",
    "plan_round_zero",
]

# Of these it is noted how they look, to tell another pool.
_LOOKED_AT = 32
# Candidates drawn at random that every model predicts, beside the yardstick.
_WATCHED = 300


class LabelState(NamedTuple):
    """What labels there are, to tell whether there are others.

    Attributes
    ----------
    n : int
        Candidates with a label that readers agree on, those of the yardstick not counted.
    digest : str
        Of candidates and labels.
    """

    n: int
    digest: str


def label_state(labels: Mapping[str, str]) -> LabelState:
    """Tell what labels there are, as of `consensus`."""
    text = json.dumps(sorted(labels.items()))
    return LabelState(len(labels), hashlib.sha256(text.encode()).hexdigest()[:20])


def fingerprints(candidates: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Tell how candidates look: id → hash.

    Examples
    --------
    >>> fingerprints({"a": np.zeros((1, 2, 2), dtype=np.uint8)})
    {'a': 'df3f619804a92fdb'}
    """
    return {
        name: hashlib.sha256(np.ascontiguousarray(candidate).tobytes()).hexdigest()[:16]
        for name, candidate in candidates.items()
    }


class Source(NamedTuple):
    """Where a pool is, and how it is opened.

    Attributes
    ----------
    address : str
        As of `open_pool`, absolute; empty of a pool in memory.
    options : dict
        Of `open_pool`, those that it found out itself among them.
    pool : Pool
        It, open.
    """

    address: str
    options: dict[str, Any]
    pool: Pool


def open_source(pool: Any, options: Mapping[str, Any], *, verbose: bool = False) -> Source:
    """Open what a campaign is to be about.

    Parameters
    ----------
    pool : str, path-like, Pool or array-like
        A source as of `open_pool`; or candidates.
    options : mapping
        Of `open_pool`, for a source.
    verbose : bool, default=False
        Whether progress is shown.
    """
    if isinstance(pool, Pool):
        return Source("", {}, pool)
    if not isinstance(pool, str | os.PathLike):
        return Source("", {}, ArrayPool(pool))
    address = _absolute(os.fspath(pool))
    opened = open_sized(address, verbose=int(verbose), **options)
    return Source(address, {**options, **_plain(opened.reading())}, opened)


def _absolute(source: str) -> str:
    """Make the path in a source absolute, so that it is found from wherever it is opened.

    Examples
    --------
    >>> _absolute("s3://bucket/a.zarr"), _absolute("boxes:/data")
    ('s3://bucket/a.zarr', 'boxes:/data')
    """
    if "://" in source:
        return source
    kind, colon, rest = source.partition(":")
    if colon and kind in ("boxes", "dicom", "slides", "volumes"):
        return f"{kind}:{_absolute(rest)}"
    return str(Path(os.path.expanduser(source)).absolute())


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON keeps them."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def plan_round_zero(pool: Pool, settings: Settings) -> tuple[Round, list[Ask]]:
    """Draw the yardstick and what is watched, and ask for the first of the yardstick.

    These questions need no model, so that people begin at once.

    Raises
    ------
    DataError
        If fewer than two candidates can be read.
    """
    pool = pool.sound()
    odd = [name for name in pool.ids.tolist() if not is_candidate_name(name)]
    for name in odd:
        pool.broken[name] = "a name with spaces at its ends, or too long; rename it"
    pool = pool.sound()
    if len(pool) < 2:
        raise DataError(
            f"{len(pool)} candidates can be read; expected two or more. 'aift scan' tells what is "
            "wrong with the others."
        )
    rng = np.random.default_rng(settings.seed)
    drawn = draw_yardstick(pool.ids, pool.groups, settings.yardstick, rng)
    watched = pool.ids[rng.choice(len(pool), min(_WATCHED, len(pool)), replace=False)].tolist()
    # What cannot be read is found out now, and not by an annotator.
    wanted = list(dict.fromkeys([*drawn.ids, *watched]))
    read = pool.read_known(wanted)
    yardstick = [name for name in drawn.ids if name in read]
    group_of: dict[str, str] = {}
    n_set_aside = len(yardstick)
    if pool.groups is not None:
        rows = pool.rows_of(yardstick)
        group_of = dict(zip(yardstick, pool.groups[rows].tolist(), strict=True))
        if drawn.groups:
            n_set_aside = int(np.isin(pool.groups, drawn.groups).sum())
    parameters = {
        "yardstick": yardstick,
        "groups": drawn.groups,
        "group_of": group_of,
        "n_set_aside": n_set_aside,
        "watched": [name for name in watched if name in read],
        "n_pool": len(pool.sound()),
        "note": drawn.note,
        "fingerprints": fingerprints({name: read[name] for name in [*read][:_LOOKED_AT]}),
    }
    first = yardstick[: max(1, settings.batch // 2)]
    asks = [
        Ask(name, k, Purpose.yardstick, n_readers=_readers(settings, rng))
        for k, name in enumerate(first)
    ]
    return Round(0, "", parameters, settings.seed, 0), asks


def _readers(settings: Settings, rng: np.random.Generator) -> int:
    return settings.readers if rng.random() < settings.overlap else 1
