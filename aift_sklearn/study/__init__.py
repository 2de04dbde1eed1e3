"""Honest evidence: pools with known labels, simulated campaigns, and their reports.

Needs the extra ``study``.
"""

from ..errors import MissingDependencyError

try:
    import jinja2 as _jinja2
    import matplotlib as _matplotlib
    import pandas as _pandas
except ImportError as error:
    raise MissingDependencyError(
        error.name or "a package", extra="study", purpose="aift_sklearn.study"
    ) from error

from ..query import random_sampling
from .archives import load_medmnist, load_npz
from .boxes import load_boxes
from .comparisons import holm, paired_interval, paired_test
from .datasets import Dataset, split_dataset
from .folders import load_folder
from .fundus import load_fundus
from .lists import load_csv
from .metrics import (
    area_under_curve,
    compare_with_baseline,
    labels_for_mean_curve,
    labels_to_reach,
    summarise,
)
from .planned.campaigns import read_campaigns
from .planned.reading import read_plan
from .planned.running import run_plan
from .report import headline, plot_learning_curves, write_report
from .report.evidence import write_evidence
from .simulate import evaluate, simulate, whole_pool
from .sources import open_dataset
from .strategies import STRATEGIES
from .tables import read_table, write_table
from .tissue import load_tissue

__all__ = [
    "STRATEGIES",
    "Dataset",
    "area_under_curve",
    "compare_with_baseline",
    "evaluate",
    "headline",
    "holm",
    "labels_for_mean_curve",
    "labels_to_reach",
    "load_boxes",
    "load_csv",
    "load_folder",
    "load_fundus",
    "load_medmnist",
    "load_npz",
    "load_tissue",
    "open_dataset",
    "paired_interval",
    "paired_test",
    "plot_learning_curves",
    "random_sampling",
    "read_campaigns",
    "read_plan",
    "read_table",
    "run_plan",
    "simulate",
    "split_dataset",
    "summarise",
    "whole_pool",
    "write_evidence",
    "write_report",
    "write_table",
]

del _jinja2, _matplotlib, _pandas
