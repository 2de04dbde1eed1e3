"""A torch network to an ONNX graph in which nothing is computed from weights beforehand.

Exporters fold what is constant to them: ``1 / p`` of a weight p, weights normalised, batch-norm in
a convolution. Once folded, no later weight reaches it. Here the weights are inputs of the graph
while it is optimised, so that nothing that depends on one is constant; ONNX Runtime folds again,
each time that a session is opened on the weights of the day.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import onnx
import torch
from torch import nn
from torch._subclasses import FakeTensor

from ..errors import ExportError
from ..networks.backbones import Backbone

__all__ = ["INPUT", "PREFIX", "export_network", "output_names"]

INPUT = "patches"

PREFIX = "network."
"""Begins the names of the network's tensors in the graph, so that none is a node's."""


class _Exported(nn.Module):
    """The network, its embeddings beside its logits, in single precision.

    Its tensors are called `PREFIX` and their names.
    """

    def __init__(self, network: nn.Module, *, with_embeddings: bool) -> None:
        super().__init__()
        self.network, self.with_embeddings = network, with_embeddings

    def forward(self, x: torch.Tensor) -> Any:
        if not self.with_embeddings:
            return self.network(x).float()
        network: Any = self.network
        embeddings = network.backbone(x)
        return network.head(embeddings).float(), embeddings.float()


def output_names(network: nn.Module) -> tuple[str, ...]:
    """What the graph of a network puts out."""
    if isinstance(network, Backbone):
        return ("embeddings",)
    if isinstance(getattr(network, "backbone", None), Backbone):
        return ("logits", "embeddings")
    return ("logits",)


def export_network(
    network: nn.Module, shape: tuple[int, int, int], tensors: set[str]
) -> tuple[onnx.ModelProto, list[str]]:
    """Export a network with every tensor that it computes with as an initializer.

    Parameters
    ----------
    network : nn.Module
        On the CPU, in evaluation mode.
    shape : tuple of int
        C, h and w of the patches; their number is free.
    tensors : set of str
        Qualified names of its parameters, buffers and other tensors.

    Returns
    -------
    model : onnx.ModelProto
        patches (k, C, h, w) → `output_names`; the initializer of a tensor is called `PREFIX` and
        its name.
    names : list of str
        Those of ``tensors`` that are used. Tensors that are one (tied weights) go by one name.

    Raises
    ------
    ExportError
        If it cannot be exported for any number of patches.
    """
    names = output_names(network)
    wrapped = _Exported(network, with_embeddings=len(names) > 1).eval()
    example = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    with _quiet(), torch.no_grad():
        program = _trace(wrapped, example)
        with _as_export_error():
            program = _in_known_terms(program)
            exported: Any = torch.onnx.export(
                program,
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=[INPUT],
                output_names=list(names),
            )
            used = _optimize(exported, {PREFIX + name for name in tensors})
    model: onnx.ModelProto = exported.model_proto
    _strip(model)
    return model, used


def _trace(network: nn.Module, example: torch.Tensor) -> Any:
    """Trace a network for any number of patches.

    Not left to `torch.onnx.export`, which, where this fails, goes on to export what holds for the
    example only.
    """

    def trace(*, strict: bool) -> Any:
        shapes = ({0: torch.export.Dim("k")},)
        return torch.export.export(network, (example,), dynamic_shapes=shapes, strict=strict)

    try:
        program = trace(strict=False)
    except Exception as error:
        # By its code instead of by running it: slower, and it follows len(x), which is a plain
        # number of the example for the other.
        try:
            program = trace(strict=True)
        except Exception:
            with _as_export_error():
                raise error from error.__cause__
    changed = [*program.graph_signature.buffers_to_mutate.values()]
    if changed:
        raise ExportError(
            f"the network changes its own {changed[0].removeprefix(PREFIX)} while it predicts, "
            "which a graph cannot do."
        )
    # What is reached past autograd the trace takes for a constant, and of a constant that has no
    # values the exporter reads whatever lies in memory, or ends the process.
    held = [program.constants, program.state_dict, program.tensor_constants]
    if any(isinstance(value, FakeTensor) for values in held for value in values.values()):
        raise ExportError(
            "the network reaches a tensor by .data in its forward, which an export cannot follow. "
            "Use the parameter itself instead of its .data, or its .detach()."
        )
    return program


def _in_known_terms(program: Any) -> Any:
    """Write what the exporter does not know, and people use, by what it knows."""
    clamp, pool = torch.ops.aten.clamp.default, torch.ops.aten.adaptive_max_pool2d.default
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    for node in nodes:
        if node.target is clamp and any(isinstance(bound, float) for bound in node.args[1:]):
            # Bounds of two types, as of clamp(1e-3, 1).
            bounds = (float(one) if isinstance(one, int) else one for one in node.args[1:])
            node.args = (node.args[0], *bounds)
    if any(node.target is pool and not _divides(node) for node in nodes):
        return program.run_decompositions({pool: _adaptive_max_pool})
    return program


def _divides(node: Any) -> bool:
    """Whether all windows of an adaptive pooling are of one size."""
    size = node.args[0].meta["val"].shape[-2:]
    return all(n % k == 0 for n, k in zip(size, node.args[1], strict=True))


def _adaptive_max_pool(x: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest value of each window; where it lies is not found."""
    for axis, k in zip((-2, -1), size, strict=True):
        n = x.shape[axis]
        windows = [(j * n // k, -((j + 1) * n // -k)) for j in range(k)]
        parts = [x.narrow(axis, a, b - a).amax(axis, keepdim=True) for a, b in windows]
        x = torch.cat(parts, axis)
    return x, torch.full_like(x, -1, dtype=torch.int64)


def _optimize(exported: Any, tensors: set[str]) -> list[str]:
    """Optimise the graph with the tensors as inputs, and make them constants again."""
    graph = exported.model.graph
    held = {name: graph.initializers.pop(name) for name in [*graph.initializers] if name in tensors}
    values = {name: value.const_value for name, value in held.items()}
    for value in held.values():
        value.const_value = None
        graph.inputs.append(value)
    exported.optimize()
    graph = exported.model.graph
    # The optimiser loses constants of its own where two would have one name.
    for node in graph.all_nodes():
        for value in node.inputs:
            if value is not None and value.const_value is not None and value.producer() is None:
                node.graph.initializers.setdefault(value.name, value)
    used = []
    for value in [value for value in graph.inputs if value.name in held]:
        graph.inputs.remove(value)
        if value.uses():
            value.const_value = values[value.name]
            graph.initializers[value.name] = value
            used.append(value.name.removeprefix(PREFIX))
    return used


def _strip(model: onnx.ModelProto) -> None:
    """Leave out where in whose source code each node comes from."""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        for part in [graph, *graph.node, *graph.value_info, *graph.input, *graph.output]:
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
        for node in graph.node:
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs
    model.ClearField("metadata_props")
    model.ClearField("doc_string")


@contextmanager
def _as_export_error() -> Iterator[None]:
    """Whatever the exporter raises, for each stage a type of its own, as one error."""
    try:
        yield
    except Exception as error:
        # Its own message is a page of advice; its cause is a sentence.
        cause = error.__cause__ or error
        reason = next(iter(str(cause).strip().splitlines()), "")
        reason = f"{type(cause).__name__}: {reason}"
        if "specialized it to be a constant" in str(cause):
            reason = "it computes with the number of patches as with a constant."
        if "data-dependent" in str(cause):
            reason = (
                "its forward goes on by the values of a tensor, as by 'if x.mean() > 0:'; "
                "torch.where can take its place."
            )
        raise ExportError(f"the network cannot be exported to ONNX: {reason}") from error


# Loggers of torch that would print pages of what an ExportError says in a sentence.
_TALKATIVE = (
    "torch.onnx",
    "torch.export",
    "torch._dynamo",
    "torch._guards",
    "torch.fx.experimental.symbolic_shapes",
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from warning of itself, and of packages that are not installed."""
    levels = {logger: logger.level for logger in map(logging.getLogger, _TALKATIVE)}
    # The graph that it could not finish it prints.
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in levels:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
