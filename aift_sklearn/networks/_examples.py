"""What a network is trained on, and how it is fetched batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ._forward import to_float, to_tensor

__all__ = ["Batches", "Examples", "images_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Examples:
    """What a network is trained on, or measured with.

    Attributes
    ----------
    X : ndarray of shape (n, C, h, w) or (n, f)
        Images or features.
    y : ndarray of shape (n,), int64
        Class indices.
    weight : ndarray of shape (n,), optional
        Weights in the loss, with a mean of 1.
    augmentation : AffinePatches, optional
        Draws other views of the images in every epoch.
    views : int
        Views of each image in an epoch.
    """

    X: Array
    y: Array
    weight: NDArray[np.float64] | None = None
    augmentation: Any = None
    views: int = 1


class Batches(Dataset[Any]):
    """Training examples, fetched a batch at a time: view v of image i is item i·views + v."""

    def __init__(self, examples: Examples, rng: np.random.Generator) -> None:
        self.X, self.y = examples.X, torch.from_numpy(examples.y)
        weight = examples.weight
        self.weight = None if weight is None else torch.from_numpy(weight.astype(np.float32))
        self.augmentation, self.views, self.rng = examples.augmentation, examples.views, rng

    def __len__(self) -> int:
        return len(self.X) * self.views

    def __getitem__(self, items: list[int]) -> tuple[Any, torch.Tensor]:
        return self.__getitems__(items)

    def __getitems__(self, items: list[int]) -> tuple[Any, torch.Tensor]:
        rows = torch.tensor(items) // self.views
        images = self.images(items)
        if self.weight is None:
            return images, self.y[rows]
        # Beside the images, as skorch has it: scoring callbacks expect labels alone.
        return {"images": images, "weight": self.weight[rows]}, self.y[rows]

    def images(self, items: list[int]) -> torch.Tensor:
        """Draw the views of a batch alone."""
        rows = torch.tensor(items) // self.views
        # Of a batch at a time: a copy of all would take their memory twice.
        images = to_tensor(self.X[rows.numpy()])
        if self.augmentation is not None:
            images = self.augmentation.sample(images, self.rng)
        return to_float(images)


def images_of(inputs: Any) -> torch.Tensor:
    """Images of a batch's inputs, which may hold weights beside them."""
    images: torch.Tensor = inputs["images"] if isinstance(inputs, dict) else inputs
    return images
