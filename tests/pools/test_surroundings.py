"""What people see around a candidate."""

import shutil

import numpy as np
import pytest
from PIL import Image

from aift_sklearn.errors import DataError
from aift_sklearn.pools import ArrayPool, BoxedImages, DicomFolder, ImageFolder, ImageTable
from aift_sklearn.pools.decoding import at_most


def ramp(width, height):
    """An image whose red tells x and whose green tells y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def lies_at(found, candidate):
    """Whether the box marks what the candidate shows: compared at the box's middle."""
    xmin, ymin, xmax, ymax = found.box
    _, height, width = found.pixels.shape
    middle = found.pixels[:, int((ymin + ymax) / 2 * height), int((xmin + xmax) / 2 * width)]
    centre = candidate[:, candidate.shape[1] // 2, candidate.shape[2] // 2]
    return np.abs(middle.astype(int) - centre.astype(int)).max() <= 4


def test_of_an_image_whose_middle_square_is_the_candidate(tmp_path):
    Image.fromarray(ramp(200, 100)).save(tmp_path / "a.png")
    pool = ImageFolder(tmp_path, size=32)
    found = pool.surroundings("a.png")
    assert found.pixels.shape == (3, 100, 200)
    assert found.box == (0.25, 0.0, 0.75, 1.0)
    assert lies_at(found, pool[0])
    assert pool.without([]).surroundings("a.png").box == found.box


def test_none_of_an_image_that_is_the_candidate(tmp_path):
    Image.fromarray(ramp(32, 32)).save(tmp_path / "a.png")
    assert ImageFolder(tmp_path).surroundings("a.png") is None
    assert ArrayPool(np.zeros((2, 3, 8, 8), np.uint8)).surroundings("000001") is None


@pytest.mark.parametrize("box", [(100, 60, 120, 80), (0, 0, 20, 12), (190, 90, 200, 100)])
def test_of_a_box_wherever_it_lies(tmp_path, box):
    Image.fromarray(ramp(200, 100)).save(tmp_path / "a.png")
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), ([each] for each in box), strict=True))
    pool = BoxedImages(tmp_path, {"image": ["a.png"], **corners}, size=16, context=1)
    found = pool.surroundings("a.png#1")
    assert found.pixels.shape == (3, 100, 200)
    inner = (box[0] / 200, box[1] / 100, box[2] / 200, box[3] / 100)
    assert found.box[0] <= inner[0] + 1e-9
    assert found.box[1] <= inner[1] + 1e-9
    assert found.box[2] >= inner[2] - 1e-9
    assert found.box[3] >= inner[3] - 1e-9


def test_of_a_box_in_a_large_image_is_a_part(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 1200), np.uint8)).save(
        tmp_path / "a.png"
    )
    points = {"image": ["a.png", "a.png"], "x": [600, 5], "y": [450, 890]}
    pool = BoxedImages(tmp_path, points, size=40, field=40)
    for name, candidate in zip(pool.ids, pool[:], strict=True):
        found = pool.surroundings(name)
        _, height, width = found.pixels.shape
        assert (height, width) == (256, 256)
        xmin, ymin, xmax, ymax = found.box
        assert 0 <= xmin < xmax <= 1
        assert 0 <= ymin < ymax <= 1
        if name.endswith("#1"):
            rows = slice(round(ymin * height), round(ymax * height))
            columns = slice(round(xmin * width), round(xmax * width))
            cut = found.pixels[:, rows, columns]
            assert cut.shape == candidate.shape
            assert np.abs(cut.astype(int) - candidate.astype(int)).max() <= 1


def test_of_a_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    Image.fromarray(ramp(90, 60)).save(tmp_path / "a.png")
    bytes_ = (tmp_path / "a.png").read_bytes()
    pyarrow.parquet.write_table(
        pyarrow.table({"image": [bytes_], "id": ["a"]}), tmp_path / "t.parquet"
    )
    pool = ImageTable(tmp_path / "t.parquet", size=30)
    found = pool.surroundings("a")
    assert found.pixels.shape == (3, 60, 90)
    assert lies_at(found, pool[0])


def test_of_a_dicom_file(tmp_path):
    data = pytest.importorskip("pydicom.data")
    path = data.get_testdata_file("CT_small.dcm", download=False)
    shutil.copy(path, tmp_path / "a.dcm")
    pool = DicomFolder(tmp_path, size=32, salt="of these tests only")
    found = pool.surroundings(pool.ids[0])
    assert found.pixels.shape == (1, 128, 128)
    assert found.box == (0, 0, 1, 1)
    assert np.abs(found.pixels[0].mean() - pool[0].mean()) < 3


def test_of_a_tile(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    from aift_sklearn.pools import SlideTiles

    tifffile.imwrite(tmp_path / "a.tif", ramp(250, 200), tile=(64, 64), photometric="rgb")
    pool = SlideTiles(tmp_path / "a.tif", tile=50, tissue=0)
    for name, candidate in zip(pool.ids, pool[:], strict=True):
        found = pool.surroundings(name)
        assert lies_at(found, candidate)
        xmin, ymin, xmax, ymax = found.box
        _, height, width = found.pixels.shape
        rows = slice(round(ymin * height), round(ymax * height))
        columns = slice(round(xmin * width), round(xmax * width))
        np.testing.assert_array_equal(found.pixels[:, rows, columns], candidate)


def test_what_is_gone_is_told(tmp_path):
    Image.fromarray(ramp(200, 100)).save(tmp_path / "a.png")
    pool = ImageFolder(tmp_path, size=32)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        pool.surroundings("a.png")
    with pytest.raises(DataError, match="not in the pool"):
        pool.surroundings("../b.png")


def test_large_images_are_made_smaller():
    assert at_most(np.zeros((1, 4000, 1000), np.uint8)).shape == (1, 1600, 400)
    assert at_most(np.zeros((3, 5, 1601), np.uint8)).shape == (3, 5, 1600)
