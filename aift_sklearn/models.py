"""What learns, by name: the models of the commands, of studies and of campaigns."""

from __future__ import annotations

from collections.abc import Callable

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ._checks import check_option
from .classifier import AIFTClassifier
from .networks.cnn import CNNClassifier
from .networks.features import CNNFeatures
from .patches import AffinePatches

__all__ = ["MODELS", "VIEWS", "build_model"]

VIEWS: dict[str, Callable[..., AffinePatches]] = {
    "microscopy": AffinePatches.for_microscopy,
    "radiographs": AffinePatches.for_radiographs,
    "endoscopy": AffinePatches.for_endoscopy,
}
"""Families of views, by the name that the command line takes."""


def _fine_tuned(patches: AffinePatches) -> AIFTClassifier:
    cnn = CNNClassifier(max_epochs=4, class_weight="balanced")
    return AIFTClassifier(cnn, patches=patches)


def _frozen(patches: AffinePatches) -> AIFTClassifier:
    # Features of the same scale by training; strong shrinkage suits few labels.
    head = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    return AIFTClassifier(make_pipeline(CNNFeatures(), head), patches=patches)


MODELS: dict[str, Callable[[AffinePatches], AIFTClassifier]] = {
    "finetune": _fine_tuned,
    "features": _frozen,
}
"""What learns, by the name that the command line takes; functions of the patches."""


def build_model(
    model: str = "finetune", *, views: str = "microscopy", n_patches: int = 8
) -> AIFTClassifier:
    """Build a model that learns from few labels.

    Parameters
    ----------
    model : {"finetune", "features"}, default="finetune"
        "finetune": EfficientNet-Lite0, all of it, trained on with every label so far. "features":
        a logistic regression on its frozen features, which takes a fraction of the time.
    views : {"microscopy", "radiographs", "endoscopy"}, default="microscopy"
        Preset of `AffinePatches`.
    n_patches : int, default=8
        Patches of each candidate, m.

    Returns
    -------
    AIFTClassifier
        Not fitted.

    Examples
    --------
    >>> build_model("features", n_patches=4).patches.n_patches
    4
    """
    check_option("model", model, tuple(MODELS))
    check_option("views", views, tuple(VIEWS))
    return MODELS[model](VIEWS[views](n_patches=n_patches))
