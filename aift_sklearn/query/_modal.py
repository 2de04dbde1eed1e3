"""What differs between modAL's releases, and between them and the libraries of today.

modAL was written for older releases of NumPy, pandas, SciPy and scikit-learn. Importing this module
replaces, in modAL's own modules, the names that fail with current ones. Nothing outside modAL
changes.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from typing import Any

import modAL.batch
import modAL.models.base
import modAL.models.learners
import modAL.utils.data
import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_X_y

from . import _modal_frames

__all__ = ["query_result"]

_RENAMED = "ensure_all_finite" in inspect.signature(check_X_y).parameters
_RETURNS_METRICS = (
    "return_metrics" in inspect.signature(modAL.models.base.BaseLearner.query).parameters
)


def query_result(indices: NDArray[np.intp], scores: NDArray[np.float64] | None) -> Any:
    """Give the installed modAL what it wants from a strategy.

    modAL 0.4.1 expects indices, and warns on a tuple; 0.4.2 unpacks (indices, metrics), and would
    take two bare indices for that.

    Parameters
    ----------
    indices : ndarray of shape (b,)
        What is asked for.
    scores : ndarray of shape (b,), or None
        Their scores, where there are any.
    """
    if not _RETURNS_METRICS:
        return indices
    return indices, np.full(len(indices), np.nan) if scores is None else scores


def _check_X_y(X: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
    """``check_X_y`` under the parameter names of every scikit-learn from 1.6 on."""
    if _RENAMED and "force_all_finite" in kwargs:
        kwargs["ensure_all_finite"] = kwargs.pop("force_all_finite")
    return check_X_y(X, y, *args, **kwargs)


def _vote(committee: Any, X: Any, **predict_kwargs: Any) -> NDArray[Any]:
    """``Committee.vote`` for class labels of any type: modAL's stores them as floats."""
    votes = np.stack([learner.predict(X, **predict_kwargs) for learner in committee], axis=1)
    return votes.astype(np.float64) if votes.dtype.kind in "biuf" else votes


class _Renewed(ast.NodeTransformer):
    """Python's own types where NumPy has dropped its names for them; ``==`` where text is meant."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        of_numpy = isinstance(node.value, ast.Name) and node.value.id == "np"
        if of_numpy and node.attr in ("float", "bool"):
            return ast.copy_location(ast.Name(node.attr, ast.Load()), node)
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        compared = node.comparators[0]
        text = isinstance(compared, ast.Constant) and isinstance(compared.value, str)
        if text and isinstance(node.ops[0], ast.Is):
            node.ops = [ast.Eq()]
        return self.generic_visit(node)


def _renew(name: str) -> None:
    """Run a module of modAL's as its source would be written today.

    `modAL.expected_error` names ``np.float`` in a signature, so that it cannot be imported and
    mended afterwards. A module that was imported keeps its identity.
    """
    spec = importlib.util.find_spec(name)
    source = getattr(spec and spec.loader, "get_source", lambda _: None)(name)
    if spec is None or source is None:
        return
    tree = ast.fix_missing_locations(_Renewed().visit(ast.parse(source)))
    module = sys.modules.get(name) or importlib.util.module_from_spec(spec)
    exec(compile(tree, str(spec.origin), "exec", dont_inherit=True), module.__dict__)
    sys.modules[name] = module
    setattr(modAL, name.rpartition(".")[2], module)


def _mend() -> None:
    if "bool" not in vars(np):
        _renew("modAL.batch")
    if "modAL.expected_error" not in sys.modules:
        _renew("modAL.expected_error")
    replaced = _modal_frames.replacements()
    for module in [m for name, m in sys.modules.items() if name.split(".")[0] == "modAL"]:
        if hasattr(module, "check_X_y"):
            setattr(module, "check_X_y", _check_X_y)  # noqa: B010 (modules have no such type)
        for original, ours in replaced.items():
            if vars(module).get(original.__name__) is original:
                setattr(module, original.__name__, ours)
    modAL.models.learners.Committee.vote = _vote
    # The constructor takes it and does not keep it: `repr` and `clone` would fail.
    modAL.models.base.BaseLearner.bootstrap_init = False


_mend()
