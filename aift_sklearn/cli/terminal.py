"""What the commands say while they work, on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console

__all__ = ["ERRORS", "announce", "loading"]

ERRORS = Console(stderr=True)
"""Where errors and progress are written; results go to standard output."""


def announce(text: str, *, quiet: bool = False) -> None:
    """Say what is about to be done, before anything slow is loaded."""
    if not quiet:
        ERRORS.print(text, highlight=False, markup=False)


@contextlib.contextmanager
def loading(*, quiet: bool = False) -> Iterator[None]:
    """Show, on a terminal, that packages are being loaded."""
    if quiet:
        yield
        return
    with ERRORS.status("loading torch and scikit-learn ..."):
        yield
