"""Scores of whole pools as tables on disk, part by part, for runs that are interrupted."""

from .local import score_pool
from .shipped import ShippedModel, pack_model
from .table import ScoreTable

__all__ = ["ScoreTable", "ShippedModel", "pack_model", "score_pool"]
