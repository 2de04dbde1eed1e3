"""Processes and nodes that are lost while a pool is scored: the same table, whatever happens.

Run by ``make test-faults``; these take minutes. Each test prints in which phase the kills hit.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster
from waiting import wait_until

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, ScoreTable
from aift_sklearn.onnx import OnnxScorer

# Ray's processes are found among all of the machine's: not two clusters at once.
on_one_cluster = pytest.mark.xdist_group("ray")

N, SHARD, SIZE = 1500, 64, 64
N_KILLS = 20
# Seconds: Ray starts its processes one after the other.
PATIENCE = 300


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
    # Exported once: every run would export a saved model anew, which takes longer than it scores.
    OnnxScorer(model.fit(X[:12], ["a", "b", "c"] * 4)).save(folder / "model.onnx")
    start = time.monotonic()
    finish(begin(folder, folder / "undisturbed"))
    return folder, ScoreTable(folder / "undisturbed").read(), time.monotonic() - start


def begin(task, out, *options):
    """Begin to score in another process."""
    command = [sys.executable, "-m", "aift_sklearn", "score", str(task / "pool.npy")]
    command += ["--model", str(task / "model.onnx"), "--out", str(out), "--shard-size", str(SHARD)]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process, patience=PATIENCE):
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


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_table(task, tmp_path, report):
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
    report(f"kill -9 of {N_KILLS} runs, {len(outs)} tables:", phases)


@pytest.fixture(scope="module")
def head():
    """A cluster whose first node has the driver, and two cores."""
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 2**28}
    )
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def cluster(head):
    """Two nodes of two cores, each with processes of its own; the second may get lost."""
    other = head.add_node(num_cpus=2, object_store_memory=2**28)
    head.wait_for_nodes(timeout=120)
    yield head, other
    if other in head.worker_nodes:
        head.remove_node(other)


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


def wait_for_shards(process, out):
    """Wait until a run has written some shards, and not all of them."""

    def some():
        assert process.poll() is None, process.communicate()[0]
        return len(list(out.glob("shard-*.parquet"))) >= 2

    wait_until(some, PATIENCE, pause=0.05)


def ray_options(nodes):
    return "--ray", nodes.address, "--actors", "3"


def on_ray(task, out, nodes):
    return begin(task, out, *ray_options(nodes))


@on_one_cluster
def test_a_worker_that_is_killed_is_replaced(task, cluster, tmp_path, report):
    (folder, expected, _), (nodes, _) = task, cluster
    process = on_ray(folder, tmp_path / "out", nodes)
    wait_for_shards(process, tmp_path / "out")
    phase = phase_of(tmp_path / "out")
    scoring = wait_until(
        lambda: workers("ScoreBatches") or workers("MapWorker"), PATIENCE, pause=0.05
    )
    os.kill(scoring[0], signal.SIGKILL)
    finish(process)
    assert ScoreTable(tmp_path / "out").read().equals(expected)
    report("kill -9 of a worker that scores:", [phase])


@on_one_cluster
def test_a_node_that_is_lost_is_done_without(task, cluster, tmp_path, report):
    (folder, expected, _), (nodes, other) = task, cluster
    process = on_ray(folder, tmp_path / "out", nodes)
    wait_for_shards(process, tmp_path / "out")
    phase = phase_of(tmp_path / "out")
    nodes.remove_node(other, allow_graceful=False)
    finish(process)
    assert ScoreTable(tmp_path / "out").read().equals(expected)
    report("a node of two removed:", [phase])


@on_one_cluster
def test_a_driver_that_is_killed_goes_on_on_ray_and_without(task, cluster, tmp_path, report):
    (folder, expected, _), (nodes, _) = task, cluster
    process = on_ray(folder, tmp_path / "out", nodes)
    wait_for_shards(process, tmp_path / "out")
    process.kill()
    process.communicate()
    phase = phase_of(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copy2)
    for out, options in ((tmp_path / "out", ray_options(nodes)), (tmp_path / "copy", ())):
        then = {path: path.stat().st_mtime_ns for path in out.glob("shard-*.parquet")}
        assert then
        finish(begin(folder, out, *options))
        assert ScoreTable(out).read().equals(expected)
        assert all(path.stat().st_mtime_ns == time for path, time in then.items())
    report("kill -9 of the driver:", [phase])


@on_one_cluster
def test_what_was_killed_on_one_machine_goes_on_on_ray(task, cluster, tmp_path):
    (folder, expected, _), (nodes, _) = task, cluster
    process = begin(folder, tmp_path / "out")
    wait_for_shards(process, tmp_path / "out")
    process.kill()
    process.communicate()
    finish(on_ray(folder, tmp_path / "out", nodes))
    assert ScoreTable(tmp_path / "out").read().equals(expected)
