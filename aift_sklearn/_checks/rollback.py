"""A call that fails leaves an estimator as it was."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import TrainingInterrupted

__all__ = ["restores_itself", "unchanged_on_error", "undone_on_error"]


@contextlib.contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Let a call that fails leave the estimator's attributes as they were."""
    before = dict(vars(estimator))
    states = [
        (value, value.get_state())
        for value in before.values()
        if isinstance(value, np.random.RandomState)
    ]
    try:
        yield
    except TrainingInterrupted:
        # What was learnt until then is kept on purpose.
        raise
    except BaseException:
        # In this order, a second interrupt finds every attribute in its place.
        now = vars(estimator)
        now.update(before)
        for name in now.keys() - before.keys():
            del now[name]
        for generator, state in states:
            generator.set_state(state)
        raise


def restores_itself(estimator: Any) -> bool:
    """Whether an estimator's class declares that a call that raises leaves it as it was."""
    return getattr(type(estimator), "_restores_itself", False) is True


@contextlib.contextmanager
def undone_on_error(estimator: Any) -> Iterator[None]:
    """Let a call of anybody's estimator that fails leave it as it was, where it can be copied.

    Others than this package's may change arrays in place: all that they hold is copied before.
    """
    before = None
    if not restores_itself(estimator):
        # Each kind of part that cannot be copied has an error of its own.
        with contextlib.suppress(Exception):
            before = copy.deepcopy(vars(estimator))
    try:
        yield
    except BaseException:
        if before is not None:
            vars(estimator).clear()
            vars(estimator).update(before)
        raise
