"""Active incremental fine-tuning (AIFT) of pre-trained CNNs, the scikit-learn way.

Names resolve on first use, so that ``import aift_sklearn`` loads neither torch nor modAL.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "AIFTClassifier": "classifier",
    "AIFTLearner": "learner",
    "AffinePatches": "patches",
    "CNNClassifier": "networks.cnn",
    "CNNFeatures": "networks.features",
    "JitterPatches": "patches",
    "ScoreTable": "batch_scoring",
    "aift_sampling": "query",
    "diversity": "scores",
    "entropy": "scores",
    "load": "persistence",
    "make_query_strategy": "query",
    "mutual_information": "scores",
    "patch_consistency": "scores",
    "patch_diversity": "query",
    "patch_entropy": "query",
    "prediction_pattern": "scores",
    "save": "persistence",
    "score_pool": "batch_scoring",
    "select_majority": "scores",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
