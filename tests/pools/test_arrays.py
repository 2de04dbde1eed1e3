"""Arrays in memory and in files as pools: what NumPy would give, by few requests, and no more."""

import importlib
import itertools
import multiprocessing
import pickle
import sys
import threading
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from fakes import Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal
from samples import make_blobs
from sklearn.linear_model import LogisticRegression

from aift_sklearn import AffinePatches, AIFTClassifier, JitterPatches
from aift_sklearn.errors import DataError, DataTypeError, MissingDependencyError, ParameterError
from aift_sklearn.pools import ArrayPool, open_array, open_pool
from aift_sklearn.pools.reading import Broken

X, Y = make_blobs(40)
RNG = np.random.default_rng(0)
NUMBER = itertools.count()


# --- files of every kind --------------------------------------------------------------------------


def write_npy(folder, array, chunk, **others):
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


def write_npz(folder, array, chunk, **others):
    np.savez(folder / "a.npz", images=array, **others)
    return folder / "a.npz"


def write_compressed_npz(folder, array, chunk, **others):
    np.savez_compressed(folder / "a.npz", images=array, **others)
    return folder / "a.npz"


def write_zarr(address, version, array, chunk, **others):
    zarr = pytest.importorskip("zarr")
    chunks = (chunk, *array.shape[1:])
    if not others:
        # Without a group around it.
        zarr.create_array(address, data=array, chunks=chunks, zarr_format=version)
        return address
    group = zarr.open_group(address, mode="w", zarr_format=version)
    group.create_array("images", data=array, chunks=chunks)
    with warnings.catch_warnings():
        # Text of one length has no specification in format 3 yet.
        warnings.simplefilter("ignore", FutureWarning)
        for name, values in others.items():
            group.create_array(name, data=np.asarray(values))
    return address


def write_zarr_2(folder, array, chunk, **others):
    return write_zarr(f"{folder}/a.zarr", 2, array, chunk, **others)


def write_zarr_3(folder, array, chunk, **others):
    return write_zarr(f"{folder}/a.zarr", 3, array, chunk, **others)


def write_remote_zarr(folder, array, chunk, **others):
    return write_zarr(f"memory://{folder.name}-{next(NUMBER)}.zarr", 3, array, chunk, **others)


def write_hdf5(folder, array, chunk, **others):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        chunks = (min(chunk, len(array)), *array.shape[1:])
        file.create_dataset("images", data=array, chunks=chunks, compression="gzip")
        for name, values in others.items():
            file[name] = values
    return folder / "a.h5"


WRITERS = [
    write_npy,
    write_npz,
    write_compressed_npz,
    write_zarr_2,
    write_zarr_3,
    write_remote_zarr,
    write_hdf5,
]
WITH_MEMBERS = [write for write in WRITERS if write is not write_npy]
every_kind = pytest.mark.parametrize("write", WRITERS)


# --- a pool slices like an array ------------------------------------------------------------------


@st.composite
def array_and_chunk(draw):
    shape = draw(
        st.tuples(st.integers(1, 30), st.integers(1, 5))
        | st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(5, 7), st.integers(5, 7))
    )
    dtype = draw(st.sampled_from(["u1", "<f4", ">f8"]))
    values = arrays.from_dtype(np.dtype(dtype), allow_nan=False)
    return draw(arrays.arrays(dtype, shape, elements=values)), draw(st.integers(1, 9))


@every_kind
@settings(max_examples=25)
@given(data=st.data())
def test_any_rows_are_read_as_by_numpy(write, data, tmp_path_factory):
    array, chunk = data.draw(array_and_chunk())
    pool = open_array(write(tmp_path_factory.mktemp("a"), array, chunk))
    n = len(array)
    assert (pool.shape, pool.dtype) == (array.shape, array.dtype.newbyteorder("="))
    assert_array_equal(np.asarray(pool), array)
    for _ in range(3):
        rows = data.draw(st.lists(st.integers(-n, n - 1), max_size=12))
        assert_array_equal(pool[rows], array[rows])
        part = data.draw(st.slices(n))
        assert_array_equal(pool[part], array[part])
    assert_array_equal(pool[n - 1], array[n - 1])
    mask = data.draw(arrays.arrays(bool, n))
    subset = pool[mask]
    assert_array_equal(np.asarray(subset), array[mask])
    assert_array_equal(subset[::-1], array[mask][::-1])
    assert_array_equal(subset.ids, pool.ids[mask])


@given(data=st.data())
def test_what_is_read_is_the_readers_own(data):
    array, _ = data.draw(array_and_chunk())
    before = array.copy()
    pool = ArrayPool(array)
    for key in (slice(None), [0], 0):
        read = pool[key]
        read[...] = 1
        assert read.flags.c_contiguous
    assert_array_equal(array, before)


# --- shapes and types -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((5, 3, 6, 7), {}, None),
        ((5, 2, 6, 7), {}, None),
        ((5, 13, 6, 7), {}, None),
        ((5, 9, 9, 9), {}, None),
        ((5, 9, 9, 6), {"channels": "last"}, (0, 3, 1, 2)),
        ((5, 3, 6, 2), {}, None),
        ((5, 6, 7, 1), {}, (0, 3, 1, 2)),
        ((5, 6, 7, 3), {}, (0, 3, 1, 2)),
        ((5, 3, 6, 3), {"channels": "first"}, None),
        ((5, 3, 6, 3), {"channels": "last"}, (0, 3, 1, 2)),
        ((5, 6, 7, 4), {"channels": "last"}, (0, 3, 1, 2)),
        ((5, 6, 7, 2), {"channels": "last"}, (0, 3, 1, 2)),
    ],
)
def test_channels_come_first(shape, options, axes):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    pool = ArrayPool(array, **options)
    expected = array if axes is None else array.transpose(axes)
    assert pool.shape == expected.shape
    assert_array_equal(pool[[4, 0]], expected[[4, 0]])
    assert pool.notes == []


def test_grey_images_get_a_channel_and_transparency_is_dropped():
    grey = X[:, 0]
    assert_array_equal(np.asarray(ArrayPool(grey)), grey[:, None])
    clear = np.concatenate([X.transpose(0, 2, 3, 1), grey[..., None]], axis=-1)
    pool = ArrayPool(clear)
    assert_array_equal(np.asarray(pool), X)
    assert "transparency" in pool.notes[0]


@pytest.mark.parametrize("shape", [(9, 3, 8, 3), (9, 1, 28, 1), (9, 2, 8, 3), (9, 4, 4, 4)])
def test_channels_that_could_lie_here_or_there_are_asked_for(shape):
    with pytest.raises(DataError, match=r"channels='first' for .* or channels='last'"):
        ArrayPool(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("n_channels", [2, 13])
def test_unusual_numbers_of_channels_last_are_asked_for(n_channels):
    match = rf"'first' for 9 channels of 9 x {n_channels} .*'last' for {n_channels} of 9 x 9"
    with pytest.raises(DataError, match=match):
        ArrayPool(np.zeros((5, 9, 9, n_channels), np.uint8))


@pytest.mark.parametrize("shape", [(), (5,), (5, 2, 3, 4, 5), (0, 3), (4, 0, 5, 5)])
def test_what_holds_no_candidates_is_refused(shape):
    with pytest.raises(DataError, match="expected images"):
        ArrayPool(np.zeros(shape))


@pytest.mark.parametrize("dtype", ["i1", "u2", "i2", "i8", ">u2"])
def test_images_of_more_than_8_bits_need_a_window(dtype):
    deep = np.arange(3 * 5 * 6).reshape(3, 5, 6).astype(dtype)
    with pytest.raises(DataTypeError, match=r"dtype .*window=\(low, high\)"):
        ArrayPool(deep)
    pool = ArrayPool(deep, window=(10, 60))
    expected = np.rint(np.clip((deep[:, None] - 10.0) / 50, 0, 1) * 255)
    assert (pool.dtype, pool.shape) == (np.uint8, (3, 1, 5, 6))
    assert np.abs(np.asarray(pool) - expected).max() <= 1
    assert_array_equal(pool[[2, 0]], np.asarray(pool)[[2, 0]])


def test_a_window_maps_floats_in_parts_and_leaves_out_what_is_not_finite(monkeypatch):
    monkeypatch.setattr("aift_sklearn.pools.array_layout._AT_ONCE", 60)
    units = np.random.default_rng(0).normal(0, 500, (9, 5, 6, 1))
    units[3, 0, 0], units[7, 1, 1] = np.nan, np.inf
    pool = ArrayPool(units, window=(-1000, 1000))
    read = np.asarray(pool)
    assert pool.broken == dict.fromkeys(["000003", "000007"], "values that are not finite")
    assert not read[[3, 7]].any()
    sound = [0, 1, 2, 4, 5, 6, 8]
    expected = np.clip((units[sound, ..., 0] + 1000) / 2000, 0, 1) * 255
    assert np.abs(read[sound, 0] - expected).max() < 0.51
    one_by_one = list(pool._read(np.array([7, 0])))
    assert one_by_one[0] == Broken("values that are not finite")
    assert_array_equal(one_by_one[1], read[0])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "?"])
def test_floats_and_masks_pass_as_they_are(dtype):
    array = (X[:, :1] > 100).astype(dtype)
    assert_array_equal(np.asarray(ArrayPool(array)), array)
    assert ArrayPool(array).dtype == dtype


@pytest.mark.parametrize("dtype", ["i2", "u4", "f4", "?"])
def test_features_are_any_numbers(dtype):
    array = np.arange(12).reshape(4, 3).astype(dtype)
    assert_array_equal(ArrayPool(array)[::-2], array[::-2])


@pytest.mark.parametrize(
    ("array", "error", "match"),
    [
        (np.zeros((4, 3), complex), DataTypeError, "dtype complex128; expected uint8 or float"),
        (np.array([["a", "b"]]), DataTypeError, "expected uint8 or float"),
        ("cells.npy", DataTypeError, r"path 'cells.npy'; open_array\(path\)"),
        ({"images": X}, DataTypeError, r"X\['images'\]"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(array, error, match):
    with pytest.raises(error, match=match):
        ArrayPool(array)


def test_sparse_features_are_refused_and_lists_and_tensors_taken():
    sparse = pytest.importorskip("scipy.sparse").eye(4).tocsr()
    with pytest.raises(DataTypeError, match=r"toarray\(\)"):
        ArrayPool(sparse)
    tensor = pytest.importorskip("torch").arange(6).reshape(3, 2)
    for features in (tensor, tensor.tolist()):
        assert ArrayPool(features)[[2, 0]].tolist() == [[4, 5], [0, 1]]


@pytest.mark.parametrize(
    "options",
    [
        {"channels": "middle"},
        {"channels": "last"},
        {"window": (0, 1)},
        {"ids": "names"},
        {"groups": "folder"},
        {"ids": ["a", "a", "b"]},
    ],
)
def test_parameters_that_do_not_fit_are_refused(options):
    with pytest.raises(ParameterError):
        ArrayPool(np.zeros((3, 2)), **options)


@pytest.mark.parametrize("window", [3, (1, 1), (2, 1), (0, np.inf), ("dark", "bright")])
def test_windows_go_from_dark_to_bright(window):
    with pytest.raises(ParameterError, match="window="):
        ArrayPool(X[:, 0].astype(np.int16), window=window)


# --- ids, groups and keys -------------------------------------------------------------------------


def test_rows_are_called_by_their_numbers_or_as_is_said():
    assert ArrayPool(np.zeros((3, 2))).ids.tolist() == ["000000", "000001", "000002"]
    pool = ArrayPool(np.zeros((3, 2)), ids=list("abc"), groups=[1, 1, 2], source="here")
    assert (pool.ids.tolist(), pool.groups.tolist()) == (list("abc"), ["1", "1", "2"])
    assert repr(pool) == "ArrayPool of here: 3 candidates, 2 float64, 2 groups"
    assert pool.rows_of(["c", "a"]).tolist() == [2, 0]


@pytest.mark.parametrize("write", WITH_MEMBERS)
def test_ids_and_groups_lie_beside_the_array(write, tmp_path):
    ids, groups = [f"scan-{k}".encode() for k in range(40)], np.arange(40) // 4
    path = write(tmp_path, X, 6, ids=ids, groups=groups)
    pool = open_array(path)
    assert pool.ids.tolist() == [f"scan-{k}" for k in range(40)]
    assert pool.groups.tolist() == [str(k // 4) for k in range(40)]
    assert_array_equal(np.asarray(pool), X)
    own = open_array(path, "/images", ids=[f"{k}" for k in range(40)], groups=["g"] * 40)
    assert own.ids[7] == "7"
    assert set(own.groups) == {"g"}


@pytest.mark.parametrize("write", WITH_MEMBERS)
def test_ids_that_do_not_fit_are_refused(write, tmp_path):
    path = write(tmp_path, X, 6, ids=["a", "b"])
    with pytest.raises(DataError, match=r"ids of .* shape \(2,\); expected \(40,\).*Pass ids="):
        open_array(path)
    assert open_array(path, ids=np.arange(40)).ids[3] == "3"
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"groups of .* dtype float64; expected text"):
        open_array(write(tmp_path / "b", X, 6, groups=np.zeros(40)))


@pytest.mark.parametrize("write", WITH_MEMBERS)
def test_of_several_arrays_the_key_is_asked_for(write, tmp_path):
    path = write(tmp_path, X, 6, ids=np.arange(40), labels=np.arange(40))
    with pytest.raises(ParameterError, match=r"holds 2 arrays: images \(40, 3, 16, 16\) uint8, la"):
        open_array(path)
    with pytest.raises(ParameterError, match=r"key='nope' is no array of .* images \(40"):
        open_array(path, "nope")
    assert_array_equal(open_array(path, "images")[5], X[5])
    assert repr(open_array(path, "images")).startswith(f"ArrayPool of {path}/images: 40 cand")


@pytest.mark.parametrize("write", [write_npy, write_zarr_3])
def test_a_single_array_has_no_key(write, tmp_path):
    with pytest.raises(ParameterError, match=r"key='x', but .* is a single array"):
        open_array(write(tmp_path, X, 6), "x")


def test_archives_of_medmnist_name_their_arrays(tmp_path):
    sides = {f"{side}_images": X[:, 0] for side in ("train", "val", "test")}
    np.savez(tmp_path / "m.npz", **sides, train_labels=np.zeros((40, 1), np.uint8))
    with pytest.raises(ParameterError, match=r"test_images .*train_images .*train_labels"):
        open_array(tmp_path / "m.npz")
    assert open_array(tmp_path / "m.npz", "train_images").shape == (40, 1, 16, 16)


def nested_zarr(folder):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(f"{folder}/n.zarr", mode="w", zarr_format=2)
    (folder / "n.zarr" / "readme.txt").write_text("files lie between")
    return group, folder / "n.zarr"


def nested_hdf5(folder):
    file = pytest.importorskip("h5py").File(folder / "n.h5", "w")
    return file, folder / "n.h5"


@pytest.mark.parametrize("nested", [nested_zarr, nested_hdf5])
def test_arrays_in_groups_have_names_beside_them(nested, tmp_path):
    group, path = nested(tmp_path)
    for side, half in (("train", X[:30]), ("test", X[30:])):
        member = group.create_group(side)
        put = getattr(member, "create_array", None) or member.create_dataset
        put("images", data=half)
        put("ids", data=np.arange(len(half)) + 100)
    getattr(group, "close", lambda: None)()
    with pytest.raises(ParameterError, match=r"2 arrays: test/images .* train/images"):
        open_array(path)
    for key in ("test/images", "test"):
        pool = open_array(path, key)
        assert (pool.ids[3], pool.source) == ("103", f"{path}/test/images")
        assert_array_equal(np.asarray(pool), X[30:])


def test_text_of_any_length_is_read_from_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = write_zarr_3(tmp_path, X[:3], 2, labels=np.arange(3))
    ids = zarr.open_group(path, mode="a").create_array("ids", shape=(3,), dtype=str)
    ids[:] = np.array(["a", "bcd", "é"], dtype=object)
    assert open_array(path, "images").ids.tolist() == ["a", "bcd", "é"]


# --- files that are not what they seem ------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.zarr", "a.h5", "memory://nowhere.zarr"])
def test_missing_and_strange_files_are_named(name, tmp_path):
    for needed in ("zarr", "h5py"):
        pytest.importorskip(needed)
    remote = "://" in name
    path = name if remote else tmp_path / name
    said = "cannot be opened" if remote else "there is no file"
    with pytest.raises(DataError, match=rf"{said}.*{name}|{name} {said}"):
        open_array(path)
    if not remote:
        path.write_bytes(b"hello")
        with pytest.raises(DataError, match=rf"{name} cannot be opened"):
            open_array(path)


@pytest.mark.parametrize("write", [write_npy, write_npz, write_compressed_npz, write_hdf5])
def test_truncated_files_are_refused(write, tmp_path):
    path = write(tmp_path, X, 6)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="cannot be opened"):
        open_array(path)


def test_a_damaged_archive_is_refused(tmp_path):
    path = write_compressed_npz(tmp_path, X, 6)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be opened"):
        open_array(path)


def test_files_without_arrays_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(DataError, match="holds no array"):
        open_array(tmp_path / "a.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    objects = np.array([{}, {}], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=objects)
    np.savez(tmp_path / "b.npz", images=X[:2], ids=objects)
    for name in ("a.npy", "a.npz", "b.npz"):
        with pytest.raises(DataError, match=f"{name} holds pickled objects"):
            open_array(tmp_path / name)
    assert len(open_array(tmp_path / "b.npz", ids=["a", "b"])) == 2


def test_tables_are_no_candidates(tmp_path):
    with warnings.catch_warnings():
        # Of the newest format, which such a name needs.
        warnings.simplefilter("ignore", UserWarning)
        np.savez(tmp_path / "a.npz", images=X, table=np.zeros(3, dtype=[("é€", "i4")]))
    assert len(open_array(tmp_path / "a.npz")) == 40
    np.save(tmp_path / "b.npy", np.zeros((3, 2), dtype=[("a", "i4")]))
    with pytest.raises(DataTypeError, match="dtype"):
        open_array(tmp_path / "b.npy")


def test_hdf5_data_sets_without_values_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.Empty("f")
    with pytest.raises(DataError, match=r"shape \(\); expected images"):
        open_array(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("name", "needed"), [("a.zarr", "zarr"), ("memory://a.zarr", "fsspec"), ("a.hdf5", "h5py")]
)
def test_missing_libraries_say_how_to_get_them(name, needed, monkeypatch):
    pytest.importorskip("zarr")
    monkeypatch.setitem(sys.modules, needed, None)
    with pytest.raises(MissingDependencyError, match=rf'needs {needed}, .*"\.\[pools\]"'):
        open_array(name)


def test_a_missing_driver_says_how_to_get_it(monkeypatch):
    pytest.importorskip("zarr")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingDependencyError, match=r"driver of s3://.*[iI]nstall s3fs"):
        open_array("s3://bucket/a.zarr")


@pytest.mark.parametrize(("path", "match"), [("a.csv", "expected .npy"), ("s3://a.npy", "URL of")])
def test_other_files_are_no_arrays(path, match):
    with pytest.raises(ParameterError, match=match):
        open_array(path)


def test_storage_options_go_to_fsspec(tmp_path):
    pytest.importorskip("zarr")
    fsspec = pytest.importorskip("fsspec")

    class Vault(fsspec.get_filesystem_class("memory")):
        protocol = "vault"

        def __init__(self, password="", **options):
            super().__init__(**options)
            if password != "sesame":
                raise PermissionError("shut")

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.replace("vault://", "memory://"))

    fsspec.register_implementation("vault", Vault, clobber=True)
    address = write_remote_zarr(tmp_path, X, 6).replace("memory", "vault")
    with pytest.raises(DataError, match="cannot be opened: shut"):
        open_array(address)
    pool = open_array(address, storage_options={"password": "sesame"})
    assert_array_equal(pickle.loads(pickle.dumps(pool))[7], X[7])
    with pytest.raises(ParameterError, match="storage_options are for URLs"):
        open_array(write_zarr_3(tmp_path, X, 6), storage_options={"password": ""})


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "chunk"), [(write_zarr_2, "images/2.0.0.0"), (write_zarr_3, "images/c/2/0/0/0")]
)
def test_candidates_of_a_damaged_chunk_are_broken_and_others_are_not(write, chunk, tmp_path):
    write(tmp_path, X, 6, ids=[f"c{k:02}" for k in range(40)])
    damaged = tmp_path / "a.zarr" / chunk
    damaged.write_bytes(damaged.read_bytes()[:-10])
    pool = open_array(tmp_path / "a.zarr")
    damaged = np.isin(np.arange(40), np.arange(12, 18))
    expected = np.where(damaged[:, None, None, None], 0, X)
    assert_array_equal(pool[30:5:-1], expected[30:5:-1])
    assert sorted(pool.broken) == [f"c{k}" for k in range(12, 18)]
    (reason,) = set(pool.broken.values())
    assert "decompress" in reason or "cut short" in reason
    assert_array_equal(np.asarray(pool), expected)
    assert_array_equal(np.asarray(pool.sound()), X[~damaged])
    strict = open_array(tmp_path / "a.zarr", strict=True)
    assert_array_equal(strict[:12], X[:12])
    with pytest.raises(DataError, match="c12 cannot be read: "):
        strict[:]


BLOSC = {2: ("numcodecs", "Blosc", "2.0"), 3: ("zarr.codecs", "BloscCodec", "c/2/0")}
LENGTHS = [0, 10, 16, 1000, -1]


@pytest.mark.parametrize("version", BLOSC)
@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_of_blosc_that_were_cut_short_are_broken(version, length, tmp_path):
    zarr = pytest.importorskip("zarr")
    module, codec, name = BLOSC[version]
    # Noise, which Blosc stores as it is.
    noise = RNG.normal(size=(40, 50))
    zarr.create_array(
        tmp_path / "a.zarr",
        data=noise,
        chunks=(6, 50),
        zarr_format=version,
        compressors=getattr(importlib.import_module(module), codec)(),
    )
    chunk = tmp_path / "a.zarr" / name
    assert_array_equal(np.asarray(open_array(tmp_path / "a.zarr")), noise)
    chunk.write_bytes(chunk.read_bytes()[:length])
    pool = open_array(tmp_path / "a.zarr")
    assert_array_equal(pool[:12], noise[:12])
    assert not pool[12:18].any()
    assert pool.broken == {f"{k:06}": "a chunk that was cut short" for k in range(12, 18)}


def test_chunks_in_shards_are_read(tmp_path):
    zarr = pytest.importorskip("zarr")
    blosc = zarr.codecs.BloscCodec()
    zarr.create_array(
        tmp_path / "a.zarr", data=X, chunks=(2, 3, 16, 16), shards=(8, 3, 16, 16), compressors=blosc
    )
    pool = open_array(tmp_path / "a.zarr")
    assert_array_equal(pool[[30, 2, 3, 9]], X[[30, 2, 3, 9]])
    shard = tmp_path / "a.zarr" / "c/1/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert_array_equal(pool[:8], X[:8])
    assert not pool[8:16].any()
    assert len(pool.broken) == 8


def test_a_damaged_chunk_of_hdf5_is_told_too(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = write_hdf5(tmp_path, X, 6)
    with h5py.File(path, "r") as file:
        info = file["images"].id.get_chunk_info(6)
    data = bytearray(path.read_bytes())
    data[info.byte_offset : info.byte_offset + info.size] = bytes(info.size)
    path.write_bytes(data)
    pool = open_array(path)
    part = pool.without(["000000"])
    assert_array_equal(part[[37, 0, 5]], np.where([[[[0]]], [[[1]]], [[[1]]]], X[[38, 1, 6]], 0))
    assert list(pool.broken) == ["000038"]
    assert part.broken is pool.broken


class Store:
    """A store that notes what is asked of it, by one thread at a time, and may do more."""

    def __init__(self, array, also=lambda part: None, **attributes):
        self.array, self.shape, self.dtype, self.also = array, array.shape, array.dtype, also
        self.asked, self.busy = [], threading.Lock()
        self.__dict__.update(attributes)

    def __getitem__(self, part):
        assert self.busy.acquire(blocking=False)
        try:
            self.asked.append((part.start, part.stop))
            self.also(part)
            return self.array[part]
        finally:
            self.busy.release()


def test_damage_is_found_by_halves():
    def also(part):
        if part.start <= 700 < part.stop:
            raise RuntimeError("bad\nblock.")

    store = Store(np.arange(2048.0).reshape(1024, 2), also)
    pool = ArrayPool(store)
    assert_array_equal(pool[:], np.where(np.arange(1024)[:, None] == 700, 0, store.array))
    assert pool.broken == {"000700": "bad block"}
    assert len(store.asked) == 1 + 2 * 10


@pytest.mark.parametrize("error", [MemoryError, ConnectionResetError, TimeoutError])
def test_what_is_no_fault_of_the_candidates_is_raised(error):
    def also(part):
        raise error("gone")

    pool = ArrayPool(Store(np.zeros((9, 2)), also))
    with pytest.raises(error):
        pool[:]
    assert not pool.broken


def test_an_array_that_is_shorter_than_it_says_has_broken_candidates():
    store = Store(np.ones((7, 2)))
    store.shape = (9, 2)
    pool = ArrayPool(store)
    assert pool[:].sum(axis=1).tolist() == [2] * 7 + [0] * 2
    assert set(pool.broken) == {"000007", "000008"}


def test_a_file_that_was_closed_is_no_damage(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(write_hdf5(tmp_path, X, 6), "r") as file:
        pool = ArrayPool(file["images"], source="here")
        assert_array_equal(pool[[9, 2]], X[[9, 2]])
    with pytest.raises(DataError, match="file of the pool here was closed"):
        pool[:]
    assert not pool.broken


# --- no more is read than is asked for ------------------------------------------------------------


def test_rows_that_follow_each_other_are_one_slice():
    store = Store(np.arange(2000.0).reshape(1000, 2))
    pool = ArrayPool(store)
    assert store.asked == []
    for key in (slice(100, 400), [100], slice(300, 100, -1), RNG.permutation(50), []):
        assert_array_equal(pool[key], store.array[np.asarray(np.arange(1000)[key], int)])
    assert store.asked == [(100, 400), (100, 101), (101, 301), (0, 50)]


def test_rows_of_one_chunk_are_one_slice():
    store = Store(np.arange(200.0).reshape(100, 2), chunks=(10, 2))
    rows = [95, 3, 7, 42, 3, 9, 10, 12, 30]
    assert_array_equal(ArrayPool(store)[rows], store.array[rows])
    assert store.asked == [(3, 13), (30, 31), (42, 43), (95, 96)]


@pytest.mark.parametrize("chunks", [None, ((10, 90), (2,))])
def test_without_chunks_every_run_is_a_slice(chunks):
    store = Store(np.arange(200.0).reshape(100, 2), chunks=chunks)
    assert_array_equal(ArrayPool(store)[[9, 3, 4]], store.array[[9, 3, 4]])
    assert store.asked == [(3, 5), (9, 10)]


def test_one_thread_reads_at_a_time():
    wait = threading.Event()
    store = Store(np.arange(200.0).reshape(100, 2), lambda part: wait.wait(0.002))
    pool = ArrayPool(store)
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda k: pool[k : k + 5], range(0, 95, 5)))
    assert_array_equal(np.concatenate(parts), store.array[:95])
    assert not pool.broken


def test_a_scan_reads_parts_of_a_large_file(tmp_path):
    whole = np.lib.format.open_memmap(
        tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=(3000, 3, 64, 64)
    )
    del whole
    store = Store(np.load(tmp_path / "a.npy", mmap_mode="r"))
    patches = AffinePatches.for_microscopy(n_patches=2, size=4)
    classifier = AIFTClassifier(Pixels(), patches=patches)
    classifier.fit(np.repeat(X[:9], 4, axis=2).repeat(4, axis=3), Y[:9])
    scores = classifier.score_candidates(ArrayPool(store)[np.arange(3000) < 2000])
    assert scores.shape == (2000,)
    lengths = [stop - start for start, stop in store.asked]
    assert sum(lengths) == 2000
    assert max(lengths) * 3 * 64 * 64 <= 2**23


def test_members_that_are_not_compressed_are_mapped(tmp_path):
    assert isinstance(open_array(write_npz(tmp_path, X, 6)).array, np.memmap)
    assert not isinstance(open_array(write_compressed_npz(tmp_path, X, 6)).array, np.memmap)
    fortran = np.asfortranarray(X[:, :, :, :9])
    pool = open_array(write_npz(tmp_path, fortran, 6))
    assert_array_equal(np.asarray(pool), fortran)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_members_of_earlier_formats_are_mapped(version, tmp_path):
    info = zipfile.ZipInfo("images.npy")
    # As of programs that align their members.
    info.extra = b"\xff\xff\x03\x00abc"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open(info, "w") as file:
        np.lib.format.write_array(file, X, version=version)
    pool = open_array(tmp_path / "a.npz")
    assert isinstance(pool.array, np.memmap)
    assert_array_equal(np.asarray(pool), X)


# --- pickling -------------------------------------------------------------------------------------


@every_kind
def test_a_pool_of_a_file_is_reopened_where_it_is_unpickled(write, tmp_path):
    others = {} if write is write_npy else {"ids": [f"c{k}" for k in range(40)]}
    pool = open_array(write(tmp_path, X, 6, **others))
    pool.broken["c7"] = "known"
    pickled = pickle.dumps(pool[np.arange(40) > 5])
    assert len(pickled) < 6000
    again = pickle.loads(pickled)
    assert_array_equal(again[3:9], X[9:15])
    assert (again.ids.tolist(), again.broken) == (pool.ids[6:].tolist(), {"c7": "known"})
    assert repr(again) == repr(pool[np.arange(40) > 5])


def test_other_processes_read_a_pool(tmp_path, monkeypatch):
    write_zarr_3(tmp_path, X, 6)
    monkeypatch.chdir(tmp_path)
    pool = open_array("a.zarr")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as processes:
        monkeypatch.chdir(tmp_path.parent)
        assert_array_equal(processes.submit(np.asarray, pool).result(), X)


@pytest.mark.parametrize("changed", [X[:30], X / 255])
def test_a_file_that_changed_meanwhile_is_not_reopened(changed, tmp_path):
    pickled = pickle.dumps(open_array(write_npy(tmp_path, X, 6)))
    write_npy(tmp_path, changed, 6)
    with pytest.raises(
        DataError, match=r"a\.npy had shape and type .*40.*uint8.*Open the pool anew"
    ):
        pickle.loads(pickled)


def test_a_pool_of_an_array_in_memory_is_copied():
    pool = pickle.loads(pickle.dumps(ArrayPool(X, groups=Y)))
    assert_array_equal(np.asarray(pool), X)
    assert pool.groups.tolist() == Y.tolist()


@pytest.mark.parametrize("write", [write_npy, write_zarr_3, write_hdf5])
def test_a_pool_of_an_open_array_is_not_pickled(write, tmp_path):
    array = open_array(write(tmp_path, X, 6)).array
    pool = ArrayPool(array)
    assert_array_equal(pool[[5, 5, 1]], X[[5, 5, 1]])
    with pytest.raises(DataTypeError, match=r"cannot be pickled.*open_array\(path, key\)"):
        pickle.dumps(pool)


# --- wherever arrays go ---------------------------------------------------------------------------


@every_kind
def test_a_classifier_takes_a_pool_of_images_as_an_array(write, tmp_path):
    patches = AffinePatches.for_microscopy(n_patches=3, size=8)
    classifier = AIFTClassifier(Pixels(C=0.1), patches=patches).fit(X[:20], Y[:20])
    pool = open_array(write(tmp_path, X, 6))
    for method in ("predict_proba", "score_candidates", "predict"):
        assert_array_equal(getattr(classifier, method)(pool), getattr(classifier, method)(X))


@every_kind
def test_a_classifier_takes_a_pool_of_features_as_an_array(write, tmp_path):
    features = X.reshape(40, -1)[:, ::40] / 255
    patches = JitterPatches(3)
    classifier = AIFTClassifier(LogisticRegression(), patches=patches, random_state=0)
    classifier.fit(features[:20], Y[:20])
    pool = open_array(write(tmp_path, features, 6))
    for method in ("predict_proba", "score_candidates"):
        assert_array_equal(getattr(classifier, method)(pool), getattr(classifier, method)(features))


@every_kind
def test_arrays_are_opened_like_any_pool(write, tmp_path):
    path = write(tmp_path, X, 6)
    pool = open_pool(path, 16, strict=True, verbose=1)
    assert isinstance(pool, ArrayPool)
    assert pool.strict
    assert_array_equal(pool[[3, 1]], X[[3, 1]])
    with pytest.raises(ParameterError, match=r"size=8, but .* are 3 x 16 x 16 and arrays are not"):
        open_pool(path, 8)
    with pytest.raises(ParameterError, match="the option context does not apply"):
        open_pool(path, context=2)


def test_a_key_is_given_where_a_pool_is_opened(tmp_path):
    path = write_npz(tmp_path, X, 6, labels=Y)
    assert_array_equal(open_pool(path, key="images")[0], X[0])
    with pytest.raises(ParameterError, match="the option key does not apply"):
        open_pool(tmp_path, key="images")
    with pytest.raises(
        ParameterError, match=r"not known; expected a folder .* or an array in \.npy"
    ):
        open_pool(tmp_path / "a.csv")
