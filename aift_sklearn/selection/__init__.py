"""From scores, and embeddings, to the candidates to ask for. No model.

Every rule takes scores of shape (n,), higher meaning "ask sooner", and returns b distinct indices,
score descending, ties by index.
"""

from ._checks import check_extension, check_n_instances
from .extension import random_extension
from .groups import group_codes, spread_over_groups
from .k_centre import diversified
from .top import shortlist_length, top
from .typical import most_typical

__all__ = [
    "check_extension",
    "check_n_instances",
    "diversified",
    "group_codes",
    "most_typical",
    "random_extension",
    "shortlist_length",
    "spread_over_groups",
    "top",
]
