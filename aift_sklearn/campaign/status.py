"""How a campaign stands, as JSON values and in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from .ledger import Ledger
from .records import Kind, Purpose
from .settings import Settings
from .stopping import Progress, RoundProgress, default_criteria

__all__ = ["Summed", "describe", "summarise"]

# Answers that the speed is taken from.
_LAST = 20


class Summed(Protocol):
    """A campaign, as far as it is summed up."""

    ledger: Ledger
    training: dict[str, str]

    @property
    def settings(self) -> Settings:
        """What it is about."""

    def progress(self) -> Progress:
        """Sum up its rounds."""


def summarise(campaign: Summed, annotator: str | None = None) -> dict[str, Any]:
    """Sum up a campaign as JSON values.

    Parameters
    ----------
    campaign : Campaign
        Nothing of it but the ledger and what models predicted is read.
    annotator : str, optional
        Whose own share is told too.

    Returns
    -------
    dict
        counts, rounds (with balanced accuracy on the yardstick and its interval), stopping,
        yardstick, per_annotator (name → number of answers), speed, training and, where a name is
        given, own.
    """
    ledger, settings = campaign.ledger, campaign.settings
    progress, counts = campaign.progress(), ledger.counts()
    asks, current = ledger.asks(), ledger.current()
    yardstick = {ask.candidate for ask in asks if ask.purpose == Purpose.yardstick}
    labelled = {each.candidate for each in current if each.kind == Kind.label}
    plan = ledger.rounds()[0].parameters
    found: dict[str, Any] = {
        "name": settings.name,
        "classes": list(settings.classes),
        "counts": dataclasses.asdict(counts),
        "rounds": [_round(each) for each in progress.rounds],
        "n_pool": plan.get("n_pool", 0),
        "n_left": progress.n_left,
        "n_open": progress.n_open,
        "yardstick": {
            "n_labelled": len(yardstick & labelled),
            "n_wanted": len(plan.get("yardstick", [])),
            "note": plan.get("note", ""),
        },
        "stopping": [each.judge(progress)._asdict() for each in default_criteria()],
        "speed": _per_minute(current),
        "per_annotator": counts.by_annotator,
        "training": dict(campaign.training),
    }
    if annotator is not None:
        own = [each for each in current if each.annotator == annotator]
        found["own"] = {
            "n_answers": len(own),
            "n_labels": sum(each.kind == Kind.label for each in own),
            "speed": _per_minute(own),
        }
    return found


def _round(each: RoundProgress) -> dict[str, Any]:
    found: dict[str, Any] = {
        "round": each.number,
        "n_labels": each.n_labels,
        "kappa": each.kappa,
        "n_asked": each.n_asked,
        "n_foreseen": each.n_foreseen,
        "expected_errors": each.expected_errors,
    }
    performance = each.performance
    if performance is not None:
        found |= {
            "n_yardstick": performance.n,
            "balanced": performance.balanced,
            "low": performance.balanced_low,
            "high": performance.balanced_high,
            "accuracy": performance.accuracy,
            "accuracy_low": performance.accuracy_low,
            "accuracy_high": performance.accuracy_high,
        }
    return found


def _per_minute(answers: list[Any]) -> float | None:
    """Answers per minute that the questions were on the screen, of the last ones."""
    timed = [each.seconds for each in answers if each.seconds][-_LAST:]
    return 60 * len(timed) / sum(timed) if timed else None


def describe(status: Mapping[str, Any]) -> list[str]:
    """Say how a campaign stands, in lines.

    Parameters
    ----------
    status : mapping
        As of `summarise`.
    """
    counts, yardstick = status["counts"], status["yardstick"]
    lines = [
        f"{status['name']}: {counts['n_labelled']:,} candidates labelled of {status['n_pool']:,}; "
        f"{status['n_open']:,} questions wait, {status['n_left']:,} were not asked for yet",
        f"yardstick: {yardstick['n_labelled']} of {yardstick['n_wanted']} random candidates "
        "labelled, never trained on" + (f" ({yardstick['note']})" if yardstick["note"] else ""),
    ]
    for each in status["rounds"]:
        line = f"round {each['round']}: taught {each['n_labels']} labels"
        if "balanced" in each:
            line += (
                f"; balanced accuracy {each['balanced']:.3f} ({each['low']:.3f} to "
                f"{each['high']:.3f}) on {each['n_yardstick']} of the yardstick"
            )
        if each["n_asked"]:
            line += f"; {each['n_foreseen']} of {each['n_asked']} hard ones were predicted"
        lines.append(line)
    lines += [f"{_sign(each['met'])} {each['name']}: {each['text']}" for each in status["stopping"]]
    return lines


def _sign(met: bool | None) -> str:
    return {True: "stop?", False: "go on", None: "unknown"}[met] + ","
