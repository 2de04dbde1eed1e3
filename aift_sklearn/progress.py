"""One kind of progress bar for all long work, on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["ProgressBar", "track"]

T = TypeVar("T")

# Seconds between two lines in a log, where there is no terminal to draw on.
_QUIET = 30.0


class ProgressBar:
    """A bar with a count and the time that is left; silent unless enabled.

    Bars of work inside other work are drawn below each other. Where standard error is no terminal,
    as in the log of a cluster's job, a line is written every half minute instead.

    Parameters
    ----------
    description : str
        What is being done.
    total : int
        Steps until it is done.
    enabled : bool, default=True
        Whether anything is shown.

    Examples
    --------
    >>> with ProgressBar("scoring", 2, enabled=False) as bar:
    ...     bar.advance()
    """

    _drawn: ClassVar[Progress | None] = None

    def __init__(self, description: str, total: int, *, enabled: bool = True) -> None:
        self.description, self.total, self.enabled = description, total, enabled
        self.done, self._started, self._said = 0, 0.0, 0.0
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._console: Console | None = None

    def advance(self, steps: int = 1) -> None:
        """Count steps that are done."""
        self.done += steps
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, steps)
        elif self._console is not None:
            self._write_line(self._console)

    def describe(self, description: str) -> None:
        """Change what is said to be done."""
        self.description = description
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=description)

    def _write_line(self, console: Console) -> None:
        now = time.monotonic()
        if now - self._said < _QUIET or self.done == 0:
            return
        self._said = now
        left = (now - self._started) / self.done * max(0, self.total - self.done)
        console.print(
            f"{self.description} {self.done}/{self.total}, about {left / 60:.0f} min left",
            highlight=False,
            markup=False,
        )

    def __enter__(self) -> Self:
        if not self.enabled:
            return self
        console = Console(stderr=True)
        self._started = self._said = time.monotonic()
        if not console.is_terminal:
            self._console = console
            return self
        self._owns = ProgressBar._drawn is None
        if ProgressBar._drawn is None:
            ProgressBar._drawn = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            ProgressBar._drawn.start()
        self._progress = ProgressBar._drawn
        self._task = self._progress.add_task(self.description, total=self.total)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is None or self._task is None:
            return
        if self._owns:
            self._progress.stop()
            ProgressBar._drawn = None
        else:
            self._progress.remove_task(self._task)


def track(items: Sequence[T], description: str, *, enabled: bool = True) -> Iterator[T]:
    """Yield the items; where enabled, show how many are done and the time that is left.

    Examples
    --------
    >>> list(track([1, 2], "scoring", enabled=False))
    [1, 2]
    """
    with ProgressBar(description, len(items), enabled=enabled) as bar:
        for item in items:
            yield item
            bar.advance()
