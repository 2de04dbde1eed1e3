"""What patches have to offer, and patches of any kind cut through one function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

__all__ = ["Patches", "count_patches", "cut_views", "patch_floats", "takes_views"]

Array = NDArray[Any]


@runtime_checkable
class Patches(Protocol):
    """Fixed views of candidates: fitted `AffinePatches`, `JitterPatches`, or your own.

    A transformer (n, …) → (n, m, …) will do. One whose ``transform`` takes ``views`` is never asked
    for patches that nobody looks at.
    """

    n_patches: int

    def transform(self, X: Any, views: Sequence[int] | None = None) -> Array:
        """Cut the patches at the positions ``views``, by default all."""


def takes_views(patches: Any) -> bool:
    """Whether some of the patches can be cut without the others.

    >>> from aift_sklearn import AffinePatches
    >>> takes_views(AffinePatches()), takes_views(None)
    (True, True)
    """
    return patches is None or "views" in inspect.signature(patches.transform).parameters


def count_patches(patches: Any, shape: tuple[int, ...]) -> int | None:
    """Patches of each candidate of a pool of this shape, m; None where that is not known.

    Parameters
    ----------
    patches : Patches or None
        Fitted; None where candidates are patches that were cut already, (n, m, C, h, w).
    shape : tuple of int
        Of the pool.
    """
    if patches is None:
        return int(shape[1])
    for name in ("views_", "offsets_"):
        if hasattr(patches, name):
            return len(getattr(patches, name))
    known = getattr(patches, "n_patches", None)
    return None if known is None else int(known)


def cut_views(patches: Any, X: Array, views: Sequence[int] | None = None) -> Array:
    """Cut patches of candidates, all or some.

    Parameters
    ----------
    patches : Patches or None
        Fitted; None where candidates are patches that were cut already.
    X : ndarray of shape (n, ...)
        Candidates.
    views : sequence of int, optional
        Positions of the patches that are wanted; by default all.

    Returns
    -------
    ndarray of shape (n, m, ...)
        Patches.

    Raises
    ------
    DataError
        If what came back is not one row of patches for each candidate.
    """
    wanted = slice(None) if views is None else list(views)
    if patches is None:
        return X[:, wanted]
    if views is not None and takes_views(patches):
        cut = np.asarray(patches.transform(X, views=views))
    else:
        cut = np.asarray(patches.transform(X))[:, wanted]
    if cut.ndim < 3 or len(cut) != len(X):
        raise DataError(
            f"{type(patches).__name__}.transform gave shape {cut.shape} for {len(X)} candidates; "
            "expected (n, m, ...), the m patches of each."
        )
    return cut


def patch_floats(patches: Any, shape: tuple[int, ...]) -> int:
    """Numbers in one patch of a pool of this shape.

    Parameters
    ----------
    patches : Patches or None
        Fitted; None where candidates are patches that were cut already.
    shape : tuple of int
        Of the pool.

    Examples
    --------
    >>> from aift_sklearn import AffinePatches
    >>> patch_floats(AffinePatches(size=224), (10, 3, 32, 32)) == 3 * 224 * 224
    True
    """
    if patches is None:
        return int(math.prod(shape[2:]))
    if hasattr(patches, "n_floats"):
        # Patches that are looked up are larger than the positions that stand for them.
        n_patches = int(patches.n_patches)
        return math.ceil((patches.n_floats or n_patches) / n_patches)
    if len(shape) > 3 and hasattr(patches, "patch_shape"):
        height, width = patches.patch_shape(shape)
        return int(shape[-3] * height * width)
    return int(math.prod(shape[1:]))
