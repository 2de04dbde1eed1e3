"""Pools with known labels, on which asking can be simulated, and how they are split.

Letters: n candidates of C channels, H by W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int, check_number
from .._page_pictures import thumbnail_uri
from ..errors import DataError
from ..pools.duplicates import ImageHashes
from .draws import draw_test

__all__ = ["Dataset", "ImageSource", "candidate_name", "split_dataset"]

Array = NDArray[Any]
Ints = NDArray[np.intp]

# Classes, and notes, that a data set shows of itself.
_LISTED = 8
# More candidates than this are counted in a note, not listed.
_NAMED = 5
# Thumbnails of each class in a notebook.
_SHOWN = 6
# Share of the candidates by which a test set may miss its size without a word.
_SHARE_TOLERANCE = 0.015


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A pool to ask from and a test set that is never asked.

    Attributes
    ----------
    name : str
        Short name.
    X : ndarray of uint8, shape (n, C, H, W)
        Candidates of the pool.
    y : ndarray of str, shape (n,)
        Their labels, known to the oracle only.
    X_test, y_test : ndarray, shapes (n_test, C, H, W) and (n_test,)
        Candidates that measure a model, and their labels.
    groups, groups_test : ndarray of shape (n,) and (n_test,), or None
        Patient, slide or image region of each candidate; none is on both sides.
    description : str
        What the candidates are and how the labels were made.
    source, licence : str
        Where the images come from and under which terms.
    notes : tuple of str
        What was left out, and why.
    ids, ids_test : ndarray of str, shape (n,) and (n_test,), or None
        What each candidate is called, such as its file.
    """

    name: str
    X: NDArray[np.uint8]
    y: NDArray[np.str_]
    X_test: NDArray[np.uint8]
    y_test: NDArray[np.str_]
    groups: Array | None
    groups_test: Array | None
    description: str
    source: str
    licence: str
    notes: tuple[str, ...] = ()
    ids: NDArray[np.str_] | None = None
    ids_test: NDArray[np.str_] | None = None

    @property
    def classes(self) -> NDArray[np.str_]:
        """Sorted unique labels of pool and test set, shape (K,)."""
        return np.union1d(self.y, self.y_test)

    @property
    def n_candidates(self) -> int:
        """Number of candidates in the pool, n."""
        return len(self.X)

    def __repr__(self) -> str:
        """Count the candidates of each class in the pool and in the test set."""
        lines = [f"Dataset {self.name!r}, candidates of shape {self.X.shape[1:]}"]
        classes = self.classes
        for side, y in (("pool", self.y), ("test", self.y_test)):
            counts = [f"{(y == c).sum()} {c} ({(y == c).mean():.0%})" for c in classes[:_LISTED]]
            if len(classes) > _LISTED:
                counts.append(f"and {len(classes) - _LISTED} more classes")
            lines.append(f"  {side}  {len(y)}: " + ", ".join(counts))
        lines += [f"  note  {note}" for note in self.notes[:_LISTED]]
        if len(self.notes) > _LISTED:
            lines.append(f"  and {len(self.notes) - _LISTED} more notes")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show a few candidates of each class, for notebooks."""
        shape = " × ".join(map(str, self.X.shape[1:]))
        parts = [f"<p><strong>{escape(self.name)}</strong>, candidates of {shape}</p>", "<table>"]
        parts.append("<tr><th>class</th><th>pool</th><th>test</th><th></th></tr>")
        for c in self.classes[:_LISTED]:
            members = np.flatnonzero(self.y == c)
            shown = members[:_SHOWN] if self.X.ndim == 4 else ()
            pictures = " ".join(
                f'<img src="{thumbnail_uri(np.asarray(self.X[i]))}" width="48" '
                f'alt="{escape(candidate_name(self, i))}">'
                for i in shown
            )
            parts.append(
                f"<tr><td>{escape(str(c))}</td><td>{len(members)}</td>"
                f"<td>{(self.y_test == c).sum()}</td><td>{pictures}</td></tr>"
            )
        if len(self.classes) > _LISTED:
            parts.append(f"<tr><td>and {len(self.classes) - _LISTED} more classes</td></tr>")
        parts.append(
            f"<tr><td>all</td><td>{len(self.y)}</td><td>{len(self.y_test)}</td><td></td></tr>"
        )
        parts.append("</table>")
        notes = [*self.notes[:_LISTED], f"Licence: {self.licence}"]
        parts += [f"<p>{escape(note)}</p>" for note in notes]
        return "\n".join(parts)


def candidate_name(dataset: Any, row: int) -> str:
    """Name a candidate of a pool: its id, or else its row.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> candidate_name(SimpleNamespace(ids=["a.png"]), 0), candidate_name(SimpleNamespace(), 0)
    ('a.png', 'candidate 0')
    """
    ids = getattr(dataset, "ids", None)
    return f"candidate {row}" if ids is None else str(ids[row])


class ImageSource(Protocol):
    """Candidates that can be told apart before they are read, such as files."""

    def __len__(self) -> int:
        """Number of candidates, n."""

    def __getitem__(self, rows: Ints, /) -> Array:
        """Read the candidates of these rows, (n_rows, C, H, W)."""


def split_dataset(
    name: str,
    X: Array | ImageSource,
    y: Array,
    *,
    groups: Array | None = None,
    is_test: NDArray[np.bool_] | None = None,
    test_fraction: float = 0.3,
    max_pool: int | None = None,
    max_test: int | None = None,
    random_state: int = 0,
    description: str = "",
    source: str = "",
    licence: str = "not stated",
    notes: Sequence[str] = (),
    candidate_names: Sequence[str] | None = None,
    drop_look_alikes: bool = False,
) -> Dataset:
    """Split labelled candidates into a pool and a test set that share nothing.

    Groups stay on one side, and an image of the pool that the test set holds too, pixel for pixel,
    is left out. The pool is shuffled: files are often sorted by class.

    Parameters
    ----------
    name, description, source, licence, notes
        As of `Dataset`.
    X : ndarray of shape (n, C, H, W), or ImageSource
        Candidates. Of a source, those are read that are drawn, in one call.
    y : array-like of shape (n,)
        Their classes; kept as text.
    groups : array-like of shape (n,), optional
        Patient, slide or image of each candidate.
    is_test : ndarray of bool, shape (n,), optional
        A split that is given; else it is drawn, with the classes in proportion as far as groups
        allow.
    test_fraction : float in (0, 1), default=0.3
        Share of the test set, where it is drawn. With groups it is met as nearly as whole groups
        allow; a note says where that is not near.
    max_pool, max_test : int, optional
        Draw at most so many candidates for either side.
    random_state : int, default=0
        Seed of the split, the order and the draws.
    candidate_names : sequence of str, optional
        What each candidate is called, such as its file; kept as ``ids``.
    drop_look_alikes : bool, default=False
        Leave out images of the pool that look like one of the test set, too, such as the same
        picture recompressed, told by a perceptual hash (``imagehash``). Small crops of one kind,
        such as cells, look alike without being the same.

    Returns
    -------
    Dataset
        Pool and test set.

    Raises
    ------
    DataError
        If a class or a group cannot be on the sides where it must be.
    ParameterError
        If a parameter is outside its range.

    Examples
    --------
    >>> X = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    >>> split_dataset("digits", X, ["even", "odd"] * 5, test_fraction=0.4)
    Dataset 'digits', candidates of shape (1, 1, 1)
      pool  6: 3 even (50%), 3 odd (50%)
      test  4: 2 even (50%), 2 odd (50%)
    """
    check_number("test_fraction", test_fraction, low=0.01, high=0.99)
    seed = check_int("random_state", random_state, minimum=0)
    y = np.asarray(y).astype(str)
    groups = None if groups is None else np.asarray(groups)
    for what, values in (("labels", y), ("groups", groups), ("marks of the split", is_test)):
        if values is not None and len(values) != len(X):
            raise DataError(f"{len(X)} candidates and {len(values)} {what}; expected one for each.")
    _check_classes(y)
    notes = list(notes)
    if is_test is None:
        test = draw_test(y, groups, test_fraction, seed)
        pool = np.setdiff1d(np.arange(len(y)), test)
        if groups is not None:
            notes.extend(_share_note(len(test), len(y), test_fraction))
    else:
        pool, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        _check_groups_apart(groups, pool, test)
    rng = np.random.default_rng(seed)
    pool, test = rng.permutation(pool), rng.permutation(test)
    pool = pool[: None if max_pool is None else check_int("max_pool", max_pool, minimum=2)]
    test = test[: None if max_test is None else check_int("max_test", max_test, minimum=2)]
    rows = np.concatenate([pool, test])
    images = X[rows]
    digests = _digests(images)
    notes = [*notes, *_note_two_labels(digests, rows, y, candidate_names)]
    kept, said = _kept_of_pool(images, digests, len(pool), drop_look_alikes=drop_look_alikes)
    notes += said
    X_pool, X_test = images[: len(pool)], images[len(pool) :]
    if not kept.all():
        pool, X_pool = pool[kept], X_pool[kept]
    return Dataset(
        name=name,
        X=X_pool,
        y=y[pool],
        X_test=X_test,
        y_test=y[test],
        groups=None if groups is None else groups[pool],
        groups_test=None if groups is None else groups[test],
        description=description,
        source=source,
        licence=licence,
        notes=tuple(notes),
        ids=None if candidate_names is None else np.asarray(candidate_names, dtype=str)[pool],
        ids_test=None if candidate_names is None else np.asarray(candidate_names, dtype=str)[test],
    )


def _check_classes(y: Array) -> None:
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise DataError(f"all {len(y)} candidates are {classes.tolist()}; expected two classes.")
    if counts.min() < 2:
        raise DataError(
            f"class {str(classes[counts.argmin()])!r} has one candidate; expected at least two, "
            "one to ask for and one to test with. Leave the class out, or merge it with another."
        )


def _share_note(n_test: int, n: int, fraction: float) -> list[str]:
    """What to say of a test set that is not of the size that was asked for."""
    share = n_test / n
    if abs(share - fraction) <= _SHARE_TOLERANCE:
        return []
    return [
        f"the test set is {share:.0%} of the candidates, not the {fraction:.0%} asked for: whole "
        "groups are on one side, and every class is on both"
    ]


def _check_groups_apart(groups: Array | None, pool: Ints, test: Ints) -> None:
    if groups is None:
        return
    shared = np.intersect1d(groups[pool], groups[test])
    if len(shared):
        raise DataError(
            f"{len(shared)} groups are on both sides of the split, such as "
            f"{shared.tolist()[0]!r}; expected every group (patient, slide) on one side. Mend the "
            "split column, or leave it out to have a split drawn."
        )


def _digests(images: Array) -> list[bytes]:
    """Tell images apart pixel for pixel, (n, C, H, W)."""
    return [
        hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
        for image in images
    ]


def _kept_of_pool(
    images: Array, digests: list[bytes], n_pool: int, *, drop_look_alikes: bool
) -> tuple[NDArray[np.bool_], list[str]]:
    """Tell which images of the pool stay, since the test set holds no such one; and what to say."""
    in_test, notes = set(digests[n_pool:]), []
    twins = np.array([digest in in_test for digest in digests[:n_pool]], dtype=bool)
    if twins.any():
        notes.append(f"{twins.sum()} images of the pool left out: the test set holds them too")
    if not drop_look_alikes:
        return ~twins, notes
    alike = _look_like_test(images, n_pool) & ~twins
    if alike.any():
        notes.append(
            f"{alike.sum()} images of the pool left out: they look like one of the test set"
        )
    return ~(twins | alike), notes


def _look_like_test(images: Array, n_pool: int) -> NDArray[np.bool_]:
    """Tell which of the first images, the pool, look like one of the others, the test set."""
    hashes = ImageHashes()
    hashes.add(images)
    groups = hashes.groups()
    return np.isin(groups[:n_pool], groups[n_pool:])


def _note_two_labels(
    digests: list[bytes], rows: Ints, y: Array, names: Sequence[str] | None
) -> list[str]:
    """Name images that come again, pixel for pixel, under another label."""
    labels: dict[bytes, set[str]] = {}
    for digest, row in zip(digests, rows, strict=True):
        labels.setdefault(digest, set()).add(str(y[row]))
    found = {digest for digest, given in labels.items() if len(given) > 1}
    if not found:
        return []
    members = sorted(int(row) for d, row in zip(digests, rows, strict=True) if d in found)
    called = [f"row {row}" if names is None else names[row] for row in members[:_NAMED]]
    more = ", ..." if len(members) > _NAMED else ""
    count = "one image comes" if len(found) == 1 else f"{len(found)} images come"
    return [
        f"{count} under two labels, pixel for pixel; one of them is wrong: "
        + ", ".join(called)
        + more
    ]
