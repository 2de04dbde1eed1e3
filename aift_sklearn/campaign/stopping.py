"""When to stop: what speaks for it, and what against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from .yardstick import Performance

__all__ = [
    "BatchGain",
    "HeldOutInterval",
    "LabelsAgree",
    "PoolExhausted",
    "PredictionsStabilise",
    "Progress",
    "RoundProgress",
    "StoppingCriterion",
    "Verdict",
    "default_criteria",
]


class RoundProgress(NamedTuple):
    """What is known of a round.

    Attributes
    ----------
    number : int
        Of the round.
    n_labels : int
        Labels that its model was taught.
    performance : Performance or None
        On the yardstick.
    kappa : float or None
        Cohen's kappa between its predictions of the watched candidates and those of the round
        before; 1 where they are the same.
    n_asked, n_foreseen : int
        Of the candidates that its model asked for: how many have a label, and how many of those
        labels it had predicted.
    expected_errors : float or None
        Share of what it asked for last that it expects to be wrong about.
    """

    number: int
    n_labels: int
    performance: Performance | None = None
    kappa: float | None = None
    n_asked: int = 0
    n_foreseen: int = 0
    expected_errors: float | None = None


class Progress(NamedTuple):
    """What a campaign has come to.

    Attributes
    ----------
    rounds : list of RoundProgress
        Those with a model, in order.
    n_left : int
        Candidates that were not asked for yet.
    n_open : int
        Questions that wait for an answer.
    """

    rounds: list[RoundProgress]
    n_left: int
    n_open: int


class Verdict(NamedTuple):
    """What a criterion says.

    Attributes
    ----------
    name : str
        Of the criterion.
    met : bool or None
        Whether it speaks for stopping; None where it cannot be told yet.
    text : str
        Why, in words.
    """

    name: str
    met: bool | None
    text: str


class StoppingCriterion(Protocol):
    """What tells, from a campaign's progress, whether it may stop."""

    def judge(self, progress: Progress) -> Verdict:
        """Say whether it speaks for stopping."""


@dataclass(frozen=True)
class PredictionsStabilise:
    """Rounds no longer change what is predicted.

    Parameters
    ----------
    kappa : float, default=0.98
        Mean agreement of the last rounds, each with the one before. A larger value stops later.
    n_rounds : int, default=3
        How many rounds.

    References
    ----------
    Bloodgood and Vijay-Shanker, "A method for stopping active learning based on stabilizing
    predictions and the need for user-adjustable stopping", 2009; there 0.99 and 3.

    Examples
    --------
    >>> rounds = [RoundProgress(k, 20 * k, kappa=kappa) for k, kappa in enumerate([0.7, 0.99], 1)]
    >>> PredictionsStabilise(n_rounds=2).judge(Progress(rounds, 100, 5)).met
    False
    """

    kappa: float = 0.98
    n_rounds: int = 3

    def judge(self, progress: Progress) -> Verdict:
        """Say whether it speaks for stopping."""
        known = [each.kappa for each in progress.rounds if each.kappa is not None]
        name = "predictions stabilise"
        if len(known) < self.n_rounds:
            text = f"{len(known)} of {self.n_rounds} rounds to compare so far"
            return Verdict(name, None, text)
        mean = float(np.mean(known[-self.n_rounds :]))
        return Verdict(
            name,
            mean >= self.kappa,
            f"kappa between rounds {mean:.3f} over the last {self.n_rounds}; {self.kappa:g} means "
            "that they hardly change",
        )


@dataclass(frozen=True)
class LabelsAgree:
    """What experts say was predicted already, though the model asked for what it was unsure of.

    Parameters
    ----------
    share : float, default=0.95
        Of the labels of the last rounds. A larger value stops later.
    n_rounds : int, default=2
        How many rounds.
    n_labels : int, default=20
        Labels that are needed to tell.
    """

    share: float = 0.95
    n_rounds: int = 2
    n_labels: int = 20

    def judge(self, progress: Progress) -> Verdict:
        """Say whether it speaks for stopping."""
        last = [each for each in progress.rounds if each.n_asked][-self.n_rounds :]
        n = sum(each.n_asked for each in last)
        right = sum(each.n_foreseen for each in last)
        name = "labels agree"
        if len(last) < self.n_rounds or n < self.n_labels:
            return Verdict(name, None, f"{n} answers to what a model asked for so far")
        return Verdict(
            name, right / n >= self.share, f"{right} of the last {n} answers were predicted"
        )


@dataclass(frozen=True)
class BatchGain:
    """The next batch is expected to correct next to nothing.

    Parameters
    ----------
    share : float, default=0.05
        Of the batch that the model expects to be wrong about: the mean of 1 − its largest
        probability. A smaller value stops later. It believes the model, which may be too sure of
        itself.
    """

    share: float = 0.05

    def judge(self, progress: Progress) -> Verdict:
        """Say whether it speaks for stopping."""
        known = [
            each.expected_errors for each in progress.rounds if each.expected_errors is not None
        ]
        name = "little left to gain"
        if not known:
            return Verdict(name, None, "no model has asked yet")
        return Verdict(
            name,
            known[-1] <= self.share,
            f"the model expects to be wrong about {known[-1]:.0%} of what it asked for last",
        )


@dataclass(frozen=True)
class HeldOutInterval:
    """The yardstick shows that the model is good enough, or no longer gets better.

    Parameters
    ----------
    target : float, optional
        Balanced accuracy that the lower end of the interval is to reach. By default the criterion
        is that three rounds brought no more than the interval is wide.
    n_rounds : int, default=3
        How many rounds.
    n_labels : int, default=20
        Labels of the yardstick that are needed to tell.
    half_width : float, default=0.1
        Half of the interval, at most: a wider one does not show whether the model gets better.
    """

    target: float | None = None
    n_rounds: int = 3
    n_labels: int = 20
    half_width: float = 0.1

    def judge(self, progress: Progress) -> Verdict:
        """Say whether it speaks for stopping."""
        known = [each.performance for each in progress.rounds if each.performance is not None]
        name = "held-out interval"
        if not known or known[-1].n < self.n_labels:
            n = known[-1].n if known else 0
            return Verdict(name, None, f"{n} of the {self.n_labels} labels that it needs so far")
        now = known[-1]
        text = (
            f"balanced accuracy {now.balanced:.3f} ({now.balanced_low:.3f} to "
            f"{now.balanced_high:.3f}) on {now.n} random candidates"
        )
        if self.target is not None:
            met = now.balanced_low >= self.target
            return Verdict(name, met, f"{text}; {self.target:g} is wanted")
        if len(known) <= self.n_rounds:
            return Verdict(name, None, f"{text}; too few rounds to compare")
        before = known[-1 - self.n_rounds]
        gained = now.balanced - before.balanced
        text += f"; {gained:+.3f} over the last {self.n_rounds} rounds"
        half = (now.balanced_high - now.balanced_low) / 2
        if half > self.half_width:
            return Verdict(name, None, f"{text}; too wide an interval to tell")
        return Verdict(name, gained < half, text)


@dataclass(frozen=True)
class PoolExhausted:
    """Everything was asked for, and answered."""

    name: ClassVar[str] = "pool exhausted"

    def judge(self, progress: Progress) -> Verdict:
        """Say whether it speaks for stopping."""
        left, waiting = progress.n_left, progress.n_open
        text = f"{left:,} candidates were not asked for yet, and {waiting:,} questions wait"
        return Verdict(self.name, left == 0 and waiting == 0, text)


def default_criteria() -> Sequence[StoppingCriterion]:
    """Return the criteria of a campaign, where none are given."""
    return (
        PredictionsStabilise(),
        LabelsAgree(),
        BatchGain(),
        HeldOutInterval(),
        PoolExhausted(),
    )
