"""Candidates that come again: to the pixel, or nearly, as a recompressed file does."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .._optional import load_optional

__all__ = ["ImageHashes", "group_near", "hash_images"]

Array = NDArray[Any]

# Bits in which two images that are nearly alike may differ, of 64.
_DISTANCE = 4
# Images of less contrast than this, of 255, have hashes of noise.
_FLAT = 2.0


class ImageHashes:
    """Fingerprints of images, gathered part by part.

    Attributes
    ----------
    exact : list of bytes
        Alike for images that are alike to the pixel.
    perceptual : list of int
        64 bits, of which few differ between images that look alike.
    """

    def __init__(self) -> None:
        self.exact: list[bytes] = []
        self.perceptual: list[int] = []

    def add(self, images: Array) -> None:
        """Take in images (k, C, H, W), uint8."""
        exact, perceptual = hash_images(images)
        self.exact += exact
        self.perceptual += perceptual

    def exact_groups(self) -> NDArray[np.intp]:
        """Number of the group of images that are alike to the pixel, for each image."""
        numbers: dict[bytes, int] = {}
        return np.array([numbers.setdefault(one, len(numbers)) for one in self.exact], np.intp)

    def groups(self, distance: int = _DISTANCE) -> NDArray[np.intp]:
        """Number of the group of images that look alike, for each image."""
        return group_near(np.array(self.perceptual, dtype=np.uint64), distance, self.exact)


def hash_images(images: Array) -> tuple[list[bytes], list[int]]:
    """Fingerprints of images (k, C, H, W): of their pixels, and of how they look.

    The second is the sign of the low frequencies of the cosine transform (pHash), by ``imagehash``.
    Images of one colour, which have none, get one of their own.

    Raises
    ------
    MissingDependencyError
        If ``imagehash`` is not installed.
    """
    imagehash = load_optional("imagehash", purpose="telling twins")
    from PIL import Image

    exact, perceptual = [], []
    for image in images:
        digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
        exact.append(digest)
        shown = image[0] if len(image) < 3 else image[:3].transpose(1, 2, 0)
        if np.ptp(shown) < _FLAT:
            perceptual.append(int.from_bytes(digest[:8], "big"))
        else:
            bits = imagehash.phash(Image.fromarray(np.ascontiguousarray(shown))).hash
            perceptual.append(int.from_bytes(np.packbits(bits).tobytes(), "big"))
    return exact, perceptual


def group_near(
    hashes: NDArray[np.uint64], distance: int = _DISTANCE, exact: list[bytes] | None = None
) -> NDArray[np.intp]:
    """Group images whose hashes differ in few bits, and those that are alike to the pixel.

    Of hashes that differ in d bits, one of d + 1 parts is alike: only those are compared.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,)
        Perceptual hashes.
    distance : int, default=4
        Bits that may differ.
    exact : list of bytes, optional
        Fingerprints of the pixels.

    Returns
    -------
    ndarray of int, shape (n,)
        Number of each image's group; groups are numbered in order of their first image.

    Examples
    --------
    >>> group_near(np.array([0b1111, 0b1110, 2**60 - 1], dtype=np.uint64), 1).tolist()
    [0, 0, 1]
    """
    n = len(hashes)
    edges = [np.empty((0, 2), dtype=np.intp)]
    for bits in _parts(distance + 1):
        edges.append(_near_pairs(hashes, hashes & bits, distance))
    if exact is not None:
        _, first, which = np.unique(
            np.array([np.frombuffer(one, np.uint64)[0] for one in exact]),
            return_index=True,
            return_inverse=True,
        )
        edges.append(np.stack([np.arange(n), first[which]], axis=1))
    pairs = np.concatenate(edges)
    graph = coo_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), (n, n))
    _, labels = connected_components(graph, directed=False)
    _, first, which = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[which], dtype=np.intp)


def _parts(n: int) -> list[np.uint64]:
    """Masks of n runs of bits that make 64."""
    ends = np.linspace(0, 64, n + 1).astype(int)
    return [np.uint64((1 << int(b)) - (1 << int(a))) for a, b in itertools.pairwise(ends)]


def _near_pairs(
    hashes: NDArray[np.uint64], keys: NDArray[np.uint64], distance: int
) -> NDArray[np.intp]:
    """Pairs (i, j) whose key is alike and whose hashes differ in few bits."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    found = [np.empty((0, 2), dtype=np.intp)]
    ends = np.r_[starts[1:], len(order)]
    several = ends - starts > 1
    for start, end in zip(starts[several], ends[several], strict=True):
        members = order[start:end]
        # Those that are alike altogether hang on one of them.
        unique, first, which = np.unique(hashes[members], return_index=True, return_inverse=True)
        some = members[first]
        found.append(np.stack([members, some[which]], axis=1))
        for k in range(len(some) - 1):
            near = some[k + 1 :][_count_bits(unique[k] ^ unique[k + 1 :]) <= distance]
            found.append(np.stack([np.full(len(near), some[k]), near], axis=1))
    return np.concatenate(found)


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.intp]:
    octets = values.view(np.uint8).reshape(len(values), 8)
    return np.asarray(np.unpackbits(octets, axis=1).sum(axis=1), dtype=np.intp)
