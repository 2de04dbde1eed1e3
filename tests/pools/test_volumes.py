"""Points in volumes as pools: three slices each, however a volume lies in its file."""

import collections
import copy
import gzip
import pickle
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import map_coordinates

from aift_sklearn.errors import DataError, DataTypeError, MissingDependencyError, ParameterError
from aift_sklearn.pools import VolumePatches, open_pool
from aift_sklearn.pools.image_cache import ImageCache
from aift_sklearn.pools.slices import find_regions, join_slices
from aift_sklearn.pools.volume_files import load_volume

SHAPE = (30, 24, 20)
# Every voxel of 30 x 24 x 20 its own value.
CODED = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
WINDOW = (0, 16000)


def as_bytes(values, window=WINDOW):
    low, high = window
    return np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


def plain_slices(volume, point, size, outside=0.0):
    """Pixels as large as voxels, around a voxel; size is odd."""
    half = size // 2
    padded = np.pad(volume.astype(float), half, constant_values=outside)
    x, y, z = (int(k) + half for k in point)
    across = slice(-half, half + 1)
    xs, ys, zs = (slice(k + across.start, k + across.stop) for k in (x, y, z))
    found = padded[xs, ys, z], padded[xs, y, zs], padded[x, ys, zs]
    return np.stack([one.T[::-1, ::-1] for one in found])


def interpolated(volume, point, spacing, size, width, outside):
    """The same by SciPy, at any place and scale that does not make smaller."""
    mm = (np.arange(size) - (size - 1) / 2) * width / size
    made = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        at = np.empty((3, size, size))
        at[:] = np.clip(point, 0, np.array(volume.shape) - 1)[:, None, None]
        at[a] = (point[a] - mm / spacing[a])[None, :]
        at[b] = (point[b] - mm / spacing[b])[:, None]
        made.append(
            map_coordinates(volume.astype(float), at, order=1, mode="grid-constant", cval=outside)
        )
    return np.stack(made)


def affine_of(spacing=(1, 1, 1), axes="RAS", shape=SHAPE, tilt=0.0):
    """Voxels → mm, of axes that run to these sides and perhaps a little aslant."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-11, 7, 30)
    if tilt:
        c, s = np.cos(tilt), np.sin(tilt)
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
    )
    return affine @ nib.orientations.inv_ornt_aff(turn, shape), turn


def write(path, values=CODED, spacing=(1, 1, 1), axes="RAS", tilt=0.0):
    """Write values, whose axes run right, anterior, superior, with axes that run otherwise."""
    affine, turn = affine_of(spacing, axes, values.shape, tilt)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(nib.orientations.apply_orientation(values, turn), affine), path)
    return path


def write_csv(path, rows, header="volume,x,y,z"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def decoded(monkeypatch):
    """Counts how often each volume is opened."""
    found = collections.Counter()

    def count(source, key=None):
        found[source.name] += 1
        return load_volume(source, key)

    monkeypatch.setattr("aift_sklearn.pools.volume_set.load_volume", count)
    return found


# --- slices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "npy", "npz", "compressed.npz", "array"])
def test_slices_hold_the_voxels_around_a_point(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if "nii" in suffix:
        write(path)
    elif suffix == "npy":
        np.save(path, CODED)
    elif suffix != "array":
        (np.savez_compressed if "compressed" in suffix else np.savez)(path, scan=CODED)
    points = [[15, 12, 10], [0, 0, 0], [29, 23, 19], [3, 20, 9]]
    pool = VolumePatches(CODED if suffix == "array" else path, points, 9, window=WINDOW)
    assert (pool.shape, pool.dtype, pool.width) == ((4, 3, 9, 9), np.uint8, 9.0)
    name = "volume" if suffix == "array" else path.name
    assert pool.ids.tolist() == [f"{name}#{k}" for k in range(1, 5)]
    assert pool.groups.tolist() == pool.volumes.tolist() == [name] * 4
    expected = [as_bytes(plain_slices(CODED, point, 9)) for point in points]
    assert_array_equal(pool[:], expected)
    assert_array_equal(pool.points, points)
    assert (pool.broken, pool.notes) == ({}, [])


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIL", "SAL", "ASR", "IRP"])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_volumes_are_turned_however_they_lie(tmp_path, axes, suffix):
    spacing = (1.0, 0.5, 2.0)
    file = write(tmp_path / f"a.{suffix}", spacing=spacing, axes=axes)
    stored = nib.load(file)
    assert "".join(nib.aff2axcodes(stored.affine)) == axes
    points = np.array([[15, 12, 10], [2, 20, 3], [29, 0, 19]])
    affine, _ = affine_of(spacing)
    world = points @ affine[:3, :3].T + affine[:3, 3]
    indices = nib.affines.apply_affine(np.linalg.inv(stored.affine), world)
    options = {"size": 12, "width": 6, "window": WINDOW}
    by_world = VolumePatches(file, world, coordinates="world", **options)
    by_voxel = VolumePatches(file, indices, **options)
    expected = VolumePatches(CODED, points, spacing=spacing, **options)[:]
    assert_array_equal(by_world[:], expected)
    assert_array_equal(by_voxel[:], expected)
    # An oracle of nibabel's own.
    canonical = nib.as_closest_canonical(stored)
    assert_array_equal(np.asarray(canonical.dataobj), CODED)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 1000), ("meter", 0.001)])
def test_units_of_files_are_counted_in_mm(tmp_path, unit, factor):
    image = nib.Nifti1Image(CODED, np.diag([factor, factor, 2 * factor, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    points = np.array([[15, 12, 20]])
    options = {"width": 6, "window": WINDOW}
    pool = VolumePatches(tmp_path / "a.nii", points, 8, coordinates="world", **options)
    expected = VolumePatches(CODED, points / (1, 1, 2), 8, spacing=(1, 1, 2), **options)
    # Float32 of the header.
    assert_allclose(pool[0].astype(int), expected[0].astype(int), atol=1)


def test_volumes_that_lie_aslant_are_sliced_along_their_axes(tmp_path):
    file = write(tmp_path / "a.nii", spacing=(1, 1, 2), axes="LPS", tilt=0.3)
    affine, _ = affine_of((1, 1, 2), tilt=0.3)
    world = nib.affines.apply_affine(affine, [[15, 12, 10]])
    pool = VolumePatches(file, world, 8, width=8, coordinates="world", window=WINDOW)
    expected = VolumePatches(CODED, [[15, 12, 10]], 8, width=8, spacing=(1, 1, 2), window=WINDOW)
    # Float32 of the header.
    assert_allclose(pool[0].astype(int), expected[0].astype(int), atol=1)


def test_right_and_front_and_top_are_where_readers_look_for_them():
    scan = np.zeros((21, 21, 21), np.uint8)
    right, front, top = (18, 10, 10), (10, 18, 10), (10, 10, 18)
    for value, at in ((90, right), (160, front), (250, top)):
        scan[at] = value
    axial, coronal, sagittal = VolumePatches(scan, [[10, 10, 10]], 21)[0]
    assert axial[10, 2] == coronal[10, 2] == 90
    assert axial[2, 10] == sagittal[10, 2] == 160
    assert coronal[2, 10] == sagittal[2, 10] == 250


@settings(max_examples=60)
@given(data=st.data())
def test_slices_are_interpolated_as_by_scipy(data):
    shape = data.draw(st.tuples(*[st.integers(1, 12)] * 3))
    volume = np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, 50, shape)
    spacing = np.array(data.draw(st.tuples(*[st.floats(0.5, 3)] * 3)))
    point = np.array([data.draw(st.floats(-0.5, n - 0.5)) for n in shape])
    size = data.draw(st.integers(4, 9))
    # Pixels no larger than the finest voxel.
    width = size * spacing.min() * data.draw(st.floats(0.1, 1))
    regions = find_regions(point, shape, width / size / spacing, size)
    found = join_slices(regions, [volume[region.box] for region in regions], -100.0)
    expected = interpolated(volume, point, spacing, size, width, -100.0)
    assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 0.7, 2.5)])
def test_thick_slices_give_square_pixels(tmp_path, spacing):
    values = np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16)
    file = write(tmp_path / "a.nii", values, spacing=spacing, axes="LAS")
    affine, _ = affine_of(spacing)
    points = np.array([[14.3, 12.1, 9.6], [1, 22, 3]])
    world = nib.affines.apply_affine(affine, points)
    window = (-1000, 1500)
    pool = VolumePatches(file, world, 16, width=9, coordinates="world", window=window)
    for found, point in zip(pool, points, strict=True):
        expected = interpolated(values, point, spacing, 16, 9, -1000)
        assert_allclose(found.astype(float), as_bytes(expected, window).astype(float), atol=1)


def test_large_pixels_are_means_and_skip_nothing():
    scan = np.zeros((64, 64, 64), np.float32)
    scan[::2] = 100
    near = VolumePatches(scan, [[31.5, 31.5, 31.5]], 8, width=48, window=(0, 100))[0]
    assert_allclose(near[:2].astype(float), 127.5, atol=1)
    total = np.random.default_rng(0).random((64, 64, 64))
    mean = VolumePatches(total, [[31.5, 31.5, 31.5]], 4, width=64, window=(0, 1))[0]
    assert_allclose(mean[:, 1:3, 1:3].astype(float), 127.5, atol=12)


def test_what_lies_beyond_the_border_is_dark():
    scan = np.full((10, 10, 10), 70, np.int16)
    pool = VolumePatches(scan, [[0, 5, 9]], 9, window=(-30, 225))
    axial, coronal, sagittal = pool[0]
    assert (axial[:, 5:] == 0).all()
    assert (axial[:, :5] == 100).all()
    assert (coronal[:4] == 0).all()
    assert (coronal[4:, :5] == 100).all()
    assert (sagittal[:4] == 0).all()


def test_the_default_width_is_that_of_the_finest_voxels(tmp_path):
    write(tmp_path / "a.nii", spacing=(1, 1, 3))
    write(tmp_path / "b.nii", spacing=(0.5, 0.5, 2))
    table = {"volume": ["a.nii", "b.nii"], "x": [9, 9], "y": [9, 9], "z": [9, 9]}
    pool = VolumePatches(tmp_path, table, 10)
    assert pool.width == 5.0
    again = VolumePatches(tmp_path, {k: v[:1] for k, v in table.items()}, **pool.reading())
    assert_array_equal(again[0], pool[0])


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<u2", "<f4", "<f8", "<i4"])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "npy"])
def test_values_of_any_type_are_read(tmp_path, dtype, suffix):
    values = (CODED % 200).astype(dtype)
    file = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(file, values)
    else:
        header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
        header.set_data_dtype(dtype)
        nib.save(nib.Nifti1Image(values, np.eye(4), header), file)
    pool = VolumePatches(file, [[15, 12, 10], [0, 0, 0]], 7, window=(0, 255))
    expected = [plain_slices(CODED % 200, p, 7) for p in ([15, 12, 10], [0, 0, 0])]
    assert_array_equal(pool[:], expected)


def test_bytes_that_are_scaled_are_no_pixels(tmp_path):
    image = nib.Nifti1Image((CODED % 90).astype(np.uint8), np.eye(4))
    image.header.set_slope_inter(10, -500)
    nib.save(image, tmp_path / "a.nii")
    low, high = VolumePatches(tmp_path / "a.nii", [[15, 12, 10]], 9).window
    assert -500 <= low < 0 < high <= 400


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_values_are_scaled_as_the_header_says(tmp_path, suffix):
    image = nib.Nifti1Image(CODED, np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, tmp_path / f"a.{suffix}")
    stored = nib.load(tmp_path / f"a.{suffix}").get_fdata()
    assert (stored[1, 2, 3], stored[0, 0, 0]) == (CODED[1, 2, 3] * 0.5 - 1024, -1024)
    window = (-1100, 6500)
    pool = VolumePatches(tmp_path / f"a.{suffix}", [[15, 12, 10], [0, 0, 0]], 9, window=window)
    expected = [plain_slices(stored, p, 9, -1100) for p in ([15, 12, 10], [0, 0, 0])]
    assert_array_equal(pool[:], [as_bytes(one, window) for one in expected])


def test_one_window_serves_all_volumes(tmp_path):
    rng = np.random.default_rng(0)
    tables = {"volume": [], "x": [], "y": [], "z": []}
    for k in range(3):
        write(tmp_path / f"{k}.nii.gz", rng.integers(100 * k, 1000 + 100 * k, SHAPE).astype("i2"))
        for axis, value in zip(tables, (f"{k}.nii.gz", 15, 12, 10), strict=True):
            tables[axis].append(value)
    pool = VolumePatches(tmp_path, tables, 11)
    low, high = pool.window
    assert 0 <= low < 20
    assert 1180 < high <= 1200
    assert_array_equal(pool[:], VolumePatches(tmp_path, tables, 11, window=(low, high))[:])
    bytes_only = VolumePatches((CODED % 90).astype(np.uint8), [[15, 12, 10]], 5)
    assert bytes_only.window == (0, 255)
    assert_array_equal(bytes_only[0], plain_slices(CODED % 90, (15, 12, 10), 5))
    # Signed ones are no pixels.
    assert VolumePatches((CODED % 90).astype(np.int8), [[15, 12, 10]], 5).window != (0, 255)


def test_an_axis_of_length_one_for_time_does_not_count(tmp_path):
    nib.save(nib.Nifti1Image(CODED[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    pool = VolumePatches(tmp_path / "a.nii.gz", [[15, 12, 10]], 9, window=WINDOW)
    assert_array_equal(pool[0], as_bytes(plain_slices(CODED, (15, 12, 10), 9)))


# --- lists of points ------------------------------------------------------------------------------


@pytest.fixture
def scans(tmp_path):
    """Three volumes, of different kinds, with points each."""
    write(tmp_path / "volumes" / "a.nii", axes="LPS")
    write(tmp_path / "volumes" / "b.nii.gz", CODED // 2, axes="PIR")
    np.save(tmp_path / "volumes" / "c.npy", CODED // 3)
    rows = [
        (name, *point)
        for point in ((5, 6, 7), (12, 3, 9), (9, 9, 9))
        for name in ("a.nii", "b.nii.gz", "c.npy")
    ]
    write_csv(tmp_path / "points.csv", rows)
    return tmp_path


def test_points_may_be_listed_in_any_way(scans):
    pool = open_pool(f"volumes:{scans}", size=8, window=WINDOW)
    expected = pool[:]
    assert pool.shape == (9, 3, 8, 8)
    names = ["a.nii", "b.nii.gz", "c.npy"] * 3
    assert pool.volumes.tolist() == pool.groups.tolist() == names
    assert pool.ids.tolist() == [f"{name}#{1 + k // 3}" for k, name in enumerate(names)]
    frame = pd.read_csv(scans / "points.csv")
    tables = [frame, frame.to_dict("list"), frame.to_dict("records"), scans / "points.csv"]
    for table in tables:
        for folder in (scans, scans / "volumes", str(scans)):
            read = VolumePatches(folder, table, 8, window=WINDOW)
            assert read.ids.tolist() == pool.ids.tolist()
            assert_array_equal(read[:], expected)
    mapping = {
        "a.nii": scans / "volumes" / "a.nii",
        "b.nii.gz": str(scans / "volumes" / "b.nii.gz"),
        "c.npy": np.load(scans / "volumes" / "c.npy"),
        "never named": scans / "gone.nii",
    }
    assert_array_equal(VolumePatches(mapping, frame, 8, window=WINDOW)[:], expected)
    one = frame[frame.volume == "a.nii"]
    for table in (one, one[["x", "y", "z"]], one[["x", "y", "z"]].to_numpy()):
        read = VolumePatches(scans / "volumes" / "a.nii", table, 8, window=WINDOW)
        assert read.ids.tolist() == ["a.nii#1", "a.nii#2", "a.nii#3"]
        assert_array_equal(read[:], expected[::3])


def test_ids_and_groups_are_taken_from_the_list(scans):
    rows = [("a.nii", 5, 6, 7, "n1", "p1", "x"), ("c.npy", 5, 6, 7, "n2", "p1", "y")]
    file = write_csv(scans / "points.csv", rows, "Volume,X,Y,Z,id,group,class")
    pool = open_pool(f"volumes:{file}")
    assert (pool.ids.tolist(), pool.groups.tolist()) == (["n1", "n2"], ["p1", "p1"])
    assert VolumePatches(scans, file, groups=None).groups is None
    assert VolumePatches(scans, file, groups=["u", "v"]).groups.tolist() == ["u", "v"]
    with pytest.raises(DataError, match="3 groups for 2 points"):
        VolumePatches(scans, file, groups=["u", "v", "w"])
    with pytest.raises(ParameterError, match="groups='folder'; expected 'volume'"):
        VolumePatches(scans, file, groups="folder")
    write_csv(file, [*rows, ("a.nii", 1, 1, 1, "n1", "p2", "z")], "volume,x,y,z,id,group,class")
    with pytest.raises(DataError, match="the id 'n1' is given to several points, line 2 and"):
        VolumePatches(scans, file)


def test_sources_of_volumes_are_told_apart(scans):
    assert len(open_pool(f"volumes:{scans / 'points.csv'}", width=12)) == 9
    (scans / "points.csv").rename(scans / "found.csv")
    assert len(open_pool(f"volumes:{scans}")) == 9
    write_csv(scans / "other.csv", [("a.nii", 1, 1, 1)])
    with pytest.raises(DataError, match=r"2 CSV files .*: found\.csv, other\.csv; name one"):
        open_pool(f"volumes:{scans}")
    for name in ("found.csv", "other.csv"):
        (scans / name).unlink()
    with pytest.raises(DataError, match=r"lists no points; expected a file points\.csv"):
        open_pool(f"volumes:{scans}")
    lists = scans / "lists"
    lists.mkdir()
    write_csv(lists / "points.csv", [("a.nii", 1, 1, 1)])
    assert len(open_pool(f"volumes:{lists}", volumes=scans)) == 1
    one = scans / "volumes" / "a.nii"
    assert open_pool(f"volumes:{lists}", volumes=one).ids.tolist() == ["a.nii#1"]
    with pytest.raises(DataError, match=r"none of the volumes .*a\.nii \(no such file\)"):
        open_pool(f"volumes:{lists}")
    with pytest.raises(ParameterError, match="the option context does not apply to 'volumes:"):
        open_pool(f"volumes:{lists}", volumes=scans, context=3)
    with pytest.raises(ParameterError, match=r"volumes:FOLDER or volumes:FILE\.csv for points"):
        open_pool("volumes:")


@pytest.mark.parametrize(
    "name", ["../a.nii", "/etc/a.nii", "x/../../a.nii", "C:a.nii", "..\\a.nii"]
)
def test_volumes_outside_of_the_folder_are_refused(scans, name):
    write(scans / "secret" / "a.nii")
    file = write_csv(scans / "points.csv", [("a.nii", 1, 1, 1), (name, 1, 1, 1)])
    with pytest.raises(DataError, match=r"line 3: the volume .* may lie outside of the folder"):
        VolumePatches(scans / "volumes", file)


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        ([[1, 2]], DataError, r"an array of shape \(1, 2\); expected an array \(n, 3\)"),
        (np.empty((0, 3)), DataError, r"shape \(0, 3\)"),
        ("gone.csv", DataError, r"there is no file gone\.csv"),
        ({"x": [1], "y": [2]}, DataError, r"lack the columns \['z'\]"),
        ({"x": [1], "y": [2], "z": ["b"]}, DataError, "row 0: z is 'b'; expected a number"),
        ({"x": [1, 2], "y": [2], "z": [3]}, DataError, "several lengths"),
        ({"x": [], "y": [], "z": []}, DataError, "points list nothing"),
        ([{"x": 1, "y": 1, "z": 1}, {"x": 1}], DataError, "row 1 has"),
        (object(), DataError, "points is of type object"),
        ({"volume": ["a", "b"], "x": [1] * 2, "y": [1] * 2, "z": [1] * 2}, ParameterError,
         r"names 2 volumes: a, b; expected the folder"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_are_refused(points, error, message):
    with pytest.raises(error, match=message):
        VolumePatches(CODED, points)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 3}, "size=3"),
        ({"width": 0}, "width=0"),
        ({"coordinates": "mm"}, "coordinates='mm'; expected one of 'voxel', 'world'"),
        ({"spacing": (1, 2)}, r"spacing=\(1, 2\); expected the size"),
        ({"spacing": (1, 2, 0)}, "expected three sizes above 0"),
        ({"window": (5, 5)}, "expected the darkest value before"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        VolumePatches(CODED, [[5, 5, 5]], **options)


def test_volumes_that_cannot_be_are_refused(scans):
    with pytest.raises(DataTypeError, match="a volume is of type int"):
        VolumePatches(3, [[1, 1, 1]])
    with pytest.raises(DataError, match=r"points names b, and volumes are a; expected"):
        VolumePatches({"a": CODED}, {"volume": ["b"], "x": [1], "y": [1], "z": [1]})
    with pytest.raises(DataError, match=r"array of shape \(1, 3\), and there may be several"):
        VolumePatches(scans, [[1, 1, 1]])


# --- what is broken -------------------------------------------------------------------------------


def broken_volumes(folder):
    """Name → what is said of it, once its header or once its voxels are read."""
    write(folder / "good.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), np.eye(4)), folder / "four.nii")
    np.save(folder / "flat.npy", CODED[0])
    np.save(folder / "complex.npy", CODED.astype(np.complex64))
    np.savez(folder / "two.npz", a=CODED, b=CODED)
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), folder / "colour.nii")
    (folder / "text.nii").write_text("no volume")
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "scan.dcm").write_bytes(b"x")
    singular = nib.Nifti1Image(CODED, np.eye(4))
    singular.header["srow_z"] = 0
    with (folder / "singular.nii").open("wb") as file:
        singular.header.write_to(file)
        file.write(bytes(4) + CODED.tobytes("F"))
    return {
        "gone.nii": "no such file",
        "four.nii": "4 x 5 x 6 x 2 values; expected a volume of three axes",
        "flat.npy": "24 x 20 values",
        "complex.npy": "voxels of type complex64",
        "two.npz": "Pass key=",
        "colour.nii": "voxels of type",
        "text.nii": "text.nii",
        "empty.nii.gz": "",
        "scan.dcm": "no volume of the kinds that are read: .nii, .nii.gz, .npy, .npz",
        "singular.nii": "its affine cannot be inverted",
    }


def test_volumes_without_a_header_are_left_out(tmp_path):
    expected = broken_volumes(tmp_path)
    names = [*expected, "good.nii.gz"]
    n = len(names)
    table = {"volume": names, "x": [5] * n, "y": [5] * n, "z": [5] * n}
    pool = VolumePatches(tmp_path, table, 8)
    assert pool.ids.tolist() == ["good.nii.gz#1"]
    assert sorted(pool.broken) == sorted(f"{name}#1" for name in expected)
    for name, reason in expected.items():
        said = pool.broken[f"{name}#1"]
        assert said.startswith(f"{name}: ")
        assert reason in said
        assert len(said) > len(name) + 4
        assert str(tmp_path) not in said
        table = {"volume": ["good.nii.gz", name], "x": [5, 5], "y": [5, 5], "z": [5, 5]}
        with pytest.raises(DataError, match=rf"{name} cannot be read: "):
            VolumePatches(tmp_path, table, 8, strict=True)
    with pytest.raises(DataError, match=r"none of the volumes of points can be read: gone\.nii"):
        VolumePatches(tmp_path, {k: v[:1] for k, v in table.items()} | {"volume": ["gone.nii"]})
    keyed = {"volume": ["two.npz"], "x": [5], "y": [5], "z": [5]}
    assert len(VolumePatches(tmp_path, keyed, key="b")) == 1


def test_points_outside_are_left_out(tmp_path):
    write(tmp_path / "a.nii", axes="PIL")
    points = [[1, 1, 1], [24, 1, 1], [23.5, 19.4, 29.5], [-0.6, 1, 1], [1, 1, np.nan], [1, 1, 30]]
    pool = VolumePatches(tmp_path / "a.nii", points, 8)
    assert pool.ids.tolist() == ["a.nii#1", "a.nii#3"]
    assert pool.broken["a.nii#2"] == (
        "the point (24, 1, 1), row 1, lies outside of a.nii, which has 24 x 20 x 30 voxels"
    )
    assert sorted(pool.broken) == [f"a.nii#{k}" for k in (2, 4, 5, 6)]
    with pytest.raises(DataError, match=r"a\.nii#2 cannot be read: the point \(24, 1, 1\)"):
        VolumePatches(tmp_path / "a.nii", points, 8, strict=True)
    with pytest.raises(DataError, match=r"none of the 1 points of points can be read: a\.nii#1 \("):
        VolumePatches(tmp_path / "a.nii", points[1:2])


def test_fields_far_wider_than_the_volume_are_left_out():
    table = {"volume": ["a", "b"], "x": [1, 1], "y": [1, 1], "z": [1, 1]}
    pool = VolumePatches({"a": CODED, "b": CODED[:3, :3, :3]}, table, 8, width=250)
    assert pool.ids.tolist() == ["a#1"]
    assert "width=250 is more than 10 times as wide" in pool.broken["b#1"]


def test_world_coordinates_need_an_affine(tmp_path):
    write(tmp_path / "a.nii")
    table = {"volume": ["a.nii", "b"], "x": [0, 1], "y": [9, 1], "z": [40, 1]}
    volumes = {"a.nii": tmp_path / "a.nii", "b": CODED}
    pool = VolumePatches(volumes, table, 8, coordinates="world")
    assert pool.ids.tolist() == ["a.nii#1"]
    assert "no affine tells where world coordinates lie" in pool.broken["b#1"]


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_volumes_cut_short_are_found_when_they_are_read(tmp_path, suffix):
    values = np.random.default_rng(0).integers(0, 9999, SHAPE).astype(np.int16)
    write(tmp_path / f"good.{suffix}", values)
    whole = write(tmp_path / f"short.{suffix}", values).read_bytes()
    (tmp_path / f"short.{suffix}").write_bytes(whole[: len(whole) // 2])
    names = [f"{name}.{suffix}" for name in ("short", "good", "short")]
    table = {"volume": names, "x": [5] * 3, "y": [5] * 3, "z": [5] * 3}
    pool = VolumePatches(tmp_path, table, 8, window=WINDOW)
    assert len(pool) == 3
    X = pool[:]
    assert sorted(pool.broken) == [f"short.{suffix}#1", f"short.{suffix}#2"]
    assert all(f"short.{suffix}: " in said for said in pool.broken.values())
    assert not X[[0, 2]].any()
    assert X[1].any()
    assert pool.sound().ids.tolist() == [f"good.{suffix}#1"]
    strict = VolumePatches(tmp_path, table, 8, window=WINDOW, strict=True)
    with pytest.raises(DataError, match=rf"short\.{suffix}#1 cannot be read"):
        strict[:]
    # A window is taken from what can be read.
    assert VolumePatches(tmp_path, table, 8).window[1] > 9000
    (tmp_path / f"short.{suffix}").write_bytes(whole)
    assert pool[[0, 2]].any(axis=(1, 2, 3)).all()
    assert not pool.broken


def test_values_that_are_not_finite_break_only_what_shows_them():
    scan = CODED.astype(np.float32)
    scan[5, 5, 5] = np.nan
    scan[25, 20, 5] = np.inf
    points = [[5, 5, 5], [15, 12, 10], [25, 18, 5], [6, 6, 6]]
    pool = VolumePatches(scan, points, 5)
    assert np.isfinite(pool.window).all()
    X = pool[:]
    assert sorted(pool.broken) == ["volume#1", "volume#3"]
    assert "values that are not finite" in pool.broken["volume#1"]
    assert_array_equal(
        X[1], as_bytes(plain_slices(CODED, points[1], 5, pool.window[0]), pool.window)
    )


def test_volumes_that_were_replaced_are_told(tmp_path):
    write(tmp_path / "a.nii")
    pool = VolumePatches(tmp_path / "a.nii", [[5, 5, 5]], 8, window=WINDOW)
    write(tmp_path / "a.nii", CODED[:20])
    assert not pool[0].any()
    assert "its shape has changed" in pool.broken["a.nii#1"]


def test_nibabel_is_asked_for(tmp_path, monkeypatch):
    write(tmp_path / "a.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingDependencyError, match=r'NIfTI files needs nibabel.*"\.\[pools\]"'):
        VolumePatches(tmp_path / "a.nii", [[5, 5, 5]])
    assert len(VolumePatches(CODED, [[5, 5, 5]])) == 1


# --- in any order, at any time --------------------------------------------------------------------


@settings(max_examples=25)
@given(data=st.data())
def test_any_rows_are_read_in_any_order(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "volume_rows"
    if not folder.exists():
        write(folder / "a.nii", axes="LPS")
        write(folder / "b.nii.gz", CODED // 2)
    names = data.draw(st.lists(st.sampled_from(["a.nii", "b.nii.gz"]), min_size=1, max_size=7))
    table = {"volume": names}
    for axis, n in zip("xyz", SHAPE, strict=True):
        at = st.floats(0, n - 1)
        table[axis] = data.draw(st.lists(at, min_size=len(names), max_size=len(names)))
    pool = VolumePatches(folder, table, 8, window=WINDOW)
    rows = data.draw(st.lists(st.integers(0, len(pool) - 1), max_size=10))
    alone = [
        VolumePatches(folder / table["volume"][k], [[table[a][k] for a in "xyz"]], 8, width=8,
                      window=WINDOW)[0]
        for k in rows
    ]  # fmt: skip
    assert_array_equal(pool[rows], np.array(alone, np.uint8).reshape(-1, 3, 8, 8))
    mask = np.isin(np.arange(len(pool)), rows)
    assert_array_equal(pool[mask][:], pool[:][mask])
    assert_array_equal(pickle.loads(pickle.dumps(pool))[rows], pool[rows])


@pytest.mark.parametrize("step", [1, 2, 4, 9])
def test_a_pass_decodes_each_volume_once(scans, decoded, step):
    frame = pd.read_csv(scans / "points.csv").sort_values("volume", kind="stable")
    pool = VolumePatches(scans, frame, 8, window=WINDOW)
    assert not decoded, "headers only"
    # Room for a single volume.
    pool._files._cache = ImageCache(1)
    parts = [pool[start : start + step] for start in range(0, 9, step)]
    assert decoded == {"a.nii": 1, "b.nii.gz": 1, "c.npy": 1}
    assert_array_equal(np.concatenate(parts), VolumePatches(scans, frame, 8, window=WINDOW)[:])


def test_few_large_volumes_are_decoded_at_once(scans, monkeypatch):
    files = VolumePatches(scans, scans / "points.csv")._files
    n_decoded = [files.headers[k].n_decoded for k in range(3)]
    assert n_decoded == [0, CODED.nbytes, 0], "of these one is compressed"
    for room, expected in ((CODED.nbytes * 5, 5), (CODED.nbytes // 2, 1)):
        monkeypatch.setattr("aift_sklearn.pools.volume_set._AT_ONCE", room)
        assert files.at_most() == expected


def test_files_that_are_not_compressed_are_mapped(tmp_path):
    write(tmp_path / "a.nii", axes="LPS")
    np.save(tmp_path / "b.npy", CODED)
    table = {"volume": ["a.nii", "b.npy"], "x": [5, 5], "y": [5, 5], "z": [5, 5]}
    pool = VolumePatches(tmp_path, table, 8)
    for k in range(2):
        base = pool._files.load(k).voxels
        while not isinstance(base, np.memmap):
            base = base.base
            assert base is not None, "read into memory"


@pytest.mark.parametrize("make", [copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))])
def test_copies_read_the_same(scans, make):
    pool = open_pool(f"volumes:{scans}", size=8)
    X = pool[:]
    assert_array_equal(make(pool)[:], X)
    assert len(pickle.dumps(pool)) < CODED.nbytes
    arrays = VolumePatches(CODED, [[5, 5, 5]], 8)
    assert_array_equal(make(arrays)[:], arrays[:])


def test_mapped_arrays_are_not_pickled(tmp_path):
    np.save(tmp_path / "a.npy", CODED)
    pool = VolumePatches(np.load(tmp_path / "a.npy", mmap_mode="r"), [[5, 5, 5]], 8)
    assert pool[0].any()
    with pytest.raises(DataTypeError, match="expected volumes by their paths"):
        pickle.dumps(pool)


def test_compressed_files_are_those_that_end_so(tmp_path):
    write(tmp_path / "a.nii")
    (tmp_path / "A.NII.GZ").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    pool = VolumePatches(tmp_path / "A.NII.GZ", [[5, 5, 5]], 8, window=WINDOW)
    assert_array_equal(pool[:], VolumePatches(tmp_path / "a.nii", [[5, 5, 5]], 8, window=WINDOW)[:])


def test_the_three_slices_meet_in_the_point():
    pool = VolumePatches(CODED, [[15, 12, 10]], 9, window=WINDOW)
    assert len(set(pool[0][:, 4, 4].tolist())) == 1
    assert pool[0][0, 4, 4] == as_bytes(CODED[15, 12, 10].astype(float))
