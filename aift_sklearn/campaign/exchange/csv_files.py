"""CSV files: all answers, or one label for each candidate; and answers back."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._writing import as_path
from ...errors import DataError
from ...pools.cells import MARK, OF_TEXT, as_cell, find_columns, from_cell, read_cells
from ..agreement import consensus, labels_of
from ..records import Answer, Ask, Kind
from .entries import Entry, Reading, check_annotator, rename
from .files import as_seconds, as_time, check_size, confidence, origin_of, write_text

__all__ = ["export_consensus", "export_csv", "read_csv"]

_OF_ASKS = ["purpose", "round", "rank", "score", "confidence", "pattern"]
_OF_ANSWERS = ["id", "label", "annotator", "kind", "seconds", "time", "visible", "origin", "uid"]
_ANSWERS = [*_OF_ANSWERS, *_OF_ASKS]
_CONSENSUS = ["id", "label", "n_readers", "agreement"]


def export_csv(path: str | os.PathLike[str], asks: Iterable[Ask], answers: Iterable[Answer]) -> int:
    """Write answers as CSV, a row each, with what the model thought of the candidate.

    Text that a spreadsheet would take for a formula has "'" before it, and such ids "./";
    `read_answers` takes them off.

    Parameters
    ----------
    path : path-like
        Written in one step, UTF-8 with a byte-order mark.
    asks : iterable of Ask
        What was asked.
    answers : iterable of Answer
        Those that count: neither replaced nor taken back.

    Returns
    -------
    int
        Number of rows.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "labels.csv")
    >>> export_csv(path, [Ask("a.png", 1)], [Answer("u1", "a.png", "anna", label="cyst")])
    1
    >>> path.read_text("utf-8-sig").splitlines()[1][:34]
    '"a.png","cyst","anna","label","","'
    """
    asked = {ask.candidate: ask for ask in asks}
    rows = [_row_of(answer, asked.get(answer.candidate)) for answer in answers]
    _write(path, _ANSWERS, rows)
    return len(rows)


def export_consensus(
    path: str | os.PathLike[str],
    asks: Iterable[Ask],
    answers: Iterable[Answer],
    *,
    yardstick: bool = False,
) -> int:
    """Write one label for each candidate that has one, as ``aift learn SOURCE --labels`` takes it.

    Parameters
    ----------
    path : path-like
        Written in one step: columns id, label, n_readers (who labelled it) and agreement (the
        share of them that gave this label).
    asks, answers : iterable of Ask, of Answer
        As of `consensus`.
    yardstick : bool, default=False
        As of `consensus`: by default what may be trained on.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    DataError
        If an id has spaces at its ends or breaks a line, which no such table keeps.
    """
    answers = list(answers)
    labels = labels_of(answers)
    rows = []
    for name, label in consensus(asks, answers, yardstick=yardstick).items():
        if name != name.strip() or "\r" in name or not name:
            raise DataError(f"the id {name!r} does not survive in a table; rename the file.")
        given = list(labels[name].values())
        share = given.count(label) / len(given)
        rows.append([as_cell(name), as_cell(label, OF_TEXT), len(given), round(share, 4)])
    _write(path, _CONSENSUS, rows)
    return len(rows)


def read_csv(
    path: str | os.PathLike[str],
    *,
    annotator: str = "",
    annotators: Mapping[str, str] | None = None,
) -> Reading:
    """Read answers from a CSV file: one of `export_csv`, or any with the columns id and label.

    Rows without a label are questions that wait, and are left out, unless their kind is "skip" or
    "unsure".

    Parameters
    ----------
    path : path-like
        UTF-8; values between commas, semicolons, tabs or bars.
    annotator : str, optional
        Who labelled, where the file does not say.
    annotators : mapping of str to str, optional
        Names in the file → names in the campaign.

    Raises
    ------
    DataError
        If it is no such file; with the line.
    """
    path = check_size(as_path(path))
    header, rows, separator = read_cells(path)
    find_columns(path, header, ["id", "label"])
    known = [name for name in _OF_ANSWERS if name in header]
    at = dict(zip(known, find_columns(path, header, known), strict=True))
    entries = []
    for line, cells in rows:
        row = {name: cells[place] for name, place in at.items()}
        entry = _entry_of(path, f"line {line}", row, separator, annotator, annotators)
        entries += [] if entry is None else [entry]
    return Reading("csv", origin_of(path), tuple(entries))


def _row_of(answer: Answer, ask: Ask | None) -> list[Any]:
    time = "" if answer.time is None else answer.time.isoformat()
    texts = (answer.label, answer.annotator, answer.kind.value)
    of_ask: list[Any] = [""] * len(_OF_ASKS)
    if ask is not None:
        of_ask = [ask.purpose.value, ask.round, ask.rank, ask.score, confidence(ask), ask.pattern]
    return [
        as_cell(answer.candidate),
        *(as_cell(text, OF_TEXT) for text in texts),
        answer.seconds,
        time,
        as_cell(" ".join(answer.visible), OF_TEXT),
        as_cell(answer.origin, OF_TEXT),
        as_cell(answer.uid, OF_TEXT),
        *(as_cell(one, OF_TEXT) if isinstance(one, str) else one for one in of_ask),
    ]


def _write(path: str | os.PathLike[str], header: Sequence[str], rows: list[list[Any]]) -> None:
    buffer = io.StringIO()
    # With quotes around text: spaces at the ends of an id stay.
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, MARK + buffer.getvalue())


def _entry_of(
    path: Path,
    where: str,
    row: Mapping[str, str],
    separator: str,
    annotator: str,
    annotators: Mapping[str, str] | None,
) -> Entry | None:
    text = {name: from_cell(cell.strip(), OF_TEXT) for name, cell in row.items() if name != "id"}
    kind, label = text.get("kind") or Kind.label.value, text["label"]
    if not row["id"].strip():
        raise DataError(f"{path}, {where}: a row without an id; remove it.")
    if kind not in (Kind.label, Kind.skip, Kind.unsure):
        raise DataError(f"{path}, {where}: kind is {kind!r:.80}; expected label, skip or unsure.")
    if kind == Kind.label and not label:
        return None
    if kind != Kind.label and label:
        raise DataError(
            f"{path}, {where}: the label {label!r:.80} with the kind {kind!r}; a label has the "
            "kind 'label', and the others have none."
        )
    source = str(path)
    who = rename(annotators, [text.get("annotator") or annotator])
    return Entry(
        from_cell(row["id"]),
        check_annotator(source, where, who),
        Kind(kind),
        label,
        seconds=as_seconds(source, where, _number(text.get("seconds", ""), separator)),
        visible=tuple(text.get("visible", "").split()),
        time=as_time(source, where, text.get("time", "")),
        uid=text.get("uid", ""),
        where=where,
    )


def _number(text: str, separator: str) -> Any:
    """Read a number as spreadsheets write it, of countries with a decimal comma too."""
    if not text:
        return None
    try:
        return float(text if separator == "," else text.replace(",", "."))
    except ValueError:
        return text
