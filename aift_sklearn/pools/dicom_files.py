"""DICOM files: which files are such, and their pixels, frame by frame."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from .._warnings import silence_loggers, silent_thread
from ..errors import MissingDependencyError
from ..progress import ProgressBar
from .dicom_headers import (
    READ,
    DicomHeader,
    LeftOut,
    Unreadable,
    advise,
    read_header,
    settings_of,
    stored_bits,
)
from .folder_contents import files_below
from .reading import Broken, in_threads

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

__all__ = ["DicomFile", "Look", "is_dicom", "look_below", "require_pydicom", "why_unopened"]

Array = NDArray[Any]

Look = DicomHeader | Broken | LeftOut
"""What a file turns out to be."""

_PIXELS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
# File names that say that a file is DICOM, in lower case.
_SUFFIXES = (".dcm", ".dicom", ".ima")
# No tissue and no gas has fewer Hounsfield units: scanners fill what they do not see with less.
_LOWEST_OF_CT = -1024


def require_pydicom() -> None:
    """Import pydicom, and let it log nothing of files that are read here.

    Raises
    ------
    MissingDependencyError
        If there is none, or an old one.
    """
    try:
        import pydicom.pixels
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "pydicom"
        raise MissingDependencyError(
            "pydicom",
            extra="pools",
            purpose="DicomFolder",
            reason=None if missing else "release 3 or newer is needed",
        ) from error
    silence_loggers(pydicom.__name__)


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM by the mark that follows its preamble.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    # Whoever opens a pipe waits for its other end.
    if path.exists() and not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _look_at(path: Path) -> Look:
    try:
        if not is_dicom(path):
            if path.suffix.lower() in _SUFFIXES:
                return Broken("no DICOM file, in spite of its name")
            return LeftOut("files that are not DICOM")
        with silent_thread(), DicomFile(path) as file:
            return file.describe()
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises what the values of a header bring about
        return Broken(why_unopened(error))


def look_below(folder: Path, *, verbose: bool = False) -> dict[Path, Look]:
    """Look at all files in a folder and below, in order, and at folders that cannot be listed.

    Parameters
    ----------
    folder : Path
        The folder.
    verbose : bool, default=False
        Whether a progress bar is shown.
    """
    looks: dict[Path, Look] = {}

    def note(error: OSError) -> None:
        looks[Path(error.filename)] = Broken(f"a folder: {why_unopened(error)}")

    files = sorted(files_below(folder, note))
    with ProgressBar("looking at files", len(files), enabled=verbose) as bar:
        for file, look in zip(files, in_threads(_look_at, files), strict=True):
            looks[file] = look
            bar.advance()
    return looks


def why_unopened(error: Exception) -> str:
    """Say in a few words, which name nobody, why a file cannot be opened or its header not read."""
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, OSError) and error.errno:
        # The error's own text may end in the file's name.
        return os.strerror(error.errno)
    return f"its header cannot be read ({type(error).__name__})"


class DicomFile:
    """An open DICOM file, whose frames are read one by one.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    header : Dataset
        What is read of its header.
    """

    header: Dataset

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def describe(self) -> DicomHeader | LeftOut:
        """Say what its header tells; see `read_header`."""
        return read_header(self.header, has_pixels=bool(self._keyword))

    @property
    def inverted(self) -> bool:
        """Whether low values are bright."""
        return bool(self.header.PhotometricInterpretation == "MONOCHROME1")

    def values(self, frame: int) -> tuple[NDArray[np.float32], Array]:
        """Read the values (H, W) of a grey frame in the modality's units, and which are padding."""
        from pydicom.pixels.processing import apply_modality_lut

        stored = self._decode(frame)
        padding = np.zeros(stored.shape, dtype=bool)
        edge = self.header.get("PixelPaddingValue")
        if isinstance(edge, (int, float)):
            other = self.header.get("PixelPaddingRangeLimit")
            other = other if isinstance(other, (int, float)) else edge
            padding = (stored >= min(edge, other)) & (stored <= max(edge, other))
        values = apply_modality_lut(stored, settings_of(self.header, frame))
        if self.header.get("Modality") == "CT":
            padding |= values < _LOWEST_OF_CT
        return np.asarray(values, dtype=np.float32), padding

    def colours(self, frame: int) -> NDArray[np.uint8]:
        """Read the colours (H, W, 3) of a frame, of more than 8 bits the upper 8."""
        from pydicom.pixels.processing import apply_color_lut

        pixels, bits = self._decode(frame), stored_bits(self.header)
        if self.header.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, self.header)[..., :3]
            # Entries of 8 bits may lie in words of 16.
            bits = int(self.header.RedPaletteColorLookupTableDescriptor[2])
        return np.asarray(pixels >> max(0, bits - 8), dtype=np.uint8)

    def why_unreadable(self, error: Exception) -> str:
        """Say in a few words, which name nobody, why a frame cannot be decoded."""
        if isinstance(error, Unreadable):
            return str(error)
        syntax = self._syntax
        if syntax is not None and syntax.is_encapsulated:
            return (
                f"damaged, or of a kind of {syntax.name} that no decoder here reads "
                f"({type(error).__name__}; {advise(syntax)})"
            )
        if self._is_truncated():
            return "truncated: the file ends before its pixels do"
        return f"its pixels cannot be decoded ({type(error).__name__})"

    def _read_header(self) -> None:
        from pydicom import dcmread
        from pydicom.uid import DeflatedExplicitVRLittleEndian

        self.header = dcmread(self._file, stop_before_pixels=True, specific_tags=list(READ))
        self._syntax: UID | None = self.header.file_meta.get("TransferSyntaxUID")
        self._source: Any = self._file
        self._keyword, self._start, self._vr = "", 0, None
        if self._syntax == DeflatedExplicitVRLittleEndian:
            # Its pixels are nowhere in the file before all of it is inflated.
            self._file.seek(0)
            self._source = self.header = dcmread(self._file)
            self._keyword = next((name for name in _PIXELS.values() if name in self.header), "")
            return
        implicit, little = self.header.original_encoding
        start = self._file.read(8)
        order: Any = "little" if little else "big"
        group, element = (int.from_bytes(start[k : k + 2], order) for k in (0, 2))
        self._keyword = _PIXELS.get(group << 16 | element, "")
        self._vr = None if implicit else start[4:6].decode("latin-1")
        self._start = self._file.tell() + (0 if implicit else 4)

    def _decode(self, frame: int) -> Array:
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.pixels.utils import as_pixel_options

        options: dict[str, Any] = as_pixel_options(self.header)
        if self._source is self._file:
            self._file.seek(self._start)
            options["pixel_keyword"] = self._keyword
            if self._vr is not None:
                options["pixel_vr"] = self._vr
        pixels, _ = get_decoder(str(self._syntax)).as_array(self._source, index=frame, **options)
        return pixels

    def _is_truncated(self) -> bool:
        header = self.header
        n = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel)
        n *= int(header.get("NumberOfFrames") or 1) * int(header.BitsAllocated)
        if header.PhotometricInterpretation == "YBR_FULL_422":
            n = n * 2 // 3
        return os.fstat(self._file.fileno()).st_size < self._start + n // 8
