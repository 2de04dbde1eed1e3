"""One call of training: a skorch net that can be rolled back, and the batches it is fed.

Letters: n images of C channels, k images of a batch, K classes.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..errors import NonFiniteLossError, TrainingInterrupted
from ..progress import ProgressBar
from ._callbacks import LastEpoch, ShowProgress, ValidAccuracy, fresh, warm_up_and
from ._heldout import best_temperature
from .backbones import Backbone, as_input, to_tensor

__all__ = [
    "Examples",
    "Network",
    "Outcome",
    "Settings",
    "infer",
    "seeded",
    "train",
]

Array = NDArray[Any]

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# The statistics of fewer images are too noisy to move the running ones.
_BATCH_NORM_MIN = 16


class Network(nn.Module):
    """A backbone and a new linear head: images (k, C, h, w) → logits (k, K)."""

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
        Draws fresh views.
    views : int
        Views of each image in an epoch.
    """

    X: Array
    y: Array
    weight: NDArray[np.float64] | None = None
    augmentation: Any = None
    views: int = 1


@dataclass(frozen=True)
class Settings:
    """How a network is trained; as of `CNNClassifier`, ``class_weight`` of shape (K,)."""

    lr: float
    head_lr_factor: float
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


class _Batches(Dataset[Any]):
    """Training examples, fetched a batch at a time: view v of image i is item i·views + v."""

    def __init__(self, examples: Examples, rng: np.random.Generator) -> None:
        self.X, self.y = to_tensor(examples.X), torch.from_numpy(examples.y)
        weight = examples.weight
        self.weight = None if weight is None else torch.from_numpy(weight.astype(np.float32))
        self.augmentation, self.views, self.rng = examples.augmentation, examples.views, rng

    def __len__(self) -> int:
        return len(self.X) * self.views

    def __getitem__(self, items: list[int]) -> tuple[Any, torch.Tensor]:
        return self.__getitems__(items)

    def __getitems__(self, items: list[int]) -> tuple[Any, torch.Tensor]:
        rows = torch.tensor(items) // self.views
        images = self.X[rows]
        if self.augmentation is not None:
            images = self.augmentation.sample(images, self.rng)
        images = as_input(images)
        if self.weight is None:
            return images, self.y[rows]
        # Beside the images, as skorch has it: scoring callbacks expect labels alone.
        return {"images": images, "weight": self.weight[rows]}, self.y[rows]


def _as_is(batch: Any) -> Any:
    return batch


def _images(inputs: Any) -> torch.Tensor:
    images: torch.Tensor = inputs["images"] if isinstance(inputs, dict) else inputs
    return images


class _Net(NeuralNetClassifier):
    """skorch's training loop, which stops on a loss that is not finite and lets go of Ctrl-C."""

    def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
        self.last_images_ = _images(batch[0])
        step = super().train_step_single(batch, **fit_params)
        if not torch.isfinite(step["loss"]):
            raise NonFiniteLossError(
                f"the loss became {step['loss'].item()} in epoch {len(self.history)}, with "
                f"lr={self.lr:g} in this call. The weights from before this call were restored. "
                "Lower lr (or continued_lr_factor, head_lr_factor), or look for odd images among "
                "the newest labels."
            )
        return step

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Logits of a batch."""
        return super().infer(_images(x), **fit_params)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        """Mean loss of the batch; of weighted examples, the mean of weight times loss."""
        if not isinstance(X, dict):
            return super().get_loss(y_pred, y_true, X=X, training=training)
        labels, weight = y_true.to(y_pred.device), X["weight"].to(y_pred.device)
        of_class = self.criterion_.weight
        loss = nn.functional.cross_entropy(y_pred, labels, weight=of_class, reduction="none")
        count = len(labels) if of_class is None else of_class[labels].sum()
        return (weight * loss).sum() / count

    def run(self, batches: _Batches) -> None:
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
    """Train the network in place; if that fails, it is left as it was before.

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
        If training diverges; the weights from before are restored.
    KeyboardInterrupt
        If Ctrl-C came before the first epoch was finished; the weights are those from before.
    """
    batches = _Batches(examples, np.random.default_rng(seed))
    n_batches = settings.max_epochs * -(-len(batches) // settings.batch_size)
    before = copy.deepcopy(network.state_dict())
    last_epoch = LastEpoch(network)
    interrupt = temperature = None
    with (
        seeded(seed, settings.device),
        ProgressBar("training", n_batches, enabled=bool(settings.verbose)) as bar,
    ):
        own = [
            ("own_clip", GradientNormClipping(settings.max_grad_norm)),
            ("own_schedule", warm_up_and(settings.schedule, n_batches)),
            ("own_last_epoch", last_epoch),
            ("own_progress", ShowProgress(bar)),
        ]
        net = _build_net(network, settings, own, held_out, seed)
        try:
            net.run(batches)
            _check_finite(network, net.last_images_, settings.lr)
            if settings.calibrate and held_out is not None:
                temperature = _temperature(network, held_out, settings)
        except KeyboardInterrupt as error:
            if last_epoch.state is None:
                network.load_state_dict(before)
                raise
            network.load_state_dict(last_epoch.state)
            interrupt = TrainingInterrupted(*error.args)
        except BaseException:
            network.load_state_dict(before)
            raise
        finally:
            network.eval()
    n_epochs = len(net.history) if interrupt is None else last_epoch.n_epochs
    history = [_numbers(epoch) for epoch in [*net.history][:n_epochs]]
    return Outcome(history, temperature, interrupt)


def _temperature(network: Network, held_out: Examples, settings: Settings) -> float:
    logits = infer(
        network.eval(), held_out.X, batch_size=settings.batch_size, device=settings.device
    )
    return best_temperature(logits, held_out.y, held_out.weight)


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
) -> _Net:
    if held_out is not None:
        own.append(("own_valid_accuracy", ValidAccuracy()))
        if settings.early_stopping is not None:
            stop = EarlyStopping(patience=settings.early_stopping, load_best=True, sink=_silent)
            own.append(("own_early_stopping", stop))
    weight = settings.class_weight
    valid = None if held_out is None else _Batches(held_out, np.random.default_rng(seed))
    return _Net(
        network,
        criterion=nn.CrossEntropyLoss,
        criterion__weight=None if weight is None else torch.from_numpy(weight),
        optimizer=torch.optim.AdamW,
        optimizer__param_groups=[("head.*", {"lr": settings.lr * settings.head_lr_factor})],
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
        callbacks=[*own, *map(fresh, settings.callbacks)],
        callbacks__print_log=None,
        callbacks__valid_acc=None,
        device=settings.device,
        verbose=0,
    )


def _silent(*args: Any) -> None:
    pass


def _check_finite(network: Network, images: torch.Tensor, lr: float) -> None:
    """Refuse a last step after which the network no longer predicts."""
    with torch.no_grad():
        logits = network.eval()(images.to(network.head.weight.device))
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    if not all(torch.isfinite(values).all() for values in (*trained, logits)):
        raise NonFiniteLossError(
            f"the last step left weights or predictions that are not finite, with lr={lr:g} in "
            "this call. The weights from before this call were restored. Lower lr (or "
            "continued_lr_factor, head_lr_factor)."
        )


def infer(function: Any, X: Array, *, batch_size: int, device: str) -> NDArray[np.float32]:
    """Apply a network to X batch by batch, without gradients: (n, ...), float32."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(X), batch_size):
            images = to_tensor(X[start : start + batch_size])
            parts.append(function(as_input(images.to(device))).float().cpu().numpy())
    return np.concatenate(parts)
