"""DICOM folders: what is no image, what is broken, and nobody named."""

import hashlib
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scans import SALT, copy, pydicom, ramp, sample, write

from aift_sklearn.errors import DataError, MissingDependencyError, ParameterError
from aift_sklearn.pools import DicomFolder, ImageFolder, open_pool

dicom_pixels = pytest.importorskip("pydicom.pixels")

# --- files that are no images, or broken ----------------------------------------------------------


def test_what_is_no_image_is_left_out_and_counted(tmp_path):
    copy(tmp_path, "CT_small.dcm", "dicomdirtests/DICOMDIR", "rtplan.dcm", "test-SR.dcm")
    (tmp_path / "notes.txt").write_text("hello")
    shutil.copy(tmp_path / "CT_small.dcm", tmp_path / ".hidden.dcm")
    pool = DicomFolder(tmp_path, salt=SALT)
    assert len(pool) == 1
    assert pool.broken == {}
    assert pool.notes == [
        "left out: DICOM objects without pixels (2), DICOM directories (1), "
        "files that are not DICOM (1)"
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(copy(tmp_path, "CT_small.dcm") / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    pool = open_pool(tmp_path, salt=SALT)
    assert pool.notes[0] == "left out: files that are not DICOM (1)"
    assert list(pool.broken.values()) == ["No such file or directory"]


def test_names_do_not_matter(tmp_path):
    shutil.copy(sample("CT_small.dcm"), tmp_path / "IM0001")
    shutil.copy(sample("MR_small.dcm"), tmp_path / "mr.txt")
    assert len(DicomFolder(tmp_path, 16, salt=SALT)) == 2


def test_a_truncated_file_is_broken_when_it_is_read(tmp_path):
    copy(tmp_path, "MR_truncated.dcm")
    pool = DicomFolder(tmp_path, salt=SALT)
    assert pool[0].max() == 0
    assert pool.broken == {pool.ids[0]: "truncated: the file ends before its pixels do"}
    assert len(pool.sound()) == 0
    assert pool.file_of(pool.ids[0]) == tmp_path / "MR_truncated.dcm"
    strict = DicomFolder(tmp_path, salt=SALT, strict=True)
    with pytest.raises(DataError, match=rf"^{pool.ids[0]} cannot be read: truncated"):
        strict[0]


def test_frames_before_the_end_of_a_truncated_file_are_read(tmp_path):
    path = copy(tmp_path, "rtdose.dcm") / "rtdose.dcm"
    path.write_bytes(path.read_bytes()[:-500])
    pool = DicomFolder(tmp_path, salt=SALT)
    pixels = pool[:]
    assert list(pool.broken) == pool.ids[-2:].tolist()
    assert (np.ptp(pixels[:-2], axis=(1, 2, 3)) > 0).all()


BROKEN = {
    "JPEGLSNearLossless_08.dcm": r"JPEG-LS Lossy .*no decoder here reads; pip install pyjpegls",
    "SC_rgb_jpeg_gdcm.dcm": r"JPEG Lossless.*; pip install pylibjpeg pylibjpeg-libjpeg",
    "badVR.dcm": r"its header cannot be read \(ValueError\)",
    "no_meta.dcm": "no DICOM file, in spite of its name",
    "meta_missing_tsyntax.dcm": "its header lacks Rows",
}


@pytest.mark.parametrize(("name", "reason"), BROKEN.items())
def test_what_is_broken_is_told_when_the_pool_is_opened(tmp_path, name, reason):
    copy(tmp_path, "CT_small.dcm", name)
    if "decoder" in reason or "pip" in reason:
        syntax = pydicom.dcmread(tmp_path / name).file_meta.TransferSyntaxUID
        if dicom_pixels.get_decoder(syntax).is_available:
            pytest.skip("a decoder for it is installed")
    pool = DicomFolder(tmp_path, salt=SALT)
    ((called, why),) = pool.broken.items()
    assert len(pool) == 1
    assert pool.file_of(called) == tmp_path / name
    assert any(note.startswith(f"cannot be read: 1 × {why}") for note in pool.notes)
    with pytest.raises(DataError, match=f"^{called} cannot be read: {reason}"):
        DicomFolder(tmp_path, salt=SALT, strict=True)
    (tmp_path / "CT_small.dcm").unlink()
    with pytest.raises(DataError, match=f"no DICOM image in the folder can be read: 1 × {reason}"):
        DicomFolder(tmp_path, salt=SALT)


def test_what_decoders_refuse_is_broken_when_it_is_read(tmp_path):
    pool = DicomFolder(copy(tmp_path, "GDCMJ2K_TextGBR.dcm", "SC_rgb_jpeg.dcm"), 16, salt=SALT)
    assert pool[:].max() == 0
    assert all(
        reason.startswith("damaged, or of a kind of JPEG") for reason in pool.broken.values()
    )
    assert len(pool.broken) == 2


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PhotometricInterpretation": "HSV"}, "1 samples per pixel of an unknown meaning"),
        ({"Rows": 0}, "its header lacks Rows"),
        ({"NumberOfFrames": -2}, "fewer frames than one"),
        ({"PixelData": None}, "its header describes an image, and no pixels follow"),
    ],
)
def test_headers_of_no_image_that_can_be_read(tmp_path, tags, reason):
    header = pydicom.dcmread(write(tmp_path / "a.dcm", ramp()))
    for name, value in tags.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    header.save_as(tmp_path / "a.dcm")
    with pytest.raises(DataError, match=reason):
        DicomFolder(tmp_path, salt=SALT)


def test_a_header_without_a_transfer_syntax(tmp_path):
    header = pydicom.dcmread(write(tmp_path / "a.dcm", ramp()))
    del header.file_meta.TransferSyntaxUID
    header.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(DataError, match="its header names no transfer syntax"):
        DicomFolder(tmp_path, salt=SALT)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.100", "1.2.3.4"])
def test_transfer_syntaxes_that_nothing_decodes(tmp_path, uid):
    header = pydicom.dcmread(write(tmp_path / "a.dcm", ramp()))
    header.file_meta.TransferSyntaxUID = uid
    header["PixelData"].is_undefined_length = True
    header.PixelData = pydicom.encaps.encapsulate([header.PixelData])
    header.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(DataError, match=r"convert it to an uncompressed one first|does not know"):
        DicomFolder(tmp_path, salt=SALT)


def test_no_image_at_all_is_told(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        DicomFolder(tmp_path / "nothing", salt=SALT)
    with pytest.raises(DataError, match=r"^there are no DICOM images in the folder\.$"):
        DicomFolder(tmp_path, salt=SALT)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"It holds files that are not DICOM \(1\)\."):
        DicomFolder(tmp_path)
    assert not (tmp_path / ".aift-salt").exists()


def test_a_file_that_is_gone_is_broken(tmp_path):
    pool = DicomFolder(copy(tmp_path, "CT_small.dcm"), salt=SALT)
    (tmp_path / "CT_small.dcm").unlink()
    assert pool[0].max() == 0
    assert pool.broken == {pool.ids[0]: "No such file or directory"}


def test_a_file_that_changed_is_broken(tmp_path):
    pool = DicomFolder(copy(tmp_path, "CT_small.dcm"), salt=SALT)
    shutil.copy(sample("MR_small.dcm"), tmp_path / "CT_small.dcm")
    assert pool[0].max() == 0
    assert list(pool.broken.values()) == ["pixels of another size than its header said"]


def test_copies_are_left_out_and_named(tmp_path):
    for name in ("a", "b", "c"):
        copy(tmp_path / name, "CT_small.dcm")
    pool = DicomFolder(tmp_path, salt=SALT)
    assert len(pool) == 1
    assert pool.path_of(pool.ids[0]) == tmp_path / "a" / "CT_small.dcm"
    (note,) = pool.notes
    assert note.startswith("left out: files with the SOP Instance UID of another (2): file-")
    assert pool.file_of(note[-21:]) == tmp_path / "c" / "CT_small.dcm"


def test_images_without_a_number_are_called_by_their_place(tmp_path):
    for name in ("a", "b"):
        header = pydicom.dcmread(write(tmp_path / name, ramp()))
        del header.SOPInstanceUID
        header.save_as(tmp_path / name)
    pool = DicomFolder(tmp_path, salt=SALT)
    assert len(set(pool.ids.tolist())) == 2
    assert any("2 images have no SOP Instance UID" in note for note in pool.notes)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are another matter")
def test_folders_that_cannot_be_listed_are_told(tmp_path, monkeypatch):
    copy(tmp_path, "CT_small.dcm")
    (tmp_path / "muster").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "muster":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    pool = DicomFolder(tmp_path, salt=SALT)
    assert list(pool.broken.values()) == ["a folder: Permission denied"]
    assert pool.file_of(next(iter(pool.broken))) == tmp_path / "muster"


# --- nobody is named ------------------------------------------------------------------------------

SECRETS = ("muster", "erika", "4711", "0815", "1.2.826", "geheim")


@pytest.fixture
def patient(tmp_path):
    """Files of a patient, sound and odd ones, all of whose names and numbers are secret."""
    folder = tmp_path / "muster_erika"
    who = {
        "PatientName": "Muster^Erika",
        "PatientID": "4711-0815",
        "StudyInstanceUID": "1.2.826.1",
        "SeriesInstanceUID": "1.2.826.2",
        "AccessionNumber": "geheim",
        "InstitutionName": "geheim",
    }
    for k in range(3):
        write(folder / f"muster_erika_{k}.dcm", ramp(), SOPInstanceUID=f"1.2.826.3.{k}", **who)
    write(folder / "muster_erika_burned", ramp(np.uint8, 255), BurnedInAnnotation="YES", **who)
    whole = (folder / "muster_erika_0.dcm").read_bytes()
    (folder / "muster_cut.dcm").write_bytes(whole.replace(b"1.2.826.3.0", b"1.2.826.3.8")[:-100])
    (folder / "muster_erika_header.dcm").write_bytes(whole[:300])
    (folder / "muster_text.dcm").write_text("Muster^Erika 4711-0815")
    (folder / "muster_erika.4711").write_text("Muster^Erika")
    (folder / "muster_copy.dcm").write_bytes(whole)
    for name, tag in (
        ("frames", "NumberOfFrames"),
        ("slope", "RescaleSlope"),
        ("w", "WindowCenter"),
    ):
        path = write(folder / f"muster_{name}.dcm", ramp(), **who, **{tag: 12345678},
                     RescaleIntercept=0, WindowWidth=5)  # fmt: skip
        path.write_bytes(path.read_bytes().replace(b"12345678", b"Erika^Mu"))
    path = write(folder / "muster_table.dcm", ramp(np.uint8, 9), colours="PALETTE COLOR", **who)
    jpeg = pydicom.dcmread(path)
    jpeg.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    jpeg.SOPInstanceUID = "1.2.826.9"
    jpeg["PixelData"].is_undefined_length = True
    jpeg.PixelData = pydicom.encaps.encapsulate([b"Muster^Erika 4711"])
    jpeg.save_as(folder / "muster_jpeg.dcm")
    copy(folder, "dicomdirtests/DICOMDIR", "J2K_pixelrep_mismatch.dcm")
    return folder


def test_nobody_is_named(patient, capfd, caplog, monkeypatch):
    monkeypatch.setattr(pydicom.config, "debugging", True)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "pydicom")
    heard = []
    for window in ("auto", "file"):
        pool = open_pool(f"dicom:{patient}", 16, window=window, verbose=1)
        pool[:]
        heard += [repr(pool), repr(pool.sound()), repr(pool[np.ones(len(pool), bool)])]
        heard += [*pool.ids, *pool.groups, *pool.notes, *pool.windows, pool.source]
        heard += [text for item in pool.broken.items() for text in item]
    assert len(pool) >= 6
    assert len(pool.broken) >= 6
    calls = [
        lambda: DicomFolder(patient, 16, strict=True),
        lambda: DicomFolder(patient),
        lambda: DicomFolder(patient, 16, frames=99),
        lambda: open_pool(f"dicom:{patient}", 16, colour="red"),
        lambda: pool.rows_of(["nobody"]),
        lambda: pool.file_of("nobody"),
    ]
    for file in sorted(patient.glob("*")):
        alone = patient.parent / "muster_alone" / file.name
        alone.mkdir(parents=True)
        shutil.copy(file, alone)
        calls.append(lambda alone=alone: DicomFolder(alone, 16, strict=True, window="file")[:])
    for call in calls:
        try:
            call()
        except ValueError as error:
            heard += [str(error), str(error.__cause__), str(error.__context__)]
    heard += [*capfd.readouterr(), *(record.getMessage() for record in caplog.records)]
    assert len(heard) > 60
    for text in heard:
        found = [secret for secret in SECRETS if secret in str(text).lower()]
        assert not found, text


def test_a_pool_that_is_passed_on_explains_no_name(patient):
    pool = DicomFolder(patient, 16, salt=SALT)
    passed = pickle.dumps(pool)
    assert pickle.loads(passed).ids.tolist() == pool.ids.tolist()
    for secret in (
        SALT.encode(),
        hashlib.blake2b(SALT.encode()).digest(),
        b"4711-0815",
        b"Muster^",
    ):
        assert secret not in passed


def test_pydicom_is_heard_elsewhere(patient, caplog):
    DicomFolder(patient, 16, salt=SALT)
    with pytest.warns(UserWarning, match="exceeds the maximum length"):
        pydicom.dcmread(patient / "muster_erika_0.dcm").AccessionNumber = "x" * 40
    logging.getLogger("pydicom").warning("heard")
    assert "heard" in caplog.text


def test_odd_values_are_read_without_a_warning(tmp_path):
    path = write(tmp_path / "a.dcm", ramp(), PatientID="1" * 60)
    path.write_bytes(path.read_bytes().replace(b"1" * 60, b"1" * 30 + b"\xff" * 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool = DicomFolder(tmp_path, salt=SALT)
        assert pool[0].max() == 255


def test_pixels_that_may_name_somebody_are_counted(patient):
    pool = DicomFolder(patient, 16, salt=SALT)
    assert any(note.startswith("1 image has annotations in the pixels") for note in pool.notes)


# --- ids and groups -------------------------------------------------------------------------------


def test_the_same_salt_makes_the_same_ids_wherever_files_lie(tmp_path):
    names = ["CT_small.dcm", "MR_small.dcm", "rtdose.dcm"]
    here = DicomFolder(copy(tmp_path / "a", *names), 16, salt=SALT)
    there = DicomFolder(copy(tmp_path / "b" / "c", *reversed(names)).parent, 16, salt=SALT.encode())
    other = DicomFolder(tmp_path / "a", 16, salt="another salt")
    assert here.ids.tolist() == there.ids.tolist()
    assert here.groups.tolist() == there.groups.tolist()
    assert not set(here.ids) & set(other.ids)
    assert not set(here.groups) & set(other.groups)
    assert all(re.fullmatch(r"dcm-[0-9a-f]{16}(/\d+)?", name) for name in here.ids)
    assert all(re.fullmatch(r"[0-9a-f]{16}", name) for name in here.groups)
    assert not set(here.ids) & set(here.groups)


def test_a_salt_is_made_once_and_kept(tmp_path):
    pool = DicomFolder(copy(tmp_path, "CT_small.dcm"))
    kept = tmp_path / ".aift-salt"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert DicomFolder(tmp_path).ids.tolist() == pool.ids.tolist()
    assert DicomFolder(tmp_path, salt=kept.read_text().strip()).ids.tolist() == pool.ids.tolist()
    kept.unlink()
    assert DicomFolder(tmp_path).ids.tolist() != pool.ids.tolist()


@pytest.mark.parametrize("salt", ["", b"", 5])
def test_what_is_no_salt_is_refused(tmp_path, salt):
    with pytest.raises(ParameterError, match="salt of type"):
        DicomFolder(copy(tmp_path, "CT_small.dcm"), salt=salt)


def test_groups_are_patients_studies_or_series(tmp_path):
    of = [
        *[("p", "1.1", "1.1.1"), ("p", "1.1", "1.1.2"), ("p", "1.2", "1.2.1")],
        *[("q", "1.3", "1.3.1"), ("", "1.4", "1.4.1"), ("", "1.4", "1.4.2")],
        *[("", "", "1.5.1"), ("", "", "")],
    ]
    for k, (patient, study, series) in enumerate(of):
        write(tmp_path / f"{k}.dcm", ramp(), PatientID=patient, StudyInstanceUID=study,
              SeriesInstanceUID=series)  # fmt: skip

    def partition(groups):
        names = DicomFolder(tmp_path, salt=SALT, groups=groups).groups.tolist()
        return [names.index(name) for name in names]

    assert partition("patient") == [0, 0, 0, 3, 4, 4, 6, 7]
    assert partition("study") == [0, 0, 2, 3, 4, 4, 6, 7]
    assert partition("series") == [0, 1, 2, 3, 4, 5, 6, 7]
    assert DicomFolder(tmp_path, salt=SALT, groups=None).groups is None
    with pytest.raises(ParameterError, match="groups='folder'; expected one of 'patient'"):
        DicomFolder(tmp_path, groups="folder")


# --- in the package -------------------------------------------------------------------------------


def test_pools_are_opened_by_what_lies_in_a_folder(tmp_path):
    copy(tmp_path / "scans" / "deep", "CT_small.dcm")
    assert isinstance(open_pool(tmp_path / "scans", 16), DicomFolder)
    (tmp_path / "both").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "both" / "a.png")
    assert not any("DICOM" in note for note in open_pool(tmp_path / "both").notes)
    shutil.copy(tmp_path / "scans" / "deep" / "CT_small.dcm", tmp_path / "both" / "b")
    images = open_pool(tmp_path / "both")
    assert isinstance(images, ImageFolder)
    assert any('open_pool("dicom:FOLDER")' in note for note in images.notes)
    scans = open_pool(f"dicom:{tmp_path / 'both'}", groups="study")
    assert isinstance(scans, DicomFolder)
    assert len(scans) == 1
    with pytest.raises(ParameterError, match="option colour does not apply to 'a folder of DICOM"):
        open_pool(tmp_path / "scans", colour="red")


def test_a_pool_of_images_names_the_way_to_read_dicom(tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    shutil.copy(sample("CT_small.dcm"), tmp_path / "b.png")
    assert 'open_pool("dicom:FOLDER")' in open_pool(tmp_path).broken["b.png"]


def test_many_threads_read_the_same(tmp_path):
    copy(tmp_path, "examples_ybr_color.dcm")
    pool = DicomFolder(tmp_path, 32, salt=SALT)
    expected, got = pool[:], {}
    before = list(warnings.filters)

    def read(k):
        got[k] = pool[:]

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((got[k] == expected).all() for k in range(4))
    assert list(warnings.filters) == before


def test_pydicom_is_imported_when_it_is_needed():
    code = "import sys, aift_sklearn.pools\nprint('pydicom' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    with pytest.raises(MissingDependencyError, match=r"does not load \(release 3 or newer"):
        DicomFolder(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingDependencyError, match=r'DicomFolder needs pydicom.*"\.\[pools\]"'):
        DicomFolder(tmp_path)
