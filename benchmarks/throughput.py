"""How many patches a second: the pool pass against its peers, and against its own limits."""

import contextlib
import copy
import functools
import itertools
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from skorch import NeuralNetClassifier
from torch.utils.flop_counter import FlopCounterMode

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    CNNClassifier,
    CNNFeatures,
    patch_consistency,
)
from aift_sklearn.onnx import NetworkGraph, OnnxScorer, count_threads, open_session
from aift_sklearn.onnx.engine import OnnxEngine
from aift_sklearn.onnx.shelf import GraphShelf
from aift_sklearn.onnx.source import EstimatorSource
from aift_sklearn.prediction import Seam
from aift_sklearn.scanning.model import PatchModel

CLASSES = ["a", "b", "c", "d"]
BATCHES = (2, 4, 8, 16, 32, 64, 128)
PATCHES = 16
OURS = "aift-sklearn, bytes to scores"


def candidates(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, size, size), dtype=np.uint8)


def fine_tuned(size, patches=PATCHES):
    """Return EfficientNet-Lite0 with a head of four classes; its speed does not depend on them."""
    views = AffinePatches.for_microscopy(n_patches=patches)
    cnn = CNNClassifier(trainable="head", max_epochs=1)
    model = AIFTClassifier(cnn, patches=views, classes=CLASSES, backend="torch", random_state=0)
    return model.partial_fit(candidates(8, size), CLASSES * 2)


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def rate(function, n, budget=0.5):
    """Patches a second of a function that does n of them, over half a second or more."""
    function()
    times = []
    while sum(times) < budget or len(times) < 2:
        times.append(seconds(function))
    return n / min(times)


def in_batches(predict, patches, batch):
    def run():
        for start in range(0, len(patches), batch):
            predict(patches[start : start + batch])

    return run


@functools.cache
def exported(network, shape):
    return NetworkGraph(network, shape).to_bytes()


def skorch_net(network):
    net = NeuralNetClassifier(network, train_split=None, iterator_valid__num_workers=0)
    return net.initialize()


def eager(network, patches, batch):
    """What users of skorch write: predict_proba on materialised patches."""
    # CNNClassifier keeps its weights channels-last; users' own networks are contiguous.
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    net = skorch_net(network).set_params(batch_size=batch)
    return lambda: net.predict_proba(patches)


def channels_last(network, patches, batch):
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    tensors = torch.from_numpy(patches).contiguous(memory_format=torch.channels_last)
    net = skorch_net(network).set_params(batch_size=batch)
    return lambda: net.predict_proba(tensors)


def compiled(network, patches, batch):
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    fast = torch.compile(network, dynamic=False)
    tensors = torch.from_numpy(patches).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run():
        for start in range(0, len(tensors), batch):
            fast(tensors[start : start + batch]).softmax(1).numpy()

    return run


def openvino(network, patches, batch):
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(exported(network, patches.shape[1:]))
        model = ov.convert_model(path)
        fast = ov.Core().compile_model(
            model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        )
    queue = ov.AsyncInferQueue(fast)

    def run():
        for start in range(0, len(patches), batch):
            queue.start_async([patches[start : start + batch]])
        queue.wait_all()

    return run


def bare(network, patches, batch):
    """Run the bare network in ONNX Runtime as it comes: its own threads over a batch."""
    session = onnxruntime.InferenceSession(exported(network, patches.shape[1:]))
    return in_batches(lambda part: session.run(["logits"], {"patches": part}), patches, batch)


def bare_parallel(network, patches, batch):
    """Run the bare network in ONNX Runtime: a batch on each core."""
    session = open_session(exported(network, patches.shape[1:]), n_threads=1)

    def run():
        starts, lock = iter(range(0, len(patches), batch)), threading.Lock()

        def work():
            while True:
                with lock:
                    start = next(starts, None)
                if start is None:
                    return
                session.run(["logits"], {"patches": patches[start : start + batch]})

        workers = [threading.Thread(target=work) for _ in range(count_threads())]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return run


PEERS = {
    "torch, eager (skorch)": eager,
    "torch, channels-last (skorch)": channels_last,
    "torch.compile, channels-last": compiled,
    "OpenVINO, bare network": openvino,
    "ONNX Runtime, bare network, threads in it": bare,
    "ONNX Runtime, bare network, a batch per core": bare_parallel,
}


def sweep(size, n_patches, n_peers):
    """Best batch size and patches a second of each peer, and of the whole pass."""
    model = fine_tuned(size)
    n = n_patches // PATCHES
    pool = candidates(n, size)
    many = model.patches_.transform(pool[: 4 * n_peers // PATCHES]).reshape(-1, 3, size, size)
    network = model.estimator_.module_
    runs, batches, counts, failed = {}, {}, {OURS: n * PATCHES}, {}
    for name, build in PEERS.items():
        found = {}
        # Enough that workers do not wait for the last batch, of those that are fast.
        patches = many if build in (openvino, bare, bare_parallel) else many[:n_peers]
        counts[name] = len(patches)
        for batch in BATCHES if build is not compiled else (8, 32):
            if batch * size**2 > 2**20:
                continue
            try:
                with warnings.catch_warnings(), contextlib.redirect_stderr(None):
                    warnings.simplefilter("ignore")
                    run = build(network, patches, batch)
                    found[batch] = rate(run, len(patches)), run
            except Exception as error:  # a peer that is not there, or not for this machine
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
                break
        if found:
            batches[name] = max(found, key=lambda batch: found[batch][0])
            runs[name] = found[batches[name]][1]
            print(size, name, {b: round(r) for b, (r, _) in found.items()}, flush=True)
    scorer = OnnxScorer(model).prepare(pool.shape)
    runs[OURS], batches[OURS] = lambda: scorer.score(pool), scorer.batch_size
    # All in turn, so that a machine that is busy for a while is so for all.
    best = dict.fromkeys(runs, 0.0)
    for _, (name, run) in itertools.product(range(5), runs.items()):
        best[name] = max(best[name], counts[name] / seconds(run))
    for name, value in best.items():
        print(size, name, round(value), flush=True)
    return {
        "size": size,
        "n": n,
        "rows": [
            {"name": name, "batch": batches[name], "rate": value} for name, value in best.items()
        ],
        "failed": failed,
        "gflop_per_patch": gflop(network, size),
    }


def gflop(network, size):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, size, size))
    return counter.get_total_flops() / 1e9


def matmul_gflops(n=2048):
    """GFLOP/s of a large float32 matrix product on all cores, by whoever is fastest: the roof."""
    A = np.random.default_rng(0).random((n, n), dtype=np.float32)
    tensor = torch.from_numpy(A)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [n, n]) for name in "ab"]
    node = helper.make_node("MatMul", ["a", "a"], ["b"])
    graph = helper.make_graph([node], "product", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = open_session(model.SerializeToString())
    products = (lambda: A @ A, lambda: tensor @ tensor, lambda: session.run(None, {"a": A}))
    return max(2 * n**3 / seconds(run) / 1e9 for run in products for _ in range(10))


def stages(size):
    """Seconds per thousand patches of each part of the pass, on one core."""
    model = fine_tuned(size)
    pool = candidates(24, size)
    scorer = OnnxScorer(model, n_threads=1).prepare(pool.shape)
    k = len(pool) * PATCHES / 1000
    P = model.predict_patch_proba(pool)
    return {
        "size": size,
        "cutting": min(seconds(lambda: model.patches_.transform(pool)) for _ in range(5)) / k,
        "scores": min(seconds(lambda: patch_consistency(P)) for _ in range(5)) / k,
        "whole pass": min(seconds(lambda: scorer.score(pool)) for _ in range(3)) / k,
    }


def scaling():
    """Rates over n, over m, and over cores."""
    tiny = fine_tuned(28, patches=4)
    scorer = OnnxScorer(tiny).prepare((1, 3, 28, 28))
    by_n = []
    for n in (100, 1000, 10_000, 100_000):
        pool = np.broadcast_to(candidates(100, 28)[None], (n // 100, 100, 3, 28, 28))
        pool = pool.reshape(n, 3, 28, 28)
        by_n.append({"n": n, "rate": n * 4 / seconds(lambda p=pool: scorer.score(p))})
        print(by_n[-1], flush=True)
    by_m, pool = [], candidates(300, 64)
    for m in (2, 4, 8, 16, 32):
        scorer = OnnxScorer(fine_tuned(64, patches=m)).prepare(pool.shape)
        scorer.score(pool[:16])
        by_m.append({"m": m, "rate": len(pool) * m / seconds(lambda s=scorer: s.score(pool))})
    by_cores, model = [], fine_tuned(64)
    for cores in range(1, count_threads() + 1):
        scorer = OnnxScorer(model, n_threads=cores).prepare(pool.shape)
        rates = [300 * 16 / seconds(lambda s=scorer: s.score(pool)) for _ in range(3)]
        by_cores.append({"cores": cores, "rate": max(rates)})
    return {"n": by_n, "m": by_m, "cores": by_cores}


def refresh():
    """Seconds of an export, of what follows each round, and of its parts (Lite0, 64 px)."""
    model = fine_tuned(64)
    network = model.estimator_.module_
    start = time.perf_counter()
    graph = NetworkGraph(network, (3, 64, 64))
    export = time.perf_counter() - start
    pool = candidates(2, 64)
    engine = OnnxEngine(EstimatorSource(PatchModel.from_classifier(model), GraphShelf()))
    engine.begin(pool)
    weight = network.head.weight.data

    def after_a_round():
        weight.mul_(1.001)
        engine.begin(pool)

    return {
        "export": export,
        "refresh": sorted(seconds(lambda: graph.refresh(network)) for _ in range(7))[3],
        "session": sorted(seconds(lambda: open_session(graph.to_bytes())) for _ in range(5))[2],
        "round": sorted(seconds(after_a_round) for _ in range(7))[3],
        "check": sorted(seconds(lambda: engine.begin(pool)) for _ in range(7))[3],
    }


def embedding(n=10_000, size=64):
    """Images embedded a second: the engine, and torch at its best batch, in turn."""
    features = CNNFeatures().fit(candidates(1, size))
    network, pool = features.module_, candidates(n, size)
    images = candidates(512, size).astype(np.float32) / 255
    found = {}
    for batch in BATCHES:
        for name, form in (
            ("channels-last", torch.channels_last),
            ("contiguous", torch.contiguous_format),
        ):
            tensors = torch.from_numpy(images).contiguous(memory_format=form)
            twin = copy.deepcopy(network).to(memory_format=form)
            run = in_batches(torch.inference_mode()(twin), tensors, batch)
            found[name, batch] = rate(run, len(images)), run
    best = max(found, key=lambda key: found[key][0])
    model = PatchModel(features, AffinePatches(1).fit(pool[:1]), np.empty(0), 4, 3)
    seam = Seam()
    seam.run(model, pool[:64], lambda whole: whole.embed(pool[:64]), backend="onnx", verbose=0)
    rates = {"engine": 0.0, "torch": 0.0}
    for _ in range(2):
        took = seconds(
            lambda: seam.run(model, pool, lambda w: w.embed(pool), backend="onnx", verbose=0)
        )
        rates["engine"] = max(rates["engine"], n / took)
        rates["torch"] = max(
            rates["torch"], len(images) / min(seconds(found[best][1]) for _ in range(5))
        )
    return {"n": n, "size": size, "torch_at": f"{best[0]}, batch {best[1]}", **rates}
