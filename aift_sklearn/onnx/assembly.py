"""ONNX graphs written node by node, joined by the names of their tensors, and taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["OPSET", "Nodes", "join_graphs", "subgraph"]

OPSET = 20
"""Version of ONNX's operators, as of the networks that torch exports."""

# Of ONNX's files. The newest that the onnx package knows may be newer than ONNX Runtime takes.
_IR_VERSION = 10


class Nodes:
    """Nodes and constants of a graph that is written down node by node.

    Parameters
    ----------
    prefix : str
        Begins the names of what is inside, so that graphs can be join_graphs.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any) -> str:
        """Add a constant and return its name."""
        name = f"{self.prefix}/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a vector of integers, such as a shape, and return its name."""
        return self.constant(values, np.int64)

    def add(self, operator: str, *inputs: str, named: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = named or f"{self.prefix}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def add_all(self, operator: str, *inputs: str, n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        outputs = [f"{self.prefix}/{len(self.nodes)}/{k}" for k in range(n_outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return outputs

    def first_dimension(self, x: str) -> str:
        """Add what computes the length of a tensor's first axis, of shape (1,)."""
        return self.add("Shape", x, start=0, end=1)

    def to_model(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.ModelProto:
        """Build the model: its inputs and outputs are (name, type, shape)."""
        graph = helper.make_graph(
            self.nodes,
            self.prefix,
            [helper.make_tensor_value_info(*one) for one in inputs],
            [helper.make_tensor_value_info(*one) for one in outputs],
            initializer=self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def join_graphs(*models: onnx.ModelProto) -> onnx.ModelProto:
    """Join graphs: what one puts out under the name of another's input goes there.

    Parameters
    ----------
    *models : onnx.ModelProto
        In the order in which they are computed. Every output of each is an output of the whole.

    Returns
    -------
    onnx.ModelProto
        With the inputs that none of them puts out.
    """
    made: set[str] = set()
    graph = onnx.GraphProto(name="aift")
    domains: dict[str, int] = {}
    for model in models:
        part = model.graph
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
        graph.input.extend(one for one in part.input if one.name not in made)
        graph.output.extend(part.output)
        made |= {one.name for one in part.output}
        for opset in model.opset_import:
            domains[opset.domain] = max(opset.version, domains.get(opset.domain, 0))
    opsets = [helper.make_opsetid(name, version) for name, version in sorted(domains.items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def subgraph(model: onnx.ModelProto, start: str, outputs: Sequence[str]) -> onnx.ModelProto:
    """Take the part of a graph between a tensor inside it and some of its tensors.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph; ``start`` and ``outputs`` are among its inputs and outputs.
    start : str
        What becomes the input.
    outputs : sequence of str
        What is wanted.

    Returns
    -------
    onnx.ModelProto
        Its constants are those of ``model``, not copied where that can be avoided.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {constant.name: constant for constant in model.graph.initializer}
    needed: set[str] = set()
    open_names = list(outputs)
    while open_names:
        name = open_names.pop()
        if name == start or name in needed or not name:
            continue
        needed.add(name)
        if name in makers:
            open_names.extend(_taken_by(makers[name]))
    tensors = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    known = {one.name: one for one in tensors}
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(
        node for node in model.graph.node if any(name in needed for name in node.output)
    )
    graph.initializer.extend(constants[name] for name in constants if name in needed)
    graph.input.extend([known[start]])
    graph.input.extend(one for one in model.graph.input if one.name in needed and one.name != start)
    graph.output.extend(known[name] for name in outputs)
    return helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version
    )


def _taken_by(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node takes; a branch or the body of a loop also takes from around it."""
    yield from node.input
    for attribute in node.attribute:
        inner = [attribute.g] if attribute.HasField("g") else []
        for graph in [*inner, *attribute.graphs]:
            # More names than it takes from outside: those that it makes itself are not found.
            for one in graph.node:
                yield from _taken_by(one)
            yield from (output.name for output in graph.output)
