"""Data sets from labelled boxes in images: each box is a candidate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._checks import check_int, check_number
from .._writing import as_path
from ..errors import AIFTError, DataError
from ..pools.annotations import CORNERS
from ..pools.crops import Sheet, describe_unusable, usable_boxes
from ..pools.decoding import decode
from ..pools.image_headers import (
    ImageHeader,
    describe_left_out,
    list_some,
    printable,
    read_header,
    refuse_deep,
    why_unreadable,
)
from ..pools.listings import find_listed_file, read_listing
from ..progress import track
from .datasets import Dataset, split_dataset
from .labels import label_of_name, note_similar_names

__all__ = ["crop_boxes", "load_boxes"]

Array = NDArray[Any]
Bytes = NDArray[np.uint8]


def load_boxes(
    path: str | Path,
    *,
    size: int = 64,
    context: float = 1.5,
    field: float | None = None,
    verbose: int = 0,
    **split: Any,
) -> Dataset:
    """Read labelled boxes in images: each box is a candidate, each image a group.

    Parameters
    ----------
    path : path-like
        Folder with ``boxes.csv`` (columns image, xmin, ymin, xmax, ymax in pixels, label, and
        perhaps group, such as the patient) and the images, in it or in its subfolder ``images``.
    size : int, default=64
        Height and width of the candidates in pixels.
    context : float, default=1.5
        Side of the square that is cut, as a multiple of the longer side of the box: rotated and
        shifted patches then see real surroundings. Beyond the image its mirror image is seen.
    field : float, optional
        Side of the square in pixels of the image, the same for every box, instead of ``context``:
        for classes that differ in size.
    verbose : int, default=0
        1 shows a progress bar.
    **split
        ``test_fraction``, ``max_pool``, ``max_test``, ``random_state`` and ``drop_look_alikes`` of
        `split_dataset`.

    Returns
    -------
    Dataset
        No image (or group) is on both sides. Boxes without area, and those outside their image,
        are left out and named in ``notes``.

    Raises
    ------
    DataError
        If the table or an image is missing or damaged, or no box is left.
    """
    path = as_path(path)
    path = path.parent if path.name == "boxes.csv" and path.is_file() else path
    check_int("size", size, minimum=4)
    check_number("context", context, low=0.1, high=100)
    if field is not None:
        check_number("field", field, low=1)
    listed = read_listing(path / "boxes.csv", ["image", *CORNERS, "label"], ["group"])
    table = pd.DataFrame(listed, dtype=object)
    corners = table[CORNERS].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    folder = path / "images" if (path / "images").is_dir() else path
    names, of_image = np.unique(table["image"].to_numpy().astype(str), return_inverse=True)
    files = [find_listed_file(folder, name) for name in names]
    headers = _read_headers(files)
    good = usable_boxes(corners, np.array([header.size for header in headers])[of_image])
    if not good.any():
        raise DataError(f"{path / 'boxes.csv'} holds no usable box among {len(table)}.")
    kept = table[good].reset_index(drop=True)
    cuts = _BoxCuts(files, headers, of_image[good], corners[good], size, context, field, verbose)
    shown = [printable(name) for name in names]
    how = f"a field of {field:g} pixels" if field else f"{context:g} times the box's side"
    return split_dataset(
        path.name or path.resolve().name,
        cuts,
        np.array([label_of_name(label) for label in kept["label"]]),
        groups=kept["group" if "group" in table else "image"].to_numpy().astype(str),
        candidate_names=_named(kept),
        description=f"{len(kept)} boxes in {len(names)} images, cut with {how} and scaled to "
        f"{size} x {size}. Split by {'group' if 'group' in table else 'image'}.",
        source=str(path),
        notes=[
            *describe_unusable(_named(table[~good])),
            *describe_left_out(shown, headers),
            *note_similar_names(kept["label"]),
        ],
        **split,
    )


@dataclasses.dataclass(frozen=True)
class _BoxCuts:
    """Boxes that are cut when they are asked for, `ImageSource` of `split_dataset`."""

    files: list[Path]
    headers: list[ImageHeader]
    of_image: NDArray[np.intp]
    corners: Array
    size: int
    context: float
    field: float | None
    verbose: int

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, rows: NDArray[np.intp]) -> Bytes:
        used = np.unique(self.of_image[rows])
        grey = all(self.headers[k].grey for k in used)
        cut = np.empty((len(rows), 1 if grey else 3, self.size, self.size), dtype=np.uint8)
        for k in track(used.tolist(), "cutting boxes", enabled=bool(self.verbose)):
            here = self.of_image[rows] == k
            cut[here] = crop_boxes(
                self.files[k],
                self.corners[rows[here]],
                size=self.size,
                context=self.context,
                field=self.field,
                grey=grey,
            )
        return cut


def crop_boxes(
    path: Path,
    boxes: Iterable[tuple[float, float, float, float]] | Array,
    *,
    size: int,
    context: float = 1.5,
    field: float | None = None,
    grey: bool | None = None,
) -> NDArray[np.uint8]:
    """Cut squares around boxes out of one image.

    Parameters
    ----------
    path : Path
        Image file.
    boxes : iterable of (xmin, ymin, xmax, ymax)
        In pixels, in the orientation in which the image is shown: as its EXIF data says.
    size : int
        Height and width of the crops in pixels.
    context : float, default=1.5
        Side of the square, as a multiple of the longer side of the box. What rotated and shifted
        patches see of the surroundings is then real. Beyond the image its mirror image is seen.
    field : float, optional
        Side of the square in pixels of the image, the same for all boxes; instead of ``context``
        where size tells classes apart.
    grey : bool, optional
        Whether crops have one channel; by default where the image is grey.

    Returns
    -------
    ndarray of uint8, shape (n_boxes, C, size, size)
        C is 1 for a grey image, else 3.

    Raises
    ------
    DataError
        If the image is missing, damaged or truncated.
    DataTypeError
        If it has more than 8 bits per channel.
    """
    try:
        header = read_header(path)
        refuse_deep([printable(path)], [header.depth])
        pixels, _ = decode(path, grey=header.grey if grey is None else grey)
    except (AIFTError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever its decoders do
        reason = why_unreadable(path, error)
        raise DataError(f"the image {printable(path)} cannot be read ({reason}).") from error
    return Sheet(pixels).cut(boxes, size, context, field)


def _read_headers(files: list[Path]) -> list[ImageHeader]:
    """Headers of every image, all unreadable ones named at once."""
    headers, broken = [], []
    for file in files:
        try:
            headers.append(read_header(file))
        except Exception as error:  # Pillow raises what its decoders do
            broken.append(f"{printable(file)} ({why_unreadable(file, error)})")
    if broken:
        raise DataError(
            f"{len(broken)} of {len(files)} images are missing or damaged: {list_some(broken)}."
        )
    refuse_deep([printable(file) for file in files], [header.depth for header in headers])
    return headers


def _named(table: pd.DataFrame) -> list[str]:
    return [
        f"{printable(image)} (line {line})"
        for image, line in zip(table["image"], table["line"], strict=True)
    ]
