"""COCO files: labels of images, or of boxes in them, and answers back.

The format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._checks import check_option
from ..._writing import as_path
from ...errors import DataError, LabelError
from ...pools.annotation_files import coco_images, coco_objects
from ..agreement import consensus, labels_of
from ..records import Answer, Ask, Kind
from ..settings import Settings
from .entries import Entry, Place, Reading, check_annotator, rename
from .files import as_seconds, as_time, by_order, confidence, origin_of, read_json, write_json

__all__ = ["export_coco", "parse_coco", "read_coco"]

Object = dict[str, Any]


def export_coco(
    path: str | os.PathLike[str],
    asks: Iterable[Ask],
    answers: Iterable[Answer],
    settings: Settings,
    place_of: Callable[[str], str | os.PathLike[str] | Place],
    *,
    each: str = "answer",
) -> int:
    """Write labels as a COCO file.

    An annotation has a category, and a box where its candidate is one; its ``attributes`` hold the
    candidate, who labelled it, and what the model thought of it. Skips and doubts have no category
    and are left out: a CSV file holds them.

    Parameters
    ----------
    path : path-like
        JSON, written in one step.
    asks : iterable of Ask
        What was asked; all of their images are listed.
    answers : iterable of Answer
        Those that count: neither replaced nor taken back.
    settings : Settings
        Name and classes of the campaign.
    place_of : callable
        Candidate → its file, or a `Place` with a box and the size of the image.
    each : {"answer", "candidate"}, default="answer"
        An annotation for each label that was given, which can be imported again; or one for each
        candidate, to be trained on: the label of `consensus`, without the yardstick.

    Returns
    -------
    int
        Number of annotations.

    Raises
    ------
    LabelError
        If a label is no class of the campaign.
    """
    check_option("each", each, ("answer", "candidate"))
    asked, answers = by_order(list(asks)), list(answers)
    places = {ask.candidate: _as_place(place_of(ask.candidate)) for ask in asked}
    images = _images(places.values())
    categories = {name: k for k, name in enumerate(settings.classes, 1)}
    said = _of_answers(answers) if each == "answer" else _of_candidates(asked, answers)
    annotations: list[Object] = []
    for ask in asked:
        for label, attributes in said.get(ask.candidate, []):
            if label not in categories:
                raise LabelError(
                    f"{ask.candidate!r} has the label {label!r}; expected one of "
                    f"{list(settings.classes)}."
                )
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": images[places[ask.candidate].image]["id"],
                    "category_id": categories[label],
                    **_shape(places[ask.candidate]),
                    "attributes": {"candidate": ask.candidate} | attributes | _thought(ask),
                }
            )
    content = {
        "info": {"description": settings.name},
        "images": list(images.values()),
        "categories": [{"id": k, "name": name} for name, k in categories.items()],
        "annotations": annotations,
    }
    write_json(path, content)
    return len(annotations)


def read_coco(
    path: str | os.PathLike[str],
    *,
    annotator: str = "",
    annotators: Mapping[str, str] | None = None,
) -> Reading:
    """Read answers from a COCO file: one of `export_coco`, or of another tool.

    Where an annotation does not name its candidate in ``attributes``, it is the file of its image.

    Parameters
    ----------
    path : path-like
        JSON.
    annotator : str, optional
        Who labelled, where the file does not say.
    annotators : mapping of str to str, optional
        Names in the file → names in the campaign.

    Raises
    ------
    DataError
        If it is no such file; with the place.
    """
    path = as_path(path)
    return parse_coco(path, read_json(path), annotator=annotator, annotators=annotators)


def parse_coco(
    path: Path,
    content: Any,
    *,
    annotator: str = "",
    annotators: Mapping[str, str] | None = None,
) -> Reading:
    """Read the contents of such a file.

    Raises
    ------
    DataError
        As of `read_coco`.
    """
    images = coco_images(path, coco_objects(path, content, "images"))
    categories = _categories(path, coco_objects(path, content, "categories"))
    entries = []
    for k, one in enumerate(coco_objects(path, content, "annotations"), 1):
        where, source = f"annotation {k}", str(path)
        image, label = images.get(repr(one.get("image_id"))), categories.get(_key(one))
        if image is None or label is None:
            name = "image_id" if image is None else "category_id"
            raise DataError(
                f"{path}, {where}: {name} is {one.get(name)!r:.80}; expected the id of one that "
                "is listed."
            )
        known = one.get("attributes")
        known = known if isinstance(known, dict) else {}
        text = {name: _text(path, where, known, name) for name in ("candidate", "annotator", "uid")}
        who = rename(annotators, [text["annotator"] or annotator])
        entries.append(
            Entry(
                text["candidate"] or image,
                check_annotator(source, where, who),
                Kind.label,
                label,
                seconds=as_seconds(source, where, known.get("seconds")),
                visible=_words(path, where, known.get("visible", [])),
                time=as_time(source, where, known.get("time")),
                uid=text["uid"],
                source=repr(one.get("id")),
                where=where,
            )
        )
    return Reading("coco", origin_of(path), tuple(entries))


def _as_place(where: str | os.PathLike[str] | Place) -> Place:
    return where if isinstance(where, Place) else Place(Path(where).as_posix())


def _images(places: Iterable[Place]) -> dict[str, Object]:
    """Images by their names, each once, with a size where one is known."""
    images: dict[str, Object] = {}
    for place in places:
        image = images.setdefault(place.image, {"id": len(images) + 1, "file_name": place.image})
        if place.size is not None:
            image |= {"width": place.size[0], "height": place.size[1]}
    return images


def _shape(place: Place) -> Object:
    """A box; that of the whole image where the candidate is it, and its size is known."""
    box = place.box
    if box is None and place.size is not None:
        box = (0, 0, *place.size)
    if box is None:
        return {}
    return {"bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}


def _of_answers(answers: Iterable[Answer]) -> dict[str, list[tuple[str, Object]]]:
    said: dict[str, list[tuple[str, Object]]] = {}
    for answer in answers:
        if answer.kind is Kind.label:
            attributes = {
                "annotator": answer.annotator,
                "uid": answer.uid,
                "seconds": answer.seconds,
                "time": None if answer.time is None else answer.time.isoformat(),
                "visible": list(answer.visible),
            }
            said.setdefault(answer.candidate, []).append((answer.label, attributes))
    return said


def _of_candidates(
    asks: Sequence[Ask], answers: Sequence[Answer]
) -> dict[str, list[tuple[str, Object]]]:
    labels = labels_of(answers)
    said = {}
    for name, label in consensus(asks, answers).items():
        given = list(labels[name].values())
        share = round(given.count(label) / len(given), 4)
        said[name] = [(label, {"n_readers": len(given), "agreement": share})]
    return said


def _thought(ask: Ask) -> Object:
    return {"score": ask.score, "confidence": confidence(ask), "pattern": ask.pattern}


def _key(annotation: Object) -> str:
    return repr(annotation.get("category_id"))


def _categories(path: Path, categories: list[Object]) -> dict[str, str]:
    """Names of categories by the text of their ids."""
    names: dict[str, str] = {}
    for k, one in enumerate(categories, 1):
        name = one.get("name")
        if not isinstance(name, str) or "id" not in one:
            raise DataError(f"{path}, category {k}: expected an 'id' and a 'name'.")
        if names.setdefault(repr(one["id"]), name) != name:
            raise DataError(
                f"{path}, category {k}: another category has the id {one['id']!r:.80}, too."
            )
    return names


def _text(path: Path, where: str, known: Object, name: str) -> str:
    text = known.get(name, "")
    if not isinstance(text, str):
        raise DataError(f"{path}, {where}: {name!r} is {text!r:.80}; expected text.")
    return text


def _words(path: Path, where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise DataError(f"{path}, {where}: 'visible' is {value!r:.80}; expected a list of words.")
    return tuple(value)
