"""Patch probabilities as small drawings, and how often each of their patterns was asked.

Drawings are inline SVG of a few hundred bytes, coloured by the style sheet of the page: the
rules ``.k0``, ``.k1``, … fill with the colours of the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

from ...scores import _TEMPLATES

__all__ = ["draw_patches", "pattern_legend", "pattern_shares"]

Floats = NDArray[np.float64]

LETTERS = "ABCDEFG"
MEANING = {
    "A": "uncertain everywhere",
    "B": "uncertain and contradictory: the most useful to label",
    "C": "two camps: usually noise of the augmentation",
    "D": "already known",
    "E": "already known",
    "F": "known, with outliers",
    "G": "known, with outliers",
}
N_BINS = 10
MOST_COLUMNS = 24
UNSEEN = 0.03  # a class below it in every patch is not worth a colour


def is_listed(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a cell of a table holds a list; a missing one may be None or NaN."""
    return isinstance(value, list | tuple | np.ndarray)


def draw_patches(P: ArrayLike) -> Markup:
    """Draw the patch probabilities of one candidate.

    Two classes: a histogram of the probability of class 1, ten bins from 0 to 1, in the colour of
    the class that a bin speaks for. More classes: one column per patch, sorted by the
    probability of the leading class and stacked in the colours of the classes, so that both the
    spread and the classes that are confused are seen.

    Parameters
    ----------
    P : array-like of shape (m, K)
        Patch probabilities.

    Returns
    -------
    Markup
        An ``svg`` element that its box stretches.

    Examples
    --------
    >>> draw_patches([[0.9, 0.1], [0.05, 0.95], [0.0, 1.0]])
    Markup('<svg viewBox="0 0 50 20" ...><path class="k0" d="M5 20V10h4V20"/><path class="k1" ...
    """
    P = np.asarray(P, dtype=np.float64)
    paths, width = _histogram(P[:, 1]) if P.shape[1] == 2 else _stack(P)
    return _svg(paths, width)


def _svg(paths: list[tuple[str, str]], width: int) -> Markup:
    drawn = "".join(f'<path class="{name}" d="{path}"/>' for name, path in paths)
    return Markup(
        f'<svg viewBox="0 0 {width} 20" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
    )


def _histogram(p: Floats) -> tuple[list[tuple[str, str]], int]:
    # A probability that was rounded to a bin's lower edge belongs to that bin.
    bins = np.clip(np.floor(p * N_BINS + 1e-9), 0, N_BINS - 1).astype(int)
    counts = np.bincount(bins, minlength=N_BINS)
    tops = 20 - np.round(20 * counts / counts.max()).astype(int)
    paths = []
    for k in (0, 1):
        half = range(k * N_BINS // 2, (k + 1) * N_BINS // 2)
        path = "".join(f"M{5 * i} 20V{tops[i]}h4V20" for i in half if counts[i])
        if path:
            paths.append((f"k{k}", path))
    return paths, 5 * N_BINS


def _stack(P: Floats, names: Sequence[str] | None = None) -> tuple[list[tuple[str, str]], int]:
    """Areas from the widest to the leading class: each covers what lies below its own top."""
    order = np.argsort(-P.mean(axis=0), kind="stable")
    kept = [k for k in order if P[:, k].max() >= UNSEEN]
    ranked = P[np.argsort(P[:, order[0]], kind="stable")][:, kept]
    columns = np.array_split(ranked, min(len(ranked), MOST_COLUMNS))
    heights = np.array([column.mean(axis=0) for column in columns]).cumsum(axis=1)
    heights /= heights[:, -1:]
    tops = np.round(20 - 20 * heights, 1)
    paths = []
    for i in reversed(range(len(kept))):
        path, start = "M0 20", 0
        for stop in range(1, len(tops) + 1):
            if stop == len(tops) or tops[stop, i] != tops[start, i]:
                path += f"V{tops[start, i]:g}h{stop - start}"
                start = stop
        paths.append((names[i] if names else f"k{kept[i]}", path + "V20"))
    return paths, len(tops)


def pattern_legend(classes: Sequence[str], seen: Sequence[str]) -> list[dict[str, Any]]:
    """Letter, meaning and typical shape of the patterns that a reader may meet.

    With more than two classes the patterns of a low leading class, E and F, hardly occur; they
    are explained where ``seen`` holds them.
    """
    two = len(classes) == 2
    entries = []
    for letter, p in zip(LETTERS, _TEMPLATES, strict=True):
        if not two and letter in "EF" and letter not in seen:
            continue
        P = np.stack([1 - p, p], axis=-1)
        # The typical shapes are of no class in particular where there are several.
        drawn = draw_patches(P) if two else _svg(*_stack(P[:, ::-1], ["lead", "rest"]))
        meaning = MEANING[letter]
        if letter in "DEFG":
            leading = classes[letter in "DG"] if two else None
            known, *rest = meaning.split(",")
            which = leading or ("" if letter in "DG" else "by the runner-up")
            meaning = ",".join([f"{known}{f' ({which})' if which else ''}", *rest])
        entries.append({"letter": letter, "meaning": meaning, "drawn": drawn})
    return entries


def pattern_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Count how often each pattern was asked.

    Parameters
    ----------
    table : DataFrame
        The table of ``simulate()`` of one head, with ``pattern``.

    Returns
    -------
    DataFrame, by strategy and round
        Counts "A" to "G" over all seeds; rounds without scores (the cold start) are left out, and
        the table is empty where there is no pattern at all.

    Examples
    --------
    >>> table = pd.DataFrame({"strategy": "aift", "round": [0, 1, 2],
    ...                       "pattern": [None, ["A", "B"], ["B", "B"]]})
    >>> pattern_shares(table)[["A", "B", "C"]]
                    A  B  C
    strategy round
    aift     1      1  1  0
             2      0  2  0
    """
    counts: dict[tuple[str, int], NDArray[np.intp]] = {}
    if "pattern" in table.columns:
        for row in table.itertuples():
            if is_listed(row.pattern):
                found = [sum(letter == known for letter in row.pattern) for known in LETTERS]
                key = (str(row.strategy), int(row.round))  # type: ignore[arg-type]
                counts[key] = counts.get(key, np.zeros(len(LETTERS), np.intp)) + found
    names = pd.MultiIndex.from_tuples(counts, names=["strategy", "round"])
    result = pd.DataFrame([*counts.values()], index=names, columns=[*LETTERS], dtype=int)
    order = list(dict.fromkeys(table["strategy"].astype(str)))
    return result.sort_index(level="round").loc[[name for name in order if name in names.levels[0]]]


def draw_shares(shares: Sequence[float]) -> Markup:
    """Draw the share of a pattern, round by round, as bars from 0 to 100 %."""
    path = "".join(
        f"M{5 * i} 20V{round(20 - 20 * share, 1):g}h4V20" for i, share in enumerate(shares) if share
    )
    return _svg([("bar", path)], 5 * len(shares))


def pattern_rows(counts: pd.DataFrame, letters: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the page's table: per strategy and letter the overall share, and it by round."""
    rows = []
    for strategy, by_round in counts.groupby(level="strategy", sort=False):
        asked = by_round.sum(axis=1)
        numbers = by_round.index.get_level_values("round")
        cells = []
        for letter in letters:
            share = by_round[letter] / asked.clip(lower=1)
            told = ", ".join(
                f"{number}: {value:.0%}" for number, value in zip(numbers, share, strict=True)
            )
            total = by_round[letter].sum() / max(1, asked.sum())
            cells.append({"total": total, "drawn": draw_shares(share.tolist()), "told": told})
        rows.append({"name": strategy, "asked": int(asked.sum()), "cells": cells})
    return rows
