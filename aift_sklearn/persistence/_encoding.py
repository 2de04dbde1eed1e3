"""Estimators as a tree of plain data, which never needs code that a file names.

A tree holds None, booleans, integers, floats, text and lists as JSON has them. Everything else is a
dict with the key "$", which says what it is: an array (kept beside the tree), a network (its
weights beside the tree), one of the classes and functions listed here, or a scikit-learn estimator
in skops' format.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from .._saving import transient_attributes
from ..errors import ModelFileError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

__all__ = [
    "BIT_GENERATORS",
    "CLASSES",
    "Encoder",
    "describe_memory",
    "find_function",
    "fingerprint",
]

Array = NDArray[Any]
Tree = Any

CLASSES = {
    "AIFTClassifier": "aift_sklearn.classifier",
    "_OneClass": "aift_sklearn.learning.training",
    "AIFTLearner": "aift_sklearn.learner",
    "AffinePatches": "aift_sklearn.patches.affine",
    "CNNClassifier": "aift_sklearn.networks.cnn",
    "CNNFeatures": "aift_sklearn.networks.features",
    "JitterPatches": "aift_sklearn.patches.jitter",
    "QueryStrategy": "aift_sklearn.query.strategy",
}
"""What a tree may be built of: this package's estimators, and the modules that hold them."""
_FUNCTIONS = {
    "aift_sampling": "aift_sklearn.query",
    "random_sampling": "aift_sklearn.query",
    "patch_diversity": "aift_sklearn.query",
    "patch_entropy": "aift_sklearn.query",
    "classifier_entropy": "modAL.uncertainty",
    "classifier_margin": "modAL.uncertainty",
    "classifier_uncertainty": "modAL.uncertainty",
    "entropy_sampling": "modAL.uncertainty",
    "margin_sampling": "modAL.uncertainty",
    "uncertainty_sampling": "modAL.uncertainty",
}
"""Query strategies and utilities that a tree may name, and the modules that hold them."""
BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
"""NumPy's generators of random bits."""
_SKOPS_HINT = (
    "Define functions in a module; of a search or a calibration around a network, save the "
    "estimator inside, such as best_estimator_."
)


def fingerprint(X: Array, y: Array) -> str:
    """SHA-256 of labelled candidates: what they are compared by when they are supplied again.

    Examples
    --------
    >>> X = np.zeros((2, 3))
    >>> fingerprint(X, np.array(["a", "b"])) == fingerprint(X, np.array(["b", "a"]))
    False
    """
    digest = hashlib.sha256(f"{X.shape} {X.dtype.str} {len(y)}".encode())
    if X.dtype.hasobject:
        # Its bytes would be addresses.
        for item in X.ravel().tolist():
            part = np.asarray(item)
            bare = repr(item).encode() if part.dtype.hasobject else part.tobytes()
            digest.update(f"{part.shape} {part.dtype.str}".encode() + bare)
    else:
        digest.update(np.ascontiguousarray(X).tobytes())
    # The label "1" is not the label 1.
    labels = (f"'{label}" if isinstance(label, str) else str(label) for label in y.tolist())
    digest.update("\0".join(labels).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def describe_memory(X: Array, y: Array) -> dict[str, Tree]:
    """What is kept of labelled candidates that are left out.

    Examples
    --------
    >>> sorted(describe_memory(np.zeros((2, 3)), np.array(["a", "b"])))
    ['dtype', 'fingerprint', 'n', 'shape']
    """
    return {
        "n": len(y),
        "shape": list(X.shape),
        "dtype": X.dtype.str,
        "fingerprint": fingerprint(X, y),
    }


class Encoder:
    """Turns an estimator into a tree, and collects what is stored beside it.

    Parameters
    ----------
    include_memory : bool, default=True
        Whether labelled candidates are stored, or only their fingerprint.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Each array once, however often it occurs.
    tensors : dict of str to torch.Tensor
        Weights of all networks.
    skops : dict of str to bytes
        scikit-learn estimators.

    Examples
    --------
    >>> encoder = Encoder()
    >>> encoder.encode({"lr": 0.1, "rounds": (1, 2)})
    {'$': 'dict', 'items': {'lr': 0.1, 'rounds': {'$': 'tuple', 'items': [1, 2]}}}
    """

    def __init__(self, *, include_memory: bool = True) -> None:
        self.include_memory = include_memory
        self.arrays: dict[str, Array] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self.skops: dict[str, bytes] = {}
        self._array_names: dict[bytes, str] = {}

    def encode(self, value: Any, path: tuple[str, ...] = ()) -> Tree:  # noqa: PLR0911
        """Encode a value; ``path`` says where it was found, for errors and for supplying again."""
        if value is None or type(value) in (bool, str, int):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$": "float", "value": repr(value)}
        if isinstance(value, (list, tuple, dict)):
            return self._encode_container(value, path)
        if isinstance(value, np.ndarray):
            return self._encode_array(value, path)
        if isinstance(value, np.generic):
            return {"$": "scalar", "array": self._keep_array(np.asarray(value), path)}
        if isinstance(value, (np.random.Generator, np.random.RandomState)):
            return self._encode_random_numbers(value, path)
        if isinstance(value, BaseEstimator):
            return self._encode_estimator(value, path)
        if callable(value):
            return self._encode_function(value, path)
        if hasattr(value, "iloc") and hasattr(value, "columns"):
            return self._encode_frame(value, path)
        raise _unsupported_error(value, path)

    def _encode_frame(self, value: Any, path: tuple[str, ...]) -> Tree:
        columns = [value.iloc[:, k].to_numpy() for k in range(value.shape[1])]
        return {
            "$": "frame",
            "names": self.encode(value.columns.tolist(), path),
            "columns": self.encode(columns, path),
            "index": self.encode(value.index.to_numpy(), path),
        }

    def _encode_estimator(self, value: Any, path: tuple[str, ...]) -> Tree:
        if type(value) is Pipeline:
            steps = [[name, self.encode(step, (*path, name))] for name, step in value.steps]
            rest = {k: v for k, v in vars(value).items() if k != "steps"}
            return {"$": "pipeline", "steps": steps, "attributes": self._encode_each(rest, path)}
        if _is_own_class(type(value)):
            return self._encode_own(value, path)
        return self._encode_sklearn(value, path)

    def _encode_container(self, value: Any, path: tuple[str, ...]) -> Tree:
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                pairs = [[self.encode(k, path), self.encode(v, path)] for k, v in value.items()]
                return {"$": "pairs", "items": pairs}
            return {"$": "dict", "items": self._encode_each(value, path)}
        if hasattr(value, "_fields"):
            if type(value).__module__ != "aift_sklearn.memory":
                raise _unsupported_error(value, path)
            return self._encode_memory(value, path)
        items = [self.encode(item, (*path, str(k))) for k, item in enumerate(value)]
        if type(value) is list:
            return items
        if type(value) is tuple:
            return {"$": "tuple", "items": items}
        raise _unsupported_error(value, path)

    def _encode_memory(self, memory: Any, path: tuple[str, ...]) -> Tree:
        kept = memory._asdict()
        node: dict[str, Any] = {"$": "memory"}
        if not self.include_memory:
            node |= describe_memory(np.asarray(kept.pop("X")), kept.pop("y"))
        return {**node, "fields": self._encode_each(kept, path)}

    def _encode_array(self, value: Array, path: tuple[str, ...]) -> Tree:
        if value.dtype == object and all(isinstance(item, str) for item in value.flat):
            return {"$": "strings", "items": value.ravel().tolist(), "shape": list(value.shape)}
        return {"$": "array", "array": self._keep_array(value, path)}

    def _keep_array(self, value: Array, path: tuple[str, ...]) -> str:
        if type(value) is not np.ndarray or value.dtype.hasobject:
            raise _unsupported_error(value, path)
        digest = hashlib.sha256(f"{value.dtype.str} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
        name = self._array_names.setdefault(digest.digest(), f"a{len(self.arrays)}")
        self.arrays[name] = value
        return name

    def _encode_random_numbers(self, value: Any, path: tuple[str, ...]) -> Tree:
        if isinstance(value, np.random.Generator):
            kind, state = "generator", value.bit_generator.state
        else:
            kind, state = "random state", value.get_state(legacy=False)
        return {"$": kind, "state": self.encode(state, path)}

    def _encode_function(self, value: Any, path: tuple[str, ...]) -> Tree:
        if isinstance(value, functools.partial):
            return {
                "$": "partial",
                "function": self.encode(value.func, path),
                "args": self.encode(value.args, path),
                "keywords": self.encode(value.keywords, path),
            }
        name = getattr(value, "__name__", "")
        if name not in _FUNCTIONS or value is not find_function(name):
            raise _unsupported_error(value, path)
        return {"$": "function", "name": name}

    def _encode_own(self, value: Any, path: tuple[str, ...]) -> Tree:
        # What is not pickled is not stored either.
        transient = transient_attributes(value)
        attributes = {k: v for k, v in value.__getstate__().items() if k not in transient}
        node: dict[str, Any] = {"$": "object", "class": type(value).__name__}
        if "module_" in attributes:
            node["network"] = self._encode_network(attributes.pop("module_"))
        if not self.include_memory and "X_training" in attributes:
            X, y = attributes.pop("X_training"), attributes.pop("y_training")
            node["left_out"] = None if X is None else describe_memory(np.asarray(X), np.asarray(y))
        # What a learner was taught is no parameter, though its constructor takes it.
        parameters = value.get_params(deep=False).keys() - {"X_training", "y_training"}
        encoded = {}
        for name, attribute in attributes.items():
            here = (*path, name)
            try:
                encoded[name] = self.encode(attribute, here)
            except UnsupportedModelError as error:
                if name.startswith("_"):
                    raise _private_error(error, name, type(value).__name__) from error
                # What the user passed, the user can pass again; what it learnt is not in that.
                if name not in parameters or _holds_more_than_parameters(attribute):
                    raise
                encoded[name] = {"$": "supplied", "type": _type_phrase(attribute)}
        return {**node, "attributes": encoded}

    def _encode_network(self, module: Any) -> Tree:
        prefix = f"n{len({name.split('.')[0] for name in self.tensors})}"
        for name, tensor in module.state_dict().items():
            self.tensors[f"{prefix}.{name}"] = tensor.detach().cpu().contiguous()
        head = getattr(module, "head", None) if hasattr(module, "backbone") else None
        backbone = getattr(module, "backbone", module)
        return {
            "prefix": prefix,
            "embedding_size": int(backbone.embedding_size),
            "n_classes": None if head is None else int(head.out_features),
        }

    def _encode_sklearn(self, value: Any, path: tuple[str, ...]) -> Tree:
        import skops.io

        try:
            data = skops.io.dumps(value)
            named = skops.io.get_untrusted_types(data=data)
        except Exception as error:  # skops raises what its parts do
            raise UnsupportedModelError(
                f"{'.'.join(path) or type(value).__name__} cannot be stored by skops: {error}. "
                f"{_SKOPS_HINT}"
            ) from error
        # A lambda, or a function inside another, would not be found again; a network, which some
        # releases of skops do store, would be trusted as a whole.
        unfit = [name for name in named if "<" in name or name.startswith("torch.")]
        if not self.include_memory:
            self._refuse_images(value, named, path)
        if unfit:
            raise UnsupportedModelError(
                f"{'.'.join(path) or type(value).__name__} holds {unfit[:4]}, which cannot be "
                f"stored inside it. {_SKOPS_HINT}"
            )
        name = f"s{len(self.skops)}"
        self.skops[name] = data
        return {"$": "skops", "file": name, "class": type(value).__name__}

    def _refuse_images(self, value: Any, named: list[str], path: tuple[str, ...]) -> None:
        # skops stores all that an estimator holds; only this package's own leave candidates out.
        keepers = [name for name in named if name.startswith("aift_sklearn.")]
        if keepers or hasattr(value, "X_training"):
            raise UnsupportedModelError(
                f"{'.'.join(path) or type(value).__name__} keeps the candidates it was taught "
                f"where include_memory=False does not reach ({keepers or ['X_training']}). Save "
                "the AIFTClassifier inside it, such as best_estimator_, or build an AIFTClassifier "
                "of this package around your estimator."
            )

    def _encode_each(self, values: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Tree]:
        return {name: self.encode(value, (*path, name)) for name, value in values.items()}


def _is_own_class(kind: type) -> bool:
    return CLASSES.get(kind.__name__) == kind.__module__


def _holds_more_than_parameters(value: Any) -> bool:
    """Whether an estimator that cannot be stored would be lost, not only its parameters."""
    if isinstance(value, Pipeline):
        return any(_holds_more_than_parameters(step) for _, step in value.steps)
    if not isinstance(value, BaseEstimator):
        return False
    # Parameters of this package's own are left out one by one, and it is not one of them.
    fitted = any(name.endswith("_") and not name.startswith("_") for name in vars(value))
    return fitted or _is_own_class(type(value))


def find_function(name: str) -> Any:
    """Return one of the functions that a tree may name."""
    if name not in _FUNCTIONS:
        raise ModelFileError(f"unknown function {name!r}; expected one of {sorted(_FUNCTIONS)}.")
    return getattr(importlib.import_module(_FUNCTIONS[name]), name)


def _type_phrase(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return f"the function {name}" if name else f"of type {type(value).__qualname__}"


def _unsupported_error(value: Any, path: tuple[str, ...]) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{'.'.join(path) or 'the value'} is {_type_phrase(value)}, which cannot be stored as "
        "plain data. Use numbers, text, arrays, this package's estimators or scikit-learn's."
    )


def _private_error(error: Exception, name: str, owner: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{error} {name} is a private attribute of {owner}: if it is made again when it is needed, "
        f"list it in {owner}._transient, and it is left out; else delete it before saving."
    )
