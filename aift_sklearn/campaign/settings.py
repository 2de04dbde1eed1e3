"""What a campaign is about, and how it is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .._checks import check_int, check_number, check_option
from ..errors import DataError, ParameterError

__all__ = ["SHOWN", "Settings"]

SHOWN = ("after", "request", "always")
"""When annotators see what the model thinks: after their answer, on request, or always."""

# Characters of a class or a name that fit on a button and into a table.
_LONGEST = 100


@dataclass(frozen=True)
class Settings:
    """What a campaign is about, and how it is run; stored in its ledger as JSON.

    Attributes
    ----------
    name : str
        What it is called.
    classes : tuple of str
        What a candidate can be; the first has hotkey 1.
    source : str
        The pool, as of `open_pool`.
    pool : dict
        Options of `open_pool`: size, groups ...
    model, views, n_patches
        As of `build_model`; ``model`` is "custom" where an estimator was given.
    batch : int
        Candidates that are asked for in a round, b, those of the yardstick not counted.
    yardstick : int
        Candidates drawn at random, by group, that are labelled and never trained on. More give
        a narrower interval; 0 gives no honest measure at all.
    show : {"after", "request", "always"}
        When annotators see what the model thinks. Before an answer it anchors the reader.
    readers : int
        Annotators that label each candidate that is read more than once.
    overlap : float
        Share of the candidates that ``readers`` people label; the others are labelled by one.
    adjudicate : bool
        Whether one more annotator is asked where they disagree.
    guidance : str
        What annotators are told.
    seed : int
        Seeds whatever is drawn.

    Examples
    --------
    >>> Settings("cells", ("lymphocyte", "neutrophil"), "images").yardstick
    50
    """

    name: str
    classes: tuple[str, ...]
    source: str
    pool: dict[str, Any] = field(default_factory=dict)
    model: str = "finetune"
    views: str = "microscopy"
    n_patches: int = 8
    batch: int = 20
    yardstick: int = 50
    show: str = "after"
    readers: int = 1
    overlap: float = 0.0
    adjudicate: bool = True
    guidance: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _check_classes(self.classes))
        check_option("show", self.show, SHOWN)
        for name, minimum in (
            ("batch", 1),
            ("yardstick", 0),
            ("readers", 1),
            ("n_patches", 2),
            ("seed", 0),
        ):
            check_int(name, getattr(self, name), minimum=minimum)
        check_number("overlap", self.overlap, low=0, high=1)
        if self.overlap > 0 and self.readers < 2:
            raise ParameterError(
                f"overlap={self.overlap} and readers={self.readers}; expected readers=2 or more "
                "where candidates are read more than once."
            )

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON values."""
        return dataclasses.asdict(self) | {"classes": list(self.classes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned; what a newer release added is left alone.

        Raises
        ------
        DataError
            If they are no settings of a campaign.
        """
        names = {each.name for each in dataclasses.fields(cls)}
        try:
            known = {name: value for name, value in values.items() if name in names}
            return cls(**known | {"classes": tuple(known["classes"])})
        except (AttributeError, KeyError, TypeError, ParameterError) as error:
            raise DataError(f"the settings of the campaign are damaged: {error}.") from error


def _check_classes(classes: Any) -> tuple[str, ...]:
    if isinstance(classes, str):
        raise ParameterError(
            f"classes={classes!r}; expected several names: {tuple(classes.split(','))!r}."
        )
    names = tuple(str(name).strip() for name in classes)
    if len(names) < 2:
        raise ParameterError(f"classes={names!r}; expected at least two.")
    for name in names:
        if not name or len(name) > _LONGEST or any(not sign.isprintable() for sign in name):
            raise ParameterError(
                f"a class is called {name!r}; expected 1 to {_LONGEST} letters in one line."
            )
    if len(set(names)) < len(names):
        raise ParameterError(f"classes={names!r} names one twice; expected each once.")
    return names
