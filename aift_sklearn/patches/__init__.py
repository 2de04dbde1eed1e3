"""Patches: fixed views of every candidate, whose predictions should agree."""

from .affine import AffinePatches, cut_patches
from .base import Patches, count_patches, cut_views, patch_floats, takes_views
from .jitter import JitterPatches

__all__ = [
    "AffinePatches",
    "JitterPatches",
    "Patches",
    "count_patches",
    "cut_patches",
    "cut_views",
    "patch_floats",
    "takes_views",
]
