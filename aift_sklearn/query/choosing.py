"""Which rule of selection a query follows, and how many of the highest scores it needs for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import selection
from .._checks import check_option
from ..errors import ParameterError

__all__ = ["SELECTIONS", "Choice"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

SELECTIONS = ("coverage", "top", "random_extension", "k-centre")
"""What strategies take for ``selection``."""


class Choice(NamedTuple):
    """A rule of selection and its parameters.

    Attributes
    ----------
    selection : str
        One of `SELECTIONS`.
    omega : float ≥ 1, optional
        The rule chooses among the top ω·b; the plain top b only where groups take turns. By default
        10 of "coverage", and 4.
    groups : array-like of shape (n,), or None
        Group of each candidate of the pool.

    Examples
    --------
    >>> Choice("top").n_scores(5, 100), Choice("random_extension", 3).n_scores(5, 100)
    (5, 16)
    """

    selection: str = "top"
    omega: float | None = None
    groups: Any = None

    def check(self, n_candidates: int) -> None:
        """Refuse parameters outside their range, or that exclude each other."""
        check_option("selection", self.selection, SELECTIONS)
        selection.check_extension("omega", self.length)
        if self.groups is not None:
            if self.selection == "random_extension":
                raise ParameterError(
                    "selection='random_extension' draws at random, and groups are for variety; "
                    "pass groups with another selection."
                )
            selection.group_codes(self.groups, n_candidates)

    @property
    def length(self) -> float:
        """ω, with its default."""
        if self.omega is not None:
            return self.omega
        return 10.0 if self.selection == "coverage" else 4.0

    def n_scores(self, n_instances: int, n_candidates: int) -> int:
        """Return how many of the highest scores decide what is chosen; all where they weigh."""
        if self.selection == "coverage":
            return n_candidates
        if self.selection == "top" and self.groups is None:
            return n_instances
        length = selection.shortlist_length(n_instances, n_candidates, self.length)
        # The next score below the shortlist is the floor of a draw.
        return min(n_candidates, length + (self.selection == "random_extension"))

    def choose(
        self,
        indices: Indices,
        scores: Floats,
        n_instances: int,
        embed: Callable[[Indices], Any],
        rng: np.random.Generator,
    ) -> Indices:
        """Choose b of the candidates at hand by their scores; "coverage" is the top b here.

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
        if self.selection == "random_extension":
            return selection.random_extension(scores, n_instances, self.length, rng)
        if self.selection == "k-centre":
            return selection.diversified(
                scores, n_instances, self.length, lambda rows: embed(indices[rows]), groups
            )
        if groups is not None:
            return selection.spread_over_groups(scores, n_instances, groups, self.length)
        return selection.top(scores, n_instances)
