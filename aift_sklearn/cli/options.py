"""Options that commands share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import ERRORS

__all__ = [
    "RIVAL_NAMES",
    "STRATEGY_NAMES",
    "Batch",
    "CampaignArgument",
    "Data",
    "DropLookAlikes",
    "FolderGroups",
    "Groups",
    "LabelsCsv",
    "MaxPool",
    "MaxTest",
    "Measure",
    "Metric",
    "Model",
    "ModelFolder",
    "Models",
    "NewCampaign",
    "Patches",
    "PoolSize",
    "Quiet",
    "ReportFile",
    "Restart",
    "Rounds",
    "Seed",
    "Seeds",
    "Size",
    "Source",
    "SplitSeed",
    "Strategies",
    "StudyFolder",
    "TestFraction",
    "Trusted",
    "ViewFamily",
    "Views",
    "WholePool",
    "check_sheet",
    "is_campaign",
    "of_groups",
    "refuse_given",
    "report_broken",
]

# Broken files that are named.
_LISTED = 10

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
DropLookAlikes = Annotated[
    bool,
    typer.Option(
        "--drop-look-alikes",
        rich_help_panel=DATA,
        help="Leave images out of the pool that look like one of the test set, such as the same "
        "image compressed again.",
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
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder of images, which are found below it too; or of DICOM files: dicom:FOLDER "
        "where it holds both; boxes:FOLDER or boxes:FILE (CSV, COCO, Pascal VOC) for boxes or "
        "points in images; volumes:FOLDER or volumes:FILE.csv for points in volumes; slides:FOLDER "
        "or slides:FILE for tiles of slides; FILE.parquet or a saved Hugging Face dataset; or an "
        "array, FILE.npy, .npz, .h5 or .zarr.",
    ),
]
PoolSize = Annotated[
    int | None,
    typer.Option(
        min=8,
        metavar="PIXELS",
        help="Height and width to which the middle square of each image is scaled; by default that "
        "of the model, or of the images where they are small and alike, else 64.",
    ),
]
FolderGroups = Annotated[
    bool, typer.Option("--groups", help="Subfolders are groups, such as patients.")
]
ModelFolder = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where the model is, or is to be, saved.")
]
CampaignArgument = Annotated[
    Path, typer.Argument(metavar="CAMPAIGN", help="Folder of a campaign, as aift init makes it.")
]
NewCampaign = Annotated[
    Path, typer.Option("--campaign", metavar="FOLDER", help="For the campaign; made here.")
]
LabelsCsv = Annotated[
    Path, typer.Option(metavar="FILE", help="CSV file of ids and labels; new ids go below.")
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Seeds whatever is drawn.")]
Trusted = Annotated[
    list[str] | None,
    typer.Option(metavar="TYPE", help="Type in the saved model that may be built."),
]


def is_campaign(source: str | Path) -> bool:
    """Whether a source is the folder of a campaign."""
    return (Path(source) / "campaign.json").is_file()


def refuse_given(source: str | Path, **given: Any) -> None:
    """Refuse options that are settings of a campaign, which it has already."""
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if named:
        raise typer.BadParameter(
            f"{source} is a campaign, which has its own {', '.join(named)}; leave "
            f"{'it' if len(named) == 1 else 'them'} out."
        )


def check_sheet(sheet: Path | None, source: str) -> None:
    """Refuse a picture that would lie among the images, and be one of them."""
    folder = Path(source.rpartition(":")[2] or source)
    if sheet is None or sheet.name == "contact-sheet.png" or not folder.is_dir():
        return
    if folder.resolve() in sheet.resolve().parents:
        raise typer.BadParameter(
            f"{sheet} would lie among the images of {source} and become one of them; name a file "
            "elsewhere.",
            param_hint="--sheet",
        )


def of_groups(folders: bool) -> dict[str, Any]:
    """Options of a pool whose subfolders are groups; others keep what their kind has."""
    return {"groups": "folder"} if folders else {}


def report_broken(pool: Any) -> None:
    """Say on standard error what of a pool could not be read."""
    if not pool.broken:
        return
    ERRORS.print(f"{len(pool.broken)} cannot be read and were left out:", highlight=False)
    for name, reason in list(pool.broken.items())[:_LISTED]:
        ERRORS.print(f"  {name}: {reason}", highlight=False, markup=False)
    if len(pool.broken) > _LISTED:
        ERRORS.print(f"  and {len(pool.broken) - _LISTED} more", highlight=False)
