"""Simulated campaigns: pairing, the tidy table, evaluation against hand computation."""

import functools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import Pixels, spied_classifier
from samples import make_blobs
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    CNNClassifier,
    CNNFeatures,
    JitterPatches,
    aift_sampling,
    prediction_pattern,
)
from aift_sklearn._file_lock import FileLock
from aift_sklearn.errors import DataError, LabelError, ParameterError
from aift_sklearn.study import (
    Dataset,
    evaluate,
    frozen,
    random_sampling,
    read_table,
    simulate,
    strategies,
    whole_pool,
    write_table,
)
from aift_sklearn.study.simulate import _parts


@pytest.fixture
def dataset():
    X, y = make_blobs(60)
    X_test, y_test = make_blobs(40, seed=1)
    return Dataset("blobs", X, y, X_test, y_test, None, None, "Drawn.", "here", "CC0")


@pytest.fixture
def classifier():
    return AIFTClassifier(Pixels(C=0.01), patches=AffinePatches(3, size=8))


def test_one_row_per_strategy_seed_and_round(dataset, classifier):
    rows = []
    table = simulate(
        dataset, classifier, n_rounds=3, n_instances=6, seeds=[0, 4], on_round=rows.append
    )
    assert table[["strategy", "seed", "round"]].to_numpy().tolist() == [
        [name, seed, number]
        for seed in (0, 4)
        for name in ("random", "AIFT")
        for number in range(3)
    ]
    assert [row["n_labels"] for row in rows] == table["n_labels"].tolist() == [6, 12, 18] * 4
    assert (table["n_disc"] + table["n_empty"] == table["n_labels"]).all()
    assert (table[["score_seconds", "train_seconds"]] >= 0).all(axis=None)
    for _, campaign in table.groupby(["strategy", "seed"]):
        asked = np.concatenate(campaign["asked"].to_list())
        assert len(set(asked)) == 18
        for (_, row), known in zip(campaign.iterrows(), (6, 12, 18), strict=True):
            assert row["n_disc"] == (dataset.y[asked[:known]] == "disc").sum()


def test_strategies_of_a_seed_share_the_first_batch_only(dataset, classifier):
    table = simulate(dataset, classifier, n_rounds=2, n_instances=6, seeds=[0, 1])
    first = table[table["round"] == 0].groupby("seed")
    assert (first["asked"].agg(lambda a: len(set(map(tuple, a)))) == 1).all()
    assert (first["auc"].nunique() == 1).all()
    second = table[table["round"] == 1].groupby("seed")
    assert (second["asked"].agg(lambda a: len(set(map(tuple, a)))) == 2).all()


def test_the_same_seed_gives_the_same_table(dataset, classifier):
    seconds = ["score_seconds", "train_seconds"]
    runs = [
        simulate(dataset, classifier, n_rounds=3, n_instances=5, seeds=[3]).drop(columns=seconds)
        for _ in range(2)
    ]
    pd.testing.assert_frame_equal(*runs)
    alone = simulate(dataset, classifier, ["AIFT"], n_rounds=3, n_instances=5, seeds=[3])
    aift = runs[0][runs[0]["strategy"] == "AIFT"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.drop(columns=seconds), aift)


def test_asks_what_the_strategy_asks(dataset, classifier):
    table = simulate(
        dataset, classifier, ["AIFT top"], n_rounds=2, n_instances=7, pool_weights=False
    )
    first, second = table["asked"]
    model = AIFTClassifier(
        Pixels(C=0.01),
        patches=AffinePatches(3, size=8),
        classes=["disc", "empty"],
        random_state=0,
    ).fit(dataset.X[first], dataset.y[first])
    left = np.setdiff1d(np.arange(60), first)
    scores = model.score_candidates(dataset.X[left])
    assert second == left[np.argsort(-scores, kind="stable")[:7]].tolist()
    measured = table["auc"].iloc[0]
    proba = model.predict_proba(dataset.X_test)[:, 1]
    assert measured == pytest.approx(roc_auc_score(dataset.y_test == "empty", proba))


def test_restart_fits_anew_on_everything(dataset):
    Spy, calls = spied_classifier()
    spy = Spy(Pixels(), patches=AffinePatches(2, size=8))
    simulate(dataset, spy, ["random"], n_rounds=3, n_instances=8, restart=True)
    assert [call for call in calls if call[0] == "fit"] == [("fit", 8), ("fit", 16), ("fit", 24)]
    calls.clear()
    simulate(dataset, spy, ["random"], n_rounds=3, n_instances=8)
    assert calls == [("fit", 8), ("partial_fit", 8), ("partial_fit", 8)]


def test_one_class_has_no_auc_and_three_have_the_macro_average(dataset, classifier):
    empty = dataset.y == "empty"
    one = AIFTClassifier(Pixels(), classes=["disc", "empty"], patches=AffinePatches(2, size=8))
    one.fit(dataset.X[empty], dataset.y[empty])
    measured = evaluate(one, dataset)
    assert np.isnan(measured["auc"])
    assert measured["balanced_accuracy"] == 0.5

    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"])[rng.integers(0, 3, 40)]
    three = Dataset("3", dataset.X, dataset.y, dataset.X_test, labels, None, None, "", "", "")
    model = AIFTClassifier(Pixels(), patches=AffinePatches(2, size=8))
    model.fit(dataset.X, np.array(["a", "b", "c"])[rng.integers(0, 3, 60)])
    proba = model.predict_proba(dataset.X_test)
    expected = np.mean([roc_auc_score(labels == c, proba[:, k]) for k, c in enumerate("abc")])
    assert evaluate(model, three)["auc"] == pytest.approx(expected)


def test_whole_pool_is_the_model_with_every_label(dataset, classifier):
    reference = whole_pool(dataset, classifier, seed=0)
    fitted = classifier.set_params(random_state=0).fit(dataset.X, dataset.y)
    assert reference == evaluate(fitted, dataset)


def test_own_strategies_and_modals(dataset, classifier):
    def first(learner, X_pool, n_instances=1):
        return np.arange(n_instances)

    table = simulate(
        dataset,
        classifier,
        {"first": first, "margin": strategies.STRATEGIES["margin"]},
        n_rounds=2,
        n_instances=4,
        first_batch=first,
    )
    assert table.query("strategy == 'first'")["asked"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(table) == 4


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_every_strategy_by_name_asks_for_b_distinct_candidates(dataset, classifier, name):
    classifier.fit(dataset.X[:20], dataset.y[:20])
    shown, strategy = strategies.build_strategy(name.upper())
    assert shown == name
    asked = strategies.ask(strategy, classifier, dataset.X[20:], 5, random_state=0)
    assert len(set(asked.tolist())) == 5


def test_tables_survive_being_written(dataset, classifier, tmp_path):
    table = simulate(dataset, classifier, n_rounds=2, n_instances=5)
    table["auc"] = 1.0
    table["strategy"] = table["strategy"].replace("random", "2020")
    again = read_table(write_table(table, tmp_path / "table.jsonl"))
    pd.testing.assert_frame_equal(table, again, check_exact=False, rtol=1e-9)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_rounds": 0}, ParameterError, "n_rounds=0"),
        ({"n_instances": 2.5}, ParameterError, "n_instances=2.5"),
        ({"n_rounds": 13}, DataError, "65 labels of a pool of 60"),
        ({"seeds": []}, ParameterError, "no seeds"),
        ({"seeds": [-1]}, ParameterError, "seeds=-1"),
        ({"strategies": ["magic"]}, ParameterError, "'magic' is unknown; expected one of 'random'"),
    ],
)
def test_bad_parameters_are_refused(dataset, classifier, params, error, message):
    with pytest.raises(error, match=message):
        simulate(dataset, classifier, **({"n_instances": 5} | params))


def test_predicted_classes_that_the_test_set_lacks_are_no_warning(dataset):
    rng = np.random.default_rng(0)
    y = np.array(["a", "b", "c"])[rng.integers(0, 3, 60)]
    y_test = np.array(["a", "b"])[rng.integers(0, 2, 40)]
    two = Dataset("2", dataset.X, y, dataset.X_test, y_test, None, None, "", "", "")
    model = AIFTClassifier(Pixels(), patches=AffinePatches(2, size=8)).fit(two.X, two.y)
    predicted = model.predict(two.X_test)
    expected = np.mean([np.mean(predicted[y_test == c] == c) for c in "ab"])
    assert evaluate(model, two)["balanced_accuracy"] == pytest.approx(expected)
    one = Dataset("1", dataset.X, y, dataset.X_test, np.full(40, "a"), None, None, "", "", "")
    with pytest.raises(DataError, match="one class"):
        simulate(one, model, n_instances=5)


def test_the_seed_of_a_campaign_is_the_models(dataset):
    seen = []

    class Spy(AIFTClassifier):
        def partial_fit(self, X, y, classes=None):
            seen.append(self.random_state)
            return super().partial_fit(X, y, classes)

        def fit(self, X, y):
            seen.append(self.random_state)
            return super().fit(X, y)

    spy = Spy(Pixels(), patches=AffinePatches(2, size=8))
    table = simulate(dataset, spy, ["random"], n_rounds=3, n_instances=6, seeds=[7])
    assert set(seen) == {7}
    rounds = table["asked"].to_list()
    assert len({tuple(np.sort(r)) for r in rounds}) == 3


def test_a_class_named_labels_is_refused(dataset, classifier):
    y = np.where(dataset.y == "disc", "labels", "empty")
    odd = Dataset("odd", dataset.X, y, dataset.X_test, y[:40], None, None, "", "", "")
    with pytest.raises(LabelError, match="n_labels"):
        simulate(odd, classifier, n_instances=5)


def test_default_strategies_include_ours():
    assert strategies.build_strategy("AIFT")[1] is aift_sampling
    assert strategies.build_strategy("random")[1] is strategies.random_sampling


@pytest.mark.parametrize(
    "asked", [[0, 0, 1, 2], [0, 1, 2], [0, 1, 2, 99], [-1, 0, 1, 2], [0.5, 1, 2, 3], [[0, 1, 2, 3]]]
)
def test_a_strategy_that_asks_for_something_else_is_refused(dataset, classifier, asked):
    def odd(learner, X_pool, n_instances=1):
        return np.array(asked)

    with pytest.raises(DataError, match=r"odd asked for .* expected 4 different positions"):
        simulate(dataset, classifier, {"odd": odd}, n_rounds=2, n_instances=4)


# --- resuming -------------------------------------------------------------------------------------

SECONDS = ["score_seconds", "train_seconds"]


class Stopped(Exception):
    pass


def stop_after(n):
    """Let a study be interrupted once n rounds are on disk."""
    rounds = []

    def on_round(row):
        rounds.append(row)
        if len(rounds) == n:
            raise Stopped

    return on_round


@pytest.mark.parametrize("kind", ["pixels", "network", "restart"])
@pytest.mark.parametrize("done", [1, 2, 4, 7])
def test_an_interrupted_study_goes_on_as_if_it_had_not_been(tmp_path, dataset, kind, done):
    model = {
        "pixels": Pixels(C=0.01),
        "restart": Pixels(C=0.01),
        "network": CNNClassifier(
            nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.ReLU()),
            pretrained=False,
            lr=0.01,
            max_epochs=2,
        ),
    }[kind]
    classifier = AIFTClassifier(model, patches=AffinePatches(3, size=8))
    options = {"n_rounds": 3, "n_instances": 6, "seeds": [0, 4], "restart": kind == "restart"}
    whole = simulate(dataset, classifier, **options)
    path = tmp_path / "table.jsonl"
    with pytest.raises(Stopped):
        simulate(dataset, classifier, **options, path=path, on_round=stop_after(done))
    assert len(read_table(path)) == done
    again = []
    resumed = simulate(dataset, classifier, **options, path=path, on_round=again.append)
    assert len(again) == 12 - done
    pd.testing.assert_frame_equal(
        resumed.drop(columns=SECONDS), whole.drop(columns=SECONDS), rtol=1e-9
    )
    assert len(read_table(path)) == 12
    # What was run is not run again.
    simulate(dataset, classifier, **options, path=path, on_round=stop_after(1))


def test_a_study_is_extended_by_rounds_seeds_and_strategies(tmp_path, dataset, classifier):
    path = tmp_path / "table.jsonl"
    simulate(dataset, classifier, ["random"], n_rounds=2, n_instances=6, path=path)
    options = {"n_rounds": 3, "n_instances": 6, "seeds": [0, 1]}
    extended = simulate(dataset, classifier, **options, path=path)
    pd.testing.assert_frame_equal(
        extended.drop(columns=SECONDS),
        simulate(dataset, classifier, **options).drop(columns=SECONDS),
        rtol=1e-9,
    )


def first(learner, X_pool, n_instances=1, *, step=1):
    return np.arange(0, step * n_instances, step)


def tiny_network(seed):
    torch.manual_seed(seed)
    return CNNClassifier(
        nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.ReLU()), pretrained=False, max_epochs=1
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_instances": 5}, "batch: 6 before, 5 now"),
        ({"restart": True}, "restart: False before, True now"),
        (
            {"estimator": AIFTClassifier(Pixels(C=1.0), patches=AffinePatches(3, size=8))},
            r"rows of another model \(estimator.C: 0.01 before, 1 now\)",
        ),
        (
            {"estimator": AIFTClassifier(Pixels(C=0.01), patches=AffinePatches(4, size=8))},
            r"patches.n_patches: 3 before, 4 now",
        ),
        (
            {"estimator": AIFTClassifier(Pixels(C=0.01), patches=AffinePatches(3, size=9))},
            r"patches.size: 8 before, 9 now",
        ),
        (
            {"estimator": AIFTClassifier(LogisticRegression(C=0.01), patches=AffinePatches(3, 8))},
            "estimator class: ",
        ),
        ({"first_batch": strategies.random_sampling}, "first batch: "),
        (
            {"strategies": {"mine": functools.partial(first, step=2)}},
            r"rows of another strategy 'mine' \(step: 1 before, 2 now\)\. Use the same to go on "
            "with it, give this one a name of its own",
        ),
        ({"strategies": {"mine": lambda *a, n_instances=1: np.arange(n_instances)}}, "code: "),
    ],
)
def test_a_study_with_other_settings_is_not_mixed_in(
    tmp_path, dataset, classifier, change, message
):
    path = tmp_path / "table.jsonl"
    options = {"estimator": classifier, "n_rounds": 2, "n_instances": 6, "path": path}
    options["strategies"] = {"mine": first}
    before = simulate(dataset, **options)
    held = path.read_bytes()
    with pytest.raises(ParameterError, match=message):
        simulate(dataset, **(options | change))
    assert path.read_bytes() == held
    pd.testing.assert_frame_equal(simulate(dataset, **options), before)
    for other in (
        replace(dataset, y=np.roll(dataset.y, 1)),
        replace(dataset, X=dataset.X[::-1]),
        replace(dataset, y_test=np.roll(dataset.y_test, 1)),
        replace(dataset, X_test=dataset.X_test ^ 1),
    ):
        with pytest.raises(ParameterError, match="data: "):
            simulate(other, **options)


def test_a_network_with_other_initial_weights_is_another_model(tmp_path, dataset):
    path = tmp_path / "table.jsonl"
    options = {"strategies": ["random"], "n_rounds": 2, "n_instances": 6, "path": path}
    patches = AffinePatches(2, size=12)
    before = simulate(dataset, AIFTClassifier(tiny_network(0), patches=patches), **options)
    same = simulate(dataset, AIFTClassifier(tiny_network(0), patches=patches), **options)
    pd.testing.assert_frame_equal(before, same, rtol=1e-9)
    other = AIFTClassifier(tiny_network(1), patches=patches)
    with pytest.raises(ParameterError, match=r"estimator.backbone weights: .* before, .* now"):
        simulate(dataset, other, **options)
    # By another name it stands beside the first.
    named = {"first": AIFTClassifier(tiny_network(0), patches=patches), "second": other}
    both = simulate(dataset, named, **(options | {"path": tmp_path / "both.jsonl"}))
    assert (both["head"].value_counts() == 2).all()
    alone = {"first": named["first"]}
    half = simulate(dataset, alone, **(options | {"path": tmp_path / "half.jsonl"}))
    rows = []
    grown = simulate(
        dataset, named, **(options | {"path": tmp_path / "half.jsonl"}), on_round=rows.append
    )
    assert (len(half), len(rows), len(grown)) == (2, 2, 4)


@pytest.mark.parametrize(
    "same",
    [
        {"strategies": {"mine": functools.partial(first, step=1)}},
        {"strategies": {"mine": functools.partial(first, step=np.float64(1.0))}},
        {"first_batch": functools.partial(aift_sampling, alpha=0.25)},
        {"estimator": AIFTClassifier(Pixels(C=1 / 100), patches=AffinePatches(3, size=8))},
        {
            "estimator": AIFTClassifier(
                Pixels(C=0.01),
                patches=AffinePatches(n_patches=3, size=8, scale=[0.8, 1.25], random_state=0),
                classes=np.array(["empty", "disc"]),
                replay="mixed",
                verbose=0,
                random_state=5,
            )
        },
        {"seeds": np.array([0])},
    ],
)
def test_equal_settings_written_differently_go_on(tmp_path, dataset, classifier, same):
    options = {"estimator": classifier, "strategies": {"mine": first}, "n_rounds": 2}
    options |= {"n_instances": 6, "path": tmp_path / "table.jsonl"}
    before = simulate(dataset, **options)
    rows = []
    again = simulate(replace(dataset, name="renamed"), **(options | same), on_round=rows.append)
    assert not rows
    pd.testing.assert_frame_equal(again, before)


def test_defaults_that_stand_for_a_model_are_told_as_it():
    images, features = np.zeros((2, 3, 8, 8)), np.zeros((2, 4))

    def told(estimator, X):
        data = Dataset(
            "x", X, np.array(["a", "b"]), X, np.array(["a", "b"]), None, None, "", "", ""
        )
        return _parts({}, {"": estimator}, data)

    assert told(AIFTClassifier(), images) == told(
        AIFTClassifier(CNNClassifier(), patches=AffinePatches(16)), images
    )
    assert told(AIFTClassifier(), features) == told(
        AIFTClassifier(LogisticRegression(max_iter=1000), patches=JitterPatches()), features
    )
    assert told(AIFTClassifier(), images) != told(AIFTClassifier(), features)


def test_a_study_of_fewer_strategies_keeps_what_is_known_of_the_others(
    tmp_path, dataset, classifier
):
    options = {"estimator": classifier, "n_rounds": 2, "n_instances": 6}
    options["path"] = tmp_path / "table.jsonl"
    simulate(dataset, strategies={"a": first, "b": random_sampling}, **options)
    simulate(dataset, strategies={"b": random_sampling}, **options)
    with pytest.raises(ParameterError, match="another strategy 'a'"):
        simulate(dataset, strategies={"a": random_sampling}, **options)


def test_two_studies_do_not_write_the_same_table(tmp_path, dataset, classifier):
    path = tmp_path / "table.jsonl"
    options = {"n_rounds": 2, "n_instances": 6, "path": path}
    refused = []

    def meanwhile(row):
        with pytest.raises(ParameterError, match=r"another study is writing .*table\.jsonl \(pro"):
            simulate(dataset, classifier, **options)
        refused.append(row)

    table = simulate(dataset, classifier, **options, on_round=meanwhile)
    assert len(refused) == 4
    assert len(read_table(path)) == 4
    # Done, or stopped, it lets the next one in.
    pd.testing.assert_frame_equal(simulate(dataset, classifier, **options), table, rtol=1e-9)
    more = options | {"n_rounds": 3}
    with pytest.raises(Stopped):
        simulate(dataset, classifier, **more, on_round=stop_after(1))
    assert len(simulate(dataset, classifier, **more)) == 6
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "table.jsonl", "table.settings.json"
    ]  # fmt: skip


def test_a_lock_ends_with_its_process(tmp_path):
    holding = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from aift_sklearn._file_lock import FileLock\n"
        "print(FileLock(Path(sys.argv[1])).acquire(), flush=True)\n"
        "lock = FileLock(Path(sys.argv[1] + '2'))\n"
        "print(lock.acquire(), flush=True)\n"
        "os.kill(os.getpid(), 9) if sys.stdin.readline() else None\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(tmp_path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() + process.stdout.readline() == "True\nTrue\n"
        lock = FileLock(tmp_path / "lock2")
        assert not lock.acquire()
        assert lock.holder() == f"process {process.pid}"
        process.stdin.write("die\n")
        process.stdin.flush()
        process.wait(60)
    assert lock.acquire()
    assert not FileLock(tmp_path / "lock2").acquire()
    lock.release()
    assert not lock.path.exists()


def test_a_line_that_was_cut_off_is_run_again(tmp_path, dataset, classifier):
    path = tmp_path / "table.jsonl"
    options = {"n_rounds": 2, "n_instances": 6, "path": path}
    simulate(dataset, classifier, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert len(read_table(path)) == 3
    again = []
    simulate(dataset, classifier, **options, on_round=again.append)
    assert len(again) == 1
    assert len(read_table(path)) == 4


def test_a_damaged_table_says_where(tmp_path, dataset, classifier):
    path = tmp_path / "table.jsonl"
    options = {"n_rounds": 2, "n_instances": 6, "path": path}
    simulate(dataset, classifier, **options)
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([lines[0], "{nothing", *lines[2:]]) + "\n", "utf-8")
    for read in (lambda: read_table(path), lambda: simulate(dataset, classifier, **options)):
        with pytest.raises(DataError, match="line 2 is no row of a study"):
            read()
    with pytest.raises(ParameterError, match=r"is a folder; expected .*table\.jsonl"):
        simulate(dataset, classifier, **(options | {"path": tmp_path}))
    (tmp_path / "table.settings.json").unlink()
    with pytest.raises(ParameterError, match="missing or damaged"):
        simulate(dataset, classifier, **options)
    with pytest.raises(DataError, match="no file"):
        read_table(tmp_path / "nothing.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="holds no rows"):
        read_table(tmp_path / "empty.jsonl")


# --- what was asked, groups, heads, frozen features -----------------------------------------------


def test_rows_hold_what_the_model_thought_of_what_it_asked(dataset, classifier):
    table = simulate(dataset, classifier, ["AIFT"], n_rounds=2, n_instances=5)
    assert table["patch_proba"].isna().tolist() == [True, False]
    first, second = table["asked"]
    model = clone(classifier).set_params(random_state=0, classes=["disc", "empty"])
    P = model.fit(dataset.X[first], dataset.y[first]).predict_patch_proba(dataset.X[second])
    np.testing.assert_allclose(table["patch_proba"][1], P, atol=5.1e-5)
    assert table["pattern"][1] == prediction_pattern(P).tolist()


def test_groups_spread_a_batch_and_reach_strategies_that_take_them(dataset, classifier):
    groups = np.arange(60) // 10
    grouped = replace(dataset, groups=groups, groups_test=np.arange(40) + 100)
    table = simulate(grouped, classifier, ["AIFT"], n_rounds=3, n_instances=5, groups=True)
    assert [len(set(groups[asked])) for asked in table["asked"]] == [5, 5, 5]
    seen = []

    def spy(learner, X_pool, n_instances=1, *, groups=None):
        seen.append(groups)
        return np.arange(n_instances)

    simulate(grouped, classifier, {"spy": spy}, n_rounds=2, n_instances=5, groups=True)
    asked = table["asked"][0]
    np.testing.assert_array_equal(seen[0], np.delete(groups, asked))
    with pytest.raises(ParameterError, match="has no groups"):
        simulate(dataset, classifier, n_instances=5, groups=True)
    shared = replace(grouped, groups_test=np.arange(40))
    with pytest.raises(DataError, match=r"6 groups, such as .*0.*, are in pool and test set"):
        simulate(shared, classifier, n_instances=5)


def test_a_class_that_only_the_test_set_holds_is_refused(dataset, classifier):
    odd = replace(dataset, y_test=np.where(np.arange(40) < 3, "square", dataset.y_test))
    with pytest.raises(DataError, match=r"\['square'\], which the pool lacks"):
        simulate(odd, classifier, n_instances=5)


def test_several_heads_are_compared_on_one_pool(tmp_path, dataset, classifier):
    forest = AIFTClassifier(
        make_pipeline(
            FunctionTransformer(lambda X: X.reshape(len(X), -1)), RandomForestClassifier(10)
        ),
        patches=AffinePatches(3, size=8),
    )
    heads = {"pixels": classifier, "forest": forest}
    options = {"n_rounds": 2, "n_instances": 6, "seeds": [0, 1]}
    table = simulate(dataset, heads, **options, path=tmp_path / "table.jsonl")
    assert table.columns[:2].tolist() == ["head", "strategy"]
    assert table.groupby(["head", "strategy", "seed"])["round"].count().eq(2).all()
    alone = simulate(dataset, classifier, **options).drop(columns=SECONDS)
    ours = table[table["head"] == "pixels"].drop(columns=["head", *SECONDS])
    pd.testing.assert_frame_equal(ours.reset_index(drop=True), alone)
    again = simulate(dataset, heads, **options, path=tmp_path / "table.jsonl")
    pd.testing.assert_frame_equal(again, table, rtol=1e-9)


def test_frozen_features_are_computed_once_and_change_nothing(dataset):
    calls = []

    class Counting(CNNFeatures):
        def transform(self, X):
            calls.append(len(X))
            return super().transform(X)

        embed = transform

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
    classifier = AIFTClassifier(
        make_pipeline(Counting(network), StandardScaler(), LogisticRegression(C=0.1)),
        patches=AffinePatches(3),
    )
    assert frozen.can_freeze(classifier)
    options = {"n_rounds": 3, "n_instances": 6, "seeds": [0, 4]}
    once = simulate(dataset, classifier, **options)
    # One candidate tells the size of an embedding.
    assert sum(calls) == 3 * (60 + 40 + 1)
    every_round = simulate(dataset, classifier, **options, precompute=False)
    assert sum(calls) > 3 * 3 * (60 + 40)
    pd.testing.assert_frame_equal(
        once.drop(columns=SECONDS), every_round.drop(columns=SECONDS), rtol=1e-5
    )
    assert whole_pool(dataset, classifier)["auc"] == pytest.approx(
        evaluate(clone(classifier).set_params(random_state=0).fit(dataset.X, dataset.y), dataset)[
            "auc"
        ]
    )


def test_many_embeddings_lie_in_a_file_and_change_nothing(dataset, monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
    pipeline = make_pipeline(CNNFeatures(network), LogisticRegression(C=0.1))
    classifier = AIFTClassifier(pipeline, patches=AffinePatches(3))
    options = {"n_rounds": 2, "n_instances": 6}
    before = simulate(dataset, classifier, **options)
    monkeypatch.setattr(frozen, "_IN_MEMORY", 100)
    _, looked_up = frozen.freeze(dataset, classifier)
    table = looked_up.estimator.steps[0][1].table.embeddings
    assert isinstance(table, np.memmap)
    assert looked_up.patches.n_floats == 3 * 8
    after = simulate(dataset, classifier, **options)
    pd.testing.assert_frame_equal(before.drop(columns=SECONDS), after.drop(columns=SECONDS))


@pytest.mark.parametrize(
    "classifier",
    [
        AIFTClassifier(),
        AIFTClassifier(make_pipeline(StandardScaler(), LogisticRegression())),
        AIFTClassifier(make_pipeline(CNNFeatures(pretrained=False), LogisticRegression())),
        AIFTClassifier(
            make_pipeline(CNNFeatures(), LogisticRegression()),
            patches=AffinePatches(random_state=None),
        ),
        LogisticRegression(),
    ],
)
def test_features_that_change_are_not_frozen(classifier):
    assert not frozen.can_freeze(classifier)
