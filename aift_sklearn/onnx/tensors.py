"""What a network consists of, besides its code: its tensors by name, and its plain settings.

A graph is exported of one network. Its tensors may change, and are written into the graph anew; all
else that its class computes with (numbers, flags, functions, tensors in lists) is part of the
graph's structure, and another value means another graph.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import itertools
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..networks.network import Network

__all__ = ["named_tensors", "raw_bytes", "settings_of"]

# What every module has, set by torch itself.
_OF_ALL_MODULES = frozenset(vars(nn.Module()))
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, type)
_DEPTH = 6


def named_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, buffers and tensors that are plain attributes, by qualified name.

    Examples
    --------
    >>> list(named_tensors(nn.BatchNorm2d(3, affine=False)))
    ['running_mean', 'running_var', 'num_batches_tracked']
    """
    tensors = dict(
        itertools.chain(
            network.named_parameters(remove_duplicate=False),
            network.named_buffers(remove_duplicate=False),
        )
    )
    for prefix, module in network.named_modules(remove_duplicate=False):
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{prefix}.{name}".lstrip(".")] = value
    return tensors


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """Values of a tensor as ONNX stores them.

    Examples
    --------
    >>> list(raw_bytes(torch.tensor([1, 2], dtype=torch.int16)))
    [1, 0, 2, 0]
    """
    # Through bytes, since NumPy has no bfloat16.
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def settings_of(network: nn.Module) -> dict[str, Any]:
    """Describe what a network computes with besides its tensors, comparable by ``==``.

    Parameters
    ----------
    network : nn.Module
        The network.

    Returns
    -------
    dict
        By qualified names of modules and of their attributes. Whether it is in training mode,
        hooks, and what objects of foreign types hold is left out.

    Examples
    --------
    >>> settings_of(nn.Sequential(nn.ReLU())) == settings_of(nn.Sequential(nn.GELU()))
    False
    """
    names = {id(tensor): name for name, tensor in named_tensors(network).items()}
    found: dict[str, Any] = {}
    for prefix, module in network.named_modules():
        found[prefix] = type(module)
        if isinstance(module, Network):
            # What it keeps between its two parts is for training.
            continue
        for name, value in vars(module).items():
            if name not in _OF_ALL_MODULES and not isinstance(value, torch.Tensor):
                found[f"{prefix}.{name}".lstrip(".")] = _describe(value, names, _DEPTH)
    return found


def _describe(value: Any, names: Mapping[int, str], depth: int) -> tuple[Any, ...]:
    kind = type(value)
    if isinstance(value, float):
        # NaN does not equal itself.
        return kind, repr(value)
    if isinstance(value, _PLAIN):
        return kind, value
    if isinstance(value, torch.Tensor):
        # A list of the network's own tensors, as recurrent layers keep one.
        known = names.get(id(value))
        return kind, known or (value.dtype, tuple(value.shape), raw_bytes(value))
    if isinstance(value, (np.ndarray, np.generic)):
        return kind, value.dtype.str, value.shape, value.tobytes()
    if depth == 0:
        return (kind,)
    return kind, *(_describe(part, names, depth - 1) for part in _parts_of(value))


def _parts_of(value: Any) -> Iterable[Any]:
    """What decides how a function, a container or a record behaves."""
    parts: Iterable[Any] = ()
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
    elif isinstance(value, types.FunctionType):
        code = value.__code__
        # Lambdas have a name in common; they differ in their code, and in what they hold.
        held = inspect.getclosurevars(value).nonlocals
        constants = [one for one in code.co_consts if isinstance(one, _PLAIN)]
        names = (value.__qualname__, code.co_names)
        parts = (names, code.co_code, constants, value.__defaults__, held)
    elif isinstance(value, (types.BuiltinFunctionType, types.MethodType)):
        parts = (value.__qualname__,)
    elif isinstance(value, Mapping):
        parts = itertools.chain.from_iterable(value.items())
    elif isinstance(value, (list, tuple)):
        parts = value
    elif isinstance(value, (set, frozenset)):
        parts = sorted(map(repr, value))
    elif isinstance(value, (enum.Enum, range, slice)):
        parts = (repr(value),)
    elif dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace):
        parts = itertools.chain.from_iterable(vars(value).items())
    return parts
