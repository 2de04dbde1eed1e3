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
from ..errors import DataError
from .thumbnails import thumbnail_uri

__all__ = ["Dataset", "ImageSource", "split_dataset"]

Array = NDArray[Any]
Ints = NDArray[np.intp]

# Classes, and notes, that a data set shows of itself.
_LISTED = 8
# More candidates than this are counted in a note, not listed.
_NAMED = 5
# Thumbnails of each class in a notebook.
_SHOWN = 6
# Orders of the groups that are tried for a split.
_SPLIT_DRAWS = 16
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
                f'<img src="{thumbnail_uri(np.asarray(self.X[i]))}" width="48" alt="candidate {i}">'
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
        What a note calls each candidate, such as its file; by default its row.

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
        test = _draw_test(y, groups, test_fraction, seed)
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
    in_test = set(digests[len(pool) :])
    twins = np.array([digest in in_test for digest in digests[: len(pool)]], dtype=bool)
    X_pool, X_test = images[: len(pool)], images[len(pool) :]
    if twins.any():
        notes.append(f"{twins.sum()} images of the pool left out: the test set holds them too")
        pool, X_pool = pool[~twins], X_pool[~twins]
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


def _draw_test(y: Array, groups: Array | None, fraction: float, seed: int) -> Ints:
    rng = np.random.default_rng(seed)
    if groups is not None:
        return _draw_test_groups(y, groups, fraction, rng)
    # By hand, since every class, however rare, must have a member on either side.
    test: list[int] = []
    for members in (np.flatnonzero(y == c) for c in np.unique(y)):
        n_test = min(max(1, round(fraction * len(members))), len(members) - 1)
        test.extend(rng.permutation(members)[:n_test].tolist())
    return np.sort(test)


def _draw_test_groups(y: Array, groups: Array, fraction: float, rng: np.random.Generator) -> Ints:
    """Draw whole groups, as near as they allow to the fraction in all and in every class."""
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"all {len(y)} candidates are of the group {names.tolist()[0]!r}; expected two groups "
            "or more, since none may be on both sides. Pass no groups if candidates are unrelated."
        )
    classes, class_of = np.unique(y, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group_of.ravel(), class_of.ravel()), 1)
    in_test = _move_groups(_fill_test_side(counts, fraction, rng), counts, fraction)
    drawn = in_test[group_of.ravel()]
    for side, rows in (("test set", drawn), ("pool", ~drawn)):
        missing = np.setdiff1d(y, y[rows])
        if len(missing):
            raise DataError(
                f"no candidate of {missing.tolist()} is in the {side} when whole groups are "
                "split; try another random_state, or leave the class out."
            )
    return np.flatnonzero(drawn)


def _fill_test_side(
    counts: NDArray[np.float64], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Take groups in random order where that helps; the best of several orders.

    ``counts`` are those of groups by class, (G, K).
    """
    orders = np.stack([rng.permutation(len(counts)) for _ in range(_SPLIT_DRAWS)])
    in_test = np.zeros(orders.shape, dtype=bool)
    inside = np.zeros((_SPLIT_DRAWS, counts.shape[1]))
    for groups in orders.T:
        added = inside + counts[groups]
        better = _split_error(added, counts, fraction) < _split_error(inside, counts, fraction)
        in_test[np.arange(_SPLIT_DRAWS), groups] = better
        inside[better] = added[better]
    return np.asarray(in_test[_split_error(inside, counts, fraction).argmin()])


def _move_groups(
    in_test: NDArray[np.bool_], counts: NDArray[np.float64], fraction: float
) -> NDArray[np.bool_]:
    """Move single groups to the other side as long as that helps."""
    inside = counts[in_test].sum(axis=0)
    for _ in range(len(counts)):
        moved = inside + np.where(in_test, -1, 1)[:, None] * counts
        errors = _split_error(moved, counts, fraction)
        best = int(errors.argmin())
        if not errors[best] < _split_error(inside, counts, fraction) - 1e-12:
            break
        in_test[best] = ~in_test[best]
        inside = moved[best]
    return in_test


def _split_error(inside: NDArray[np.float64], counts: NDArray[np.float64], fraction: float) -> Any:
    """How far a test set with these class counts (..., K) is from what was asked.

    A class missing on a side counts most, then the share of all candidates, then that of each
    class.
    """
    per_class, n = counts.sum(axis=0), counts.sum()
    missing = (inside < 1).sum(axis=-1) + (per_class - inside < 1).sum(axis=-1)
    in_all = np.abs(inside.sum(axis=-1) / n - fraction)
    in_classes = np.abs(inside / per_class - fraction).mean(axis=-1)
    # Beyond the largest group the share outweighs the classes, which differ by 1 at most.
    beyond = np.maximum(0, in_all - counts.sum(axis=1).max() / n)
    return 1e6 * missing + 1e3 * beyond + 2 * in_all + in_classes


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
