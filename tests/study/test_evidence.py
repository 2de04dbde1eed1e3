"""What campaigns show: statistics against independent ones, and a page that flatters nobody."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from aift_sklearn.errors import DataError, ParameterError
from aift_sklearn.study.planned.campaigns import batch_redundancy, rounds_of, write_campaigns
from aift_sklearn.study.planned.statistics import (
    cold_start_differences,
    compare,
    labels_saved,
    median_interval,
    rank_strategies,
    tables_of,
)
from aift_sklearn.study.report.evidence import draw_evidence, read_evidence, write_evidence
from aift_sklearn.study.report.evidence_page import Evidence, evidence_section

SEEDS = 8


def campaigns(gains, pools=("cells", "nuclei"), settings=("frozen",)):
    """Campaigns of four rounds: random's curve, noise, and a gain per strategy and pool."""
    rng = np.random.default_rng(3)
    rows = []
    for pool in pools:
        for setting in settings:
            for seed in range(SEEDS):
                base = np.array([0.5, 0.6, 0.7, 0.75]) + rng.normal(scale=0.01)
                for strategy, gain in {"random": 0.0, **gains}.items():
                    lift = gain[pool] if isinstance(gain, dict) else gain
                    curve = base + lift * np.array([0, 1, 1, 1]) + rng.normal(scale=0.002, size=4)
                    rows.append(
                        {
                            "pool": pool,
                            "setting": setting,
                            "parameters": {"model": "features", "restart": False},
                            "made": ["commit abc; aift-sklearn 1"],
                            "strategy": strategy,
                            "seed": seed,
                            "n_labels": [20, 40, 60, 80],
                            "auc": [None, *np.round(curve[1:], 4).tolist()],
                            "balanced_accuracy": np.round(curve, 4).tolist(),
                            "rarest": [1, 2, 4, 8],
                            "redundancy": [0.5, 0.25, 0.25, None],
                            "score_seconds": 4.0,
                            "train_seconds": 8.0,
                        }
                    )
    return pd.DataFrame(rows)


def facts(pools=("cells", "nuclei"), settings=("frozen",)):
    whole = {setting: {"auc": 0.8, "balanced_accuracy": 0.8} for setting in settings}
    pool = {
        "dataset": "Dataset", "description": "Some.", "source": "here", "licence": "CC BY 4.0",
        "n_candidates": 100, "shares": {"a": 0.9, "b": 0.1}, "whole": whole,
        "rounds": 4, "batch": 20, "views": "microscopy",
    }  # fmt: skip
    return {"title": "T", "plan": "", "machine": "2 CPU cores", "pools": dict.fromkeys(pools, pool)}


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=40))
def test_the_interval_of_a_median_is_that_of_scipy(values):
    theirs = stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    assert median_interval(values) == (theirs.low, theirs.high)


def test_few_values_give_their_range_and_infinite_ones_count():
    assert median_interval([3, -np.inf, 1]) == (-np.inf, 3)
    assert median_interval([-np.inf] * 2 + list(range(8))) == (-np.inf, 6)
    assert np.isnan(median_interval([])).all()


@given(st.integers(2, 8), st.integers(0, 99))
def test_redundancy_is_the_mean_of_the_nearest_cosine(n, seed):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    nearest = [
        max(
            points[i] @ points[j] / np.linalg.norm(points[i]) / np.linalg.norm(points[j])
            for j in range(n)
            if j != i
        )
        for i in range(n)
    ]
    assert batch_redundancy(points) == pytest.approx(np.mean(nearest))


def test_differences_are_those_of_paired_tests():
    told = campaigns({"AIFT": 0.05, "margin": 0.03, "entropy": 0.0})
    compared = compare(tables_of(told, "frozen"), "balanced_accuracy")
    chosen = told[told["pool"] == "cells"].pivot(
        index="seed", columns="strategy", values="balanced_accuracy"
    )
    area = chosen.map(lambda curve: integrate.trapezoid(curve, [20, 40, 60, 80]) / 60)
    for name, prefix, against in (("margin", "", "random"), ("entropy", "ours_", "AIFT")):
        ours, theirs = area[name], area[against]
        row = compared.loc[("cells", name)]
        test = stats.ttest_rel(ours, theirs)
        ends = test.confidence_interval(0.95)
        assert row["area"] == pytest.approx(ours.mean())
        assert row[f"{prefix}difference"] == pytest.approx((ours - theirs).mean())
        assert row[f"{prefix}low"] == pytest.approx(ends.low)
        assert row[f"{prefix}high"] == pytest.approx(ends.high)
        others = [
            stats.ttest_rel(area[o], theirs).pvalue for o in area if o not in (against, "AIFT top")
        ]
        # Holm's correction by hand.
        holm = max(min(1, p * (3 - i)) for i, p in enumerate(sorted(others)) if p <= test.pvalue)
        assert row[f"{prefix}p"] == pytest.approx(holm)


def test_variants_do_not_hide_rivals():
    gains = {"AIFT": 0.05, "margin": 0.0505, "entropy": 0.03}
    alone = compare(tables_of(campaigns(gains), "frozen"), "balanced_accuracy")
    told = campaigns({**gains, **{f"AIFT {k}": 0.02 for k in range(5)}})
    # The same curves, and five variants more.
    kept = told[~told["strategy"].str.startswith("AIFT ")]
    both = compare(tables_of(told, "frozen"), "balanced_accuracy")
    of_kept = compare(tables_of(kept, "frozen"), "balanced_accuracy")
    rivals = ["random", "margin", "entropy"]
    for pool in ("cells", "nuclei"):
        told_p = both.loc[pool].loc[rivals, "ours_p"]
        assert told_p.tolist() == of_kept.loc[pool].loc[rivals, "ours_p"].tolist()
        assert (both.loc[pool].loc["AIFT 0", ["ours_p"]] < 0.05).all()
        # Against random all are counted.
        assert both.loc[(pool, "entropy"), "p"] >= of_kept.loc[(pool, "entropy"), "p"]
    assert alone.index.equals(of_kept.index)


def test_seeds_that_not_every_strategy_ran_with_are_left_out():
    told = campaigns({"AIFT": 0.05, "margin": 0.02})
    told = told[~((told["strategy"] == "margin") & (told["seed"] > 4))]
    tables = tables_of(told, "frozen")
    assert sorted(tables["cells"]["seed"].unique()) == [0, 1, 2, 3, 4]


def test_ranks_are_means_over_pools_and_the_worst_is_told():
    told = campaigns({"AIFT": {"cells": 0.05, "nuclei": -0.05}, "margin": 0.02})
    ranked = rank_strategies(compare(tables_of(told, "frozen"), "balanced_accuracy"))
    assert ranked["mean_rank"].to_dict() == {"margin": 1.5, "AIFT": 2.0, "random": 2.5}
    assert ranked.index[0] == "margin"
    assert ranked.loc["AIFT", "worst"] == pytest.approx(-0.05 * 5 / 6, abs=0.003)
    assert ranked.loc["random", "worst"] == 0


def test_labels_saved_are_counted_seed_by_seed():
    rows = pd.DataFrame(
        {
            "strategy": ["random"] * 2 + ["AIFT"] * 2,
            "seed": [0, 1] * 2,
            "n_labels": [[10, 20, 40]] * 4,
            "auc": [[0.5, 0.6, 0.8], [0.5, 0.6, 0.8], [0.5, 0.8, 0.8], [0.5, 0.6, 0.7]],
            "balanced_accuracy": [[0.5, 0.6, 0.8]] * 4,
            "rarest": [[0, 1, 2]] * 4,
            "redundancy": [[0.0, 0.0, 0.0]] * 4,
            "score_seconds": 1.0,
            "train_seconds": 1.0,
        }
    )
    saved = labels_saved(rounds_of(rows), "auc")
    assert saved.reached == 1
    assert saved.seeds == 2
    assert saved.baseline_labels == 40
    assert saved.labels == np.inf
    assert (saved.low, saved.high) == (-np.inf, 0.5)


def test_the_cold_start_is_where_the_mean_is_lowest():
    told = campaigns({"AIFT": -0.2})
    told.loc[told["strategy"] == "AIFT", "balanced_accuracy"] = pd.Series(
        [[0.5, 0.55, 0.7, 0.0]] * len(told)
    )
    told.loc[told["strategy"] == "random", "balanced_accuracy"] = pd.Series(
        [[0.5, 0.6, 0.7, 0.9]] * len(told)
    )
    table = tables_of(told, "frozen")["cells"]
    lowest = cold_start_differences(table, "balanced_accuracy")
    assert lowest["AIFT"] == pytest.approx(-0.05)
    assert cold_start_differences(table, "balanced_accuracy", n_labels=80)["AIFT"] == -0.9


def test_an_unknown_setting_is_refused():
    with pytest.raises(ParameterError, match=r"expected one of \['frozen'\]"):
        tables_of(campaigns({"AIFT": 0.1}), "fine-tuned")


def test_what_does_not_flatter_is_said_first():
    told = campaigns({"AIFT": {"cells": 0.05, "nuclei": -0.05}, "margin": 0.06})
    text = evidence_section(Evidence(told, facts()))
    findings = [
        line for line in text.splitlines() if line.startswith("- ") and "commit" not in line
    ]
    assert "cells, balanced accuracy: margin is better than AIFT by +0.0" in findings[0]
    assert "nuclei, balanced accuracy: AIFT did worse than random, −0.0" in findings[1]
    assert findings[-2].startswith("- AIFT above random, mean height of the curve: cells")
    assert "Holm" in findings[-1]
    table = next(line for line in text.splitlines() if line.startswith("| margin | +0.0"))
    assert table.count("▲") == 2
    worse = campaigns({"AIFT": 0.05, "margin": -0.05})
    assert "| margin | −0.042" in evidence_section(Evidence(worse, facts()))
    assert "▼" in evidence_section(Evidence(worse, facts()))
    assert "▲" not in evidence_section(Evidence(worse, facts())).replace("▲ better", "")


def test_ranks_are_told_over_pools_that_all_were_run_on():
    told = campaigns({"AIFT": {"cells": 0.05, "nuclei": -0.05}, "margin": 0.02})
    told = told[~((told["pool"] == "nuclei") & (told["strategy"] == "margin"))]
    ranked = rank_strategies(compare(tables_of(told, "frozen"), "balanced_accuracy"))
    assert ranked["mean_rank"].to_dict() == {"AIFT": 1, "margin": 2, "random": 3}
    assert ranked.loc["AIFT", "worst"] > 0


def test_one_class_counts_as_chance_in_the_cold_start():
    told = campaigns({"AIFT": 0.0})
    told["auc"] = [[None, 0.9, 0.9, 0.9] if s == "AIFT" else [0.6, 0.9, 0.9, 0.9]
                   for s in told["strategy"]]  # fmt: skip
    lowest = cold_start_differences(tables_of(told, "frozen")["cells"], "auc")
    assert lowest["AIFT"] == pytest.approx(-0.1)
    assert (
        cold_start_differences(tables_of(told, "frozen")["cells"], "auc", n_labels=5).isna().all()
    )


def test_a_rival_is_named_before_correction_too():
    rng = np.random.default_rng(1)
    told = campaigns({"AIFT": 0.03, "margin": 0.032, **{f"r{k}": 0.0 for k in range(9)}})
    # Better in seven of eight seeds, and not by much.
    lift = {seed: 0.002 + 0.002 * rng.normal() for seed in range(SEEDS)}
    base = told[told["strategy"] == "AIFT"].set_index(["pool", "seed"])["balanced_accuracy"]
    told["balanced_accuracy"] = [
        (np.array(base[row.pool, row.seed]) + lift[row.seed]).tolist()
        if row.strategy == "margin"
        else row.balanced_accuracy
        for row in told.itertuples()
    ]
    compared = compare(tables_of(told, "frozen"), "balanced_accuracy")
    row = compared.loc[("cells", "margin")]
    assert row["ours_low"] > 0
    text = evidence_section(Evidence(told, facts()))
    after = "after" if row["ours_p"] < 0.05 else "but not after"
    line = next(line for line in text.splitlines() if "accuracy: margin is better" in line)
    assert f"{after} correction for all rivals" in line


def test_a_single_seed_has_no_interval():
    told = campaigns({"AIFT": 0.05})
    text = evidence_section(Evidence(told[told["seed"] == 0], facts()))
    assert "(one seed)" in text
    assert "| random | 0." in text
    assert "nan" not in text


def test_code_that_changed_within_a_table_is_said():
    told = campaigns({"AIFT": 0.05})
    assert "more than one state of the code" not in evidence_section(Evidence(told, facts()))
    told.at[0, "made"] = ["commit other; aift-sklearn 2"]
    text = evidence_section(Evidence(told, facts()))
    assert "**Made with more than one state of the code: cells.**" in text


def test_no_gain_is_called_none():
    text = evidence_section(Evidence(campaigns({"AIFT": 0.0}), facts()))
    assert "AIFT shows no gain" in text
    assert "above random" not in text


def test_a_page_and_a_figure_are_written(tmp_path):
    settings = ("frozen", "fine-tuned")
    told = campaigns({"AIFT": 0.05, "margin": 0.01}, settings=settings)
    write_campaigns(told.to_dict("records"), tmp_path / "campaigns.jsonl")
    with pytest.raises(DataError, match="was run to its end"):
        write_evidence(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(facts(settings=settings)))
    text = write_evidence(tmp_path).read_text("utf-8")
    assert text.startswith("# T\n")
    assert (tmp_path / "evidence.png").stat().st_size > 10_000
    for words in ("## frozen", "## fine-tuned", "## Settings beside each other", "commit abc",
                  "95% of all labels', 0.760", "10.0% in cells", "Licence: CC BY 4.0"):  # fmt: skip
        assert words in text
    # Of 80 labels 8 are of the rarest class; batches are alike by a third.
    assert "| AIFT | 10.0%, 0.33, 4.0 + 8.0 s | 10.0%, 0.33, 4.0 + 8.0 s |" in text
    assert read_evidence(tmp_path).settings == list(settings)


def test_a_figure_shows_random_ours_and_the_best():
    gains = {"AIFT top": 0.07, "a": 0.06, "b": 0.05, "AIFT": -0.01, "c": 0.04, "d": 0.01}
    told = campaigns(gains, settings=("one", "two"))
    told = told[~((told["setting"] == "two") & (told["pool"] == "cells"))]
    figure = draw_evidence(Evidence(told, facts()))
    first, _, hidden, last = figure.axes
    assert [line.get_label() for line in first.lines if line.get_label()[0] != "_"] == [
        "random", "AIFT", "a", "b", "c",
    ]  # fmt: skip
    assert not hidden.get_visible()
    assert last.get_title() == "nuclei: two"
