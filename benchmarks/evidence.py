"""The evidence: every study whose figures the documents quote.

Usage: python benchmarks/evidence.py [--run [NAME ...]] [--jobs N] [--work FOLDER]

Writes docs/evidence.md, its pictures and the README's block from the campaigns kept in docs/data.
With --run the studies are run first, or those that are named, and their campaigns kept. They are
planned in frozen.toml, fine_tuned.toml and fundus.toml, beside this file; data that do not come
with the package are looked for in benchmarks/data:

    data/bccd                 boxes.csv (image, xmin, ymin, xmax, ymax, label) and images/ of BCCD,
                              https://github.com/Shenggan/BCCD_Dataset, MIT licence
    data/chula                the same of https://github.com/Chula-PIC-Lab/Chula-RBC-12-Dataset
    data/pneumoniamnist.npz   of MedMNIST v2, https://medmnist.com, CC BY 4.0

Finished rounds are kept in the work folder, and an interrupted run goes on.
"""

import argparse
import re
import shutil
from pathlib import Path

import numpy as np

from aift_sklearn.study import read_plan, run_plan
from aift_sklearn.study.planned.statistics import compare, labels_saved, tables_of
from aift_sklearn.study.report.evidence import draw_evidence, read_evidence
from aift_sklearn.study.report.evidence_page import (
    evidence_section,
    markdown_table,
    share_saved,
)
from aift_sklearn.study.report.findings import signed

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
STUDIES = ("frozen", "fine_tuned", "fundus")
MARK = "<!-- evidence -->"
INTRODUCTION = """# Evidence: what AIFT saves, and where it does not
Simulated campaigns on pools whose labels are known. In each, a strategy asks for a batch of \
labels, the model learns, and is measured on a test set that shares no image with the pool, or, \
of pools that come from one photograph, no pixel. "AIFT" is `aift_sampling` as it comes; "AIFT \
top" asks for the highest scores, as the papers do. "margin" and "entropy" are modAL's, on the \
mean prediction of the patches; BADGE, BALD, CLUE, CoreSet, DropQuery, FALCUN, MaxHerding, \
ProbCover and TypiClust are scikit-activeml's with their defaults, given the same embeddings and \
predictions. All strategies of a setting share the model, its training, the seeds and the \
budget, and, unless it says otherwise, the first batch.

What each study does not flatter AIFT with comes first. Everything here is written by \
`python benchmarks/evidence.py` from the campaigns in [data](data), each of which says with which \
code and releases it was made.
"""
# Reasons are prose; their figures stand in the studies.
SHORTFALLS = """## Where it falls short, and why
- **Labels saved.** We aimed at three quarters of random's labels on blood cells and two fifths on \
chula; the tables below say how much less it is. On chula the gain is early: towards the end of \
the budget the head on frozen features has learnt what those features tell, and all curves meet.
- **Tissue.** Its labels come from a threshold on the stain. What the model is unsure of lies at \
that threshold, where a label tells little; MaxHerding, which looks at no score at all, ranks \
better there.
- **A first batch of its own.** Typical candidates of a pool may hold few of one class, as on \
tissue and pneumonia, and the first model is one-sided. Other first batches that were tried are \
better on some pools and worse on others ([method](method.md)).
- **The whole CNN fine-tuned.** On chula, of eleven shapes, and on pneumonia, whose test set has \
other shares of the classes than its pool, AIFT's gain is within what chance in training does \
from seed to seed; margin gains more on chula, but is not shown to be better than AIFT. With many \
labels a head from zeros at five times the learning rate ends higher on chula \
than the default, which is better from few.
- **Lesions in a retina.** As the pool comes, random asking finds enough of the lesions: nothing \
is saved for certain. Repeated candidates are where coverage pays.
"""


def run(name, jobs, work):
    """Run a study, or go on with it, and keep its campaigns."""
    plan = read_plan(HERE / f"{name}.toml")
    print(f"{plan.title}: {plan.n_rounds} rounds", flush=True)
    run_plan(plan, work / name, jobs=jobs)
    kept = DOCS / "data" / name
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("campaigns.jsonl", "study.json"):
        shutil.copy(work / name / file, kept / file)


def saved_rows(evidence):
    """One row per pool of the study's first setting: what AIFT saves and gains."""
    tables = tables_of(evidence.campaigns, evidence.settings[0])
    compared = compare(tables, "balanced_accuracy")
    rows = []
    for pool, table in tables.items():
        row, saved = compared.loc[(pool, "AIFT")], labels_saved(table, "balanced_accuracy")
        others = compared.loc[pool].query("not strategy.str.startswith('AIFT')")
        others = others.drop("random")["difference"].dropna()
        best = f"{others.idxmax()}, {signed(others.max())}" if len(others) else "none was run"
        needed = f"{saved.labels:g}" if np.isfinite(saved.labels) else "more"
        interval = f"{signed(row['low'])} to {signed(row['high'])}"
        rows.append(
            [
                f"{pool}, {table['seed'].nunique()} seeds",
                f"{needed} for {saved.baseline_labels:g}",
                share_saved(saved),
                f"{signed(row['difference'])} ({interval})",
                best,
            ]
        )
    return rows


def build_readme(evidences, readme):
    """Text of the README with the tables of what is saved."""
    head = ["pool", "labels for random's", "saved", "balanced accuracy − random's", "best rival"]
    parts = [
        f"**{each.facts['title']}**\n\n{markdown_table(head, saved_rows(each))}"
        for each in evidences
    ]
    text = "\n\n".join(parts)
    if MARK not in readme:
        raise SystemExit(f"README.md has no {MARK} to write to.")
    end = MARK.replace("<!-- ", "<!-- /")
    block = (
        f"{MARK}\n{text}\n\nLabels that AIFT needed to reach the balanced accuracy at which random "
        "asking ended, for those that random needed; share saved: medians over the seeds, with the "
        "interval of the median (– where it was not reached). Mean height of the learning curve "
        "minus random's, with the 95 % interval of the paired difference, each of one comparison. "
        "One split of each pool: other images may turn out otherwise. "
        f"[All of the evidence](docs/evidence.md), what does not flatter first.\n{end}"
    )
    return re.sub(f"{MARK}.*{end}", lambda _: block, readme, flags=re.DOTALL)


def main():
    """Run the studies where that is asked, and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", nargs="*", choices=STUDIES, metavar="NAME")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--work", type=Path, default=HERE / "work")
    arguments = parser.parse_args()
    for name in [] if arguments.run is None else arguments.run or STUDIES:
        run(name, arguments.jobs, arguments.work)
    kept = [name for name in STUDIES if (DOCS / "data" / name / "study.json").exists()]
    evidences = {name: read_evidence(DOCS / "data" / name) for name in kept}
    parts = [INTRODUCTION, SHORTFALLS]
    for name, evidence in evidences.items():
        draw_evidence(evidence).savefig(DOCS / f"evidence-{name}.png", dpi=90)
        section = evidence_section(evidence, level=3)
        picture = f"![Learning curves](evidence-{name}.png)"
        parts.append(f"## {evidence.facts['title']}\n{picture}\n\n{section}")
    (DOCS / "evidence.md").write_text("\n".join(parts), "utf-8")
    readme = HERE.parent / "README.md"
    readme.write_text(build_readme(evidences.values(), readme.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
