"""The command ``aift``: thin commands over the library."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from .. import __version__
from ..errors import AIFTError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Active incremental fine-tuning: ask experts about the images that teach most.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_err = Console(stderr=True)


class _Model(enum.StrEnum):
    """What learns."""

    finetune = "finetune"
    features = "features"


class _Views(enum.StrEnum):
    """Families of views."""

    microscopy = "microscopy"
    radiographs = "radiographs"
    endoscopy = "endoscopy"


class _Metric(enum.StrEnum):
    """What the findings are told in."""

    auc = "auc"
    balanced_accuracy = "balanced_accuracy"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aift-sklearn {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    pass


Data = Annotated[
    str,
    typer.Option(
        help="Labelled pool: tissue, FILE.npz (MedMNIST), FOLDER (a subfolder per class), "
        "boxes:FOLDER (boxes.csv and images), FILE.csv (path, label, group), medmnist:NAME."
    ),
]
Strategies = Annotated[
    list[str] | None,
    typer.Option(help="Strategy by name, several times for several; by default random and AIFT."),
]
Models = Annotated[
    list[_Model] | None,
    typer.Option(
        help="finetune: the whole CNN, the default; features: logistic regression on frozen "
        "features, much faster. Both, given twice, are compared."
    ),
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Train anew each round (RFT, AFT), not on (ACFT).")
]
Groups = Annotated[
    bool, typer.Option("--groups", help="Spread each batch over patients, slides or images.")
]
WholePool = Annotated[
    bool, typer.Option("--whole-pool", help="Also train on every label, for comparison.")
]
Size = Annotated[
    int | None, typer.Option(min=8, help="Height and width of the candidates in pixels.")
]
TestFraction = Annotated[
    float | None, typer.Option(min=0.05, max=0.5, help="Share of the test set, if none is given.")
]
MaxPool = Annotated[
    int | None, typer.Option(min=2, help="Draw at most so many candidates for the pool.")
]
MaxTest = Annotated[int | None, typer.Option(min=2, help="Draw at most so many for the test set.")]
Seeds = Annotated[int, typer.Option(min=1, help="Paired repetitions; one proves little.")]
Rounds = Annotated[int, typer.Option(min=2, help="Rounds, the first batch among them.")]
Batch = Annotated[int, typer.Option(min=1, help="Labels asked per round.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to write the report.")] = Path(
        "demo-report.html"
    ),
    seeds: Seeds = 3,
    rounds: Rounds = 6,
    batch: Batch = 12,
    quiet: Quiet = False,
) -> None:
    """Compare AIFT with random asking on stained tissue, with a fine-tuned CNN. Works offline.

    Example: aift demo --out demo-report.html
    """
    from ..study.demo import run_demo

    run_demo(out, n_rounds=rounds, n_instances=batch, seeds=range(seeds), verbose=not quiet)


@app.command()
def simulate(
    data: Data = "tissue",
    strategy: Strategies = None,
    model: Models = None,
    rounds: Rounds = 8,
    batch: Batch = 12,
    seeds: Seeds = 3,
    views: Annotated[_Views, typer.Option(help="Family of augmented views.")] = _Views.microscopy,
    patches: Annotated[int, typer.Option(min=2, help="Views of each candidate, m.")] = 8,
    metric: Annotated[_Metric, typer.Option(help="Measure of the findings.")] = _Metric.auc,
    restart: Restart = False,
    groups: Groups = False,
    whole_pool: WholePool = False,
    size: Size = None,
    test_fraction: TestFraction = None,
    max_pool: MaxPool = None,
    max_test: MaxTest = None,
    out: Annotated[Path, typer.Option(help="Folder for table.jsonl and report.html.")] = Path(
        "aift-study"
    ),
    quiet: Quiet = False,
) -> None:
    """Simulate campaigns on a pool with known labels, and report the labels saved.

    The table is written round by round: the same command goes on after an interruption, and more
    seeds, rounds or strategies extend a study.

    Example: aift simulate --data boxes:BCCD --model features --batch 20 --out study
    """
    from ..study.demo import run_study

    run_study(
        data,
        out,
        models=[name.value for name in model or [_Model.finetune]],
        views=views.value,
        n_patches=patches,
        strategies=strategy or ["random", "AIFT"],
        n_rounds=rounds,
        n_instances=batch,
        seeds=range(seeds),
        restart=restart,
        groups=groups,
        metric=metric.value,
        reference=whole_pool,
        size=size,
        test_fraction=test_fraction,
        max_pool=max_pool,
        max_test=max_test,
        verbose=not quiet,
    )


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    out: Annotated[Path, typer.Option(help="The file.")] = Path("model.onnx"),
    size: Annotated[
        str | None,
        typer.Option(
            help="Channels, height and width of the candidates, such as 3x64x64; by default those "
            "of the candidates that the model was taught."
        ),
    ] = None,
    trusted: Annotated[
        list[str] | None, typer.Option(help="Type in the saved model that may be built.")
    ] = None,
) -> None:
    """Export a saved model to one ONNX file, which scores candidates without torch.

    Example: aift export model --out model.onnx
    """
    from ..errors import ParameterError
    from ..onnx.scorer import OnnxScorer
    from ..persistence import load

    shape = None
    if size is not None:
        parts = size.lower().split("x")
        if not all(part.isdecimal() for part in parts):
            raise ParameterError(f"size={size!r}; expected three numbers, such as 3x64x64.")
        shape = tuple(int(part) for part in parts)
    with _err.status("exporting ..."):
        path = OnnxScorer(load(model, trusted=trusted)).save(out, shape=shape)
    typer.echo(f"{path}: {path.stat().st_size / 2**20:.1f} MB")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of the package is one readable line and exit status 2."""
    try:
        app(arguments)
    except AIFTError as error:
        _err.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
