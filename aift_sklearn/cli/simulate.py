"""``aift simulate``."""

from __future__ import annotations

from pathlib import Path

from . import options
from .terminal import announce, loading

__all__ = ["simulate"]


def simulate(
    data: options.Data = "tissue",
    strategy: options.Strategies = None,
    model: options.Models = None,
    rounds: options.Rounds = 8,
    batch: options.Batch = 12,
    seeds: options.Seeds = 3,
    views: options.ViewFamily = options.Views.microscopy,
    patches: options.Patches = 8,
    metric: options.Measure = options.Metric.auc,
    restart: options.Restart = False,
    groups: options.Groups = False,
    whole_pool: options.WholePool = False,
    size: options.Size = None,
    test_fraction: options.TestFraction = None,
    split_seed: options.SplitSeed = None,
    max_pool: options.MaxPool = None,
    max_test: options.MaxTest = None,
    drop_look_alikes: options.DropLookAlikes = False,
    out: options.StudyFolder = Path("aift-study"),
    quiet: options.Quiet = False,
) -> None:
    """Simulate campaigns on a pool with known labels, and report the labels saved.

    The table is written round by round: the same command goes on after an interruption, and more
    seeds, rounds or strategies extend a study.

    Example: aift simulate --data boxes:BCCD --model features --batch 20 --out study
    """
    models = [name.value for name in model or [options.Model.finetune]]
    strategies = strategy or ["random", "AIFT"]
    n_rounds = len(models) * len(strategies) * seeds * rounds
    announce(f"{n_rounds} rounds of {batch} labels on {data}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..study.studies import run_study
    run_study(
        data,
        out,
        models=models,
        views=views.value,
        n_patches=patches,
        strategies=strategies,
        n_rounds=rounds,
        n_instances=batch,
        seeds=range(seeds),
        restart=restart,
        groups=groups,
        metric=metric.value,
        reference=whole_pool,
        size=size,
        test_fraction=test_fraction,
        random_state=split_seed,
        max_pool=max_pool,
        max_test=max_test,
        drop_look_alikes=drop_look_alikes or None,
        verbose=not quiet,
    )
