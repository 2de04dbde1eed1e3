"""scikit-image, whose images are the pools that come with the package."""

from __future__ import annotations

from typing import Any

from ..errors import MissingDependencyError

__all__ = ["skimage_for"]


def skimage_for(purpose: str) -> Any:
    """Return scikit-image, typed as Any: it is only partly annotated.

    >>> skimage_for("load_tissue()").__name__
    'skimage'
    """
    try:
        import skimage
    except ImportError as error:
        raise MissingDependencyError("scikit-image", extra="study", purpose=purpose) from error
    return skimage
