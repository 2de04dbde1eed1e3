"""What the headers of DICOM files tell.

What pydicom says of a file may hold names, numbers and paths. Nothing of that is told: reasons are
texts that stand in the code, and of errors their types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

__all__ = [
    "READ",
    "DicomHeader",
    "LeftOut",
    "Unreadable",
    "advise",
    "count_reasons",
    "describe_images",
    "read_header",
    "settings_of",
    "stored_bits",
]

_IDENTIFIERS = ("SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
_OF_PIXELS = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated")
_SETTINGS = (
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "VOILUTSequence",
)  # fmt: skip
_PALETTE = tuple(
    f"{kind}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
READ = (
    *_IDENTIFIERS, *_OF_PIXELS, *_SETTINGS, *_PALETTE, *_GROUPS,
    "Modality", "BurnedInAnnotation", "NumberOfFrames", "BitsStored", "PixelRepresentation",
    "PlanarConfiguration", "PixelPresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip
"""What is read of a header; the rest, private data among it, is skipped."""

# Modules of functional groups that hold settings of a frame.
_OF_FRAMES = ("PixelValueTransformationSequence", "FrameVOILUTSequence")

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = {
    1: (*_GREY, "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}
_DIRECTORY = "1.2.840.10008.1.3.10"


class LeftOut(NamedTuple):
    """A file that is no image, and no broken one either."""

    what: str


class Unreadable(DataError):
    """Pixels that cannot be read, for a reason that names nobody."""


@dataclass(frozen=True)
class DicomHeader:
    """What the header of a DICOM image tells.

    Attributes
    ----------
    instance, patient, study, series : str
        Its identifiers; empty where it has none.
    size : tuple of (int, int)
        Width and height in pixels.
    n_frames : int
        Frames.
    grey : bool
        Whether there is one channel without a palette.
    bits : int
        Of a value as it is stored.
    kind : str
        What its values mean: images of one kind have one window. Empty of colours.
    stored : tuple of float, or None
        The window of values that are shown as they are: those of 8 bits or fewer.
    burned_in : bool
        Whether it says that annotations are part of the pixels.
    """

    instance: str = field(repr=False)
    patient: str = field(repr=False)
    study: str = field(repr=False)
    series: str = field(repr=False)
    size: tuple[int, int]
    n_frames: int
    grey: bool
    bits: int
    kind: str
    stored: tuple[float, float] | None
    burned_in: bool


def read_header(header: Dataset, *, has_pixels: bool) -> DicomHeader | LeftOut:
    """Say what a header tells, or what the file is instead of an image.

    Parameters
    ----------
    header : Dataset
        The header.
    has_pixels : bool
        Whether pixels follow.

    Raises
    ------
    Unreadable
        If there is an image that cannot be read, as far as its header tells.
    """
    if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
        return LeftOut("DICOM directories")
    if not has_pixels:
        if header.get("Rows"):
            raise Unreadable("its header describes an image, and no pixels follow")
        return LeftOut("DICOM objects without pixels")
    _refuse_image(header)
    _refuse_syntax(header.file_meta.get("TransferSyntaxUID"))
    bits = stored_bits(header)
    grey = header.PhotometricInterpretation in _GREY
    kind = _kind(header, bits) if grey else ""
    low = -(2.0 ** (bits - 1)) if header.get("PixelRepresentation") else 0.0
    named = (str(header.get(name) or "").strip() for name in _IDENTIFIERS)
    instance, patient, study, series = named
    return DicomHeader(
        instance=instance,
        patient=patient,
        study=study,
        series=series,
        size=(int(header.Columns), int(header.Rows)),
        n_frames=int(header.get("NumberOfFrames") or 1),
        grey=grey,
        bits=bits,
        kind=kind,
        stored=(low, low + 2.0**bits - 1) if bits <= 8 and " " in kind else None,
        burned_in=header.get("BurnedInAnnotation") == "YES",
    )


def stored_bits(header: Dataset) -> int:
    """Return the bits of a value as it is stored."""
    return int(header.get("BitsStored") or header.BitsAllocated)


def settings_of(header: Dataset, frame: int) -> Dataset:
    """Return the tables and windows of a frame: its own where it has some, else the file's."""
    from pydicom import Dataset

    found = Dataset()
    found.file_meta = header.file_meta
    for item in _settings_items(header, frame):
        for keyword in _SETTINGS:
            if item.get(keyword) not in (None, ""):
                setattr(found, keyword, item[keyword].value)
    # pydicom rescales where both are there.
    if "RescaleSlope" in found and "RescaleIntercept" not in found:
        found.RescaleIntercept = 0
    return found


def describe_images(headers: Sequence[DicomHeader]) -> list[str]:
    """Say what should be known of images that are read."""
    nameless = sum(not header.instance for header in headers)
    crushed = sum(not header.grey and header.bits > 8 for header in headers)
    burned = sum(header.burned_in for header in headers)
    notes = (
        (nameless, "no SOP Instance UID; ids follow from where the files lie"),
        (crushed, "more than 8 bits of colour, of which the upper 8 are read"),
        (burned, "annotations in the pixels, which may name a patient; look before they are shown"),
    )
    return [f"{n} {'image has' if n == 1 else 'images have'} {what}" for n, what in notes if n]


def count_reasons(reasons: Iterable[str]) -> str:
    """Count reasons, the most frequent first.

    Examples
    --------
    >>> count_reasons(["truncated", "no DICOM file", "truncated"])
    '2 × truncated; 1 × no DICOM file'
    """
    return "; ".join(f"{n} × {reason}" for reason, n in Counter(reasons).most_common())


def _refuse_image(header: Dataset) -> None:
    for keyword in _OF_PIXELS:
        if header.get(keyword) in (None, "", 0):
            raise Unreadable(f"its header lacks {keyword}")
    known = _COLOURS.get(int(header.SamplesPerPixel), ())
    if header.PhotometricInterpretation not in known:
        every = ", ".join(name for names in _COLOURS.values() for name in names)
        raise Unreadable(
            f"{header.SamplesPerPixel:d} samples per pixel of an unknown meaning; known are {every}"
        )
    if int(header.get("NumberOfFrames") or 1) < 1:
        raise Unreadable("fewer frames than one")


def _refuse_syntax(syntax: UID | None) -> None:
    """Refuse a transfer syntax that nothing decodes."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import AllTransferSyntaxes

    if syntax is None:
        raise Unreadable("its header names no transfer syntax")
    if syntax not in AllTransferSyntaxes:
        raise Unreadable("a transfer syntax that pydicom does not know")
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise Unreadable(f"{syntax.name}, which no decoder here reads; {advise(syntax)}")


def advise(syntax: UID) -> str:
    """Say what to do about a transfer syntax that is not read."""
    from pydicom import uid

    for syntaxes, packages in (
        (uid.JPEGLSTransferSyntaxes, "pyjpegls"),
        (uid.JPEG2000TransferSyntaxes, "pylibjpeg pylibjpeg-openjpeg"),
        (uid.JPEGTransferSyntaxes, "pylibjpeg pylibjpeg-libjpeg"),
    ):
        if syntax in syntaxes:
            return f"pip install {packages}"
    return "convert it to an uncompressed one first"


def _kind(header: Dataset, bits: int) -> str:
    """Name what the values mean: "CT", or with how they are stored where they have no unit."""
    modality = str(header.get("Modality") or "")
    modality = modality if modality.isalnum() and modality.isupper() else "OTHER"
    slope, intercept, has_table = 1.0, 0.0, False
    for item in _settings_items(header, 0):
        if item.get("RescaleSlope") not in (None, ""):
            slope, intercept = float(item.RescaleSlope), float(item.get("RescaleIntercept") or 0)
        has_table |= bool(item.get("ModalityLUTSequence"))
    if modality == "CT" or has_table or (slope, intercept) != (1.0, 0.0):
        return modality
    signed = " signed" if bits <= 8 and header.get("PixelRepresentation") else ""
    return f"{modality} {header.PhotometricInterpretation} {bits} bits{signed}"


def _settings_items(header: Dataset, frame: int) -> list[Dataset]:
    """Where settings of a frame may stand; what comes later counts."""
    items = [header]
    for name, place in zip(_GROUPS, (0, frame), strict=True):
        groups = header.get(name) or []
        if place < len(groups):
            modules = [groups[place].get(module) for module in _OF_FRAMES]
            items += [module[0] for module in modules if module]
    return items
