"""DICOM images: pixels as pydicom has them, windows and frames."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scans import SALT, copy, only, pydicom, ramp, windowed, write

from aift_sklearn.errors import DataError, ParameterError
from aift_sklearn.pools import DicomFolder

dicom_pixels = pytest.importorskip("pydicom.pixels")


# --- pixels ---------------------------------------------------------------------------------------


def test_hounsfield_units_are_windowed(tmp_path):
    copy(tmp_path, "CT_small.dcm")
    pixels, pool = only(tmp_path, window=(-160, 240))
    header = pydicom.dcmread(tmp_path / "CT_small.dcm")
    values = dicom_pixels.apply_modality_lut(header.pixel_array, header)
    assert pool.shape == (1, 1, 128, 128)
    assert pool.dtype == pixels.dtype == np.uint8
    assert_allclose(pixels[0], windowed(values, -160, 240), atol=1)
    assert pool.windows == {"CT": (-160.0, 240.0)}


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm",
     "MR_small_jp2klossless.dcm", "MR_small_padded.dcm"],
)  # fmt: skip
@pytest.mark.parametrize("window", ["auto", "file", (100, 1500)])
def test_a_transfer_syntax_changes_no_pixel(tmp_path, name, window):
    expected, pool = only(copy(tmp_path / "a", "MR_small.dcm"), window=window)
    pixels, other = only(copy(tmp_path / "b", name), window=window)
    assert_array_equal(pixels, expected)
    assert other.ids.tolist() == pool.ids.tolist()
    assert expected.std() > 30


@pytest.mark.parametrize(
    "name",
    ["examples_rgb_color.dcm", "examples_jpeg2k.dcm", "SC_rgb_jpeg_dcmd.dcm", "SC_rgb_rle.dcm",
     "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm",
     "SC_rgb_small_odd_big_endian.dcm", "ExplVR_BigEnd.dcm"],
)  # fmt: skip
def test_colours_are_rgb(tmp_path, name):
    pixels, pool = only(copy(tmp_path, name))
    expected = dicom_pixels.pixel_array(tmp_path / name)
    assert_array_equal(pixels, expected.transpose(2, 0, 1))
    assert pool.windows == {}


def test_a_palette_becomes_colours(tmp_path):
    copy(tmp_path, "examples_palette.dcm")
    pixels, _ = only(tmp_path)
    header = pydicom.dcmread(tmp_path / "examples_palette.dcm")
    colours = dicom_pixels.apply_color_lut(header.pixel_array, header)
    assert_array_equal(pixels, (colours >> 8).astype(np.uint8).transpose(2, 0, 1))
    assert pixels.std() > 20


@pytest.mark.parametrize("name", ["SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm"])
def test_colours_of_more_bits_keep_their_upper_8(tmp_path, name):
    pixels, pool = only(copy(tmp_path, name))
    expected, _ = only(copy(tmp_path / "8", "SC_rgb_rle.dcm"))
    assert_array_equal(pixels, expected)
    assert any("upper 8" in note for note in pool.notes)


def test_a_deflated_file_and_one_of_single_bits_are_read(tmp_path):
    pixels, _ = only(copy(tmp_path / "a", "image_dfl.dcm"))
    assert_array_equal(pixels[0], pydicom.dcmread(tmp_path / "a" / "image_dfl.dcm").pixel_array)
    pixels, _ = only(copy(tmp_path / "b", "liver_1frame.dcm"))
    expected = pydicom.dcmread(tmp_path / "b" / "liver_1frame.dcm").pixel_array
    assert_array_equal(pixels[0], 255 * expected)


def test_floating_point_is_read_and_must_be_finite(tmp_path):
    values = np.linspace(-3, 5, 64, dtype=np.float32).reshape(8, 8)
    for name, pixels in (("a", values), ("b", np.where(values > 4, np.inf, values))):
        path = write(tmp_path / name / "x.dcm", np.zeros((8, 8), np.uint32))
        header = pydicom.dcmread(path)
        del header.PixelData
        header.FloatPixelData = pixels.astype(np.float32).tobytes()
        header.save_as(path)
    pixels, _ = only(tmp_path / "a", window=(-3, 5))
    assert_allclose(pixels[0], windowed(values, -3, 5), atol=1)
    pool = DicomFolder(tmp_path / "b", salt=SALT)
    assert pool[0].max() == 0
    assert list(pool.broken.values()) == ["values that are not finite"]


def test_the_middle_square_is_scaled_as_by_its_mean(tmp_path):
    copy(tmp_path, "examples_overlay.dcm")
    header = pydicom.dcmread(tmp_path / "examples_overlay.dcm")
    pixels, pool = only(tmp_path, 30, window=(0, 800))
    square = header.pixel_array[:, 92:392].astype(float).reshape(30, 10, 30, 10).mean(axis=(1, 3))
    assert pool.shape == (1, 1, 30, 30)
    # Pillow's filter takes in pixels beside each square of ten.
    assert np.corrcoef(pixels.ravel(), np.clip(square, 0, 800).ravel())[0, 1] > 0.98
    assert abs(pixels.mean() - windowed(square, 0, 800).mean()) < 3


def test_sizes_that_differ_need_one(tmp_path):
    copy(tmp_path, "CT_small.dcm", "MR_small.dcm")
    with pytest.raises(DataError, match=r"2 different sizes.*64 x 64, 128 x 128; .*Pass size=64"):
        DicomFolder(tmp_path, salt=SALT)
    assert DicomFolder(tmp_path, 32, salt=SALT)[:].shape == (2, 1, 32, 32)


def test_grey_beside_colours_has_three_channels(tmp_path):
    copy(tmp_path, "CT_small.dcm", "examples_rgb_color.dcm")
    pixels = DicomFolder(tmp_path, 32, salt=SALT)[:]
    assert pixels.shape == (2, 3, 32, 32)
    assert_array_equal(pixels[0, 0], pixels[0, 2])
    assert (pixels[1, 0] != pixels[1, 2]).any()


# --- windows --------------------------------------------------------------------------------------


def test_low_is_bright_in_monochrome1(tmp_path):
    write(tmp_path / "a.dcm", ramp())
    write(tmp_path / "b.dcm", ramp(), colours="MONOCHROME1")
    for window in ("auto", "file", (0, 4000)):
        plain, inverted = DicomFolder(tmp_path, salt=SALT, window=window)[:].astype(int)
        assert_array_equal(plain + inverted, 255)
        assert plain[0, -1, -1] == 255


def test_radiographs_of_several_depths_and_directions_are_all_seen(tmp_path):
    for k, (bits, colours) in enumerate([(10, "MONOCHROME2"), (14, "MONOCHROME1")]):
        write(
            tmp_path / f"{k}.dcm", ramp(top=2**bits - 1), bits=bits, colours=colours, Modality="DX"
        )
    pool = DicomFolder(tmp_path, salt=SALT)
    assert sorted(pool.windows) == ["DX MONOCHROME1 14 bits", "DX MONOCHROME2 10 bits"]
    assert (np.ptp(pool[:], axis=(1, 2, 3)) > 250).all()


def test_a_ct_series_has_one_window_however_its_files_are_stored(tmp_path):
    values = np.linspace(-1000, 1000, 256).reshape(16, 16)
    for k, (slope, intercept) in enumerate([(1, -1024), (2, -1024), (1, 0)]):
        stored = np.rint((values * (0.5, 1, 0.1)[k] - intercept) / slope).astype(np.int16)
        write(tmp_path / f"{k}.dcm", stored, Modality="CT", RescaleSlope=slope,
              RescaleIntercept=intercept)  # fmt: skip
    pool = DicomFolder(tmp_path, salt=SALT)
    assert list(pool.windows) == ["CT"]
    low, high = pool.windows["CT"]
    assert low == pytest.approx(-1000, abs=8)
    assert high == pytest.approx(1000, abs=8)
    for pixels, share in zip(pool[:], (0.5, 1, 0.1), strict=True):
        assert_allclose(pixels[0], windowed(values * share, low, high), atol=1)


def test_a_slope_without_an_intercept_counts(tmp_path):
    write(tmp_path / "a.dcm", ramp(), RescaleSlope=2)
    pixels, pool = only(tmp_path, window=(0, 8000))
    assert_allclose(pixels[0], windowed(ramp() * 2.0, 0, 8000), atol=1)
    assert list(pool.windows) == ["MR"]


@pytest.mark.parametrize("tags", [{"PixelPaddingValue": -2000}, {}])
def test_what_a_scanner_did_not_see_does_not_widen_the_window(tmp_path, tags):
    stored = np.linspace(0, 2000, 256).reshape(16, 16).astype(np.int16)
    stored[:4] = -2000
    write(tmp_path / "a.dcm", stored, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, **tags)
    pool = DicomFolder(tmp_path, salt=SALT)
    assert pool.windows["CT"][0] > -1024
    assert (pool[0][0, :4] == 0).all()


def test_a_range_of_padding_does_not_count(tmp_path):
    stored = ramp()
    stored[:4] = 60000 + np.arange(64).reshape(4, 16)
    write(tmp_path / "a.dcm", stored, PixelPaddingValue=65000, PixelPaddingRangeLimit=60000)
    assert DicomFolder(tmp_path, salt=SALT).windows["MR MONOCHROME2 16 bits"][1] <= 4000


def test_eight_bits_are_left_as_they_are(tmp_path):
    pixels = ramp(np.uint8, 100)
    write(tmp_path / "a.dcm", pixels, Modality="US")
    assert_array_equal(only(tmp_path)[0][0], pixels)
    assert_array_equal(only(tmp_path, window="file")[0][0], pixels)
    assert only(tmp_path, window=(0, 50))[0].max() == 255


def test_the_window_is_of_images_spread_over_the_pool(tmp_path):
    for k in range(70):
        write(tmp_path / f"{k:02}.dcm", np.full((4, 4), 100 + k, np.uint16))
    assert DicomFolder(tmp_path, salt=SALT).windows["MR MONOCHROME2 16 bits"] == (100, 169)


FUNCTIONS = [
    {"WindowCenter": 1500, "WindowWidth": 900},
    {"WindowCenter": [1500, 10], "WindowWidth": [900, 20]},
    {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "LINEAR_EXACT"},
    {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
    {"WindowCenter": 1500, "WindowWidth": 1},
]


@pytest.mark.parametrize("tags", FUNCTIONS)
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 2, "RescaleIntercept": -1024}])
def test_a_file_is_shown_as_it_asks(tmp_path, tags, rescale):
    path = write(tmp_path / "a.dcm", ramp(top=4095), bits=12, **tags, **rescale)
    header = pydicom.dcmread(path)
    values = dicom_pixels.apply_modality_lut(header.pixel_array, header)
    if tags["WindowWidth"] == 1:
        expected = 255 * (values > 1499.5)
    else:
        shown = dicom_pixels.apply_voi_lut(values, header)
        ends = np.array([0, 4095]) * rescale.get("RescaleSlope", 1)
        expected = (shown - ends[0] - rescale.get("RescaleIntercept", 0)) / ends[1] * 255
    pixels, _ = only(tmp_path, window="file")
    assert_allclose(pixels[0], expected, atol=1)


@pytest.mark.parametrize("as_words", [True, False])
def test_a_table_of_shades_counts_before_a_window(tmp_path, as_words):
    shades = np.rint(1023 * np.sqrt(np.arange(4096) / 4095)).astype(np.uint16)
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 10]
    table.add_new("LUTData", "OW" if as_words else "US",
                  shades.tobytes() if as_words else shades.tolist())  # fmt: skip
    path = write(tmp_path / "a.dcm", ramp(top=4095), bits=12, VOILUTSequence=[table],
                 WindowCenter=10, WindowWidth=20)  # fmt: skip
    header = pydicom.dcmread(path)
    expected = dicom_pixels.apply_voi_lut(header.pixel_array, header) / 1023 * 255
    assert_allclose(only(tmp_path, window="file")[0][0], expected, atol=1)


def test_a_table_of_many_shades_of_8_bits(tmp_path):
    shades = (np.arange(4096) // 16).astype(np.uint16)
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 8]
    table.add_new("LUTData", "US", shades.tolist())
    write(tmp_path / "a.dcm", ramp(top=4095), bits=12, VOILUTSequence=[table])
    pixels, _ = only(tmp_path, window="file")
    assert_array_equal(pixels[0], ramp(top=4095) // 16)


def test_a_table_of_the_modality_counts(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.ModalityLUTType = "US"
    table.add_new("LUTData", "US", (np.arange(256) ** 2).tolist())
    write(tmp_path / "a.dcm", ramp(np.uint8, 255), ModalityLUTSequence=[table])
    pixels, pool = only(tmp_path, window=(0, 255**2))
    assert_allclose(pixels[0], ramp(np.uint8, 255).astype(float) ** 2 / 255, atol=1)
    assert list(pool.windows) == ["MR"]


@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 5}, {"WindowCenter": 5, "WindowWidth": 0}])
def test_a_file_that_asks_for_nothing_is_shown_as_the_others(tmp_path, tags):
    write(tmp_path / "a.dcm", ramp(), **tags)
    assert_array_equal(only(tmp_path, window="file")[0], only(tmp_path)[0])


def test_frames_may_have_their_own_units_and_windows(tmp_path):
    def module(**values):
        item = pydicom.Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        return [item]

    def group(**modules):
        return module(**modules)[0]

    shared = group(PixelValueTransformationSequence=module(RescaleSlope=1, RescaleIntercept=-1000))
    frames = [
        group(FrameVOILUTSequence=module(WindowCenter=0, WindowWidth=1001)),
        group(
            PixelValueTransformationSequence=module(RescaleSlope=2, RescaleIntercept=-1000),
            FrameVOILUTSequence=module(WindowCenter=500, WindowWidth=2001),
        ),
    ]
    stored = np.stack([ramp(top=2000)] * 2)
    write(tmp_path / "a.dcm", stored, NumberOfFrames=2, many=True, Modality="CT",
          SharedFunctionalGroupsSequence=[shared],
          PerFrameFunctionalGroupsSequence=frames)  # fmt: skip
    first, second = stored[0] - 1000.0, stored[1] * 2 - 1000.0
    pixels = DicomFolder(tmp_path, salt=SALT, window="file")[:]
    assert_allclose(pixels[0, 0], windowed(first, -500.5, 499.5), atol=1)
    assert_allclose(pixels[1, 0], windowed(second, -500.5, 1499.5), atol=1)
    pool = DicomFolder(tmp_path, salt=SALT, window=(-1000, 3000))
    assert_allclose(pool[1][0], windowed(second, -1000, 3000), atol=1)
    assert list(pool.windows) == ["CT"]


@pytest.mark.parametrize("window", ["best", (2, 1), (0, np.inf), 5, None])
def test_other_windows_are_refused(tmp_path, window):
    with pytest.raises(ParameterError, match="window="):
        DicomFolder(tmp_path, window=window)


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["examples_ybr_color.dcm", "rtdose.dcm", "rtdose_rle.dcm"])
def test_every_frame_is_a_candidate(tmp_path, name):
    copy(tmp_path, name)
    pool = DicomFolder(tmp_path, salt=SALT, window=(0, 2**21))
    frames = dicom_pixels.pixel_array(tmp_path / name)
    if frames.ndim == 4:
        expected = frames.transpose(0, 3, 1, 2)
    else:
        expected = windowed(frames, 0, 2**21)[:, None]
    assert_allclose(pool[:], expected, atol=int(frames.ndim == 3))
    assert pool.ids.tolist() == [f"{pool.ids[0][:20]}/{k}" for k in range(len(frames))]
    assert len(set(pool.groups.tolist())) == 1
    rows = [len(frames) - 1, 0, 3]
    assert_array_equal(pool[rows], pool[:][rows])


@pytest.mark.parametrize(("frames", "expected"), [("first", 0), ("middle", 7), (14, 14), (3, 3)])
def test_one_frame_is_chosen(tmp_path, frames, expected):
    copy(tmp_path, "rtdose.dcm")
    every = DicomFolder(tmp_path, salt=SALT)
    pool = DicomFolder(
        tmp_path, salt=SALT, frames=frames, window=every.windows[next(iter(every.windows))]
    )
    assert pool.ids.tolist() == [every.ids[expected]]
    assert_array_equal(pool[0], every[expected])


def test_files_that_have_no_such_frame_are_left_out(tmp_path):
    copy(tmp_path, "rtdose.dcm", "MR_small.dcm")
    pool = DicomFolder(tmp_path, 10, salt=SALT, frames=14)
    assert len(pool) == 1
    assert "left out: images without a frame 14 (1)" in pool.notes
    with pytest.raises(ParameterError, match=r"frames=15; expected a number below 15\."):
        DicomFolder(tmp_path, 10, salt=SALT, frames=15)
    for frames in (-1, "last", 1.5, True):
        with pytest.raises(ParameterError, match="frames="):
            DicomFolder(tmp_path, 10, salt=SALT, frames=frames)
