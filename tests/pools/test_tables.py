"""Tables with a column of images as pools: the same as their images in a folder."""

import collections
import copy
import io
import json
import pickle
import shutil
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pictures import deep_png, picture, save
from PIL import Image

from aift_sklearn.errors import DataError, DataTypeError, MissingDependencyError, ParameterError
from aift_sklearn.pools import ImageList, ImageTable, open_pool, open_sized
from aift_sklearn.pools.image_cache import ImageCache
from aift_sklearn.pools.table_parts import RowGroup

N = 11
PICTURES = [picture(k, size=(20, 20)) for k in range(N)]
PIXELS = np.stack([np.asarray(image).transpose(2, 0, 1) for image in PICTURES])


def encoded(image, kind="png", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PNG = [encoded(image) for image in PICTURES]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TOLD = {
    b"huggingface": json.dumps(
        {"info": {"features": {"image": {"_type": "Image"}, "mask": {"_type": "Value"}}}}
    ).encode()
}


def write(path, columns, rows_per_group=4, **options):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows_per_group, **options)
    return path


def as_structs(images):
    return pa.array([{"bytes": one, "path": None} for one in images], STRUCT)


@pytest.fixture
def cells(tmp_path):
    """Three row groups."""
    return write(tmp_path / "cells.parquet", {"image": pa.array(PNG), "label": range(N)})


@pytest.fixture
def read_groups(monkeypatch):
    """Counts how often each row group is read, with the columns that were."""
    found = collections.Counter()
    read = RowGroup.read

    def count(part, columns):
        found[part.number, *columns] += 1
        return read(part, columns)

    monkeypatch.setattr(RowGroup, "read", count)
    return found


# --- kinds of tables ------------------------------------------------------------------------------


def test_a_table_holds_its_images(cells):
    pool = ImageTable(cells)
    assert (pool.shape, pool.dtype) == ((N, 3, 20, 20), np.uint8)
    assert_array_equal(pool[:], PIXELS)
    assert pool.ids.tolist() == [f"cells.parquet#{k:06d}" for k in range(N)]
    assert (pool.groups, pool.broken, pool.notes) == (None, {}, [])
    assert pool.original_sizes == [(20, 20)] * N
    assert f"ImageTable of {cells}: {N} candidates, 3 × 20 × 20 uint8" in repr(pool)


KINDS = {
    "bytes": pa.array(PNG),
    "large bytes": pa.array(PNG, pa.large_binary()),
    "views": pa.array(PNG, pa.binary_view()),
    "structs": as_structs(PNG),
    "chunks": pa.chunked_array([PNG[:3], PNG[3:3], PNG[3:]]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows_per_group", [1, 4, 100])
def test_images_are_bytes_or_structs(tmp_path, kind, rows_per_group):
    file = write(tmp_path / "a.parquet", {"x": KINDS[kind]}, rows_per_group)
    assert_array_equal(ImageTable(file)[:], PIXELS)


def test_a_folder_of_files_is_one_table(tmp_path):
    # In another order than their names, and with columns that do not matter.
    for k in (2, 0, 1):
        columns = {"image": pa.array(PNG[4 * k : 4 * k + 4])}
        write(tmp_path / f"{k}.parquet", columns | {f"n{k}": [k] * len(columns["image"])}, 3)
    (tmp_path / "README.md").write_text("Cells.")
    (tmp_path / ".hidden.parquet").write_bytes(b"x")
    pool = ImageTable(tmp_path)
    assert_array_equal(pool[:], PIXELS)
    assert pool.ids[[0, 3, 4, 10]].tolist() == [
        "0.parquet#000000", "0.parquet#000003", "1.parquet#000000", "2.parquet#000002"
    ]  # fmt: skip
    assert pool.notes == ["files left out, no tables: 1 .md"]


def test_images_are_treated_as_in_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1, size=(30, 24)).save(tmp_path / "turned.jpg", exif=exif)
    picture(2, size=(24, 24), mode="L").save(tmp_path / "grey.png")
    picture(3, size=(50, 40)).convert("CMYK").save(tmp_path / "cmyk.jpg")
    deep_png(tmp_path / "deep.png", rng.integers(900, 4000, (32, 32)).astype(np.uint16))
    deep_png(tmp_path / "deeper.png", rng.integers(0, 3000, (32, 32)).astype(np.uint16))
    Image.fromarray(rng.random((32, 32), np.float32)).save(tmp_path / "float.tif")
    files = sorted(tmp_path.iterdir())
    table = {"id": [file.name for file in files], "image": [file.read_bytes() for file in files]}
    path = write(tmp_path / "a.parquet", table, 2)
    for options in ({}, {"grey": True}, {"grey": False}, {"window": (0, 5000)}):
        expected = ImageList(files, 16, ids=table["id"], **options)
        pool = ImageTable(path, 16, **options)
        assert_array_equal(pool[:], expected[:])
        assert (pool.window, pool.grey) == (expected.window, expected.grey)
        assert pool.reading() == expected.reading()
        assert pool.original_sizes == expected.original_sizes
        assert pool.notes == [*expected.notes, "ids are those of the column 'id'"]
    with pytest.raises(DataError, match=r"different sizes .*Pass size=64"):
        ImageTable(path)


def test_grey_tables_have_one_channel(tmp_path):
    images = [encoded(picture(k, size=(9, 9), mode="L")) for k in range(3)]
    pool = ImageTable(write(tmp_path / "a.parquet", {"image": images}))
    assert pool.shape == (3, 1, 9, 9)
    assert_array_equal(pool[1], np.asarray(picture(1, (9, 9), "L"))[None])


# --- columns --------------------------------------------------------------------------------------


def test_the_column_of_images_is_found_or_named(tmp_path):
    other = [encoded(picture(90 + k, size=(20, 20))) for k in range(N)]
    columns = {"mask": pa.array(other), "image": as_structs(PNG), "label": range(N)}
    two = write(tmp_path / "two.parquet", columns)
    with pytest.raises(ParameterError, match=r"2 columns that could be the images: mask, image; "):
        ImageTable(two)
    assert_array_equal(ImageTable(two, column="image")[:], PIXELS)
    assert_array_equal(
        ImageTable(two, column="mask")[0], np.asarray(picture(90, (20, 20))).transpose(2, 0, 1)
    )
    told = write(tmp_path / "told.parquet", pa.table(columns).replace_schema_metadata(TOLD))
    assert_array_equal(ImageTable(told)[:], PIXELS)
    for metadata in (
        b"{",
        b"[]",
        b'{"info": 3}',
        b'{"info": {"features": {"gone": {"_type": "Image"}}}}',
    ):
        table = pa.table({"x": PNG}).replace_schema_metadata({b"huggingface": metadata})
        assert_array_equal(ImageTable(write(tmp_path / "odd.parquet", table))[:], PIXELS)
    with pytest.raises(
        ParameterError, match=r"column='img' is no column of .*, which has mask, im"
    ):
        ImageTable(two, column="img")
    with pytest.raises(DataTypeError, match=r"'label' of .* is of type int64; expected bytes"):
        ImageTable(two, column="label")
    none = write(tmp_path / "none.parquet", {"file": ["a.png"], "label": [3]})
    with pytest.raises(
        DataError, match=r"no column .* holds images: file \(string\), label \(int64\)"
    ):
        ImageTable(none)


@pytest.mark.parametrize("name", ["id", "ids", "ID"])
@pytest.mark.parametrize("group", ["group", "groups", "Patient"])
def test_ids_and_groups_are_found(tmp_path, name, group):
    ids, groups = [f"c{k}" for k in range(N)], [k // 2 for k in range(N)]
    columns = {"image": PNG, name: ids, group: pa.array(groups).dictionary_encode()}
    file = write(tmp_path / "a.parquet", columns)
    pool = ImageTable(file)
    assert (pool.ids.tolist(), pool.groups.tolist()) == (ids, [str(g) for g in groups])
    assert pool.notes == [
        f"ids are those of the column {name!r}", f"groups are those of the column {group!r}"
    ]  # fmt: skip
    plain = ImageTable(file, id_column=None, group_column=None)
    assert (plain.ids[1], plain.groups, plain.notes) == ("a.parquet#000001", None, [])
    # The first of several counts.
    both = write(tmp_path / "b.parquet", columns | {name.swapcase(): PNG, group.upper(): PNG})
    assert ImageTable(both, column="image").ids.tolist() == ids
    swapped = ImageTable(file, group_column=name)
    assert swapped.groups.tolist() == ids


def test_ids_and_groups_may_be_named(tmp_path):
    columns = {"image": PNG, "slide": ["a", "b"] * 5 + ["b"], "number": range(N), "id": [0.5] * N}
    file = write(tmp_path / "a.parquet", columns)
    pool = ImageTable(file, id_column="number", group_column="slide")
    assert pool.ids.tolist() == [str(k) for k in range(N)]
    assert pool.groups.tolist() == columns["slide"]
    # Numbers with a point are no names.
    assert ImageTable(file).ids[0] == "a.parquet#000000"
    with pytest.raises(
        DataTypeError, match=r"'id' of .* is of type double; expected text or whole"
    ):
        ImageTable(file, id_column="id")
    with pytest.raises(ParameterError, match="group_column='patient' is no column"):
        ImageTable(file, group_column="patient")
    with pytest.raises(DataError, match=r"'slide' gives '[ab]' to several rows.*id_column=None"):
        ImageTable(file, id_column="slide")
    some = write(tmp_path / "b.parquet", {"image": PNG[:2], "patient": ["a", None]})
    with pytest.raises(DataError, match=r"'patient' has no value for row b\.parquet#000001"):
        ImageTable(some)
    assert len(ImageTable(some, group_column=None)) == 2


# --- images beside the table ----------------------------------------------------------------------


def test_images_without_bytes_are_read_from_their_paths(tmp_path):
    for k in range(N):
        save(tmp_path / "data" / "images" / f"{k}.png", seed=k, size=(20, 20))
    save(tmp_path / "secret.png", size=(20, 20))
    names = [f"images/{k}.png" for k in range(N)]
    names[3], names[4] = str(tmp_path / "data" / "images" / "3.png"), "x/../images/4.png"
    outside = ["../secret.png", str(tmp_path / "secret.png"), "images/../../secret.png"]
    rows = [{"bytes": None, "path": name} for name in (*names, *outside, "gone.png", None)]
    rows[2] = {"bytes": PNG[2], "path": "/never/read.png"}
    file = write(tmp_path / "data" / "a.parquet", {"image": pa.array(rows, STRUCT)})
    pool = ImageTable(file)
    assert_array_equal(pool[:], PIXELS)
    said = list(pool.broken.values())
    assert sorted(pool.broken) == [f"a.parquet#{k:06d}" for k in range(N, N + 5)]
    assert all("may lie outside of" in reason for reason in said[:3])
    assert said[3:] == ["no such file", "no image in its cell"]
    with pytest.raises(DataError, match=r"a\.parquet#000011 cannot be read: its file '\.\./secret"):
        ImageTable(file, strict=True)
    shutil.move(file, tmp_path / "a.parquet")
    moved = ImageTable(tmp_path / "a.parquet", images=tmp_path / "data")
    assert_array_equal(moved[:], PIXELS)


# --- Hugging Face datasets ------------------------------------------------------------------------


@pytest.fixture
def datasets():
    found = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    found.disable_progress_bars()
    return found


@pytest.fixture
def dataset(datasets):
    columns = {"image": PICTURES, "label": ["a", "b"] * 5 + ["a"]}
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"])
    )
    return datasets.Dataset.from_dict(columns, features)


@pytest.mark.parametrize("n_shards", [1, 3])
def test_saved_datasets_are_tables(dataset, tmp_path, n_shards):
    dataset.save_to_disk(tmp_path / "saved", num_shards=n_shards)
    for pool in (ImageTable(tmp_path / "saved"), open_pool(tmp_path / "saved")):
        assert_array_equal(pool[:], PIXELS)
        assert pool.ids.tolist() == [f"{k:06d}" for k in range(N)]
        assert pool.groups is None
    order = [7, 2, 9, 0]
    dataset.select(order).save_to_disk(tmp_path / "some")
    assert_array_equal(ImageTable(tmp_path / "some")[:], PIXELS[order])


def test_datasets_in_memory_are_tables(dataset):
    pool = ImageTable(dataset)
    assert_array_equal(pool[:], PIXELS)
    assert pool.ids[10] == "000010"
    order = [7, 2, 9, 0, 10]
    named = dataset.add_column("id", [f"c{k}" for k in range(N)])
    # Whatever format it is to be read in.
    pool = ImageTable(named.select(order).with_format("numpy"))
    assert_array_equal(pool[::-1], PIXELS[order[::-1]])
    assert pool.ids.tolist() == [f"c{k}" for k in order]
    for make in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        assert_array_equal(make(pool)[:], PIXELS[order])


def test_datasets_are_read_a_part_at_a_time(dataset, monkeypatch):
    monkeypatch.setattr("aift_sklearn.pools.table_parts._ROWS", 3)
    pool = ImageTable(dataset)
    assert [(part.first, part.n_rows) for part in pool._parts] == [(0, 3), (3, 3), (6, 3), (9, 2)]
    assert_array_equal(pool[[10, 0, 5, 2, 9]], PIXELS[[10, 0, 5, 2, 9]])


def test_parquet_of_datasets_is_a_table(dataset, tmp_path):
    dataset.to_parquet(tmp_path / "a.parquet")
    assert_array_equal(ImageTable(tmp_path / "a.parquet")[:], PIXELS)


def test_datasets_of_files_need_their_folder(datasets, tmp_path):
    files = [save(tmp_path / f"{k}.png", seed=k, size=(20, 20)) for k in range(3)]
    columns = {"image": [str(file) for file in files]}
    dataset = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    with pytest.raises(DataError, match=r"only the name of its file.*pass images="):
        ImageTable(dataset)
    assert_array_equal(ImageTable(dataset, images=tmp_path)[:], PIXELS[:3])


def test_splits_are_asked_for(datasets, dataset, tmp_path):
    both = datasets.DatasetDict(train=dataset.select(range(7)), test=dataset.select(range(7, N)))
    both.save_to_disk(tmp_path / "saved")
    for source in (tmp_path / "saved", both):
        with pytest.raises(ParameterError, match=r"made of the splits train, test; pass split='tr"):
            ImageTable(source)
        with pytest.raises(ParameterError, match=r"split='val' is none of .*one of train, test"):
            ImageTable(source, split="val")
        assert_array_equal(ImageTable(source, split="test")[:], PIXELS[7:])
    assert_array_equal(open_pool(tmp_path / "saved" / "train")[:], PIXELS[:7])
    assert_array_equal(open_pool(tmp_path / "saved", split="train")[:], PIXELS[:7])
    with pytest.raises(ParameterError, match="not made of splits; leave it out"):
        ImageTable(tmp_path / "saved" / "train", split="train")
    with pytest.raises(ParameterError, match="not made of splits; leave it out"):
        ImageTable(dataset, split="train")
    with pytest.raises(DataTypeError, match="of type IterableDataset; expected a path"):
        ImageTable(dataset.to_iterable_dataset())


@pytest.mark.parametrize("split", ["..", "a/../../x", "/etc"])
def test_splits_outside_of_the_folder_are_refused(tmp_path, split):
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": [split]}))
    with pytest.raises(DataError, match=r"lists the split .*expected a name"):
        ImageTable(tmp_path, split=split)


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001-0a1b2c.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("default/data/train-00000-of-00001.parquet", "default/data/test-00000-of-00001.parquet"),
    ],
)
def test_splits_of_parquet_files_are_asked_for(tmp_path, names):
    write(tmp_path / names[0], {"image": PNG[:7]})
    write(tmp_path / names[1], {"image": PNG[7:]})
    with pytest.raises(ParameterError, match="made of the splits test, train; pass split='test'"):
        ImageTable(tmp_path)
    assert_array_equal(ImageTable(tmp_path, split="train")[:], PIXELS[:7])
    pool = ImageTable(tmp_path, split="test")
    assert_array_equal(pool[:], PIXELS[7:])
    assert pool.ids[0] == f"{names[1]}#000000"


def test_subfolders_without_splits_are_one_table(tmp_path):
    write(tmp_path / "patient1" / "0.parquet", {"image": PNG[:7]})
    write(tmp_path / "patient2" / "0.parquet", {"image": PNG[7:]})
    assert_array_equal(ImageTable(tmp_path)[:], PIXELS)
    with pytest.raises(ParameterError, match=r"split='train' is none of .*expected one of none"):
        ImageTable(tmp_path, split="train")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("{", "state.json cannot be read"),
        ("[]", "no JSON object"),
        ("{}", "lists no files"),
        ('{"_data_files": []}', "without a file"),
        ('{"_data_files": [{"filename": "../a.arrow"}]}', "may lie outside of the folder"),
        ('{"_data_files": [{"filename": "/a.arrow"}]}', "may lie outside of the folder"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "no such file"),
        ('{"_data_files": [{"filename": "text.arrow"}]}', r"text\.arrow: "),
        ('{"_data_files": [{"filename": "a"}], "_indices_data_files": [{}]}', "an old release"),
    ],
)
def test_damaged_datasets_are_refused(tmp_path, state, message):
    (tmp_path / "state.json").write_text(state)
    (tmp_path / "text.arrow").write_text("no table at all, but text")
    with pytest.raises(DataError, match=message):
        ImageTable(tmp_path)


# --- what is broken -------------------------------------------------------------------------------


def test_images_that_cannot_be_decoded_are_broken(tmp_path):
    jpeg = encoded(picture(0, size=(64, 64)), "jpeg")
    whole = encoded(picture(0, size=(64, 64)))
    images = [jpeg, jpeg[: len(jpeg) // 2], b"", b"text", None, whole[:20], whole]
    file = write(tmp_path / "a.parquet", {"id": list("abcdefg"), "image": images}, 2)
    pool = ImageTable(file, size=16)
    assert pool.ids.tolist() == ["a", "b", "g"]
    assert pool.broken["c"] == "an empty file"
    assert pool.broken["d"].startswith("no image of the formats that are read: PNG")
    assert pool.broken["e"] == "no image in its cell"
    assert set(pool.broken) == set("cdef")
    X = pool[:]
    assert set(pool.broken) == set("bcdef")
    assert "truncated" in pool.broken["b"]
    assert (X[[0, 2]].any(axis=(1, 2, 3)).all(), X[1].any()) == (True, False)
    assert pool.sound().ids.tolist() == ["a", "g"]
    with pytest.raises(DataError, match="c cannot be read: an empty file"):
        ImageTable(file, size=16, strict=True)
    first = write(tmp_path / "b.parquet", {"id": ["a", "b"], "image": images[:2]})
    with pytest.raises(DataError, match=r"b cannot be read: .*truncated"):
        ImageTable(first, strict=True)[:]


def test_files_that_cannot_be_opened_are_told(tmp_path):
    write(tmp_path / "a.parquet", {"image": PNG[:4]})
    whole = write(tmp_path / "b.parquet", {"image": PNG[4:]}).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-20])
    (tmp_path / "c.parquet").write_bytes(b"")
    write(tmp_path / "d.parquet", {"picture": PNG[:4]})
    write(tmp_path / "e.parquet", {"image": [3, 4]})
    pool = ImageTable(tmp_path)
    assert_array_equal(pool[:], PIXELS[:4])
    assert sorted(pool.broken) == ["b.parquet", "c.parquet", "d.parquet", "e.parquet"]
    for name in ("d.parquet", "e.parquet"):
        assert pool.broken[name] == "its columns ['image'] are not those of the first file"
    with pytest.raises(DataError, match=r"b\.parquet cannot be read: "):
        ImageTable(tmp_path, strict=True)
    with pytest.raises(DataError, match=r"none of 1 \.parquet files .* can be read: c\.parquet \("):
        ImageTable(tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"none of the images .* can be read: f\.parquet#000000 \("):
        ImageTable(write(tmp_path / "f.parquet", {"image": [b"x"]}))
    with pytest.raises(DataError, match="has no rows; expected an image in each"):
        ImageTable(write(tmp_path / "g.parquet", {"image": pa.array([], pa.binary())}))


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("ids", [True, False])
def test_row_groups_that_are_damaged_are_broken(tmp_path, early, ids):
    columns = {"image": PNG} | ({"id": [f"c{k}" for k in range(N)]} if ids else {})
    file = write(tmp_path / "a.parquet", columns, compression="snappy")
    pool = None if early else ImageTable(file)
    with pq.ParquetFile(file) as opened:
        chunk = opened.metadata.row_group(1).column(0)
    content = bytearray(file.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    file.write_bytes(content)
    pool = ImageTable(file) if early else pool
    kept = [k for k in range(N) if not 4 <= k < 8]
    X = pool[:]
    assert_array_equal(
        X,
        PIXELS[kept]
        if early
        else np.where(np.isin(np.arange(N), kept)[:, None, None, None], PIXELS, 0),
    )
    names = [f"c{k}" if ids else f"a.parquet#{k:06d}" for k in range(4, 8)]
    assert sorted(pool.broken) == names
    assert all(said.startswith("its part of the table: ") for said in pool.broken.values())


def test_tables_that_were_replaced_are_told(cells, dataset, tmp_path):
    pool = ImageTable(cells)
    # As many rows, and as many in the last row group.
    write(cells, {"image": PNG[::-1]}, 3)
    dataset.save_to_disk(tmp_path / "saved")
    saved = ImageTable(tmp_path / "saved")
    dataset.select(range(4, N)).save_to_disk(tmp_path / "other")
    name = "data-00000-of-00001.arrow"
    shutil.copy(tmp_path / "other" / name, tmp_path / "saved" / name)
    for changed in (pool, saved):
        assert not changed[:].any()
        assert len(changed.broken) == N
        assert all("has changed since the pool was opened" in r for r in changed.broken.values())
    cells.unlink()
    assert not pool[:4].any()
    assert "No such file" in pool.broken["cells.parquet#000000"]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("gone.parquet", DataError, r"there is no file or folder gone\.parquet"),
        (3, DataTypeError, "the table is of type int; expected a path"),
        (pa.table({"image": PNG}), DataTypeError, "the table is of type Table"),
    ],
)
def test_what_is_no_table_is_refused(source, error, message):
    with pytest.raises(error, match=message):
        ImageTable(source)


def test_pyarrow_is_asked_for(cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r'tables needs pyarrow.*"\.\[pools\]"'):
        ImageTable(cells)


# --- in any order, at any time --------------------------------------------------------------------


@settings(max_examples=40)
@given(data=st.data())
def test_any_rows_are_read_in_any_order(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "table_rows"
    size = data.draw(st.integers(1, N))
    file = folder / f"{size}.parquet"
    if not file.exists():
        write(file, {"image": PNG}, size)
    pool = ImageTable(file)
    for _ in range(3):
        rows = data.draw(st.lists(st.integers(-N, N - 1), max_size=12))
        assert_array_equal(pool[rows], PIXELS[rows])
        part = data.draw(st.slices(N))
        assert_array_equal(pool[part], PIXELS[part])
    mask = np.isin(np.arange(N), rows)
    assert_array_equal(pool[mask][::-1], PIXELS[mask][::-1])
    assert_array_equal(pickle.loads(pickle.dumps(pool))[rows], PIXELS[rows])


@pytest.mark.parametrize("step", [1, 2, 3, 5, N])
def test_a_pass_reads_each_row_group_once(cells, read_groups, step):
    pool = ImageTable(cells)
    assert read_groups == {(k, "image"): 1 for k in range(3)}, "headers"
    read_groups.clear()
    # Room for a single row group.
    pool._cache = ImageCache(1)
    parts = [pool[start : start + step] for start in range(0, N, step)]
    assert read_groups == {(k, "image"): 1 for k in range(3)}
    assert_array_equal(np.concatenate(parts), PIXELS)
    read_groups.clear()
    pool[[10, 3, 9, 0, 8]]
    assert read_groups == {(0, "image"): 1}, "the last is kept"


def test_what_is_not_asked_for_is_not_read(cells, read_groups):
    pool = ImageTable(cells)
    read_groups.clear()
    pool[[5, 4]]
    assert read_groups == {(1, "image"): 1}


def test_one_row_group_at_a_time_is_in_memory(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    # Noise does not shrink: 60 row groups of 0.5 MB.
    noise = rng.integers(0, 256, (8, 210, 100, 3), np.uint8)
    columns = {"image": [encoded(Image.fromarray(one)) for one in noise] * 60}
    file = write(tmp_path / "a.parquet", columns, 8, compression="none", use_dictionary=False)
    assert file.stat().st_size > 2.5e7
    before = pa.total_allocated_bytes()
    peaks, at_once = [], []
    read = RowGroup.read

    def watch(part, columns):
        at_once.append(threading.current_thread().name)
        table = read(part, columns)
        peaks.append(pa.total_allocated_bytes() - before)
        return table

    monkeypatch.setattr(RowGroup, "read", watch)
    pool = ImageTable(file, size=8)
    pool._cache = ImageCache(2**20)
    for start in range(0, len(pool), 100):
        pool[start : start + 100]
    assert len(peaks) >= 120
    assert max(peaks) < 5e6
    assert set(at_once) == {threading.current_thread().name}


def test_large_row_groups_are_told(cells, monkeypatch):
    monkeypatch.setattr("aift_sklearn.pools.image_tables._LARGE", 100)
    assert ImageTable(cells).notes == [
        "row groups of up to 0.0 GiB are read at once; to save memory, write smaller ones: "
        "pyarrow.parquet.write_table(table, path, row_group_size=100)"
    ]


@pytest.mark.parametrize("make", [copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))])
def test_copies_read_the_same(cells, make):
    pool = ImageTable(cells)
    pool[:]
    assert len(pickle.dumps(pool)) < sum(map(len, PNG))
    assert_array_equal(make(pool)[:], PIXELS)
    assert_array_equal(make(pool.without(["cells.parquet#000003"]))[3], PIXELS[4])


def test_several_threads_may_read(cells):
    pool = ImageTable(cells)
    pool._cache = ImageCache(1)
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            rows = rng.integers(0, N, 5)
            if not np.array_equal(pool[rows], PIXELS[rows]):
                wrong.append(rows)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- by what a user points at ---------------------------------------------------------------------


def test_sources_of_tables_are_told_apart(tmp_path):
    file = write(tmp_path / "a" / "cells.PARQUET", {"image": PNG, "mask": PNG})
    for source in (file, str(file), tmp_path / "a"):
        pool = open_pool(source, size=10, column="image")
        assert isinstance(pool, ImageTable)
        assert pool.shape == (N, 3, 10, 10)
    assert open_sized(file, column="image").shape == (N, 3, 20, 20)
    with pytest.raises(ParameterError, match="the option context does not apply to"):
        open_pool(file, context=2)
    save(tmp_path / "a" / "image.png")
    assert len(open_pool(tmp_path / "a")) == 1, "images go first"
    with pytest.raises(ParameterError, match=r"the option column does not apply"):
        open_pool(tmp_path / "a", column="image")
    with pytest.raises(ParameterError, match=r"gone\.parquet' is not known.*no such file"):
        open_pool(tmp_path / "gone.parquet")
