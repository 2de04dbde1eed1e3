"""Answers from Label Studio: its exports JSON and JSON-MIN."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._writing import as_path
from ...errors import DataError
from ..records import Kind
from .entries import Entry, Reading, check_annotator, rename
from .files import as_seconds, as_time, origin_of, read_json
from .label_studio import CONTROL, ID, unsure_choice

__all__ = ["parse_label_studio", "read_label_studio"]

_MANY = "several labels in one answer; expected one"
_NONE = f"no choice of the control {CONTROL!r} in this annotation"


def read_label_studio(
    path: str | os.PathLike[str],
    classes: Sequence[str],
    *,
    annotators: Mapping[str, str] | None = None,
) -> Reading:
    """Read the annotations that Label Studio exported, as JSON or as JSON-MIN.

    What was skipped there is a skip; JSON-MIN lists none. Drafts, which nobody submitted, do not
    count. In JSON an annotation of a task with a prediction is marked as one that saw it.

    Parameters
    ----------
    path : path-like
        An export of tasks that `export_label_studio` wrote.
    classes : sequence of str
        Of the campaign.
    annotators : mapping of str to str, optional
        Label Studio's ids of users, or their e-mail addresses → names in the campaign. Others are
        called by their address, or "label-studio:" and their id where the file has no more.

    Raises
    ------
    DataError
        If it is no such file; with the place.
    """
    path = as_path(path)
    return parse_label_studio(path, read_json(path), classes, annotators=annotators)


def parse_label_studio(
    path: Path,
    content: Any,
    classes: Sequence[str],
    *,
    annotators: Mapping[str, str] | None = None,
) -> Reading:
    """Read the contents of such a file.

    Raises
    ------
    DataError
        As of `read_label_studio`.
    """
    if not isinstance(content, list):
        raise DataError(
            f"{path} holds a {type(content).__name__}; expected a list of tasks, as Label Studio "
            "exports JSON and JSON-MIN."
        )
    entries: list[Entry] = []
    named = False
    for k, task in enumerate(content, 1):
        where = f"task {_number_of(task, k)}"
        if not isinstance(task, dict):
            raise DataError(f"{path}, {where}: {task!r:.80}; expected an object.")
        if "annotations" in task:
            data = _as(path, where, task.get("data"), dict, "data")
            found = _full(path, where, task)
        elif "annotation_id" in task:
            data, found = task, _minimal(path, where, task)
        else:
            raise DataError(
                f"{path}, {where}: neither 'annotations' nor 'annotation_id'; expected the export "
                "JSON or JSON-MIN of Label Studio, not the tasks that were imported into it."
            )
        name = data.get(ID)
        named |= isinstance(name, str)
        for annotation in found:
            entries.append(_entry(path, name, annotation, classes, annotators))
    if content and not named:
        raise DataError(
            f"{path} has no task with {ID!r} in its data; expected an export of a project whose "
            "tasks 'aift export' wrote."
        )
    return Reading("label-studio", origin_of(path), tuple(entries))


def _number_of(task: Any, k: int) -> Any:
    number = task.get("id") if isinstance(task, dict) else None
    return number if isinstance(number, (int, str)) else f"at place {k}"


def _as(path: Path, where: str, value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(
            f"{path}, {where}: {name!r} is {value!r:.80}; expected "
            f"{'an object' if kind is dict else 'a list'}."
        )
    return value


def _full(path: Path, where: str, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Annotations of a task, in the words of JSON-MIN."""
    for k, one in enumerate(_as(path, where, task["annotations"], list, "annotations"), 1):
        place = f"{where}, annotation {_number_of(one, k)}"
        _as(path, place, one, dict, f"annotation {k}")
        labels: list[Any] = []
        for part in _as(path, place, one.get("result") or [], list, "result"):
            _as(path, place, part, dict, "result")
            if part.get("from_name") == CONTROL and part.get("type") == "choices":
                value = _as(path, place, part.get("value"), dict, "value")
                labels += _as(path, place, value.get("choices"), list, "choices")
        yield {
            "where": place,
            "labels": labels,
            "skipped": bool(one.get("was_cancelled") or one.get("skipped")),
            "annotator": one.get("completed_by"),
            "seen": bool(one.get("prediction") or task.get("predictions")),
            **{name: one.get(name) for name in ("id", "updated_at", "created_at", "lead_time")},
        }


def _minimal(path: Path, where: str, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    # A task that nobody labelled is listed too, where all tasks are exported.
    if record["annotation_id"] is None:
        return
    labels = record.get(CONTROL, [])
    labels = labels if isinstance(labels, list) else [labels]
    # Several choices at once are an object.
    parts = [one.get("choices", [one]) if isinstance(one, dict) else [one] for one in labels]
    yield {
        "where": f"{where}, annotation {record['annotation_id']}",
        "labels": [label for part in parts for label in part],
        "skipped": False,
        "seen": False,
        "id": record["annotation_id"],
        **{n: record.get(n) for n in ("annotator", "updated_at", "created_at", "lead_time")},
    }


def _entry(
    path: Path,
    candidate: Any,
    found: dict[str, Any],
    classes: Sequence[str],
    annotators: Mapping[str, str] | None,
) -> Entry:
    source, where = str(path), found["where"]
    kind, label, problem = _said(found, classes)
    return Entry(
        candidate if isinstance(candidate, str) else "",
        check_annotator(source, where, _who(source, where, found["annotator"], annotators)),
        kind,
        label,
        seconds=as_seconds(source, where, found["lead_time"]),
        visible=("prediction",) if found["seen"] else (),
        time=as_time(source, where, found["updated_at"] or found["created_at"]),
        source=str(found["id"]),
        where=where,
        problem=problem,
    )


def _said(found: dict[str, Any], classes: Sequence[str]) -> tuple[Kind, str, str]:
    labels = found["labels"]
    if found["skipped"]:
        return Kind.skip, "", ""
    if not all(isinstance(label, str) for label in labels):
        return Kind.label, "", f"the choice {labels!r:.80} is no text"
    if len(labels) != 1:
        return Kind.label, "", _MANY if labels else _NONE
    if labels[0] == unsure_choice(classes):
        return Kind.unsure, "", ""
    return Kind.label, labels[0], ""


def _who(source: str, where: str, who: Any, annotators: Mapping[str, str] | None) -> str:
    """Who annotated, by an id, an address, or an object with both."""
    user = who if isinstance(who, dict) else {}
    email = user.get("email") if user else who if isinstance(who, str) else None
    number = user.get("id") if user else who if isinstance(who, int) else None
    known_as = [email] if isinstance(email, str) and email else []
    if isinstance(number, int) and not isinstance(number, bool):
        known_as += [str(number)] if known_as else [f"label-studio:{number}", str(number)]
    if not known_as:
        raise DataError(
            f"{source}, {where}: the annotator is {who!r:.80}; expected the id of a user, or an "
            "object with their 'email'."
        )
    return rename(annotators, known_as)
