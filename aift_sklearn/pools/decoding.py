"""Image files → pixels: oriented, of one or three channels, and scaled as they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ParameterError
from .image_headers import ImageFile, open_image
from .reading import in_threads

if TYPE_CHECKING:
    import PIL.Image

__all__ = [
    "IMAGE_SUFFIXES",
    "as_picture",
    "at_most",
    "check_window",
    "decode",
    "decode_deep",
    "decode_windowed",
    "find_window",
    "middle_square",
    "refuse_several_sizes",
    "scale_array",
    "square_in",
    "to_bytes",
    "window_of_files",
]

Bytes = NDArray[np.uint8]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
"""File names that are taken for images, in lower case."""

# Longer side in pixels of what people look at.
_LOOKED_AT = 1600
# More sizes than this are counted, not listed.
_LISTED = 5
# Images of more than 8 bits that a window is taken from, and the shares that it leaves out.
_FOR_WINDOW, _OUTSIDE = 32, (0.1, 99.9)


def decode(path: ImageFile, *, grey: bool, size: int | None = None) -> tuple[Bytes, bool]:
    """Read the pixels of an image file (C, H, W), and whether something is transparent.

    A JPEG file is decoded at the reduced scale that is next above twice the size.
    """
    from PIL import ImageOps

    with open_image(path) as image:
        if size is not None:
            image.draft(None, (2 * size, 2 * size))
        ImageOps.exif_transpose(image, in_place=True)
        transparent = _is_transparent(image)
        plain = image.convert("L" if grey else "RGB")
        if size is not None:
            plain = middle_square(plain, size)
    pixels = np.asarray(plain)
    return (pixels[None] if grey else pixels.transpose(2, 0, 1)), transparent


def decode_deep(path: ImageFile, size: int | None = None) -> NDArray[np.float32]:
    """Read the values of a grey image of more than 8 bits (H, W), as they are.

    Parameters
    ----------
    path : Path or BytesIO
        Image file of mode I;16, I or F, such as a TIFF or PNG file of 16 bits.
    size : int, optional
        As of `decode`.
    """
    from PIL import ImageOps

    with open_image(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        # Of 16 bits Pillow scales none.
        values = image if image.mode in ("I", "F") else image.convert("I")
        plain = values.convert("F")
        if size is not None:
            plain = middle_square(plain, size)
        return np.asarray(plain, dtype=np.float32)


def decode_windowed(
    path: ImageFile, *, grey: bool, window: tuple[float, float] | None, size: int | None = None
) -> Bytes:
    """Read the pixels of an image file (C, H, W), grey of more than 8 bits by a window.

    Parameters
    ----------
    path : Path or BytesIO
        Image file.
    grey : bool
        Whether C is 1, else 3.
    window : (float, float) or None
        Darkest and brightest value of a grey image of more than 8 bits; None for all others.
    size : int, optional
        As of `decode`.

    Raises
    ------
    DataError
        If a value is not finite.
    """
    if window is None:
        return decode(path, grey=grey, size=size)[0]
    values = decode_deep(path, size)
    if not np.isfinite(values).all():
        raise DataError("values that are not finite")
    pixels = to_bytes(values, window)
    return np.broadcast_to(pixels, (1 if grey else 3, *pixels.shape))


def to_bytes(values: NDArray[np.float32], window: tuple[float, float]) -> Bytes:
    """Map the values of a window to 0 to 255, what lies outside to its ends.

    Examples
    --------
    >>> to_bytes(np.array([0.0, 100.0, 150.0, 999.0], dtype=np.float32), (100, 200)).tolist()
    [0, 0, 128, 255]
    """
    low, high = window
    scaled = (values - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)


def find_window(
    read: Callable[[int], NDArray[np.float32] | None], items: NDArray[np.intp]
) -> tuple[float, float]:
    """Find one window for images of more than 8 bits: of a part of them, evenly spread.

    Parameters
    ----------
    read : callable
        Item → values; those that are not finite do not count. None where it cannot be read, which
        is told when it is asked for.
    items : ndarray of int
        What ``read`` is called with.

    Returns
    -------
    low, high : float
        All but a thousandth of the values of each that was looked at lie between.
    """

    def ends(item: int) -> Any:
        values = read(item)
        if values is None:
            return None
        values = values[np.isfinite(values)]
        return np.percentile(values, _OUTSIDE) if values.size else None

    places = np.linspace(0, len(items) - 1, min(_FOR_WINDOW, len(items))).astype(np.intp)
    found = [each for each in in_threads(ends, items[places].tolist()) if each is not None]
    if not found:
        return 0.0, 1.0
    low, high = float(np.min(found, axis=0)[0]), float(np.max(found, axis=0)[1])
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def check_window(window: Any, expected: str = "'auto'") -> tuple[float, float]:
    """Return a window that a user gave, its darkest value below its brightest."""
    try:
        low, high = (float(end) for end in window)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"window={window!r}; expected {expected} or (darkest, brightest)."
        ) from error
    if not (np.isfinite([low, high]).all() and low < high):
        raise ParameterError(f"window={window!r}; expected the darkest value before the brightest.")
    return low, high


def as_picture(pixels: Bytes) -> PIL.Image.Image:
    """Make a picture of Pillow of an image (1 or 3, H, W).

    Examples
    --------
    >>> as_picture(np.zeros((3, 4, 8), dtype=np.uint8)).size
    (8, 4)
    """
    from PIL import Image

    plain = pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(plain))


def at_most(pixels: Bytes, side: int = _LOOKED_AT) -> Bytes:
    """Scale an image (C, H, W) down, where its longer side has more pixels than that.

    Examples
    --------
    >>> at_most(np.zeros((3, 40, 80), dtype=np.uint8), 20).shape
    (3, 10, 20)
    """
    from PIL import Image

    _, height, width = pixels.shape
    if max(height, width) <= side:
        return pixels
    by = side / max(height, width)
    size = (max(1, round(width * by)), max(1, round(height * by)))
    scaled = as_picture(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    found = np.asarray(scaled)
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


def middle_square(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
    """Scale the middle square of an image, by averaging where that makes it smaller."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def scale_array(pixels: NDArray[Any], size: int | None) -> NDArray[Any]:
    """Scale the middle square of pixels (h, w) or (h, w, 3); None leaves them as they are."""
    if size is None:
        return pixels
    from PIL import Image

    return np.asarray(middle_square(Image.fromarray(pixels), size))


def square_in(width: int, height: int) -> tuple[float, float, float, float]:
    """Corners of the middle square of an image, as shares of its width and height.

    Examples
    --------
    >>> square_in(200, 100)
    (0.25, 0.0, 0.75, 1.0)
    """
    side = min(width, height)
    x, y = (1 - side / width) / 2, (1 - side / height) / 2
    return x, y, 1 - x, 1 - y


def window_of_files(
    window: Any, paths: Sequence[ImageFile], size: int | None = None
) -> tuple[float, float] | None:
    """Return the window that a user gave, or, of "auto", one for files of many grey levels.

    Parameters
    ----------
    window : "auto" or (float, float)
        Darkest and brightest value.
    paths : sequence of Path or BytesIO
        Files of grey images of more than 8 bits.
    size : int, optional
        As of `decode`.

    Returns
    -------
    (float, float) or None
        None of "auto" where there are no such files.
    """

    def read(row: int) -> NDArray[np.float32] | None:
        try:
            return decode_deep(paths[row], size)
        except MemoryError:
            raise
        except Exception:  # Pillow raises whatever its decoders do
            return None

    if window != "auto":
        return check_window(window)
    return find_window(read, np.arange(len(paths))) if paths else None


def refuse_several_sizes(sizes: set[tuple[int, ...]]) -> None:
    """Refuse images of several sizes (width, height)."""
    if len(sizes) > 1:
        listed = ", ".join(f"{w} x {h}" for w, h in sorted(sizes)[:_LISTED])
        more = ", ..." if len(sizes) > _LISTED else ""
        raise DataError(
            f"the images have {len(sizes)} different sizes (width x height): {listed}{more}; "
            "expected one. Pass size=64, say, to scale the middle square of each to 64 x 64."
        )


def _is_transparent(image: PIL.Image.Image) -> bool:
    if image.mode in ("LA", "PA", "RGBA"):
        lowest, _ = image.getchannel("A").getextrema()
        return bool(lowest < 255)  # type: ignore[operator]
    return "transparency" in image.info
