"""Boxes and points in images as pools: every format gives the same, and none leads outside."""

import collections
import copy
import json
import os
import pickle
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pictures import deep_png, picture, save
from PIL import Image
from samples import SHARED

from aift_sklearn.errors import DataError, DataTypeError, ParameterError
from aift_sklearn.pools import BoxedImages, ImageList, open_pool
from aift_sklearn.pools.decoding import decode_deep, to_bytes
from aift_sklearn.pools.image_cache import ImageCache
from aift_sklearn.study import load_boxes
from aift_sklearn.study.boxes import crop_boxes

CORNERS = ("xmin", "ymin", "xmax", "ymax")
BOXES = [(2, 3, 12, 13), (15, 5, 30, 20), (0, 0, 6, 9)]


class CountingBoxes(BoxedImages):
    """Counts how often each image is decoded."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.decoded = collections.Counter()

    def _decode(self, image):
        self.decoded[self._files[image].name] += 1
        return super()._decode(image)


def rows_of(n_images=6, boxes=BOXES):
    """Listed by box, so that candidates of one image do not follow each other."""
    return [(f"s{k}.png", *box) for box in boxes for k in range(n_images)]


def write_csv(path, rows, header="image,xmin,ymin,xmax,ymax"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def write_coco(path, rows, **more):
    names = sorted({name for name, *_ in rows})
    content = {
        "images": [{"id": 10 + k, "file_name": name} for k, name in enumerate(names)],
        "annotations": [
            {"image_id": 10 + names.index(name), "bbox": [x, y, right - x, bottom - y], **more}
            for name, x, y, right, bottom in rows
        ],
    }
    path.write_text(json.dumps(content))
    return path


def voc(image, boxes, start=""):
    objects = "".join(
        "<object><name>cell</name><bndbox>"
        + "".join(f"<{c}>{v}</{c}>" for c, v in zip(CORNERS, box, strict=True))
        + "</bndbox></object>"
        for box in boxes
    )
    return f"{start}<annotation><filename>{image}</filename>{objects}</annotation>"


def one_by_one(folder, rows, **options):
    """What study.crop_boxes cuts, an image and a box at a time."""
    return np.concatenate([crop_boxes(folder / name, [box], **options) for name, *box in rows])


@pytest.fixture
def smears(tmp_path):
    """Six images of 40 by 30 with three boxes each."""
    for k in range(6):
        save(tmp_path / "images" / f"s{k}.png", seed=k, size=(40, 30))
    write_csv(tmp_path / "boxes.csv", rows_of())
    return tmp_path


# --- candidates -----------------------------------------------------------------------------------


def test_boxes_are_an_array_of_their_crops(smears):
    pool = BoxedImages(smears, smears / "boxes.csv", size=16)
    assert (pool.shape, pool.dtype) == ((18, 3, 16, 16), np.uint8)
    assert_array_equal(pool[:], one_by_one(smears / "images", rows_of(), size=16))
    assert pool.ids.tolist() == [f"s{k}.png#{i}" for i in (1, 2, 3) for k in range(6)]
    assert pool.images.tolist() == pool.groups.tolist() == [name for name, *_ in rows_of()]
    assert pool.boxes.tolist() == [list(map(float, box)) for _, *box in rows_of()]
    assert (pool.broken, pool.notes) == ({}, [])
    assert f"BoxedImages of {smears / 'boxes.csv'}: 18 candidates" in repr(pool)


@pytest.mark.parametrize("options", [{}, {"context": 2.2}, {"field": 25}])
def test_the_pool_holds_what_a_study_cuts(smears, options):
    rows = [(*row, "ab"[k % 2]) for k, row in enumerate(rows_of())]
    write_csv(smears / "boxes.csv", rows, "image,xmin,ymin,xmax,ymax,label")
    data = load_boxes(smears, size=16, **options)
    pool = open_pool(f"boxes:{smears}", size=16, **options)
    studied = [image.tobytes() for image in np.concatenate([data.X, data.X_test])]
    assert sorted(studied) == sorted(image.tobytes() for image in pool)


@given(data=st.data())
def test_any_rows_are_read_in_any_order(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "boxed_rows"
    if not folder.exists():
        for k in range(3):
            save(folder / f"s{k}.png", seed=k, size=(40, 30))
    corner, side = st.floats(-8, 38), st.floats(0.5, 20)
    box = st.tuples(st.integers(0, 2), corner, st.floats(-8, 28), side, side).map(
        lambda b: (f"s{b[0]}.png", b[1], b[2], b[1] + b[3] + 8, b[2] + b[4] + 8)
    )
    listed = data.draw(st.lists(box, min_size=1, max_size=8))
    table = dict(zip(("image", *CORNERS), zip(*listed, strict=True), strict=True))
    field = data.draw(st.none() | st.floats(1, 90))
    pool = BoxedImages(folder, table, size=8, field=field)
    rows = data.draw(st.lists(st.integers(0, len(pool) - 1), max_size=12))
    expected = [one_by_one(folder, [listed[row]], size=8, field=field)[0] for row in rows]
    assert_array_equal(pool[rows], np.array(expected, np.uint8).reshape(-1, 3, 8, 8))
    assert_array_equal(pool[rows], pool[:][rows])
    mask = np.isin(np.arange(len(pool)), rows)
    assert_array_equal(pool[mask][:], pool[:][mask])


def test_points_are_boxes_around_them(smears):
    centres = [(name, (x + right) / 2, (y + bottom) / 2) for name, x, y, right, bottom in rows_of()]
    points = BoxedImages(
        smears, write_csv(smears / "points.csv", centres, "Image;X;Y".replace(";", ",")), field=20
    )
    assert_array_equal(points[:], BoxedImages(smears, smears / "boxes.csv", field=20)[:])
    discs = write_csv(smears / "discs.csv", [(*c, 6) for c in centres], "image,x,y,radius")
    around = [(name, x - 6, y - 6, x + 6, y + 6) for name, x, y in centres]
    boxes = BoxedImages(smears, write_csv(smears / "around.csv", around), context=1.2)
    assert_array_equal(BoxedImages(smears, discs, context=1.2)[:], boxes[:])
    assert_array_equal(BoxedImages(smears, discs, field=20)[:], points[:])
    with pytest.raises(ParameterError, match=r"points\.csv lists points without a radius.*field="):
        BoxedImages(smears, smears / "points.csv")


def test_points_lie_in_their_image(smears):
    points = {"image": ["s0.png"] * 5, "x": [0, 39.9, 40, 5, 5], "y": [0, 29.9, 5, -0.1, np.nan]}
    pool = BoxedImages(smears, points, field=8)
    assert pool.ids.tolist() == ["s0.png#1", "s0.png#2"]
    left = "s0.png (row 2), s0.png (row 3), s0.png (row 4)"
    assert pool.notes == [f"3 points outside the image left out: {left}"]


def test_grey_images_have_one_channel_until_one_is_coloured(tmp_path):
    for k, mode in enumerate(["L", "L", "RGB"]):
        save(tmp_path / f"{k}.png", seed=k, size=(30, 30), mode=mode)
    rows = {"image": ["0.png", "1.png", "2.png"], "x": [9] * 3, "y": [9] * 3}
    mixed = BoxedImages(tmp_path, rows, field=16, size=16)
    grey = BoxedImages(tmp_path, {k: v[:2] for k, v in rows.items()}, field=16, size=16)
    assert (mixed.shape, grey.shape) == ((3, 3, 16, 16), (2, 1, 16, 16))
    assert_array_equal(mixed[:2], np.repeat(grey[:], 3, axis=1))
    # Of an image without a candidate the colour does not matter.
    rows = {**rows, "x": [9, 9, 99]}
    assert BoxedImages(tmp_path, rows, field=16).shape[1] == 1


def test_deep_images_share_one_window(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(3):
        values = rng.integers(1000, 3000 + 500 * k, (40, 30)).astype(np.uint16)
        deep_png(tmp_path / f"{k}.png", values)
    files = [tmp_path / f"{k}.png" for k in range(3)]
    rows = {"image": [file.name for file in files], "x": [15] * 3, "y": [20] * 3}
    for window in ("auto", (0, 4095)):
        pool = BoxedImages(tmp_path, rows, size=20, field=20, window=window)
        assert pool.window == ImageList(files, window=window).window
        for file, cut in zip(files, pool, strict=True):
            assert_array_equal(cut[0], to_bytes(decode_deep(file), pool.window)[10:30, 5:25])
    colour = rng.integers(0, 65536, (30, 30, 3)).astype(np.uint16)
    deep_png(tmp_path / "colour.png", colour)
    pool = BoxedImages(
        tmp_path, {"image": ["0.png", "colour.png"], "x": [9] * 2, "y": [9] * 2}, size=16, field=16
    )
    assert_array_equal(pool[1], (colour[1:17, 1:17] >> 8).transpose(2, 0, 1))
    assert pool[0].shape == (3, 16, 16)
    assert pool.notes == [
        "1 image has more than 8 bits of colour, of which the upper 8 are read: colour.png"
    ]


def test_boxes_lie_in_the_image_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture(size=(30, 40))
    image.save(tmp_path / "a.png", exif=exif)
    pool = BoxedImages(tmp_path, {"image": ["a.png"], "x": [30], "y": [20]}, size=10, field=10)
    shown = np.rot90(np.asarray(image), k=-1)
    assert_array_equal(pool[0].transpose(1, 2, 0), shown[15:25, 25:35])


def test_a_square_that_begins_a_hair_before_its_image_is_cut(tmp_path):
    save(tmp_path / "a.png", size=(40, 30))
    low, high = -19.8, 0.6
    centre, half = (low + high) / 2, high - low
    assert centre + np.ceil(half - centre) - half < 0, "in floating point"
    table = dict(
        zip(("image", *CORNERS), [[v] for v in ("a.png", low, low, high, high)], strict=True)
    )
    assert BoxedImages(tmp_path, table, size=4, context=2)[0].any()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("at", [(0, 0), (3999, 5), (2000, 29), (3990.5, 20), (1, 15)])
def test_the_borders_of_a_large_image_are_mirrored(tmp_path, mode, at):
    image = picture(size=(4000, 30), mode=mode)
    image.save(tmp_path / "a.png")
    for field in (11, 20):
        x, y = (int(np.floor(v)) + (field % 2) / 2 for v in at)
        pool = BoxedImages(
            tmp_path, {"image": ["a.png"], "x": [x], "y": [y]}, size=field, field=field
        )
        pixels = np.asarray(image).reshape(30, 4000, -1)
        padded = np.pad(pixels, ((20, 20), (20, 20), (0, 0)), mode="symmetric")
        left, top = int(x - field / 2) + 20, int(y - field / 2) + 20
        expected = padded[top : top + field, left : left + field]
        assert_array_equal(pool[0].transpose(1, 2, 0), expected)


def test_boxes_that_cannot_be_used_are_named(smears):
    with (smears / "boxes.csv").open("a") as file:
        file.write("s0.png,5,5,5,5\ns1.png,9,9,4,20\ns2.png,100,0,120,10\ns3.png,nan,0,4,4\n")
        file.write(
            "s4.png,0,0,inf,4\ns4.png,-1e9,0,1e9,4\ns5.png,-1e308,0,1e308,4\ns0.png,1,1,9,9\n"
        )
    pool = BoxedImages(smears, smears / "boxes.csv")
    assert len(pool) == 19
    assert pool.ids[-1] == "s0.png#5", "those that are left out count"
    unusable = "s0.png (line 20), s1.png (line 21), s2.png (line 22), s3.png (line 23), ..."
    assert pool.notes == [
        f"5 boxes without area or outside the image left out: {unusable[:-5]}, s4.png (line 24)",
        "2 left out whose square is more than 10 times as wide as the image: "
        "s4.png (line 25), s5.png (line 26)",
    ]
    with pytest.raises(DataError, match=r"holds no usable box among 26: .*10 times as wide"):
        BoxedImages(smears, smears / "boxes.csv", field=401)


def test_groups(smears):
    rows = [(*row, f"p{k % 3}") for k, row in enumerate(rows_of())]
    boxes = write_csv(smears / "boxes.csv", rows, "image,xmin,ymin,xmax,ymax,group")
    assert BoxedImages(smears, boxes).groups.tolist() == ["p0", "p1", "p2"] * 6
    assert BoxedImages(smears, boxes, groups=None).groups is None
    own = BoxedImages(smears, boxes, groups=range(18))
    assert own.groups.tolist() == [str(k) for k in range(18)]
    with pytest.raises(DataError, match="17 groups for 18 boxes"):
        BoxedImages(smears, boxes, groups=range(17))
    with pytest.raises(ParameterError, match="groups='folder'; expected 'image'"):
        BoxedImages(smears, boxes, groups="folder")


@pytest.mark.parametrize(
    "options", [{"size": 3}, {"context": 0}, {"field": 0.5}, {"window": (3, 1)}, {"window": "x"}]
)
def test_parameters_that_cannot_be_are_refused(smears, options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        BoxedImages(smears, smears / "boxes.csv", **options)


# --- formats --------------------------------------------------------------------------------------


def test_every_format_gives_the_same_candidates(smears):
    # Of the folder of files: images in turn.
    rows = sorted(rows_of(), key=lambda row: row[0])
    csv = BoxedImages(smears, write_csv(smears / "boxes.csv", rows))
    coco = BoxedImages(smears, write_coco(smears / "boxes.json", rows))
    (smears / "voc").mkdir()
    for k in range(6):
        (smears / "voc" / f"s{k}.xml").write_text(voc(f"s{k}.png", BOXES))
    frame = pd.read_csv(smears / "boxes.csv")
    pools = [
        coco,
        BoxedImages(smears, smears / "voc"),
        BoxedImages(
            smears,
            write_csv(
                smears / "b.tsv",
                [("\t".join(map(str, r)),) for r in rows],
                "Image\txMin\tymin\txmax\tymax",
            ),
        ),
        BoxedImages(smears, frame),
        BoxedImages(smears, frame.to_dict("list")),
        BoxedImages(smears, frame.to_dict("records")),
    ]
    for pool in pools:
        assert pool.ids.tolist() == csv.ids.tolist()
        assert pool.groups.tolist() == csv.groups.tolist()
        assert_array_equal(pool[:], csv[:])
    one = BoxedImages(smears, smears / "voc" / "s3.xml")
    assert one.ids.tolist() == ["s3.png#1", "s3.png#2", "s3.png#3"]


def test_ids_are_taken_where_they_are_listed(smears):
    rows = [(*row, f"finding {k}") for k, row in enumerate(rows_of())]
    csv = write_csv(smears / "ids.csv", rows, "image,xmin,ymin,xmax,ymax,ID")
    assert BoxedImages(smears, csv).ids[:2].tolist() == ["finding 0", "finding 1"]
    coco = write_coco(smears / "ids.json", rows_of())
    content = json.loads(coco.read_text())
    for k, one in enumerate(content["annotations"]):
        one["id"] = 100 + k
    coco.write_text(json.dumps(content))
    assert BoxedImages(smears, coco).ids[:2].tolist() == ["100", "101"]
    # Also where one of the two could not be used.
    csv.write_text(csv.read_text() + "s0.png,0,0,0,0,finding 3\n")
    with pytest.raises(
        DataError, match="id 'finding 3' is given to several boxes, line 5 and line"
    ):
        BoxedImages(smears, csv)


def test_names_of_images_are_tidied(smears):
    save(smears / "images" / "deep" / "a.png", size=(30, 30))
    names = ["deep/a.png", "./deep//a.png", "deep\\a.png", "x/../deep/a.png", "images/deep/a.png"]
    pool = BoxedImages(smears, {"image": names, "x": [9] * 5, "y": [9] * 5}, field=9)
    assert pool.ids.tolist() == [f"deep/a.png#{k}" for k in range(1, 5)] + ["images/deep/a.png#1"]
    assert (pool[:] == pool[0]).all()


NUMBER = "expected a number of pixels"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv is not a readable CSV file: it is empty"),
        ("a.csv", "image,xmin,ymin,xmax,ymax\n", "a.csv lists nothing"),
        ("a.csv", "image,xmin,ymin,xmax\ns0.png,1,2,3\n", r"a.csv lacks the columns \['ymax'\]"),
        ("a.csv", "image,x\ns0.png,1\n", "a.csv lacks the columns"),
        ("a.csv", "image,x,y\ns0.png,1,\n", "a.csv, line 2: a value is missing"),
        ("a.csv", "image,x,y\ns0.png,1,2\ns0.png,b,2\n", f"a.csv, line 3: x is 'b'; {NUMBER}"),
        (
            "a.csv",
            "image;x;y\ns0.png;1,5;2\n",
            f"a.csv, line 2: x is '1,5'; {NUMBER}, with a point",
        ),
        ("a.json", "", "a.json, line 1, column 1 is not JSON: Expecting value"),
        ("a.json", '{\n"images": [}', "a.json, line 2, column 12 is not JSON"),
        ("a.json", "[" * 100_000, "a.json is not a readable JSON file"),
        ("a.json", "[]", "a.json has no list 'images' of objects; expected a COCO file"),
        ("a.json", '{"images": [], "annotations": {}}', "a.json has no list 'annotations'"),
        ("a.json", '{"images": [], "annotations": []}', "a.json lists nothing"),
        (
            "a.json",
            '{"images": [{"id": 1}], "annotations": []}',
            "a.json, image 1: expected an 'id",
        ),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}],'
            ' "annotations": []}',
            "a.json, image 2: another image has the id 1, too",
        ),
        ("a.xml", "", "a.xml is not readable XML: no element found: line 1, column 0"),
        ("a.xml", "<annotation>\n<object>", "a.xml is not readable XML: .* line 2"),
        ("a.xml", "<svg/>", "a.xml: the root is <svg>"),
        ("a.xml", "<annotation><filename>a</filename></annotation>", "a.xml has no <object>"),
        ("a.xml", voc("", BOXES), "the <filename> in it ''"),
        (
            "a.xml",
            voc("s0.png", BOXES).replace("ymax", "top"),
            "a.xml, object 1: expected <bndbox>",
        ),
        ("a.xml", voc("s0.png", [BOXES[0], (1, 2, 3, "b")]), f"object 2: ymax is 'b'; {NUMBER}"),
        ("a.xml", '<?xml version="1.0" encoding="none"?><a/>', "a.xml"),
        ("a.npz", "", r"a.npz is no list of boxes that is read; expected \.csv, \.json"),
        ("b.csv", None, "there is no file or folder .*b.csv"),
        ("images", None, "images holds no .xml files of Pascal VOC; name the list in it"),
    ],
)
def test_damaged_lists_say_where(smears, name, text, message):
    if text is not None:
        (smears / name).write_text(text)
    with pytest.raises(DataError, match=message):
        BoxedImages(smears, smears / name)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"image_id": 7, "bbox": [1, 2, 3, 4]}, "annotation 2: image_id is 7; expected the id"),
        ({"image_id": 1, "bbox": [1, 2, 3]}, r"annotation 2: bbox is \[1, 2, 3\]; expected \[x, y"),
        ({"image_id": 1}, "annotation 2: bbox is None"),
        ({"image_id": 1, "bbox": [1, 2, "b", 4]}, f"annotation 2: width is 'b'; {NUMBER}"),
        ({"image_id": 1, "bbox": [1, 2, [3], 4]}, rf"annotation 2: width is \[3\]; {NUMBER}"),
        ({"image_id": 1, "bbox": [1, 2, 10**400, 4]}, f"annotation 2: width is 1000+; {NUMBER}"),
        ({"image_id": 1, "bbox": [1, 2, 3, 4], "id": 5}, "annotation 1 has no id"),
    ],
)
def test_damaged_annotations_are_named(smears, annotation, message):
    first = {"image_id": 1, "bbox": [1, 2, 3, 4]}
    images = [{"id": 1, "file_name": "s0.png"}]
    content = {"images": images, "annotations": [first, annotation]}
    (smears / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        BoxedImages(smears, smears / "a.json")


@pytest.mark.parametrize(
    ("boxes", "error", "message"),
    [
        (
            {"image": ["s0.png"], "x": [1]},
            DataError,
            "boxes lack the columns .* expected image, xmin",
        ),
        ({"image": ["s0.png"], "x": [1, 2], "y": [1]}, DataError, "several lengths"),
        ({"image": [], "x": [], "y": []}, DataError, "boxes list nothing"),
        ({"image": [None], "x": [1], "y": [1]}, DataError, "row 0: image is None; expected a file"),
        ({"image": ["s0.png"], "x": ["b"], "y": [1]}, DataError, f"row 0: x is 'b'; {NUMBER}"),
        ([{"image": "s0.png", "x": 1, "y": 2}, {"x": 1}], DataError, r"row 1 has \['x'\]"),
        ([("s0.png", 1, 2)], DataTypeError, "row 0 is of type tuple; expected a path, or columns"),
        (5, DataTypeError, "boxes is of type int"),
        ([], DataError, "boxes lack the columns"),
    ],
)
def test_damaged_tables_say_where(smears, boxes, error, message):
    with pytest.raises(error, match=message):
        BoxedImages(smears, boxes, field=9)


# --- what leads outside ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "a/../../secret.png",
        "..\\secret.png",
        "a\\..\\..\\secret.png",
        "..",
        "/etc/secret.png",
        "//host/share/secret.png",
        "\\\\host\\share\\secret.png",
        "C:\\secret.png",
        "c:secret.png",
        "{folder}/images/s0.png",
    ],
)
@pytest.mark.parametrize("kind", ["csv", "coco", "voc", "memory"])
def test_names_that_lead_outside_are_refused(smears, kind, name):
    save(smears.parent / "secret.png", size=(40, 30))
    name = name.format(folder=smears)
    rows = [("s0.png", 1, 2, 9, 9), (name, 1, 2, 9, 9)]
    path = smears / f"list.{'json' if kind == 'coco' else 'xml' if kind == 'voc' else 'csv'}"
    if kind == "memory":
        path = dict(zip(("image", *CORNERS), zip(*rows, strict=True), strict=True))
    elif kind == "csv":
        write_csv(path, rows)
    elif kind == "coco":
        write_coco(path, rows)
    else:
        path.write_text(voc(name, BOXES))
    (smears / "images" / "s0.png").unlink()
    with pytest.raises(DataError, match="may lie outside of the folder of images") as caught:
        BoxedImages(smears / "images", path)
    assert repr(name) in str(caught.value), "no image was opened, or a missing one were named"


@pytest.mark.parametrize("name", ["s0.png\0", "a\ud800.png", "x" * 5000, "\n.png", "."])
def test_names_that_no_image_has_are_broken(smears, name):
    pool = BoxedImages(smears, {"image": ["s0.png", name], "x": [9, 9], "y": [9, 9]}, field=9)
    assert (pool.ids.tolist(), len(pool.broken)) == (["s0.png#1"], 1)


def test_a_tilde_is_a_name(smears):
    table = {"image": ["~/s0.png", "s0.png"], "x": [9, 9], "y": [9, 9]}
    assert BoxedImages(smears, table, field=9).broken == {"~/s0.png#1": "~/s0.png: no such file"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_in_the_folder_are_followed(smears, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (smears / "images").rename(elsewhere / "images")
    (smears / "images").symlink_to(elsewhere / "images")
    assert len(BoxedImages(smears, smears / "boxes.csv")) == 18


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {y} "{10 * f"&{x};"}">' for x, y in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>"
)
FILE = '<!DOCTYPE annotation [<!ENTITY i SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("start", [LAUGHS, FILE, "<!DOCTYPE annotation>", " \n<!-- x -->\n" + FILE])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused(smears, start, encoding):
    text = voc("&i;", BOXES, start).replace("&i;", "s0.png" if "ENTITY" not in start else "&i;")
    (smears / "a.xml").write_text(text, encoding=encoding)
    with pytest.raises(DataError, match=r"a\.xml cannot be read: it declares a document type"):
        BoxedImages(smears, smears / "a.xml")


# --- images that cannot be read -------------------------------------------------------------------


def test_broken_and_missing_images_are_told(smears):
    images = smears / "images"
    (images / "s1.png").unlink()
    (images / "s2.png").write_text("no image")
    whole = (images / "s3.png").read_bytes()
    (images / "s3.png").write_bytes(whole[: len(whole) // 2])
    sound = BoxedImages(smears, smears / "boxes.csv")
    assert sound.images.tolist() == ["s0.png", "s3.png", "s4.png", "s5.png"] * 3
    assert sorted(sound.broken) == sorted(f"s{k}.png#{i}" for i in (1, 2, 3) for k in (1, 2))
    assert sound.broken["s1.png#2"] == "s1.png: no such file"
    assert "no image of the formats" in sound.broken["s2.png#1"]
    # Its header is sound: its pixels are found to be broken when they are read.
    X = sound[:]
    assert not X[sound.images == "s3.png"].any()
    assert X[sound.images != "s3.png"].any(axis=(1, 2, 3)).all()
    assert {f"s3.png#{i}" for i in (1, 2, 3)} < set(sound.broken)
    assert len(sound.sound()) == 9
    with pytest.raises(DataError, match=r"s1\.png cannot be read: no such file"):
        BoxedImages(smears, smears / "boxes.csv", strict=True)
    rows = [row for row in rows_of() if row[0] not in ("s1.png", "s2.png")]
    strict = BoxedImages(smears, write_csv(smears / "b.csv", rows), strict=True)
    with pytest.raises(DataError, match=r"s3\.png#1 cannot be read: s3\.png: "):
        strict[:]
    for file in images.iterdir():
        file.unlink()
    with pytest.raises(
        DataError, match=r"none of the 6 images that .* were looked for in .*images="
    ):
        BoxedImages(smears, smears / "boxes.csv")
    with pytest.raises(DataError, match="there is no folder"):
        BoxedImages(smears / "gone", smears / "boxes.csv")


def test_images_that_change_are_no_other_candidates(smears):
    pool = BoxedImages(smears, smears / "boxes.csv", size=16)
    before = pool[:]
    pool = BoxedImages(smears, smears / "boxes.csv", size=16)
    picture(0, size=(14, 14)).save(smears / "images" / "s0.png")
    after = pool[:]
    changed = pool.ids == "s0.png#2"
    assert pool.broken == {"s0.png#2": "outside s0.png, which has 14 x 14 pixels"}
    assert not after[changed].any()
    assert_array_equal(after[pool.images != "s0.png"], before[pool.images != "s0.png"])


# --- each image is decoded once -------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 4, 7, 18])
@pytest.mark.parametrize("limit", [None, 1])
def test_a_pass_decodes_each_image_once(smears, step, limit):
    boxes = write_csv(smears / "boxes.csv", sorted(rows_of()))
    pool = CountingBoxes(smears, boxes, size=16)
    if limit is not None:
        # Room for a single image.
        pool._cache = ImageCache(limit)
    parts = [pool[start : start + step] for start in range(0, 18, step)]
    assert pool.decoded == {f"s{k}.png": 1 for k in range(6)}
    assert_array_equal(np.concatenate(parts), BoxedImages(smears, boxes, size=16)[:])


def test_scattered_candidates_of_an_image_are_cut_together(smears):
    pool = CountingBoxes(smears, smears / "boxes.csv", size=16)
    pool._cache = ImageCache(1)
    pool[::-1]
    assert pool.decoded == {f"s{k}.png": 1 for k in range(6)}
    pool[[6, 0, 12, 0]]
    assert pool.decoded["s0.png"] == 1, "it was the last that was wanted"
    assert pool[[]].shape == (0, 3, 16, 16)


def test_parts_of_a_pool_share_what_is_kept(smears):
    pool = CountingBoxes(smears, smears / "boxes.csv", size=16)
    part = pool[pool.images == "s2.png"]
    part[0], part[1], pool.without(["s2.png#1"])[[1, 7]]
    assert pool.decoded == {"s2.png": 1, "s1.png": 1}


@pytest.mark.parametrize("make", [copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))])
def test_copies_read_the_same(smears, make):
    pool = BoxedImages(smears, smears / "boxes.csv", size=16)
    X = pool[:]
    assert_array_equal(make(pool)[:], X)


def test_several_threads_may_read(smears):
    pool = BoxedImages(smears, smears / "boxes.csv", size=16)
    pool._cache = ImageCache(2 * 40 * 30 * 3)
    X = BoxedImages(smears, smears / "boxes.csv", size=16)[:]
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            rows = rng.integers(0, 18, 5)
            if not np.array_equal(pool[rows], X[rows]):
                wrong.append(rows)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@given(
    limit=st.integers(0, 60),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 30)), max_size=40),
)
def test_what_is_kept_stays_within_its_limit(limit, steps):
    cache, kept = ImageCache(limit), {}
    for ask, key, size in steps:
        if ask:
            cache.ask_for([key])
            kept[key] = kept.pop(key, None)
            continue
        image = np.zeros(size, np.uint8)
        cache.keep(key, image)
        if key not in kept:
            assert cache.get(key) is None
            continue
        kept[key] = image
        # An oracle: from the last that was asked for backwards, as long as there is room.
        names, total = list(kept), 0
        for name in reversed(names):
            total += 0 if kept[name] is None else len(kept[name])
            if total > limit and name != names[-1]:
                kept = {n: kept[n] for n in names[names.index(name) + 1 :]}
                break
        for name in range(6):
            assert cache.get(name) is kept.get(name)


# --- by what a user points at ---------------------------------------------------------------------


def test_sources_of_boxes_are_told_apart(smears):
    expected = BoxedImages(smears, smears / "boxes.csv", size=16)[:]
    for source in (f"boxes:{smears}", f"boxes:{smears / 'boxes.csv'}"):
        assert_array_equal(open_pool(source, size=16)[:], expected)
        assert open_pool(source).shape == (18, 3, 64, 64)
    (smears / "boxes.csv").rename(smears / "found.csv")
    assert_array_equal(open_pool(f"boxes:{smears}", size=16)[:], expected)
    write_coco(smears / "found.json", rows_of())
    with pytest.raises(
        DataError, match=r"2 lists of boxes .*: found\.csv, found\.json; name the f"
    ):
        open_pool(f"boxes:{smears}")
    assert_array_equal(open_pool(f"boxes:{smears / 'found.json'}", size=16)[:], expected)
    (smears / "found.csv").unlink()
    (smears / "found.json").unlink()
    with pytest.raises(DataError, match=r"lists no boxes; expected a file boxes\.csv"):
        open_pool(f"boxes:{smears}")
    for k in range(6):
        (smears / f"s{k}.xml").write_text(voc(f"s{k}.png", BOXES))
    pool = open_pool(f"boxes:{smears}", size=16, groups=None)
    assert (pool.shape, pool.groups) == ((18, 3, 16, 16), None)
    assert len(open_pool(f"boxes:{smears / 's2.xml'}")) == 3
    write_csv(smears / "other.csv", rows_of())
    with pytest.raises(DataError, match=r"other\.csv, 6 \.xml"):
        open_pool(f"boxes:{smears}")


def test_images_of_boxes_may_lie_elsewhere(smears, tmp_path_factory):
    lists = tmp_path_factory.mktemp("lists")
    (smears / "boxes.csv").rename(lists / "boxes.csv")
    for images in (smears, smears / "images", str(smears)):
        assert len(open_pool(f"boxes:{lists}", images=images)) == 18
    with pytest.raises(DataError, match="none of the 6 images"):
        open_pool(f"boxes:{lists}")
    os.replace(lists / "boxes.csv", smears / "images" / "boxes.csv")
    assert len(open_pool(f"boxes:{smears / 'images' / 'boxes.csv'}")) == 18


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("boxes:", {}, ParameterError, "boxes:FOLDER or boxes:FILE for boxes"),
        ("boxes:{0}", {"labels": 3}, ParameterError, "the option labels does not apply to 'boxes:"),
        ("{0}", {"field": 3}, ParameterError, "the option field does not apply"),
        ("boxes:{0}/gone", {}, DataError, "there is no file or folder"),
        ("boxes:{0}", {"images": "gone"}, DataError, "there is no folder gone"),
    ],
)
def test_sources_that_cannot_be_are_refused(smears, source, options, error, message):
    with pytest.raises(error, match=message):
        open_pool(source.format(smears), **options)


# --- real files -----------------------------------------------------------------------------------


needs_data = pytest.mark.skipif(
    not (SHARED / "data").exists(), reason="the real images are not at hand"
)


@needs_data
def test_real_blood_cells():
    pool = open_pool(f"boxes:{SHARED / 'data' / 'bccd'}")
    assert pool.shape == (4886, 3, 64, 64)
    assert len(np.unique(pool.groups)) == 364
    assert "2 boxes without area" in pool.notes[0]
    data = load_boxes(SHARED / "data" / "bccd", max_pool=200, max_test=50)
    known = {image.tobytes() for image in pool[np.isin(pool.groups, data.groups)]}
    assert {image.tobytes() for image in data.X} <= known
    assert not pool.broken


@needs_data
def test_real_points_are_boxes_around_them():
    folder = SHARED / "data" / "chula"
    boxes = open_pool(f"boxes:{folder}", field=44)
    centres = (boxes.boxes[:, :2] + boxes.boxes[:, 2:]) / 2
    points = {"image": boxes.images, "x": centres[:, 0], "y": centres[:, 1]}
    pool = BoxedImages(folder, points, field=44)
    assert pool.ids.tolist() == boxes.ids.tolist()
    rows = np.linspace(0, len(pool) - 1, 400).astype(int)
    assert_array_equal(pool[rows], boxes[rows])
