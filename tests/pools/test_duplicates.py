"""Images that come again, told by their pixels and by how they look."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data as skimage_data

from aift_sklearn.pools.duplicates import ImageHashes, group_near, hash_images


def union_find(n, alike):
    parent = list(range(n))

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for i in range(n):
        for j in range(i):
            if alike(i, j):
                parent[root(i)] = root(j)
    numbers = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(n)]


@given(
    hashes=st.lists(
        st.one_of(
            st.integers(0, 2**64 - 1),
            st.sets(st.integers(0, 63), max_size=5).map(lambda bits: sum(2**b for b in bits)),
        ),
        min_size=1,
        max_size=25,
    ),
    distance=st.integers(0, 6),
)
def test_groups_are_those_of_all_pairs(hashes, distance):
    found = group_near(np.array(hashes, dtype=np.uint64), distance).tolist()
    expected = union_find(len(hashes), lambda i, j: (hashes[i] ^ hashes[j]).bit_count() <= distance)
    assert found == expected


def crops():
    coffee = skimage_data.coffee()
    places = [(y, x) for y in range(0, 384, 96) for x in range(0, 576, 96)]
    return np.stack([coffee[y : y + 96, x : x + 96].transpose(2, 0, 1) for y, x in places])


def recompressed(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)).transpose(2, 0, 1)


def test_a_recompressed_image_looks_alike_and_others_do_not():
    images = crops()
    again = np.stack([recompressed(image, 70) for image in images[:10]])
    hashes = ImageHashes()
    hashes.add(images)
    hashes.add(again)
    groups = hashes.groups()
    textured = [k for k in range(10) if images[k].std() > 20]
    assert len(textured) >= 5
    found = [k for k in textured if groups[k] == groups[len(images) + k]]
    assert len(found) == len(textured)
    assert len(np.unique(groups[: len(images)])) >= len(images) - 2
    assert len(np.unique(hashes.exact_groups())) == len(images) + 10


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_of_one_colour_are_alike_only_where_the_colour_is(channels):
    flat = np.stack([np.full((channels, 16, 16), value, np.uint8) for value in (10, 200, 10)])
    exact, perceptual = hash_images(flat)
    assert exact[0] == exact[2] != exact[1]
    assert group_near(np.array(perceptual, np.uint64), 4, exact).tolist() == [0, 1, 0]
