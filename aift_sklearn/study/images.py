"""Image files → uint8 arrays of one shape: whole pictures, and boxes cut out of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int
from ..errors import DataError, DataTypeError
from ..progress import track

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["IMAGE_SUFFIXES", "crop_boxes", "read_images"]

Bytes = NDArray[np.uint8]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
"""File names that are taken for images, in lower case."""

# More broken files than this are counted, not listed.
_LISTED = 5


def read_images(
    paths: Sequence[Path], *, size: int | None = None, verbose: int = 0
) -> NDArray[np.uint8]:
    """Read image files into one array.

    Parameters
    ----------
    paths : sequence of Path
        Image files; all of one shape, unless ``size`` is given.
    size : int, optional
        Height and width in pixels: the middle square of each image is scaled to it, by averaging
        where that makes it smaller.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    ndarray of uint8, shape (n, C, H, W)
        C is 1 where every image is grey, else 3. Transparency is dropped, and a photograph is
        turned as its EXIF data says.

    Raises
    ------
    DataError
        If files are missing, damaged or truncated (all are named), or differ in shape.
    DataTypeError
        If an image has more than 8 bits per channel.
    """
    if size is not None:
        check_int("size", size, minimum=4)
    images = _opened(paths, verbose)
    if size is not None:
        images = [_middle_square(image, size) for image in images]
    shapes = {image.size for image in images}
    if len(shapes) > 1:
        listed = ", ".join(f"{w} x {h}" for w, h in sorted(shapes)[:_LISTED])
        raise DataError(
            f"the images have {len(shapes)} different sizes (width x height): {listed}...; "
            "expected one. Pass size=64, say, to scale the middle square of each to 64 x 64."
        )
    grey = all(image.mode == "L" for image in images)
    return _stack([image if grey else image.convert("RGB") for image in images])


def crop_boxes(
    path: Path,
    boxes: Iterable[tuple[float, float, float, float]],
    *,
    size: int,
    context: float = 1.5,
    field: float | None = None,
) -> NDArray[np.uint8]:
    """Cut squares around boxes out of one image.

    Parameters
    ----------
    path : Path
        Image file.
    boxes : iterable of (xmin, ymin, xmax, ymax)
        In pixels, in the file's own orientation.
    size : int
        Height and width of the crops in pixels.
    context : float, default=1.5
        Side of the square, as a multiple of the longer side of the box. What rotated and shifted
        patches see of the surroundings is then real. Beyond the image its mirror image is seen.
    field : float, optional
        Side of the square in pixels of the image, the same for all boxes; instead of ``context``
        where size tells classes apart.

    Returns
    -------
    ndarray of uint8, shape (n_boxes, C, size, size)
        C is 1 for a grey image, else 3.
    """
    from PIL import Image

    image = _opened([path], 0)[0]
    pixels = np.asarray(image)
    crops = []
    for xmin, ymin, xmax, ymax in boxes:
        half = (field or context * max(xmax - xmin, ymax - ymin)) / 2
        x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
        # Padded only as far as this box needs it.
        left, top = max(0, int(np.ceil(half - x))), max(0, int(np.ceil(half - y)))
        right = max(0, int(np.ceil(x + half - image.width)))
        bottom = max(0, int(np.ceil(y + half - image.height)))
        source = image
        if left or top or right or bottom:
            margins = ((top, bottom), (left, right), (0, 0))[: pixels.ndim]
            source = Image.fromarray(np.pad(pixels, margins, mode="symmetric"))
        x, y = x + left, y + top
        box = (x - half, y - half, x + half, y + half)
        crops.append(source.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return _stack(crops)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file in pixels, from its header."""
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def _opened(paths: Sequence[Path], verbose: int) -> list[PIL.Image.Image]:
    """Decode every file; damaged ones are collected, so that they can be mended in one go."""
    images, broken = [], []
    for path in track(paths, "reading images", enabled=bool(verbose)):
        try:
            images.append(_decode(path))
        except DataTypeError:
            raise
        # Pillow raises whatever its decoders do: OSError, SyntaxError, ValueError, struct.error.
        except Exception as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
            broken.append(f"{path} ({reason.replace(str(path), '').strip()})")
    if broken:
        more = f" and {len(broken) - _LISTED} more" if len(broken) > _LISTED else ""
        raise DataError(
            f"{len(broken)} of {len(paths)} images cannot be read: {', '.join(broken[:_LISTED])}"
            f"{more}. Replace them, or remove them from the data."
        )
    return images


def _decode(path: Path) -> PIL.Image.Image:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        # Odd metadata harms nobody; a bomb does.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as file:
            image: PIL.Image.Image = ImageOps.exif_transpose(file)
            image.load()
    if image.mode.startswith(("I", "F")):
        raise DataTypeError(
            f"{path} has more than 8 bits per channel (mode {image.mode}); expected 8. Map its "
            "range to [0, 255] with a fixed window first, the same for all images."
        )
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def _middle_square(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def _stack(images: Sequence[Any]) -> Bytes:
    """Pillow images of one size and mode → (n, C, H, W)."""
    pixels = np.stack([np.asarray(image) for image in images])
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels)
