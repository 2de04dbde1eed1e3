"""What every rule of selection checks first."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, ParameterError

__all__ = ["check_extension", "check_n_instances", "check_scores"]


def check_scores(scores: ArrayLike, n_instances: int) -> NDArray[np.float64]:
    """Return scores as float64, finite, one per candidate; refuse a number to ask for beyond."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        state = f"has shape {scores.shape}" if scores.ndim != 1 else "holds NaN or infinity"
        raise DataError(f"scores {state}; expected one finite number per candidate, shape (n,).")
    check_n_instances(n_instances, len(scores))
    return scores


def check_n_instances(n_instances: int, n_candidates: int) -> None:
    """Refuse a number of candidates to ask for that is not in 1 ... n."""
    integer = isinstance(n_instances, (int, np.integer)) and not isinstance(n_instances, bool)
    if not integer or n_instances < 1:
        raise ParameterError(f"n_instances={n_instances!r}; expected a whole number from 1 on.")
    if n_instances > n_candidates:
        raise DataError(
            f"asked for n_instances={n_instances} of a pool of {n_candidates} candidates; pass "
            f"n_instances=min(b, len(pool)), or stop when the pool is used up."
        )


def check_extension(name: str, omega: float) -> None:
    """Refuse a shortlist factor ω below 1."""
    if not (isinstance(omega, (int, float, np.number)) and 1 <= omega < np.inf):
        raise ParameterError(
            f"{name}={omega!r}; expected ω ≥ 1: the shortlist holds the top ω·b candidates."
        )
