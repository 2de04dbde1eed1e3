"""Warnings that point at the caller's own line, and silence for other libraries' in one thread."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

__all__ = ["silence_loggers", "silent_thread", "warn_caller"]

_PACKAGE = str(Path(__file__).parent)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the first line outside of this package.

    Parameters
    ----------
    message : str
        What is wrong and what to do.
    category : type
        Of the warning.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


class _Silence(threading.local):
    """How many blocks of `silent_thread` this thread is in."""

    depth = 0


_silence = _Silence()


class _WhileSilent(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return _silence.depth > 0


class _OfSilentThread(Warning, metaclass=_WhileSilent):
    """What every warning counts as in a thread that is silent, and none in others."""


@contextlib.contextmanager
def silent_thread() -> Iterator[None]:
    """Ignore the warnings of this thread inside the block; other threads are left alone.

    ``warnings.catch_warnings`` puts the filters of the whole process aside and back: where the
    blocks of two threads overlap, the filters of one stay for good. This adds one filter and leaves
    it there; it asks the thread that warns whether it is silent.

    Examples
    --------
    >>> with silent_thread():
    ...     warnings.warn("an odd header", stacklevel=1)
    """
    # Filters that were added since, such as "error", would come first.
    if not warnings.filters or warnings.filters[0][2] is not _OfSilentThread:
        warnings.simplefilter("ignore", _OfSilentThread)
    _silence.depth += 1
    try:
        yield
    finally:
        _silence.depth -= 1


def silence_loggers(package: str) -> None:
    """Let the loggers of a package drop what a thread logs inside `silent_thread`.

    Parameters
    ----------
    package : str
        Imported already, with its modules.
    """
    # What a logger filters its children do not.
    for name in [package, *list(logging.Logger.manager.loggerDict)]:
        if name == package or name.startswith(f"{package}."):
            logging.getLogger(name).addFilter(_is_heard)


def _is_heard(record: logging.LogRecord) -> bool:
    return _silence.depth == 0
