"""A head that is not trained step by step: a logistic regression on a network's embeddings."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from ._examples import Batches, Examples
from ._inference import infer
from .network import Network
from .training import Settings

__all__ = ["fit_head"]

# Of embeddings of unit variance in all; labels are few, and the embeddings tell classes well.
_C = 10.0
# Views that are embedded in all, unless there are more images; of few images each has several.
_MOST_VIEWS = 2**14
# Numbers of the views that are drawn at once.
_DRAWN_NUMBERS = 2**24


def fit_head(network: Network, examples: Examples, settings: Settings, seed: int) -> None:
    """Give a network the head of a logistic regression on its embeddings of these images.

    With labels of a single class the head stays as it is. A class without any is taken to be as
    rare as one that is missed among so many images.

    Parameters
    ----------
    network : Network
        Its head is replaced; nothing else changes.
    examples : Examples
        Images, classes and weights; several views of each, where it says so and they are few.
    settings : Settings
        Weights of classes, batch size and device.
    seed : int
        Draws the views.

    References
    ----------
    Kumar et al., Fine-Tuning Can Distort Pretrained Features and Underperform Out-of-Distribution,
    ICLR 2022: a linear probe first, then fine-tuning.
    """
    present, codes = np.unique(examples.y, return_inverse=True)
    if len(present) < 2:
        return
    views = max(1, min(examples.views, _MOST_VIEWS // len(examples.y)))
    E = _embed(
        network,
        Examples(examples.X, examples.y, None, examples.augmentation, views),
        settings,
        seed,
    )
    weight = np.ones(len(codes)) if examples.weight is None else examples.weight
    if settings.class_weight is not None:
        weight = weight * settings.class_weight[examples.y]
    centre = E.mean(axis=0)
    scale = math.sqrt(((E - centre) ** 2).sum(axis=1).mean()) or 1.0
    probe = LogisticRegression(C=_C, max_iter=1000)
    probe.fit(
        (E - centre) / scale,
        np.repeat(codes, views),
        np.repeat(weight / weight.mean(), views),
    )
    slopes, levels = probe.coef_ / scale, probe.intercept_
    if len(present) == 2:
        # Of two classes it has the difference alone.
        slopes, levels = np.vstack([-slopes, slopes]) / 2, np.append(-levels, levels) / 2
    head = network.head
    rows = torch.from_numpy(present).to(head.bias.device)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(float(logsumexp(levels)) - math.log(1 + len(codes)))
        head.weight[rows] = torch.from_numpy(slopes).to(head.weight)
        head.bias[rows] = torch.from_numpy(levels - slopes @ centre).to(head.bias)


def _embed(
    network: Network, examples: Examples, settings: Settings, seed: int
) -> NDArray[np.float64]:
    """Embed the views of images, which follow each other: (n · views, E)."""
    batches = Batches(examples, np.random.default_rng(seed))
    step = max(1, _DRAWN_NUMBERS // examples.X[0].size)
    parts = [
        infer(
            network.backbone.eval(),
            network.backbone,
            batches.images(list(range(start, min(start + step, len(batches))))).numpy(),
            batch_size=settings.batch_size,
            device=settings.device,
        )
        for start in range(0, len(batches), step)
    ]
    return np.concatenate(parts).astype(np.float64)
