"""Campaigns as rows: one per pool, setting, strategy and seed, small enough to be kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..._writing import as_path, write_atomically
from ...errors import DataError
from ..datasets import Dataset

__all__ = ["batch_redundancy", "campaign_rows", "read_campaigns", "rounds_of", "write_campaigns"]

_KEYS = ("pool", "setting", "strategy", "seed", "n_labels", "auc", "balanced_accuracy")


def campaign_rows(
    table: pd.DataFrame, dataset: Dataset, *, places: NDArray[Any]
) -> list[dict[str, Any]]:
    """Sum a table of `simulate` up, one row per strategy and seed.

    Parameters
    ----------
    table : DataFrame
        As of `simulate`, of one model.
    dataset : Dataset
        What was asked.
    places : ndarray of shape (n, E)
        Where the candidates of the pool lie, for the redundancy of batches.

    Returns
    -------
    list of dict
        ``strategy``, ``seed``; lists with a number per round: ``n_labels``, ``auc``,
        ``balanced_accuracy``, ``rarest`` (labels of the rarest class of the pool) and
        ``redundancy``, see `batch_redundancy`; ``score_seconds``, ``train_seconds`` of the whole
        campaign.
    """
    classes, counts = np.unique(dataset.y, return_counts=True)
    rarest = f"n_{classes[counts.argmin()]}"
    centred = places - places.mean(axis=0)
    rows = []
    for _, unsorted in table.groupby(["strategy", "seed"], sort=False):
        rounds = unsorted.sort_values("round")
        rows.append(
            {
                "strategy": str(rounds["strategy"].iloc[0]),
                "seed": int(rounds["seed"].iloc[0]),
                "n_labels": [int(n) for n in rounds["n_labels"]],
                "auc": _rounded(rounds["auc"]),
                "balanced_accuracy": _rounded(rounds["balanced_accuracy"]),
                "rarest": [int(n) for n in rounds[rarest]],
                "redundancy": _rounded(batch_redundancy(centred[b]) for b in rounds["asked"]),
                "score_seconds": round(float(rounds["score_seconds"].sum()), 2),
                "train_seconds": round(float(rounds["train_seconds"].sum()), 2),
            }
        )
    return rows


def batch_redundancy(points: NDArray[Any]) -> float:
    """Mean cosine of each candidate of a batch to the one that is most like it.

    Parameters
    ----------
    points : ndarray of shape (b, E)
        Where they lie, from the middle of the pool.

    Returns
    -------
    float
        1 where each comes twice; NaN for a single candidate.

    Examples
    --------
    >>> batch_redundancy(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])).round(3)
    np.float64(0.667)
    """
    if len(points) < 2:
        return float("nan")
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    unit = points / np.maximum(lengths, np.finfo(np.float32).tiny)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    return np.float64(cosine.max(axis=1).mean())


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Four decimals, and null where there is no number."""
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]


def write_campaigns(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write campaigns as JSON lines; replaced in one step."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(as_path(path), text)


def read_campaigns(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the campaigns of a study.

    Parameters
    ----------
    path : path-like
        The ``campaigns.jsonl`` that `run_plan` wrote.

    Returns
    -------
    DataFrame
        One row per campaign: pool, setting, strategy, seed and what `campaign_rows` tells.

    Raises
    ------
    DataError
        If there is no such file, or it is damaged.
    """
    path = as_path(path)
    if not path.exists():
        raise DataError(f"there is no file {path}; expected the campaigns of a study.")
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            missing = [name for name in _KEYS if name not in row]
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}, line {number} is no campaign: {error}.") from error
        if missing:
            raise DataError(f"{path}, line {number} is no campaign: it lacks {missing}.")
        rows.append(row)
    if not rows:
        raise DataError(f"{path} holds no campaigns.")
    return pd.DataFrame(rows)


def rounds_of(campaigns: pd.DataFrame) -> pd.DataFrame:
    """Spread campaigns of one pool and setting out, one row per round.

    Parameters
    ----------
    campaigns : DataFrame
        Of `read_campaigns`.

    Returns
    -------
    DataFrame
        With the columns that curves and metrics of a study want: strategy, seed, round, n_labels,
        auc, balanced_accuracy, and the seconds, spread evenly over the rounds.
    """
    lists = ["n_labels", "auc", "balanced_accuracy", "rarest", "redundancy"]
    seconds = ["score_seconds", "train_seconds"]
    rounds = campaigns["n_labels"].map(len)
    table = campaigns[["strategy", "seed", *lists]].assign(
        round=rounds.map(range).map(list), **{s: campaigns[s] / rounds for s in seconds}
    )
    spread = table.explode([*lists, "round"], ignore_index=True)
    numbers = {"n_labels": "int64", "round": "int64", "rarest": "int64"}
    return spread.astype({**dict.fromkeys(lists, "float64"), **numbers})
