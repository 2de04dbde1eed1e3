"""Scores against the published table and against literal double loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples import GOLDEN, binary

import aift_sklearn
from aift_sklearn import scores
from aift_sklearn.errors import DataError, ParameterError

EPS = 2.0**-52
SCORES = {
    "entropy": scores.entropy,
    "diversity": scores.diversity,
    "mutual_information": scores.mutual_information,
    "patch_consistency": scores.patch_consistency,
    "patch_consistency, all, mean": lambda P: scores.patch_consistency(
        P, alpha=1, reduction="mean"
    ),
    "entropy of the majority": lambda P: scores.entropy(scores.select_majority(P, 0.25)),
    "diversity of the majority": lambda P: scores.diversity(scores.select_majority(P, 0.5)),
}


def slow_entropy(P, eps=EPS):
    return -sum(p * math.log(p + eps) for patch in P for p in patch)


def slow_diversity(P, eps=EPS):
    total = 0.0
    for a in P:
        for b in P:
            for p, q in zip(a, b, strict=True):
                total += (p - q) * (math.log(p + eps) - math.log(q + eps))
    return total


def slow_majority(P, alpha):
    """AIFT.md's rule, patch by patch, with exact sums."""
    m, K = P.shape
    size = max(1, math.floor(round(m * alpha, 9) + 0.5))
    means = [round(math.fsum(P[:, c]) / m, 12) for c in range(K)]
    y = means.index(max(means))
    return np.array(sorted(P.tolist(), key=lambda patch: (-patch[y], *patch))[:size])


@st.composite
def patch_probabilities(draw, max_patches=64, max_classes=20):
    m = draw(st.integers(1, max_patches))
    K = draw(st.integers(2, max_classes))
    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["logits", "one-hot", "grid", "ties", "half"]))
    rng = np.random.default_rng(seed)
    if kind == "one-hot":
        return np.eye(K)[rng.integers(0, K, m)]
    if kind == "grid":  # tenths, with exact zeros, ones and ties
        parts = rng.multinomial(10, np.ones(K) / K, m)
        return parts / 10
    if kind == "half":  # a mean of exactly .5 for two classes
        p = np.round(rng.random(m), 1)
        p[m - m // 2 :] = 1 - p[: m // 2]
        p[m // 2 : m - m // 2] = 0.5
        return binary(p)
    spread = 10.0 ** draw(st.floats(-4, 2))
    logits = rng.normal(0, spread, (m, K))
    if kind == "ties":
        logits = logits[rng.integers(0, max(1, m // 3), m)]
    P = np.exp(logits - logits.max(axis=1, keepdims=True))
    return P / P.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("pattern", GOLDEN)
def test_published_table(pattern):
    p, expected = GOLDEN[pattern]
    P = binary(p)
    weights = [(1, 0), (0, 1), (1, 1)]
    got = [
        scores.patch_consistency(P, alpha=alpha, entropy_weight=e, diversity_weight=d)
        for e, d in weights
        for alpha in (1, 0.25)
    ]
    assert np.round(got, 2).tolist() == expected


@pytest.mark.parametrize("pattern", GOLDEN)
def test_published_majority_also_in_single_precision(pattern):
    p, expected = GOLDEN[pattern]
    for P in (binary(p).astype(np.float32), binary(np.float32(p)).astype(np.float32)):
        kept = scores.select_majority(P, 0.25)
        np.testing.assert_allclose(kept, scores.select_majority(binary(p), 0.25), atol=1e-6)
        assert scores.patch_consistency(P, diversity_weight=0) == pytest.approx(
            expected[1], abs=0.01
        )


@pytest.mark.parametrize("pattern", GOLDEN)
def test_patterns_are_named_after_their_templates(pattern):
    p, _ = GOLDEN[pattern]
    assert scores.prediction_pattern(binary(p)) == pattern
    assert scores.prediction_pattern(binary(np.repeat(p, 3))) == pattern


def test_templates_are_the_published_table():
    expected = [np.sort(GOLDEN[name][0]) for name in scores._PATTERNS]
    np.testing.assert_array_equal(scores._TEMPLATES, expected)


def test_three_classes_have_patterns():
    sure = np.tile([0.96, 0.02, 0.02], (12, 1))
    camps = np.repeat(np.eye(3)[:2], 6, axis=0)
    unsure = np.tile([0.4, 0.4, 0.2], (12, 1))
    assert scores.prediction_pattern(np.stack([sure, camps, unsure])).tolist() == ["D", "C", "A"]
    assert scores.prediction_pattern(np.stack([sure, camps])[..., [2, 1, 0]]).tolist() == ["D", "C"]


@given(patch_probabilities(max_patches=24, max_classes=5))
def test_patterns_are_the_nearest_templates(P):
    templates = {name: np.sort(p) for name, (p, _) in GOLDEN.items()}
    quantiles = np.linspace(0, 1, 11)
    means = [round(math.fsum(column) / len(P), 12) for column in P.T]
    first, second = sorted(range(P.shape[1]), key=lambda c: (-means[c], c))[:2]
    columns = [(1, False)] if P.shape[1] == 2 else [(first, False), (second, True)]
    distance = {
        name: sum(
            np.sum((np.quantile(P[:, c], quantiles) - (np.sort(1 - t) if mirrored else t)) ** 2)
            for c, mirrored in columns
        )
        for name, t in templates.items()
    }
    # Ties between templates may fall either way by rounding.
    assert distance[str(scores.prediction_pattern(P))] <= min(distance.values()) + 1e-9


def test_rounding_beyond_zero_and_one_is_no_error():
    P = [[1 + 5e-7, -5e-7], [0.5, 0.5]]
    assert np.isfinite(scores.patch_consistency(P, alpha=1))
    assert np.isfinite(scores.mutual_information(P))
    assert scores.select_majority(P, 1).tolist() == [[1, 0], [0.5, 0.5]]


@given(patch_probabilities())
def test_closed_forms_equal_literal_loops(P):
    assert scores.entropy(P) == pytest.approx(max(slow_entropy(P), 0), rel=1e-9, abs=1e-12)
    # The loop's own rounding: m² terms, each up to 36·2⁻⁵².
    assert scores.diversity(P) == pytest.approx(slow_diversity(P), rel=1e-9, abs=1e-11)


@given(patch_probabilities())
def test_mutual_information_is_what_the_mean_leaves_open_beyond_each(P):
    mean = [math.fsum(column) / len(P) for column in P.T]
    expected = slow_entropy([mean]) - slow_entropy(P) / len(P)
    assert scores.mutual_information(P) == pytest.approx(max(expected, 0), rel=1e-9, abs=1e-12)


@given(patch_probabilities(max_patches=16), st.sampled_from([2.0**-52, 1e-7, 1e-3]))
def test_eps_is_the_loops_eps(P, eps):
    assert scores.diversity(P, eps=eps) == pytest.approx(
        slow_diversity(P, eps), rel=1e-9, abs=1e-11
    )
    assert scores.entropy(P, eps=eps) == pytest.approx(max(slow_entropy(P, eps), 0), abs=1e-9)


@given(patch_probabilities(), st.sampled_from([0.05, 0.25, 0.29, 0.5, 1.0]))
def test_majority_equals_the_literal_rule(P, alpha):
    np.testing.assert_array_equal(scores.select_majority(P, alpha), slow_majority(P, alpha))


@given(patch_probabilities(), st.sampled_from([0.1, 0.25, 1.0]), st.sampled_from(["sum", "mean"]))
def test_consistency_equals_the_literal_rule(P, alpha, reduction):
    m = len(P)
    size = min(m, max(2, math.floor(round(m * alpha, 9) + 0.5)))
    kept = slow_majority(P, size / m)
    e, d = slow_entropy(kept), slow_diversity(kept)
    if reduction == "mean":
        e, d = e / size, d / max(1, size * (size - 1))
    got = scores.patch_consistency(
        P, alpha=alpha, entropy_weight=0.7, diversity_weight=0.2, reduction=reduction
    )
    assert got == pytest.approx(max(0.7 * e + 0.2 * d, 0), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("name", SCORES)
@given(P=patch_probabilities(), seed=st.integers(0, 1000))
def test_patch_order_never_matters(name, P, seed):
    shuffled = np.random.default_rng(seed).permutation(P)
    a, b = SCORES[name](P), SCORES[name](shuffled)
    if name.startswith("patch_consistency"):
        assert a == b  # to the last bit, so that ties between candidates stay ties
    else:
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", SCORES)
@given(Ps=st.lists(patch_probabilities(max_classes=2), min_size=1, max_size=3))
def test_batched_equals_one_by_one_and_inputs_are_unchanged(name, Ps):
    m = min(len(P) for P in Ps)
    batch = np.stack([P[:m] for P in Ps])
    before = batch.copy()
    got = SCORES[name](batch)
    assert got.dtype == np.float64
    assert np.isfinite(got).all()
    assert (got >= 0).all()
    np.testing.assert_array_equal(got, [SCORES[name](P) for P in batch])
    np.testing.assert_array_equal(SCORES[name](batch[:, None]), got[:, None])
    np.testing.assert_array_equal(batch, before)


@given(
    hnp.arrays(float, st.integers(2, 20), elements=st.floats(0, 1)),
    st.integers(1, 64),
)
def test_identical_patches_are_not_diverse(p, m):
    if p.sum() < 1e-3:
        p = p + 1
    P = np.tile(p / p.sum(), (m, 1))
    assert scores.diversity(P) == 0
    assert scores.patch_consistency(P, entropy_weight=0) == 0
    assert scores.mutual_information(P) <= 1e-12


def test_tiny_spreads_do_not_cancel():
    rng = np.random.default_rng(0)
    for spread in (1e-2, 1e-3, 1e-4):
        logits = rng.normal(0, spread, (24, 3)).astype(np.float32)
        P = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        exact = slow_diversity(P.astype(np.float64))
        assert scores.diversity(P) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(("alpha", "kept"), [(0.25, 3), (0.05, 1), (0.5, 6), (1, 11), (0.1363, 1)])
def test_majority_size_rounds_half_away_from_zero(alpha, kept):
    assert scores.select_majority(binary(np.linspace(0, 1, 11)), alpha).shape == (kept, 2)


def test_half_of_ten_and_of_fifty():
    assert len(scores.select_majority(binary(np.linspace(0, 1, 10)), 0.25)) == 3
    assert len(scores.select_majority(binary(np.linspace(0, 1, 50)), 0.29)) == 15


def test_majority_of_exactly_half_goes_to_the_lower_class():
    assert scores.select_majority(binary([0.1, 0.9, 0.2, 0.8]), 0.25)[0].tolist() == [0.9, 0.1]


def test_published_order_dependence_is_gone():
    P = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, 0.25, 0.25], [0.2, 0.4, 0.4]])
    values = {
        float(scores.patch_consistency(P[list(o)], alpha=0.5))
        for o in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2])
    }
    assert len(values) == 1


def test_patches_that_all_tie_are_ordered_by_their_other_probabilities():
    P = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, 0.25, 0.25], [0.5, 0.1, 0.4]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        assert scores.select_majority(P[order], 0.5).tolist() == [[0.5, 0, 0.5], [0.5, 0.1, 0.4]]
    for two in ([0, 1], [1, 0]):
        assert scores.select_majority(P[two], 0.5).tolist() == [[0.5, 0, 0.5]]
    assert scores.select_majority(np.ones((4, 1)), 0.5).tolist() == [[1], [1]]


def test_a_majority_by_little_is_one_in_double_precision():
    P = binary([0.7, 0.3 + 4e-8])
    assert scores.select_majority(P, 0.5).tolist() == P[:1].tolist()
    assert scores.select_majority(binary([0.7, 0.3]), 0.5).tolist() == [[0.7, 0.3]]


def test_at_least_two_patches_where_diversity_counts():
    P = binary([0.1, 0.2, 0.3, 0.4])
    two = P[:2]
    assert scores.patch_consistency(P, alpha=0.01) == pytest.approx(
        scores.entropy(two) + scores.diversity(two)
    )
    assert scores.patch_consistency(P, alpha=0.01, diversity_weight=0) == scores.entropy(P[:1])


def test_one_patch_and_no_candidates():
    assert scores.patch_consistency([[0.5, 0.5]]) == pytest.approx(math.log(2))
    assert scores.patch_consistency(np.empty((0, 4, 2))).shape == (0,)


@pytest.mark.parametrize(
    ("P", "message"),
    [
        ([0.2, 0.8], "shape \\(2,\\)"),
        (np.empty((3, 0, 2)), "at least one patch"),
        ([[0.2, np.nan]], "ranges from nan"),
        ([[2.0, -1.0]], "not logits"),
        ([[20, 80]], "ranges from 20 to 80"),
        ([[0.3], [0.4]], "sum to 0.3"),
        ([[0.3, 0.0], [0.9, 0.9]], "sum to 1.8"),
        ([[1.0005, 0.0]], "ranges from 0 to 1.0005"),
        ([[0.5, 0.5005, -0.0005]], "ranges from -0.0005"),
        ([["a", "b"]], "dtype"),
    ],
)
def test_bad_probabilities_are_refused(P, message):
    for score in SCORES.values():
        with pytest.raises(DataError, match=message):
            score(P)


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 0},
        {"alpha": 1.1},
        {"alpha": float("nan")},
        {"alpha": "all"},
        {"eps": 0},
        {"eps": 1},
        {"entropy_weight": -1},
        {"diversity_weight": float("inf")},
        {"reduction": "max"},
    ],
)
def test_bad_parameters_are_refused(params):
    with pytest.raises(ParameterError, match=f"^{next(iter(params))}="):
        scores.patch_consistency(binary([0.2, 0.4]), **params)


def test_patterns_need_two_classes():
    with pytest.raises(DataError, match="two classes"):
        scores.prediction_pattern(np.ones((3, 1)))


def test_names_are_exported():
    for name in scores.__all__:
        assert getattr(aift_sklearn, name) is getattr(scores, name)
