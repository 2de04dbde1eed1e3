"""Trees of plain data back into estimators, of the classes and functions listed and no others."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from ..errors import ModelFileError, ParameterError, UnsupportedModelError, UntrustedModelError
from ..memory import Memory
from ._encoding import BIT_GENERATORS, CLASSES, find_function, fingerprint

if TYPE_CHECKING:
    import torch

__all__ = ["Decoder"]

Array = NDArray[Any]
Tree = Any


class Decoder:
    """Turns a tree back into an estimator.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    tensors : mapping of str to torch.Tensor
    skops : mapping of str to bytes
        As an `Encoder` collected them.
    estimator : estimator, optional
        Supplies again what could not be stored.
    memory : tuple of (X, y), optional
        Supplies labelled candidates that were left out.
    query_strategy : callable, optional
        Supplies a strategy that could not be stored.
    trusted : sequence of str
        Types in skops' files that may be built, besides those that skops trusts.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        tensors: Mapping[str, torch.Tensor],
        skops: Mapping[str, bytes],
        *,
        estimator: Any = None,
        memory: tuple[Array, Array] | None = None,
        query_strategy: Any = None,
        trusted: tuple[str, ...] = (),
    ) -> None:
        self.arrays, self.tensors, self.skops = arrays, tensors, skops
        self.estimator, self.memory, self.query_strategy = estimator, memory, query_strategy
        self.trusted = trusted
        self.used_memory = False

    def decode(self, tree: Tree, path: tuple[str, ...] = ()) -> Any:
        """Decode a tree, or raise ModelFileError where it is none."""
        if isinstance(tree, list):
            return [self.decode(item, (*path, str(k))) for k, item in enumerate(tree)]
        if not isinstance(tree, dict):
            return tree
        kinds: dict[str, Callable[[], Any]] = {
            "float": lambda: float(tree["value"]),
            "tuple": lambda: tuple(self.decode(tree["items"], path)),
            "dict": lambda: self._decode_each(tree["items"], path),
            "pairs": lambda: {self.decode(k): self.decode(v, path) for k, v in tree["items"]},
            "array": lambda: np.array(self.arrays[tree["array"]]),
            "scalar": lambda: self.arrays[tree["array"]][()],
            "strings": lambda: np.array(tree["items"], dtype=object).reshape(tree["shape"]),
            "frame": lambda: self._decode_frame(tree, path),
            "generator": lambda: self._decode_generator(tree),
            "random state": lambda: self._decode_random_state(tree),
            "function": lambda: find_function(tree["name"]),
            "partial": lambda: functools.partial(
                self.decode(tree["function"], path),
                *self.decode(tree["args"], path),
                **self.decode(tree["keywords"], path),
            ),
            "pipeline": lambda: self._decode_pipeline(tree, path),
            "object": lambda: self._decode_object(tree, path),
            "memory": lambda: self._decode_memory(tree, path),
            "supplied": lambda: self._take_supplied(tree, path),
            "skops": lambda: self._decode_sklearn(tree),
        }
        try:
            decode = kinds[tree["$"]]
        except KeyError as error:
            raise ModelFileError(f"{'.'.join(path)}: unknown entry {tree!r:.80}.") from error
        return decode()

    def _decode_each(self, values: Mapping[str, Tree], path: tuple[str, ...]) -> dict[str, Any]:
        return {name: self.decode(value, (*path, name)) for name, value in values.items()}

    def _decode_frame(self, tree: Tree, path: tuple[str, ...]) -> Any:
        import pandas as pd

        columns = dict(enumerate(self.decode(tree["columns"], path)))
        frame = pd.DataFrame(columns, index=self.decode(tree["index"], path))
        return frame.set_axis(self.decode(tree["names"], path), axis=1)

    def _decode_generator(self, tree: Tree) -> np.random.Generator:
        state = self.decode(tree["state"])
        name = state["bit_generator"]
        if name not in BIT_GENERATORS:
            raise ModelFileError(f"unknown random generator {name!r}.")
        bit_generator: Any = getattr(np.random, name)()
        bit_generator.state = state
        return np.random.Generator(bit_generator)

    def _decode_random_state(self, tree: Tree) -> np.random.RandomState:
        random_state = np.random.RandomState()
        random_state.set_state(self.decode(tree["state"]))
        return random_state

    def _decode_pipeline(self, tree: Tree, path: tuple[str, ...]) -> Pipeline:
        steps = [(name, self.decode(step, (*path, name))) for name, step in tree["steps"]]
        pipeline = Pipeline(steps)
        vars(pipeline).update(self._decode_each(tree["attributes"], path))
        return pipeline

    def _decode_object(self, tree: Tree, path: tuple[str, ...]) -> Any:
        name = tree["class"]
        if name not in CLASSES:
            raise ModelFileError(f"unknown class {name!r}; expected one of {sorted(CLASSES)}.")
        kind = getattr(importlib.import_module(CLASSES[name]), name)
        value = kind.__new__(kind)
        attributes = self._decode_each(tree["attributes"], path)
        if isinstance(attributes.get("memory_"), _MemoryLeftOut):
            attributes.pop("memory_")
        if "left_out" in tree:
            taught = self._take_supplied_memory(tree["left_out"], optional=self.used_memory)
            attributes["X_training"], attributes["y_training"] = taught or (None, None)
        # A model of before a parameter existed has its default.
        vars(value).update(default_parameters(kind) | attributes)
        if "network" in tree:
            value.module_ = self._decode_network(tree["network"], value)
        return value

    def _decode_network(self, tree: Tree, owner: Any) -> Any:
        prefix = tree["prefix"] + "."
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }
        return owner._rebuilt(weights, tree["embedding_size"], tree["n_classes"])

    def _decode_memory(self, tree: Tree, path: tuple[str, ...]) -> Any:
        fields = self._decode_each(tree["fields"], path)
        if "fingerprint" in tree:
            taught = self._take_supplied_memory(tree)
            if taught is None:
                return _MemoryLeftOut()
            fields["X"], fields["y"] = taught
        return Memory(**fields)

    def _take_supplied_memory(
        self, tree: Tree, *, optional: bool = False
    ) -> tuple[Array, Array] | None:
        """Return the memory supplied, if it is what the tree describes."""
        if self.memory is None or tree is None:
            return None
        X, y = self.memory
        if X.shape == tuple(tree["shape"]):
            # A list or a frame comes with a type of its own.
            with contextlib.suppress(ValueError, TypeError), np.errstate(invalid="ignore"):
                X = X.astype(tree["dtype"])
        if fingerprint(X, y) == tree["fingerprint"]:
            self.used_memory = True
            return X, y
        if optional:
            return None
        raise ParameterError(
            f"memory holds {len(y)} candidates, X of shape {X.shape} and {X.dtype}; expected the "
            f"{tree['n']} of shape {tuple(tree['shape'])} that the model was taught, in the same "
            "order and with the same labels."
        )

    def _take_supplied(self, tree: Tree, path: tuple[str, ...]) -> Any:
        is_strategy = "query_strategy" in path
        if is_strategy and self.query_strategy is not None:
            inner = "__".join(path[path.index("query_strategy") + 1 :])
            if not inner:
                return self.query_strategy
            parameters: dict[str, Any] = getattr(self.query_strategy, "get_params", dict)()
            if inner in parameters:
                return parameters[inner]
        name = "__".join(part.rstrip("_") for part in path)
        if self.estimator is not None:
            known = self.estimator.get_params(deep=True)
            # The classifier alone may be supplied for a learner around it.
            for candidate in (name, name.partition("__")[2]):
                if candidate in known:
                    return known[candidate]
        way = "query_strategy=..." if is_strategy else "estimator=..."
        raise UnsupportedModelError(
            f"{name} was {tree['type']}, which is not stored since that could run code; supply it "
            f"again: load(folder, {way}), built as the saved one was."
        )

    def _decode_sklearn(self, tree: Tree) -> Any:
        import skops.io

        data = self.skops[tree["file"]]
        try:
            unknown = set(skops.io.get_untrusted_types(data=data)) - set(self.trusted)
            if unknown:
                raise UntrustedModelError(
                    f"{tree['class']} holds {sorted(unknown)}, which skops does not trust. If you "
                    f"know where the model comes from: load(folder, trusted={sorted(unknown)})."
                )
            return skops.io.loads(data, trusted=list(self.trusted))
        except UntrustedModelError:
            raise
        except Exception as error:  # skops raises what its parts do
            raise ModelFileError(f"{tree['class']} cannot be read by skops: {error}") from error


class _MemoryLeftOut:
    """Stands for labelled candidates that were neither stored nor supplied."""


def default_parameters(kind: type) -> dict[str, Any]:
    """Defaults of a class's constructor, by name; none of a class that is no estimator.

    >>> default_parameters(Pipeline)
    {'transform_input': None, 'memory': None, 'verbose': False}
    """
    if not issubclass(kind, BaseEstimator):
        return {}
    known = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in known if p.default is not p.empty}
