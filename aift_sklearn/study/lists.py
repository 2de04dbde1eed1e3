"""Data sets from CSV files that list images with their labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._writing import as_path
from ..errors import DataError
from ..pools.image_headers import list_some
from ..pools.listings import find_listed_file, read_listing
from .datasets import Dataset, split_dataset
from .images import ImageFiles
from .labels import label_of_name, note_similar_names
from .splits import assign_sides, name_side

__all__ = ["load_csv"]


def load_csv(
    path: str | Path, *, size: int | None = None, verbose: int = 0, **split: Any
) -> Dataset:
    """Read a CSV file that lists images with their labels.

    Parameters
    ----------
    path : path-like
        CSV file with a header: ``path`` (relative to the CSV file, or absolute) and ``label``,
        and, if you have them, ``group`` (patient, slide) and ``split`` ("train", "test", and
        perhaps "val": the test set where there is no "test", else part of the pool).
    size : int, optional
        As of `load_folder`.
    verbose : int, default=0
        1 shows a progress bar.
    **split
        ``test_fraction``, ``max_pool``, ``max_test``, ``random_state`` and ``drop_look_alikes`` of
        `split_dataset`.

    Returns
    -------
    Dataset
        No group is on both sides. Rows that are listed twice are left out and named in ``notes``.

    Raises
    ------
    DataError
        If a column is missing or a row is incomplete, or images cannot be read.
    """
    path = as_path(path)
    table, notes = _without_repeats(
        pd.DataFrame(read_listing(path, ["path", "label"]), dtype=object)
    )
    is_test, said = _split_column(path, table)
    files = [find_listed_file(path.parent, name) for name in table["path"]]
    names = [
        f"line {line}, {name}" for line, name in zip(table["line"], table["path"], strict=True)
    ]
    images = ImageFiles(files, names=names, size=size, verbose=verbose)
    images.refuse_missing()
    dataset = split_dataset(
        path.stem,
        images,
        np.array([label_of_name(label) for label in table["label"]]),
        groups=table["group"].to_numpy().astype(str) if "group" in table else None,
        is_test=is_test,
        candidate_names=names,
        description=f"{len(table)} images that {path.name} lists.",
        source=str(path),
        notes=[*notes, *said, *note_similar_names(table["label"])],
        **split,
    )
    return dataclasses.replace(dataset, notes=(*dataset.notes, *images.notes))


def _without_repeats(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    repeated = table.drop(columns="line").duplicated()
    if not repeated.any():
        return table, []
    lines = [f"line {line}" for line in table["line"][repeated]]
    count = "row that is" if len(lines) == 1 else "rows that are"
    note = f"{len(lines)} {count} listed before left out: {list_some(lines)}"
    return table[~repeated].reset_index(drop=True), [note]


def _split_column(path: Path, table: pd.DataFrame) -> tuple[NDArray[np.bool_] | None, list[str]]:
    if "split" not in table:
        return None, []
    sides = [name_side(name) for name in table["split"]]
    known = [side for side in sides if side is not None]
    if len(known) < len(sides) or len(set(known)) < 2:
        raise DataError(
            f"{path}: the column split holds {sorted(set(table['split']))}; expected 'train' "
            "and 'test', both of them, and perhaps 'val'. Leave the column out to have a split "
            "drawn."
        )
    return assign_sides(known)
