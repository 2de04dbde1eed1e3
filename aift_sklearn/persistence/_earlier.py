"""Readers of earlier formats: each turns a model.json into that of the format after its own.

A change of the format raises ``VERSION`` in ``_format.py`` and adds a step here; the rest of the
package knows the present format alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["UPGRADES", "upgraded"]

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADES: dict[int, Upgrade] = {}
"""From each format before the present one to the next."""


def upgraded(
    model: dict[str, Any], version: int, upgrades: Mapping[int, Upgrade] = UPGRADES
) -> dict[str, Any]:
    """Return the contents of a model.json as those of a later format.

    Parameters
    ----------
    model : dict
        Of the format ``model["version"]``.
    version : int
        The format that is wanted.
    upgrades : mapping of int to callable
        From each format to the next.

    Examples
    --------
    >>> upgraded({"version": 1, "name": "a"}, 2, {1: lambda model: {"named": model["name"]}})
    {'named': 'a', 'version': 2}
    """
    for number in range(model["version"], version):
        model = {**upgrades[number](model), "version": number + 1}
    return model
