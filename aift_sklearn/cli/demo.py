"""``aift demo``."""

from __future__ import annotations

import math
from pathlib import Path

from .options import Batch, Quiet, ReportFile, Rounds, Seeds
from .terminal import announce, loading

__all__ = ["demo"]

# Seconds of a round on two cores: to score, and to train on one label.
_SCORING, _TRAINING = 3.0, 0.08


def demo(
    out: ReportFile = Path("demo-report.html"),
    seeds: Seeds = 3,
    rounds: Rounds = 6,
    batch: Batch = 12,
    quiet: Quiet = False,
) -> None:
    """Compare AIFT with random asking on stained tissue, with a fine-tuned CNN. Works offline.

    Finished rounds are kept beside the report until it is written: after an interruption the same
    command goes on.

    Example: aift demo --out demo-report.html
    """
    announce(_describe(seeds, rounds, batch), quiet=quiet)
    with loading(quiet=quiet):
        from ..study.demo import run_demo
    run_demo(out, n_rounds=rounds, n_instances=batch, seeds=range(seeds), verbose=not quiet)


def _describe(seeds: int, rounds: int, batch: int) -> str:
    campaigns = 2 * seeds
    labels = batch * (rounds + 1) / 2
    minutes = math.ceil(campaigns * rounds * (_SCORING + _TRAINING * labels) / 60)
    return (
        f"AIFT against random asking on stained tissue: {campaigns * rounds} rounds of {batch} "
        f"labels ({seeds} {'seed' if seeds == 1 else 'seeds'}), about {minutes} "
        f"{'minute' if minutes == 1 else 'minutes'} on two cores. Ctrl-C keeps finished rounds."
    )
