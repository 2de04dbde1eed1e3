"""The graphs around the network compute what NumPy computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from aift_sklearn import AffinePatches, patch_consistency
from aift_sklearn.scores import n_kept

pytest.importorskip("onnx", reason="the extra cpu is not installed")
pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")

import onnx

from aift_sklearn.onnx.assembly import join_graphs, subgraph
from aift_sklearn.onnx.fused import (
    float_graph,
    head_graph,
    patch_graph,
    score_graph,
    softmax_graph,
    view_grid,
)
from aift_sklearn.onnx.runtime import open_session


def run(model, **inputs):
    onnx.checker.check_model(model)
    session = open_session(model.SerializeToString(), providers="CPUExecutionProvider", n_threads=1)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def probas(rng, n, m, K, spread):
    logits = rng.normal(size=(n, m, K)) * spread
    P = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (P / P.sum(axis=-1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, 40),
    m=st.integers(1, 9),
    K=st.integers(2, 6),
    alpha=st.floats(0.05, 1),
    weights=st.sampled_from([(1.0, 1.0), (0.0, 1.0), (2.0, 0.0), (0.5, 0.1), (0.0, 0.0)]),
    reduction=st.sampled_from(["sum", "mean"]),
    spread=st.sampled_from([0.3, 2.0, 8.0]),
    seed=st.integers(0, 999),
)
def test_scores_in_the_graph_are_those_of_numpy(n, m, K, alpha, weights, reduction, spread, seed):
    P = probas(np.random.default_rng(seed), n, m, K, spread)
    consistency = {
        "entropy_weight": weights[0],
        "diversity_weight": weights[1],
        "reduction": reduction,
        "eps": 2.0**-52,
    }
    model = score_graph(m, K, n_kept=n_kept(m, alpha, weights[1]), **consistency)
    out = run(model, patch_proba=P)
    expected = patch_consistency(P, alpha=alpha, **consistency)
    assert out["score"].dtype == np.float64
    agree = np.isclose(out["score"], expected, rtol=1e-4, atol=1e-12)
    # A near-tie at the majority cut may fall to either side.
    assert agree.mean() >= 0.995 if n else agree.shape == (0,)
    assert_allclose(out["proba"], P.mean(axis=1, dtype=np.float64), atol=1e-6)


def score_graph_of(K):
    return score_graph(
        8, K, n_kept=2, entropy_weight=1.0, diversity_weight=1.0, reduction="sum", eps=2.0**-52
    )


def test_the_graph_of_a_score_does_not_grow_with_the_classes():
    n_nodes = {len(score_graph_of(K).graph.node) for K in (2, 3, 10, 1000)}
    assert len(n_nodes) == 1
    assert n_nodes.pop() < 60


@pytest.mark.parametrize("K", [100, 1000])
def test_scores_of_many_classes_are_those_of_numpy(K):
    P = probas(np.random.default_rng(K), 20, 8, K, 3.0)
    # The mean of two classes is the same: the first has the majority.
    P[:5] = P[:5, :, ::-1] / 2 + P[:5] / 2
    out = run(score_graph_of(K), patch_proba=P)
    assert_allclose(out["score"], patch_consistency(P, eps=2.0**-52), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("shape", "size"), [((3, 20, 28), None), ((1, 33, 20), (11, 9))])
def test_patches_in_the_graph_are_those_of_the_transformer(dtype, shape, size):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (3, *shape)).astype(dtype)
    X = X if dtype == np.uint8 else X / np.float32(255)
    patches = AffinePatches(5, size=size, rotation=60, flip=True).fit(X)
    size = patches.patch_shape(shape)
    model = patch_graph(patches.matrices_, shape, size, dtype)
    expected = patches.transform(X)
    assert_allclose(
        run(model, candidates=X)["patches"], expected.reshape(-1, shape[0], *size), atol=2e-5
    )
    some = view_grid(patches.matrices_[[4, 1]], shape[1:], size)
    assert_allclose(
        run(model, candidates=X, grid=some)["patches"],
        expected[:, [4, 1]].reshape(-1, shape[0], *size),
        atol=2e-5,
    )
    assert run(model, candidates=X[:0])["patches"].shape == (0, shape[0], *size)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("is_half", [False, True])
def test_what_is_missing_of_a_batch_is_filled_up_with_zeros(dtype, is_half):
    X = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 8)).astype(dtype)
    X = X if dtype == np.uint8 else X / np.float32(255)
    views = AffinePatches(3).fit(X)
    cut = patch_graph(views.matrices_, (3, 9, 8), (9, 8), dtype, n_patches=10, is_half=is_half)
    as_they_are = float_graph((3, 9, 8), dtype, n_patches=10, is_half=is_half)
    for model, expected in (
        (cut, views.transform(X).reshape(-1, 3, 9, 8)),
        (as_they_are, X / np.float32(255) if dtype == np.uint8 else X),
    ):
        patches = run(model, candidates=X)["patches"]
        assert patches.dtype == (np.float16 if is_half else np.float32)
        assert patches.shape == (10, 3, 9, 8)
        k = len(expected)
        assert_allclose(patches[:k], expected, atol=1e-3 if is_half else 2e-5)
        assert_array_equal(patches[k:], 0)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_patches_in_half_are_between_0_and_1(seed):
    X = np.random.default_rng(seed).choice(np.array([0, 254, 255], np.uint8), (4, 1, 11, 13))
    X[0] = 255
    views = AffinePatches(6, rotation=90, size=7, random_state=seed).fit(X)
    cut = patch_graph(views.matrices_, (1, 11, 13), (7, 7), np.uint8, is_half=True)
    patches = run(cut, candidates=X)["patches"]
    assert patches.min() >= 0
    assert patches.max() == 1


def test_graphs_are_of_a_version_that_older_releases_of_onnx_runtime_take():
    views = np.eye(2, 3, dtype=np.float32)[None]
    cut = patch_graph(views, (3, 8, 8), (8, 8), np.uint8)
    for model in (cut, score_graph_of(3), float_graph((3, 8, 8), np.uint8)):
        assert model.ir_version == 10


def test_logits_become_probabilities_of_all_known_classes():
    logits = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    softmax = softmax_graph(2, 3, temperature=1.7, columns=[2, 0], n_classes=3)
    P = run(softmax, logits=logits)["patch_proba"]
    expected = np.exp(logits / 1.7) / np.exp(logits / 1.7).sum(axis=1, keepdims=True)
    assert_allclose(P.reshape(6, 3)[:, [2, 0]], expected, rtol=1e-5)
    assert_array_equal(P[..., 1], 0)
    known = softmax_graph(2, 3, temperature=1.0, columns=[0, 1], n_classes=2)
    assert run(known, logits=logits)["patch_proba"].shape == (2, 3, 2)
    whole = head_graph(2, 3, columns=[0, 1], n_classes=2)
    assert run(whole, probabilities=logits)["patch_proba"].shape == (2, 3, 2)


def test_graphs_are_joined_and_taken_apart_again():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(12, 3)).astype(np.float32)
    parts = [
        softmax_graph(3, 4, temperature=1.0, columns=range(3), n_classes=3),
        score_graph(
            4, 3, n_kept=2, entropy_weight=1, diversity_weight=1, reduction="sum", eps=2**-52
        ),
    ]
    whole = join_graphs(*parts)
    out = run(whole, logits=logits)
    assert list(out) == ["patch_proba", "score", "proba"]
    tail = subgraph(whole, "patch_proba", ["score"])
    assert [one.name for one in tail.graph.input] == ["patch_proba"]
    assert_array_equal(run(tail, patch_proba=out["patch_proba"])["score"], out["score"])
    first = subgraph(whole, "logits", ["patch_proba"])
    assert_array_equal(run(first, logits=logits)["patch_proba"], out["patch_proba"])
    assert len(first.graph.node) == len(parts[0].graph.node)
