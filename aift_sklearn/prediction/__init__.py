"""The seam between a classifier and its pools: which engine evaluates patches, and what if not."""

from .predictor import BACKENDS, Predictor, as_features

__all__ = ["BACKENDS", "Predictor", "as_features"]
