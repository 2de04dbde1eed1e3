"""Frozen features, computed once: the same study in a fraction of the time.

A pipeline that starts with `CNNFeatures` embeds the same patches in every round. Here they are
embedded once, candidates become positions in the table of embeddings, and only the rest of the
pipeline works on. Letters: n candidates, m patches of each, E embedding size.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import Pipeline

from ..networks.features import CNNFeatures
from ..patches import AffinePatches
from ..prediction import Seam
from ..scanning.model import PatchModel
from ..scanning.pool_pass import PoolPass
from .datasets import Dataset
from .identity import describe_dataset, describe_estimator

__all__ = ["PositionPatches", "TableFeatures", "can_freeze", "freeze"]

Array = NDArray[Any]

# Bytes of embeddings above which they are kept in a temporary file.
_IN_MEMORY = 2**32


class _Table:
    """Embeddings (n·m, E) that estimators and their clones share instead of copying."""

    def __init__(self, embeddings: NDArray[np.float32]) -> None:
        self.embeddings = embeddings

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"embeddings of shape {self.embeddings.shape}"


class TableFeatures(TransformerMixin, BaseEstimator):
    """Look embeddings up: positions (k, 1) → (k, E), in the place of `CNNFeatures`.

    Parameters
    ----------
    table : object
        Its ``embeddings``, shape (n·m, E), are shared by clones.

    Examples
    --------
    >>> TableFeatures(_Table(np.eye(3, dtype=np.float32))).fit_transform([[2.], [0.]])
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """

    def __init__(self, table: Any) -> None:
        self.table = table

    # So are the embeddings that it stands for.
    pretrained = True

    def fit(self, X: Any, y: Any = None) -> Self:
        """Do nothing: the embeddings are known."""
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embeddings at the positions X, (k, 1): (k, E)."""
        found: NDArray[np.float32] = self.table.embeddings[np.asarray(X)[:, 0].astype(np.intp)]
        return found

    embed = transform

    def __sklearn_is_fitted__(self) -> bool:
        return True


class PositionPatches(TransformerMixin, BaseEstimator):
    """Positions of a candidate's m patches in the table: (n, 1) → (n, m, 1).

    Parameters
    ----------
    n_patches : int
        m.
    n_floats : int, optional
        Numbers that the embeddings of a candidate's patches hold, m·E: what a pool is read in parts
        by. By default m.

    Examples
    --------
    >>> PositionPatches(3).fit_transform([[0.], [3.]])[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """

    def __init__(self, n_patches: int, n_floats: int | None = None) -> None:
        self.n_patches = n_patches
        self.n_floats = n_floats

    def fit(self, X: Any, y: Any = None) -> Self:
        """Do nothing: the positions follow from X."""
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the positions of the patches of the candidates at X: (n, m, 1)."""
        return np.asarray(X, dtype=np.float64)[:, None, :] + np.arange(self.n_patches)[:, None]

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _allocate(n: int, size: int) -> NDArray[np.float32]:
    """Room for n embeddings: in memory, or, where they are many, in a file that goes with us."""
    if 4 * n * size <= _IN_MEMORY:
        return np.empty((n, size), dtype=np.float32)
    # The mapping keeps the nameless file until nobody looks anything up any more.
    with tempfile.TemporaryFile(prefix="aift-embeddings-") as file:
        return np.memmap(file, dtype=np.float32, shape=(n, size))


def _keep(path: Path, n: int, size: int, fill: Callable[[NDArray[np.float32]], None]) -> None:
    """Fill room for n embeddings in a file that is put in its place once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside others that do the same: the last one's file stays, and all hold the same.
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        rows = np.lib.format.open_memmap(partial, "w+", dtype=np.float32, shape=(n, size))
        fill(rows)
        rows.flush()
        # Some systems do not let a file be moved that is open.
        del rows
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _look_up(path: Path, n: int, size: int) -> NDArray[np.float32] | None:
    """Open embeddings that were kept, or None where there are none that are whole."""
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.shape == (n, size) and rows.dtype == np.float32 else None


def _embed_into(X: Array, rows: NDArray[np.float32], whole: PoolPass) -> None:
    whole.embed_patches(X, out=rows)


def can_freeze(estimator: Any) -> bool:
    """Whether the patch embeddings of an AIFTClassifier never change from round to round.

    So it is where it holds a Pipeline that starts with a pre-trained `CNNFeatures` and draws its
    patches with a fixed seed.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from aift_sklearn import AIFTClassifier
    >>> can_freeze(AIFTClassifier(make_pipeline(CNNFeatures(), LogisticRegression())))
    True
    """
    inner, patches = getattr(estimator, "estimator", None), getattr(estimator, "patches", None)
    if not isinstance(inner, Pipeline) or len(inner.steps) < 2:
        return False
    first = inner.steps[0][1]
    if not isinstance(first, CNNFeatures) or not first.pretrained:
        return False
    return patches is None or isinstance(getattr(patches, "random_state", None), (int, np.integer))


def freeze(
    dataset: Dataset, estimator: Any, *, folder: Path | None = None, verbose: int = 0
) -> tuple[Dataset, Any]:
    """Embed every patch of pool and test set once.

    Parameters
    ----------
    dataset : Dataset
        Images.
    estimator : AIFTClassifier
        One that `can_freeze` allows.
    folder : Path, optional
        Where embeddings are kept, in files named by what they depend on: what is there is not
        embedded again, and several processes share one copy in memory.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    tuple of (Dataset, AIFTClassifier)
        The same data set with positions in the place of images, and the same classifier working
        on them. It asks, learns and predicts as the one given would.
    """
    patches = AffinePatches() if estimator.patches is None else clone(estimator.patches)
    features = clone(estimator.estimator.steps[0][1]).fit(dataset.X[:1])
    patches.fit(dataset.X)
    m = len(patches.views_) if hasattr(patches, "views_") else patches.n_patches
    n_pool, n = len(dataset.X), len(dataset.X) + len(dataset.X_test)
    size = features.transform(patches.transform(dataset.X[:1])[0]).shape[1]
    n_dims, channels = dataset.X.ndim, int(dataset.X.shape[-3])
    model, seam = PatchModel(features, patches, np.empty(0), n_dims, channels), Seam()
    how = {"backend": getattr(estimator, "backend", "auto"), "verbose": verbose}

    def fill(embeddings: NDArray[np.float32]) -> None:
        of_candidate = embeddings.reshape(n, m, size)
        for offset, X in ((0, dataset.X), (n_pool, dataset.X_test)):
            rows = of_candidate[offset : offset + len(X)]
            seam.run(model, X, functools.partial(_embed_into, X, rows), **how)

    if folder is None:
        embeddings = _allocate(n * m, size)
        fill(embeddings)
    else:
        path = folder / f"embeddings-{_key(dataset, features, patches)}.npy"
        found = _look_up(path, n * m, size)
        if found is None:
            _keep(path, n * m, size, fill)
            found = np.load(path, mmap_mode="r")
        embeddings = found
    (name, _), *rest = estimator.estimator.steps
    table = TableFeatures(_Table(embeddings))
    frozen = clone(estimator).set_params(
        estimator=Pipeline([(name, table), *((key, clone(step)) for key, step in rest)]),
        patches=PositionPatches(m, m * size),
    )
    positions = np.arange(n, dtype=np.float64)[:, None] * m
    return replace(dataset, X=positions[:n_pool], X_test=positions[n_pool:]), frozen


def _key(dataset: Dataset, features: Any, patches: Any) -> str:
    """What embeddings depend on, as a name."""
    images = describe_dataset(dataset)
    told = [images["pool"], images["test set"], describe_estimator(features)]
    text = repr([*told, describe_estimator(patches)])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
