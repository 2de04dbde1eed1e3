"""Graphs around a network: its patches before it, probabilities and the score behind it.

Tensors, from input to output: ``candidates`` (n, C, H, W) → ``patches`` (n·m, C, h, w) → ``logits``
or ``probabilities`` → ``patch_proba`` P (n, m, K) → ``proba`` (n, K) and ``score`` (n,).

Letters as in the package: n candidates, m patches, s patches kept, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..patches._resampling import oversampling
from .assembly import Nodes

__all__ = [
    "MOST_GRIDS",
    "float_graph",
    "head_graph",
    "patch_graph",
    "score_graph",
    "softmax_graph",
    "view_grid",
]

MOST_GRIDS = 16
"""Choices of views whose `view_grid` is worth keeping: a race makes some, and takes them again."""


def patch_graph(
    matrices: NDArray[np.float32],
    image_shape: tuple[int, int, int],
    size: tuple[int, int],
    dtype: Any,
    *,
    n_patches: int | None = None,
    is_half: bool = False,
) -> onnx.ModelProto:
    """Graph that cuts patches: candidates (n, C, H, W) → patches (n·m, C, h, w).

    Parameters
    ----------
    matrices : ndarray of shape (m, 2, 3), float32
        As of `AffinePatches`.
    image_shape : tuple of int
        C, H, W.
    size : tuple of int
        h, w.
    dtype : dtype
        uint8 for candidates in [0, 255], or float32 for [0, 1].
    n_patches : int, optional
        Patches that are always put out, at least n·m: the others are 0.
    is_half : bool, default=False
        Whether patches are put out in half precision.

    Returns
    -------
    onnx.ModelProto
        Its second input ``grid`` has the m views for a default; some of them, which `view_grid`
        makes, cut fewer patches.
    """
    channels, *(height, width) = image_shape
    over = oversampling((height, width), size)
    g = Nodes("cut")
    n = g.first_dimension("candidates")
    x = _as_floats(g, "candidates", dtype)
    # Candidates as channels of one image, so that one grid serves them all.
    x = g.add("Reshape", x, g.integers(1, -1, height, width))
    x = g.add("GridSample", x, "grid", mode="linear", padding_mode="reflection", align_corners=0)
    if over != (1, 1):
        # No candidate at all is a batch of none for pooling, but not an image of no channel.
        x = g.add("Transpose", x, perm=[1, 0, 2, 3])
        x = g.add("AveragePool", x, kernel_shape=list(over), strides=list(over))
    if is_half:
        # Before they are put in order, so that half of the bytes are moved. What a sum is above 1
        # is less than half precision tells apart.
        x = _cast(g, x, TensorProto.FLOAT16)
    else:
        x = g.add("Clip", x, g.constant(0, np.float32), g.constant(1, np.float32))
    m = g.add("Div", g.add("Shape", "grid", start=1, end=2), g.integers(size[0] * over[0]))
    shape = g.add("Concat", n, g.integers(channels), m, g.integers(*size), axis=0)
    x = g.add("Transpose", g.add("Reshape", x, shape, allowzero=1), perm=[0, 2, 1, 3, 4])
    _fill_up(g, g.add("Reshape", x, g.integers(-1, channels, *size)), n_patches)
    grid = view_grid(matrices, (height, width), size)
    g.constants.append(numpy_helper.from_array(grid, "grid"))
    return g.to_model(
        [
            ("candidates", _kind(dtype), ["n", *image_shape]),
            ("grid", TensorProto.FLOAT, [1, "rows", grid.shape[2], 2]),
        ],
        [("patches", _kind(np.float16 if is_half else np.float32), ["k", channels, *size])],
    )


def float_graph(
    patch_shape: tuple[int, int, int],
    dtype: Any,
    *,
    n_patches: int | None = None,
    is_half: bool = False,
) -> onnx.ModelProto:
    """Graph that takes patches as they are: candidates (k', C, h, w) → patches (k, C, h, w).

    Parameters
    ----------
    patch_shape : tuple of int
        C, h, w.
    dtype, n_patches, is_half
        As of `patch_graph`.

    Returns
    -------
    onnx.ModelProto
        The graph.
    """
    g = Nodes("floats")
    x = _as_floats(g, "candidates", dtype)
    _fill_up(g, _cast(g, x, TensorProto.FLOAT16) if is_half else x, n_patches)
    return g.to_model(
        [("candidates", _kind(dtype), ["n", *patch_shape])],
        [("patches", _kind(np.float16 if is_half else np.float32), ["k", *patch_shape])],
    )


def _kind(dtype: Any) -> int:
    """Number that ONNX has for a type."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _as_floats(g: Nodes, x: str, dtype: Any) -> str:
    """Bytes, or floats as they are, in [0, 1]."""
    if np.dtype(dtype) != np.uint8:
        return x
    return g.add("Div", _cast(g, x, TensorProto.FLOAT), g.constant(255, np.float32))


def _fill_up(g: Nodes, x: str, n_patches: int | None) -> None:
    """Name what is put out, behind which zeros stand for the patches that are missing."""
    if n_patches is None:
        g.add("Identity", x, named="patches")
        return
    missing = g.add("Sub", g.integers(n_patches), g.first_dimension(x))
    pads = g.add("Concat", g.integers(0, 0, 0, 0), missing, g.integers(0, 0, 0), axis=0)
    g.add("Pad", x, pads, named="patches")


def view_grid(
    matrices: NDArray[np.float32], image_shape: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Where the pixels of the patches lie in a candidate, of shape (1, m·h', w', 2).

    Parameters
    ----------
    matrices : ndarray of shape (m, 2, 3), float32
        As of `AffinePatches`.
    image_shape : tuple of int
        H, W.
    size : tuple of int
        h, w; h' and w' are those times the samples per pixel.

    Returns
    -------
    ndarray of float32
        x before y, both in [−1, 1] from edge to edge, as GridSample takes them.

    Examples
    --------
    >>> whole = np.array([[[1, 0, 0], [0, 1, 0]]], dtype=np.float32)
    >>> view_grid(whole, (2, 2), (2, 2))[0, 0].tolist()
    [[-0.5, -0.5], [0.5, -0.5]]
    """
    over = oversampling(image_shape, size)
    down, across = (
        (2 * np.arange(k * o) + 1) / (k * o) - 1 for k, o in zip(size, over, strict=True)
    )
    places = np.stack([*np.meshgrid(across, down), np.ones((len(down), len(across)))], axis=-1)
    grid = np.einsum("yxk,mdk->myxd", places, matrices.astype(np.float64))
    flat: NDArray[np.float32] = grid.reshape(1, -1, len(across), 2).astype(np.float32)
    return flat


def softmax_graph(
    n_outputs: int, n_patches: int, *, temperature: float, columns: Sequence[int], n_classes: int
) -> onnx.ModelProto:
    """Graph of the softmax: logits (n·m, K') → patch_proba (n, m, K).

    Parameters
    ----------
    n_outputs : int
        K', the classes that the network knows.
    n_patches : int
        m.
    temperature : float
        What logits are divided by.
    columns : sequence of int
        Position of each of the K' among the K classes; the others get 0.
    n_classes : int
        K.

    Returns
    -------
    onnx.ModelProto
        The graph.
    """
    g = Nodes("softmax")
    x = _cast(g, "logits", TensorProto.DOUBLE)
    x = g.add("Div", x, g.constant(temperature, np.float64))
    x = _cast(g, g.add("Softmax", x, axis=1), TensorProto.FLOAT)
    _reorder_classes(g, x, n_outputs, n_patches, columns, n_classes)
    return g.to_model(
        [("logits", TensorProto.FLOAT, ["k", n_outputs])],
        [("patch_proba", TensorProto.FLOAT, ["n", "m", n_classes])],
    )


def head_graph(
    n_outputs: int, n_patches: int, *, columns: Sequence[int], n_classes: int
) -> onnx.ModelProto:
    """Graph that arranges a head's probabilities: probabilities (n·m, K') → patch_proba (n, m, K).

    Parameters
    ----------
    n_outputs, n_patches, columns, n_classes
        As of `softmax_graph`.

    Returns
    -------
    onnx.ModelProto
        The graph.
    """
    g = Nodes("arrange")
    _reorder_classes(g, "probabilities", n_outputs, n_patches, columns, n_classes)
    return g.to_model(
        [("probabilities", TensorProto.FLOAT, ["k", n_outputs])],
        [("patch_proba", TensorProto.FLOAT, ["n", "m", n_classes])],
    )


def _reorder_classes(
    g: Nodes, x: str, n_outputs: int, n_patches: int, columns: Sequence[int], n_classes: int
) -> None:
    if list(columns) != list(range(n_classes)):
        places = np.zeros((n_outputs, n_classes), dtype=np.float32)
        places[np.arange(n_outputs), columns] = 1
        x = g.add("MatMul", x, g.constant(places, np.float32))
    g.add("Reshape", x, g.integers(-1, n_patches, n_classes), named="patch_proba")


def score_graph(
    n_patches: int,
    n_classes: int,
    *,
    n_kept: int,
    entropy_weight: float,
    diversity_weight: float,
    reduction: str,
    eps: float,
) -> onnx.ModelProto:
    """Graph of `patch_consistency`: patch_proba (n, m, K) → score (n,), proba (n, K).

    Parameters
    ----------
    n_patches, n_classes : int
        m and K.
    n_kept : int
        s, the patches that enter the score.
    entropy_weight, diversity_weight, reduction, eps
        As of `patch_consistency`.

    Returns
    -------
    onnx.ModelProto
        The graph; it computes in float64, and orders patches that tie as `select_majority` does.
    """
    g = Nodes("score")
    P = _cast(g, "patch_proba", TensorProto.DOUBLE)
    mean = g.add("ReduceMean", P, g.integers(1), keepdims=0)
    _cast(g, mean, TensorProto.FLOAT, named="proba")
    kept = P
    if n_kept < n_patches:
        kept = _majority(g, P, mean, n_kept, n_patches, n_classes)
    logs = g.add("Log", g.add("Add", kept, g.constant(eps, np.float64)))
    n_pairs = max(n_kept * (n_kept - 1), 1)
    per_patch, per_pair = (1, 1) if reduction == "sum" else (n_kept, n_pairs)
    score = g.add(
        "Mul", g.add("ReduceSum", P, g.integers(1, 2), keepdims=0), g.constant(0, np.float64)
    )
    if entropy_weight > 0:
        term = g.add("ReduceSum", g.add("Mul", kept, logs), g.integers(1, 2), keepdims=0)
        term = g.add("Mul", term, g.constant(-entropy_weight / per_patch, np.float64))
        score = g.add("Add", score, g.add("Max", term, g.constant(0, np.float64)))
    if diversity_weight > 0:
        # Measured from the first patch: identical patches then give exactly 0.
        centred = [_centred(g, x) for x in (kept, logs)]
        term = g.add("ReduceSum", g.add("Mul", *centred), g.integers(1, 2), keepdims=0)
        weight = diversity_weight * 2 * n_kept / per_pair
        term = g.add("Mul", term, g.constant(weight, np.float64))
        score = g.add("Add", score, g.add("Max", term, g.constant(0, np.float64)))
    g.add("Identity", score, named="score")
    return g.to_model(
        [("patch_proba", TensorProto.FLOAT, ["n", n_patches, n_classes])],
        [
            ("score", TensorProto.DOUBLE, ["n"]),
            ("proba", TensorProto.FLOAT, ["n", n_classes]),
        ],
    )


def _majority(g: Nodes, P: str, mean: str, n_kept: int, n_patches: int, n_classes: int) -> str:
    """Keep the patches that agree most with the majority: (n, m, K) → (n, s, K)."""
    # Means of float32 probabilities are compared after 6 decimals, as `select_majority` does.
    million = g.constant(1e6, np.float64)
    leading = g.add("ArgMax", g.add("Round", g.add("Mul", mean, million)), axis=1, keepdims=1)
    rows = g.add("Expand", g.add("Unsqueeze", leading, g.integers(2)), g.integers(1, n_patches, 1))
    of_leading = g.add("Squeeze", g.add("GatherElements", P, rows, axis=2), g.integers(2))
    # Patches that tie, as certain ones do at 1, are ordered by all their probabilities, the first
    # class first. `Unique` sorts whole rows: the position of a patch among them is one number
    # that orders it so, whatever the number of classes.
    flat = g.add("Reshape", P, g.integers(-1, n_classes))
    position = g.add_all("Unique", flat, n_outputs=3, axis=0, sorted=1)[2]
    position = g.add("Reshape", position, g.integers(-1, n_patches))
    # Among equals TopK keeps the order that it finds: the last sort is by the majority's class.
    by_position = _order(g, position, n_patches, largest=0)
    of_leading = g.add("GatherElements", of_leading, by_position, axis=1)
    by_leading = _order(g, of_leading, n_kept, largest=1)
    first = g.add("GatherElements", by_position, by_leading, axis=1)
    rows = g.add("Expand", g.add("Unsqueeze", first, g.integers(2)), g.integers(1, 1, n_classes))
    return g.add("GatherElements", P, rows, axis=1)


def _order(g: Nodes, key: str, k: int, *, largest: int) -> str:
    """Positions of the k largest or smallest along the second axis, in order, ties as found."""
    outputs = g.add_all("TopK", key, g.integers(k), n_outputs=2, axis=1, largest=largest, sorted=1)
    return outputs[1]


def _centred(g: Nodes, x: str) -> str:
    first = g.add("Slice", x, g.integers(0), g.integers(1), g.integers(1))
    x = g.add("Sub", x, first)
    return g.add("Sub", x, g.add("ReduceMean", x, g.integers(1), keepdims=1))


def _cast(g: Nodes, x: str, kind: int, named: str | None = None) -> str:
    output = named or f"{g.prefix}/{len(g.nodes)}"
    g.nodes.append(helper.make_node("Cast", [x], [output], to=kind))
    return output
