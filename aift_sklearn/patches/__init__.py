"""Patches: fixed views of every candidate, whose predictions should agree."""

from .affine import AffinePatches, cut_patches
from .jitter import JitterPatches

__all__ = ["AffinePatches", "JitterPatches", "cut_patches"]
