"""modAL query strategies: which candidates to ask an expert about.

A strategy takes the learner, the pool and the number of candidates b. Importing this package makes
modAL's own learners work with current releases of scikit-learn.
"""

from .random import random_sampling
from .strategies import aift_sampling, make_query_strategy, patch_diversity, patch_entropy

__all__ = [
    "aift_sampling",
    "make_query_strategy",
    "patch_diversity",
    "patch_entropy",
    "random_sampling",
]
