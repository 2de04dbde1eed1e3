"""One kind of progress bar for all long work, on standard error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["ProgressBar", "track"]

T = TypeVar("T")


class ProgressBar:
    """A bar with a count and the time that is left; silent unless enabled.

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

    def __init__(self, description: str, total: int, *, enabled: bool = True) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not enabled,
        )
        self._task = self._progress.add_task(description, total=total)

    def advance(self, steps: int = 1) -> None:
        """Count steps that are done."""
        self._progress.advance(self._task, steps)

    def describe(self, description: str) -> None:
        """Change what is said to be done."""
        self._progress.update(self._task, description=description)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


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
