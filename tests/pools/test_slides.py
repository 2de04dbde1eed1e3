"""Tiles of slides: each is the part of its slide that its id tells, and none is read unasked."""

import gc
import os
import pickle
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from slide_files import coordinates, retag, stained, write_jpeg, write_pyramid
from typer.testing import CliRunner

from aift_sklearn.cli import app
from aift_sklearn.errors import (
    DataError,
    DataTypeError,
    MissingDependencyError,
    ParameterError,
)
from aift_sklearn.pools import ArrayPool, SlideTiles, draw_slide, open_pool, open_sized
from aift_sklearn.pools import slide_files as files
from aift_sklearn.pools import slide_levels as levels
from aift_sklearn.pools.decoding import to_bytes
from aift_sklearn.pools.image_cache import ImageCache
from aift_sklearn.pools.slide_levels import read_reduced
from aift_sklearn.pools.slide_tiff import TiffSlide
from aift_sklearn.pools.slide_vendor import VendorSlide
from aift_sklearn.pools.tissue import find_tissue, otsu_threshold, tissue_shares

PIXELS = coordinates(600, 400)
DEEP = coordinates(600, 400, 3, np.uint16)
try:
    import imagecodecs  # noqa: F401

    HAS_CODECS = True
except ImportError:
    HAS_CODECS = False


def crops(pixels, tile, stride=None):
    """Tiles row by row, one at a time, and where they lie."""
    stride, (height, width) = stride or tile, pixels.shape[:2]
    found, places = [], []
    for y in range(0, height - tile + 1, stride):
        for x in range(0, width - tile + 1, stride):
            found.append(pixels[y : y + tile, x : x + tile].transpose(2, 0, 1))
            places.append((x, y))
    return np.array(found), places


def tiff(path, number=0):
    return TiffSlide(path, ImageCache(2**20), number)


def n_open():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def slide(tmp_path):
    """A pyramid of three levels, whose pixels tell where they lie."""
    write_pyramid(tmp_path / "case.tif", PIXELS)
    return tmp_path / "case.tif"


# --- every layout of a file gives the same tiles --------------------------------------------------

PLANAR = np.ascontiguousarray(PIXELS.transpose(2, 0, 1))
LAYOUTS = {
    "tiles": {"tile": (64, 64), "compression": "deflate"},
    "tiles of two shapes": {"tile": (48, 80), "compression": "deflate"},
    "predictor": {"tile": (64, 64), "compression": "deflate", "predictor": True},
    "tiles, plain": {"tile": (64, 64)},
    "strips": {"rowsperstrip": 7, "compression": "deflate"},
    "plain": {},
    "plain strips": {"rowsperstrip": 7},
    "big-endian": {"byteorder": ">", "tile": (64, 64)},
    "BigTIFF": {"bigtiff": True, "tile": (64, 64), "compression": "deflate"},
}


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiles_of_every_layout_are_parts_of_the_slide(tmp_path, layout, separate):
    path = tmp_path / "a.tif"
    how = {"planarconfig": "separate"} if separate else {}
    tifffile.imwrite(
        path, PLANAR if separate else PIXELS, photometric="rgb", **how, **LAYOUTS[layout]
    )
    pool = SlideTiles(path, tile=56, tissue=0)
    expected, places = crops(PIXELS, 56)
    assert_array_equal(pool[:], expected)
    assert pool.ids.tolist() == [f"a.tif#L0@{x},{y}" for x, y in places]
    assert pool.corners.tolist() == [list(place) for place in places]
    assert (pool.broken, pool.notes, pool.window) == ({}, [], None)
    assert set(pool.slides) == set(pool.groups) == {"a.tif"}


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("how", [{}, {"tile": (64, 64)}, {"rowsperstrip": 9, "compression": 8}])
def test_channels_in_pages_are_read_apart(tmp_path, how, byteorder):
    path = tmp_path / "a.ome.tif"
    values = coordinates(600, 400, 5, np.uint16)
    tifffile.imwrite(
        path, values.transpose(2, 0, 1), metadata={"axes": "CYX"}, byteorder=byteorder, **how
    )
    pool = SlideTiles(path, tile=100, tissue=0, channels=(4, 1), window=(0, 3328))
    expected, _ = crops(values[:, :, [4, 1]], 100)
    assert_array_equal(pool[:], to_bytes(expected.astype(np.float32), (0, 3328)))
    with pytest.raises(DataError, match=r"5 channels; expected up to 4.*channels="):
        SlideTiles(path, tile=100, tissue=0)
    with pytest.raises(DataError, match="no channel 5; it has 5, from 0 on"):
        SlideTiles(path, tile=100, channels=(0, 5))


def test_channels_of_imagej_are_read_apart(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP.transpose(2, 0, 1), imagej=True)
    pool = SlideTiles(tmp_path / "a.tif", tile=100, tissue=0, window=(0, 3328))
    assert_array_equal(pool[:], to_bytes(crops(DEEP, 100)[0].astype(np.float32), (0, 3328)))


@pytest.mark.parametrize("kind", ["subifds", "pages", "svs", "ome"])
def test_every_kind_of_pyramid_has_its_levels(tmp_path, kind):
    path = tmp_path / {"svs": "a.svs", "ome": "a.ome.tif"}.get(kind, "a.tif")
    options = {"metadata": {"axes": "YXS"}} if kind == "ome" else {}
    written = write_pyramid(path, PIXELS, kind="subifds" if kind == "ome" else kind, **options)
    for level, pixels in enumerate(written):
        pool = SlideTiles(path, tile=48, level=level, tissue=0)
        expected, places = crops(pixels, 48)
        assert_array_equal(pool[:], expected)
        scale = 2**level
        assert pool.ids.tolist() == [
            f"{path.name}#L{level}@{x * scale},{y * scale}" for x, y in places
        ]
        assert pool.sides.tolist() == [48 * scale] * len(places)
        assert pool.reading() == {"tile": 48, "size": None, "level": level}
    with pytest.raises(DataError, match="no level 3; it has levels 0 to 2"):
        SlideTiles(path, tile=48, level=3)


def test_grey_has_a_channel_and_transparency_is_dropped(tmp_path):
    grey, clear = PIXELS[:, :, 0], np.dstack([PIXELS, PIXELS[:, :, 0]])
    tifffile.imwrite(tmp_path / "grey.tif", grey, tile=(64, 64))
    tifffile.imwrite(
        tmp_path / "rgba.tif", clear, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64)
    )
    assert_array_equal(
        SlideTiles(tmp_path / "grey.tif", 100, tissue=0)[:], crops(PIXELS[:, :, :1], 100)[0]
    )
    both = SlideTiles(tmp_path, 100, tissue=0)
    assert both.shape == (48, 3, 100, 100)
    assert_array_equal(both[:24], crops(np.dstack([grey] * 3), 100)[0])
    assert_array_equal(both[24:], crops(PIXELS, 100)[0])


@pytest.mark.parametrize("write", ["svs", "pages", "jpeg"])
def test_openslide_reads_the_same(tmp_path, write):
    pytest.importorskip("openslide")
    path = tmp_path / ("a.svs" if write == "svs" else "a.tif")
    if write == "jpeg" and not HAS_CODECS:
        pytest.skip("tifffile needs imagecodecs for it")
    if write == "jpeg":
        write_jpeg(path, stained()[0])
    else:
        write_pyramid(path, PIXELS, kind=write)
    ours, theirs = tiff(path), VendorSlide(path)
    assert [level[:3] for level in ours.levels] == [level[:3] for level in theirs.levels]
    assert ours.mpp == theirs.mpp
    assert theirs.colour
    for level, x, y, width, height in (
        (0, 3, 5, 200, 130),
        (1, 64, 64, 64, 64),
        (1, 201, 99, 80, 90),
    ):
        part = (level, x, y, width, height, (2, 0))
        given, expected = ours.read(*part), theirs.read(*part)
        assert given.shape == expected.shape == (height, width, 2)
        # Decoders of JPEG round and smooth colours differently.
        slack = 0 if write != "jpeg" else 12
        assert np.abs(given.astype(int) - expected).max() <= slack


def test_jpeg_is_read_with_or_without_codecs(tmp_path):
    pytest.importorskip("openslide")
    pixels, _ = stained()
    written = write_jpeg(tmp_path / "a.tif", pixels)
    for level, expected in enumerate(written):
        pool = SlideTiles(tmp_path / "a.tif", tile=50, level=level, tissue=0)
        assert isinstance(pool._slides[0], TiffSlide if HAS_CODECS else VendorSlide)
        close = np.abs(pool[:].astype(int) - crops(expected, 50)[0])
        assert close.mean() < 4
    assert 10 < len(SlideTiles(tmp_path / "a.tif", tile=50)) < 40


# --- sizes, resolutions, grids --------------------------------------------------------------------


def test_tiles_are_scaled_by_averaging(slide):
    pool = SlideTiles(slide, tile=64, size=16, tissue=0)
    expected = [
        np.asarray(Image.fromarray(tile.transpose(1, 2, 0)).resize((16, 16), Image.BILINEAR))
        for tile in crops(PIXELS, 64)[0]
    ]
    assert_array_equal(pool[:].transpose(0, 2, 3, 1), expected)
    flat = np.full((64, 64, 1), 1000, np.uint16)
    flat[::2] = 3000
    assert_allclose(levels.scale_square(flat, 16), 2000, rtol=0.05)
    assert SlideTiles(slide, tile=64, size=100, tissue=0).shape[1:] == (3, 100, 100)


def resolution(path, unit, per_unit):
    tifffile.imwrite(
        path, PIXELS, photometric="rgb", resolution=(per_unit, per_unit), resolutionunit=unit
    )


def ome(path, **size):
    tifffile.imwrite(path, PIXELS, photometric="rgb", metadata={"axes": "YXS", **size}, ome=True)


@pytest.mark.parametrize(
    ("name", "write", "mpp"),
    [
        ("a.svs", lambda path: write_pyramid(path, PIXELS, kind="svs", mpp=0.2462), 0.2462),
        ("a.tif", lambda path: resolution(path, "CENTIMETER", 20_000), 0.5),
        ("a.tif", lambda path: resolution(path, "INCH", 101_600), 0.25),
        ("a.tif", lambda path: resolution(path, "NONE", 20_000), None),
        ("a.tif", lambda path: resolution(path, "INCH", 72), None),
        ("a.tif", lambda path: tifffile.imwrite(path, PIXELS, photometric="rgb"), None),
        ("a.ome.tif", lambda path: ome(path, PhysicalSizeX=0.325), 0.325),
        ("a.ome.tif", lambda path: ome(path, PhysicalSizeX=325, PhysicalSizeXUnit="nm"), 0.325),
        ("a.ome.tif", lambda path: ome(path, PhysicalSizeX=325, PhysicalSizeXUnit="pixel"), None),
        ("a.ome.tif", ome, None),
    ],
)
def test_resolutions_are_found_where_they_are_written(tmp_path, name, write, mpp):
    write(tmp_path / name)
    found = tiff(tmp_path / name).mpp
    assert found == mpp if mpp is None else found == pytest.approx(mpp)
    if mpp is None:
        with pytest.raises(DataError, match="its resolution is not known; give level="):
            SlideTiles(tmp_path, mpp=1)


def test_resolutions_choose_the_coarsest_level_that_is_fine_enough(tmp_path):
    written = write_pyramid(tmp_path / "a.svs", PIXELS, kind="svs", mpp=0.5)
    for mpp, level in ((0.5, 0), (0.504, 0), (0.998, 1), (1.0, 1), (2, 2)):
        pool = SlideTiles(tmp_path, tile=40, mpp=mpp, tissue=0)
        assert_array_equal(pool[:], crops(written[level], 40)[0])
        assert pool.ids[1] == f"a.svs#{mpp:g}mpp@{40 * 2**level},0"
        assert pool.reading() == {"tile": 40, "size": None, "mpp": mpp}
    # 60 pixels of level 1 for 40 of 1.5 microns.
    pool = SlideTiles(tmp_path, tile=40, mpp=1.5, tissue=0)
    expected = [
        np.asarray(Image.fromarray(tile.transpose(1, 2, 0)).resize((40, 40), Image.BILINEAR))
        for tile in crops(written[1], 60)[0]
    ]
    assert_array_equal(pool[:].transpose(0, 2, 3, 1), expected)
    assert pool.sides.tolist() == [120.0] * len(pool)
    with pytest.raises(DataError, match=r"at 0\.5 microns per pixel, coarser than mpp=0\.25"):
        SlideTiles(tmp_path, mpp=0.25)


@given(tile=st.integers(4, 130), stride=st.none() | st.integers(20, 200), level=st.integers(0, 2))
@settings(max_examples=25)
def test_tiles_lie_on_a_grid(tmp_path_factory, tile, stride, level):
    path = tmp_path_factory.getbasetemp() / "grid.tif"
    written = [PIXELS[:: 2**k, :: 2**k] for k in range(3)]
    if not path.exists():
        write_pyramid(path, PIXELS)
    tile = max(tile, 20)
    if tile > min(written[level].shape[:2]):
        with pytest.raises(DataError, match="less than a tile"):
            SlideTiles(path, tile, stride, level, tissue=0)
        return
    pool = SlideTiles(path, tile, stride, level, tissue=0)
    expected, places = crops(written[level], tile, stride)
    assert pool.corners.tolist() == [[x << level, y << level] for x, y in places]
    row = len(pool) // 2
    assert_array_equal(pool[row], expected[row])
    assert_array_equal(pool[-1], expected[-1])


def test_a_slide_may_be_as_large_as_a_tile(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[:, :400], photometric="rgb")
    pool = SlideTiles(tmp_path, tile=400, tissue=0)
    assert_array_equal(pool[:], PIXELS[None, :, :400].transpose(0, 3, 1, 2))


# --- a pool slices like an array ------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=30)
def test_any_rows_are_read_in_any_order(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "slide_rows"
    if not folder.exists():
        folder.mkdir()
        for k, layout in enumerate(("tiles", "strips", "plain")):
            pixels = np.roll(PIXELS, 17 * k, axis=1)
            tifffile.imwrite(folder / f"{k}.tif", pixels, photometric="rgb", **LAYOUTS[layout])
    pool = SlideTiles(folder, tile=120, tissue=0)
    X = np.concatenate([crops(np.roll(PIXELS, 17 * k, axis=1), 120)[0] for k in range(3)])
    rows = data.draw(st.lists(st.integers(-len(X), len(X) - 1), max_size=20))
    assert_array_equal(pool[rows], X[rows])
    part = data.draw(st.slices(len(X)))
    assert_array_equal(pickle.loads(pickle.dumps(pool))[part], X[part])
    mask = np.isin(np.arange(len(X)), rows)
    subset = pool[mask]
    assert_array_equal(subset[:], X[mask])
    assert subset.groups.tolist() == pool.groups[mask].tolist()


def test_threads_read_at_once(tmp_path, monkeypatch):
    """More slides than stay open, and a cache that holds next to nothing."""
    monkeypatch.setattr(files, "_OPEN", 2)
    monkeypatch.setattr(files, "_KEPT", 10_000)
    for k, layout in enumerate(list(LAYOUTS)[:6]):
        pixels = np.roll(PIXELS, 17 * k, axis=1)
        tifffile.imwrite(tmp_path / f"{k}.tif", pixels, photometric="rgb", **LAYOUTS[layout])
    pool = SlideTiles(tmp_path, tile=120, tissue=0)
    X = np.concatenate([crops(np.roll(PIXELS, 17 * k, axis=1), 120)[0] for k in range(6)])
    orders = [np.random.default_rng(seed).permutation(len(X)) for seed in range(6)]
    with ThreadPoolExecutor(6) as threads:
        for order, read in zip(orders, threads.map(pool.__getitem__, orders), strict=True):
            assert_array_equal(read, X[order])
    assert pool.broken == {}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files cannot be counted")
def test_few_slides_stay_open_and_none_behind_the_pool(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_OPEN", 3)
    for k in range(8):
        write_pyramid(tmp_path / f"{k}.tif", PIXELS, 2)
    before = n_open()
    pool = SlideTiles(tmp_path, tile=120, tissue=0)
    pool[:]
    assert before < n_open() <= before + 3
    copy = pickle.loads(pickle.dumps(pool))
    assert n_open() <= before + 3
    assert_array_equal(copy[::20], pool[::20])
    del pool, copy
    gc.collect()
    assert n_open() == before


def test_nothing_but_what_is_asked_for_is_decoded(slide, monkeypatch):
    decoded = []
    plain = TiffSlide._decode
    monkeypatch.setattr(
        TiffSlide, "_decode", lambda self, *where: decoded.append(where) or plain(self, *where)
    )
    pool = SlideTiles(slide, tile=64, tissue=0)
    assert decoded == []
    pool[0], pool[0], pool[[0, 1]]
    assert decoded == [(0, 0, 0), (0, 0, 1)]
    # Where there is tissue, the coarsest level tells: 8 of its pixels are a side of a tile.
    decoded.clear()
    SlideTiles(slide, tile=64)
    assert {level for level, *_ in decoded} == {2}


def test_strips_are_decoded_once_for_tiles_beside_each_other(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", **LAYOUTS["strips"])
    decoded = []
    plain = TiffSlide._decode
    monkeypatch.setattr(
        TiffSlide, "_decode", lambda self, *where: decoded.append(where) or plain(self, *where)
    )
    SlideTiles(tmp_path, tile=50, tissue=0)[:]
    assert sorted(decoded) == [(0, 0, index) for index in range(58)]


# --- folders, names, groups -----------------------------------------------------------------------


def test_slides_of_a_folder_are_named_and_grouped(tmp_path):
    for name in ("p1/b.tif", "p1/a.tif", "p2/c.TIFF"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / name, PIXELS, photometric="rgb")
    (tmp_path / "p1" / "notes.txt").write_text("seen")
    options = {"tile": 200, "tissue": 0}
    pool = SlideTiles(tmp_path, **options)
    names = [name for name in ("p1/a.tif", "p1/b.tif", "p2/c.TIFF") for _ in range(6)]
    assert pool.slides.tolist() == pool.groups.tolist() == names
    assert pool.ids[7] == "p1/b.tif#L0@200,0"
    assert pool.notes == ["files left out, no slides: 1 .txt"]
    assert SlideTiles(tmp_path, groups=None, **options).groups is None
    assert (
        SlideTiles(tmp_path, groups="folder", **options).groups.tolist() == ["p1"] * 12 + ["p2"] * 6
    )
    by_letter = SlideTiles(tmp_path, groups=lambda name: name[3], **options)
    assert by_letter.groups.tolist() == list("a" * 6 + "b" * 6 + "c" * 6)
    assert repr(pool) == (f"SlideTiles of {tmp_path}: 18 candidates, 3 × 200 × 200 uint8, 3 groups")


def test_what_lies_behind_a_mirax_slide_is_part_of_it(tmp_path):
    (tmp_path / "case").mkdir()
    for name in ("case.mrxs", "case/Slidedat.ini", "case/Data0001.dat", "other.dat"):
        (tmp_path / name).write_bytes(b"0")
    found = files.list_slides(tmp_path)
    assert (found.names, found.notes) == (["case.mrxs"], ["files left out, no slides: 1 .dat"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 2}, "tile"),
        ({"stride": 0}, "stride"),
        ({"level": -1}, "level"),
        ({"size": 1}, "size"),
        ({"tissue": 1.5}, "tissue"),
        ({"mpp": 0}, "mpp"),
        ({"mpp": 1.0, "level": 1}, "expected one"),
        ({"groups": "patient"}, "groups='patient'; expected 'slide', 'folder'"),
        ({"channels": ()}, "channels"),
        ({"channels": (0, 0)}, "channels"),
        ({"channels": "red"}, "channels"),
        ({"window": (5, 1)}, "window"),
    ],
)
def test_options_are_checked_before_slides_are_read(tmp_path, options, message):
    with pytest.raises(ParameterError, match=message):
        SlideTiles(tmp_path / "there is none", **options)


def test_pools_are_opened_by_what_they_lie_in(tmp_path):
    write_pyramid(tmp_path / "a.tif", PIXELS)
    path = tmp_path / "a.tif"
    for source in (path, str(path), f"slides:{path}", f"slides:{tmp_path}"):
        pool = open_pool(source, tile=100, tissue=0)
        assert (type(pool), pool.shape) == (SlideTiles, (24, 3, 100, 100))
        assert open_pool(source, 50, tile=100, tissue=0).shape == (24, 3, 50, 50)
        assert open_sized(source, tissue=0).shape == (2, 3, 256, 256)
        assert open_sized(source, 64, tissue=0).shape == (2, 3, 64, 64)
    with pytest.raises(ParameterError, match="the option context does not apply"):
        open_pool(path, context=2)
    again = open_pool(path, **pool.reading(), tissue=0)
    assert_array_equal(again[:], pool[:])
    path.rename(tmp_path / "a.svs")
    with pytest.raises(DataError, match=r"holds slides and no images; open_pool\(\"slides:FOL"):
        open_pool(tmp_path)
    assert open_pool(tmp_path / "a.svs", tissue=0).shape == (2, 3, 256, 256)


def test_a_folder_of_slides_is_scanned_by_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "in").mkdir()
    write_pyramid(tmp_path / "in" / "a.tif", stained(1200, 800, [(100, 100, 1000, 700)])[0])
    (tmp_path / "in" / "b.tif").write_bytes(b"")
    done = CliRunner().invoke(app, ["scan", "slides:in", "--quiet"])
    assert done.exit_code == 0, done.output
    n = len(SlideTiles("in"))
    assert f"{n} that can be read, as 3 × 256 × 256 uint8" in " ".join(done.output.split())
    assert "b.tif: an empty file" in done.output
    assert (tmp_path / "contact-sheet.png").exists()


# --- tissue ---------------------------------------------------------------------------------------


def shares_one_by_one(inside, tile):
    return np.array([part.mean() for part in crops(inside[..., None].astype(float), tile)[0]])


@pytest.mark.parametrize("n_levels", [1, 3])
@pytest.mark.parametrize("tile", [20, 50, 64])
@pytest.mark.parametrize("tissue", [0.1, 0.5, 1.0])
def test_tiles_hold_tissue(tmp_path, n_levels, tile, tissue):
    pixels, inside = stained()
    write_pyramid(tmp_path / "a.tif", pixels, n_levels)
    pool = SlideTiles(tmp_path / "a.tif", tile=tile, tissue=tissue)
    share = shares_one_by_one(inside, tile)
    chosen = np.isin([f"a.tif#L0@{x},{y}" for x, y in crops(pixels, tile)[1]], pool.ids)
    # Tissue is looked at in squares of up to an eighth of a tile: borders may be off by half.
    assert chosen[share >= min(tissue + 0.1, 1)].mean() > (0.9 if tissue == 1 else 0.999)
    assert not chosen[share < tissue - 0.1].any()
    assert chosen.any()
    assert not chosen.all()


def test_blank_slides_have_no_tissue(tmp_path):
    rng = np.random.default_rng(0)
    blank = np.clip(rng.normal((241, 239, 243), 4, (400, 600, 3)), 0, 255).astype(np.uint8)
    write_pyramid(tmp_path / "blank.tif", blank)
    with pytest.raises(DataError, match=r"no tile with enough tissue in 1 slide: blank\.tif; ti"):
        SlideTiles(tmp_path, tile=50)
    write_pyramid(tmp_path / "sound.tif", stained()[0])
    pool = SlideTiles(tmp_path, tile=50)
    assert set(pool.slides) == {"sound.tif"}
    assert pool.notes == ["no tile with enough tissue in 1 slide: blank.tif"]
    assert pool.broken == {}
    assert set(SlideTiles(tmp_path, tile=50, tissue=0).slides) == {"blank.tif", "sound.tif"}


def test_slides_without_glass_are_all_tissue(tmp_path):
    rng = np.random.default_rng(0)
    # Of two kinds, which Otsu's threshold would part.
    full = np.where(np.arange(600)[:, None] < 300, (225, 185, 210), (120, 60, 130))
    full = np.clip(full + rng.normal(0, 3, (400, 600, 3)), 0, 255).astype(np.uint8)
    write_pyramid(tmp_path / "a.tif", full)
    assert len(SlideTiles(tmp_path, tile=50)) == 96


def test_black_borders_are_no_tissue():
    pixels, inside = stained()
    # Nearly black, where saturation is noise.
    pixels[:, :40], inside[:, :40] = (6, 0, 3), False
    mask = find_tissue(pixels, colour=True)
    assert (mask == inside).mean() > 0.99
    assert not mask[:, :40].any()


def test_coloured_light_on_black_is_tissue():
    """Saturation is noise in the black."""
    _, inside = stained()
    noise = np.random.default_rng(0).integers(0, 9, (400, 600, 3))
    blue = (np.where(inside[..., None], (5, 10, 60), 0) + noise).astype(np.uint8)
    assert_array_equal(find_tissue(blue, colour=True), inside)


@pytest.mark.parametrize("gain", [1, 257])
def test_tissue_in_grey_is_dark_on_bright_or_bright_on_dark(gain):
    pixels, inside = stained()
    grey = pixels[:, :, 1:2]
    dark = (255 - grey.astype(np.uint16)) * gain
    dark = dark.astype(np.uint8) if gain == 1 else dark.astype(np.float32)
    assert (find_tissue(dark, colour=False)[:, :] == inside).mean() > 0.99
    if gain == 1:
        assert (find_tissue(grey, colour=False) == inside).mean() > 0.99


@pytest.mark.parametrize(
    ("offset", "noise", "dtype", "expected"),
    [
        (100, 4, np.float32, 0),  # a camera's offset
        (8, 2, np.uint8, 0),
        (245, 2, np.uint8, 0),
        (2000, 300, np.float32, 0.9),
        (120, 20, np.uint8, 0.99),
    ],
)
def test_grey_slides_without_contrast_are_glass_or_tissue(offset, noise, dtype, expected):
    values = np.random.default_rng(0).normal(offset, noise, (60, 80, 1))
    share = find_tissue(np.clip(values, 0, None).astype(dtype), colour=False).mean()
    assert share <= 0.02 if expected == 0 else share >= expected


@given(
    values=st.lists(st.integers(0, 255), min_size=2, max_size=60).filter(lambda v: len(set(v)) > 1)
)
def test_thresholds_part_as_well_as_any(values):
    """Otsu's threshold, by its definition: no other makes the variance within classes smaller."""
    values = np.array(values, dtype=float)

    def within(threshold):
        parts = [values[values <= threshold], values[values > threshold]]
        return sum(part.var() * len(part) for part in parts if len(part))

    best = min(within(value) for value in np.unique(values)[:-1])
    # In 256 bins values move by a part of one.
    assert within(otsu_threshold(values)) <= best + 2 * len(values) * (np.ptp(values) / 256) * 8


@given(data=st.data())
def test_shares_are_those_of_a_slow_loop(data):
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random((height, width)) < 0.5
    side = data.draw(st.integers(1, 5))
    x, y = np.arange(0, width, 2), np.arange(0, height, 3)
    expected = [[mask[j : j + side, i : i + side].mean() for i in x] for j in y]
    assert_allclose(tissue_shares(mask, x, y, side), expected)


@pytest.mark.parametrize("layout", ["tiles", "strips", "plain"])
@pytest.mark.parametrize("factor", [1, 3, 16, 1000])
@pytest.mark.parametrize("at_once", [200, 5000, 2**20])
def test_levels_are_made_smaller_by_means(tmp_path, monkeypatch, layout, factor, at_once):
    monkeypatch.setattr(levels, "_AT_ONCE", at_once)
    pixels = PIXELS[:100, :150]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **LAYOUTS[layout])
    small = read_reduced(tiff(tmp_path / "a.tif"), 0, factor, (0, 2))
    expected = [
        [pixels[y : y + factor, x : x + factor].mean(axis=(0, 1)) for x in range(0, 150, factor)]
        for y in range(0, 100, factor)
    ]
    assert small.dtype == np.uint8
    assert_allclose(small, np.array(expected)[..., [0, 2]], atol=0.51)


def test_large_slides_are_never_held_as_a_whole(tmp_path, monkeypatch):
    """108 MB that take no room on the disk, without a pyramid."""
    monkeypatch.setattr(files, "_KEPT", 2**20)
    side = 6000
    whole = tifffile.memmap(
        tmp_path / "a.tif", shape=(side, side, 3), dtype=np.uint8, photometric="rgb"
    )
    whole[3000:4000, 4000:6000] = (190, 60, 170)
    whole[:10] = 240
    del whole
    tracemalloc.start()
    pool = SlideTiles(tmp_path / "a.tif", tile=1000)
    tile = pool[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pool.ids.tolist() == ["a.tif#L0@4000,3000", "a.tif#L0@5000,3000"]
    assert_array_equal(tile[:, 5, 5], (190, 60, 170))
    assert peak < 70e6, peak


# --- more than 8 bits -----------------------------------------------------------------------------


def test_a_window_is_shared_by_all_slides(tmp_path):
    values = (coordinates(300, 200, 1) * 16.0).astype(np.uint16)
    for k, gain in enumerate((1, 2)):
        tifffile.imwrite(tmp_path / f"{k}.tif", values[..., 0] * gain, tile=(64, 64))
    pool = SlideTiles(tmp_path, tile=50, tissue=0)
    tiles = [crops(values * gain, 50)[0].astype(np.float32) for gain in (1, 2)]
    low, high = pool.window
    assert 0 <= low < 200
    assert 7500 < high <= values.max() * 2
    assert_array_equal(pool[:], to_bytes(np.concatenate(tiles), pool.window))
    assert pool.reading()["window"] == pool.window
    given_window = SlideTiles(tmp_path, tile=50, tissue=0, window=(100, 300))
    assert_array_equal(given_window[:], to_bytes(np.concatenate(tiles), (100, 300)))


def test_fluorescence_is_read_where_it_is_bright(tmp_path):
    _, inside = stained()
    rng = np.random.default_rng(0)
    values = np.where(inside, 3000, 100) + rng.normal(0, 5, inside.shape)
    tifffile.imwrite(tmp_path / "a.tif", values.astype(np.uint16), tile=(64, 64), compression=8)
    pool = SlideTiles(tmp_path, tile=50)
    share = shares_one_by_one(inside, 50)
    assert (share > 0.05).sum() >= len(pool) >= (share > 0.2).sum()


def test_values_that_are_not_finite_are_broken(tmp_path):
    values = coordinates(300, 200, 1)[..., 0].astype(np.float32)
    values[10, 60] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(64, 64))
    pool = SlideTiles(tmp_path, tile=50, tissue=0)
    pool[:]
    assert pool.broken == {"a.tif#L0@50,0": "values that are not finite"}


def test_slides_of_different_channels_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "b.ome.tif", PIXELS[..., :2].transpose(2, 0, 1), metadata={"axes": "CYX"}
    )
    with pytest.raises(DataError, match=r"different numbers of channels, \[2, 3\].*channels="):
        SlideTiles(tmp_path, tile=100, tissue=0)
    pool = SlideTiles(tmp_path, tile=100, tissue=0, channels=(1,))
    assert_array_equal(pool[:24], crops(PIXELS[..., 1:2], 100)[0])
    assert_array_equal(pool[24:], pool[:24])


# --- what is broken -------------------------------------------------------------------------------


def damage(path, share=0.5):
    """Cut the pixels short: those of later tiles are gone, and headers are whole."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "an empty file"),
    "text": (lambda path: path.write_text("no slide at all"), "not a TIFF file"),
    "header": (lambda path: path.write_bytes(b"II*\0\xff\xff\xff\xff"), ""),
    "small": (
        lambda path: tifffile.imwrite(path, PIXELS[:90], photometric="rgb"),
        "600 x 90 pixels on level 0, less than a tile of 100 x 100",
    ),
    "stack": (
        lambda path: tifffile.imwrite(path, np.zeros((4, 200, 200), np.uint8), imagej=True,
                                      metadata={"axes": "ZYX"}),
        "axes ZYX of lengths (4, 200, 200); expected one plane",
    ),
    "palette": (
        lambda path: Image.fromarray(PIXELS).convert("P").save(path),
        "colours of kind PALETTE",
    ),
    "bits": (lambda path: Image.fromarray(PIXELS).convert("1").save(path), "1 bits"),
    "complex": (
        lambda path: tifffile.imwrite(path, np.zeros((200, 200), np.complex64)),
        "complex64",
    ),
    "channels": (
        lambda path: tifffile.imwrite(path, np.zeros((5, 200, 200), np.uint8), imagej=True,
                                      metadata={"axes": "CYX"}),
        "5 channels",
    ),
    "unknown": (
        lambda path: (write_pyramid(path, PIXELS, 1), retag(path, Compression=60_123)),
        "60123",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_slides_are_left_out_with_the_reason(tmp_path, kind):
    write, reason = BROKEN[kind]
    tifffile.imwrite(tmp_path / "good.tif", PIXELS, photometric="rgb")
    write(tmp_path / "bad.tif")
    pool = SlideTiles(tmp_path, tile=100, tissue=0)
    assert set(pool.slides) == {"good.tif"}
    assert list(pool.broken) == ["bad.tif"]
    assert reason in pool.broken["bad.tif"]
    assert pool.broken["bad.tif"]
    assert str(tmp_path) not in pool.broken["bad.tif"]
    with pytest.raises(DataError, match=r"^bad\.tif cannot be read: "):
        SlideTiles(tmp_path, tile=100, tissue=0, strict=True)
    with pytest.raises(DataError, match=r"none of 1 slides in .* can be read: bad\.tif \("):
        SlideTiles(tmp_path / "bad.tif", tile=100, tissue=0)


def test_large_strips_that_cannot_be_parted_are_broken(tmp_path, monkeypatch):
    monkeypatch.setattr("aift_sklearn.pools.slide_tiff._LARGEST", 600 * 400 * 3 - 1)
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", compression=8, rowsperstrip=400)
    with pytest.raises(DataError, match=r"strips of 600 x 400 pixels.*store it in tiles first"):
        SlideTiles(tmp_path)
    # Of what is not compressed any part can be read.
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb")
    assert len(SlideTiles(tmp_path, tile=100, tissue=0)) == 24


@pytest.mark.parametrize("layout", ["tiles", "strips", "plain"])
def test_slides_that_are_cut_short_give_what_is_left(tmp_path, layout):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", **LAYOUTS[layout])
    damage(path)
    pool = SlideTiles(path, tile=100, tissue=0)
    X, expected = pool[:], crops(PIXELS, 100)[0]
    lost = np.isin(pool.ids, list(pool.broken))
    assert lost.any()
    assert not lost[:6].any()
    assert lost[-6:].all()
    assert set(pool.broken.values()) == {"the file is cut short"}
    assert_array_equal(X[~lost], expected[~lost])
    assert not X[lost].any()
    assert len(pool.sound()) == (~lost).sum()
    with pytest.raises(DataError, match=r"a\.tif#L0@.* cannot be read: the file is cut short"):
        SlideTiles(path, tile=100, tissue=0, strict=True)[:]
    with pytest.raises(DataError, match=r"no tissue .* \(the file is cut short\); tissue=0 does"):
        SlideTiles(path, tile=100)


def test_damaged_tiles_are_broken_and_mended(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", **LAYOUTS["tiles"])
    sound = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    path.write_bytes(sound[:start] + b"\xff" * 20 + sound[start + 20 :])
    pool = SlideTiles(path, tile=100, tissue=0)
    pool[:]
    assert list(pool.broken) == ["a.tif#L0@0,0"]
    path.write_bytes(sound)
    assert_array_equal(pickle.loads(pickle.dumps(pool))[:], crops(PIXELS, 100)[0])
    assert_array_equal(pool[:], crops(PIXELS, 100)[0])
    assert pool.broken == {}


def test_slides_that_vanish_are_broken(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb")
    pool = pickle.loads(pickle.dumps(SlideTiles(tmp_path, tile=200, tissue=0)))
    (tmp_path / "a.tif").unlink()
    assert not pool[:].any()
    assert set(pool.broken.values()) == {"no such file"}


def test_openslide_goes_on_after_an_error(tmp_path):
    openslide = pytest.importorskip("openslide")
    path = tmp_path / "a.tif"
    write_jpeg(path, stained()[0], 1)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    sound = path.read_bytes()
    path.write_bytes(sound[:start] + b"\xff" * 40 + sound[start + 40 :])
    opened = VendorSlide(path)
    expected = opened.read(0, 128, 128, 64, 64, (0, 1, 2))
    for _ in range(2):
        with pytest.raises(openslide.OpenSlideError):
            opened.read(0, 0, 0, 64, 64, (0, 1, 2))
        assert_array_equal(opened.read(0, 128, 128, 64, 64, (0, 1, 2)), expected)
        # Not by a handle for each tile.
        assert opened._handle.read_region((128, 128), 0, (64, 64)).size == (64, 64)


def test_what_was_not_scanned_has_the_background_of_the_slide(tmp_path, monkeypatch):
    """A scanner's format as OpenSlide gives it: transparent, with levels of odd scales."""
    clear = np.dstack([PIXELS, np.full((400, 600), 255, np.uint8)])
    clear[:, :200, 3] = 0
    asked = []

    class Handle:
        level_dimensions, level_downsamples = ((600, 400), (200, 133)), (1.0, 3.0037)
        properties = MappingProxyType(
            {"openslide.background-color": "C0FFEE", "openslide.mpp-x": "0.25"}
        )

        def __init__(self, path):
            assert path.name == "a.mrxs"

        def read_region(self, location, level, size):
            asked.append((location, level))
            (x, y), (width, height) = location, size
            return Image.fromarray(clear[y : y + height, x : x + width])

    fake = SimpleNamespace(
        OpenSlide=Handle, OpenSlideError=OSError, OpenSlideUnsupportedFormatError=KeyError
    )
    monkeypatch.setitem(sys.modules, "openslide", fake)
    (tmp_path / "a.mrxs").write_bytes(b"0")
    X = SlideTiles(tmp_path, tile=100, tissue=0)[:]
    expected = PIXELS.copy()
    expected[:, :200] = (0xC0, 0xFF, 0xEE)
    assert_array_equal(X, crops(expected, 100)[0])
    pool = SlideTiles(tmp_path, tile=60, mpp=0.75, tissue=0)
    assert pool.ids.tolist()[:3] == [f"a.mrxs#0.75mpp@{x},0" for x in (0, 180, 360)]
    asked.clear()
    pool[4]
    assert asked == [((180, 180), 1)]


def test_sparse_tiles_are_empty(tmp_path):
    tiles = [PIXELS[:64, :64], *[None] * 5]
    tifffile.imwrite(
        tmp_path / "a.tif", iter(tiles), shape=(128, 192, 3), dtype=np.uint8, photometric="rgb",
        tile=(64, 64), compression=8,
    )  # fmt: skip
    X = SlideTiles(tmp_path, tile=64, tissue=0)[:]
    assert_array_equal(X[0], PIXELS[:64, :64].transpose(2, 0, 1))
    assert not X[1:].any()


# --- what is not installed ------------------------------------------------------------------------


def test_openslide_is_asked_for_where_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    (tmp_path / "a.ndpi").write_bytes(b"0")
    with pytest.raises(
        MissingDependencyError, match=r"a\.ndpi needs openslide-python.*\.\[slides\]"
    ):
        SlideTiles(tmp_path)


def test_formats_that_openslide_does_not_know_are_broken(tmp_path):
    pytest.importorskip("openslide")
    (tmp_path / "a.mrxs").write_bytes(b"0")
    with pytest.raises(DataError, match="no slide of a format that OpenSlide reads"):
        SlideTiles(tmp_path)


@pytest.mark.skipif(HAS_CODECS, reason="imagecodecs is installed")
@pytest.mark.parametrize("kind", ["subifds", "striped"])
def test_codecs_are_asked_for_where_openslide_does_not_help(tmp_path, kind):
    """OpenSlide reads no strips, and of SubIFDs the first level only."""
    if kind == "subifds":
        write_pyramid(tmp_path / "a.tif", PIXELS)
    else:
        tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", compression=8)
    retag(tmp_path / "a.tif", Compression=5)
    with pytest.raises(
        MissingDependencyError, match=r"a\.tif \(LZW\) needs imagecodecs.*\.\[slides\]"
    ):
        SlideTiles(tmp_path)


def test_tifffile_is_asked_for(slide, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(MissingDependencyError, match=r"needs tifffile.*\.\[pools\]"):
        SlideTiles(slide)


def test_folders_without_slides_say_so(tmp_path):
    with pytest.raises(DataError, match=r"there are no slides in .*expected \.tif"):
        SlideTiles(tmp_path)
    with pytest.raises(DataError, match="there is no slide or folder"):
        SlideTiles(tmp_path / "none")


# --- pictures -------------------------------------------------------------------------------------


def test_slides_are_drawn_with_their_tiles(tmp_path):
    pixels, inside = stained()
    write_pyramid(tmp_path / "a.tif", pixels)
    pool = SlideTiles(tmp_path / "a.tif", tile=100)
    drawn = np.asarray(Image.open(draw_slide(pool[[True] + [False] * (len(pool) - 1)],
                                             tmp_path / "a.png", size=300)))  # fmt: skip
    assert drawn.shape == (200, 300, 3)
    x, y = pool.corners[0] // 2
    assert_array_equal(drawn[y, x : x + 50], [(0, 90, 50)] * 50)
    assert_array_equal(drawn[y : y + 50, x + 49], [(0, 90, 50)] * 50)
    small = pixels.reshape(200, 2, 300, 2, 3).mean(axis=(1, 3))
    # A pyramid of every second pixel is not that of means.
    part = np.s_[y + 2 : y + 48, x + 2 : x + 48]
    assert np.abs(drawn[part] - small[part]).mean() < 6
    pale = np.s_[100:140, 250:260]
    assert inside[::2, ::2][pale].any()
    assert drawn[pale].mean() > small[pale].mean() + 20


def test_dark_slides_are_drawn_with_bright_lines(tmp_path):
    values = np.zeros((400, 600, 2), np.uint16)
    values[100:200, 100:200] = 4000
    tifffile.imwrite(tmp_path / "a.ome.tif", values.transpose(2, 0, 1), metadata={"axes": "CYX"})
    pool = SlideTiles(tmp_path / "a.ome.tif", tile=100)
    drawn = np.asarray(Image.open(draw_slide(pool, tmp_path / "a.png")))
    assert drawn.shape == (400, 600, 3)
    assert_array_equal(drawn[100, 100:200], [(255, 200, 60)] * 100)
    assert drawn[150, 150].min() > 200


def test_the_slide_to_draw_has_to_be_known(tmp_path):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", PIXELS, photometric="rgb")
    pool = SlideTiles(tmp_path, tile=200, tissue=0)
    with pytest.raises(ParameterError, match=r"tiles of 2 slides: a\.tif, b\.tif\. Pass slide="):
        draw_slide(pool, tmp_path / "a.png")
    with pytest.raises(ParameterError, match=r"slide='c\.tif' is not in the pool; it has a\.tif"):
        draw_slide(pool, tmp_path / "a.png", "c.tif")
    with pytest.raises(DataTypeError, match="ArrayPool; expected SlideTiles"):
        draw_slide(ArrayPool(np.zeros((2, 8, 8, 3), np.uint8)), tmp_path / "a.png")
    assert draw_slide(pool, tmp_path / "a.png", "b.tif").exists()
