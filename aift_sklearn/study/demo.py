"""The demonstration: a whole campaign on stained tissue, answered by its known labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

from rich.console import Console

from .._writing import as_path, write_atomically
from ..campaign import Campaign
from ..campaign.report import write_report
from ..campaign.stopping import RoundProgress
from ..errors import DataError
from .tissue import tissue_points

__all__ = ["run_demo"]

_CLASSES = ("DAB-negative", "DAB-positive")
_GUIDANCE = "Is the nucleus in the middle brown (DAB-positive) or blue?"
_ANNOTATOR = "known labels"
_SIZE = 64


def run_demo(
    out: str | Path,
    *,
    n_rounds: int = 4,
    n_instances: int = 16,
    yardstick: int = 60,
    onnx: bool = True,
    trusted: Collection[str] = (),
    verbose: bool = True,
) -> Path:
    """Run a whole campaign on the tissue that comes with the package, as people would.

    It begins, asks, is answered by the known labels, learns, and asks again; it writes a report
    and an ONNX file, and leaves questions for whoever opens its page. Every step is that of the
    commands. Called again after an interruption, it goes on where it was.

    Parameters
    ----------
    out : path-like
        Folder for the image, the campaign, ``report.html`` and ``model.onnx``.
    n_rounds : int, default=4
        Rounds with a model.
    n_instances : int, default=16
        Candidates asked for in each, those of the yardstick not counted.
    yardstick : int, default=60
        Candidates that are drawn at random, labelled, and never trained on.
    onnx : bool, default=True
        Whether the last model is exported.
    trusted : collection of str
        As of `Campaign`.
    verbose : bool, default=True
        Whether every step is told.

    Returns
    -------
    Path
        Folder of the campaign.

    Raises
    ------
    DataError
        If the folder holds another campaign.
    """
    out = as_path(out)
    labels = _write_pool(out)
    say = Console(quiet=not verbose, soft_wrap=True, highlight=False, markup=False).print
    folder = out / "campaign"
    with _open(folder, out, n_instances, yardstick, trusted) as campaign:
        if set(campaign.pool.ids.tolist()) != set(labels):
            raise DataError(f"{folder} holds another campaign; name another folder.")
        say(
            f"{len(labels)} nuclei, of which a detector knows the places and nobody the labels; "
            f"{yardstick} drawn at random are the yardstick, and never trained on."
        )
        if len(campaign.ledger.rounds()) == 1 and not _has_asked(campaign):
            campaign.ask()
        _answer(campaign, labels)
        while (number := campaign.ledger.rounds()[-1].number) < n_rounds:
            campaign.learn()
            say(_describe(campaign.progress().rounds[-1]))
            if number + 1 < n_rounds:
                _answer(campaign, labels)
        for each in campaign.stopping():
            say(f"  {each.name}: {each.text}")
        say(f"Report: {write_report(campaign, out / 'report.html')}")
        if onnx:
            say(f"Model:  {_export(campaign, out / 'model.onnx')}, candidates in, scores out")
        waiting = campaign.progress().n_open
    say(f"{waiting} questions wait for you. To open the page on them: aift annotate {folder}")
    return folder


def _write_pool(out: Path) -> dict[str, str]:
    """Write the image and the places of its nuclei; return what each of them is."""
    from PIL import Image

    image, points, labels = tissue_points()
    out.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    write_atomically(out / "tissue.png", buffer.getvalue())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *points])
    writer.writerows(["tissue.png", *row] for row in zip(*points.values(), strict=True))
    write_atomically(out / "nuclei.csv", text.getvalue().encode())
    return dict(zip(points["id"], labels, strict=True))


def _open(
    folder: Path, out: Path, n_instances: int, yardstick: int, trusted: Collection[str]
) -> Campaign:
    if (folder / "campaign.json").exists():
        return Campaign.open(folder, trusted=trusted)
    return Campaign.create(
        folder,
        f"boxes:{out / 'nuclei.csv'}",
        _CLASSES,
        name="Nuclei in stained tissue",
        guidance=_GUIDANCE,
        pool_options={"size": _SIZE},
        batch=n_instances,
        yardstick=yardstick,
        trusted=trusted,
    )


def _has_asked(campaign: Campaign) -> bool:
    return any(ask.purpose == "typical" for ask in campaign.ledger.asks())


def _answer(campaign: Campaign, labels: dict[str, str]) -> None:
    while questions := campaign.questions(_ANNOTATOR, 20):
        for each in questions:
            campaign.answer(each.candidate, labels[each.candidate], _ANNOTATOR, origin="demo")


def _describe(each: RoundProgress) -> str:
    line = f"round {each.number}: {each.n_labels} labels taught"
    found = each.performance
    if found is None:
        return line
    return (
        f"{line}; balanced accuracy {found.balanced:.3f} ({found.balanced_low:.3f} to "
        f"{found.balanced_high:.3f}) on {found.n} of the yardstick"
    )


def _export(campaign: Campaign, path: Path) -> Path:
    from ..onnx.scorer import OnnxScorer

    return Path(OnnxScorer(campaign.model()).save(path))
