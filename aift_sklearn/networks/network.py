"""A backbone with a head for the classes, and how a failed training of it is undone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from ..errors import TrainingInterrupted
from .backbones import Backbone

__all__ = ["Network", "unchanged_network"]

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# The statistics of fewer images are too noisy to move the running ones.
_BATCH_NORM_MIN = 16


class Network(nn.Module):
    """A backbone and a new linear head: images (k, C, h, w) → logits (k, K).

    Parameters
    ----------
    backbone : Backbone
        Whose embedding size is known.
    n_classes : int
        K.
    """

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.embedding_size, n_classes)
        # From zero the first predictions are undecided instead of random.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.adapt_batch_norm = False

    @property
    def architecture(self) -> tuple[str, int] | None:
        """What networks have in common that compute the same, but for their weights."""
        name = self.backbone.architecture
        return None if name is None else (name, self.head.out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (k, K)."""
        if self.training:
            adapt = self.adapt_batch_norm and len(x) >= _BATCH_NORM_MIN
            for module in self.modules():
                if isinstance(module, _BATCH_NORM):
                    module.train(adapt)
        logits: torch.Tensor = self.head(self.backbone(x))
        return logits


class _Snapshot:
    """All that training may change in a module: tensors by value, everything else by name."""

    # Held in tables of their own, one level below the module's attributes.
    _TABLES = ("_parameters", "_buffers", "_modules")

    def __init__(self, module: nn.Module) -> None:
        self.attributes = [
            (part, dict(vars(part)), [dict(vars(part)[table]) for table in self._TABLES])
            for part in module.modules()
        ]
        tensors = (*module.parameters(), *module.buffers())
        self.tensors = [(t, t.detach().clone(), t.requires_grad) for t in tensors]

    def restore(self) -> None:
        """Put everything back, in the same objects."""
        for part, attributes, tables in self.attributes:
            for table, entries in zip(self._TABLES, tables, strict=True):
                attributes[table].clear()
                attributes[table].update(entries)
            vars(part).clear()
            vars(part).update(attributes)
        with torch.no_grad():
            for tensor, value, requires_grad in self.tensors:
                tensor.copy_(value)
                tensor.requires_grad_(requires_grad)
                tensor.grad = None


@contextlib.contextmanager
def unchanged_network(module: nn.Module) -> Iterator[None]:
    """Let a call that fails leave a module as it was, whatever failed and when.

    What an interrupt left usable on purpose, which `TrainingInterrupted` says, is kept.
    """
    before = _Snapshot(module)
    try:
        yield
    except TrainingInterrupted:
        raise
    except BaseException:
        before.restore()
        raise
