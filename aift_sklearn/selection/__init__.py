"""From scores, and embeddings, to the candidates to ask for. No model.

Every rule takes scores of shape (n,), higher meaning "ask sooner", and returns b distinct indices,
score descending, ties by index; coverage takes them as weights, and returns them as it picks them.
"""

from ._checks import check_extension, check_n_instances
from .coverage import coverage, kernel_width, shares_of_pool, systematic_sample
from .extension import random_extension
from .groups import group_codes, spread_over_groups
from .k_centre import diversified
from .top import shortlist_length, top
from .typical import most_typical

__all__ = [
    "check_extension",
    "check_n_instances",
    "coverage",
    "diversified",
    "group_codes",
    "kernel_width",
    "most_typical",
    "random_extension",
    "shares_of_pool",
    "shortlist_length",
    "spread_over_groups",
    "systematic_sample",
    "top",
]
