"""``aift export``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .options import Trusted
from .terminal import ERRORS

__all__ = ["export"]


class LabelsFormat(enum.StrEnum):
    """What the labels of a campaign are written as."""

    csv = "csv"
    consensus = "consensus"
    label_studio = "label-studio"
    coco = "coco"


def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a saved model, or of a campaign.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="What to write.")] = Path("model.onnx"),
    size: Annotated[
        str | None,
        typer.Option(
            metavar="CxHxW",
            help="Channels, height and width of the candidates, such as 3x64x64; by default those "
            "of the candidates that the model was taught.",
        ),
    ] = None,
    trusted: Trusted = None,
    kind: Annotated[
        LabelsFormat | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Of a campaign's labels: csv, every answer; consensus, one label for each image; "
            "label-studio, tasks with what is asked; coco. By default the model is exported, or "
            "csv where FILE ends in .csv.",
        ),
    ] = None,
    predictions: Annotated[
        bool,
        typer.Option(
            "--predictions",
            help="Show Label Studio's annotators what the model predicts, which anchors them.",
        ),
    ] = False,
) -> None:
    """Export a saved model to one ONNX file, which scores candidates without torch.

    Of a campaign: its last model, or with --format, or to a .csv file, its labels.

    Example: aift export model --out model.onnx
    """
    if options.is_campaign(model):
        if kind is None and out.suffix.lower() == ".csv":
            kind = LabelsFormat.csv
        if kind is not None:
            _export_labels(model, out, kind, predictions=predictions)
            return
        model = _last_model(model)
    elif kind is not None:
        raise typer.BadParameter(
            f"{model} is no campaign, and has no labels to write; leave --format out."
        )
    shape = None if size is None else _parse_shape(size)
    with ERRORS.status("exporting ..."):
        from ..onnx.scorer import OnnxScorer
        from ..persistence import load

        path = OnnxScorer(load(model, trusted=trusted)).save(out, shape=shape)
    typer.echo(f"{path}: {path.stat().st_size / 2**20:.1f} MB")


def _parse_shape(text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(
            f"{text!r}; expected channels, height and width, such as 3x64x64.",
            param_hint="--size",
        )
    return tuple(int(part) for part in parts)


def _last_model(folder: Path) -> Path:
    from ..campaign import Campaign
    from ..errors import DataError

    with Campaign.open(folder) as campaign:
        rounds = [each.number for each in campaign.ledger.rounds() if each.model]
        if not rounds:
            raise DataError(
                f"the campaign {folder} has no model yet: aift learn {folder}; for its labels "
                "name a file that ends in .csv, or a --format."
            )
        return campaign.folder.model(rounds[-1])


def _export_labels(folder: Path, out: Path, kind: LabelsFormat, *, predictions: bool) -> None:
    from ..campaign import Campaign
    from ..campaign.transfer import export_labels

    with Campaign.open(folder) as campaign:
        n = export_labels(campaign, out, kind.value, predictions=predictions or None)
    typer.echo(f"{out}: {n:,} {'images' if kind != LabelsFormat.csv else 'answers'}")
