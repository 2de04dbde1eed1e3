"""What differs between modAL's releases, and between them and current scikit-learn.

modAL's ``teach`` and ``fit`` call scikit-learn's ``check_X_y`` with ``force_all_finite``, which
scikit-learn 1.8 removed. Importing this module replaces the name ``check_X_y`` in the one modAL
module that uses it, and nothing else.
"""

from __future__ import annotations

import inspect
from typing import Any

import modAL.models.base
import modAL.models.learners
import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_X_y

__all__ = ["query_result"]

_RENAMED = "ensure_all_finite" in inspect.signature(check_X_y).parameters
_RETURNS_METRICS = (
    "return_metrics" in inspect.signature(modAL.models.base.BaseLearner.query).parameters
)


def _check_X_y(X: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
    """``check_X_y`` under the parameter names of every scikit-learn from 1.6 on."""
    if _RENAMED and "force_all_finite" in kwargs:
        kwargs["ensure_all_finite"] = kwargs.pop("force_all_finite")
    return check_X_y(X, y, *args, **kwargs)


for _module in (modAL.models.base, modAL.models.learners):
    if hasattr(_module, "check_X_y"):
        _module.check_X_y = _check_X_y


def query_result(indices: NDArray[np.intp], scores: NDArray[np.float64] | None) -> Any:
    """Give the installed modAL what it wants from a strategy.

    modAL 0.4.1 expects indices, and warns on a tuple; 0.4.2 unpacks (indices, metrics), and would
    take two bare indices for that.
    """
    if not _RETURNS_METRICS:
        return indices
    return indices, np.full(len(indices), np.nan) if scores is None else scores[indices]
