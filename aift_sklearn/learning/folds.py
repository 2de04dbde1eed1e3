"""Folds inside an estimator: patches of one candidate never lie on both sides of a split.

A search, a calibration or a stack splits the rows that it is given. Those are patches, so that
plain folds would test on views of the candidates that were trained on, and every score would be
near 1. Here each splitter inside an estimator is put behind one that splits candidates, and hands
on all patches of each.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from .._warnings import warn_caller
from ..errors import DataError, TrainingWarning

__all__ = ["CandidateFolds", "give_folds_back", "keep_candidates_together", "warn_of_own_splits"]

Array = NDArray[Any]

# Rows from which scikit-learn's early_stopping="auto" holds some out.
_AUTO_ROWS = 10_000

_GRIDS = ("param_grid", "param_distributions")


class CandidateFolds:
    """Splits candidates, where each is ``n_patches`` rows that follow each other.

    A part of the rows that another such splitter chose keeps that order, so that folds may be
    nested.

    Parameters
    ----------
    cv : int, splitter, iterable or None
        Splits candidates. With a number of folds, or None for five, there are no more folds than
        the rarest class has candidates, and at least two; the single candidate of a class is
        trained on in every fold, that in which it is tested included, with a warning. Splits that
        were made beforehand name candidates.
    n_patches : int
        Rows of each candidate.
    classifier : bool, default=True
        Whether a number of folds means stratified ones.
    given : object, optional
        What stood in the place of this splitter.

    Examples
    --------
    >>> folds = CandidateFolds(2, n_patches=2)
    >>> y = np.repeat(["a", "b", "a", "b"], 2)
    >>> [test.tolist() for _, test in folds.split(np.zeros((8, 1)), y)]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """

    def __init__(
        self, cv: Any, n_patches: int, *, classifier: bool = True, given: Any = None
    ) -> None:
        self.cv = cv
        self.given = given
        self.n_patches = n_patches
        self.classifier = classifier

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Rows to train on and to test on, fold by fold.

        Parameters
        ----------
        X : array-like of shape (n · n_patches, ...)
            Patches.
        y, groups : array-like of shape (n · n_patches,), optional
            Their classes and groups. Without groups each candidate is one.

        Yields
        ------
        train, test : ndarray of int
            Rows.
        """
        n = self._count(X)
        labels = self._of_candidates(y)
        if self._is_number(labels):
            folds = self._stratified(np.asarray(labels))
        else:
            splitter = check_cv(self.cv, labels, classifier=self.classifier)
            owners = self._owners(splitter, groups, n)
            folds = splitter.split(self._of_candidates(X), labels, owners)
        for train, test in folds:
            yield self._rows(train, n), self._rows(test, n)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds of these patches."""
        labels = self._of_candidates(y)
        if self._is_number(labels):
            return self._n_folds(np.asarray(labels))
        splitter = check_cv(self.cv, labels, classifier=self.classifier)
        owners = None if X is None else self._owners(splitter, groups, self._count(X))
        return int(splitter.get_n_splits(self._of_candidates(X), labels, owners))

    def _owners(self, splitter: Any, groups: Any, n: int) -> Any:
        """Groups of the candidates, for a splitter that asks for some: given, or one of each."""
        if groups is not None:
            return self._of_candidates(groups)
        # scikit-learn's splitters have this method where groups matter, and warn where not.
        asks = hasattr(splitter, "set_split_request")
        return np.arange(n) if asks or not hasattr(splitter, "get_metadata_routing") else None

    def _count(self, X: Any) -> int:
        n_rows = int(_num_samples(X))
        if n_rows % self.n_patches:
            raise DataError(
                f"{n_rows} rows are no patches of whole candidates, {self.n_patches} of each: a "
                "step before the folds drops, adds or draws rows singly. Put it outside of the "
                "AIFTClassifier."
            )
        return n_rows // self.n_patches

    def _of_candidates(self, rows: Any) -> Any:
        if rows is None:
            return None
        return _safe_indexing(rows, np.arange(0, _num_samples(rows), self.n_patches))

    def _rows(self, candidates: Any, n: int) -> NDArray[np.intp]:
        candidates = np.asarray(candidates)
        if candidates.dtype == bool:
            candidates = np.flatnonzero(candidates)
        if candidates.size and candidates.max() >= n:
            raise DataError(
                f"cv names row {candidates.max()}, and there are {n} candidates; splits that are "
                "made beforehand name candidates, of which all patches follow."
            )
        patches = candidates.astype(np.intp)[:, None] * self.n_patches + np.arange(self.n_patches)
        return np.asarray(patches.ravel(), dtype=np.intp)

    def _is_number(self, labels: Any) -> bool:
        is_number = self.cv is None or isinstance(self.cv, (int, np.integer))
        return is_number and self.classifier and labels is not None

    def _n_folds(self, y: Array) -> int:
        counts = np.unique(y, return_counts=True)[1]
        fewest = counts[counts > 1].min(initial=len(y))
        return max(2, min(5 if self.cv is None else int(self.cv), int(fewest)))

    def _stratified(self, y: Array) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        k = self._n_folds(y)
        classes, class_of, counts = np.unique(y, return_inverse=True, return_counts=True)
        single = np.flatnonzero(counts[class_of] == 1)
        several = np.flatnonzero(counts[class_of] > 1)
        fold = np.empty(len(y), dtype=np.intp)
        fold[single] = np.arange(len(single)) % k
        if len(several):
            parts = StratifiedKFold(k).split(several, y[several])
            for number, (_, test) in enumerate(parts):
                fold[several[test]] = number
        if len(single):
            warn_caller(
                f"{classes[counts == 1].tolist()} have one candidate each, which is trained on in "
                "every fold of the search or calibration inside: what that measures of them is too "
                "good, until another candidate of each is labelled.",
                TrainingWarning,
            )
        for number in range(k):
            test = fold == number
            train = ~test
            train[single] = True
            yield np.flatnonzero(train), np.flatnonzero(test)


def keep_candidates_together(estimator: Any, n_patches: int, seed: int) -> None:
    """Put every splitter inside an unfitted estimator behind one that splits candidates.

    Parameters
    ----------
    estimator : estimator
        A clone, which is changed.
    n_patches : int
        Rows of each candidate.
    seed : int
        Given to splitters that shuffle and have no ``random_state``.
    """
    for part in _parts_of(estimator):
        params = part.get_params(deep=False)
        if "cv" in params and _takes_splitters(part):
            part.set_params(cv=_folds_for(part, params["cv"], n_patches, seed))
        for name in _GRIDS:
            for grid in _as_list(params.get(name)):
                _steer_grid(part, grid, n_patches, seed)


def _steer_grid(search: Any, grid: Any, n_patches: int, seed: int) -> None:
    """Do the same to the splitters among which a search chooses."""
    for name, values in grid.items() if isinstance(grid, dict) else ():
        owner = name.rpartition("__")[0]
        if name.endswith("cv") and isinstance(values, (list, tuple)):
            part = search.get_params().get(f"estimator__{owner}" if owner else "estimator")
            if part is not None and "cv" in part.get_params(deep=False):
                grid[name] = [_folds_for(part, cv, n_patches, seed) for cv in values]


def give_folds_back(estimator: Any) -> None:
    """Put the splitters that were given to a fitted estimator back in their places."""
    seen: set[int] = set()

    def restored(value: Any) -> Any:
        if isinstance(value, CandidateFolds):
            return value.given
        if id(value) in seen:
            return value
        seen.add(id(value))
        if isinstance(value, dict):
            value.update({name: restored(item) for name, item in value.items()})
        elif isinstance(value, list):
            value[:] = [restored(item) for item in value]
        elif isinstance(value, np.ndarray) and value.dtype == object:
            # What a search tried is listed in masked arrays.
            for place in np.ndindex(value.shape):
                np.asarray(value)[place] = restored(np.asarray(value)[place])
        elif type(value) is tuple:
            return tuple(restored(item) for item in value)
        elif hasattr(value, "get_params") and not isinstance(value, (type, FrozenEstimator)):
            for name, item in list(vars(value).items()):
                vars(value)[name] = restored(item)
        elif type(value).__module__.startswith("sklearn.") and hasattr(value, "estimator"):
            # What calibration pairs with its calibrators.
            restored(value.estimator)
        return value

    restored(estimator)


def warn_of_own_splits(estimator: Any, n_rows: int, *, grouped: Any = None) -> None:
    """Say which parts of an estimator hold patches out of training in a way that cannot be steered.

    Parameters
    ----------
    estimator : estimator
        Unfitted.
    n_rows : int
        Number of patches.
    grouped : estimator, optional
        A part that is told which patches belong together.
    """
    told = set()
    for part in _parts_of(estimator):
        reason = None if part is grouped else _own_split(part, n_rows)
        told |= {(type(part).__name__, reason)} if reason else set()
        told |= {(type(one).__name__, reason) for one, reason in _splits_to_choose(part, n_rows)}
    for name, reason in sorted(told):
        warn_caller(
            f"{name}({reason}) splits patches, not candidates: what it holds out are views of what "
            "it trains on, so that its measure is too good. Leave that out, or choose such "
            "parameters in a search, whose folds keep candidates together.",
            TrainingWarning,
        )


def _splits_to_choose(search: Any, n_rows: int) -> Iterator[tuple[Any, str]]:
    """Estimators that a search may give splits of their own, and which."""
    params = search.get_params(deep=False)
    grids = [grid for name in _GRIDS for grid in _as_list(params.get(name))]
    for grid in (grid for grid in grids if isinstance(grid, dict)):
        for name, values in grid.items():
            owner, _, last = name.rpartition("__")
            parts = [part for part in _parts_named(search, grid, owner) if hasattr(part, last)]
            for part, value in itertools.product(parts, _listed(values)):
                reason = _own_split(part, n_rows, {last: value})
                if reason is not None and reason.startswith(f"{last}="):
                    yield part, reason


def _parts_named(search: Any, grid: dict[str, Any], name: str) -> list[Any]:
    """The part of this name inside a search, and those that its grid lists for the place."""
    inside = search.get_params().get(f"estimator__{name}" if name else "estimator")
    parts = [inside, *_listed(grid.get(name))]
    return [part for part in parts if hasattr(part, "get_params")]


def _listed(values: Any) -> list[Any]:
    """Values among which a search chooses; none of a distribution, which holds numbers."""
    if isinstance(values, np.ndarray):
        return list(values.tolist())
    return list(values) if isinstance(values, (list, tuple)) else []


def _own_split(part: Any, n_rows: int, chosen: Mapping[str, Any] | None = None) -> str | None:
    """Tell a parameter by which an estimator holds rows out, some of them chosen by a search."""
    params = {**part.get_params(deep=False), **(chosen or {})}
    early = params.get("early_stopping")
    automatic = early == "auto" and n_rows <= _AUTO_ROWS
    rounds = params.get("n_iter_no_change")
    holds_out = "validation_fraction" in params
    draws = "max_samples" if "max_samples" in params else "resource"
    split = params.get("train_split")
    reasons = {
        "early_stopping": early not in (None, False) and not automatic,
        "n_iter_no_change": rounds is not None and holds_out and "early_stopping" not in params,
        "calibration": params.get("calibration") is not None and holds_out,
        "oob_score": bool(params.get("oob_score")),
        "store_cv_results": bool(params.get("store_cv_results")) and params.get("cv", 0) is None,
        draws: params.get(draws) not in (None, False) and _has_folds_below(part),
        # skorch's; what a function splits is the user's affair.
        "train_split": hasattr(split, "cv"),
    }
    name = next((name for name, holds in reasons.items() if holds), None)
    if name is None:
        return None
    return f"{name}={type(split).__name__ if name == 'train_split' else repr(params[name])}"


def _has_folds_below(part: Any) -> bool:
    """Whether an estimator that draws rows singly has another inside that splits them."""
    below = part.get_params(deep=False).get("estimator")
    return any("cv" in inner.get_params(deep=False) for inner in _parts_of(below))


def _parts_of(value: Any) -> Iterator[Any]:
    """All estimators inside an estimator, itself first."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _parts_of(item)
    elif hasattr(value, "get_params") and not isinstance(value, (type, FrozenEstimator)):
        yield value
        yield from _parts_of(value.get_params(deep=False))


def _takes_splitters(part: Any) -> bool:
    """Whether the parameter ``cv`` of an estimator may be a splitter."""
    allowed = getattr(part, "_parameter_constraints", {}).get("cv")
    return allowed is None or "cv_object" in allowed


def _folds_for(part: Any, cv: Any, n_patches: int, seed: int) -> Any:
    """Splitter of candidates that does what ``cv`` does for a part, or ``cv`` itself."""
    if isinstance(cv, (str, CandidateFolds)):
        return cv
    if cv is None and isinstance(part, (RidgeCV, RidgeClassifierCV)) and part.store_cv_results:
        return cv
    given = cv
    if isinstance(cv, float):
        cv = StratifiedShuffleSplit(
            1, test_size=cv, random_state=getattr(part, "random_state", None)
        )
    if getattr(cv, "random_state", 0) is None and getattr(cv, "shuffle", True):
        # Drawn once: all that a search compares meets the same folds.
        cv = copy.deepcopy(cv)
        cv.random_state = seed
    return CandidateFolds(cv, n_patches, classifier=not is_regressor(part), given=given)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
