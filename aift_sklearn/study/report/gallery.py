"""Thumbnails of the candidates that were asked, and what the model saw in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..._page_pictures import thumbnail_uri
from ...errors import ParameterError
from ...scores import prediction_pattern
from ..datasets import Dataset, candidate_name
from .patterns import draw_patches, is_listed

__all__ = ["gallery"]


def _indices(row: Any, n: int) -> list[int]:
    if not is_listed(row.asked):
        raise ParameterError(
            f"asked of {row.strategy}, round {row.round} is a {type(row.asked).__name__}; expected "
            "a list of pool indices. A CSV file turns lists into text: keep tables as JSON lines "
            "with write_table, or as Parquet."
        )
    asked = [int(index) for index in row.asked]
    if asked and not (min(asked) >= 0 and max(asked) < n):
        raise ParameterError(
            f"asked of {row.strategy}, round {row.round} has indices from {min(asked)} to "
            f"{max(asked)}, and the pool {n} candidates; expected the data set of this table."
        )
    return asked


def _probabilities(row: Any, n_asked: int, n_classes: int) -> list[NDArray[np.float64] | None]:
    """Patch probabilities (m, K) of each asked candidate, None where there are none."""
    listed = getattr(row, "patch_proba", None)
    if not is_listed(listed):
        return [None] * n_asked
    fits = len(listed) == n_asked
    found: list[NDArray[np.float64] | None] = []
    for each in listed:
        P = None
        if is_listed(each):
            try:
                # Parquet returns arrays of arrays of arrays.
                P = np.array([np.asarray(patch, np.float64) for patch in each])
            except ValueError:
                fits = False
                break
            fits = fits and P.ndim == 2 and len(P) > 0 and P.shape[1] == n_classes
        found.append(P)
    if not fits:
        raise ParameterError(
            f"patch_proba of {row.strategy}, round {row.round} has {len(listed)} entries; expected "
            f"one of shape (m, {n_classes}) for each of the {n_asked} candidates in asked, m "
            f"patches by {n_classes} classes. Pass the data set of this table, or drop the column "
            "to leave the drawings out."
        )
    return found


def _seen(P: NDArray[np.float64], letter: str, classes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    mean = P.mean(axis=0)
    expected = classes[int(mean.argmax())]
    return {"drawn": draw_patches(P), "pattern": letter, "expected": expected,
            "mean": float(mean.max())}  # fmt: skip


def _round(
    row: Any, dataset: Dataset, classes: Sequence[dict[str, Any]], most: int
) -> dict[str, Any]:
    """Pictures of the candidates asked in one round, in the order in which they were asked."""
    by_name = {entry["name"]: entry for entry in classes}
    asked = _indices(row, len(dataset.X))
    probabilities = _probabilities(row, len(asked), len(classes))
    given = getattr(row, "pattern", None)
    pictures = []
    for position, (i, P) in enumerate(zip(asked[:most], probabilities, strict=False)):
        picture = {
            "uri": thumbnail_uri(np.asarray(dataset.X[i])),
            "called": candidate_name(dataset, i),
            "of": by_name[str(dataset.y[i])],
            "seen": None,
        }
        if P is not None:
            letter = given[position] if is_listed(given) else prediction_pattern(P)
            picture["seen"] = _seen(P, str(letter), classes)
        pictures.append(picture)
    return {
        "number": row.round,
        "known": row.n_labels,
        "pictures": pictures,
        "more": len(asked) - len(pictures),
        "scored": any(P is not None for P in probabilities),
    }


def gallery(
    table: pd.DataFrame, dataset: Dataset, classes: Sequence[dict[str, Any]], most: int
) -> list[dict[str, Any]]:
    """Collect the rounds of the first seed by strategy; a first batch shared by all comes once.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()`` of one head; ``patch_proba`` and ``pattern`` may be missing.
    dataset : Dataset
        The data the table came from.
    classes : list of dict
        As of `aift_sklearn.study.report.figures.class_entries`.
    most : int
        Pictures per strategy and round.

    Returns
    -------
    list of dict
        ``name`` and ``rounds``, for the template of the page.

    Raises
    ------
    ParameterError
        If the table does not fit the data set.
    """
    runs = table[table["seed"] == table["seed"].min()].sort_values("round", kind="stable")
    rounds = {
        str(name): [_round(row, dataset, classes, most) for row in rows.itertuples()]
        for name, rows in runs.groupby("strategy", sort=False)
    }
    first = [tuple(row.asked) for row in runs.itertuples() if row.round == 0]
    if len(rounds) > 1 and len(first) == len(rounds) and len(set(first)) == 1:
        shared = next(iter(rounds.values()))[:1]
        rounds = {"First batch, shared by all strategies": shared} | {
            name: rest[1:] for name, rest in rounds.items()
        }
    return [{"name": name, "rounds": rest} for name, rest in rounds.items()]
