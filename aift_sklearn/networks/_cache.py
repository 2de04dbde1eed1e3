"""Networks that estimators built before they were fitted, so that each is built once."""

from __future__ import annotations

import threading
import weakref
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .backbones import Backbone

__all__ = ["build_once", "built_before"]

# Beside the estimators, by identity and weakly: what is copied, cloned, pickled, stored or compared
# of an estimator then never holds a network that it can build again.
_BUILT: weakref.WeakKeyDictionary[Any, list[tuple[Any, Backbone]]] = weakref.WeakKeyDictionary()
_BUILDING = threading.RLock()
# Of each estimator: pools of two shapes in turn, such as patches and whole candidates.
_KEPT = 2


def build_once(
    owner: Any, backbone: Any, settings: tuple[Any, ...], build: Callable[[], Backbone]
) -> Backbone:
    """Return the network that an estimator built before with the same settings, or build it.

    Parameters
    ----------
    owner : estimator
        With which the network is forgotten.
    backbone : str, nn.Module or callable
        What the network is made from. A module is compared by its weights and attributes, as it
        may have been changed since; a function by identity.
    settings : tuple
        Everything else that it depends on.
    build : callable
        Builds the network.

    Returns
    -------
    Backbone
        Shared with every later call: to be read only.
    """
    key = (_identity(backbone), settings)
    with _BUILDING:
        known = _BUILT.setdefault(owner, [])
        for built in known:
            if _equal(built[0], key):
                return built[1]
        network = build()
        # What was made from a module or a parameter that has changed since is of no use.
        kept = [built for built in known if _equal(built[0][0], key[0])]
        _BUILT[owner] = [(key, network), *kept][:_KEPT]
    return network


def built_before(owner: Any) -> Backbone | None:
    """Return the network that an estimator built last, if its parameters are still the same."""
    with _BUILDING:
        known = _BUILT.get(owner)
    if not known or not _equal(known[0][0][0], _identity(owner.backbone)):
        return None
    return known[0][1]


def _identity(backbone: Any) -> Any:
    """All that tells a backbone from one that gives something else."""
    if not isinstance(backbone, nn.Module):
        return backbone
    parts = [(name, type(part), _attributes(part)) for name, part in backbone.named_modules()]
    tensors = [
        (name, _contents(tensor))
        for named in (backbone.named_parameters, backbone.named_buffers)
        for name, tensor in named()
    ]
    return parts, tensors


def _attributes(part: nn.Module) -> dict[str, Any]:
    """Attributes of a module; of containers what they hold now, since they may be changed."""
    # Parameters are told by their checksums; training is of no effect in a network that is not.
    told = ("_parameters", "_buffers", "_modules", "training")
    return {name: _now(value) for name, value in vars(part).items() if name not in told}


def _now(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _contents(value)
    return repr(value) if isinstance(value, (list, dict, set)) else value


def _contents(tensor: torch.Tensor) -> Any:
    """Shape and checksum: a counter of versions would miss what is written through ``.data``."""
    if nn.parameter.is_lazy(tensor):
        return None
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return tensor.shape, zlib.crc32(values.numpy().data)


def _equal(a: Any, b: Any) -> bool:
    """Whether two keys are equal; what cannot be compared is equal to itself only."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    return isinstance(a, (str, int, float, torch.Size)) and a == b
