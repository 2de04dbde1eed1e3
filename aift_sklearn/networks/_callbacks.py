"""What skorch's loop does besides training, and callbacks of the user."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from skorch.callbacks import Callback, LRScheduler

from ..errors import ParameterError
from ..progress import ProgressBar

__all__ = [
    "SCHEDULES",
    "LastEpoch",
    "ShowProgress",
    "ValidAccuracy",
    "copy_callback",
    "warm_up_schedule",
]

SCHEDULES = ("linear", "cosine", "constant")
"""How the learning rate goes on after its rise."""


class LastEpoch(Callback):
    """Keep the trained weights of the last finished epoch, for an interrupt.

    Attributes
    ----------
    finished : tuple of int and dict, or None
        How many epochs were finished, and the weights then.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network
        self.finished: tuple[int, dict[str, Any]] | None = None

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        # In one step, as an interrupt may come between any two.
        self.finished = len(net.history), copy.deepcopy(self.network.state_dict())


class ValidAccuracy(Callback):
    """Accuracy on the held-out examples, by epoch."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.right = self.total = 0

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        if not training:
            self.right += int((kwargs["y_pred"].argmax(dim=1).cpu() == batch[1].cpu()).sum())
            self.total += len(batch[1])

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if self.total:
            net.history.record("valid_accuracy", self.right / self.total)


class ShowProgress(Callback):
    """A bar that counts batches and shows the last epoch's loss."""

    def __init__(self, bar: ProgressBar) -> None:
        self.bar = bar

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if training:
            self.bar.advance()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.bar.describe(f"training, loss {net.history[-1, 'train_loss']:.3f}")


def copy_callback(given: Any) -> Any:
    """Copy or make a callback: it has a state, and each call starts without one."""
    named = isinstance(given, tuple) and len(given) == 2
    callback = given[1] if named else given
    if isinstance(callback, Callback):
        try:
            callback = copy.deepcopy(callback)
        except Exception as error:  # whatever a part that cannot be copied raises
            raise ParameterError(
                f"{type(callback).__name__} in callbacks cannot be copied ({error}); pass a "
                "function that makes it: callbacks=[lambda: ...]."
            ) from error
    elif callable(callback):
        callback = callback()
    if not isinstance(callback, Callback):
        raise ParameterError(
            f"callbacks hold {given!r}; expected skorch callbacks, functions of no argument that "
            "make one, or pairs (name, callback)."
        )
    return (given[0], callback) if named else callback


def warm_up_schedule(schedule: str, n_batches: int) -> LRScheduler:
    """Let the learning rate rise over a fifth of the steps, then follow the schedule.

    AdamW knows no gradient scale at first and steps at full length in every weight, which spoils a
    network that is merely continued; and the last, small steps average out.
    """
    rise = max(1.0, n_batches / 5)

    def factor(step: int) -> float:
        left = max(0.0, (n_batches - step) / (n_batches + 1 - rise))
        then = {"linear": left, "constant": 1.0, "cosine": (1 - math.cos(math.pi * left)) / 2}
        return min((step + 1) / rise, then[schedule] if left < 1 else 1.0)

    return LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=factor, step_every="batch")
