"""Studies whose tables are kept beside the documents that quote them.

A kept study is docs/data/NAME.jsonl, the table of `simulate` without pictures' indices and patch
probabilities, and docs/data/NAME.json, the facts about it. Documents are written from these alone,
so that every figure can be derived again without running anything.
"""

import datetime
import json
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aift_sklearn import __version__
from aift_sklearn.study import (
    compare_with_baseline,
    headline,
    labels_to_reach,
    read_table,
    summarise,
    write_table,
)
from aift_sklearn.study.metrics import area_under_curve, format_labels, labels_for_mean_curve
from aift_sklearn.study.report.findings import caveat, p_value, signed

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "data"
LEFT_OUT = ["asked", "patch_proba", "pattern"]
MEASURES = {"auc": "ROC AUC", "balanced_accuracy": "balanced accuracy"}


@dataclass
class KeptStudy:
    """A table, and the facts that its documents quote."""

    table: pd.DataFrame
    facts: dict[str, Any]

    @property
    def strategies(self):
        """Strategies in the order in which they were run."""
        return list(dict.fromkeys(self.table["strategy"]))

    @property
    def n_seeds(self):
        """Paired seeds."""
        return int(self.table["seed"].nunique())

    @property
    def budget(self):
        """Labels known at the end."""
        return int(self.table["n_labels"].max())


def keep(name, table, dataset, classifier, reference, **facts):
    """Write a study to docs/data."""
    rounded = table.drop(columns=LEFT_OUT, errors="ignore").round(
        {"auc": 6, "balanced_accuracy": 6, "score_seconds": 3, "train_seconds": 3}
    )
    write_table(rounded, KEPT / f"{name}.jsonl")
    told = {
        "dataset": repr(dataset),
        "description": dataset.description,
        "n_candidates": dataset.n_candidates,
        "shares": {str(c): round(float((dataset.y == c).mean()), 4) for c in dataset.classes},
        "classifier": " ".join(repr(classifier).split()),
        "reference": {name: round(value, 6) for name, value in reference.items()},
        "written": f"{datetime.date.today()}",
        "version": __version__,
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        **facts,
    }
    text = json.dumps(told, indent=1, ensure_ascii=False)
    (KEPT / f"{name}.json").write_text(text + "\n", "utf-8")


def read(name):
    """Read a study from docs/data."""
    facts = json.loads((KEPT / f"{name}.json").read_text("utf-8"))
    return KeptStudy(read_table(KEPT / f"{name}.jsonl"), facts)


def finding(study, metric):
    """Sum up a study in sentences, also what does not flatter."""
    told = headline(study.table, metric=metric)
    limits = caveat(study.table, summarise(study.table, metric=metric), metric, "random", None)
    whole = study.facts["reference"][metric]
    return f"{told} {limits} All {study.facts['n_candidates']} labels of the pool give {whole:.3f}."


def table_of_curves(study, metric, shown, digits=3):
    """Mean over the seeds by number of labels."""
    mean = study.table.pivot_table(index="n_labels", columns="strategy", values=metric)
    rows = [
        [n, *(f"{mean.loc[n, name]:.{digits}f}" for name in study.strategies)]
        for n in shown
        if n in mean.index
    ]
    return markdown(["labels", *study.strategies], rows)


def table_of_levels(study, metric, levels):
    """Labels needed for each level, by name, of the mean curve and as median of the seeds."""
    rows = []
    for name, level in levels.items():
        of_mean = labels_for_mean_curve(study.table, level, metric)
        of_seeds = labels_to_reach(study.table, level, metric)
        for strategy in study.strategies:
            mean = format_labels(of_mean[strategy], study.budget)
            each = format_labels(of_seeds.loc[strategy], study.budget)
            rows.append([name, strategy, mean, each])
    head = [MEASURES[metric], "strategy", "labels, mean curve", "labels, median of the seeds"]
    return markdown(head, rows)


def table_of_areas(study, metrics):
    """Area under the curve against random's, paired."""
    rows = []
    for metric in metrics:
        area = area_under_curve(study.table, metric)
        compared = compare_with_baseline(study.table, metric)
        for strategy in study.strategies:
            row, interval = compared.loc[strategy], ""
            if strategy != "random":
                ends = f"{signed(row['low'])} to {signed(row['high'])}"
                interval = f"{signed(row['difference'])} ({ends})"
            tests = [p_value(row[name]) if interval else "" for name in ("p", "wilcoxon_p")]
            mean = f"{area.loc[strategy].mean():.4f}"
            rows.append([MEASURES[metric], strategy, mean, interval, *tests])
    head = ["measure", "strategy", "area", "minus random's (95 % t interval)", "p, t-test",
            "p, Wilcoxon"]  # fmt: skip
    return markdown(head, rows)


def markdown(head, rows):
    """Write a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def written_by(script, study):
    """Say when and where the figures of a study were made."""
    facts = study.facts
    return (
        f"Generated by `benchmarks/{script}` from the tables in [data](data), which were made on "
        f"{facts['written']} with aift-sklearn {facts['version']} on {facts['machine']}."
    )


def with_block(text, name, contents):
    """Put contents between the marks of this name."""
    block = f"<!-- {name} -->\n{contents}\n<!-- /{name} -->"
    return re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _: block, text, flags=re.DOTALL)
