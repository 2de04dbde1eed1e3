"""The seam between a classifier and its pools: which engine evaluates patches, and what if not."""

from .predictor import BACKENDS, Seam, as_features

__all__ = ["BACKENDS", "Seam", "as_features"]
