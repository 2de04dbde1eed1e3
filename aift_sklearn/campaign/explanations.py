"""What a model thought: of what it asked for, and of the candidates that are watched."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._writing import write_atomically
from ..errors import DataError
from .pictures import to_png
from .records import Ask, Purpose

__all__ = ["Asked", "Explanation", "Predictions", "describe_pattern", "explain"]

Array = NDArray[Any]

_PATTERNS = {
    "A": "unsure everywhere: every patch is near one half",
    "B": "flat: the patches are unsure and contradict each other; a label teaches most",
    "C": "two camps: some patches are sure of it and some of the opposite, usually noise",
    "D": "sure: all patches agree",
    "E": "sure: all patches agree",
    "F": "sure, but for a few patches that stand out",
    "G": "sure, but for a few patches that stand out",
}


def describe_pattern(pattern: str) -> str:
    """Say what a letter of `prediction_pattern` means.

    Examples
    --------
    >>> describe_pattern("A")
    'unsure everywhere: every patch is near one half'
    """
    return _PATTERNS.get(pattern, "")


@dataclass(frozen=True)
class Explanation:
    """What a model thought of a candidate when it was asked for.

    Attributes
    ----------
    score : float or None
        What its label is worth; None before there is a model.
    pattern : str
        Letter of `prediction_pattern`; empty before there is a model.
    proba : ndarray of shape (m, K), or None
        Probabilities of the classes for each patch, in the order of the campaign's classes.
    patches : list of bytes
        The m patches, PNG files.
    reason : str
        Why it was asked for, in words.
    """

    score: float | None
    pattern: str
    proba: NDArray[np.float32] | None
    patches: list[bytes]
    reason: str


@dataclass(frozen=True)
class Asked:
    """What was asked for at once, as it was seen: a file of a campaign.

    Attributes
    ----------
    ids : list of str
        Candidates, b of them.
    patches : ndarray of uint8, shape (b, m, C, h, w)
        Their patches.
    proba : ndarray of float32, shape (b, m, K), or None
        Their probabilities; None before there is a model.
    """

    ids: list[str]
    patches: NDArray[np.uint8]
    proba: NDArray[np.float32] | None

    def write(self, path: Path) -> None:
        """Write the file in one step."""
        proba = np.empty((0, 0, 0), np.float32) if self.proba is None else self.proba
        _write(path, ids=np.array(self.ids, dtype=str), patches=self.patches, proba=proba)

    @classmethod
    def read(cls, path: Path) -> Asked:
        """Read the file; nothing in it is executed.

        Raises
        ------
        DataError
            If it is damaged.
        """
        found = _read(path, ("ids", "patches", "proba"))
        proba = found["proba"] if len(found["proba"]) else None
        return cls(found["ids"].tolist(), found["patches"], proba)


@dataclass(frozen=True)
class Predictions:
    """What the model of a round predicts for the candidates that are watched.

    Attributes
    ----------
    ids : list of str
        Candidates drawn at random, those of the yardstick among them; the same in every round.
    proba : ndarray of float32, shape (n, K)
        In the order of ``classes``.
    classes : list of str
        Of the campaign then.
    """

    ids: list[str]
    proba: NDArray[np.float32]
    classes: list[str]

    def write(self, path: Path) -> None:
        """Write the file in one step."""
        ids, classes = (np.array(names, dtype=str) for names in (self.ids, self.classes))
        _write(path, ids=ids, proba=self.proba, classes=classes)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read the file; nothing in it is executed.

        Raises
        ------
        DataError
            If it is damaged.
        """
        found = _read(path, ("ids", "proba", "classes"))
        return cls(found["ids"].tolist(), found["proba"], found["classes"].tolist())

    def labels(self) -> dict[str, str]:
        """Id → class that is predicted."""
        best: Sequence[int] = self.proba.argmax(axis=1).tolist() if len(self.ids) else []
        return {name: self.classes[k] for name, k in zip(self.ids, best, strict=True)}


def explain(ask: Ask, files: Sequence[Path]) -> Explanation | None:
    """Say why a candidate was asked for.

    Parameters
    ----------
    ask : Ask
        As it stands in the ledger.
    files : sequence of Path
        What was seen when its round asked, as of `Asked`.

    Returns
    -------
    Explanation or None
        None of candidates that were not asked for, but imported. Those of the yardstick are told
        like all others, by which nobody can tell them apart.
    """
    if ask.purpose is Purpose.imported:
        return None
    for path in files:
        asked = Asked.read(path)
        if ask.candidate in asked.ids:
            k = asked.ids.index(ask.candidate)
            proba = None if asked.proba is None else asked.proba[k]
            patches = [to_png(patch) for patch in asked.patches[k]]
            return Explanation(ask.score, ask.pattern, proba, patches, _reason(ask))
    return Explanation(ask.score, ask.pattern, None, [], _reason(ask))


def _reason(ask: Ask) -> str:
    # The same for what a model chose and what was drawn at random.
    return f"asked for in round {ask.round}" + ("" if ask.round else ", before there was a model")


def _write(path: Path, **arrays: Array) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def _read(path: Path, names: Sequence[str]) -> dict[str, Array]:
    try:
        # Opened here: NumPy leaves what is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(f"{path} is damaged: {error}.") from error
