"""Parameters of the score, in one way of writing."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ..scores import EPS, patch_consistency

__all__ = ["spell_out"]


def spell_out(consistency: dict[str, Any]) -> dict[str, Any]:
    """Check parameters of `patch_consistency`, and add its defaults.

    Parameters
    ----------
    consistency : dict
        Those that are given.

    Returns
    -------
    dict
        All of them, as JSON holds them.

    Examples
    --------
    >>> spell_out({"alpha": np.float32(0.25)}) == spell_out({})
    True
    """
    patch_consistency(np.full((1, 1, 2), 0.5), **consistency)
    parameters = inspect.signature(patch_consistency).parameters
    known = {name: one.default for name, one in parameters.items() if name != "P"} | consistency
    known["eps"] = EPS if known["eps"] is None else known["eps"]
    return {
        name: value if isinstance(value, str) else float(value)
        for name, value in sorted(known.items())
    }
