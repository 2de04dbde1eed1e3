"""What a campaign has come to: from its ledger and what its models predicted, without a model."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .agreement import consensus
from .explanations import Predictions
from .folder import CampaignFolder
from .ledger import Ledger
from .records import Answer, Ask, Kind, Purpose, Round
from .settings import Settings
from .stopping import Progress, RoundProgress
from .yardstick import measure

__all__ = ["follow_progress", "predictions_of", "unanswered"]


def follow_progress(folder: CampaignFolder, ledger: Ledger, settings: Settings) -> Progress:
    """Sum up a campaign, round by round.

    Parameters
    ----------
    folder, ledger, settings
        Of the campaign.

    Returns
    -------
    Progress
        With the performance of every round on all labels that the yardstick has by now.
    """
    rounds, asks, answers = ledger.rounds(), ledger.asks(), ledger.current()
    labels, truth = (consensus(asks, answers, yardstick=which) for which in (False, True))
    plan = rounds[0].parameters if rounds else {}
    groups = plan.get("group_of") or None
    found: list[RoundProgress] = []
    before: Predictions | None = None
    for each in rounds:
        if not each.model:
            continue
        now = predictions_of(folder, each)
        predicted = {} if now is None else now.labels()
        of_round = [
            ask for ask in asks if ask.round == each.number and ask.purpose is Purpose.model
        ]
        n_asked, n_foreseen = _count_foreseen(of_round, labels, settings)
        found.append(
            RoundProgress(
                each.number,
                each.n_labels,
                measure(truth, predicted, groups),
                None if before is None or now is None else _kappa(before, now),
                n_asked,
                n_foreseen,
                _expected_errors(of_round),
            )
        )
        before = now
    n_left = max(0, int(plan.get("n_pool", 0)) - _n_gone(asks, plan))
    return Progress(found, n_left, len(unanswered(asks, answers)))


def _n_gone(asks: Sequence[Ask], plan: Mapping[str, Any]) -> int:
    """Candidates that will not be asked for any more: asked for, or set aside."""
    asked = {ask.candidate for ask in asks}
    waiting = [name for name in plan.get("yardstick", []) if name not in asked]
    # Of the groups set aside only the yardstick's candidates are ever asked for.
    drawn = set(plan.get("yardstick", []))
    of_yardstick = sum(ask.candidate in drawn for ask in asks)
    others = max(0, int(plan.get("n_set_aside", len(drawn))) - len(waiting) - of_yardstick)
    return len(asked) + others


def unanswered(asks: Sequence[Ask], answers: Sequence[Answer]) -> list[Ask]:
    """Questions that nobody has given a label to, nor is unsure of.

    Parameters
    ----------
    asks : sequence of Ask
        What was asked.
    answers : sequence of Answer
        Those that count.
    """
    done = {answer.candidate for answer in answers if answer.kind is not Kind.skip}
    return [ask for ask in asks if ask.candidate not in done]


def _count_foreseen(
    asks: Sequence[Ask], labels: Mapping[str, str], settings: Settings
) -> tuple[int, int]:
    known = [ask for ask in asks if ask.candidate in labels and ask.proba]
    right = [
        # Classes are only ever added, at the end.
        settings.classes[int(np.argmax(ask.proba))] == labels[ask.candidate]
        for ask in known
    ]
    return len(known), sum(right)


def _expected_errors(asks: Sequence[Ask]) -> float | None:
    errors = [1 - max(ask.proba) for ask in asks if ask.proba]
    return float(np.mean(errors)) if errors else None


def _kappa(before: Predictions, now: Predictions) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    one, other = before.labels(), now.labels()
    both = sorted(one.keys() & other.keys())
    pairs = [(one[name], other[name]) for name in both]
    if not pairs:
        return None
    if len({label for pair in pairs for label in pair}) < 2:
        # One class for all, both times: kappa is not defined, and nothing has changed.
        return 1.0
    a, b = zip(*pairs, strict=True)
    return float(cohen_kappa_score(a, b))


def predictions_of(folder: CampaignFolder, round_: Round) -> Predictions | None:
    """Read what the model of a round predicted; None where that is missing or damaged."""
    path = folder.predictions(round_.number)
    try:
        return _read_predictions(path, path.stat().st_mtime_ns)
    except (OSError, DataError):
        return None


@functools.lru_cache(maxsize=256)
def _read_predictions(path: Path, changed: int) -> Predictions:
    """Read what a round predicted, which does not change."""
    return Predictions.read(path)
