"""A network as an ONNX graph whose weights are replaced, not exported anew, after every round.

An export takes seconds to minutes, and after a round of fine-tuning only numbers have changed. So
the graph is exported once, with every tensor of the network under its own name, and
`NetworkGraph.refresh` writes the present numbers there.

Letters: k patches of C channels, h by w pixels; K classes.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ..errors import ExportError
from ._trial import compare, perturb, run_onnx, run_torch, trial_patches
from .export import PREFIX, export_network
from .tensors import named_tensors, raw_bytes, settings_of

__all__ = ["NetworkGraph"]


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
        If the network cannot be exported, cannot be run by ONNX Runtime, or is not the same there:
        with its own weights or, refreshed, with others.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()
    >>> graph = NetworkGraph(net, (3, 8, 8))
    >>> [node.op_type for node in graph.model.graph.node]
    ['Conv', 'BatchNormalization', 'Relu', 'Reshape']
    >>> graph.is_current(net)
    True
    >>> with torch.no_grad():
    ...     _ = net[0].weight.mul_(2)
    >>> graph.is_current(net)
    False
    >>> graph.refresh(net)
    True
    >>> graph.is_current(net)
    True
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        self.shape = tuple(shape)
        self._settings = settings_of(network)
        twin = _copy_to_cpu(network)
        tensors = named_tensors(twin)
        self._all_names = set(tensors)
        self.model, names = export_network(twin, shape, self._all_names)
        self._form = {name: _form(tensors[name]) for name in names}
        # A tensor that has several names is in the graph under one of them.
        known = {id(tensors[name]): name for name in names}
        self._aliases = {
            name: known[id(tensor)]
            for name, tensor in tensors.items()
            if id(tensor) in known and name not in self._form
        }
        constants = {constant.name: k for k, constant in enumerate(self.model.graph.initializer)}
        self._places = {name: constants[PREFIX + name] for name in names}
        for k in self._places.values():
            for field in ("float_data", "double_data", "int32_data", "int64_data", "uint64_data"):
                self.model.graph.initializer[k].ClearField(field)
        self._check(twin)
        self.refresh(network)

    def refresh(self, network: nn.Module) -> bool:
        """Write the weights of a network into the graph.

        Parameters
        ----------
        network : nn.Module
            Of the same architecture as the one that was exported.

        Returns
        -------
        bool
            Whether the graph held others.

        Raises
        ------
        ExportError
            If its tensors or settings are not those of the graph, which is then as it was.
        """
        numbers, constants = self._numbers(network), self.model.graph.initializer
        changed = [
            name for name, k in self._places.items() if constants[k].raw_data != numbers[name]
        ]
        for name in changed:
            constants[self._places[name]].raw_data = numbers[name]
        return bool(changed)

    def is_current(self, network: nn.Module) -> bool:
        """Whether the graph holds the weights of a network, bit for bit.

        Parameters
        ----------
        network : nn.Module
            Of any architecture.

        Returns
        -------
        bool
            False, too, where it is another network than `refresh` takes.
        """
        try:
            numbers = self._numbers(network)
        except ExportError:
            return False
        constants = self.model.graph.initializer
        return all(constants[k].raw_data == numbers[name] for name, k in self._places.items())

    def to_bytes(self) -> bytes:
        """Serialise the graph with its present weights, for a session or a file."""
        data: bytes = self.model.SerializeToString()
        return data

    def _numbers(self, network: nn.Module) -> dict[str, bytes]:
        """Present values of the tensors in the graph, of a network that fits it."""
        tensors = named_tensors(network)
        odd = sorted(self._all_names ^ tensors.keys())
        if odd:
            raise ExportError(f"the network has other tensors than the graph, such as {odd[:4]}.")
        for name, (shape, dtype) in self._form.items():
            found = _form(tensors[name])
            if found != (shape, dtype):
                raise ExportError(
                    f"{name} has shape {found[0]} and {found[1]}; the graph holds {shape} and "
                    f"{dtype}."
                )
        settings = settings_of(network)
        names = sorted(settings.keys() | self._settings.keys())
        odd = [name for name in names if settings.get(name) != self._settings.get(name)]
        if odd:
            raise ExportError(
                f"the network has other layers or settings than the graph: {odd[:4]} differ."
            )
        numbers = {name: raw_bytes(tensors[name]) for name in self._form}
        for name, held_as in self._aliases.items():
            tied = tensors[name] is tensors[held_as]
            if not tied and raw_bytes(tensors[name]) != numbers[held_as]:
                raise ExportError(f"{name} and {held_as} are one tensor in the graph.")
        return numbers

    def _check(self, twin: nn.Module) -> None:
        """Compare graph and network, with its own weights and with others.

        The second comparison is a proof: whatever was computed from a weight when the graph was
        made would still be the old value there.
        """
        patches = trial_patches(self.shape)
        self.refresh(twin)
        own = run_torch(twin, patches)
        compare(own, run_onnx(self.to_bytes(), patches, list(own)), "")
        perturb(named_tensors(twin))
        state = _state(twin)
        other = run_torch(twin, patches)
        # What the graph does not use it may change: some keep what they compute from weights.
        unused = self._all_names - self._form.keys() - self._aliases.keys()
        changed = [
            name
            for name, value in _state(twin).items()
            if state.get(name) != value and name not in unused
        ]
        if changed:
            raise ExportError(
                f"the network changes its own {changed[0]} while it predicts, which a graph cannot "
                "do."
            )
        self.refresh(twin)
        found = run_onnx(self.to_bytes(), patches, list(own))
        compare(other, found, " once other weights are written into it", change_from=own)


def _copy_to_cpu(network: nn.Module) -> nn.Module:
    try:
        twin = copy.deepcopy(network).to("cpu").eval()
    except Exception as error:
        raise ExportError(f"the network cannot be copied: {error}") from error
    for module in twin.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.device.type != "cpu":
                setattr(module, name, value.cpu())
    return twin


def _state(network: nn.Module) -> dict[str, Any]:
    tensors = named_tensors(network)
    return settings_of(network) | {name: raw_bytes(one) for name, one in tensors.items()}


def _form(tensor: torch.Tensor) -> tuple[tuple[int, ...], torch.dtype]:
    return tuple(tensor.shape), tensor.dtype
