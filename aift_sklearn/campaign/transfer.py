"""Labels of a campaign into files of other tools, and answers from them into a campaign."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .._checks import check_option
from .._writing import as_path, write_atomically
from ..errors import DataError, ParameterError
from ..pools.decoding import as_picture
from .exchange import (
    Imported,
    Place,
    Reading,
    export_coco,
    export_consensus,
    export_csv,
    export_label_studio,
    label_studio_config,
    plan_import,
    read_answers,
    save_pictures,
)
from .following import unanswered
from .records import Ask, Purpose

if TYPE_CHECKING:
    from .campaign import Campaign

__all__ = ["KINDS", "export_labels", "import_answers"]

KINDS = ("csv", "consensus", "label-studio", "coco")
"""What labels are written as."""


def export_labels(
    campaign: Campaign,
    out: str | os.PathLike[str],
    kind: str = "csv",
    *,
    predictions: bool | None = None,
    root: str | os.PathLike[str] | None = None,
) -> int:
    """Write the labels of a campaign, or its open questions, for another tool.

    Parameters
    ----------
    campaign : Campaign
        Its pool is opened for Label Studio and COCO alone.
    out : path-like
        File to write.
    kind : {"csv", "consensus", "label-studio", "coco"}, default="csv"
        "csv": every answer that counts, a row each. "consensus": one label for each candidate, as
        ``aift learn --labels`` takes them. "label-studio": the questions that wait, as tasks; the
        project's configuration is written beside it, with the suffix .xml, and pictures of the
        candidates, in what lies around them, into a folder of its name. "coco": labels with boxes
        where there are any.
    predictions : bool, optional
        As of `export_label_studio`.
    root : path-like, optional
        The folder that Label Studio serves files from; by default that of ``out``.

    Returns
    -------
    int
        Number of answers, candidates or tasks.
    """
    check_option("kind", kind, KINDS)
    path, ledger = as_path(out), campaign.ledger
    path.parent.mkdir(parents=True, exist_ok=True)
    asks, answers = ledger.asks(), ledger.current()
    if kind == "csv":
        return export_csv(path, asks, answers)
    if kind == "consensus":
        return export_consensus(path, asks, answers)
    if kind == "coco":
        return export_coco(path, asks, answers, campaign.settings, _place_of(campaign))
    write_atomically(
        path.with_suffix(".xml"), label_studio_config(campaign.settings).encode("utf-8")
    )
    n_classes = len(campaign.classes)
    # Of a class that was added later a model knew nothing.
    full = [
        replace(ask, proba=(*ask.proba, *[0.0] * (n_classes - len(ask.proba))))
        if ask.proba
        else ask
        for ask in unanswered(asks, answers)
    ]
    saved = save_pictures(
        path.with_suffix(""),
        [ask.candidate for ask in full],
        functools.partial(_seen_in_its_image, campaign),
    )
    return export_label_studio(
        path,
        full,
        campaign.settings,
        saved.__getitem__,
        root=path.parent.absolute() if root is None else root,
        predictions=predictions,
    )


def _place_of(campaign: Campaign) -> Callable[[str], Place]:
    """Where candidates lie: boxes in their images, or whole images."""
    pool = campaign.pool
    row_of = {name: row for row, name in enumerate(pool.ids.tolist())}
    boxes, images = getattr(pool, "boxes", None), getattr(pool, "images", None)
    sizes = getattr(pool, "original_sizes", None)

    def place(candidate: str) -> Place:
        row = row_of.get(candidate)
        if row is None:
            return Place(candidate)
        if boxes is not None and images is not None:
            xmin, ymin, xmax, ymax = (float(value) for value in boxes[row])
            return Place(str(images[row]), (xmin, ymin, xmax - xmin, ymax - ymin))
        return Place(candidate, size=None if sizes is None else tuple(sizes[row]))

    return place


def _seen_in_its_image(campaign: Campaign, candidate: str) -> bytes:
    """A candidate in what lies around it, with a frame where it does not fill the picture."""
    found = campaign.pool.surroundings(candidate)
    if found is None:
        return campaign.picture(candidate)
    from PIL import ImageDraw

    image = as_picture(found.pixels)
    if found.box != (0, 0, 1, 1):
        image = image.convert("RGB")
        draw = ImageDraw.Draw(image)
        corners = [value * image.size[k % 2] for k, value in enumerate(found.box)]
        box = [corners[0], corners[1], corners[2] - 1, corners[3] - 1]
        draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline=(0, 0, 0), width=3)
        draw.rectangle(box, outline=(240, 228, 66), width=1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def import_answers(
    campaign: Campaign,
    file: str | os.PathLike[str],
    kind: str | None = None,
    *,
    annotator: str = "",
    add: bool = False,
    overwrite: bool = False,
    store: bool = True,
) -> Imported:
    """Bring answers into a campaign that were given elsewhere.

    Parameters
    ----------
    campaign : Campaign
        Where to.
    file : path-like
        CSV, Label Studio's JSON, or COCO.
    kind : {"csv", "label-studio", "coco"}, optional
        What it is; by default as of `read_answers`.
    annotator : str, optional
        Who labelled, where the file does not say.
    add : bool, default=False
        Whether candidates of the pool that were not asked for are taken too, such as labels from
        before the campaign; those of the yardstick's groups are not trained on.
    overwrite : bool, default=False
        As of `plan_import`.
    store : bool, default=True
        With False nothing is stored.

    Returns
    -------
    Imported
        What was stored, or would be, and what was not taken.
    """
    reading = read_answers(file, campaign.classes, format=kind, annotator=annotator)
    ledger = campaign.ledger
    asks = ledger.asks()
    new = _not_asked(campaign, reading, asks) if add else []
    found = plan_import(
        reading, [*asks, *new], ledger.answers(), campaign.classes, overwrite=overwrite
    )
    if store:
        taken = {answer.candidate for answer in found.answers}
        if wanted := [ask for ask in new if ask.candidate in taken]:
            _add(campaign, wanted)
        for answer in found.answers:
            ledger.answer(answer)
    return found


def _add(campaign: Campaign, wanted: list[Ask]) -> None:
    """Add candidates, unless a model may be choosing some of them now."""
    lock = campaign.folder.lock()
    if not lock.acquire():
        raise ParameterError(
            f"{lock.holder()} is learning or asking in {campaign.folder.path}, and might choose "
            "the same candidates; import once it is done."
        )
    try:
        campaign.ledger.add_asks(wanted)
    finally:
        lock.release()


def _not_asked(campaign: Campaign, reading: Reading, asks: list[Ask]) -> list[Ask]:
    rounds = campaign.ledger.rounds()
    if not rounds:
        raise DataError("the campaign has no round yet.")
    asked = {ask.candidate for ask in asks}
    inside = set(campaign.pool.ids.tolist()) - asked - set(rounds[0].parameters["yardstick"])
    names = dict.fromkeys(entry.candidate for entry in reading.entries)
    number = rounds[-1].number
    rank = 1 + max((ask.rank for ask in asks if ask.round == number), default=-1)
    wanted = [name for name in names if name in inside]
    return [Ask(name, rank + k, Purpose.imported, round=number) for k, name in enumerate(wanted)]
