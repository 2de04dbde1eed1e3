"""What lies in a folder: images by subfolder, and the rest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .decoding import IMAGE_SUFFIXES
from .image_headers import list_some, printable

__all__ = [
    "SHEET",
    "FolderContents",
    "count_kinds",
    "files_below",
    "list_folder",
    "sort_out_images",
]

SHEET = "contact-sheet.png"
"""What `aift scan` draws, which is no candidate."""

# What file managers and archivers leave behind, beside hidden files.
_JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", SHEET}
_OF_DICOM = 'save DICOM as PNG with a fixed window, or open_pool("dicom:FOLDER")'


@dataclass(frozen=True)
class FolderContents:
    """Contents of a folder, without hidden files and what file managers leave behind.

    Attributes
    ----------
    path : Path
        The folder.
    images : dict of str to list of Path
        Images in and below each subfolder that has some, in order.
    folders : list of str
        All subfolders.
    loose : list of Path
        Images in the folder itself.
    others : list of Path
        Files that are no images, anywhere below.
    """

    path: Path
    images: dict[str, list[Path]]
    folders: list[str]
    loose: list[Path]
    others: list[Path]

    def describe_rest(self, *, within: str = "") -> list[str]:
        """Say what is no image of a subfolder; ``within`` goes before the names."""
        notes = []
        empty = [within + printable(name) for name in self.folders if name not in self.images]
        if empty:
            has = "class folder holds" if len(empty) == 1 else "class folders hold"
            notes.append(f"{len(empty)} {has} no images: {list_some(empty)}")
        if self.loose:
            lie = "image lies" if len(self.loose) == 1 else "images lie"
            names = [within + printable(file.name) for file in self.loose]
            notes.append(
                f"{len(names)} {lie} outside class folders and are left out: {list_some(names)}"
            )
        if self.others:
            dicom = {file.suffix.lower() for file in self.others} & {".dcm", ".dicom", ".ima"}
            notes.append(
                f"files left out{f' of {within}' if within else ''}, no images that are read: "
                f"{count_kinds(self.others)}" + (f" ({_OF_DICOM})" if dicom else "")
            )
        return notes


def list_folder(path: Path) -> FolderContents:
    """List a folder and what is below it; links are followed, but in no circle.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    FolderContents
        What it holds, in alphabetical order.

    Raises
    ------
    DataError
        If a folder cannot be listed.
    """
    folders = sorted(
        entry.name for entry in os.scandir(path) if _is_wanted(entry.name) and entry.is_dir()
    )
    loose, others = sort_out_images(
        [entry for entry in path.iterdir() if _is_wanted(entry.name) and not entry.is_dir()]
    )
    images = {}
    for name in folders:
        inside, rest = sort_out_images(files_below(path / name))
        others += rest
        if inside:
            images[name] = inside
    return FolderContents(path, images, folders, loose, others)


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _JUNK


def count_kinds(files: Iterable[Path]) -> str:
    """Count files by their ending.

    Examples
    --------
    >>> count_kinds([Path("a.txt"), Path("b.TXT"), Path("c")])
    '2 .txt, 1 without extension'
    """
    kinds = Counter(file.suffix.lower() or "without extension" for file in files)
    return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())


def sort_out_images(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Tell images from other files by their names; both sorted."""
    files = sorted(files)
    is_image = [file.suffix.lower() in IMAGE_SUFFIXES for file in files]
    return (
        [file for file, wanted in zip(files, is_image, strict=True) if wanted],
        [file for file, wanted in zip(files, is_image, strict=True) if not wanted],
    )


def files_below(folder: Path, unlisted: Callable[[OSError], None] | None = None) -> list[Path]:
    """List all files in a folder and below, without hidden ones and file managers' leftovers.

    Links are followed, but in no circle, and not to a folder above.

    Parameters
    ----------
    folder : Path
        The folder.
    unlisted : callable, optional
        Called with the error of a folder that cannot be listed; by default it is raised.

    Raises
    ------
    DataError
        If a folder cannot be listed.
    """
    # A link to a folder above would bring in the other classes.
    seen = {os.path.realpath(above) for above in Path(os.path.abspath(folder)).parents}
    seen |= {os.path.realpath(above) for above in folder.resolve().parents}
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}.") from error

    for here, folders, names in os.walk(folder, followlinks=True, onerror=unlisted or refuse):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if _is_wanted(name))
        found += [Path(here, name) for name in names if _is_wanted(name)]
    return found
