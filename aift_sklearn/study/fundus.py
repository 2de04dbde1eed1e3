"""A simulated pool of a computer-aided diagnosis: lesions implanted in a real fundus photograph.

Letters: n candidates of C channels, H by W pixels; l lesions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from .._checks import check_int, check_number
from ._skimage import skimage_for
from .datasets import Dataset

__all__ = ["load_fundus"]

Floats = NDArray[np.float64]
Points = NDArray[np.intp]

# All in pixels of the 1,411 by 1,411 photograph, whose finest vessels are 3 wide.
_FIELD = 32
_RADII, _BLURS, _CONTRASTS = (2.5, 5.5), (0.8, 2.0), (0.08, 0.35)
# How much of the contrast each channel shows: blood is dark in green.
_COLOUR = (0.45, 1.0, 0.7)
_APART = 30
_SCALES, _WEAKEST = (2.0, 3.0, 4.5), 2.0
# A detection is that of a lesion within its radius and this.
_HIT = 2.5
_SHIFT = 3
_SECTORS, _TEST_SECTORS = 24, 7
# Share of the lesions that the detector finds, about.
_FOUND = 0.85


@dataclass(frozen=True, eq=False)
class _Lesions:
    """Implanted lesions: centres (l, 2), radii, blurs and contrasts (l,)."""

    centre: Floats
    radius: Floats
    blur: Floats
    contrast: Floats


def load_fundus(
    *,
    noise: float = 2.0,
    imbalance: float = 0.08,
    duplicates: float = 0.5,
    n_spots: int = 1600,
    random_state: int = 0,
) -> Dataset:
    """Dark spots in a retina: lesion or not? Works offline; **the lesions are implanted**.

    The photograph is real: scikit-image's ``retina``. Round dark spots, like microaneurysms, of
    different size, blur and contrast are drawn into it, so that every label is known exactly and
    nobody's disease is claimed. A blob detector, the first stage of a computer-aided diagnosis,
    proposes the darkest spots of the result: the lesions that it finds, and many more vessel
    crossings, stretches of vessels and grains of the background. A candidate is one detection in
    the middle of a field of 32 by 32 pixels.

    The test set is a part of the eye: 7 of 24 sectors around the middle. Candidates whose field
    reaches across the border are left out, so pool and test share no pixel. Groups are the sectors.
    Everything is deterministic given ``random_state``.

    Parameters
    ----------
    noise : float, default=2
        Standard deviation of the camera's noise, in grey levels of 255. More of it drowns weak
        lesions, and makes the detector propose more that is nothing.
    imbalance : float in [0.01, 0.5], default=0.08
        Share of the spots that are lesions; about, since the detector misses some. At least
        two lesions are implanted in each sector.
    duplicates : float in [0, 4], default=0.5
        How often, on average, a detection comes again: displaced by up to 3 pixels, and a little
        brighter or darker, as in another frame of a video.
    n_spots : int, default=1600
        How many different spots are kept, the darkest; each is a candidate as often as it is
        detected, but for a few on the border of the test set.
    random_state : int, default=0
        Seed of the lesions, the noise and the repetitions.

    Returns
    -------
    Dataset
        RGB candidates with the labels "lesion" and "other".

    Raises
    ------
    ParameterError
        If a parameter is outside its range.
    MissingDependencyError
        If scikit-image is not installed.

    Examples
    --------
    >>> fundus = load_fundus(n_spots=200)
    >>> fundus.X.shape[1:], fundus.classes.tolist()
    ((3, 32, 32), ['lesion', 'other'])
    """
    check_number("noise", noise, low=0, high=40)
    check_number("imbalance", imbalance, low=0.01, high=0.5)
    check_number("duplicates", duplicates, low=0, high=4)
    n = check_int("n_spots", n_spots, minimum=100)
    seed = check_int("random_state", random_state, minimum=0)
    # Each has its own numbers, so that a change of one parameter leaves the rest as it is.
    of_lesions, of_noise, of_repeats = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)
    )
    photograph = _photograph()
    eye = _inside_the_eye(photograph)
    lesions = _place(eye, max(2 * _SECTORS, round(imbalance * n / _FOUND)), of_lesions)
    image = _implant(photograph, lesions)
    image = np.clip(image + of_noise.normal(0, noise, image.shape), 0, 255)
    spots = _detect(image[..., 1], eye, n)
    repeated = _repeat(spots, duplicates, of_repeats)
    hits = _hits(repeated, lesions)
    y = np.where(hits.any(axis=1), "lesion", "other")
    X = _crop(image, repeated, of_repeats, first_of=len(spots))
    order = np.lexsort((repeated[:, 1], repeated[:, 0]))
    repeated, y, X = repeated[order], y[order], X[order]
    sector, pool, test = _sides(repeated, photograph.shape[0])
    groups = np.array([f"sector {number}" for number in sector])
    n_found = int(hits[: len(spots)].any(axis=0).sum())
    return Dataset(
        name="fundus",
        X=X[pool],
        y=y[pool],
        X_test=X[test],
        y_test=y[test],
        groups=groups[pool],
        groups_test=groups[test],
        description=(
            f"Dark spots that a blob detector proposes in one photograph of a healthy retina, into "
            f"which {len(lesions.radius)} round lesions were drawn: they are implanted, and every "
            f"label is exact. The detector found {n_found} of them. Each detection comes "
            f"{1 + duplicates:g} times on average, displaced a little; camera noise of {noise:g} "
            "grey levels."
        ),
        source="skimage.data.retina(), shipped with scikit-image; lesions implanted",
        licence="public domain (CC0, as stated by scikit-image)",
        notes=(
            f"{len(y) - int(pool.sum()) - int(test.sum())} detections whose field reaches across "
            "the border of the test set left out",
        ),
    )


def _photograph() -> Floats:
    return np.asarray(skimage_for("load_fundus()").data.retina(), dtype=np.float64)


def _inside_the_eye(photograph: Floats) -> NDArray[np.bool_]:
    """Where a whole field fits into the round view of the camera, (H, W)."""
    bright = ndimage.binary_fill_holes(ndimage.gaussian_filter(photograph[..., 1], 3) > 15)
    return np.asarray(ndimage.distance_transform_edt(bright) > _FIELD / np.sqrt(2))


def _place(eye: NDArray[np.bool_], n_lesions: int, rng: np.random.Generator) -> _Lesions:
    """Draw lesions anywhere in the eye, as many in each sector, none touching another."""
    inside = np.argwhere(eye)
    drawn = inside[rng.permutation(len(inside))[: 200 * n_lesions]]
    sectors = _sector_of(drawn, len(eye))
    # The first of each sector, then the second of each ...
    turn = np.zeros(len(drawn), dtype=np.intp)
    for sector in range(_SECTORS):
        turn[sectors == sector] = np.arange((sectors == sector).sum())
    centres = np.empty((0, 2))
    for candidate in drawn[np.argsort(turn, kind="stable")] + rng.uniform(-0.5, 0.5, drawn.shape):
        if (np.square(centres - candidate).sum(axis=1) >= _APART**2).all():
            centres = np.concatenate([centres, candidate[None]])
        if len(centres) == n_lesions:
            break
    draw = rng.uniform(size=(3, len(centres)))
    radius, blur, contrast = (
        low + (high - low) * share
        for (low, high), share in zip((_RADII, _BLURS, _CONTRASTS), draw, strict=True)
    )
    return _Lesions(centres, radius, blur, contrast)


def _implant(photograph: Floats, lesions: _Lesions) -> Floats:
    """Darken discs with soft edges: 1 − contrast · ½ erfc((r − R) / (√2 blur))."""
    image = photograph.copy()
    for centre, radius, blur, contrast in zip(
        lesions.centre, lesions.radius, lesions.blur, lesions.contrast, strict=True
    ):
        reach = int(np.ceil(radius + 4 * blur)) + 1
        middle = np.rint(centre).astype(int)
        rows, columns = (slice(max(0, c - reach), c + reach + 1) for c in middle)
        patch = image[rows, columns]
        grid = np.indices(patch.shape[:2]) + np.array([rows.start, columns.start])[:, None, None]
        distance = np.sqrt(np.square(grid - centre[:, None, None]).sum(axis=0))
        disc = 0.5 * special.erfc((distance - radius) / (np.sqrt(2) * blur))
        patch *= 1 - contrast * disc[..., None] * np.array(_COLOUR)
    return image


def _detect(green: Floats, eye: NDArray[np.bool_], n_spots: int) -> Points:
    """Find the darkest spots of three sizes, each once: positions (n, 2), darkest first."""
    find = skimage_for("load_fundus()").feature.peak_local_max
    found, strength = [], []
    for scale in _SCALES:
        response = scale**2 * ndimage.gaussian_laplace(green, scale)
        spots = find(response, min_distance=4, threshold_abs=_WEAKEST, exclude_border=_FIELD)
        spots = spots[eye[tuple(spots.T)]]
        found.append(spots)
        strength.append(response[tuple(spots.T)])
    spots, strongest = np.concatenate(found), np.argsort(-np.concatenate(strength), kind="stable")
    # The same spot in another size.
    taken = np.zeros(green.shape, dtype=bool)
    kept: list[int] = []
    for spot in strongest:
        row, column = spots[spot]
        if not taken[row, column]:
            taken[row - 3 : row + 4, column - 3 : column + 4] = True
            kept.append(int(spot))
        if len(kept) == n_spots:
            break
    return np.asarray(spots[kept])


def _repeat(spots: Points, duplicates: float, rng: np.random.Generator) -> Points:
    """Append displaced repetitions of the spots."""
    again = np.repeat(spots, rng.poisson(duplicates, len(spots)), axis=0)
    return np.concatenate([spots, again + rng.integers(-_SHIFT, _SHIFT + 1, again.shape)])


def _hits(spots: Points, lesions: _Lesions) -> NDArray[np.bool_]:
    """Whether each spot is on or at the edge of each lesion, (n, l)."""
    to_centre = np.linalg.norm(spots[:, None, :] - lesions.centre[None], axis=2)
    return np.asarray(to_centre - lesions.radius <= _HIT)


def _crop(
    image: Floats, spots: Points, rng: np.random.Generator, *, first_of: int
) -> NDArray[np.uint8]:
    """Cut fields [r − 16, r + 16) by [c − 16, c + 16); repetitions in another light."""
    half = _FIELD // 2
    windows = np.lib.stride_tricks.sliding_window_view(image, (_FIELD, _FIELD), axis=(0, 1))
    fields = windows[spots[:, 0] - half, spots[:, 1] - half]
    light = np.concatenate([np.ones(first_of), rng.normal(1, 0.02, len(spots) - first_of)])
    lit = np.clip(fields * light[:, None, None, None], 0, 255)
    return np.ascontiguousarray(np.rint(lit).astype(np.uint8))


def _sector_of(points: NDArray[Any], size: int) -> Points:
    """Sector around the middle in which points (..., 2) lie."""
    across = np.asarray(points) - (size - 1) / 2
    turn = np.arctan2(across[..., 0], across[..., 1]) / (2 * np.pi) % 1
    return np.asarray((turn * _SECTORS).astype(np.intp))


def _sides(spots: Points, size: int) -> tuple[Points, NDArray[np.bool_], NDArray[np.bool_]]:
    """Sector of each spot, and whether its whole field is in the pool's or the test's sectors."""
    half, middle = _FIELD // 2, (size - 1) / 2
    corners = spots[:, None, :] + np.array(
        [[0, 0], [-half, -half], [-half, half - 1], [half - 1, -half], [half - 1, half - 1]]
    )
    sectors = _sector_of(corners, size)
    in_test = sectors < _TEST_SECTORS
    # A field around the middle meets all sectors, though its corners may not.
    whole = np.abs(spots - middle).max(axis=1) > half
    return sectors[:, 0], ~in_test.any(axis=1) & whole, in_test.all(axis=1) & whole
