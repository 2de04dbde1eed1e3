"""Affine views of images: rotated, scaled, shifted and mirrored patches of every candidate.

Letters: n candidates of C channels, H by W pixels; m patches per candidate, h by w pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._checks import candidate_shape, check_images, check_int, check_number
from ..errors import ParameterError
from ._resampling import as_floats, oversampling, resampling

if TYPE_CHECKING:
    import torch

__all__ = ["AffinePatches", "cut_patches"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

# Bytes of float32 patches cut at once inside `transform`, above which caches stop helping.
_BLOCK_BYTES = 2**25


class AffinePatches(TransformerMixin, BaseEstimator):
    """m fixed affine views of each candidate: rotation, isotropic scale, translation, flip.

    The same m views serve every candidate, so that a score does not depend on the order of the
    pool, the batch or the machine. They are spread over the family as evenly as m allows (an
    optimised Latin hypercube), not clumped as independent draws are. Patch 0 is the whole
    candidate, untouched.

    Parameters
    ----------
    n_patches : int, default=16
        m. A larger value gives a steadier score; scoring time grows with it.
    size : int or (int, int), optional
        Height and width of the patches; by default those of the candidate. A smaller size is
        reached by averaging over areas, not by skipping pixels.
    rotation : float, default=0.0
        Largest rotation in degrees, to either side; 180 for images without an upright.
    scale : float or (float, float), default=(0.8, 1.25)
        Range of magnifications: 1.25 zooms in, 0.8 shows the surroundings (reflected where the
        candidate ends). One number s stands for (1/s, s).
    translation : float, default=0.1
        Largest shift, as a fraction of the candidate's height and width.
    flip : bool, default=False
        Mirror every other view. Leave it off where left and right differ in meaning.
    random_state : int, RandomState or None, default=0
        Seed of the views. With None they are drawn anew in each `fit`.

    Attributes
    ----------
    views_ : ndarray of shape (m, 5)
        Rotation (radians), magnification, shift down and right (fractions), mirrored (0 or 1).
    matrices_ : ndarray of shape (m, 2, 3)
        Affine matrices in the convention of ``torch.nn.functional.affine_grid`` and ONNX's
        AffineGrid (output to input coordinates, x before y, both in [−1, 1] from edge to edge),
        for candidates of the shape seen in `fit`.

    See Also
    --------
    JitterPatches : the same idea for feature vectors.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    >>> patches = AffinePatches(n_patches=8, size=24, rotation=180, flip=True)
    >>> patches.fit_transform(X).shape
    (5, 8, 3, 24, 24)
    """

    def __init__(
        self,
        n_patches: int = 16,
        size: int | tuple[int, int] | None = None,
        rotation: float = 0.0,
        scale: float | tuple[float, float] = (0.8, 1.25),
        translation: float = 0.1,
        flip: bool = False,
        random_state: Any = 0,
    ) -> None:
        self.n_patches = n_patches
        self.size = size
        self.rotation = rotation
        self.scale = scale
        self.translation = translation
        self.flip = flip
        self.random_state = random_state

    @classmethod
    def for_microscopy(cls, **params: Any) -> Self:
        """Views for cells and tissue, which have no upright: any rotation, mirrored, mild zoom.

        Examples
        --------
        >>> AffinePatches.for_microscopy(n_patches=8)
        AffinePatches(flip=True, n_patches=8, rotation=180.0, translation=0.08)
        """
        preset: dict[str, Any] = {"rotation": 180.0, "flip": True, "translation": 0.08}
        return cls(**(preset | params))

    @classmethod
    def for_radiographs(cls, **params: Any) -> Self:
        """Views for radiographs, which are taken upright: small rotation, not mirrored.

        Examples
        --------
        >>> AffinePatches.for_radiographs()
        AffinePatches(rotation=10.0, scale=(0.9, 1.15), translation=0.06)
        """
        preset: dict[str, Any] = {"rotation": 10.0, "scale": (0.9, 1.15), "translation": 0.06}
        return cls(**(preset | params))

    @classmethod
    def for_endoscopy(cls, **params: Any) -> Self:
        """Views for endoscopy frames: any rotation, mirrored, wide zoom as the camera moves.

        Examples
        --------
        >>> AffinePatches.for_endoscopy()
        AffinePatches(flip=True, rotation=180.0, scale=(0.7, 1.4))
        """
        preset: dict[str, Any] = {"rotation": 180.0, "flip": True, "scale": (0.7, 1.4)}
        return cls(**(preset | params))

    def fit(self, X: Any, y: Any = None) -> Self:
        """Draw the m views.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W)
            Candidates; only their shape is used.
        y : None
            Ignored.

        Returns
        -------
        AffinePatches
            Itself.

        Raises
        ------
        ParameterError
            If a parameter is outside its range.
        """
        shape = candidate_shape(X)
        n_patches = check_int("n_patches", self.n_patches, minimum=1)
        self._views(np.empty((0, 5)))  # checks the ranges, also where one view needs none
        rng = check_random_state(self.random_state)
        self.views_ = np.array([[0.0, 1.0, 0.0, 0.0, 0.0]])
        if n_patches > 1:
            drawn = _spread_evenly(n_patches - 1, int(rng.randint(2**31)))
            self.views_ = np.vstack([self.views_, self._views(drawn)])
        self.matrices_ = self._matrices(self.views_, shape)
        return self

    def transform(self, X: Any, views: Sequence[int] | None = None) -> Floats:
        """Cut the m patches of each candidate: bilinear, with reflected borders.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W)
            uint8 in [0, 255] or float in [0, 1].
        views : sequence of int, optional
            Positions of the patches that are wanted, in the order wanted; by default all m. Others
            are not cut.

        Returns
        -------
        ndarray of shape (n, m, C, h, w), float32 in [0, 1]
            Patch 0 is the whole candidate.

        Raises
        ------
        DataError, DataTypeError
            If the images have a wrong shape, dtype or range, or hold a NaN.
        """
        check_is_fitted(self, "views_")
        X = check_images(X)
        matrices = self.matrices_of(X.shape)
        matrices = matrices if views is None else matrices[np.asarray(views, dtype=np.intp)]
        return cut_patches(X, matrices, self.patch_shape(X.shape))

    def transform_whole(self, X: Any) -> Array:
        """Patch 0 alone: the whole candidate at the patches' size.

        Parameters
        ----------
        X : array-like of shape (n, C, H, W)
            uint8 in [0, 255] or float in [0, 1].

        Returns
        -------
        ndarray of shape (n, C, h, w)
            As it came where the patches have the candidate's size, else float32 in [0, 1].
        """
        X = check_images(X)
        if self.patch_shape(X.shape[-2:]) == X.shape[-2:]:
            return X
        one = clone(self).set_params(n_patches=1)
        return np.asarray(one.fit_transform(X)[:, 0])

    def sample(self, X: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Cut one fresh random view of each image, for training.

        Parameters
        ----------
        X : torch.Tensor of shape (n, C, H, W)
            uint8 in [0, 255] or float in [0, 1].
        rng : numpy.random.Generator
            Where the views come from; each call draws others.

        Returns
        -------
        torch.Tensor of shape (n, C, h, w), float32 in [0, 1]
            Views of the same family as the fixed ones.
        """
        import torch

        X = X.float().div_(255) if X.dtype == torch.uint8 else X.float()
        views = self._views(rng.random((len(X), 5)))
        matrices = torch.from_numpy(self._matrices(views, tuple(X.shape[-2:]))).to(X.device)
        return _warp(X, matrices, self.patch_shape(tuple(X.shape[-2:])))

    def patch_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the patches of images of ``image_shape``, in pixels.

        Examples
        --------
        >>> AffinePatches(size=24).patch_shape((32, 40)), AffinePatches().patch_shape((32, 40))
        ((24, 24), (32, 40))
        """
        if self.size is None:
            return int(image_shape[-2]), int(image_shape[-1])
        size = (self.size, self.size) if np.ndim(self.size) == 0 else tuple(self.size)  # type: ignore[arg-type]
        if len(size) != 2:
            raise ParameterError(f"size={self.size!r}; expected one number, or height and width.")
        return check_int("size", size[0], minimum=1), check_int("size", size[1], minimum=1)

    def matrices_of(self, image_shape: tuple[int, ...]) -> Floats:
        """Affine matrices of the fitted views, for images of ``image_shape``.

        Parameters
        ----------
        image_shape : tuple of int
            Ends with height and width in pixels.

        Returns
        -------
        ndarray of shape (m, 2, 3), float32
            As ``matrices_``, which is of the shape seen in `fit`.
        """
        check_is_fitted(self, "views_")
        return self._matrices(self.views_, image_shape)

    def _views(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points of the unit cube (k, 5) to views (k, 5)."""
        rotation = math.radians(check_number("rotation", self.rotation, low=0, high=180))
        translation = check_number("translation", self.translation, low=0, high=1)
        if np.ndim(self.scale) == 0:
            low, high = sorted((1 / check_number("scale", self.scale, low=1e-3), float(self.scale)))  # type: ignore[arg-type]
        else:
            if np.shape(self.scale) != (2,):
                raise ParameterError(f"scale={self.scale!r}; expected (smallest, largest).")
            low, high = (check_number("scale", s, low=1e-3) for s in self.scale)  # type: ignore[union-attr]
        if low > high:
            raise ParameterError(f"scale={self.scale!r}; expected (smallest, largest).")
        views = np.empty_like(u)
        views[:, 0] = (2 * u[:, 0] - 1) * rotation
        views[:, 1] = low * (high / low) ** u[:, 1]
        views[:, 2:4] = (2 * u[:, 2:4] - 1) * translation
        views[:, 4] = (u[:, 4] < 0.5) if self.flip else 0.0
        return views

    def _matrices(self, views: NDArray[np.float64], shape: tuple[int, ...]) -> Floats:
        """Affine matrices (k, 2, 3) of views (k, 5) for candidates of H by W pixels."""
        height, width = (int(s) for s in shape[-2:])
        angle, zoom, down, right, mirrored = views.T
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        sign = 1.0 - 2.0 * mirrored
        # In normalised coordinates a rotation of an oblong candidate would shear it; the ratio
        # of its sides undoes that.
        matrices = np.empty((len(views), 2, 3))
        matrices[:, 0, 0], matrices[:, 0, 1] = sign * cos, -sin * height / width
        matrices[:, 1, 0], matrices[:, 1, 1] = sign * sin * width / height, cos
        matrices[:, 0, 2], matrices[:, 1, 2] = 2 * right, 2 * down
        return matrices.astype(np.float32)


def cut_patches(X: Array, matrices: Floats, size: tuple[int, int]) -> Floats:
    """Cut patches through affine matrices: bilinear, with reflected borders.

    Parameters
    ----------
    X : ndarray of shape (n, C, H, W)
        uint8 in [0, 255] or float in [0, 1].
    matrices : ndarray of shape (m, 2, 3), float32
        As of `AffinePatches`.
    size : tuple of int
        h and w; where they are smaller than the candidate, areas are averaged.

    Returns
    -------
    ndarray of shape (n, m, C, h, w), float32 in [0, 1]
        Patches.

    Examples
    --------
    >>> whole = np.array([[[1, 0, 0], [0, 1, 0]]], dtype=np.float32)
    >>> cut_patches(np.array([[[[0, 255], [51, 102]]]], dtype=np.uint8), whole, (2, 2)).ravel()
    array([0. , 1. , 0.2, 0.4], dtype=float32)
    """
    out = np.empty((len(X), len(matrices), X.shape[1], *size), dtype=np.float32)
    cut = resampling(matrices, X.shape[-2:], size)
    if cut is not None:
        return cut(X, out)
    step = max(1, _BLOCK_BYTES // max(1, 4 * X.shape[1] * math.prod(size)))
    for start in range(0, len(X), step):
        _cut_large(as_floats(X[start : start + step]), matrices, out[start : start + step])
    return out


def _cut_large(images: Floats, matrices: Floats, out: Floats) -> None:
    """Cut from candidates so large that weights for each pixel would fill the memory."""
    import torch

    # One grid serves all candidates as channels. Copied, as a view may run backwards.
    flat = torch.from_numpy(np.array(images, order="C").reshape(1, -1, *images.shape[-2:]))
    size = out.shape[-2], out.shape[-1]
    with torch.inference_mode():
        for j in range(len(matrices)):
            patch = _warp(flat, torch.from_numpy(matrices[j : j + 1]), size)
            out[:, j] = patch.reshape(out[:, j].shape).numpy()


def _warp(images: torch.Tensor, matrices: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Sample images (k, C, H, W) through matrices (k, 2, 3) at ``size``, area-averaged."""
    import torch.nn.functional as F

    # Several samples per pixel, averaged: a shrunk image then holds areas, not skipped pixels.
    over = oversampling((images.shape[-2], images.shape[-1]), size)
    fine = (size[0] * over[0], size[1] * over[1])
    grid = F.affine_grid(matrices, [len(images), 1, *fine], align_corners=False)
    warped = F.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    # Bilinear weights sum to 1 only up to rounding.
    return F.avg_pool2d(warped, over).clamp_(0, 1) if over != (1, 1) else warped.clamp_(0, 1)


# Spreading them takes a second, and the same are drawn whenever a model is made anew.
@functools.lru_cache(64)
def _spread_evenly(n: int, seed: int) -> NDArray[np.float64]:
    """Points of the unit cube in five dimensions that lie far apart, (n, 5); not to be changed."""
    rng = np.random.default_rng(seed)
    points = qmc.LatinHypercube(d=5, optimization="random-cd", rng=rng).random(n)
    points.setflags(write=False)
    return np.asarray(points)
