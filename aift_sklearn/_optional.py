"""Packages that extras bring: loaded once they are used, or said to be missing."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import MissingDependencyError

__all__ = ["load_optional", "one_line"]

# Most letters of what a library says.
_SAID = 200


def load_optional(module: str, *, purpose: str, extra: str = "pools", package: str = "") -> Any:
    """Import a module of a package that an extra brings.

    Parameters
    ----------
    module : str
        Its name: "zarr", "pyarrow.parquet".
    purpose : str
        What it is needed for, as the message begins.
    extra : str, default="pools"
        What brings it.
    package : str, optional
        Name of the distribution, where it is not that of the module.

    Raises
    ------
    MissingDependencyError
        If it is not installed, or does not load, with the reason.

    Examples
    --------
    >>> load_optional("json", purpose="reading").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = None if isinstance(error, ModuleNotFoundError) else one_line(error)
        name = package or module.partition(".")[0]
        raise MissingDependencyError(name, extra=extra, purpose=purpose, reason=reason) from error


def one_line(error: Exception) -> str:
    """What a library says is wrong, in a line.

    Examples
    --------
    >>> one_line(RuntimeError("invalid   input.")), one_line(EOFError())
    ('invalid input', 'EOFError')
    """
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return said if len(said) <= _SAID else f"{said[:_SAID]} ..."
