"""Which rule of selection a query follows, and how many of the highest scores it needs for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import selection
from ..errors import ParameterError

__all__ = ["Choice"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

# Groups take turns among the top this many times b.
_OMEGA_OF_GROUPS = 4.0


class Choice(NamedTuple):
    """A rule of selection and its parameters.

    Attributes
    ----------
    random_extension, diversify : float ≥ 1, or None
        ω of the rules of these names.
    groups : array-like of shape (n,), or None
        Group of each candidate of the pool.

    Examples
    --------
    >>> Choice(diversify=3).n_scores(5, 100), Choice(random_extension=3).n_scores(5, 100)
    (15, 16)
    """

    random_extension: float | None = None
    diversify: float | None = None
    groups: Any = None

    def check(self, n_candidates: int) -> None:
        """Refuse parameters outside their range, or that exclude each other."""
        if self.random_extension is not None and (
            self.diversify is not None or self.groups is not None
        ):
            raise ParameterError(
                "random_extension draws at random, diversify and groups choose for variety; pass "
                f"one of them, not random_extension={self.random_extension!r} with the others."
            )
        for name in ("random_extension", "diversify"):
            if getattr(self, name) is not None:
                selection.check_extension(name, getattr(self, name))
        if self.groups is not None:
            selection.group_codes(self.groups, n_candidates)

    def n_scores(self, n_instances: int, n_candidates: int) -> int:
        """Return how many of the highest scores decide what is chosen."""
        if self.random_extension is not None:
            length = selection.shortlist_length(n_instances, n_candidates, self.random_extension)
            # The next score below the shortlist is the floor of the draw.
            return min(n_candidates, length + 1)
        omega = self.diversify
        if omega is None:
            omega = 1.0 if self.groups is None else _OMEGA_OF_GROUPS
        return selection.shortlist_length(n_instances, n_candidates, omega)

    def choose(
        self,
        indices: Indices,
        scores: Floats,
        n_instances: int,
        embed: Callable[[Indices], Any],
        rng: np.random.Generator,
    ) -> Indices:
        """Choose b of the candidates at hand.

        Parameters
        ----------
        indices : ndarray of shape (k,)
            Positions in the pool, rising: at least the `n_scores` highest.
        scores : ndarray of shape (k,)
            Their scores.
        n_instances : int
            How many to choose, b.
        embed : callable
            Positions in the pool (j,) → embeddings (j, E).
        rng : numpy.random.Generator
            Seeds the random extension.

        Returns
        -------
        ndarray of shape (b,)
            Which of the k, score descending, ties by index.
        """
        groups = None
        if self.groups is not None:
            groups = selection.group_codes(self.groups, len(np.asarray(self.groups)))[indices]
        if self.random_extension is not None:
            return selection.random_extension(scores, n_instances, self.random_extension, rng)
        if self.diversify is not None:
            return selection.diversified(
                scores, n_instances, self.diversify, lambda rows: embed(indices[rows]), groups
            )
        if groups is not None:
            return selection.spread_over_groups(scores, n_instances, groups, _OMEGA_OF_GROUPS)
        return selection.top(scores, n_instances)
