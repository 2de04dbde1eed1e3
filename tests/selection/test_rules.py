"""Selection rules against sorting, counting and a literal greedy k-centre."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aift_sklearn import selection
from aift_sklearn.errors import DataError, ParameterError

scores_and_b = hnp.arrays(
    float, st.integers(1, 40), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.25])
).flatmap(lambda a: st.tuples(st.just(a), st.integers(1, len(a))))


@given(scores_and_b)
def test_top_sorts_by_score_then_index(case):
    scores, b = case
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:b]
    assert selection.top(scores, b).tolist() == expected


@pytest.mark.parametrize("kind", [np.uint8, np.int8, bool, np.float16])
def test_scores_of_any_type_are_sorted_as_numbers(kind):
    scores = np.array([3, 0, 9, 1, 9]).astype(kind)
    expected = sorted(range(5), key=lambda i: (-float(scores[i]), i))
    assert selection.top(scores, 5).tolist() == expected
    drawn = selection.random_extension(scores, 5, 1, random_state=0)
    assert drawn.tolist() == expected


def test_of_many_scores_the_highest_and_the_next_are_found():
    """Small arrays are sorted altogether where a part would do."""
    scores = np.random.default_rng(0).permutation(5000) / 5000
    order = np.argsort(-scores)
    assert selection.top(scores, 70).tolist() == order[:70].tolist()
    for b, omega in ((1, 2), (30, 3), (700, 2)):
        kept = np.sort(order[: omega * b + 1])
        whole = selection.random_extension(scores, b, omega, random_state=0)
        compact = selection.random_extension(scores[kept], b, omega, random_state=0)
        np.testing.assert_array_equal(kept[compact], whole)


@pytest.mark.parametrize("seed", range(20))
def test_the_floor_of_a_draw_is_the_next_score_and_no_lower_one(seed):
    """Scores that fall steeply: with a lower floor other candidates are drawn."""
    scores = 1 / (1.0 + np.random.default_rng(seed).permutation(400))
    kept = np.sort(np.argsort(-scores)[:41])
    whole = selection.random_extension(scores, 10, 4, random_state=seed)
    compact = selection.random_extension(scores[kept], 10, 4, random_state=seed)
    np.testing.assert_array_equal(kept[compact], whole)


@given(scores_and_b, st.floats(1, 5), st.integers(0, 100))
def test_random_extension_stays_in_the_shortlist(case, omega, seed):
    scores, b = case
    drawn = selection.random_extension(scores, b, omega, random_state=seed)
    shortlist = selection.top(scores, min(len(scores), int(np.ceil(round(omega * b, 9)))))
    assert len(set(drawn.tolist())) == b
    assert set(drawn) <= set(shortlist)
    assert drawn.tolist() == sorted(drawn, key=lambda i: (-scores[i], i))
    again = selection.random_extension(scores, b, omega, random_state=seed)
    np.testing.assert_array_equal(drawn, again)


def test_random_extension_of_one_is_the_top():
    scores = np.random.default_rng(0).random(20)
    np.testing.assert_array_equal(
        selection.random_extension(scores, 5, 1, random_state=3), selection.top(scores, 5)
    )


def test_random_extension_draws_in_proportion():
    # Floor 1 (the next score below): weights 3, 2, 1 of the shortlist 4, 3, 2.
    scores = [4.0, 3.0, 2.0, 1.0, 0.0]
    counts = np.zeros(5)
    rng = np.random.default_rng(0)
    for _ in range(6000):
        counts[selection.random_extension(scores, 1, 3, random_state=rng)] += 1
    np.testing.assert_allclose(counts / 6000, [3 / 6, 2 / 6, 1 / 6, 0, 0], atol=0.03)


@pytest.mark.parametrize(
    ("scores", "share"),
    # All are in the shortlist: the floor is 0, or the lowest score where that is negative.
    [
        ([3.0, 1.0], [3 / 4, 1 / 4]),
        ([0.2, 0.6], [1 / 4, 3 / 4]),
        ([2.0, -1.0, 0.0], [3 / 4, 0, 1 / 4]),
    ],
)
def test_random_extension_of_a_whole_pool_is_in_proportion_too(scores, share):
    rng = np.random.default_rng(0)
    drawn = [selection.random_extension(scores, 1, 3, random_state=rng)[0] for _ in range(3000)]
    got = np.bincount(drawn, minlength=len(scores)) / 3000
    np.testing.assert_allclose(got, share, atol=0.03)


def test_random_extension_of_equal_scores_is_uniform():
    rng = np.random.default_rng(0)
    counts = np.zeros(4)
    for _ in range(4000):
        counts[selection.random_extension(np.ones(4), 2, 2, random_state=rng)] += 1
    np.testing.assert_allclose(counts / 4000, 0.5, atol=0.04)
    tied_floor = [5.0, 1.0, 1.0, 1.0, 1.0]
    drawn = [selection.random_extension(tied_floor, 2, 2, random_state=s) for s in range(40)]
    assert all(d[0] == 0 for d in drawn)
    assert {int(d[1]) for d in drawn} == {1, 2, 3}


def test_random_extension_leaves_ties_with_its_floor_to_the_last():
    # The shortlist holds 9, 8 and one of four candidates at 1, which is the floor as well.
    scores = [1.0, 9.0, 1.0, 8.0, 1.0, 1.0]
    drawn = [selection.random_extension(scores, 2, 1.5, random_state=s) for s in range(200)]
    assert {tuple(d) for d in drawn} == {(1, 3)}
    single = np.array(
        [selection.random_extension(scores, 1, 3, random_state=s) for s in range(400)]
    )
    np.testing.assert_allclose([(single == i).mean() for i in (1, 3)], [8 / 15, 7 / 15], atol=0.08)
    filled = [selection.random_extension(scores, 3, 4 / 3, random_state=s) for s in range(200)]
    assert {tuple(d[:2]) for d in filled} == {(1, 3)}
    # Four of the six are in the shortlist: the first two at the floor, either of which may fill.
    assert {int(d[2]) for d in filled} == {0, 2}


@given(scores_and_b, st.floats(1, 4), st.integers(0, 30))
def test_random_extension_is_decided_by_the_shortlist_and_the_next_score(case, omega, seed):
    scores, b = case
    length = selection.shortlist_length(b, len(scores), omega)
    kept = np.sort(selection.top(scores, min(len(scores), length + 1)))
    whole = selection.random_extension(scores, b, omega, random_state=seed)
    compact = selection.random_extension(scores[kept], b, omega, random_state=seed)
    np.testing.assert_array_equal(kept[compact], whole)


@given(st.integers(1, 50), st.integers(1, 200), st.floats(1, 10))
def test_shortlists_are_as_long_as_omega_times_b_rounded_up(b, n, omega):
    length = selection.shortlist_length(b, n, omega)
    assert length == n or omega * b - 1e-6 <= length < omega * b + 1
    assert selection.shortlist_length(3, 100, 1.1) == 4
    assert selection.shortlist_length(30, 100, 1.1) == 33


def slow_k_centre(scores, b, rows, shortlist):
    picked = [shortlist[0]]
    while len(picked) < b:
        left = [i for i in shortlist if i not in picked]
        gaps = [min(np.linalg.norm(rows[i] - rows[p]) for p in picked) for i in left]
        picked.append(left[int(np.argmax(gaps))])
    return sorted(picked, key=lambda i: (-scores[i], i))


@given(st.integers(0, 500), st.integers(1, 6), st.floats(1, 4))
def test_diversified_is_greedy_k_centre(seed, b, omega):
    rng = np.random.default_rng(seed)
    scores, rows = rng.random(15), rng.normal(size=(15, 3))
    shortlist = selection.top(scores, min(15, int(np.ceil(round(omega * b, 9))))).tolist()
    expected = slow_k_centre(scores, b, rows, shortlist)
    assert selection.diversified(scores, b, omega, rows).tolist() == expected
    asked = []
    got = selection.diversified(scores, b, omega, lambda i: asked.append(i) or rows[i])
    assert got.tolist() == expected
    assert sorted(asked[0]) == sorted(shortlist)


def test_groups_take_turns():
    scores = np.arange(12, 0, -1.0)
    groups = np.array(list("aaaaaabbccdd"))
    picked = selection.spread_over_groups(scores, 4, groups, omega=3)
    assert groups[picked].tolist() == ["a", "b", "c", "d"]
    assert picked.tolist() == [0, 6, 8, 10]
    assert selection.spread_over_groups(scores, 4, groups, omega=1).tolist() == [0, 1, 2, 3]
    rows = np.zeros((12, 2))
    counts = np.unique(
        groups[selection.diversified(scores, 6, 2, rows, groups)], return_counts=True
    )[1]
    assert counts.max() <= 2


def test_duplicates_are_asked_for_once():
    assert selection.diversified([4, 9, 1, 6], 3, 2, np.zeros((4, 2))).tolist() == [1, 3, 0]


def test_embeddings_of_bytes_do_not_wrap():
    rows = np.array([[250], [5], [100]], dtype=np.uint8)
    # From 250 to 5 it is 245 and not 11, to 100 it is 150.
    for embeddings in (rows, lambda i: rows[i]):
        assert selection.diversified([9, 8, 7], 2, 2, embeddings).tolist() == [0, 1]


@given(st.data(), st.integers(1, 8), st.sampled_from([1.0, 1.5, 4.0, 9.0]))
def test_no_group_gives_another_while_one_with_fewer_is_left(data, b, omega):
    n = data.draw(st.integers(b, 120))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    scores, groups = rng.integers(0, 50, n), rng.integers(0, data.draw(st.integers(1, 40)), n)
    shortlist = selection.top(scores, selection.shortlist_length(b, n, omega)).tolist()
    picked = []
    for _ in range(b):
        left = [i for i in shortlist if i not in picked]
        given_by = groups[picked].tolist()
        # min takes the first of equals, and the shortlist is in order of score.
        picked.append(min(left, key=lambda i: given_by.count(groups[i])))
    expected = sorted(picked, key=lambda i: (-scores[i], i))
    assert selection.spread_over_groups(scores, b, groups, omega).tolist() == expected


def test_groups_are_spread_among_four_times_as_many():
    groups = np.array(list("aaaaaaaabc"))
    assert selection.spread_over_groups(np.arange(10, 0, -1.0), 2, groups).tolist() == [0, 1]
    groups = np.array(list("aaaaaaabcc"))
    assert selection.spread_over_groups(np.arange(10, 0, -1.0), 2, groups).tolist() == [0, 7]


@pytest.mark.parametrize(
    "groups",
    [
        [1, "a", 1, "b"],
        np.array([1, "a", 1, "b"], dtype=object),
        [2.5, 1.0, 2.5, -1.0],
        np.array([True, False, True, False]),
        np.array([b"x", b"y", b"x", b"z"]),
        pd.Series(["x", "y", "x", "z"], dtype="category"),
        pd.Series(["x", "y", "x", "z"], index=[9, 8, 7, 6]),
        np.array(["2020-01", "2020-02", "2020-01", "2020-03"], dtype="datetime64[M]"),
    ],
    ids=lambda groups: f"{type(groups).__name__} {getattr(groups, 'dtype', '')}",
)
def test_groups_of_any_type_are_told_apart(groups):
    codes = selection.group_codes(groups, 4)
    assert codes[0] == codes[2] != codes[1]
    assert codes.dtype == np.intp
    if not isinstance(groups, np.ndarray) or groups.dtype != bool:
        assert len(set(codes.tolist())) == 3


@pytest.mark.parametrize(
    "groups",
    [
        ["a", None, "b"],
        ["a", np.nan, "b"],
        [1, None, 2],
        np.array([1.0, np.nan, 2.0]),
        np.array([1.0, np.nan, 2.0], dtype=np.float32),
        np.array(["a", np.float32("nan"), "b"], dtype=object),
        pd.Series(["a", None, "b"]),
        pd.Series(["a", None, "b"], dtype="string"),
        pd.Series(["a", None, "b"], dtype="category"),
        pd.Series([1, None, 2], dtype="Int64"),
        np.array(["2020", "NaT", "2021"], dtype="datetime64[Y]"),
        [pd.Timestamp("2020"), pd.NaT, pd.Timestamp("2021")],
    ],
    ids=lambda groups: f"{type(groups).__name__} {getattr(groups, 'dtype', '')}",
)
def test_a_missing_group_is_named(groups):
    with pytest.raises(DataError, match=r"names none for 1 candidates, .* candidate 1 "):
        selection.group_codes(groups, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: selection.top([1, 2], 3), DataError, "asked for n_instances=3 of a pool of 2"),
        (lambda: selection.top([1, 2], 0), ParameterError, "n_instances=0"),
        (lambda: selection.top([1, 2], True), ParameterError, "n_instances=True"),
        (lambda: selection.top([1, 2], 1.5), ParameterError, "n_instances=1.5"),
        (lambda: selection.top([1, np.nan], 1), DataError, "NaN"),
        (lambda: selection.top([[1, 2]], 1), DataError, "shape \\(1, 2\\)"),
        (lambda: selection.top([], 1), DataError, "pool of 0"),
        (
            lambda: selection.random_extension([1, 2], 1, 0.5),
            ParameterError,
            "^omega=0.5",
        ),
        (lambda: selection.diversified([1, 2], 1, 0, [[1], [2]]), ParameterError, "^omega=0"),
        (lambda: selection.random_extension([1, 2], 1, np.inf), ParameterError, "=inf"),
        (
            lambda: selection.spread_over_groups([1, 2], 1, ["a", "b"], 0.5),
            ParameterError,
            "^omega=0.5",
        ),
        (lambda: selection.spread_over_groups([1, 2], 1, ["a"]), DataError, "groups has shape"),
        (lambda: selection.group_codes([{}, {}], 2), DataError, "cannot be told apart"),
        (lambda: selection.group_codes("ab", 2), DataError, "groups has shape"),
        (lambda: selection.group_codes([["a"], ["b"]], 2), DataError, "groups has shape"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
