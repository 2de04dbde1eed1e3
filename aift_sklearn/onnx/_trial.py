"""A trial of a graph against the network that it was exported from, on a few patches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .._candidates import softmax
from ..errors import ExportError
from ..networks.backbones import Backbone
from .export import INPUT
from .runtime import open_session

__all__ = ["compare", "perturb", "run_onnx", "run_torch", "trial_patches"]

Outputs = dict[str, NDArray[np.float32]]

# What outputs may differ by: in units of the largest; of the change that other weights make, of
# which a single value that they do not reach would miss its share; and in probabilities.
_OF_SCALE, _OF_CHANGE, _OF_PROBABILITIES = 3e-4, 1e-2, 5e-4
_ROUNDING = 1e-5
# Of six patches two are constant: all black, where a standard deviation is 0, and all white.
_N_PATCHES, _BLACK, _WHITE = 6, 2, 3
_RANDOM = [0, 1, 4, 5]


def trial_patches(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Six patches of a shape: random ones, a black and a white one."""
    rng = np.random.default_rng(0)
    patches: NDArray[np.float32] = rng.random((_N_PATCHES, *shape), dtype=np.float32)
    patches[_BLACK], patches[_WHITE] = 0, 1
    return patches


def run_torch(network: nn.Module, patches: NDArray[np.float32]) -> Outputs:
    """Outputs of a network, of all patches at once.

    Raises
    ------
    ExportError
        If it fails, or predicts a patch otherwise when it is alone.
    """
    try:
        together, alone = (_call(network, patches[:k]) for k in (_N_PATCHES, 1))
    except Exception as error:  # it is code of the user's
        raise ExportError(
            f"the network fails on batches of {_N_PATCHES} patches or of one: "
            f"{type(error).__name__}: {error}"
        ) from error
    for name, values in together.items():
        if not np.allclose(alone[name], values[:1], rtol=1e-3, atol=1e-3, equal_nan=True):
            raise ExportError(
                "the network's predictions of a patch depend on the other patches of its batch."
            )
    return together


def _call(network: nn.Module, patches: NDArray[np.float32]) -> Outputs:
    embeddings: list[torch.Tensor] = []
    backbone = getattr(network, "backbone", None)
    hook = None
    if isinstance(backbone, Backbone):
        hook = backbone.register_forward_hook(lambda _, __, output: embeddings.append(output))
    try:
        with torch.no_grad():
            out = network(torch.from_numpy(patches.copy()))
    finally:
        if hook is not None:
            hook.remove()
    name = "embeddings" if isinstance(network, Backbone) else "logits"
    found = {name: out, **({"embeddings": embeddings[0]} if embeddings else {})}
    return {name: values.float().numpy() for name, values in found.items()}


def run_onnx(model: bytes, patches: NDArray[np.float32], names: list[str]) -> Outputs:
    """Outputs of a graph, of the patches in batches of one, two and three.

    Raises
    ------
    ExportError
        If ONNX Runtime cannot run it.
    """
    try:
        session = open_session(model, providers="CPUExecutionProvider", n_threads=1)
        batches = [patches[:1], patches[1:3], patches[3:]]
        runs = [session.run(names, {INPUT: batch}) for batch in batches]
    except Exception as error:  # ONNX Runtime raises a type of its own for every reason
        raise ExportError(f"ONNX Runtime cannot run the network: {error}") from error
    try:
        parts = [np.concatenate(part) for part in zip(*runs, strict=True)]
    except ValueError as error:
        raise ExportError("the graph's outputs do not have a row for each patch.") from error
    return dict(zip(names, parts, strict=True))


def perturb(tensors: Mapping[str, torch.Tensor]) -> None:
    """Change all weights and statistics a little; signs stay, zeros become small numbers."""
    generator = torch.Generator().manual_seed(0)
    unique: Iterable[torch.Tensor] = {id(one): one for one in tensors.values()}.values()
    for tensor in unique:
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator).to(tensor.dtype)
            values = tensor.detach()
            moved = values * (0.9 + 0.2 * noise) + 0.01 * noise * (values == 0)
            # Not in place: some tensors repeat their memory.
            tensor.data = moved


def compare(
    expected: Outputs, found: Outputs, when: str, *, change_from: Outputs | None = None
) -> None:
    """Refuse a graph whose outputs differ from the network's.

    Parameters
    ----------
    expected, found : dict of str to ndarray of shape (6, …)
        Outputs of the network, and of the graph.
    when : str
        Ends the message.
    change_from : dict, optional
        Outputs of the network with its weights from before they were changed.

    Raises
    ------
    ExportError
        If they differ by more than rounding.
    """
    for name, wanted in expected.items():
        got = found[name]
        if got.shape != wanted.shape:
            raise ExportError(f"{name} has shape {got.shape} in the graph, not {wanted.shape}.")
        if not np.isfinite(wanted[_RANDOM]).all():
            raise ExportError(f"{name} of random patches are not finite{when}.")
        with np.errstate(invalid="ignore"):
            change = None if change_from is None else wanted - change_from[name]
        pairs: list[tuple[Any, Any, Any]] = [(got, wanted, _allowed(wanted, change))]
        if name == "logits" and wanted.ndim == 2:
            pairs.append((_softmax(got), _softmax(wanted), _OF_PROBABILITIES))
        for a, b, allowed in pairs:
            # Where the one is NaN the other has to be, too: a comparison with NaN is false.
            with np.errstate(invalid="ignore"):
                same = (np.abs(a - b) <= allowed) | (a == b) | (np.isnan(a) & np.isnan(b))
            if not same.all():
                with np.errstate(invalid="ignore"):
                    off = np.abs(a - b)[~same]
                how = f"by up to {off.max():.2g}" if np.isfinite(off).all() else "in what is NaN"
                raise ExportError(f"{name} of ONNX Runtime differ from the network's {how}{when}.")


def _allowed(wanted: NDArray[Any], change: NDArray[Any] | None) -> NDArray[Any]:
    """What each row may differ by. Constant patches may put out much more than others."""
    flat = np.abs(np.nan_to_num(wanted.reshape(len(wanted), -1), posinf=0, neginf=0))
    usual = flat[_RANDOM].max()
    scale = np.maximum(flat.max(axis=1), usual)
    allowed = _OF_SCALE * scale
    if change is not None:
        most = np.abs(change[_RANDOM]).max()
        allowed = np.minimum(allowed, _OF_CHANGE * most * scale / max(usual, 1e-30))
    allowed = allowed + _ROUNDING * scale + 1e-6
    rows: NDArray[Any] = allowed.reshape(-1, *[1] * (wanted.ndim - 1))
    return rows


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        proba: NDArray[Any] = softmax(logits.astype(np.float64))
    return proba
