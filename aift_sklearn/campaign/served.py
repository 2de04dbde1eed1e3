"""A campaign as annotators' front ends see it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from .settings import Settings

__all__ = ["Explains", "Picture", "Served"]

Box = tuple[float, float, float, float]


class Explains(Protocol):
    """What a model thinks of a candidate."""

    @property
    def score(self) -> float | None:
        """What its label is worth; None without a model."""

    @property
    def pattern(self) -> str:
        """Letter of its pattern; empty without a model."""

    @property
    def proba(self) -> NDArray[Any] | None:
        """Probabilities of every patch and class, (m, K)."""

    @property
    def patches(self) -> list[bytes]:
        """The patches, as PNG."""

    @property
    def reason(self) -> str:
        """Why it is asked for, in words."""


class Served(Protocol):
    """A campaign, as far as annotators are concerned; its methods are called from threads."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def settings(self) -> Settings:
        """How it is run."""

    @property
    def ledger(self) -> Any:
        """What was asked and answered."""

    @property
    def grey(self) -> bool:
        """Whether candidates have one channel."""

    def picture(self, candidate: str) -> bytes:
        """PNG of a candidate."""

    def surroundings(self, candidate: str) -> tuple[bytes, Box] | None:
        """PNG of more of the image, and the candidate's box in it, as shares of its sides."""

    def explanation(self, candidate: str) -> Explains | None:
        """What the model thinks of it."""

    def status(self, annotator: str | None = None) -> dict[str, Any]:
        """How far it is, as JSON values.

        "counts": n_asked, n_open, n_labelled, n_skipped, n_unsure; "per_annotator": answers by
        name; "rounds": each with n_labels, accuracy, low, high; "training": state, one of idle,
        learning and failed, and text; "stopping": each with name, met, text; "speed": labels per
        minute.
        """


class Picture(NamedTuple):
    """A PNG that is served.

    Attributes
    ----------
    data : bytes
        The file.
    etag : str
        Names its contents.
    box : tuple of float, or None
        Where the candidate lies in its surroundings: x0, y0, x1, y1 as shares of the sides.
    """

    data: bytes
    etag: str
    box: Box | None = None
