"""What the rows of a study depend on, told by value.

Two settings that make the same rows are told alike, however they were written: a default that is
given and one that is left out, a list and an array. Two that may differ are told apart: functions
by their code and what it reads, modules of the user's own by their source, networks by their layers
and their weights, data by its contents. Everything is text, so that it can be kept beside a table
and compared.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import math
import os
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from .code_text import class_text, function_text, records_kept, shorten
from .datasets import Dataset
from .user_modules import module_text

__all__ = ["describe", "describe_dataset", "describe_estimator", "describe_strategy"]

# Parameters that change what is shown or how fast it is, and no row.
_WITHOUT_EFFECT = frozenset({"verbose", "n_jobs"})
# What a study hands to a strategy itself, whatever was given before.
_GIVEN_BY_THE_STUDY = frozenset({"n_instances", "random_state"})


def describe(value: Any) -> str:
    """Tell a value by what it holds, as short text.

    Examples
    --------
    >>> describe({"alpha": 0.25, "views": (1, 2.0)}) == describe({"views": [1, 2], "alpha": 0.25})
    True
    >>> describe(lambda P: P.max()) == describe(lambda P: P.min())
    False
    """
    return _describe(value)


def describe_strategy(strategy: Any) -> dict[str, str]:
    """Tell a query strategy by its code and every parameter, defaults among them.

    Examples
    --------
    >>> from aift_sklearn import aift_sampling
    >>> given = functools.partial(aift_sampling, alpha=0.25)
    >>> describe_strategy(given) == describe_strategy(aift_sampling)
    True
    """
    function: Any = strategy
    positional: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        positional = function.args + positional
        named = {**function.keywords, **named}
        function = function.func
    if isinstance(function, types.FunctionType):
        # Its defaults are told as parameters.
        told = {"code": function_text(function, _describe, defaults=False)}
    else:
        told = describe_estimator(function)
    try:
        bound = inspect.signature(function).bind_partial(*positional, **named)
    except (TypeError, ValueError):  # a built-in, or arguments that do not fit
        return {**told, "arguments": describe([positional, named])}
    bound.apply_defaults()
    given = {name for name in bound.arguments if name in _GIVEN_BY_THE_STUDY}
    return told | {
        name: describe(value) for name, value in bound.arguments.items() if name not in given
    }


def describe_estimator(estimator: Any) -> dict[str, str]:
    """Tell an estimator by its class and all parameters, nested ones by their path.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> told = describe_estimator(LogisticRegression(C=0.5))
    >>> told["class"], told["C"]
    ('sklearn.linear_model._logistic.LogisticRegression', '0.5')
    """
    return dict(_parameters(estimator, ""))


def _parameters(value: Any, path: str) -> Iterator[tuple[str, str]]:
    below = f"{path}." if path else ""
    if isinstance(value, torch.nn.Module):
        yield f"{path} layers".strip(), shorten("layers", _module_text(value, ()))
        yield f"{path} weights".strip(), shorten("weights", _weights_text(value))
    elif hasattr(value, "get_params") and not isinstance(value, type):
        yield f"{path} class".strip(), _class_of(type(value), ())
        for name, each in sorted(value.get_params(deep=False).items()):
            if name not in _WITHOUT_EFFECT:
                yield from _parameters(each, f"{below}{name}")
    elif isinstance(value, list | tuple) and any(_is_step(each) for each in value):
        for position, each in enumerate(value):
            if _is_step(each):
                name, step, *rest = each
                yield f"{below}{position}", describe([name, *rest])
                yield from _parameters(step, f"{below}{name}")
            else:
                yield f"{below}{position}", describe(each)
    else:
        yield path or "code", describe(value)


def _is_step(value: Any) -> bool:
    """Whether this is a step of a pipeline or the like: (name, estimator, ...)."""
    return isinstance(value, tuple) and len(value) > 1 and hasattr(value[1], "get_params")


def describe_dataset(dataset: Dataset, *, groups: bool = False) -> dict[str, str]:
    """Tell a data set by its contents; its groups count where strategies are given them."""
    told = {
        "pool": _images_text(dataset.X),
        "labels of the pool": describe([str(label) for label in dataset.y]),
        "test set": _images_text(dataset.X_test),
        "labels of the test set": describe([str(label) for label in dataset.y_test]),
    }
    if groups:
        told["groups"] = describe(np.asarray(dataset.groups))
    return told


def _images_text(X: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for start in range(0, len(X), 256):
        digest.update(np.ascontiguousarray(X[start : start + 256]).tobytes())
    return f"{tuple(X.shape)} {X.dtype} #{digest.hexdigest()}"


def _describe(value: Any, inside: tuple[int, ...] = ()) -> str:
    """Text of a value; ``inside`` are the objects that it was reached through."""
    for kinds, plain in _PLAIN:
        if isinstance(value, kinds):
            return plain(value)
    if id(value) in inside:
        return "..."
    inside = (*inside, id(value))
    for kinds, text in _HOLDING:
        if isinstance(value, kinds):
            return text(value, inside)
    return _object_text(value, inside)


def _number_text(value: Any) -> str:
    number = value.item() if isinstance(value, np.generic) else value
    whole = isinstance(number, float) and math.isfinite(number) and number.is_integer()
    return repr(int(number)) if whole else repr(number)


def _builtin_text(value: Any) -> str:
    owner = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType | type):
        return str(getattr(value, "__qualname__", value))
    return f"{type(owner).__name__}.{value.__name__} of {_describe(owner)}"


def _class_of(value: Any, inside: tuple[int, ...]) -> str:
    return class_text(value, functools.partial(_describe, inside=inside))


def _code_of(value: Any, inside: tuple[int, ...]) -> str:
    return function_text(value, functools.partial(_describe, inside=inside))


def _method_text(value: Any, inside: tuple[int, ...]) -> str:
    parts = [_describe(each, inside) for each in (value.__func__, value.__self__)]
    return shorten("method", f"method({', '.join(parts)})")


def _partial_text(value: Any, inside: tuple[int, ...]) -> str:
    return shorten("partial", _describe(describe_strategy(value), inside))


def _network_text(value: Any, inside: tuple[int, ...]) -> str:
    return shorten("network", f"{_module_text(value, inside)}; {_weights_text(value)}")


def _array_text(value: Any, inside: tuple[int, ...]) -> str:
    if isinstance(value, torch.Tensor):
        return shorten("tensor", _tensor_text(value))
    if value.dtype.kind not in "biuf" or value.size <= 20:
        return _describe(value.tolist(), inside)
    # By value: whole numbers may come in any type.
    same = value.astype(np.float64) if value.dtype.kind == "f" else value.astype(np.int64)
    return _images_text(same) if value.ndim else repr(value.item())


def _tensor_text(value: torch.Tensor) -> str:
    data = value.detach().cpu()
    if data.layout != torch.strided or data.is_quantized:
        return str(data)
    held = data.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{tuple(data.shape)} {data.dtype} #{hashlib.blake2b(held, digest_size=8).hexdigest()}"


def _container_text(value: Any, inside: tuple[int, ...]) -> str:
    if isinstance(value, Mapping):
        items = sorted((_describe(k, inside), _describe(v, inside)) for k, v in value.items())
        return shorten("mapping", "{" + ", ".join(f"{k}: {v}" for k, v in items) + "}")
    if isinstance(value, set | frozenset):
        return shorten("set", "{" + ", ".join(sorted(_describe(v, inside) for v in value)) + "}")
    if len(value) > 20:
        numbers = [each for each in value if isinstance(each, int | float)]
        if len(numbers) == len(value):
            return _array_text(np.asarray(value), inside)
    return shorten("list", "[" + ", ".join(_describe(v, inside) for v in value) + "]")


def _object_text(value: Any, inside: tuple[int, ...]) -> str:
    """Tell any other object by its class and what it holds."""
    name = _class_of(type(value), inside)
    if hasattr(value, "get_params"):
        held = value.get_params(deep=False)
        state: Any = {k: v for k, v in held.items() if k not in _WITHOUT_EFFECT}
    elif isinstance(value, np.random.Generator):
        state = value.bit_generator.state
    elif isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
    elif hasattr(value, "__dict__"):
        kept = records_kept(type(value))
        state = {k: v for k, v in vars(value).items() if not kept(k, v)}
    else:
        try:
            state = value.__reduce_ex__(4)[1:]
        except Exception:  # what cannot be pickled is told by its class alone
            state = None
        if isinstance(state, tuple):
            state = [list(each) if isinstance(each, Iterator) else each for each in state]
    return shorten(type(value).__name__, f"{name}({_describe(state, inside)})")


# Networks.


def _module_text(module: torch.nn.Module, inside: tuple[int, ...]) -> str:
    """Tell a network by its classes, settings and structure, not by its weights."""
    inside = (*inside, id(module))
    parts = [_class_of(type(module), inside)]
    for name, value in sorted(vars(module).items()):
        if name in ("_parameters", "_buffers", "_modules", "training"):
            continue
        if isinstance(value, dict) and name.startswith("_"):
            value = list(value.values())  # noqa: PLW2901 hooks: their keys are counted per process
        parts.append(f"{name}={_describe(value, inside)}")
    for name, value in module._parameters.items():
        shown = "None" if value is None else f"{tuple(value.shape)} {value.requires_grad}"
        parts.append(f"{name}: {shown}")
    for name, child in module._modules.items():
        text = "None" if child is None else _module_text(child, inside)
        parts.append(f"{name}: {text}")
    return "; ".join(parts)


def _weights_text(module: torch.nn.Module) -> str:
    named = [*module.named_parameters(), *module.named_buffers()]
    return "; ".join(
        f"{name} {type(each).__name__ if _is_lazy(each) else _tensor_text(each)}"
        for name, each in named
    )


def _is_lazy(tensor: torch.Tensor) -> bool:
    return isinstance(
        tensor, torch.nn.parameter.UninitializedParameter | torch.nn.parameter.UninitializedBuffer
    )


_PLAIN: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    ((enum.Enum, bool, np.bool_, type(None)), str),
    ((int, float, np.integer, np.floating), _number_text),
    ((str, bytes, complex), lambda value: shorten(type(value).__name__, repr(value))),
    (os.PathLike, lambda value: repr(os.fspath(value))),
    (types.ModuleType, module_text),
    ((torch.dtype, torch.device), str),
    ((types.BuiltinFunctionType, np.ufunc), _builtin_text),
)
_HOLDING: tuple[tuple[Any, Callable[[Any, tuple[int, ...]], str]], ...] = (
    ((np.ndarray, torch.Tensor), _array_text),
    ((list, tuple, set, frozenset, Mapping), _container_text),
    (functools.partial, _partial_text),
    (types.FunctionType, _code_of),
    (types.MethodType, _method_text),
    (type, _class_of),
    (torch.nn.Module, _network_text),
)
