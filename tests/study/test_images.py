"""Image files: nothing is crushed or skipped unsaid, and no more is held than the result."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from pictures import deep_png, picture, save
from PIL import Image

from aift_sklearn.errors import DataError, DataTypeError
from aift_sklearn.study import load_folder
from aift_sklearn.study.images import ImageFiles, read_images

RNG = np.random.default_rng(0)


def values(high, shape=(10, 12, 3), dtype=np.uint16):
    return RNG.integers(0, high, shape).astype(dtype)


# --- more than 8 bits -----------------------------------------------------------------------------


def write_deep_palette(path):
    """Eight bits per pixel, but colours that differ in their lower bits only."""
    table = np.zeros((3, 256), dtype=np.uint16)
    table[:, :16] = np.arange(16) * 100
    tifffile.imwrite(path, values(16, (10, 12), np.uint8), photometric="palette", colormap=table)


DEEP = {
    "rgb16.tif": lambda p: tifffile.imwrite(p, values(65536), photometric="rgb"),
    "rgb12in16.tif": lambda p: tifffile.imwrite(p, values(4096), photometric="rgb"),
    "big-endian.tif": lambda p: tifffile.imwrite(p, values(4096), photometric="rgb", byteorder=">"),
    "rgba16.tif": lambda p: tifffile.imwrite(
        p, values(4096, (10, 12, 4)), photometric="rgb", extrasamples=["unassalpha"]
    ),
    "grey16.tif": lambda p: tifffile.imwrite(p, values(4096, (10, 12))),
    "signed16.tif": lambda p: tifffile.imwrite(p, values(99, (10, 12), np.int16)),
    "signed8.tif": lambda p: tifffile.imwrite(p, values(99, (10, 12), np.int8) - np.int8(50)),
    "grey32.tif": lambda p: tifffile.imwrite(p, values(99, (10, 12), np.uint32)),
    "float32.tif": lambda p: tifffile.imwrite(p, values(99, (10, 12), np.float32)),
    "pages16.tif": lambda p: tifffile.imwrite(
        p, values(4096, (3, 10, 12)), photometric="minisblack"
    ),
    "cmyk16.tif": lambda p: tifffile.imwrite(p, values(4096, (10, 12, 4)), photometric="separated"),
    "palette16.tif": write_deep_palette,
    "rgb16.png": lambda p: deep_png(p, values(65536)),
    "rgb12in16.png": lambda p: deep_png(p, values(4096)),
    "grey16.png": lambda p: deep_png(p, values(65536, (10, 12))),
    "rgb16.ppm": lambda p: p.write_bytes(b"P6 12 10 4095\n" + values(4096).astype(">u2").tobytes()),
    "plain.ppm": lambda p: p.write_bytes(
        b"P3 12 10 65535\n" + " ".join(map(str, values(4096).ravel())).encode()
    ),
    "grey16.pgm": lambda p: p.write_bytes(
        b"P5 12 10 4095\n" + values(4096, (10, 12)).astype(">u2").tobytes()
    ),
    "deep.png.jpg": lambda p: deep_png(p, values(4096)),
}


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("name", DEEP)
def test_more_than_eight_bits_are_refused_with_the_way_to_window_them(tmp_path, name, size):
    DEEP[name](tmp_path / name)
    with pytest.raises(DataTypeError, match=r"more than 8 bits.*window.*np\.clip") as caught:
        read_images([tmp_path / name], size=size)
    assert name in str(caught.value)


def test_deep_images_are_counted_before_anything_is_decoded(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    for name in ("c.tif", "d.tif"):
        DEEP["rgb16.tif"](tmp_path / name)
    with pytest.raises(DataTypeError, match=r"c\.tif has more than 8 bits.* and so have 1 more"):
        read_images([tmp_path / name for name in ("a.png", "b.png", "c.tif", "d.tif")])


@pytest.mark.parametrize("factor", [256, 257])
def test_a_palette_of_eight_bits_is_read_as_its_colours(tmp_path, factor):
    table = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2])
    index = values(256, (10, 12), np.uint8)
    tifffile.imwrite(
        tmp_path / "p.tif", index, photometric="palette", colormap=(table * factor).astype("u2")
    )
    np.testing.assert_array_equal(read_images([tmp_path / "p.tif"])[0], table[:, index])


# --- what is left out is said ---------------------------------------------------------------------


def read_with_notes(path, **options):
    files = ImageFiles([path], **options)
    return files[np.array([0])][0], files.notes


def save_pages(path):
    pages = [picture(seed) for seed in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return pages[0]


@pytest.mark.parametrize("name", ["pages.tif", "moving.gif", "moving.png", "moving.webp"])
def test_several_pages_are_noted_and_the_first_is_read(tmp_path, name):
    first = save_pages(tmp_path / name)
    pixels, notes = read_with_notes(tmp_path / name)
    assert pixels.shape == (3, 10, 12)
    if name.endswith(("tif", "png")):
        np.testing.assert_array_equal(pixels.transpose(1, 2, 0), np.asarray(first))
    (note,) = notes
    assert "1 image has several pages or frames, of which the first is read" in note
    assert name in note


def test_transparency_is_noted_where_something_is_transparent(tmp_path):
    image = picture().convert("RGBA")
    image.save(tmp_path / "opaque.png")
    image.putpixel((0, 0), (10, 20, 30, 0))
    image.save(tmp_path / "clear.png")
    assert read_with_notes(tmp_path / "opaque.png")[1] == []
    pixels, notes = read_with_notes(tmp_path / "clear.png")
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]
    assert "1 image has transparency, which is dropped" in notes[0]


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    picture().quantize(8).save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    pixels, notes = read_with_notes(tmp_path / "a.png")
    assert pixels.shape == (3, 10, 12)
    assert "transparency" in notes[0]


def test_a_fourth_channel_is_noted(tmp_path):
    stack = values(256, (10, 12, 4), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb", extrasamples=["unspecified"])
    pixels, notes = read_with_notes(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels, stack[..., :3].transpose(2, 0, 1))
    assert "1 image has further channels, which are left out" in notes[0]


# --- odd files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.png", b"", "an empty file"),
        ("scan.png", bytes(128) + b"DICM" + bytes(50), "a DICOM file"),
        ("text.tif", b"hello", "no image of the formats that are read"),
        ("gone.png", None, "no such file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, data, reason):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name} \({reason}"):
        read_images([tmp_path / name])


def test_links_in_circles_and_folders_are_no_images(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(DataError, match=r"2 of 2 images cannot be read.*b\.png \(a folder"):
        read_images([tmp_path / "a.png", tmp_path / "b.png"])


@pytest.mark.parametrize("size", [None, 4])
def test_a_truncated_photograph_is_named(tmp_path, size):
    save(tmp_path / "a.jpg", size=(64, 64))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-300])
    with pytest.raises(DataError, match=r"a\.jpg \(.*truncated"):
        read_images([tmp_path / "a.jpg"], size=size)


def test_the_contents_count_and_not_the_extension(tmp_path):
    picture().save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(
        read_images([tmp_path / "a.jpg"])[0].transpose(1, 2, 0), np.asarray(picture())
    )


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1", "LA", "RGBA", "P"])
def test_every_mode_survives_scaling(tmp_path, mode):
    image = Image.new("RGB", (40, 30), (200, 40, 90)).convert(mode)
    image.save(tmp_path / "a.tif")
    pixels = read_images([tmp_path / "a.tif"], size=8)
    expected = np.asarray(image.convert("L" if mode in ("1", "LA") else "RGB"), float)
    mean = expected.reshape(30, 40, -1).mean(axis=(0, 1))
    assert np.abs(pixels[0].mean(axis=(1, 2)) - mean).max() < (25 if mode == "1" else 6)


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_images([tmp_path / "a.png"])[0].ravel().tolist() == [1, 2, 3]
    assert (read_images([tmp_path / "a.png"], size=4)[0, 1] == 2).all()


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
def test_turned_images_have_one_size(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(size=(6, 4)).save(tmp_path / f"a.{suffix}", exif=exif)
    picture(size=(4, 6)).save(tmp_path / f"b.{suffix}")
    files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    assert read_images(files).shape == (2, 3, 6, 4)
    picture(size=(6, 4)).save(tmp_path / f"b.{suffix}")
    with pytest.raises(DataError, match="4 x 6, 6 x 4"):
        read_images(files)


def test_a_large_image_is_read_and_a_huge_one_refused(tmp_path, monkeypatch):
    save(tmp_path / "a.png", size=(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_images([tmp_path / "a.png"]).shape == (1, 3, 40, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(DataError, match=r"a\.png \(more than 1400 pixels; scale it down"):
        read_images([tmp_path / "a.png"])


def test_names_of_any_characters_are_read_and_shown_in_one_line(tmp_path):
    names = ["ä b.png", "line\nbreak.png", "quote'\".png", "\udce9.png"]
    files = [save(tmp_path / name, seed=k) for k, name in enumerate(names)]
    assert read_images(files).shape == (4, 3, 10, 12)
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(DataError, match="4 of 4 images") as caught:
        read_images(files)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


# --- memory ---------------------------------------------------------------------------------------


def test_a_photograph_is_scaled_as_by_its_mean(tmp_path):
    rows, columns = np.mgrid[:600, :800]
    smooth = (127 + 100 * np.sin(rows / 60) * np.cos(columns / 90)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    smooth = smooth[:, 100:700].astype(float)
    expected = smooth.reshape(20, 30, 20, 30).mean(axis=(1, 3))
    small = read_images([tmp_path / "a.jpg"], size=20)[0, 0]
    assert np.abs(small - expected).max() < 6


def test_only_what_is_drawn_is_read(tmp_path):
    for k in range(40):
        save(tmp_path / "ab"[k % 2] / f"{k}.png", seed=k)
    # What is not drawn may even be damaged.
    whole = load_folder(tmp_path, max_pool=4, max_test=3)
    kept = {image.tobytes() for image in [*whole.X, *whole.X_test]}
    for k in range(40):
        if np.asarray(picture(k)).transpose(2, 0, 1).tobytes() not in kept:
            (tmp_path / "ab"[k % 2] / f"{k}.png").write_bytes(b"broken")
    again = load_folder(tmp_path, max_pool=4, max_test=3)
    np.testing.assert_array_equal(again.X, whole.X)
    assert (len(again.y), len(again.y_test)) == (4, 3)


def peak_memory():
    """Most memory in MB since it was last forgotten; in KB in the file, as Linux counts."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="counts as Linux does")
def test_large_photographs_take_little_memory(tmp_path):
    image = Image.new("RGB", (4000, 3000), (90, 120, 30))
    for k in range(8):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        image.paste((30 * k, 0, 0), (1000, 1000, 3000, 2000))
        image.save(tmp_path / "ab"[k % 2] / f"{k}.jpg")
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    data = load_folder(tmp_path, size=64)
    assert len(data.y) + len(data.y_test) == 8
    # One of them is 36 MB when it is decoded at full size.
    assert peak_memory() - before < 36
