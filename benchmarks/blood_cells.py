"""Blood cells: the labels that AIFT saves where classes are rare.

Usage: python benchmarks/blood_cells.py FOLDER [--work WORK]

FOLDER holds boxes.csv (image, xmin, ymin, xmax, ymax, label) and images/ of the BCCD data set
(https://github.com/Shenggan/BCCD_Dataset, MIT licence). Rounds are kept in WORK as they finish, so
that an interrupted run goes on. Writes docs/blood-cells.md, docs/blood-cells.png and the README's
sentences about them; the HTML reports of both studies go into WORK.
"""

import argparse
import datetime
import json
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from aift_sklearn import AffinePatches, AIFTClassifier, CNNFeatures, __version__
from aift_sklearn.study import (
    Dataset,
    area_under_curve,
    labels_to_reach,
    load_boxes,
    paired_interval,
    plot_learning_curves,
    simulate,
    whole_pool,
    write_report,
)
from aift_sklearn.study.demo import build_model
from aift_sklearn.study.metrics import format_labels, labels_for_mean_curve

ROOT = Path(__file__).parents[1]
METRIC = "balanced_accuracy"
BATCH, ROUNDS = 20, 12
SHOWN = (20, 40, 60, 80, 100, 120, 160, 200, 240)


@dataclass
class Study:
    """A study that was run."""

    title: str
    dataset: Dataset
    classifier: Any
    table: pd.DataFrame
    reference: dict[str, float]

    @property
    def strategies(self) -> list[str]:
        """Strategies in the order in which they were run."""
        return list(dict.fromkeys(self.table["strategy"]))

    @property
    def n_seeds(self) -> int:
        """Paired seeds."""
        return int(self.table["seed"].nunique())


def run(title, name, dataset, classifier, strategies, n_seeds, work):
    """Run a study, or go on with it."""
    print(f"{title}\n{dataset!r}", flush=True)

    def show(row):
        print(*(row[key] for key in ("strategy", "seed", "n_labels", METRIC)), flush=True)

    options = {"n_rounds": ROUNDS, "n_instances": BATCH, "seeds": range(n_seeds)}
    path = work / f"{name}.jsonl"
    table = simulate(dataset, classifier, strategies, **options, path=path, on_round=show)
    known = work / f"{name}.whole-pool.json"
    if not known.exists():
        known.write_text(json.dumps(whole_pool(dataset, classifier)), "utf-8")
    study = Study(title, dataset, classifier, table, json.loads(known.read_text("utf-8")))
    write_report(
        table,
        dataset,
        work / f"{name}.html",
        title=f"Blood cells: {title[0].lower()}{title[1:]}",
        parameters={"strategies": strategies, **options, "classifier": classifier},
        reference=study.reference,
        metric=METRIC,
    )
    return study


def curves(study):
    """Mean balanced accuracy by number of labels."""
    mean = study.table.pivot_table(index="n_labels", columns="strategy", values=METRIC)
    head = f"| labels | {' | '.join(study.strategies)} |\n|---|{'---|' * len(study.strategies)}"
    rows = [
        f"| {n} | " + " | ".join(f"{mean.loc[n, name]:.3f}" for name in study.strategies) + " |"
        for n in SHOWN
    ]
    return "\n".join([head, *rows])


def levels(study):
    """Labels needed for what random ended with, and for 97 % of the whole pool."""
    mean_end = study.table.query("strategy == 'random'").groupby("round")[METRIC].mean().iloc[-1]
    goals = {
        f"random's at {BATCH * ROUNDS} labels": mean_end,
        "97 % of the whole pool's": 0.97 * study.reference[METRIC],
        "99 % of the whole pool's": 0.99 * study.reference[METRIC],
    }
    rows = []
    for name, level in goals.items():
        of_mean = labels_for_mean_curve(study.table, level, METRIC)
        of_seeds = labels_to_reach(study.table, level, METRIC)
        budget = study.table["n_labels"].max()
        for strategy in study.strategies:
            mean = format_labels(of_mean[strategy], budget)
            each = format_labels(of_seeds.loc[strategy], budget)
            rows.append(f"| {name}, {level:.3f} | {strategy} | {mean} | {each} |")
    head = (
        "| balanced accuracy | strategy | labels, mean curve | labels, median of the seeds |\n"
        "|---|---|---|---|"
    )
    return "\n".join([head, *rows])


def areas(study):
    """Area under the curve against random's, paired."""
    rows = []
    for metric, label in ((METRIC, "balanced accuracy"), ("auc", "ROC AUC")):
        area = area_under_curve(study.table, metric)
        for strategy in study.strategies:
            difference = ""
            if strategy != "random":
                mean, low, high = paired_interval(area.loc[strategy], area.loc["random"])
                difference = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
            rows.append(
                f"| {label} | {strategy} | {area.loc[strategy].mean():.4f} | {difference} |"
            )
    head = "| measure | strategy | area | minus random's (95 % interval) |\n|---|---|---|---|"
    return "\n".join([head, *rows])


def asked(study):
    """Classes among the labels asked."""
    ends = study.table[study.table["round"] == ROUNDS - 1].groupby("strategy")
    classes = study.dataset.classes
    head = f"| strategy | {' | '.join(classes)} |\n|---|{'---|' * len(classes)}"
    rows = [
        f"| {s} | " + " | ".join(f"{ends[f'n_{c}'].mean()[s]:.0f}" for c in classes) + " |"
        for s in study.strategies
    ]
    return "\n".join([head, *rows])


def sentence(study):
    """Sum up a study, also what does not flatter."""
    end = study.table.query("strategy == 'random'").groupby("round")[METRIC].mean().iloc[-1]
    needed = labels_for_mean_curve(study.table, end, METRIC)
    budget = study.table["n_labels"].max()
    area = area_under_curve(study.table, METRIC)
    gains = {
        name: paired_interval(area.loc[name], area.loc["random"])
        for name in study.strategies
        if name != "random"
    }
    mean, low, high = gains["AIFT"]
    verdict = "" if low > 0 or high < 0 else " (the sign is open)"
    earlier = ""
    if needed["random"] < budget:
        earlier = (
            f", a level that random first touched at {format_labels(needed['random'], budget)}"
        )
    best = max(gains, key=lambda name: gains[name][0])
    rival = "" if best == "AIFT" else f"; the best query was {best}, by {gains[best][0]:+.3f}"
    return (
        f"AIFT reached the balanced accuracy of {end:.3f}, which random asking ended with at "
        f"{budget} labels, with {format_labels(needed['AIFT'], budget)} (mean curves of "
        f"{study.n_seeds} paired seeds{earlier}). The area under the curve differs by "
        f"{mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f}){verdict}{rival}. All "
        f"{study.dataset.n_candidates} labels of the pool give {study.reference[METRIC]:.3f}."
    )


def section(study):
    """One study as Markdown."""
    seconds = study.table.groupby("strategy")[["score_seconds", "train_seconds"]].sum()
    each = seconds.loc["AIFT"] / study.n_seeds
    counts = repr(study.dataset)
    return f"""## {study.title}
{sentence(study)}

```
{counts}
```

Balanced accuracy on the test set, mean over {study.n_seeds} seeds (the whole pool: \
{study.reference[METRIC]:.3f}):

{curves(study)}

Labels needed for a level (> means not within the labels asked; range over the seeds in brackets):

{levels(study)}

Mean height of the learning curves:

{areas(study)}

Classes among the {BATCH * ROUNDS} labels, mean over the seeds:

{asked(study)}

A campaign of AIFT took {each["score_seconds"]:.0f} s for scoring and \
{each["train_seconds"]:.0f} s for training. The classifier: `{study.classifier!r}`.
"""


def write(studies):
    """Write the page, its picture and the README's block."""
    figure = Figure(figsize=(10.5, 4), layout="constrained")
    for study, ax in zip(studies, figure.subplots(1, len(studies)), strict=True):
        shown = study.table[study.table["strategy"].isin(["random", "AIFT", "entropy"])]
        plot_learning_curves(shown, METRIC, ax=ax, reference=study.reference[METRIC])
        ax.set_title(study.title, fontsize=10)
    figure.savefig(ROOT / "docs" / "blood-cells.png", dpi=110)
    first = studies[0].dataset
    page = "\n".join(section(study) for study in studies)
    (ROOT / "docs" / "blood-cells.md").write_text(
        f"""# Blood cells: AIFT against random asking and other queries
Generated by `benchmarks/blood_cells.py` on {datetime.date.today()}, aift-sklearn {__version__}, \
{os.cpu_count()} CPU cores ({platform.machine()}).

![Learning curves](blood-cells.png)

Microscope images of blood smears, in which people drew a box around every cell and named it: \
BCCD, <https://github.com/Shenggan/BCCD_Dataset>, MIT licence. {first.description} \
The rare classes are 15 % of the pool. All strategies of a seed share the first {BATCH} \
candidates, the most typical of {BATCH} clusters; then each asks for {BATCH} in a round. \
"AIFT" has the defaults of `aift_sampling`, "AIFT mean" α = 0.5 and `reduction="mean"`, \
"AIFT entropy" no diversity; "entropy" and "margin" \
are modAL's, on the mean prediction of the patches. One data set and one split: other \
laboratories' images may turn out differently.

{page}""",
        "utf-8",
    )
    counts = ", ".join(f"{(first.y == c).mean():.0%} {c}" for c in first.classes)
    text = (
        f"Blood cells, boxed and named by people ({counts}); [details](docs/blood-cells.md):\n\n"
        f"- **Frozen features** and a logistic regression: {sentence(studies[0])}\n"
        f"- **The whole CNN fine-tuned**, on part of the cells: {sentence(studies[1])}"
    )
    readme = ROOT / "README.md"
    block = f"<!-- blood-result -->\n{text}\n<!-- /blood-result -->"
    pattern = "<!-- blood-result -->.*<!-- /blood-result -->"
    readme.write_text(
        re.sub(pattern, lambda _: block, readme.read_text("utf-8"), flags=re.DOTALL), "utf-8"
    )


def main():
    """Run both studies and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, default=Path("blood-cells-study"))
    arguments = parser.parse_args()
    folder, work = arguments.folder, arguments.work
    head = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    views = AffinePatches.for_microscopy(n_patches=16)
    frozen = run(
        "Frozen features, all cells",
        "frozen",
        load_boxes(folder),
        AIFTClassifier(make_pipeline(CNNFeatures(), head), patches=views),
        ("random", "AIFT", "AIFT mean", "AIFT entropy", "entropy", "margin"),
        10,
        work,
    )
    fine_tuned = run(
        "Fine-tuned end to end, part of the cells",
        "fine-tuned",
        load_boxes(folder, max_pool=1000, max_test=500),
        build_model(),
        ("random", "AIFT"),
        5,
        work,
    )
    write([frozen, fine_tuned])


if __name__ == "__main__":
    main()
