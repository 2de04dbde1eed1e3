"""Answers out of a file, whatever wrote it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ..._checks import check_option
from ..._writing import as_path
from .coco import parse_coco
from .csv_files import read_csv
from .entries import Reading
from .files import read_json
from .label_studio_answers import parse_label_studio

__all__ = ["FORMATS", "read_answers"]

FORMATS = ("csv", "label-studio", "coco")
"""What can be read."""


def read_answers(
    path: str | os.PathLike[str],
    classes: Sequence[str],
    *,
    format: str | None = None,
    annotator: str = "",
    annotators: Mapping[str, str] | None = None,
) -> Reading:
    r"""Read the answers that a file holds; `plan_import` tells what they would add.

    Parameters
    ----------
    path : path-like
        CSV with the columns id and label, such as `export_csv` writes; Label Studio's JSON or
        JSON-MIN; or COCO.
    classes : sequence of str
        Of the campaign.
    format : {"csv", "label-studio", "coco"}, optional
        By default a file that ends in .json is taken for a list of Label Studio or an object of
        COCO, and every other one for CSV.
    annotator : str, optional
        Who labelled, where the file does not say; Label Studio's files always do.
    annotators : mapping of str to str, optional
        Names in the file → names in the campaign.

    Raises
    ------
    DataError
        If it is no such file, or damaged; with the place.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "labels.csv")
    >>> _ = path.write_text("id,label,seconds\na.png,cyst,2.5\n")
    >>> reading = read_answers(path, ["cyst", "tumour"], annotator="anna")
    >>> reading.entries[0].label, reading.entries[0].where
    ('cyst', 'line 2')
    """
    if format is not None:
        check_option("format", format, FORMATS)
    path = as_path(path)
    if format == "csv" or (format is None and path.suffix.lower() != ".json"):
        return read_csv(path, annotator=annotator, annotators=annotators)
    content = read_json(path)
    if format == "coco" or (format is None and isinstance(content, dict)):
        return parse_coco(path, content, annotator=annotator, annotators=annotators)
    return parse_label_studio(path, content, classes, annotators=annotators)
