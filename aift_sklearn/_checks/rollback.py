"""A call that fails leaves an estimator as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import TrainingInterrupted

__all__ = ["unchanged_on_error"]


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
