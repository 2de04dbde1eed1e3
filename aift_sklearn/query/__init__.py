"""modAL query strategies: which candidates to ask an expert about.

A strategy takes the learner, the pool and the number of candidates b. Importing this package makes
modAL itself work with current releases of NumPy, pandas and scikit-learn.
"""

from .aift import aift_sampling
from .from_skactiveml import SkactivemlStrategy, from_skactiveml
from .random import random_sampling
from .strategy import QueryStrategy, make_query_strategy
from .utilities import patch_diversity, patch_entropy

__all__ = [
    "QueryStrategy",
    "SkactivemlStrategy",
    "aift_sampling",
    "from_skactiveml",
    "make_query_strategy",
    "patch_diversity",
    "patch_entropy",
    "random_sampling",
]
