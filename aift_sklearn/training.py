"""One call of training: a skorch net that can be rolled back, and the batches it is fed.

Letters: n images of C channels, k images of a batch, K classes.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .backbones import Backbone, as_input, to_tensor
from .errors import NonFiniteLossError
from .progress import ProgressBar

__all__ = ["Network", "infer", "seeded", "train"]

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (k, K)."""
        if self.training:
            adapt = self.adapt_batch_norm and len(x) >= _BATCH_NORM_MIN
            for module in self.modules():
                if isinstance(module, _BATCH_NORM):
                    module.train(adapt)
        logits: torch.Tensor = self.head(self.backbone(x))
        return logits


class _Batches(Dataset[Any]):
    """Training examples, fetched a batch at a time: view v of image i is item i·views + v."""

    def __init__(
        self, X: Array, y: Array, augmentation: Any, views: int, rng: np.random.Generator
    ) -> None:
        self.X, self.y, self.views = to_tensor(X), torch.from_numpy(y), views
        self.augmentation, self.rng = augmentation, rng

    def __len__(self) -> int:
        return len(self.X) * self.views

    def __getitem__(self, items: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.__getitems__(items)

    def __getitems__(self, items: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.tensor(items) // self.views
        images = self.X[rows]
        if self.augmentation is not None:
            images = self.augmentation.sample(images, self.rng)
        return as_input(images), self.y[rows]


def _as_is(batch: Any) -> Any:
    return batch


class _Net(NeuralNetClassifier):
    """skorch's training loop, which stops on a loss that is not finite and lets go of Ctrl-C."""

    def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
        self.last_images_ = batch[0]
        step = super().train_step_single(batch, **fit_params)
        if not torch.isfinite(step["loss"]):
            raise NonFiniteLossError(
                f"the loss became {step['loss'].item()} in epoch {len(self.history)}, with "
                f"lr={self.lr:g} in this call. The weights from before this call were restored. "
                "Lower lr (or continued_lr_factor, head_lr_factor), or look for odd images among "
                "the newest labels."
            )
        return step

    def run(self, batches: _Batches) -> None:
        """Train, without skorch's silence about interrupts."""
        self.initialize()
        self.notify("on_train_begin", X=batches, y=None)
        self.fit_loop(batches)
        self.notify("on_train_end", X=batches, y=None)


class _LastEpoch(Callback):
    """Keep the trained weights of the last finished epoch, for an interrupt."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.state = copy.deepcopy(network.state_dict())

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.state = copy.deepcopy(self.network.state_dict())


class _ShowProgress(Callback):
    """A bar that counts batches and shows the last epoch's loss."""

    def __init__(self, bar: ProgressBar) -> None:
        self.bar = bar

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        self.bar.advance()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.bar.describe(f"training, loss {net.history[-1, 'train_loss']:.3f}")


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch inside the block only."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def train(
    network: Network,
    X: Array,
    y: Array,
    *,
    seed: int,
    lr: float,
    head_lr_factor: float,
    max_epochs: int,
    batch_size: int,
    weight_decay: float,
    max_grad_norm: float,
    class_weight: Array | None,
    augmentation: Any,
    views: int,
    device: str,
    verbose: int,
) -> list[dict[str, float]]:
    """Train the network in place; if that fails, it is left as it was before.

    Parameters
    ----------
    network : Network
        Its parameters that require a gradient are trained.
    X : ndarray of shape (n, C, h, w) or (n, f)
        Images or features.
    y : ndarray of shape (n,), int64
        Class indices.
    seed, lr, head_lr_factor, max_epochs, batch_size, weight_decay, max_grad_norm, verbose
        As of `CNNClassifier`.
    class_weight : ndarray of shape (K,), float32, optional
        Weight of each class in the loss.
    augmentation : AffinePatches, optional
        Draws fresh views.
    views : int
        Views of each image in an epoch.
    device : str
        Where to train.

    Returns
    -------
    list of dict
        One per epoch: epoch, train_loss, dur (seconds).

    Raises
    ------
    NonFiniteLossError
        If training diverges; the weights from before are restored.
    KeyboardInterrupt
        Passed on; the weights are those of the last finished epoch.
    """
    batches = _Batches(X, y, augmentation, views, np.random.default_rng(seed))
    n_batches = max_epochs * -(-len(batches) // batch_size)
    before = copy.deepcopy(network.state_dict())
    last_epoch = _LastEpoch(network)
    with seeded(seed, device), ProgressBar("training", n_batches, enabled=bool(verbose)) as bar:
        net = _Net(
            network,
            criterion=nn.CrossEntropyLoss,
            criterion__weight=None if class_weight is None else torch.from_numpy(class_weight),
            optimizer=torch.optim.AdamW,
            optimizer__param_groups=[("head.*", {"lr": lr * head_lr_factor})],
            optimizer__weight_decay=weight_decay,
            optimizer__fused=True,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            iterator_train=DataLoader,
            iterator_train__shuffle=True,
            iterator_train__collate_fn=_as_is,
            iterator_train__generator=torch.Generator().manual_seed(seed),
            train_split=None,
            classes=list(range(network.head.out_features)),
            callbacks=[
                ("clip", GradientNormClipping(max_grad_norm)),
                ("schedule", _warm_up_and_decay(n_batches)),
                ("last_epoch", last_epoch),
                ("progress", _ShowProgress(bar)),
            ],
            callbacks__print_log=None,
            callbacks__valid_acc=None,
            device=device,
            verbose=0,
        )
        try:
            net.run(batches)
            _check_finite(network, net.last_images_, lr)
        except KeyboardInterrupt:
            network.load_state_dict(last_epoch.state)
            raise
        except BaseException:
            network.load_state_dict(before)
            raise
        finally:
            network.eval()
    keys = ("epoch", "train_loss", "dur")
    return [{key: float(epoch[key]) for key in keys} for epoch in net.history]


def _warm_up_and_decay(n_batches: int) -> LRScheduler:
    """Let the learning rate rise over a fifth of the steps, then fall to zero.

    AdamW knows no gradient scale at first and steps at full length in every weight, which spoils a
    network that is merely continued; and the last, small steps average out.
    """
    rise = max(1.0, n_batches / 5)
    return LRScheduler(
        torch.optim.lr_scheduler.LambdaLR,
        lr_lambda=lambda step: max(
            0.0, min((step + 1) / rise, (n_batches - step) / (n_batches + 1 - rise))
        ),
        step_every="batch",
    )


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
