"""What a classifier has been taught: the labelled candidates that replay draws from."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ._candidates import join

__all__ = ["Memory"]

Array = NDArray[Any]


class Memory(NamedTuple):
    """The labelled candidates that a classifier has seen, oldest first.

    Attributes
    ----------
    X : ndarray of shape (n, ...)
        Candidates.
    y : ndarray of shape (n,)
        Their classes.
    sample_weight : ndarray of shape (n,), float64, or None
        Their weights; None while none were given. Candidates taught without a weight count 1.
    round : ndarray of shape (n,), int
        The call since the last ``fit`` in which each was taught: 0, 1, 2 ...

    Examples
    --------
    >>> memory = Memory.from_call(np.zeros((2, 3)), np.array(["a", "b"]))
    >>> memory = memory.with_call(Memory.from_call(np.ones((1, 3)), np.array(["a"])))
    >>> memory.y.tolist(), memory.round.tolist()
    (['a', 'b', 'a'], [0, 0, 1])
    """

    X: Array
    y: Array
    sample_weight: NDArray[np.float64] | None
    round: NDArray[np.intp]

    @classmethod
    def from_call(
        cls, X: Array, y: Array, sample_weight: NDArray[np.float64] | None = None
    ) -> Self:
        """Memory of one call."""
        return cls(X, y, sample_weight, np.zeros(len(y), dtype=np.intp))

    def take(self, rows: NDArray[np.intp]) -> Memory:
        """Some of the candidates."""
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return Memory(self.X[rows], self.y[rows], weight, self.round[rows])

    def classes(self) -> Array:
        """Classes of the candidates that weigh something, sorted."""
        counts = slice(None) if self.sample_weight is None else self.sample_weight > 0
        return np.unique(self.y[counts])

    def with_call(self, new: Memory) -> Memory:
        """Append what the next call teaches."""
        weight = None
        if self.sample_weight is not None or new.sample_weight is not None:
            weight = np.concatenate([_weights(self), _weights(new)])
        number = 1 + (self.round[-1] if len(self.round) else -1)
        return Memory(
            join(self.X, new.X),
            np.concatenate([self.y, new.y]),
            weight,
            np.concatenate([self.round, np.full(len(new.y), number, dtype=np.intp)]),
        )


def _weights(memory: Memory) -> NDArray[np.float64]:
    if memory.sample_weight is None:
        return np.ones(len(memory.y))
    return memory.sample_weight
