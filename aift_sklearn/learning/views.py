"""The patches that are trained on: a few of each candidate, cut in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..patches import count_patches, cut_views, takes_views

__all__ = ["cut_training_patches", "training_views"]

Array = NDArray[Any]

# Bytes of patches that are cut at once, beside those that are trained on.
_PART_BYTES = 2**25


def training_views(m: int, n_wanted: int) -> list[int]:
    """Positions of the patches that are trained on, of m.

    Evenly spaced, since patches that the user cut may be ordered; 0 is the whole candidate.

    Examples
    --------
    >>> training_views(16, 4), training_views(3, 4)
    ([0, 4, 8, 12], [0, 1, 2])
    """
    n_kept = min(n_wanted, m)
    return [int(j) for j in np.linspace(0, m, n_kept, endpoint=False)]


def cut_training_patches(patches: Any, X: Array, n_wanted: int) -> tuple[Array, int]:
    """Cut the patches that are trained on, and no others where patches can be cut singly.

    Parameters
    ----------
    patches : Patches or None
        Fitted; None where candidates are patches that were cut already.
    X : ndarray of shape (n, ...)
        Candidates.
    n_wanted : int
        Patches of each; all, where there are fewer.

    Returns
    -------
    rows : ndarray of shape (n · k, ...)
        The k patches of each candidate, which follow each other.
    k : int
        Their number.
    """
    singly = takes_views(patches)
    m = count_patches(patches, X.shape) if singly else None
    if m is None:
        m = int(cut_views(patches, X[:1]).shape[1])
    views = training_views(m, n_wanted)
    first = cut_views(patches, X[:1], views)
    out = np.empty((len(X), *first.shape[1:]), dtype=first.dtype)
    # What cannot be cut singly is there for a moment with all its m patches.
    n_bytes = first.nbytes if singly else first.nbytes * m // len(views)
    step = max(1, _PART_BYTES // max(1, n_bytes))
    for start in range(0, len(X), step):
        part = cut_views(patches, X[start : start + step], views)
        if part.shape[1:] != out.shape[1:]:
            raise DataError(
                f"{type(patches).__name__}.transform gave patches of shape {part.shape[1:]} after "
                f"{out.shape[1:]}; expected one shape."
            )
        out[start : start + step] = part
    return out.reshape(-1, *out.shape[2:]), len(views)
