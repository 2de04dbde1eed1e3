"""Processes and nodes that are lost while a pool is scored: the same table, whatever happens.

Run by ``make test-faults``; these take minutes. Each test prints in which phase the kills hit.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, ScoreTable, save

N, SHARD, SIZE = 3000, 128, 64
N_KILLS = 20


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A pool and a model on disk, and the table of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("task")
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (N, 3, SIZE, SIZE), dtype=np.uint8)
    np.save(folder / "pool.npy", X)
    cnn = CNNClassifier(trainable="head", max_epochs=1)
    views = AffinePatches.for_microscopy(n_patches=2)
    model = AIFTClassifier(cnn, patches=views, random_state=0)
    save(model.fit(X[:12], ["a", "b", "c"] * 4), folder / "model")
    start = time.monotonic()
    finish(begin(folder, folder / "undisturbed"))
    return folder, ScoreTable(folder / "undisturbed").read(), time.monotonic() - start


def begin(task, out, *options):
    """Begin to score in another process."""
    command = [sys.executable, "-m", "aift_sklearn", "score", str(task / "pool.npy")]
    command += ["--model", str(task / "model"), "--out", str(out), "--shard-size", str(SHARD)]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process, patience=300):
    output, _ = process.communicate(timeout=patience)
    assert process.returncode == 0, output
    return output


def phase_of(out, since=0.0):
    """What a run was doing, as its folder tells."""
    if not (out / "_manifest.json").exists():
        return "loading, no manifest yet"
    done = len(list(out.glob("shard-*.parquet")))
    if any(path.stat().st_mtime > since for path in out.glob(".*.tmp")):
        return "writing a file"
    if done == 0:
        return "opening the model, no shard yet"
    if done == -(-N // SHARD):
        whole = ScoreTable(out).is_complete
        return "complete, printing" if whole else "all shards, manifest not finished"
    return f"scoring, {'first' if done * 2 < N // SHARD else 'second'} half of the shards"


def report(capsys, title, phases):
    with capsys.disabled():
        print(f"\n{title}")
        for phase, count in sorted(Counter(phases).items()):
            print(f"  {count:3} x {phase}")


def wait_for(condition, patience=120):
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)
    return found


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_table(task, tmp_path, capsys):
    folder, expected, took = task
    rng, phases, outs = np.random.default_rng(), [], []
    while len(phases) < N_KILLS:
        if not outs or (outs[-1].exists() and phase_of(outs[-1]).startswith("complete")):
            outs.append(tmp_path / f"scores-{len(outs)}")
        process, since = begin(folder, outs[-1]), time.time()
        # Half of the time, and a third of the kills, fall to what comes before the first shard.
        early = rng.random() < 0.3
        time.sleep(rng.uniform(0, took / 2) if early else rng.uniform(took / 2, took * 0.95))
        if process.poll() is not None:
            finish(process)
            continue
        process.kill()
        process.communicate()
        phases.append(phase_of(outs[-1], since))
    for out in outs:
        finish(begin(folder, out))
        assert ScoreTable(out).read().equals(expected)
        assert ScoreTable(out).is_complete
    report(capsys, f"kill -9 of {N_KILLS} runs, {len(outs)} tables:", phases)


@pytest.fixture
def cluster():
    """Two nodes of two cores, each with processes of its own; the first has the driver."""
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 2**28}
    )
    other = nodes.add_node(num_cpus=2, object_store_memory=2**28)
    nodes.wait_for_nodes()
    yield nodes, other
    ray.shutdown()
    nodes.shutdown()


def workers(role):
    """Processes of Ray's workers by what they are called: of all nodes on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            title = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if title.startswith("ray::") and role in title:
            found.append(int(path.name))
    return found


def started(out):
    """Whether some shards are there."""
    return len(list(out.glob("shard-*.parquet"))) >= 2


def on_ray(task, out, nodes):
    return begin(task, out, "--ray", nodes.address, "--actors", "3")


def test_a_worker_that_is_killed_is_replaced(task, cluster, tmp_path, capsys):
    (folder, expected, _), (nodes, _) = task, cluster
    process = on_ray(folder, tmp_path / "out", nodes)
    wait_for(lambda: started(tmp_path / "out"))
    phase = phase_of(tmp_path / "out")
    scoring = wait_for(lambda: workers("ScoreBatches") or workers("MapWorker"))
    os.kill(scoring[0], signal.SIGKILL)
    finish(process)
    assert ScoreTable(tmp_path / "out").read().equals(expected)
    report(capsys, "kill -9 of a worker that scores:", [phase])


def test_a_node_that_is_lost_is_done_without(task, cluster, tmp_path, capsys):
    (folder, expected, _), (nodes, other) = task, cluster
    process = on_ray(folder, tmp_path / "out", nodes)
    wait_for(lambda: started(tmp_path / "out"))
    phase = phase_of(tmp_path / "out")
    nodes.remove_node(other, allow_graceful=False)
    finish(process)
    assert ScoreTable(tmp_path / "out").read().equals(expected)
    report(capsys, "a node of two removed:", [phase])


def test_a_driver_that_is_killed_goes_on(task, cluster, tmp_path, capsys):
    (folder, expected, _), (nodes, _) = task, cluster
    process = on_ray(folder, tmp_path / "out", nodes)
    wait_for(lambda: started(tmp_path / "out"))
    process.kill()
    process.communicate()
    phase, kept = phase_of(tmp_path / "out"), {}
    for path in (tmp_path / "out").glob("shard-*.parquet"):
        kept[path] = path.stat().st_mtime_ns
    assert kept
    finish(on_ray(folder, tmp_path / "out", nodes))
    assert ScoreTable(tmp_path / "out").read().equals(expected)
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    report(capsys, "kill -9 of the driver:", [phase])


def test_each_way_goes_on_with_what_the_other_began(task, cluster, tmp_path):
    (folder, expected, _), (nodes, _) = task, cluster
    for first, second in (((), ("--ray", nodes.address)), (("--ray", nodes.address), ())):
        out = tmp_path / f"out-{len(first)}"
        process = begin(folder, out, *first)
        wait_for(lambda out=out: started(out))
        process.kill()
        process.communicate()
        finish(begin(folder, out, *second))
        assert ScoreTable(out).read().equals(expected)
