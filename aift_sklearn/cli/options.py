"""Options that commands share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "RIVAL_NAMES",
    "STRATEGY_NAMES",
    "Batch",
    "Data",
    "Groups",
    "MaxPool",
    "MaxTest",
    "Measure",
    "Metric",
    "Model",
    "Models",
    "Patches",
    "Quiet",
    "ReportFile",
    "Restart",
    "Rounds",
    "Seeds",
    "Size",
    "SplitSeed",
    "Strategies",
    "StudyFolder",
    "TestFraction",
    "ViewFamily",
    "Views",
    "WholePool",
]

# Here, since a help page must not wait for what the strategies import.
STRATEGY_NAMES = (
    "random",
    "AIFT",
    "AIFT top",
    "AIFT random extension",
    "AIFT entropy",
    "AIFT diversity",
    "AIFT all patches",
    "AIFT mean",
    "least confident",
    "margin",
    "entropy",
)
"""Names of `aift_sklearn.study.STRATEGIES`."""
RIVAL_NAMES = (
    "BADGE",
    "BALD",
    "CLUE",
    "ContrastiveAL",
    "CoreSet",
    "DropQuery",
    "FALCUN",
    "MaxHerding",
    "ProbCover",
    "TypiClust",
)
"""Names of `aift_sklearn.study.strategies.RIVALS`."""


class Model(enum.StrEnum):
    """What learns."""

    finetune = "finetune"
    features = "features"


class Views(enum.StrEnum):
    """Families of views."""

    microscopy = "microscopy"
    radiographs = "radiographs"
    endoscopy = "endoscopy"


class Metric(enum.StrEnum):
    """What the findings are told in."""

    auc = "auc"
    balanced_accuracy = "balanced_accuracy"


# Panels of a help page.
DATA, CAMPAIGN, MODEL, OUTPUT = "Data", "Campaigns", "Model", "Output"

Data = Annotated[
    str,
    typer.Option(
        metavar="SOURCE",
        rich_help_panel=DATA,
        help="Labelled pool: tissue or fundus (come with the package); FOLDER with a subfolder per "
        "class, or train and test with those inside; FILE.csv (path, label and perhaps group, "
        "split); boxes:FOLDER (boxes.csv and images); FILE.npz (MedMNIST); medmnist:NAME.",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        min=8,
        metavar="PIXELS",
        rich_help_panel=DATA,
        help="Height and width to which candidates are scaled; needed where images differ in size.",
    ),
]
TestFraction = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=0.99,
        metavar="SHARE",
        rich_help_panel=DATA,
        help="Of the test set, where it is drawn; 0.3 unless given.",
    ),
]
SplitSeed = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        rich_help_panel=DATA,
        help="Seed of the split and of what is drawn; 0 unless given.",
    ),
]
MaxPool = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        rich_help_panel=DATA,
        help="Draw at most so many candidates for the pool.",
    ),
]
MaxTest = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        rich_help_panel=DATA,
        help="Draw at most so many for the test set.",
    ),
]
Strategies = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=CAMPAIGN,
        help=f"What asks: {', '.join(STRATEGY_NAMES)}; with the extra skactiveml also "
        f"{', '.join(RIVAL_NAMES)}. Given several times, they are compared; by default random and "
        "AIFT.",
    ),
]
Rounds = Annotated[
    int,
    typer.Option(
        min=2,
        metavar="N",
        rich_help_panel=CAMPAIGN,
        help="Rounds, the first batch among them.",
    ),
]
Batch = Annotated[
    int,
    typer.Option(min=1, metavar="N", rich_help_panel=CAMPAIGN, help="Labels asked per round."),
]
Seeds = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        rich_help_panel=CAMPAIGN,
        help="Paired repetitions; one proves little.",
    ),
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        rich_help_panel=CAMPAIGN,
        help="Train anew each round (RFT, AFT), not on (ACFT).",
    ),
]
Groups = Annotated[
    bool,
    typer.Option(
        "--groups",
        rich_help_panel=CAMPAIGN,
        help="Spread each batch over patients, slides or images.",
    ),
]
Models = Annotated[
    list[Model] | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=MODEL,
        help="What learns. finetune: the whole CNN, the default; features: logistic regression on "
        "frozen features, much faster. Both, given twice, are compared.",
    ),
]
ViewFamily = Annotated[
    Views,
    typer.Option(
        metavar="NAME",
        rich_help_panel=MODEL,
        help="Augmented views: microscopy, radiographs or endoscopy.",
    ),
]
Patches = Annotated[
    int,
    typer.Option(min=2, metavar="M", rich_help_panel=MODEL, help="Views of each candidate."),
]
WholePool = Annotated[
    bool,
    typer.Option(
        "--whole-pool",
        rich_help_panel=MODEL,
        help="Also train on every label, for comparison.",
    ),
]
Measure = Annotated[
    Metric,
    typer.Option(
        metavar="NAME",
        rich_help_panel=OUTPUT,
        help="What the findings are told in: auc or balanced_accuracy.",
    ),
]
StudyFolder = Annotated[
    Path,
    typer.Option(metavar="FOLDER", rich_help_panel=OUTPUT, help="For table.jsonl and report.html."),
]
ReportFile = Annotated[
    Path,
    typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Where to write the report."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", rich_help_panel=OUTPUT, help="Results only, no progress.")
]
