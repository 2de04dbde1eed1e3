"""What the terminal says at the end of a study, and while one waits for its beginning."""

import os
import re
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from aift_sklearn import cli
from aift_sklearn.study import studies
from aift_sklearn.study.studies import print_summary

ROOT = Path(__file__).parents[2]


def table_of(curves, balanced=None, **columns):
    """Tidy table from {(strategy, seed): [auc per round]}, and balanced accuracies alike."""
    rows = [
        {"strategy": name, "seed": seed, "round": i, "n_labels": 10 * (i + 1), "auc": auc,
         "balanced_accuracy": (balanced or curves)[name, seed][i], "score_seconds": 0.5,
         "train_seconds": 2.0, **columns}
        for (name, seed), values in curves.items()
        for i, auc in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


RANDOM = {("random", seed): [0.6, 0.7, 0.8] for seed in range(3)}
# AIFT is faster by the medians, and its interval includes 0.
LEVEL = RANDOM | {
    ("AIFT", 0): [0.6, 0.8, 0.9],
    ("AIFT", 1): [0.6, 0.9, 0.9],
    ("AIFT", 2): [0.6, 0.6, 0.6],
}
FAR_BELOW = RANDOM | {("AIFT", seed): [0.6, 0.5, 0.4 + seed / 100] for seed in range(3)}
BETTER = RANDOM | {("AIFT", seed): [0.6, 0.85, 0.9 + seed / 100] for seed in range(3)}


def shown(table, **options):
    """What the terminal shows below its grid, in one line."""
    text = StringIO()
    print_summary(table, Console(file=text, width=300), **options)
    return " ".join(text.getvalue().rpartition("┘")[2].split())


def test_the_terminal_begins_with_no_difference_where_none_was_shown():
    says = shown(table_of(LEVEL))
    assert says.startswith("No difference shown: the area under its curve differs by +0.033")
    assert "%" not in says.replace("95 %", "")


@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy"])
def test_the_terminal_names_the_metric_in_which_a_strategy_is_far_below(metric):
    other = {"auc": "balanced accuracy", "balanced_accuracy": "AUC"}[metric]
    for curves, first in ((LEVEL, "No difference shown"), (BETTER, "AIFT needed 20 labels")):
        pair = (curves, FAR_BELOW) if metric == "auc" else (FAR_BELOW, curves)
        says = shown(table_of(*pair), metric=metric)
        assert says.startswith(first)
        assert f"In {other} it did worse: the area differs by −0." in says
    assert "In " not in shown(table_of(BETTER))


def test_the_terminal_tells_each_model_by_itself():
    tables = [table_of(LEVEL, head="finetune"), table_of(BETTER, head="features")]
    text = StringIO()
    print_summary(pd.concat(tables), Console(file=text, width=300))
    first, second = text.getvalue().split("features (mean")
    assert "No difference shown" in first
    assert "No difference shown" not in second
    assert "% fewer" not in first
    assert "% fewer" in second


def test_a_simulation_ends_with_what_the_intervals_allow(monkeypatch, tmp_path):
    table = table_of(LEVEL, FAR_BELOW)
    monkeypatch.setattr(studies, "simulate", lambda *args, **options: table)
    monkeypatch.setattr(studies, "write_report", lambda table, dataset, path, **options: path)
    out = tmp_path / "study"
    result = CliRunner().invoke(cli.app, ["simulate", "--out", str(out), "--quiet"])
    assert result.exit_code == 0, result.output
    says = " ".join(result.stdout.rpartition("┘")[2].split())
    assert says.startswith("No difference shown")
    assert "In balanced accuracy it did worse" in says
    assert "fewer" not in says


# --- while one waits ------------------------------------------------------------------------------


def first_line(*command, **options):
    """The first line that a command writes to standard error, and the seconds until it came."""
    start = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            line = process.stderr.readline()
            return line, time.perf_counter() - start
        finally:
            process.kill()


def test_the_demo_speaks_as_soon_as_a_command_can(tmp_path):
    options = {"cwd": tmp_path, "env": {**os.environ, "COLUMNS": "200"}}

    def fastest(*command):
        return min((first_line(*command, **options) for _ in range(3)), key=lambda each: each[1])

    # What Python and the package of commands need by themselves, on this machine as it is now.
    bare = "import sys, typer, rich.console; sys.stderr.write('here\\n')"
    _, least = fastest(sys.executable, "-c", bare)
    line, seconds = fastest(sys.executable, "-m", "aift_sklearn", "demo")
    assert "4 rounds of 16 labels, about" in line
    assert seconds < least + 1


def test_installing_says_what_comes_and_how_long_it_takes_before_it_does():
    planned = subprocess.run(
        ["make", "--dry-run", "install", "VENV=none-such"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    before, pip, _ = planned.partition("-m pip install")
    assert pip
    words = "\n".join(re.findall(r'^echo "(.*)"$', before, flags=re.MULTILINE))
    assert re.search(r"Installing torch.* into none-such", words)
    assert re.search(r"takes \d+ to \d+ minutes", words)
    assert "--quiet" not in planned
    assert " -q" not in planned


def test_the_time_that_is_promised_follows_the_work():
    from aift_sklearn.cli.demo import _describe

    minutes = [
        int(re.search(r"about (\d+) minute", _describe(*work))[1])
        for work in ((1, 1), (6, 12), (12, 12), (12, 24))
    ]
    assert minutes == sorted(set(minutes))
    assert np.all(np.array(minutes) >= 1)
