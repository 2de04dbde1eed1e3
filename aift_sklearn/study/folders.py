"""Data sets from folders with a subfolder of images per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._writing import as_path
from ..errors import DataError
from ..pools.folder_contents import FolderContents, list_folder
from ..pools.image_headers import list_some, printable
from .datasets import Dataset, split_dataset
from .images import ImageFiles
from .labels import label_of_name, note_similar_names
from .splits import assign_sides, name_side

__all__ = ["load_folder"]


def load_folder(
    path: str | Path, *, size: int | None = None, verbose: int = 0, **split: Any
) -> Dataset:
    """Read a folder with one subfolder of images per class.

    Where the folder holds ``train`` and ``test``, each with the classes inside, that is the split;
    else one is drawn. ``val`` is the test set where there is no ``test``, else part of the pool.
    Case does not count, and "training", "valid" and "validation" mean the same.

    Parameters
    ----------
    path : path-like
        The folder.
    size : int, optional
        Height and width in pixels to which the middle square of each image is scaled; needed
        where images differ in size.
    verbose : int, default=0
        1 shows a progress bar.
    **split
        ``test_fraction``, ``max_pool``, ``max_test``, ``random_state`` and ``drop_look_alikes`` of
        `split_dataset`.

    Returns
    -------
    Dataset
        Labels are the names of the subfolders. What was left out is named in ``notes``: files
        that are no images, images outside class folders, empty class folders, pages after the
        first.

    Raises
    ------
    DataError
        If there are no images, or some cannot be read.
    """
    path = as_path(path)
    found = _find_labelled(path)
    names = [printable(file.relative_to(path)) for file in found.files]
    images = ImageFiles(found.files, names=names, size=size, verbose=verbose)
    name = path.name or path.resolve().name
    dataset = split_dataset(
        name,
        images,
        np.array(found.labels),
        is_test=found.is_test,
        candidate_names=names,
        description=f"{len(names)} images of the folder {name}, a subfolder per class.",
        source=str(path),
        notes=found.notes,
        **split,
    )
    return dataclasses.replace(dataset, notes=(*dataset.notes, *images.notes))


@dataclasses.dataclass(frozen=True)
class _LabelledFiles:
    """Image files with their labels, n of each, and their split where it is given."""

    files: list[Path]
    labels: list[str]
    is_test: NDArray[np.bool_] | None
    notes: list[str]


def _find_labelled(path: Path) -> _LabelledFiles:
    if not path.is_dir():
        raise DataError(f"there is no folder {path}.")
    top = list_folder(path)
    boxes = path / "boxes.csv"
    if boxes.exists() and len(top.images) < 2:
        raise DataError(f"{path} holds boxes.csv, labelled boxes: did you mean boxes:{path}?")
    sides = [name for name in top.folders if name_side(name)]
    given = len({name_side(name) for name in sides}) > 1 or sides == list(top.folders)
    found = _find_in_sides(top, sides) if sides and given else _find_in_classes(top)
    if boxes.exists():
        found.notes.append(f"boxes.csv is not read: boxes:{path} would")
    return found


def _find_in_classes(top: FolderContents) -> _LabelledFiles:
    """One subfolder per class."""
    if not top.images:
        raise DataError(_why_nothing_is_labelled(top))
    if len(top.images) == 1:
        (only,) = top.images
        inner = list_folder(top.path / only)
        meant = len(inner.images) > 1
        raise DataError(
            f"{top.path} has images in one subfolder only, {only!r}; expected one subfolder per "
            "class, at least two." + (f" Did you mean {top.path / only}?" if meant else "")
        )
    files = [file for inside in top.images.values() for file in inside]
    labels = [label_of_name(name) for name, inside in top.images.items() for _ in inside]
    return _LabelledFiles(files, labels, None, [*top.describe_rest(), *note_similar_names(labels)])


def _find_in_sides(top: FolderContents, sides: Sequence[str]) -> _LabelledFiles:
    """Folders such as train and test, with one subfolder per class in each."""
    contents = {name: list_folder(top.path / name) for name in sides}
    if not any(inside.images for inside in contents.values()):
        raise DataError(
            f"the top level of {top.path} holds only {', '.join(sides)}, without subfolders of "
            f"images; expected one subfolder per class in each, such as "
            f"{top.path / sides[0] / 'CLASS' / 'image.png'}."
        )
    files: list[Path] = []
    labels: list[str] = []
    marks: list[str] = []
    notes: list[str] = []
    for name, inside in contents.items():
        if not inside.images:
            notes.append(f"{name} is left out: it holds no subfolders of images")
            continue
        notes += inside.describe_rest(within=f"{name}/")
        for label, members in inside.images.items():
            files += members
            labels += [label_of_name(label)] * len(members)
            marks += [str(name_side(name))] * len(members)
    others = [name for name in top.folders if name not in sides]
    if others:
        notes.append(f"left out beside {', '.join(sides)}: {list_some(others)}")
    is_test, said = assign_sides(marks)
    return _LabelledFiles(files, labels, is_test, [*said, *notes, *note_similar_names(labels)])


def _why_nothing_is_labelled(top: FolderContents) -> str:
    expected = "expected one subfolder per class"
    if top.loose:
        lists = [file.name for file in top.others if file.suffix.lower() == ".csv"]
        return (
            f"{top.path} holds {len(top.loose)} images and no class folders, so that nothing is "
            f"labelled; {expected}, or a CSV file with path and label"
            + (f" ({top.path / lists[0]}?)" if lists else "")
            + ". A simulation needs labels. To have unlabelled images ranked for labelling, read "
            "them with aift_sklearn.study.images.read_images and ask AIFTLearner.query (README, "
            "'Ask, learn, ask again')."
        )
    rest = top.describe_rest()
    return (
        f"{top.path} holds no images in subfolders; {expected} with .png, .jpg, .tif ... files."
        + (f" What it holds: {'; '.join(rest)}." if rest else "")
        + f" Boxes in images: boxes:{top.path}."
    )
