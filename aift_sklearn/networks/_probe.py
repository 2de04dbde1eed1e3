"""A head that is not trained step by step: a logistic regression on a network's embeddings."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from .._threads import compute_threads
from ..errors import NonFiniteOutputError
from ._examples import Batches, Examples
from ._inference import infer
from .network import Network
from .training import Settings, seeded

__all__ = ["fit_head"]

# Of embeddings of unit variance in all, and per image; labels are few, and embeddings tell much.
_C = 40.0
# Views that are embedded in all, unless there are more images: of few images each has several.
_MOST_VIEWS = 2**12
# Spread of embeddings, as a share of their length, below which single precision holds none.
_NO_SPREAD = 1e-5


def fit_head(
    network: Network, examples: Examples, settings: Settings, seed: int
) -> NDArray[np.int64]:
    """Give a network the head of a logistic regression on its embeddings of these images.

    With labels of a single class, or embeddings that are not finite, the head stays as it is. A
    class without any label is taken to be as rare as one that is missed among so many images.

    Parameters
    ----------
    network : Network
        Its head is replaced, at the very end; nothing else changes.
    examples : Examples
        Images, classes and weights; several views of each, where it says so and they are few.
    settings : Settings
        Weights of classes, batch size and device.
    seed : int
        Draws the views.

    Returns
    -------
    ndarray of int
        Indices of the classes that the head tells apart; empty where it stays as it is.

    References
    ----------
    Kumar et al., Fine-Tuning Can Distort Pretrained Features and Underperform Out-of-Distribution,
    ICLR 2022: a linear probe first, then fine-tuning.
    """
    present, codes = np.unique(examples.y, return_inverse=True)
    if len(present) < 2:
        return present[:0]
    views = max(1, min(examples.views, _MOST_VIEWS // len(codes)))
    drawn = Examples(examples.X, examples.y, None, examples.augmentation, views)
    try:
        with seeded(seed, settings.device):
            E = _embed(network, drawn, settings, seed)
    except NonFiniteOutputError:
        # Training says what is wrong with them.
        return present[:0]
    weight = np.ones(len(codes)) if examples.weight is None else examples.weight
    if settings.class_weight is not None:
        weight = weight * settings.class_weight[examples.y]
    slopes, levels, centre = _regression(
        E, np.repeat(codes, views), np.repeat(weight / weight.mean() / views, views)
    )
    head = network.head
    W, b = np.zeros(head.weight.shape), np.empty(head.bias.shape)
    W[present] = slopes
    b[:] = logsumexp(levels) - math.log(1 + len(codes))
    b[present] = levels - slopes @ centre
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(W))
        head.bias.copy_(torch.from_numpy(b))
    return present


def _embed(
    network: Network, examples: Examples, settings: Settings, seed: int
) -> NDArray[np.float64]:
    """Embed the views of images, which follow each other: (n · views, E)."""
    batches = Batches(examples, np.random.default_rng(seed))
    step = settings.batch_size
    E = np.empty((len(batches), network.head.in_features))
    network.backbone.eval()
    for start in range(0, len(batches), step):
        rows = range(start, min(start + step, len(batches)))
        with compute_threads(step * examples.X[0].size):
            images = batches.images(list(rows)).numpy()
        E[rows.start : rows.stop] = infer(
            network.backbone,
            network.backbone,
            images,
            batch_size=step,
            device=settings.device,
        )
    return E


def _regression(
    E: NDArray[np.float64], codes: NDArray[np.intp], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Slopes (K, E), levels (K,) in the middle, and the middle (E,), of a logistic regression."""
    centre = E.mean(axis=0)
    E -= centre
    scale = math.sqrt(np.einsum("ij,ij->i", E, E).mean())
    if scale <= _NO_SPREAD * float(np.linalg.norm(centre)):
        E[:], scale = 0.0, 1.0
    E /= scale
    probe = LogisticRegression(C=_C, max_iter=1000).fit(E, codes, sample_weight=weight)
    slopes, levels = probe.coef_ / scale, probe.intercept_
    if len(levels) == 1:
        # Of two classes it has the difference alone.
        slopes, levels = np.vstack([-slopes, slopes]) / 2, np.append(-levels, levels) / 2
    return slopes, levels, centre
