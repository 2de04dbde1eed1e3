"""One call of training: settings and examples in, a trained network and its history out.

Letters: n images of C channels, k images of a batch, K classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader

from .._threads import compute_threads
from ..errors import NonFiniteLossError, OutOfMemoryError, TrainingInterrupted
from ..progress import ProgressBar
from ._callbacks import LastEpoch, ShowProgress, ValidAccuracy, copy_callback, warm_up_schedule
from ._examples import Batches, Examples
from ._forward import is_out_of_memory, to_tensor
from ._heldout import best_temperature
from ._inference import forward_in_layout, free_memory, infer
from ._loop import Net
from .network import Network

__all__ = ["Outcome", "Settings", "seeded", "train"]


@dataclass(frozen=True)
class Settings:
    """How a network is trained; as of `CNNClassifier`, ``class_weight`` of shape (K,).

    ``head_lr_factor`` is None where it depends on how the head began, see `of_head`.
    """

    lr: float
    head_lr_factor: float | None
    max_epochs: int
    batch_size: int
    weight_decay: float
    max_grad_norm: float
    class_weight: NDArray[np.float32] | None
    schedule: str
    early_stopping: int | None
    calibrate: bool
    callbacks: Sequence[Any]
    device: str
    verbose: int

    def of_head(self, *, probed: bool) -> Settings:
        """Settings for a head that tells all classes of the call by a probe already, or not."""
        if self.head_lr_factor is not None:
            return self
        return replace(self, head_lr_factor=1.0 if probed else 10.0)


@dataclass(frozen=True)
class Outcome:
    """What a call of training gave, besides the network.

    Attributes
    ----------
    history : list of dict
        One per epoch: epoch, train_loss, dur (seconds) and what callbacks recorded; of held-out
        examples also valid_loss and valid_accuracy.
    temperature : float or None
        What logits are to be divided by, where it was measured.
    interrupt : TrainingInterrupted or None
        What the caller has to raise once it has kept the network: Ctrl-C came after an epoch was
        finished, whose weights the network has.
    """

    history: list[dict[str, float]]
    temperature: float | None
    interrupt: TrainingInterrupted | None

    def unless_interrupted(self, last_step: Callable[[], object]) -> Outcome:
        """Do what comes after training, too; an interrupt leaves what was trained."""
        try:
            last_step()
        except KeyboardInterrupt as error:
            return replace(self, interrupt=TrainingInterrupted(*error.args))
        return self


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch inside the block only."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def train(
    network: Network,
    examples: Examples,
    settings: Settings,
    *,
    held_out: Examples | None = None,
    seed: int,
) -> Outcome:
    """Train the network in place.

    Where it fails, the network is left in the middle of it; `unchanged_network` undoes that.

    Parameters
    ----------
    network : Network
        Its parameters that require a gradient are trained.
    examples : Examples
        What it learns from.
    settings : Settings
        How.
    held_out : Examples, optional
        What its progress is measured on; without it there is neither early stopping nor a
        temperature.
    seed : int
        Seeds the order of the images, their views, and dropout.

    Returns
    -------
    Outcome
        History, temperature and interrupt.

    Raises
    ------
    NonFiniteLossError
        If training diverges.
    OutOfMemoryError
        If a step does not fit the memory.
    KeyboardInterrupt
        If Ctrl-C came before the first epoch was finished.
    """
    batches = Batches(examples, np.random.default_rng(seed))
    n_batches = settings.max_epochs * -(-len(batches) // settings.batch_size)
    last_epoch = LastEpoch(network)
    with (
        seeded(seed, settings.device),
        compute_threads(min(len(batches), settings.batch_size) * examples.X[0].size),
        ProgressBar("training", n_batches, enabled=bool(settings.verbose)) as bar,
    ):
        own = [
            ("own_clip", GradientNormClipping(settings.max_grad_norm)),
            ("own_schedule", warm_up_schedule(settings.schedule, n_batches)),
            ("own_last_epoch", last_epoch),
            ("own_progress", ShowProgress(bar)),
        ]
        if network.backbone.channels_last is None:
            # Of a network that was loaded, there was no example yet.
            network.backbone.choose_layout(to_tensor(batches.X[:1]).to(settings.device))
        net = _build_net(network, settings, own, held_out, seed)
        try:
            temperature = _run(net, network, batches, settings, held_out)
        except KeyboardInterrupt as error:
            if last_epoch.finished is None:
                raise
            n_epochs, weights = last_epoch.finished
            network.load_state_dict(weights)
            outcome = Outcome(_history(net, n_epochs), None, TrainingInterrupted(*error.args))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(_advice(examples, settings, error)) from error
        else:
            outcome = Outcome(_history(net, len(net.history)), temperature, None)
    network.zero_grad()
    network.eval()
    return outcome


def _run(
    net: Net, network: Network, batches: Batches, settings: Settings, held_out: Examples | None
) -> float | None:
    """Train, check what came out, and measure its temperature where that was asked for."""
    try:
        net.run(batches)
    except BaseException:
        free_memory(settings.device)
        raise
    network.eval()
    _check_finite(network, net.last_images_, settings)
    if not settings.calibrate or held_out is None:
        return None
    logits = infer(
        network,
        network.backbone,
        held_out.X,
        batch_size=settings.batch_size,
        device=settings.device,
    )
    return best_temperature(logits, held_out.y, held_out.weight)


def _advice(examples: Examples, settings: Settings, error: Exception) -> str:
    return (
        f"a training step of batch_size={settings.batch_size} on images of shape "
        f"{examples.X.shape[1:]} does not fit the memory that is left on {settings.device} "
        f"({error}). Nothing was learnt in this call. Lower batch_size, pass smaller images "
        "(AffinePatches(size=...) cuts them), or train less of the network: trainable='head'."
    )


def _history(net: Net, n_epochs: int) -> list[dict[str, float]]:
    return [_numbers(epoch) for epoch in [*net.history][:n_epochs]]


def _numbers(epoch: dict[str, Any]) -> dict[str, float]:
    """Numbers that were recorded of an epoch, without those that are skorch's own business."""
    first = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "dur")
    known = [key for key in first if key in epoch]
    others = [
        key
        for key, value in epoch.items()
        if isinstance(value, (int, float, np.number))
        and not isinstance(value, bool)
        and key not in (*first, "train_batch_count", "valid_batch_count")
    ]
    return {key: float(epoch[key]) for key in (*known, *others)}


def _build_net(
    network: Network,
    settings: Settings,
    own: list[tuple[str, Callback]],
    held_out: Examples | None,
    seed: int,
) -> Net:
    if held_out is not None:
        own.append(("own_valid_accuracy", ValidAccuracy()))
        if settings.early_stopping is not None:
            stop = EarlyStopping(patience=settings.early_stopping, load_best=True, sink=_silent)
            own.append(("own_early_stopping", stop))
    weight = settings.class_weight
    valid = None if held_out is None else Batches(held_out, np.random.default_rng(seed))
    return Net(
        network,
        criterion=nn.CrossEntropyLoss,
        criterion__weight=None if weight is None else torch.from_numpy(weight),
        optimizer=torch.optim.AdamW,
        optimizer__param_groups=[
            ("head.*", {"lr": settings.lr * (settings.head_lr_factor or 0.0)})
        ],
        optimizer__weight_decay=settings.weight_decay,
        optimizer__fused=True,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        iterator_train=DataLoader,
        iterator_train__shuffle=True,
        iterator_train__collate_fn=_as_is,
        iterator_train__generator=torch.Generator().manual_seed(seed),
        iterator_valid__collate_fn=_as_is,
        # Its own generator: the loader would draw from torch's for nothing.
        iterator_valid__generator=torch.Generator().manual_seed(seed),
        train_split=None if valid is None else predefined_split(valid),
        classes=list(range(network.head.out_features)),
        callbacks=[*own, *map(copy_callback, settings.callbacks)],
        callbacks__print_log=None,
        callbacks__valid_acc=None,
        device=settings.device,
        verbose=0,
    )


def _as_is(batch: Any) -> Any:
    return batch


def _silent(*args: Any) -> None:
    pass


def _check_finite(network: Network, images: torch.Tensor, settings: Settings) -> None:
    """Refuse a last step after which the network no longer predicts."""
    with torch.no_grad():
        logits = forward_in_layout(network, network.backbone, images.to(settings.device))
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    if not all(torch.isfinite(values).all() for values in (*trained, logits)):
        raise NonFiniteLossError(
            "the last step left weights or predictions that are not finite, with "
            f"lr={settings.lr:g} in this call. The weights from before this call were restored. "
            "Lower lr (or continued_lr_factor, head_lr_factor)."
        )
