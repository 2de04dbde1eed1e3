"""Stained tissue: what is saved on the easy pool that comes with the package.

Usage: python benchmarks/tissue.py [--run]

Writes docs/learning-curve.png and docs/tissue.md, and the README's sentence about them, from the
table kept in docs/data; with --run the study is run first, in a quarter of an hour, and its table
kept.
"""

import argparse

import studies
from matplotlib.figure import Figure

from aift_sklearn.study import load_tissue, plot_learning_curves, simulate, whole_pool
from aift_sklearn.study.demo import build_model

METRIC = "auc"
SEEDS = range(6)
ROUNDS, BATCH = 6, 12
LEVELS = (0.96, 0.97, 0.98, 0.99)


def run():
    """Run the study and keep its table."""
    dataset, classifier = load_tissue(), build_model()
    table = simulate(
        dataset,
        classifier,
        ("random", "AIFT", "AIFT top"),
        n_rounds=ROUNDS,
        n_instances=BATCH,
        seeds=SEEDS,
        path="tissue-study/table.jsonl",
        on_round=lambda row: print(row["strategy"], row["seed"], row["n_labels"], flush=True),
    )
    studies.keep("tissue", table, dataset, classifier, whole_pool(dataset, classifier))


def build_page(study):
    """Text of docs/tissue.md."""
    seconds = study.table.groupby("strategy")[["score_seconds", "train_seconds"]].sum()
    each = seconds.loc["AIFT"] / study.n_seeds
    shown = sorted(study.table["n_labels"].unique())
    levels = {f"{level}": level for level in LEVELS}
    return f"""# AIFT against random asking on stained tissue
{studies.written_by("tissue.py", study)}

![Learning curves](learning-curve.png)

{studies.finding(study, METRIC)}

ROC AUC on the test set, mean over {study.n_seeds} seeds:

{studies.table_of_curves(study, METRIC, shown, digits=4)}

Labels needed to reach an AUC (> means not within the labels asked; range over the seeds in \
brackets):

{studies.table_of_levels(study, METRIC, levels)}

Mean height of the learning curves:

{studies.table_of_areas(study, (METRIC, "balanced_accuracy"))}

One campaign of AIFT took {each["score_seconds"]:.0f} s for scoring the pool and \
{each["train_seconds"]:.0f} s for training.

The classifier: `{study.facts["classifier"]}`.

{study.facts["description"]}
"""


def build_readme(study, readme):
    """Text of the README with the sentences about this study."""
    text = (
        f"{studies.finding(study, METRIC)} The labels of this pool are computed, not an expert's "
        "([details](docs/tissue.md)); `make demo` runs this study with fewer seeds."
    )
    return studies.with_block(readme, "tissue-result", text)


def main():
    """Write what the study found, after running it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", action="store_true")
    if parser.parse_args().run:
        run()
    study = studies.read("tissue")
    (studies.ROOT / "docs" / "tissue.md").write_text(build_page(study), "utf-8")
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    whole = study.facts["reference"][METRIC]
    plot_learning_curves(study.table, METRIC, ax=figure.add_subplot(), reference=whole)
    figure.savefig(studies.ROOT / "docs" / "learning-curve.png", dpi=120)
    readme = studies.ROOT / "README.md"
    readme.write_text(build_readme(study, readme.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
