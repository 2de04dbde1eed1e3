"""The methods of estimators that can be saved.

They stand near the top, where estimators find them; what they call names the estimators, stands
below them all, and is imported once it is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Self

__all__ = ["SaveMixin", "transient_attributes"]


class SaveMixin:
    """Methods of estimators that can be saved.

    A class lists in ``_transient`` those of its attributes that are made again when they are
    needed, such as caches and sessions: they are neither pickled, copied nor saved.
    """

    _transient: ClassVar[tuple[str, ...]] = ()

    def save(self, folder: str | os.PathLike[str], *, include_memory: bool = True) -> Path:
        """Save to a folder; see `aift_sklearn.save`.

        Parameters
        ----------
        folder : path-like
            Made where it does not exist; a model that is there is replaced in one step.
        include_memory : bool, default=True
            Whether labelled candidates are stored too.

        Returns
        -------
        Path
            The folder.
        """
        from .persistence.folder import save

        return save(self, folder, include_memory=include_memory)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], **options: Any) -> Self:
        """Load from a folder; see `aift_sklearn.load`.

        Parameters
        ----------
        folder : path-like
            The folder.
        **options
            ``estimator``, ``memory``, ``query_strategy`` and ``trusted`` of `aift_sklearn.load`.

        Returns
        -------
        estimator
            Of this class.

        Raises
        ------
        ModelFileError
            If the folder holds something else.
        """
        from .persistence.folder import load_as

        loaded: Self = load_as(cls.__name__, folder, **options)
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        transient = transient_attributes(self)
        return {name: value for name, value in (state or {}).items() if name not in transient}


def transient_attributes(value: object) -> set[str]:
    """Attributes that the classes of an object list in ``_transient``.

    Examples
    --------
    >>> class Counting(SaveMixin):
    ...     _transient = ("_count",)
    >>> class Caching(Counting):
    ...     _transient = ("_cache",)
    >>> sorted(transient_attributes(Caching()))
    ['_cache', '_count']
    """
    return {name for kind in type(value).__mro__ for name in vars(kind).get("_transient", ())}
