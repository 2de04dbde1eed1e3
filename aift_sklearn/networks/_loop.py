"""skorch's training loop, as this package runs it."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from torch import nn

from ..errors import NonFiniteLossError
from ._examples import Batches, images_of
from ._forward import asks_for_contiguous
from ._inference import forward_in_layout

__all__ = ["Net"]


class Net(NeuralNetClassifier):
    """skorch's training loop, which stops on a loss that is not finite and lets go of Ctrl-C."""

    def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
        """Forward and backward pass of a batch."""
        self.last_images_ = images_of(batch[0])
        try:
            step = super().train_step_single(batch, **fit_params)
        except RuntimeError as error:
            # A backward pass may ask for contiguous memory although the forward pass does not.
            backbone = self.module_.backbone
            if not (backbone.channels_last and asks_for_contiguous(error)):
                raise
            backbone.store_channels_last(False)
            self.module_.zero_grad()
            step = super().train_step_single(batch, **fit_params)
        self._check_loss(step["loss"], "the loss", "the newest labels")
        return step

    def validation_step(self, batch: Any, **fit_params: Any) -> Any:
        """Forward pass of held-out images."""
        step = super().validation_step(batch, **fit_params)
        self._check_loss(step["loss"], "the loss of held-out images", "those of the call")
        return step

    def _check_loss(self, loss: torch.Tensor, what: str, where: str) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"{what} became {loss.item()} in epoch {len(self.history)}, with lr={self.lr:g} in "
                "this call. The weights from before this call were restored. Lower lr (or "
                f"continued_lr_factor, head_lr_factor), or look for odd images among {where}."
            )

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Logits of a batch."""
        images = images_of(x).to(self.device)
        return forward_in_layout(self.module_, self.module_.backbone, images)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        """Mean loss of the batch; of weighted examples, the mean of weight times loss."""
        if not isinstance(X, dict):
            return super().get_loss(y_pred, y_true, X=X, training=training)
        labels, weight = y_true.to(y_pred.device), X["weight"].to(y_pred.device)
        class_weight = self.criterion_.weight
        loss = nn.functional.cross_entropy(y_pred, labels, weight=class_weight, reduction="none")
        if class_weight is None:
            return (weight * loss).mean()
        # Classes weigh in the mean, as in torch's own loss; heavy examples make a heavy batch.
        of_classes = (weight * class_weight[labels]).sum() / weight.sum().clamp_min(1e-30)
        # Weights so small that single precision has none for them teach nothing.
        return (weight * loss).mean() / torch.where(of_classes > 0, of_classes, 1.0)

    def run(self, batches: Batches) -> None:
        """Train, without skorch's silence about interrupts."""
        self.initialize()
        self.notify("on_train_begin", X=batches, y=None)
        try:
            self.fit_loop(batches)
        except KeyboardInterrupt:
            # skorch's EarlyStopping stops by an interrupt too.
            stops = (c for _, c in self.callbacks_ if isinstance(c, EarlyStopping))
            if not any(stop.misses_ >= stop.patience for stop in stops):
                raise
        self.notify("on_train_end", X=batches, y=None)
