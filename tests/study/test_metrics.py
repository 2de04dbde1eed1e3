"""Numbers from learning curves, against tables worked out by hand and slow loops."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import trapezoid

from aift_sklearn.errors import ParameterError
from aift_sklearn.study.curves import (
    by_head,
    check_metric,
    check_table,
    fill_chance,
    mean_curve,
)
from aift_sklearn.study.metrics import (
    area_under_curve,
    compare_with_baseline,
    format_labels,
    labels_for_mean_curve,
    labels_to_reach,
    shared_level,
    summarise,
)

NAN = float("nan")


def table_of(curves, labels=(10, 20, 40)):
    """Tidy table from {(strategy, seed): [auc per round]}."""
    rows = [
        {
            "strategy": strategy, "seed": seed, "round": i, "n_labels": labels[i], "auc": auc,
            "balanced_accuracy": auc / 2, "score_seconds": 1.0, "train_seconds": 2.0 * i,
        }
        for (strategy, seed), values in curves.items()
        for i, auc in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


TWO = table_of(
    {
        ("random", 0): [0.6, 0.7, 0.8],
        ("random", 1): [0.5, 0.6, 0.7],
        ("aift", 0): [0.6, 0.8, 0.9],
        ("aift", 1): [0.5, 0.6, 0.65],
    }
)

curves = st.lists(st.floats(0, 1), min_size=1, max_size=8)
steps = st.lists(st.integers(0, 50), min_size=8, max_size=8)


def test_area_by_hand() -> None:
    area = area_under_curve(TWO)
    # Means of neighbouring heights times widths 10 and 20, over the span of 30.
    assert area.loc["random", 0] == pytest.approx((0.65 * 10 + 0.75 * 20) / 30)
    assert area.loc["aift", 0] == pytest.approx((0.70 * 10 + 0.85 * 20) / 30)
    assert list(area.index) == ["random", "aift"]
    assert list(area.columns) == [0, 1]
    half = area_under_curve(TWO, "balanced_accuracy")
    pd.testing.assert_frame_equal(half, area / 2)


@given(st.floats(0, 1), steps, st.integers(1, 8))
def test_area_of_a_constant_is_the_constant(height, widths, rounds) -> None:
    labels = np.cumsum(widths)
    area = area_under_curve(table_of({("a", 3): [height] * rounds}, labels))
    assert area.loc["a", 3] == pytest.approx(height, abs=1e-12)


@given(curves, steps)
def test_area_agrees_with_scipy_and_ignores_row_order(values, widths) -> None:
    labels = np.cumsum(np.array(widths) + 1)
    table = table_of({("a", 0): values}, labels)
    used = labels[: len(values)]
    oracle = trapezoid(values, used) / (used[-1] - used[0]) if len(values) > 1 else values[0]
    assert area_under_curve(table).iloc[0, 0] == pytest.approx(oracle, abs=1e-12)
    assert area_under_curve(table[::-1]).iloc[0, 0] == pytest.approx(oracle, abs=1e-12)


def test_area_is_taken_over_the_shared_span() -> None:
    long = table_of({("long", 0): [0.5, 0.7, 0.9, 1.0]}, (10, 20, 30, 100))
    short = table_of({("short", 0): [0.5, 0.7]}, (10, 25))
    area = area_under_curve(pd.concat([long, short]))
    # The long curve is cut at 25, where it is 0.8.
    assert area.loc["long", 0] == pytest.approx((0.6 * 10 + 0.75 * 5) / 15)
    assert area.loc["short", 0] == pytest.approx(0.6)
    apart = pd.concat([long, table_of({("late", 0): [0.5, 0.7]}, (200, 250))])
    assert area_under_curve(apart).isna().all(axis=None)


def test_one_class_counts_as_chance() -> None:
    table = table_of({("a", 0): [NAN, NAN, 0.9], ("b", 0): [NAN, 0.7, 0.9]})
    area = area_under_curve(table)
    assert area.loc["a", 0] == pytest.approx((0.5 * 10 + 0.7 * 20) / 30)
    assert area.loc["b", 0] == pytest.approx((0.6 * 10 + 0.8 * 20) / 30)
    assert labels_to_reach(table, 0.6).loc["a", 0] == 40
    assert math.isnan(table["auc"][0])  # the input is left as it was
    assert summarise(table, baseline="b").loc["a", "alc_difference"] == pytest.approx(-0.1)


def test_chance_never_hides_a_broken_metric() -> None:
    table = table_of({("a", 0): [NAN, NAN, NAN], ("b", 0): [0.6, NAN, 0.9]})
    filled = fill_chance(table)
    assert filled["auc"][:3].isna().all()
    assert math.isnan(filled["auc"][4])
    assert area_under_curve(table).isna().all(axis=None)
    assert fill_chance(table, "balanced_accuracy")["balanced_accuracy"].isna().sum() == 4
    end = table_of({("a", 0): [0.6, 0.7, NAN]})
    assert math.isnan(summarise(end).loc["a", "auc"])


def test_labels_to_reach_by_hand() -> None:
    needed = labels_to_reach(TWO, 0.7)
    assert needed.loc["random"].tolist() == [20, 40]
    assert needed.loc["aift", 0] == 20
    assert math.isnan(needed.loc["aift", 1])
    per_seed = labels_to_reach(TWO, pd.Series({0: 0.8, 1: 0.6}))
    assert per_seed.loc["random"].tolist() == [40, 20]
    assert per_seed.loc["aift"].tolist() == [20, 20]


@given(curves, st.floats(0, 1), steps)
def test_labels_to_reach_agrees_with_a_loop(values, level, widths) -> None:
    labels = np.cumsum(widths)
    oracle = next((n for n, value in zip(labels, values, strict=False) if value >= level), NAN)
    found = labels_to_reach(table_of({("a", 0): values}, labels), level).iloc[0, 0]
    assert found == pytest.approx(oracle, nan_ok=True)


def test_missing_runs_stay_missing() -> None:
    table = TWO[(TWO["strategy"] == "random") | (TWO["seed"] == 0)]
    assert math.isnan(area_under_curve(table).loc["aift", 1])
    row = summarise(table).loc["aift"]
    assert (row["seeds"], row["seeds_reached"], row["labels_needed_text"]) == (1, 1, "20")
    assert math.isnan(row["alc_low"])


def test_shared_level() -> None:
    assert shared_level(TWO).to_dict() == {0: 0.8, 1: 0.7}
    # Without a baseline: the best round of the strategy whose best is lowest.
    assert shared_level(TWO, baseline="none").to_dict() == {0: 0.8, 1: 0.65}


def test_format_labels() -> None:
    assert format_labels([NAN], 120) == ">120"
    assert format_labels([62, 65], 120) == "63.5 (62–65)"
    # Half of the seeds never got there: the median is not a number of labels.
    assert format_labels([62, NAN], 120) == ">120 (1 of 2 seeds)"


def test_summary_by_hand() -> None:
    summary = summarise(TWO)
    aift, random = summary.loc["aift"], summary.loc["random"]
    assert random["auc"] == pytest.approx(0.75)
    assert random["auc_sd"] == pytest.approx(math.sqrt(0.005))
    assert aift["balanced_accuracy"] == pytest.approx(0.775 / 2)
    # Area differences: 2.5 / 30 for seed 0 and −0.5 / 30 for seed 1.
    assert aift["alc_difference"] == pytest.approx(1 / 30)
    # Half the width: 12.706 (t, one degree of freedom) times the standard error, 1.5 / 30.
    assert aift["alc_low"] == pytest.approx(1 / 30 - 12.7062047 * 1.5 / 30)
    assert aift["alc_high"] == pytest.approx(1 / 30 + 12.7062047 * 1.5 / 30)
    # With one degree of freedom t is Cauchy: p = 1 − 2 atan(t) / π.
    assert aift["alc_p"] == pytest.approx(1 - 2 * math.atan((1 / 30) / (1.5 / 30)) / math.pi)
    assert math.isnan(aift["alc_wilcoxon_p"])
    assert math.isnan(random["alc_difference"])
    assert aift["level"] == pytest.approx(0.75)
    assert (aift["seeds"], aift["n_labels"], aift["seeds_reached"]) == (2, 40, 1)
    assert math.isnan(aift["labels_needed"])
    assert aift["labels_needed_text"] == ">40 (1 of 2 seeds)"
    assert random["labels_needed"] == 40
    assert (aift["score_seconds"], aift["train_seconds"]) == (3.0, 6.0)


def test_one_seed_has_no_spread() -> None:
    row = summarise(TWO[TWO["seed"] == 0]).loc["aift"]
    assert row["alc_difference"] == pytest.approx(2.5 / 30)
    assert row[["auc_sd", "alc_sd", "alc_low", "alc_high", "alc_p"]].isna().all()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([1, 2], "table is a list"),
        (TWO.iloc[:0], "no rows"),
        (TWO.drop(columns=["seed", "auc"]), r"lacks the columns \['seed', 'auc'\] and has \['str"),
        (pd.concat([TWO, TWO]), "round 0 of strategy 'random', seed 0 more than once"),
        (TWO.assign(n_labels=-TWO["n_labels"]), "n_labels falls"),
    ],
)
def test_a_bad_table_is_refused(table, says) -> None:
    with pytest.raises(ParameterError, match=says):
        check_table(table, ["auc"])


def test_mean_curve_leaves_out_rounds_that_a_seed_lacks() -> None:
    table = table_of({("a", 0): [0.6, 0.7, 0.9], ("a", 1): [0.4, 0.5], ("b", 0): [NAN, 0.8, NAN]})
    means = mean_curve(table[::-1])
    found = {name: rows["auc"].tolist() for name, rows in means.groupby("strategy")}
    # An undefined first round is chance; an undefined later one is no number.
    assert found == {"a": pytest.approx([0.5, 0.6]), "b": pytest.approx([0.5, 0.8])}
    assert means["n_labels"].tolist() == [10, 20, 10, 20]


@given(
    st.integers(1, 6).flatmap(
        lambda rounds: st.lists(
            st.lists(st.integers(0, 8), min_size=rounds, max_size=rounds), min_size=1, max_size=4
        )
    ),
    st.integers(0, 8),
    steps,
)
def test_labels_for_mean_curve_agrees_with_a_loop(runs, level, widths) -> None:
    labels = np.cumsum(widths)
    eighths = {("a", seed): [v / 8 for v in values] for seed, values in enumerate(runs)}
    oracle = NAN
    for i in reversed(range(len(runs[0]))):
        if sum(values[i] for values in runs) >= level * len(runs):
            oracle = labels[i]
    # Mean of a few eighths: the tolerance covers thirds, and never a step of 1/32.
    found = labels_for_mean_curve(table_of(eighths, labels), level / 8 - 1e-9)
    assert found["a"] == pytest.approx(oracle, nan_ok=True)


def test_mean_curve_and_median_of_seeds_are_two_things() -> None:
    runs = {("a", 0): [0.5, 0.9, 0.9], ("a", 1): [0.5, 0.9, 0.9], ("a", 2): [0.5, 0.5, 0.7]}
    table = table_of(runs | {("never", seed): [0.5, 0.5, 0.5] for seed in range(3)})
    assert labels_to_reach(table, 0.8).loc["a"].median() == 20
    needed = labels_for_mean_curve(table, 0.8)
    assert needed["a"] == 40
    assert math.isnan(needed["never"])
    assert list(needed.index) == ["a", "never"]
    # In binary the mean of three times 0.7 lies below 0.7.
    same = table_of({("a", seed): [0.5, 0.7] for seed in range(3)})
    assert labels_for_mean_curve(same, 0.7)["a"] == 20


HEADS = pd.concat([TWO.assign(head="cnn"), TWO.assign(head="forest", auc=TWO["auc"] - 0.1)])


def test_heads_are_summarised_each_with_its_own_baseline() -> None:
    both = summarise(HEADS)
    assert both.index.names == ["head", "strategy"]
    pd.testing.assert_frame_equal(both.loc["cnn"], summarise(TWO))
    alone = HEADS[HEADS["head"] == "forest"]
    pd.testing.assert_frame_equal(both.loc["forest"], summarise(alone))
    assert both.loc[("forest", "random"), "level"] == pytest.approx(0.65)


@pytest.mark.parametrize(
    "measure",
    [area_under_curve, shared_level, mean_curve, fill_chance, lambda t: labels_to_reach(t, 0.5)],
)
def test_heads_are_never_mixed(measure) -> None:
    with pytest.raises(ParameterError, match=r"heads \['cnn', 'forest'\]; expected one.*Pass one"):
        measure(HEADS)
    pd.testing.assert_frame_equal(area_under_curve(HEADS[:12]), area_under_curve(TWO))


def test_a_head_without_a_name_is_a_head() -> None:
    mixed = pd.concat([TWO, TWO.assign(head="cnn")])
    assert list(by_head(mixed)) == ["", "cnn"]
    assert list(by_head(TWO.assign(head=None))) == [""]


def test_summary_by_another_metric() -> None:
    table = TWO.assign(balanced_accuracy=1 - TWO["auc"])
    row = summarise(table, metric="balanced_accuracy").loc["aift"]
    assert row["level"] == pytest.approx(0.25)
    assert row["alc_difference"] == pytest.approx(-1 / 30)
    assert row["auc"] == pytest.approx(0.775)
    with pytest.raises(ParameterError, match="metric is 'f1'"):
        check_metric("f1")


def test_strategies_are_compared_with_the_baseline_seed_by_seed() -> None:
    rng = np.random.default_rng(0)
    names = ("random", "a", "b", "c")
    table = table_of({(name, seed): rng.random(3) for name in names for seed in range(8)})
    # A strategy that lacks seeds is compared over those that it has.
    table = table[~((table["strategy"] == "c") & (table["seed"] >= 5))]
    compared = compare_with_baseline(table)
    area = area_under_curve(table)
    raw = {}
    for name, n in (("a", 8), ("b", 8), ("c", 5)):
        difference = (area.loc[name] - area.loc["random"]).dropna().to_numpy()
        oracle = stats.ttest_1samp(difference, 0)
        interval = oracle.confidence_interval(0.95)
        row = compared.loc[name]
        assert row["seeds"] == n
        assert row["difference"] == pytest.approx(difference.mean())
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
        raw[name] = oracle.pvalue
    # Holm by hand: the smallest times three, the next times two, never below one before it.
    first, second, third = sorted(raw, key=raw.get)
    expected = {first: min(1, 3 * raw[first])}
    expected[second] = min(1, max(expected[first], 2 * raw[second]))
    expected[third] = max(expected[second], raw[third])
    assert compared["p"].drop("random").to_dict() == pytest.approx(expected)
    ranked = {
        name: stats.wilcoxon(area.loc[name] - area.loc["random"]).pvalue for name in ("a", "b")
    }
    low, high = sorted(ranked, key=ranked.get)
    assert compared.loc[low, "wilcoxon_p"] == pytest.approx(min(1, 2 * ranked[low]))
    assert compared.loc[high, "wilcoxon_p"] == pytest.approx(
        max(compared.loc[low, "wilcoxon_p"], ranked[high])
    )
    assert math.isnan(compared.loc["c", "wilcoxon_p"])
    assert compared.loc["random"].drop("seeds").isna().all()
    assert compare_with_baseline(table, baseline="nobody")["difference"].isna().all()
    # One comparison needs no correction.
    alone = compare_with_baseline(table[table["strategy"].isin(["random", "a"])])
    assert alone.loc["a", "p"] == pytest.approx(raw["a"])
