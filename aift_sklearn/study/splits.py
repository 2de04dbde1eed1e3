"""Which side of a split a folder or a row is meant for, by its name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign_sides", "name_side"]

_SIDES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def name_side(name: str) -> str | None:
    """Tell which side of a split a name means, in any case.

    Returns
    -------
    {"train", "val", "test"} or None
        None for every other name.

    Examples
    --------
    >>> name_side("Train"), name_side("validation"), name_side("benign")
    ('train', 'val', None)
    """
    return _SIDES.get(name.strip().lower())


def assign_sides(sides: Sequence[str]) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """Decide what is the test set where candidates are marked train, val and test.

    The test set is "test", or else "val". "val" beside both belongs to the pool, and is the pool
    where there is no "train".

    Parameters
    ----------
    sides : sequence of str, length n
        "train", "val" or "test" for each candidate.

    Returns
    -------
    tuple of (ndarray of bool, shape (n,), or None) and list of str
        Which candidates are of the test set, None where a split has to be drawn since all have
        one mark; and what should be said of that.

    Examples
    --------
    >>> assign_sides(["train", "val", "train"])
    (array([False,  True, False]), ['val is the test set, since there is no test'])
    """
    present = set(sides)
    if len(present) < 2:
        only = ", ".join(present)
        return None, [f"there is only {only}: the test set is drawn from it"]
    measured = "test" if "test" in present else "val"
    notes = []
    if measured == "val":
        notes.append("val is the test set, since there is no test")
    elif "val" in present:
        notes.append(
            "val counts as part of the pool"
            if "train" in present
            else "val is the pool, since there is no train"
        )
    return np.array([side == measured for side in sides]), notes
