"""Folders of images as pools: every kind of file gives what is documented, and nothing stops it."""

import os
import warnings

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pictures import deep_png, picture, save
from PIL import Image

from aift_sklearn.errors import DataError, ParameterError
from aift_sklearn.pools import ImageFolder, ImageList, open_pool, open_sized

RNG = np.random.default_rng(0)


def plain(path, size=None, mode="RGB"):
    """What Pillow gives, channels first."""
    pixels = np.asarray(Image.open(path).convert(mode))
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


@pytest.fixture
def folder(tmp_path):
    for k in range(6):
        save(tmp_path / f"{'ab'[k % 2]}" / f"{k}.png", seed=k)
    return tmp_path


# --- a pool slices like an array ------------------------------------------------------------------


def test_a_folder_is_an_array_of_its_files(folder):
    pool = ImageFolder(folder, groups="folder")
    names = ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]
    assert pool.ids.tolist() == names
    assert pool.groups.tolist() == ["a"] * 3 + ["b"] * 3
    assert (len(pool), pool.shape, pool.ndim, pool.dtype) == (6, (6, 3, 10, 12), 4, np.uint8)
    assert_array_equal(np.asarray(pool), [plain(folder / name) for name in names])
    assert repr(pool) == f"ImageFolder of {folder}: 6 candidates, 3 × 10 × 12 uint8, 2 groups"


@given(data=st.data())
def test_any_rows_are_read_in_any_order(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "rows"
    if not folder.exists():
        for k in range(7):
            save(folder / f"{k}.png", seed=k)
    pool = ImageFolder(folder)
    X = np.asarray(pool)
    rows = data.draw(st.lists(st.integers(-7, 6)))
    assert_array_equal(pool[rows], X[rows])
    part = data.draw(st.slices(7))
    assert_array_equal(pool[part], X[part])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=7, max_size=7)))
    subset = pool[mask]
    assert_array_equal(subset[:], X[mask])
    assert subset.ids.tolist() == pool.ids[mask].tolist()
    inner = data.draw(st.lists(st.booleans(), min_size=len(subset), max_size=len(subset)))
    again = subset[np.array(inner, dtype=bool)]
    assert_array_equal(again[:], X[mask][np.array(inner, dtype=bool)])
    left = data.draw(st.lists(st.sampled_from(pool.ids.tolist())))
    assert_array_equal(pool.without(left)[:], X[~np.isin(pool.ids, left)])


def test_a_part_of_a_pool_reads_nothing(folder):
    pool = ImageFolder(folder)
    for name in pool.ids:
        (folder / name).unlink()
    part = pool[np.arange(6) > 2].without(["b/1.png"])
    assert part.ids.tolist() == ["b/3.png", "b/5.png"]


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (6, IndexError, "candidate 6 of a pool of 6"),
        ([0, -7], IndexError, "candidate -7"),
        (np.ones(5, dtype=bool), DataError, r"mask of shape \(5,\); expected \(6,\)"),
        ([[1]], DataError, r"shape \(1, 1\)"),
        ([0.5], DataError, "expected a number, a slice"),
        ("a/0.png", DataError, "expected a number, a slice"),
    ],
)
def test_what_is_no_place_is_refused(folder, key, error, message):
    with pytest.raises(error, match=message):
        ImageFolder(folder)[key]


def test_ids_are_found(folder):
    pool = ImageFolder(folder)
    assert pool.rows_of(["b/5.png", "a/0.png"]).tolist() == [5, 0]
    with pytest.raises(DataError, match=r"1 of 2 ids are not in the pool.*: c\.png.*a/0\.png"):
        pool.rows_of(["a/0.png", "c.png"])
    with pytest.raises(DataError, match="1 of 1 ids are not in the pool"):
        pool[np.zeros(6, dtype=bool)].rows_of(["c.png"])
    with pytest.raises(ParameterError, match="expected a collection of ids"):
        pool.without("a/0.png")


def test_no_two_candidates_share_an_id(folder):
    with pytest.raises(ParameterError, match=r"1 ids are given to several candidates: x\."):
        ImageList([folder / "a/0.png", folder / "a/2.png"], ids=["x", "x"])


def test_groups_by_a_function_and_what_is_none(folder):
    pool = ImageFolder(folder, groups=lambda name: name[-5])
    assert pool.groups.tolist() == list("024135")
    with pytest.raises(ParameterError, match="groups='patient'; expected None, 'folder'"):
        ImageFolder(folder, groups="patient")


# --- every kind of file ---------------------------------------------------------------------------


def gif(path):
    frames = [picture(k, mode="L") for k in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def with_exif(path):
    exif = Image.Exif()
    exif[274] = 6
    picture().save(path, exif=exif, quality=95)


def truncated(path):
    picture(size=(200, 160)).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-2000])


def bomb(path):
    Image.new("1", (20_000, 20_000)).save(path)


READ = {
    "rgb.png": lambda p: picture().save(p),
    "grey.png": lambda p: picture(mode="L").save(p),
    "alpha.png": lambda p: picture().convert("RGBA").save(p),
    "palette.png": lambda p: picture().convert("P").save(p),
    "one-bit.png": lambda p: picture(mode="L").convert("1").save(p),
    "cmyk.jpg": lambda p: picture().convert("CMYK").save(p, quality=95),
    "turned.jpg": with_exif,
    "photo.jpeg": lambda p: picture(size=(800, 600)).save(p, quality=90),
    "animated.gif": gif,
    "web.webp": lambda p: picture().save(p, lossless=True),
    "pages.tif": lambda p: tifffile.imwrite(
        p, RNG.integers(0, 255, (3, 10, 12), np.uint8), photometric="minisblack"
    ),
    "grey16.tif": lambda p: tifffile.imwrite(p, RNG.integers(0, 4096, (10, 12), np.uint16)),
    "grey16.png": lambda p: deep_png(p, RNG.integers(0, 65536, (10, 12)).astype(np.uint16)),
    "float.tif": lambda p: tifffile.imwrite(p, RNG.random((10, 12), np.float32)),
    "rgb16.png": lambda p: deep_png(p, RNG.integers(0, 65536, (10, 12, 3)).astype(np.uint16)),
    "bitmap.bmp": lambda p: picture().save(p),
    "Größe µ 図.png": lambda p: picture().save(p),
    "with spaces.png": lambda p: picture().save(p),
}
BROKEN = {
    "empty.png": lambda p: p.write_bytes(b""),
    "text.png": lambda p: p.write_text("no image"),
    "truncated.jpg": truncated,
    "bomb.png": bomb,
    "half.tif": lambda p: p.write_bytes(b"II*\0\x08\0\0\0"),
    "signed.tif": lambda p: tifffile.imwrite(p, RNG.integers(-9, 9, (10, 12)).astype(np.int8)),
    "nan.tif": lambda p: tifffile.imwrite(p, np.full((10, 12), np.nan, np.float32)),
}


@pytest.mark.parametrize("name", READ)
def test_every_kind_of_image_is_read(tmp_path, name):
    READ[name](tmp_path / name)
    pool = ImageFolder(tmp_path, size=8)
    read = pool[:]
    assert pool.ids.tolist() == [name]
    assert not pool.broken
    assert read.shape == (1, 1 if pool.grey else 3, 8, 8)
    assert np.ptp(read) > 100 or name == "photo.jpeg"


def test_one_source_of_all_kinds_goes_on_and_lists_what_is_broken(tmp_path):
    # One window suits no floats in [0, 1] beside integers of 16 bits.
    readable = {name: write for name, write in READ.items() if name != "float.tif"}
    for name, write in {**readable, **BROKEN}.items():
        write(tmp_path / name)
    pool = ImageFolder(tmp_path, size=8)
    X = pool[:]
    assert set(pool.broken) == set(BROKEN)
    assert pool.sound().ids.tolist() == sorted(readable)
    # What is found when it is decoded has zeros in its place.
    late = [name for name in pool.ids if name in pool.broken]
    assert set(late) == {"truncated.jpg", "nan.tif"}
    assert not X[pool.rows_of(late)].any()
    assert all(X[pool.rows_of(readable)].reshape(len(readable), -1).any(axis=1))
    assert "more than" in pool.broken["bomb.png"]
    assert pool.broken["empty.png"] == "an empty file"


@pytest.mark.parametrize("name", BROKEN)
def test_a_strict_pool_raises_at_the_first(tmp_path, name):
    save(tmp_path / "a.png")
    BROKEN[name](tmp_path / name)
    with pytest.raises(DataError, match=f"{name} cannot be read: "):
        ImageFolder(tmp_path, size=8, strict=True)[:]


def test_what_cannot_be_told_by_its_header_is_told_when_it_is_read(tmp_path):
    truncated(tmp_path / "t.jpg")
    save(tmp_path / "a.png")
    pool = ImageFolder(tmp_path, size=8)
    part = pool.without([])
    assert not pool.broken
    assert part[:].shape == (2, 3, 8, 8)
    # Shared with the pool that it was made of.
    assert list(pool.broken) == ["t.jpg"]
    assert len(pool.sound()) == 1


def test_alpha_palettes_and_pages_are_what_pillow_makes_of_them(tmp_path):
    for name in ("alpha.png", "palette.png", "cmyk.jpg", "rgb.png"):
        READ[name](tmp_path / name)
    pool = ImageFolder(tmp_path)
    for image, name in zip(pool[:], pool.ids, strict=True):
        assert_array_equal(image, plain(tmp_path / name))


def test_grey_images_are_grey_only_where_all_are(tmp_path):
    picture(1, mode="L").save(tmp_path / "grey.png")
    assert ImageFolder(tmp_path).shape[1] == 1
    picture(2).save(tmp_path / "rgb.png")
    both = ImageFolder(tmp_path)
    assert both.shape[1] == 3
    assert_array_equal(both[0], np.repeat(plain(tmp_path / "grey.png", mode="L"), 3, axis=0))


def test_a_photograph_is_turned(tmp_path):
    with_exif(tmp_path / "turned.jpg")
    pool = ImageFolder(tmp_path)
    assert pool.shape == (1, 3, 12, 10)
    upright = np.asarray(Image.open(tmp_path / "turned.jpg")).transpose(2, 0, 1)
    assert_array_equal(pool[0], np.rot90(upright, -1, axes=(1, 2)))


# --- more than 8 bits -----------------------------------------------------------------------------


def test_deep_grey_images_share_one_window(tmp_path):
    values = RNG.integers(500, 3000, (4, 40, 40)).astype(np.uint16)
    for k, image in enumerate(values):
        tifffile.imwrite(tmp_path / f"{k}.tif", image // (k + 1))
    pool = ImageFolder(tmp_path)
    low, high = pool.window
    assert 125 <= low <= 130
    assert 2900 <= high <= 3000
    for k, image in enumerate(values):
        expected = np.clip(np.rint((image // (k + 1) - low) * 255 / (high - low)), 0, 255)
        assert np.abs(pool[k][0].astype(int) - expected).max() <= 1
    assert pool[[True, False, False, True]].whole.window == pool.window


def test_a_window_of_the_users_own(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 100, 150, 9999]] * 4, np.uint16))
    pool = ImageFolder(tmp_path, window=(100, 200))
    assert pool[0][0, 0].tolist() == [0, 0, 128, 255]
    for wrong in ((200, 100), (0, float("nan")), 5, "wide"):
        with pytest.raises(ParameterError, match="window="):
            ImageFolder(tmp_path, window=wrong)


def test_colour_of_more_than_eight_bits_keeps_the_upper_eight_and_says_so(tmp_path):
    values = RNG.integers(0, 65536, (10, 12, 3)).astype(np.uint16)
    deep_png(tmp_path / "a.png", values)
    pool = ImageFolder(tmp_path)
    assert np.abs(pool[0].astype(int) - (values >> 8).transpose(2, 0, 1)).max() <= 1
    assert any("upper 8 are read: a.png" in note for note in pool.notes)


# --- what lies in a folder ------------------------------------------------------------------------


def test_a_name_with_spaces_at_its_ends_is_put_between_quotes(tmp_path):
    for name in (" a.png", "a.png"):
        save(tmp_path / name)
    assert ImageFolder(tmp_path).ids.tolist() == ["' a.png'", "a.png"]


def test_a_file_that_was_mended_is_sound_again(tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    whole = (tmp_path / "b.png").read_bytes()
    pool = ImageFolder(tmp_path)
    (tmp_path / "b.png").write_bytes(whole[:-40])
    pool[:]
    assert len(pool.sound()) == 1
    (tmp_path / "b.png").write_bytes(whole)
    pool[:]
    assert not pool.broken


def test_channels_that_are_asked_for(folder):
    assert ImageFolder(folder, grey=True).shape == (6, 1, 10, 12)
    picture(mode="L").save(folder / "grey.png")
    assert ImageFolder(folder, grey=False)[-1].shape == (3, 10, 12)


def test_hidden_files_links_and_other_files(tmp_path):
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / ".hidden.png")
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "more").mkdir()
    (tmp_path / "in" / "more" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    save(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "in" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    pool = ImageFolder(tmp_path / "in")
    assert pool.ids.tolist() == ["a.png", "linked/b.png"]
    assert pool.broken == {"dangling.png": "no such file"}
    assert pool.notes == ["files left out, no images that are read: 1 .txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir(mode=0)
    try:
        assert "closed/" in ImageFolder(tmp_path).broken
        with pytest.raises(DataError, match="cannot be listed"):
            ImageFolder(tmp_path, strict=True)
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize("strict", [False, True])
def test_nothing_to_read_is_an_error_that_says_what_there_is(tmp_path, strict):
    with pytest.raises(DataError, match=r"there are no images in .*expected \.png"):
        ImageFolder(tmp_path, strict=strict)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"It holds 1 \.txt\."):
        ImageFolder(tmp_path)
    (tmp_path / "a.png").write_text("x")
    if not strict:
        with pytest.raises(DataError, match=r"none of 1 images in .* can be read: a\.png \(no"):
            ImageFolder(tmp_path)


def test_images_of_several_sizes_need_one(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", size=(20, 30))
    with pytest.raises(DataError, match="2 different sizes"):
        ImageFolder(tmp_path)
    assert ImageFolder(tmp_path, size=16).shape == (2, 3, 16, 16)


def test_photographs_are_scaled_as_they_are_read(tmp_path):
    big = np.kron(RNG.integers(0, 256, (8, 8, 3)), np.ones((100, 100, 1))).astype(np.uint8)
    Image.fromarray(big).save(tmp_path / "a.jpg", quality=95)
    small = ImageFolder(tmp_path, size=8)[0].transpose(1, 2, 0)
    whole = Image.open(tmp_path / "a.jpg").resize((8, 8), Image.Resampling.BILINEAR)
    assert np.abs(small.astype(int) - np.asarray(whole)).mean() < 4


# --- whatever a user points at --------------------------------------------------------------------


def test_a_source_that_is_none_is_told(tmp_path):
    with pytest.raises(ParameterError, match=r"'nowhere' is not known.*no such file or folder"):
        open_pool("nowhere")
    save(tmp_path / "a.png")
    with pytest.raises(ParameterError, match="the option shape does not apply"):
        open_pool(tmp_path, shape=3)
    assert open_pool(str(tmp_path), size=16).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(48, 48), (48, 48)], 48),
        ([(64, 64)], 64),
        ([(48, 40), (48, 40)], 64),
        ([(48, 48), (50, 50)], 64),
        ([(300, 300)], 64),
    ],
)
def test_a_size_is_chosen_where_none_is_given(tmp_path, sizes, expected):
    for k, size in enumerate(sizes):
        save(tmp_path / f"{k}.png", size=size)
    assert open_sized(tmp_path).shape[2:] == (expected, expected)
    assert open_sized(tmp_path, 24).shape[2:] == (24, 24)


def test_warnings_of_odd_metadata_do_not_reach_the_user(tmp_path):
    for name, write in READ.items():
        write(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ImageFolder(tmp_path, size=8)[:]) == len(READ)
