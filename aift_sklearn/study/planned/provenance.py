"""What rows were made with: the code's commit, the releases of packages, the machine."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path

import torch

from ... import __version__
from ..._versions import package_versions

__all__ = ["commit", "machine", "versions"]

_PACKAGES = (
    "numpy", "scipy", "scikit-learn", "modAL-python", "torch", "skorch", "onnxruntime",
    "scikit-activeml",
)  # fmt: skip


@functools.cache
def commit() -> str:
    """Commit of the checkout that this package is imported from, or "" where there is none.

    Examples
    --------
    >>> commit() == "" or len(commit().removesuffix(" changed")) == 12
    True
    """
    folder = Path(__file__).parents[3]
    if not (folder / ".git").exists():
        return ""
    try:
        told = [
            subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "aift_sklearn"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{told[0][:12]}{' changed' if told[1] else ''}"


@functools.cache
def versions() -> str:
    """Releases of the packages that compute.

    Examples
    --------
    >>> versions().split(",")[0].split()[0]
    'aift-sklearn'
    """
    releases = {"aift-sklearn": __version__, **package_versions(_PACKAGES)}
    return ", ".join(f"{name} {release}" for name, release in releases.items())


def machine() -> str:
    """What computed.

    Examples
    --------
    >>> machine().endswith(")")
    True
    """
    cores = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    if not torch.cuda.is_available():
        return cores
    return f"{torch.cuda.get_device_name()} and {cores}"
