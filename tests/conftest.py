"""How the tests run, and fixtures that several use."""

from __future__ import annotations

import os

# The problems of the tests are tiny, and the tests run in two processes: threads that wait for
# each other cost them tenfold. Set before NumPy is loaded, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings
from samples import make_blobs

settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")

torch.set_num_threads(1)


@pytest.fixture
def blobs():
    """Tiny pictures (n, 3, 16, 16) uint8 whose class shows: a bright disc, or none."""
    return make_blobs(60)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Seed what networks draw their first weights from, whatever ran before in this process."""
    torch.manual_seed(0)
