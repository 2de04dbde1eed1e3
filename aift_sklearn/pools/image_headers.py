"""What the header of an image file tells before its pixels are decoded."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._warnings import silent_thread
from ..errors import DataTypeError

if TYPE_CHECKING:
    import PIL.Image

__all__ = [
    "ImageFile",
    "ImageHeader",
    "count_images",
    "describe_left_out",
    "list_some",
    "open_image",
    "printable",
    "read_header",
    "refuse_deep",
    "why_unreadable",
]

ImageFile = Path | BytesIO
"""An image file, or its bytes."""

# More files than this are counted, not listed.
_LISTED = 5
# Others that Pillow opens, such as JPEG 2000, hold more than 8 bits that it drops unseen.
_FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP", "GIF", "PPM")
# Tags of TIFF.
_BITS_PER_SAMPLE, _COLOUR_MAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 320, 338, 339
_SIGNED = 2
# Of EXIF: values for which width and height change places.
_ORIENTATION, _LYING = 274, (5, 6, 7, 8)
_UNSPECIFIED = 0


@dataclass(frozen=True)
class ImageHeader:
    """Header of an image file.

    Attributes
    ----------
    size : tuple of (int, int)
        Width and height in pixels of the image as it is shown: turned as its EXIF data says.
    grey : bool
        Whether there is one channel, transparency aside.
    depth : str
        Why the pixels do not fit 8 bits per channel; empty where they do.
    n_pages : int
        Pages of a TIFF file, frames of an animation, else 1.
    n_extra : int
        Channels beyond grey, colour and transparency.
    """

    size: tuple[int, int]
    grey: bool
    depth: str
    n_pages: int
    n_extra: int


def read_header(path: ImageFile) -> ImageHeader:
    """Read the header of an image file.

    Parameters
    ----------
    path : Path or BytesIO
        Image file.

    Returns
    -------
    ImageHeader
        What it tells.

    Raises
    ------
    Exception
        Whatever Pillow raises for a file that it cannot read.
    """
    with open_image(path) as image:
        return ImageHeader(
            size=_shown_size(image),
            grey=image.mode in ("1", "L", "LA") or image.mode.startswith(("I", "F")),
            depth=_depth(image),
            n_extra=_count_extra_channels(image),
            # Last, since it moves through the file.
            n_pages=_count_pages(image),
        )


@contextlib.contextmanager
def open_image(path: ImageFile) -> Iterator[PIL.Image.Image]:
    """Open an image file of the formats that are read, without warnings of odd metadata."""
    from PIL import Image

    # Among them that of a large image: Pillow refuses by itself what is twice as large.
    with silent_thread(), Image.open(path, formats=_known_formats()) as image:
        yield image


def refuse_deep(paths: Sequence[str], depths: Sequence[str]) -> None:
    """Refuse images with more than 8 bits per channel, all of them named or counted.

    Parameters
    ----------
    paths, depths : sequences of str
        What each image is called, and the depth of its header.

    Raises
    ------
    DataTypeError
        If there is a deep image; the message says how to make it fit.
    """
    deep = [(path, depth) for path, depth in zip(paths, depths, strict=True) if depth]
    if not deep:
        return
    path, depth = deep[0]
    others = f" and so have {len(deep) - 1} more" if len(deep) > 1 else ""
    raise DataTypeError(
        f"{path} has more than 8 bits per channel ({depth}){others}; expected 8. Map its range to "
        "[0, 255] with a fixed window first, the same for all images: image = "
        "skimage.io.imread(file); np.clip((image - low) / (high - low) * 255, 0, 255)"
        ".astype(np.uint8), low and high being the darkest and the brightest value that matter."
    )


def describe_left_out(names: Sequence[str], headers: Sequence[ImageHeader]) -> list[str]:
    """Say of which images something is not read, as their headers tell.

    Parameters
    ----------
    names : sequence of str
        What each image is called.
    headers : sequence of ImageHeader
        Their headers.

    Returns
    -------
    list of str
        Notes; none where all is read.
    """
    named = list(zip(names, headers, strict=True))
    pages = [name for name, header in named if header.n_pages > 1]
    extra = [name for name, header in named if header.n_extra]
    crushed = [name for name, header in named if header.depth and not header.grey]
    found = (
        (pages, "several pages or frames, of which the first is read"),
        (extra, "further channels, which are left out"),
        (crushed, "more than 8 bits of colour, of which the upper 8 are read"),
    )
    return [count_images(these, what) for these, what in found if these]


def count_images(names: Sequence[str], what: str) -> str:
    """Say how many images have something, and name a few.

    Examples
    --------
    >>> count_images(["a.png", "b.png"], "transparency")
    '2 images have transparency: a.png, b.png'
    """
    return f"{len(names)} {'image has' if len(names) == 1 else 'images have'} {what}: " + list_some(
        names
    )


def list_some(names: Sequence[str]) -> str:
    """Name the first few.

    Examples
    --------
    >>> list_some([f"{k}.png" for k in range(9)])
    '0.png, 1.png, 2.png, 3.png, 4.png, ...'
    """
    return ", ".join([*names[:_LISTED], *(["..."] if len(names) > _LISTED else [])])


def why_unreadable(path: ImageFile, error: Exception) -> str:
    """Say in a few words why an image file cannot be read."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        is_url = isinstance(path, Path) and _is_url(path)
        return "a URL; download it first" if is_url else "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder"
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"more than {limit} pixels; scale it down, or cut it into tiles, first"
    if isinstance(error, UnidentifiedImageError):
        return _why_unknown(path)
    return str(error).replace(str(path), "").replace("''", "").strip() or type(error).__name__


def printable(path: Path | str) -> str:
    """Return a path as text for one line, whatever characters its name has.

    With spaces at its ends, which tables drop, it is put between quotes.
    """
    text = os.fspath(path)
    return text if text.isprintable() and text == text.strip() else repr(text)


def _is_url(path: Path) -> bool:
    # A path keeps one of the two slashes.
    return any(part.lower() in ("http:", "https:", "s3:", "gs:", "ftp:") for part in path.parts)


def _why_unknown(path: ImageFile) -> str:
    if isinstance(path, BytesIO):
        start = path.getvalue()[:132]
    else:
        with path.open("rb") as file:
            start = file.read(132)
    if not start:
        return "an empty file"
    if start[128:] == b"DICM":
        return 'a DICOM file; save it as PNG with a fixed window, or open_pool("dicom:FOLDER")'
    return f"no image of the formats that are read: {', '.join(_FORMATS)}"


@functools.cache
def _known_formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _depth(image: Any) -> str:
    """Why pixels would be crushed to 8 bits; Pillow drops the lower bits of colour unseen."""
    if image.format == "TIFF":
        return _depth_of_tiff(image)
    # PNG: "RGB;16B"; PPM: ("RGB", largest value).
    stored = image.tile[0][3] if image.tile else ""
    if image.mode.startswith(("I", "F")) or ";16" in str(stored):
        return "16 bits" if ";16" in str(stored) else f"mode {image.mode}"
    if image.format == "PPM" and isinstance(stored, tuple) and stored[1] > 255:
        return f"values up to {stored[1]}"
    return ""


def _depth_of_tiff(image: Any) -> str:
    tags = image.tag_v2
    bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
    if bits > 8 or image.mode.startswith(("I", "F")):
        return f"{bits} bits" if not image.mode.startswith("F") else f"{bits} bits, floating point"
    if _SIGNED in tags.get(_SAMPLE_FORMAT, (1,)):
        return "signed values"
    if _COLOUR_MAP in tags:
        # Red of every entry, then green, then blue. A palette of 8 bits is stored times 256 or
        # 257, and its colours stay apart.
        entries = np.array(tags[_COLOUR_MAP]).reshape(3, -1).T
        if len(np.unique(entries // 256, axis=0)) < len(np.unique(entries, axis=0)):
            return "a palette of 16 bits"
    return ""


def _shown_size(image: PIL.Image.Image) -> tuple[int, int]:
    # Pillow turns TIFF by itself, and would decode a PNG file to look for what it rarely has.
    known = image.format not in ("TIFF", "PNG") or "exif" in image.info
    lying = known and image.getexif().get(_ORIENTATION, 1) in _LYING
    return (image.height, image.width) if lying else image.size


def _count_pages(image: Any) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # Pillow raises what its decoders do; the first page may be sound
        return 1


def _count_extra_channels(image: Any) -> int:
    if image.format != "TIFF":
        return 0
    return list(image.tag_v2.get(_EXTRA_SAMPLES, ())).count(_UNSPECIFIED)
