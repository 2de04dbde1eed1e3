"""Blood cells: the labels that AIFT saves where classes are rare.

Usage: python benchmarks/blood_cells.py [FOLDER] [--work WORK] [--only NAME]

Without a folder, docs/blood-cells.md, docs/blood-cells.png and the README's sentences are written
from the tables kept in docs/data. With one, the studies are run first, and their tables kept:
FOLDER holds boxes.csv (image, xmin, ymin, xmax, ymax, label) and images/ of the BCCD data set
(https://github.com/Shenggan/BCCD_Dataset, MIT licence). Rounds are kept in WORK as they finish, so
that an interrupted run goes on; the HTML reports go there too. The frozen study takes minutes, the
fine-tuned one most of an hour.
"""

import argparse
from pathlib import Path

import studies
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from aift_sklearn import AffinePatches, AIFTClassifier, CNNFeatures
from aift_sklearn.study import (
    load_boxes,
    plot_learning_curves,
    simulate,
    whole_pool,
    write_report,
)
from aift_sklearn.study.demo import build_model

METRIC = "balanced_accuracy"
BATCH = 20
SHOWN = (20, 40, 60, 80, 100, 120, 160, 200, 240)
TITLES = {
    "frozen": "Frozen features, all cells",
    "fine-tuned": "Fine-tuned end to end, part of the cells",
}


def build_frozen():
    """A logistic regression on frozen features."""
    head = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    views = AffinePatches.for_microscopy(n_patches=16)
    return AIFTClassifier(make_pipeline(CNNFeatures(), head), patches=views)


STUDIES = {
    "frozen": {
        "data": {},
        "build": build_frozen,
        "strategies": ("random", "AIFT", "AIFT top", "AIFT entropy", "entropy", "margin"),
        "n_rounds": 12,
        "seeds": range(10),
    },
    "fine-tuned": {
        "data": {"size": 48, "max_pool": 600, "max_test": 400},
        "build": lambda: build_model(n_patches=6),
        "strategies": ("random", "AIFT", "AIFT top"),
        "n_rounds": 6,
        "seeds": range(5),
    },
}


def run(name, folder, work):
    """Run a study, or go on with it, and keep its table."""
    study = STUDIES[name]
    dataset, classifier = load_boxes(folder, **study["data"]), study["build"]()
    print(f"{TITLES[name]}\n{dataset!r}", flush=True)
    options = {"n_rounds": study["n_rounds"], "n_instances": BATCH, "seeds": study["seeds"]}

    def show(row):
        print(*(row[key] for key in ("strategy", "seed", "n_labels", METRIC)), flush=True)

    table = simulate(
        dataset,
        classifier,
        study["strategies"],
        **options,
        path=work / f"{name}.jsonl",
        on_round=show,
    )
    reference = whole_pool(dataset, classifier)
    studies.keep(f"blood-cells-{name}", table, dataset, classifier, reference)
    write_report(
        table,
        dataset,
        work / f"{name}.html",
        title=f"Blood cells: {TITLES[name][0].lower()}{TITLES[name][1:]}",
        parameters={"strategies": study["strategies"], **options, "classifier": classifier},
        reference=reference,
        metric=METRIC,
    )


def asked(study):
    """Classes among the labels asked."""
    classes = list(study.facts["shares"])
    ends = study.table[study.table["round"] == study.table["round"].max()].groupby("strategy")
    rows = [[s, *(f"{ends[f'n_{c}'].mean()[s]:.0f}" for c in classes)] for s in study.strategies]
    return studies.markdown(["strategy", *classes], rows)


def section(name, study):
    """One study as Markdown."""
    whole = study.facts["reference"][METRIC]
    end = study.table.query("strategy == 'random'").groupby("round")[METRIC].mean().iloc[-1]
    levels = {
        f"random's at {study.budget} labels, {end:.3f}": end,
        f"97 % of the whole pool's, {0.97 * whole:.3f}": 0.97 * whole,
        f"99 % of the whole pool's, {0.99 * whole:.3f}": 0.99 * whole,
    }
    seconds = study.table.groupby("strategy")[["score_seconds", "train_seconds"]].sum()
    each = seconds.loc["AIFT"] / study.n_seeds
    return f"""## {TITLES[name]}
{studies.finding(study, METRIC)}

```
{study.facts["dataset"]}
```

Balanced accuracy on the test set, mean over {study.n_seeds} seeds (the whole pool: {whole:.3f}):

{studies.table_of_curves(study, METRIC, SHOWN)}

Labels needed for a level (> means not within the labels asked; range over the seeds in brackets):

{studies.table_of_levels(study, METRIC, levels)}

Mean height of the learning curves. Intervals are of one comparison each; the p-values, of the \
paired t-test and from six seeds on of the Wilcoxon signed-rank test, are corrected for the number \
of strategies by Holm's method:

{studies.table_of_areas(study, (METRIC, "auc"))}

Classes among the {study.budget} labels, mean over the seeds:

{asked(study)}

A campaign of AIFT took {each["score_seconds"]:.0f} s for scoring and \
{each["train_seconds"]:.0f} s for training. The classifier: `{study.facts["classifier"]}`.
"""


def build_page(kept):
    """Text of docs/blood-cells.md."""
    first = kept["frozen"].facts
    rare = sum(share for share in first["shares"].values() if share < 0.2)
    return f"""# Blood cells: AIFT against random asking and other queries
{studies.written_by("blood_cells.py", kept["frozen"])}

![Learning curves](blood-cells.png)

Microscope images of blood smears, in which people drew a box around every cell and named it: \
BCCD, <https://github.com/Shenggan/BCCD_Dataset>, MIT licence. {first["description"]} \
The rare classes are {rare:.0%} of the pool. All strategies of a seed share the first {BATCH} \
candidates, the most typical of {BATCH} clusters; then each asks for {BATCH} in a round. \
"AIFT" has the defaults of `aift_sampling`, a coverage of the pool; "AIFT top" asks for the \
highest scores, as the papers do, and "AIFT entropy" for the highest without diversity; "entropy" \
and "margin" are modAL's, on the mean prediction of the patches. The frozen study weights labels \
by the share of the pool that they stand for, whoever asked for them. One data set and one split: \
other laboratories' images may turn out differently.

{chr(10).join(section(name, study) for name, study in kept.items())}"""


def build_readme(kept, readme):
    """Text of the README with the sentences about these studies."""
    counts = ", ".join(f"{share:.0%} {c}" for c, share in kept["frozen"].facts["shares"].items())
    text = (
        f"Blood cells, boxed and named by people ({counts}); [details](docs/blood-cells.md):\n\n"
        f"- **Frozen features** and a logistic regression: "
        f"{studies.finding(kept['frozen'], METRIC)}\n"
        f"- **The whole CNN fine-tuned**, on part of the cells: "
        f"{studies.finding(kept['fine-tuned'], METRIC)}"
    )
    return studies.with_block(readme, "blood-result", text)


def draw(kept):
    """Draw the learning curves of all studies side by side."""
    figure = Figure(figsize=(10.5, 4), layout="constrained")
    for (name, study), ax in zip(kept.items(), figure.subplots(1, len(kept)), strict=True):
        shown = study.table[study.table["strategy"].isin(["random", "AIFT", "entropy"])]
        plot_learning_curves(shown, METRIC, ax=ax, reference=study.facts["reference"][METRIC])
        ax.set_title(TITLES[name], fontsize=10)
    return figure


def main():
    """Run the studies where a folder is given, and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, default=Path("blood-cells-study"))
    parser.add_argument("--only", choices=STUDIES, help="run one study; the other's table stays")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        for name in [arguments.only] if arguments.only else STUDIES:
            run(name, arguments.folder, arguments.work)
    kept = {name: studies.read(f"blood-cells-{name}") for name in STUDIES}
    (studies.ROOT / "docs" / "blood-cells.md").write_text(build_page(kept), "utf-8")
    draw(kept).savefig(studies.ROOT / "docs" / "blood-cells.png", dpi=110)
    readme = studies.ROOT / "README.md"
    readme.write_text(build_readme(kept, readme.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
