"""What pools of encoded images share, wherever their bytes lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._checks import check_option
from .base import Pool
from .decoding import at_most, decode_windowed, refuse_several_sizes, square_in
from .image_headers import ImageFile, ImageHeader, describe_left_out, read_header, why_unreadable
from .reading import Broken, Surroundings

__all__ = ["DecodedImages", "try_header"]

Array = NDArray[Any]


class DecodedImages(Pool):
    """Images that are decoded when they are asked for, uint8 (n, C, H, W).

    Parameters
    ----------
    headers : sequence of ImageHeader, length n
        Headers of the images.
    ids : sequence of str, length n
        What each is called.
    groups : sequence of str, length n, optional
        Patient or slide of each.
    size, grey, strict
        As of `ImageList`.
    broken : mapping of str to str
        What was found to be broken already.
    source : str
        Where they lie.

    Attributes
    ----------
    deep_rows : ndarray of int
        Grey images of more than 8 bits, which need a window.
    original_sizes : list of (int, int)
        Width and height of each image before it is scaled.
    window : tuple of float, or None
        The window that is used; None where no image needs one.

    Raises
    ------
    DataError
        If they differ in size and ``size`` is not given.
    """

    window: tuple[float, float] | None = None

    def __init__(
        self,
        headers: Sequence[ImageHeader],
        ids: Sequence[str],
        groups: Sequence[str] | None,
        *,
        size: int | None,
        grey: Literal["auto"] | bool,
        strict: bool,
        broken: Mapping[str, str],
        source: str,
    ) -> None:
        if size is None:
            refuse_several_sizes({header.size for header in headers})
        check_option("grey", grey, ("auto", True, False))
        self.size = size
        self.original_sizes = [header.size for header in headers]
        self.grey = all(header.grey for header in headers) if grey == "auto" else bool(grey)
        self._deep = np.array([bool(header.depth) and header.grey for header in headers])
        self.deep_rows = np.flatnonzero(self._deep)
        width, height = (size, size) if size is not None else headers[0].size
        super().__init__(
            (len(headers), 1 if self.grey else 3, height, width),
            np.uint8,
            ids,
            groups,
            strict=strict,
            broken=broken,
            source=source,
        )
        self.notes += describe_left_out(self.ids.tolist(), headers)

    def reading(self) -> dict[str, Any]:
        """Size, channels and window, which else follow from what there is."""
        found: dict[str, Any] = {"size": self.size, "grey": self.grey}
        return found if self.window is None else {**found, "window": self.window}

    def _decode_whole(self, row: int, file: ImageFile) -> Surroundings | None:
        """All of an image of which the candidate is the middle square, scaled."""
        width, height = self.original_sizes[row]
        if (width, height) == self.shape[:1:-1]:
            return None
        window = self.window if self._deep[row] else None
        pixels = decode_windowed(file, grey=self.grey, window=window)
        return Surroundings(at_most(pixels), square_in(width, height))

    def _decode(self, row: int, file: ImageFile) -> Array | Broken:
        try:
            window = self.window if self._deep[row] else None
            pixels = decode_windowed(file, grey=self.grey, window=window, size=self.size)
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises whatever its decoders do
            return Broken(why_unreadable(file, error))
        if pixels.shape != self.shape[1:]:
            height, width = pixels.shape[1:]
            return Broken(f"{width} x {height} pixels, unlike the others; pass size= to scale all")
        return pixels


def try_header(file: ImageFile) -> ImageHeader | Broken:
    """Read the header of an image that can be decoded, or tell why it cannot be."""
    try:
        header = read_header(file)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises what its decoders do
        return Broken(why_unreadable(file, error))
    return Broken(header.depth) if header.depth == "signed values" else header
