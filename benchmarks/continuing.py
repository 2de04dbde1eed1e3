"""Seconds of training in the modes of fine-tuning, round by round, in one run.

Usage: python benchmarks/continuing.py [--data SOURCE] [--size PIXELS] [--rounds N]

Labels are asked at random, so that all modes are taught the same. One thread, as in a study.
"""

import argparse

import torch

from aift_sklearn.models import build_model
from aift_sklearn.study import open_dataset, simulate

# Mode: what is replayed, and whether every round trains anew.
MODES = {
    "AFT(LQ)": ("all", True),
    "ACFT(LQ)": ("all", False),
    "mixed, the default": ("mixed", False),
    "ACFT(HQ)": ("hard", False),
    "ACFT(Q)": ("none", False),
}


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="tissue")
    parser.add_argument("--size", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    options = {"max_pool": 700, "max_test": 60} if arguments.data != "tissue" else {}
    data = open_dataset(arguments.data, size=arguments.size, **options)
    seconds = {}
    # Once before, for what is loaded and built in a first round.
    for mode, (replay, restart) in {"": ("all", True), **MODES}.items():
        table = simulate(
            data,
            build_model().set_params(replay=replay),
            ["random"],
            n_rounds=arguments.rounds if mode else 1,
            n_instances=20,
            restart=restart,
        )
        seconds[mode] = table["train_seconds"]
    print("| mode | first round | last round | campaign | of AFT(LQ) |")
    print("| --- | --- | --- | --- | --- |")
    for mode in MODES:
        each = seconds[mode]
        share = each.sum() / seconds["AFT(LQ)"].sum()
        cells = f"{each.iloc[0]:.1f} s | {each.iloc[-1]:.1f} s | {each.sum():.1f} s | {share:.0%}"
        print(f"| {mode} | {cells} |")


if __name__ == "__main__":
    main()
