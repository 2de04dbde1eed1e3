"""What a pool holds: counted, compared and drawn before anything is labelled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ..pools import Pool
from ..pools.base import broken_items
from ..pools.duplicates import ImageHashes
from ..progress import ProgressBar

__all__ = ["Survey", "print_survey", "survey_pool"]

# Candidates that are read at once, shown on the contact sheet, and named of each kind.
_PART, _SHOWN, _LISTED = 256, 48, 10


@dataclass
class Survey:
    """What a pool holds.

    Attributes
    ----------
    pool : Pool
        The pool.
    sizes : dict of (int, int) to int
        Width and height of the images before they are scaled → how many.
    twins, look_alikes : list of list of str
        Ids that are alike to the pixel, and that nearly are (those among them).
    brightness : tuple of (float, float), or None
        Mean and spread of what is read, of 255.
    shown, names : ndarray of shape (k, C, H, W), list of str
        Candidates, evenly spread, and their ids.
    """

    pool: Pool
    sizes: dict[tuple[int, int], int]
    twins: list[list[str]]
    look_alikes: list[list[str]]
    brightness: tuple[float, float] | None
    shown: NDArray[Any]
    names: list[str]


def survey_pool(pool: Pool, *, verbose: bool = False) -> Survey:
    """Read every candidate of a pool once, and count what there is.

    Parameters
    ----------
    pool : Pool
        Images.
    verbose : bool, default=False
        Whether a progress bar is shown.

    Returns
    -------
    Survey
        ``pool.broken`` tells what cannot be read.
    """
    hashes, total = ImageHashes(), np.zeros(3)
    shown_rows = set(np.linspace(0, len(pool) - 1, min(_SHOWN, len(pool))).astype(int).tolist())
    shown: list[NDArray[Any]] = []
    names: list[str] = []
    kept: list[str] = []
    with ProgressBar("reading", len(pool), enabled=verbose) as bar:
        for start in range(0, len(pool), _PART):
            part = pool[start : start + _PART]
            ids = [str(name) for name in pool.ids[start : start + _PART]]
            sound = np.array([name not in pool.broken for name in ids])
            for k in np.flatnonzero(sound):
                if start + k in shown_rows:
                    shown.append(part[k])
                    names.append(ids[k])
            kept += [name for name, good in zip(ids, sound, strict=True) if good]
            values = part[sound].astype(np.float64)
            total += values.size, values.sum(), (values**2).sum()
            hashes.add(part[sound])
            bar.advance(len(part))
    mean = total[1] / max(1, total[0])
    spread = float(np.sqrt(max(0.0, total[2] / max(1, total[0]) - mean**2)))
    twins = _groups_of_ids(kept, hashes.exact_groups())
    return Survey(
        pool,
        dict(Counter(getattr(pool, "original_sizes", []))),
        twins,
        _groups_of_ids(kept, hashes.groups()),
        (float(mean), spread) if total[0] else None,
        np.array(shown),
        names,
    )


def _groups_of_ids(ids: list[str], groups: NDArray[np.intp]) -> list[list[str]]:
    """Groups of more than one."""
    members: dict[int, list[str]] = {}
    for name, group in zip(ids, groups.tolist(), strict=True):
        members.setdefault(group, []).append(name)
    return [found for found in members.values() if len(found) > 1]


def print_survey(survey: Survey, console: Console | None = None) -> None:
    """Print a survey as a table."""
    console = Console() if console is None else console
    pool = survey.pool
    n_broken = len(pool.broken)
    n_read = len(pool) - len(broken_items(pool))
    table = Table(show_header=False, box=None)
    shape = " × ".join(map(str, pool.shape[1:]))
    table.add_row("images", f"{n_read:,} that can be read, as {shape} {pool.dtype}")
    if survey.sizes:
        table.add_row("sizes", _sizes(survey.sizes))
    if getattr(pool, "window", None) is not None:
        low, high = pool.window  # type: ignore[attr-defined]
        table.add_row("window", f"{low:g} to {high:g}, of images of more than 8 bits")
    if survey.brightness is not None:
        mean, spread = survey.brightness
        table.add_row("brightness", f"{mean:.0f} ± {spread:.0f} of 255")
    if pool.groups is not None:
        table.add_row("groups", f"{len(np.unique(pool.groups)):,}")
    table.add_row("twins", _again(survey.twins, "to the pixel"))
    table.add_row("look-alikes", _again(survey.look_alikes, "nearly, or to the pixel"))
    for note in pool.notes:
        table.add_row("note", note)
    table.add_row("broken", f"{n_broken:,}" if n_broken else "none")
    for name, reason in list(pool.broken.items())[:_LISTED]:
        table.add_row("", f"{name}: {reason}")
    if n_broken > _LISTED:
        table.add_row("", f"and {n_broken - _LISTED:,} more")
    console.print(table, highlight=False, markup=False)


def _sizes(sizes: dict[tuple[int, int], int]) -> str:
    common = Counter(sizes).most_common(3)
    listed = ", ".join(f"{n:,} of {w} × {h}" for (w, h), n in common)
    return listed + (f", and {len(sizes) - 3} other sizes" if len(sizes) > 3 else "")


def _again(groups: list[list[str]], how: str) -> str:
    if not groups:
        return "none"
    n = sum(len(group) - 1 for group in groups)
    example = " = ".join(max(groups, key=len)[:3])
    return f"{n:,} images come again {how}, such as {example}"
