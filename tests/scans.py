"""DICOM files for tests: pydicom's own, and some that are written."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from aift_sklearn.pools import DicomFolder

pydicom = pytest.importorskip("pydicom", minversion="3")
uid = pytest.importorskip("pydicom.uid")
data = pytest.importorskip("pydicom.data")

SALT = "only of these tests"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def sample(name):
    """Path of one of pydicom's own files; none is downloaded."""
    return data.get_testdata_file(name, download=False)


def copy(folder, *names):
    """Copy pydicom's own files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(sample(name), folder / Path(name).name)
    return folder


def write(path, pixels, *, colours="MONOCHROME2", bits=None, many=False, **tags):
    """Write pixels (H, W), (H, W, 3) or, of many frames, (n, H, W) as a DICOM file."""
    pixels = np.asarray(pixels)
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = CT_STORAGE
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    header.SamplesPerPixel = 1 if colours.startswith(("M", "P")) else 3
    if header.SamplesPerPixel == 3:
        header.PlanarConfiguration = 0
    header.Rows, header.Columns = pixels.shape[1:3] if many else pixels.shape[:2]
    header.PhotometricInterpretation = colours
    header.BitsAllocated = 8 * pixels.itemsize
    header.BitsStored = bits or header.BitsAllocated
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.Modality = "MR"
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for name, value in tags.items():
        setattr(header, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def ramp(dtype=np.uint16, top=4000, shape=(16, 16)):
    return np.linspace(0, top, shape[0] * shape[1]).reshape(shape).astype(dtype)


def windowed(values, low, high):
    """By a loop that shares nothing with the code."""
    out = [min(255, max(0, round((float(v) - low) / (high - low) * 255))) for v in values.flat]
    return np.array(out).reshape(values.shape)


def only(folder, size=None, **options):
    """The one candidate of a folder, and its pool."""
    pool = DicomFolder(folder, size, salt=SALT, **options)
    assert len(pool) == 1
    pixels = pool[0]
    assert pool.broken == {}
    return pixels, pool
