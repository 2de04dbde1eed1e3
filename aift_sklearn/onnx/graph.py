"""A network as an ONNX graph whose weights are replaced, not exported anew, after every round.

An export takes seconds to minutes, and after a round of fine-tuning only numbers have changed. So
the graph is exported once, of a copy filled with random numbers by which every tensor is found
again in the graph, and `NetworkGraph.refresh` writes the real numbers there. Batch-norm is folded
into the convolutions before it in torch, since a graph in which the exporter or the runtime folded
it has no place left to write its statistics to.

Letters: k patches of C channels, h by w pixels; K classes.
"""

from __future__ import annotations

import copy
import functools
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..errors import ExportError
from ..networks.backbones import Backbone

__all__ = ["NetworkGraph"]

_INPUT = "patches"


class _WithEmbeddings(nn.Module):
    """Puts out what the head is given, too."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.head

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embeddings = self.backbone(x)
        return self.head(embeddings), embeddings


class NetworkGraph:
    """ONNX graph of a network: patches (k, C, h, w), float32 in [0, 1] → what it puts out.

    Outputs are ``logits`` (k, K) and, of a network with a backbone and a head, ``embeddings``
    (k, E); of a backbone alone ``embeddings``.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, as `CNNClassifier` keeps it in ``module_``; it is not changed.
    shape : tuple of int
        C, h and w of the patches; their number is free.

    Attributes
    ----------
    model : onnx.ModelProto
        The graph with the present weights.

    Raises
    ------
    ExportError
        If the network cannot be exported, or a tensor has no place of its own in the graph.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    >>> graph = NetworkGraph(net.eval(), (3, 8, 8))
    >>> [node.op_type for node in graph.model.graph.node]
    ['Conv', 'Relu', 'Reshape']
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        self.shape = tuple(shape)
        example = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
        self._folds = _find_folds(network, example)
        marked = _folded(network, self._folds)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for tensor in marked.state_dict().values():
                if tensor.is_floating_point():
                    # Away from 0, since terms of 0 are left out of a graph.
                    noise = torch.rand(tensor.shape, generator=generator)
                    tensor.copy_(noise + 0.5)
        self.model = _export(marked, example)
        self._places = _find_places(self.model, _numbers(marked))
        self.refresh(network)

    def refresh(self, network: nn.Module) -> None:
        """Write the weights of a network into the graph.

        Parameters
        ----------
        network : nn.Module
            Of the same architecture as the one that was exported.

        Raises
        ------
        ExportError
            If its tensors are not those of the graph; the graph is then as it was.
        """
        numbers = _folded_numbers(network, self._folds)
        if numbers.keys() != self._places.keys():
            odd = sorted(numbers.keys() ^ self._places.keys())[:4]
            raise ExportError(f"the network has other tensors than the graph, such as {odd}.")
        places = {name: self.model.graph.initializer[k] for name, k in self._places.items()}
        for name, place in places.items():
            if tuple(place.dims) != numbers[name].shape:
                raise ExportError(
                    f"{name} has shape {numbers[name].shape}; the graph holds {tuple(place.dims)}."
                )
        for name, place in places.items():
            place.raw_data = numbers[name].tobytes()

    def to_bytes(self) -> bytes:
        """Serialise the graph with its present weights, for a session or a file."""
        data: bytes = self.model.SerializeToString()
        return data


def _find_folds(network: nn.Module, example: torch.Tensor) -> dict[str, str]:
    """Batch-norm layers that are fed by nothing but a convolution: {batch-norm: convolution}."""
    fed_by: dict[int, tuple[str, torch.Tensor]] = {}
    folds: dict[str, str] = {}

    def after_convolution(name: str, module: Any, inputs: Any, output: torch.Tensor) -> None:
        # The tensor is kept, so that its identity is not given to another.
        fed_by[id(output)] = name, output

    def before_batch_norm(name: str, module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if id(inputs[0]) in fed_by:
            folds[name] = fed_by[id(inputs[0])][0]

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(functools.partial(after_convolution, name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(
                module.register_forward_pre_hook(functools.partial(before_batch_norm, name))
            )
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            expected = network.eval()(example.to(device)).cpu()
    finally:
        for hook in hooks:
            hook.remove()
    shared = len(set(folds.values())) < len(folds)
    if shared or not _agrees(_folded(network, folds), example, expected):
        raise ExportError(
            "a convolution's output is used besides its batch-norm, so that they cannot be folded "
            "into one."
        )
    return folds


def _agrees(network: nn.Module, example: torch.Tensor, expected: torch.Tensor) -> bool:
    with torch.no_grad():
        found = network(example)
    scale = float(expected.abs().max()) + 1e-6
    return bool((found - expected).abs().max() <= 1e-3 * scale)


def _folded(network: nn.Module, folds: Mapping[str, str]) -> nn.Module:
    """Copy the network to the CPU, with batch-norm folded into the convolutions before it."""
    twin = copy.deepcopy(network).to("cpu").eval()
    for module in twin.modules():
        if isinstance(module, Backbone):
            # Its pre-training classifier is no part of what is computed.
            module.head = None
    numbers = _folded_numbers(network, folds)
    for norm, convolution in folds.items():
        conv = twin.get_submodule(convolution)
        conv.weight = nn.Parameter(torch.from_numpy(numbers[f"{convolution}.weight"].copy()))
        conv.bias = nn.Parameter(torch.from_numpy(numbers[f"{convolution}.bias"].copy()))
        parent, _, child = norm.rpartition(".")
        setattr(twin.get_submodule(parent), child, nn.Identity())
    return twin


def _folded_numbers(
    network: nn.Module, folds: Mapping[str, str]
) -> dict[str, NDArray[np.floating[Any]]]:
    """Weights of the network with batch-norm folded, by name, without building it."""
    numbers = _numbers(network)
    for norm, convolution in folds.items():
        conv, bn = network.get_submodule(convolution), network.get_submodule(norm)
        with torch.no_grad():
            weight, bias = fuse_conv_bn_weights(
                conv.weight,  # type: ignore[arg-type]
                conv.bias,  # type: ignore[arg-type]
                bn.running_mean,  # type: ignore[arg-type]
                bn.running_var,  # type: ignore[arg-type]
                bn.eps,  # type: ignore[arg-type]
                bn.weight,  # type: ignore[arg-type]
                bn.bias,  # type: ignore[arg-type]
            )
        for name in [name for name in numbers if name.startswith(f"{norm}.")]:
            del numbers[name]
        numbers[f"{convolution}.weight"] = weight.detach().cpu().contiguous().numpy()
        numbers[f"{convolution}.bias"] = bias.detach().cpu().contiguous().numpy()
    return numbers


def _numbers(network: nn.Module) -> dict[str, NDArray[np.floating[Any]]]:
    """Parameters and statistics that are computed with, by name."""
    unused = {
        f"{name}.head." if name else "head."
        for name, module in network.named_modules()
        if isinstance(module, Backbone)
    }
    return {
        name: tensor.detach().cpu().contiguous().numpy()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point() and not name.startswith(tuple(unused))
    }


def _export(network: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    outputs = ["logits"]
    if hasattr(network, "backbone") and hasattr(network, "head"):
        network, outputs = _WithEmbeddings(network).eval(), ["logits", "embeddings"]
    elif isinstance(network, Backbone):
        outputs = ["embeddings"]
    try:
        with warnings.catch_warnings():
            # The exporter warns of itself, and of packages that are not installed.
            warnings.simplefilter("ignore")
            logger.setLevel(logging.ERROR)
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                optimize=True,
                verbose=False,
                dynamic_shapes=({0: torch.export.Dim("k")},),
                input_names=[_INPUT],
                output_names=outputs,
            )
    except Exception as error:  # the exporter raises a type of its own for every stage
        # The exporter's own message is a page of advice; its cause is a sentence.
        cause = error.__cause__ or error
        reason = next(iter(str(cause).splitlines()), "")
        raise ExportError(
            f"the network cannot be exported to ONNX: {type(cause).__name__}: {reason}"
        ) from error
    finally:
        logger.setLevel(level)
    assert program is not None
    return program.model_proto


def _find_places(
    model: onnx.ModelProto, numbers: Mapping[str, NDArray[np.floating[Any]]]
) -> dict[str, int]:
    """Where in the graph each tensor lies: {name: position among the initializers}."""
    known: dict[bytes, int] = {}
    for k, initializer in enumerate(model.graph.initializer):
        initializer.raw_data = onnx.numpy_helper.to_array(initializer).tobytes()
        for field in ("float_data", "double_data", "int32_data", "int64_data"):
            initializer.ClearField(field)
        known[initializer.raw_data] = k
    lost = [name for name, values in numbers.items() if values.tobytes() not in known]
    if lost:
        raise ExportError(
            f"{len(lost)} of {len(numbers)} tensors have no place of their own in the exported "
            f"graph, such as {lost[:4]}; their changes could not be written into it."
        )
    return {name: known[values.tobytes()] for name, values in numbers.items()}
