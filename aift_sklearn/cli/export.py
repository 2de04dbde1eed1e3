"""``aift export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Trusted
from .terminal import ERRORS

__all__ = ["export"]


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a saved model.")],
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
) -> None:
    """Export a saved model to one ONNX file, which scores candidates without torch.

    Example: aift export model --out model.onnx
    """
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
