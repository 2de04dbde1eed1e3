"""Which releases of which packages something was made with."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable
from importlib import metadata

__all__ = ["package_versions"]


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of those packages that are installed.

    Parameters
    ----------
    packages : iterable of str
        Names of distributions, such as "scikit-learn".

    Returns
    -------
    dict of str to str
        "python" first; what is not installed is left out.

    Examples
    --------
    >>> list(package_versions(["numpy", "nothing-such"]))
    ['python', 'numpy']
    """
    versions = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
