"""Planned studies: what a plan may say, campaigns that are those of `simulate`, and resuming."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from fakes import Pixels
from sklearn.base import clone

from aift_sklearn import AffinePatches, AIFTClassifier, aift_sampling
from aift_sklearn.errors import DataError, OutOfMemoryError, ParameterError
from aift_sklearn.query import random_sampling
from aift_sklearn.study import demo, load_tissue, simulate
from aift_sklearn.study.planned import running
from aift_sklearn.study.planned.campaigns import (
    batch_redundancy,
    campaign_rows,
    read_campaigns,
    rounds_of,
)
from aift_sklearn.study.planned.plan import read_plan
from aift_sklearn.study.planned.running import run_plan

POOL = '[[pool]]\nname = "nuclei"\ndata = "tissue"\n'
SETTING = '[[setting]]\nname = "one"\nstrategies = ["random", "AIFT"]\n'
SMALL = (
    'title = "Nuclei"\nseeds = 2\nrounds = 2\nbatch = 6\nstrategies = ["random", "margin"]\n'
    + POOL
    + '[[setting]]\nname = "as is"\n[[setting]]\nname = "anew, own first"\nrestart = true\n'
    'first_batch = "own"\nseeds = [1]\n'
)


@pytest.fixture
def plan_file(tmp_path):
    def write(text):
        path = tmp_path / "plan.toml"
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.fixture
def fast(monkeypatch):
    """Train logistic regressions on thumbnails instead of CNNs, and embed by brightness."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(demo.MODELS, "finetune", lambda patches: clone(model))
    return model


@pytest.fixture
def places(monkeypatch):
    """Where candidates lie, without a network."""
    rng = np.random.default_rng(0)
    known = rng.normal(size=(load_tissue().n_candidates, 3))
    monkeypatch.setattr(running, "_places", lambda task, out: known)
    monkeypatch.setattr(running, "freeze", lambda *args, **options: None)
    return known


def test_what_stands_above_the_tables_is_their_default(plan_file):
    text = (
        'seeds = 3\nbatch = 7\nmodel = "features"\nviews = "endoscopy"\n'
        '[[pool]]\nname = "a"\ndata = "tissue"\nbatch = 9\n'
        '[[pool]]\nname = "b"\ndata = "boxes:cells"\nmax_pool = 50\nsplit_seed = 4\n'
        "parameters = {noise = 3}\n" + SETTING + 'parameters = {replay = "none"}\n'
        '[[setting]]\nname = "two"\nstrategies = ["aift TOP"]\nseeds = [4, 2]\npools = ["b"]\n'
    )
    path = plan_file(text)
    plan = read_plan(path)
    assert [(p.batch, p.rounds, p.views) for p in plan.pools] == [
        (9, 10, "endoscopy"),
        (7, 10, "endoscopy"),
    ]
    assert plan.pools[1].data == f"boxes:{path.parent / 'cells'}"
    assert plan.pools[1].options == {"max_pool": 50, "random_state": 4, "noise": 3}
    one, two = plan.settings
    assert (one.seeds, one.pools, one.model) == ((0, 1, 2), ("a", "b"), "features")
    assert (two.seeds, two.pools, two.strategies) == ((4, 2), ("b",), ("AIFT top",))
    assert one.build("microscopy").replay == "none"
    assert plan.n_rounds == 2 * 2 * 3 * 10 + 2 * 10
    assert plan.text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SETTING, r"no table \[\[pool\]\]"),
        (POOL, r"no table \[\[setting\]\]"),
        (POOL + SETTING + "round = 3", "setting 'one' says round, which is not known"),
        (POOL + "rounds = true\n" + SETTING, "rounds is True; expected a whole number"),
        (POOL + "rounds = 1\n" + SETTING, "rounds=1; expected a whole number from 2"),
        (POOL + POOL + SETTING, "the pool 'nuclei' comes twice"),
        (POOL + SETTING + SETTING, "the setting 'one' comes twice"),
        (POOL + SETTING + 'pools = ["x"]', "expected one of 'nuclei'"),
        (POOL + SETTING + "seeds = [1, 1]", "how many seeds, or a list of different ones"),
        (POOL + SETTING + "seeds = 0", "how many seeds"),
        (POOL + SETTING + 'model = "cnn"', "expected one of 'finetune', 'features'"),
        (POOL + SETTING + 'first_batch = "x"', "expected one of 'AIFT', 'random', 'own'"),
        (POOL + SETTING + 'pool_weights = "x"', "expected one of 'auto', True, False"),
        (POOL + SETTING + "parameters = {rate = 1}", "has no such parameter"),
        (POOL + '[[setting]]\nname = "one"', "says no strategies"),
        (POOL + '[[setting]]\nname = "one"\nstrategies = "AIFT"', "expected a list of names"),
        (POOL + '[[setting]]\nname = "one"\nstrategies = ["x"]', "strategy 'x' is unknown"),
        (POOL + '[[setting]]\nname = "one"\nstrategies = ["AIFT", "aift"]', "comes twice"),
        ('[[pool]]\nname = "a"\n' + SETTING, "pool 'a' says no data"),
        ("parameters = {a = 1}\n" + POOL + SETTING, "the plan says parameters"),
        (POOL + "parameters = 3\n" + SETTING, "expected a table such as"),
        ("colour = 1\n" + POOL + SETTING, "the plan says colour"),
    ],
)
def test_what_a_plan_may_not_say_is_refused(text, message, plan_file):
    with pytest.raises(ParameterError, match=message):
        read_plan(plan_file(text))


def test_a_plan_that_cannot_be_read_is_refused(plan_file, tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_plan(tmp_path / "none.toml")
    with pytest.raises(DataError, match="is no TOML file"):
        read_plan(plan_file("seeds = = 2"))


def test_campaigns_are_those_of_simulate(fast, places, plan_file, tmp_path):
    campaigns = read_campaigns(run_plan(read_plan(plan_file(SMALL)), tmp_path / "out", jobs=1))
    data = load_tissue()
    for setting, seeds, options in (
        ("as is", [0, 1], {}),
        ("anew, own first", [1], {"restart": True, "first_batch": "own"}),
    ):
        table = simulate(
            data, fast, ["random", "margin"], n_rounds=2, n_instances=6, seeds=seeds, **options
        )
        told = rounds_of(campaigns[campaigns["setting"] == setting])
        keys = ["strategy", "seed", "round"]
        both = table.merge(told, on=keys, suffixes=("", "_told"), validate="one_to_one")
        assert len(both) == len(table) == len(told)
        for name in ("n_labels", "auc", "balanced_accuracy"):
            np.testing.assert_allclose(both[f"{name}_told"], both[name], atol=6e-5)
        np.testing.assert_array_equal(both["rarest"], both["n_DAB-positive"])
        centred = places - places.mean(axis=0)
        alike = [batch_redundancy(centred[asked]) for asked in both["asked"]]
        np.testing.assert_allclose(both["redundancy"], alike, atol=6e-5)
    facts = json.loads((tmp_path / "out" / "study.json").read_text("utf-8"))
    assert facts["pools"]["nuclei"]["whole"].keys() == {"as is", "anew, own first"}
    assert facts["plan"] == SMALL
    row = campaigns.iloc[-1]
    assert row["parameters"]["first_batch"] == "own"
    assert "scikit-learn" in row["made"][0]


def test_a_study_goes_on_where_it_was_interrupted(fast, places, plan_file, tmp_path, monkeypatch):
    plan, out = read_plan(plan_file(SMALL)), tmp_path / "out"
    whole = read_campaigns(run_plan(plan, tmp_path / "whole", jobs=1))
    seen = []

    def watched(*args, on_round, **options):
        def note(row):
            on_round(row)
            seen.append((row["strategy"], row["seed"], row["round"]))
            if len(seen) == watched.stop_after:
                raise KeyboardInterrupt

        return simulate(*args, **options, on_round=note)

    monkeypatch.setattr(running, "simulate", watched)
    watched.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, out, jobs=1)
    # Seed 0 was finished, and seed 1 was not.
    assert read_campaigns(out / "campaigns.jsonl")["seed"].unique().tolist() == [0]
    watched.stop_after = None
    again = read_campaigns(run_plan(plan, out, jobs=1))
    assert len(seen) == plan.n_rounds == 12
    columns = ["pool", "setting", "strategy", "seed", "auc", "balanced_accuracy", "redundancy"]
    pd.testing.assert_frame_equal(again[columns], whole[columns])
    # Another release is noted beside the one before.
    monkeypatch.setattr(running.provenance, "versions", lambda: "aift-sklearn 99")
    longer = read_plan(plan_file(SMALL.replace("seeds = 2", "seeds = 3")))
    campaigns = read_campaigns(run_plan(longer, out, jobs=1))
    assert len(seen) == 16
    of_seed = campaigns[campaigns["setting"] == "as is"].groupby("seed")["made"].first()
    assert ["99" in " ".join(made) for made in of_seed] == [False, False, True]


def test_rounds_of_other_settings_are_never_mixed_in(fast, places, plan_file, tmp_path):
    run_plan(read_plan(plan_file(SMALL)), tmp_path / "out", jobs=1)
    changed = read_plan(plan_file(SMALL.replace("batch = 6", "batch = 5")))
    with pytest.raises(ParameterError, match="holds a study with other settings"):
        run_plan(changed, tmp_path / "out", jobs=1)


REAL = (
    'rounds = 2\nbatch = 8\nseeds = 2\nmodel = "features"\npatches = 2\n'
    'strategies = ["random", "AIFT"]\n' + POOL + '[[setting]]\nname = "frozen"\n'
)


def test_the_number_of_processes_changes_nothing(plan_file, tmp_path, capsys):
    plan = read_plan(plan_file(REAL))
    one = read_campaigns(run_plan(plan, tmp_path / "one", jobs=1, verbose=False))
    shutil.copytree(tmp_path / "one" / "embeddings", tmp_path / "two" / "embeddings")
    two = read_campaigns(run_plan(plan, tmp_path / "two", jobs=2, verbose=False))
    columns = ["strategy", "seed", "auc", "balanced_accuracy", "redundancy"]
    pd.testing.assert_frame_equal(one[columns], two[columns])
    assert capsys.readouterr().err == ""


def test_a_process_that_is_ended_is_said_so(plan_file, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_prepare", lambda *args, **options: {"pools": {}})
    monkeypatch.setattr(running, "_run_and_tell", _end_yourself)
    with pytest.raises(OutOfMemoryError, match="go on with fewer jobs"):
        run_plan(read_plan(plan_file(REAL)), tmp_path / "out", jobs=2, verbose=False)


def _end_yourself(task, out):
    import os

    os._exit(9)


def test_frozen_embeddings_are_kept_in_a_folder(tmp_path, monkeypatch):
    data, model = load_tissue(), demo.build_model("features", n_patches=2)
    options = {"n_rounds": 2, "n_instances": 8, "seeds": [0]}
    columns = ["strategy", "round", "auc", "balanced_accuracy"]
    whole = simulate(data, model, **options)[columns]
    pd.testing.assert_frame_equal(simulate(data, model, **options, precompute=tmp_path)[columns],
                                  whole)  # fmt: skip
    (kept,) = tmp_path.iterdir()
    # What is there is looked up.
    table = np.load(kept)
    np.save(kept, np.zeros_like(table))
    zeros = simulate(data, model, **options, precompute=tmp_path)
    assert zeros["balanced_accuracy"].tolist() == [0.5] * 4
    # Other views have a file of their own.
    simulate(data, demo.build_model("features", n_patches=3), **options, precompute=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_strategies_can_choose_their_own_first_batch():
    data = load_tissue()
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    options = {"n_rounds": 2, "n_instances": 6, "seeds": [0, 1]}
    own = simulate(data, model, ["random", "AIFT"], **options, first_batch="own")
    alone = {
        "random": simulate(data, model, ["random"], **options, first_batch=random_sampling),
        "AIFT": simulate(data, model, ["AIFT"], **options, first_batch=aift_sampling),
    }
    for name, table in alone.items():
        chosen = own[own["strategy"] == name]
        assert chosen["asked"].tolist() == table["asked"].tolist()
    first = own[own["round"] == 0].groupby("seed")["asked"].agg(list)
    assert all(one != other for one, other in first)
    with pytest.raises(ParameterError, match="expected a strategy or 'own'"):
        simulate(data, model, **options, first_batch="owned")


def test_an_own_first_batch_is_resumed(tmp_path):
    data = load_tissue()
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    options = {"n_instances": 6, "seeds": [0], "first_batch": "own"}
    whole = simulate(data, model, n_rounds=3, **options)
    path = tmp_path / "table.jsonl"
    simulate(data, model, n_rounds=2, **options, path=path)
    again = simulate(data, model, n_rounds=3, **options, path=path)
    assert again["asked"].tolist() == whole["asked"].tolist()


def test_campaigns_that_cannot_be_read_are_refused(tmp_path):
    path = tmp_path / "campaigns.jsonl"
    with pytest.raises(DataError, match="there is no file"):
        read_campaigns(path)
    path.write_text("")
    with pytest.raises(DataError, match="holds no campaigns"):
        read_campaigns(path)
    path.write_text('{"pool": "a"}\n')
    with pytest.raises(DataError, match="line 1 is no campaign: it lacks"):
        read_campaigns(path)
    path.write_text("{\n")
    with pytest.raises(DataError, match="line 1 is no campaign"):
        read_campaigns(path)


def test_a_batch_of_one_has_no_redundancy():
    table = pd.DataFrame(
        {"strategy": "random", "seed": 0, "round": [1, 0], "n_labels": [2, 1], "auc": [0.7, np.nan],
         "balanced_accuracy": [0.6, 0.5], "n_a": [1, 1], "n_b": [1, 0], "score_seconds": 1.0,
         "train_seconds": 2.0, "asked": [[1], [0]]}
    )  # fmt: skip
    data = load_tissue()
    table = table.rename(columns={"n_a": "n_DAB-positive", "n_b": "n_DAB-negative"})
    (row,) = campaign_rows(table, data, places=np.eye(data.n_candidates, 2), pool="p")
    assert row["auc"] == [None, 0.7]
    assert row["rarest"] == [1, 1]
    assert row["redundancy"] == [None, None]
    assert (row["score_seconds"], row["train_seconds"], row["pool"]) == (2.0, 4.0, "p")
