"""Planned studies: what a plan may say, campaigns that are those of `simulate`, and resuming."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import Pixels
from PIL import Image
from sklearn.base import clone

from aift_sklearn import AffinePatches, AIFTClassifier, aift_sampling, models
from aift_sklearn._file_lock import FileLock
from aift_sklearn.errors import DataError, OutOfMemoryError, ParameterError
from aift_sklearn.query import random_sampling
from aift_sklearn.study import load_tissue, simulate
from aift_sklearn.study.planned import running, tasks
from aift_sklearn.study.planned.campaigns import (
    batch_redundancy,
    campaign_rows,
    read_campaigns,
    rounds_of,
)
from aift_sklearn.study.planned.reading import read_plan
from aift_sklearn.study.planned.running import run_plan

POOL = '[[pool]]\nname = "nuclei"\ndata = "tissue"\n'
SETTING = '[[setting]]\nname = "one"\nstrategies = ["random", "AIFT"]\n'
SMALL = (
    'title = "Nuclei"\nseeds = 2\nrounds = 2\nbatch = 6\nstrategies = ["random", "AIFT"]\n'
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
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: clone(model))
    return model


@pytest.fixture
def places(monkeypatch):
    """Where candidates lie, without a network."""
    rng = np.random.default_rng(0)
    known = rng.normal(size=(load_tissue().n_candidates, 3))
    monkeypatch.setattr(tasks.Task, "_places", lambda task: known)
    monkeypatch.setattr(tasks.Task, "embed", lambda task, verbose: None)
    return known


def test_what_stands_above_the_tables_is_their_default(plan_file):
    text = (
        'seeds = 3\nbatch = 7\nmodel = "features"\nviews = "endoscopy"\n'
        '[[pool]]\nname = "a"\ndata = "tissue"\nbatch = 9\n'
        '[[pool]]\nname = "b"\ndata = "boxes:cells"\nmax_pool = 50\nsplit_seed = 4\n'
        "parameters = {noise = 3}\n" + SETTING + 'parameters = {replay = "none"}\n'
        '[[setting]]\nname = "two"\nstrategies = ["aift", "RANDOM"]\n'
        'seeds = [4, 2]\npools = ["b"]\n'
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
    assert (two.seeds, two.pools, two.strategies) == ((4, 2), ("b",), ("AIFT", "random"))
    assert one.build("microscopy").replay == "none"
    assert plan.n_rounds == 2 * 2 * 3 * 10 + 2 * 2 * 10
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
        (POOL + SETTING.replace('"AIFT"', '"AIFT", "aift"'), "comes twice"),
        ('[[pool]]\nname = "a"\n' + SETTING, "pool 'a' says no data"),
        (POOL + SETTING + "parameters = {patches = 4}", "parameters say patches, which the study"),
        (POOL + SETTING + "pools = []", "expected a list of names"),
        (POOL + SETTING + 'pools = ["nuclei", "nuclei"]', "the pool 'nuclei' comes twice"),
        (POOL + SETTING + "seeds = [4294967296]", "how many seeds, or a list"),
        (POOL + SETTING.replace('"AIFT"', '"margin"'), "strategies lack AIFT"),
        (POOL.replace("nuclei", "a|b") + SETTING, "a name without"),
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
    with pytest.raises(DataError, match="there is no file"):
        read_plan(tmp_path)
    with pytest.raises(DataError, match="is no TOML file"):
        read_plan(plan_file("seeds = = 2"))
    assert read_plan(plan_file("\ufeff" + POOL + SETTING)).pools[0].name == "nuclei"


def test_data_are_looked_for_beside_the_plan(plan_file, tmp_path):
    for data, found in (
        ("tissue", "tissue"),
        ("medmnist:blood", "medmnist:blood"),
        ("tissue.csv", f"{tmp_path / 'tissue.csv'}"),
        ("fundus/images", f"{tmp_path / 'fundus/images'}"),
        ("boxes:cells", f"boxes:{tmp_path / 'cells'}"),
    ):
        plan = read_plan(plan_file(POOL.replace('"tissue"', f'"{data}"') + SETTING))
        assert plan.pools[0].data == found


def test_campaigns_are_those_of_simulate(fast, places, plan_file, tmp_path):
    campaigns = read_campaigns(run_plan(read_plan(plan_file(SMALL)), tmp_path / "out", jobs=1))
    data = load_tissue()
    for setting, seeds, options in (
        ("as is", [0, 1], {}),
        ("anew, own first", [1], {"restart": True, "first_batch": "own"}),
    ):
        table = simulate(
            data, fast, ["random", "AIFT"], n_rounds=2, n_instances=6, seeds=seeds, **options
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

    monkeypatch.setattr(tasks, "simulate", watched)
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
    monkeypatch.setattr(tasks.provenance, "versions", lambda: "aift-sklearn 99")
    longer = read_plan(plan_file(SMALL.replace("seeds = 2", "seeds = 3")))
    campaigns = read_campaigns(run_plan(longer, out, jobs=1))
    assert len(seen) == 16
    of_seed = campaigns[campaigns["setting"] == "as is"].groupby("seed")["made"].first()
    assert ["aift-sklearn 99" in " ".join(made) for made in of_seed] == [False, False, True]


def test_a_plan_that_was_changed_keeps_what_it_still_lists(fast, places, plan_file, tmp_path):
    plain = (
        'seeds = 2\nrounds = 2\nbatch = 6\nstrategies = ["random", "AIFT"]\n'
        + POOL
        + "[[setting]]\n"
        'name = "as is"\n'
    )
    out = tmp_path / "out"
    first = read_campaigns(run_plan(read_plan(plan_file(plain)), out, jobs=1))
    longer = plain.replace('"AIFT"]', '"AIFT", "margin"]')
    second = read_campaigns(run_plan(read_plan(plan_file(longer)), out, jobs=1))
    assert second.groupby("strategy").size().to_dict() == {"AIFT": 2, "margin": 2, "random": 2}
    again = read_campaigns(run_plan(read_plan(plan_file(plain)), out, jobs=1))
    pd.testing.assert_frame_equal(again, first)


def test_each_strategy_says_which_code_made_it(fast, places, plan_file, tmp_path, monkeypatch):
    plain = "seeds = 1\nrounds = 2\nbatch = 6\n" + POOL + SETTING
    out = tmp_path / "out"
    run_plan(read_plan(plan_file(plain)), out, jobs=1)
    monkeypatch.setattr(tasks.provenance, "versions", lambda: "aift-sklearn 99")
    longer = plain.replace('"AIFT"]', '"AIFT", "margin"]')
    campaigns = read_campaigns(run_plan(read_plan(plan_file(longer)), out, jobs=1))
    made = campaigns.set_index("strategy")["made"].map(" ".join)
    assert ["aift-sklearn 99" in made[name] for name in ("random", "AIFT", "margin")] == [
        False,
        False,
        True,
    ]


def test_of_an_interrupted_extension_seeds_that_are_whole_are_kept(
    fast, places, plan_file, tmp_path, monkeypatch
):
    plain = "seeds = 2\nrounds = 2\nbatch = 6\n" + POOL + SETTING
    out = tmp_path / "out"
    run_plan(read_plan(plan_file(plain)), out, jobs=1)

    def interrupted(*args, seeds, **options):
        if seeds == [1]:
            raise KeyboardInterrupt
        return simulate(*args, seeds=seeds, **options)

    monkeypatch.setattr(tasks, "simulate", interrupted)
    longer = plain.replace('"AIFT"]', '"AIFT", "margin"]')
    with pytest.raises(KeyboardInterrupt):
        run_plan(read_plan(plan_file(longer)), out, jobs=1)
    campaigns = read_campaigns(out / "campaigns.jsonl")
    assert campaigns.groupby("strategy")["seed"].agg(list).to_dict() == {
        "random": [0], "AIFT": [0], "margin": [0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("batch = 6", "batch = 200"), "n_rounds x n_instances = 400 labels of a pool of 342"),
        (('name = "as is"', 'name = "as is"\ngroups = true\npools = ["plain"]'), "has none"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_slow(
    change, message, fast, plan_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(running, "_embed", None)
    folder = tmp_path / "images"
    for name, level in (("a", 60), ("b", 190)):
        (folder / name).mkdir(parents=True)
        for k in range(30):
            pixels = np.full((16, 16, 3), level + k, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")
    text = SMALL.replace(*change) + '[[pool]]\nname = "plain"\ndata = "images"\n'
    with pytest.raises(ParameterError if "has" in message else DataError, match=message):
        run_plan(read_plan(plan_file(text)), tmp_path / "out", jobs=1)


def test_one_study_at_a_time_runs_in_a_folder(fast, places, plan_file, tmp_path):
    lock = FileLock(tmp_path / "study.lock")
    assert lock.acquire()
    with pytest.raises(ParameterError, match="another study runs in"):
        run_plan(read_plan(plan_file(SMALL)), tmp_path, jobs=1)
    lock.release()
    run_plan(read_plan(plan_file(SMALL)), tmp_path, jobs=1)


def test_the_whole_pool_is_measured_once_for_a_model_and_anew_for_another(
    fast, places, plan_file, tmp_path, monkeypatch
):
    measured = []

    def watched(data, model, **options):
        measured.append(model.patches.n_patches)
        return {"auc": 0.9, "balanced_accuracy": 0.8}

    monkeypatch.setattr(tasks, "whole_pool", watched)
    run_plan(read_plan(plan_file(SMALL)), tmp_path / "out", jobs=1)
    assert measured == [3]
    (kept,) = (tmp_path / "out").glob("rounds/*/whole-pool-*.json")
    # What is damaged is measured again.
    kept.write_text("{")
    run_plan(read_plan(plan_file(SMALL)), tmp_path / "out", jobs=1)
    assert measured == [3, 3]
    fast.patches.n_patches = 4
    with pytest.raises(ParameterError, match="rows of another model"):
        run_plan(read_plan(plan_file(SMALL)), tmp_path / "out", jobs=1)
    assert measured == [3, 3, 4]


def test_names_that_differ_have_folders_that_differ():
    names = ["Ab", "aB", "C=1,5.2", "C=1.5,2", "a b", "a-b", "x" * 300, "x" * 301]
    folders = {tasks._as_file(name) for name in names}
    assert len(folders) == len(names)
    assert max(map(len, folders)) < 60


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


def processes_of(session):
    """Processes of a session that run or wait."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look for processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_study_leaves_no_process_and_goes_on(plan_file, tmp_path, number):
    path, out = plan_file(REAL.replace("rounds = 2", "rounds = 15")), tmp_path / "out"
    command = [sys.executable, "-m", "aift_sklearn", "study", path, "--out", out, "--jobs", "2"]
    study = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)

    def kept():
        return [path for path in out.glob("rounds/*/*/seed-0.jsonl") if path.stat().st_size]

    assert wait_for(kept, 120)
    study.send_signal(number)
    study.wait(60)
    assert wait_for(lambda: not processes_of(study.pid), 60)
    n_before = kept()[0].read_bytes().count(b"\n")
    assert 1 <= n_before < 30
    campaigns = read_campaigns(run_plan(read_plan(path), out, jobs=1, verbose=False))
    assert campaigns["n_labels"].map(len).tolist() == [15] * 4
    study.stderr.close()


def test_a_process_that_is_ended_is_said_so(plan_file, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_embed", lambda *args, **options: None)
    monkeypatch.setattr(running, "_run", _end_yourself)
    with pytest.raises(OutOfMemoryError, match="go on with fewer jobs"):
        run_plan(read_plan(plan_file(REAL)), tmp_path / "out", jobs=2, verbose=False)


def _end_yourself(task, whole):
    os._exit(9)


def test_frozen_embeddings_are_kept_in_a_folder(tmp_path, monkeypatch):
    data, model = load_tissue(), models.build_model("features", n_patches=2)
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
    # What is damaged is made again.
    for damage in (b"", kept.read_bytes()[:500]):
        kept.write_bytes(damage)
        again = simulate(data, model, **options, precompute=tmp_path)
        pd.testing.assert_frame_equal(again[columns], whole)
    # Other views have a file of their own.
    simulate(data, models.build_model("features", n_patches=3), **options, precompute=tmp_path)
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
    # modAL's know no first batch, and would take any: theirs is random.
    margin = simulate(data, model, ["margin", "random"], **options, first_batch="own")
    pairs = margin[margin["round"] == 0].groupby("seed")["asked"].agg(list)
    assert all(one == other for one, other in pairs)
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
    (row,) = campaign_rows(table, data, places=np.eye(data.n_candidates, 2))
    assert row["auc"] == [None, 0.7]
    assert row["rarest"] == [1, 1]
    assert row["redundancy"] == [None, None]
    assert (row["score_seconds"], row["train_seconds"]) == (2.0, 4.0)
