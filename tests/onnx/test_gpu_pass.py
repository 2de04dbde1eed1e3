"""The pass on a GPU, with sessions that say that they run there and run on the CPU."""

import contextlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from samples import make_blobs
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier
from aift_sklearn.errors import BackendWarning, OutOfMemoryError, ParameterError

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

from aift_sklearn.onnx import NetworkGraph, open_session, passes
from aift_sklearn.onnx._tf32 import without_tf32
from aift_sklearn.onnx.engine import OnnxEngine
from aift_sklearn.onnx.gpu_pass import GpuPass
from aift_sklearn.onnx.host_pass import HostPass
from aift_sklearn.onnx.shelf import GraphShelf
from aift_sklearn.onnx.source import EstimatorSource
from aift_sklearn.scanning.model import PatchModel

X, Y = make_blobs(41, size=20)
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
M = 5


class Device:
    """Opens sessions for a GPU; notes what they are given, and refuses as it is told to."""

    def __init__(self, refuse=lambda options, shape: None):
        self.refuse, self.shapes, self.uploaded = refuse, [], []
        # Of all sessions, and of those that predict.
        self.options, self.predicting = [], []

    def __call__(self, model, *, providers, n_threads=None, cuda_options=None):
        device, options = self, dict(cuda_options or {})
        assert providers == [CUDA]
        session = open_session(model, providers=CPU, n_threads=n_threads)
        self.options.append(options)
        self.predicting += [options] if options else []

        class Session:
            def io_binding(self):
                binding = session.io_binding()
                bind = binding.bind_ortvalue_input

                def noted(name, value):
                    if name == "patches":
                        device.shapes.append(tuple(value.shape()))
                        reason = device.refuse(options, value.shape())
                        if reason:
                            raise RuntimeError(reason)
                    else:
                        device.uploaded.append((name, value.numpy().nbytes))
                    bind(name, value)

                binding.bind_ortvalue_input = noted
                return binding

            def run_with_iobinding(self, binding):
                session.run_with_iobinding(binding)

        return Session()


@pytest.fixture(scope="module")
def source():
    cnn = CNNClassifier(
        nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU6(), nn.Conv2d(8, 9, 3)),
        pretrained=False,
        max_epochs=3,
        lr=0.05,
    )
    views = AffinePatches(M, rotation=40, size=16)
    model = AIFTClassifier(cnn, patches=views, backend="torch", random_state=0)
    model.fit(X[:20], Y[:20])
    return EstimatorSource(PatchModel.from_classifier(model), GraphShelf())


@pytest.fixture
def graph(source):
    return source.take_network((3, 16, 16))[0]


@pytest.fixture
def geometry(source):
    image_shape, size, matrices = source.geometry(X.shape)
    return {"image_shape": image_shape, "size": size, "matrices": matrices}


@pytest.fixture
def expected(graph, geometry):
    return HostPass(graph, n_threads=1, **geometry)(X, ["logits", "embeddings"])


def gpu_pass(graph, geometry, opened=None, **options):
    options = {"is_half": False, "device": "cpu"} | options
    return GpuPass(graph, open_session=opened or Device(), **geometry, **options)


@pytest.mark.parametrize("batch_size", [None, 1, 3, 4, 12, 64])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_it_gives_what_the_host_gives(batch_size, dtype, graph, geometry, expected):
    pool = X if dtype == np.uint8 else X / np.float32(255)
    found = gpu_pass(graph, geometry, batch_size=batch_size)
    for views in (None, [2, 0], range(M), [4]):
        logits, embeddings = found(pool, ["logits", "embeddings"], views)
        places = slice(None) if views is None else list(views)
        assert_allclose(logits, expected[0][:, places], atol=1e-4)
        assert_allclose(embeddings, expected[1][:, places], atol=1e-4)


def test_every_batch_has_one_shape_and_candidates_go_up_as_bytes(graph, geometry):
    opened = Device()
    found = gpu_pass(graph, geometry, opened, batch_size=32)
    for views in (None, [0], [1, 2, 3]):
        found(X, ["logits"], views)
        found(X[:2], ["logits"], views)
    assert set(opened.shapes) == {(32, 3, 16, 16)}
    sent = sum(n for name, n in opened.uploaded if name == "candidates")
    assert sent == 3 * (X.nbytes + X[:2].nbytes)
    # One session predicts them all, and two cut: of those one fills up.
    assert len(opened.options) == 3
    assert len(opened.predicting) == 1


def test_patches_that_were_cut_already_go_up_as_bytes_too(source, graph, geometry):
    cut = np.random.default_rng(0).integers(0, 256, (7, M, 3, 16, 16), dtype=np.uint8)
    geometry = geometry | {"matrices": None, "image_shape": (3, 16, 16)}
    expected = HostPass(graph, n_threads=1, **geometry)(cut, ["logits"])[0]
    opened = Device()
    found = gpu_pass(graph, geometry, opened, batch_size=16)
    assert_allclose(found(cut, ["logits"])[0], expected, atol=1e-4)
    assert_allclose(found(cut, ["logits"], [3, 1])[0], expected[:, [3, 1]], atol=1e-4)
    assert set(opened.shapes) == {(16, 3, 16, 16)}
    assert opened.uploaded[0] == ("candidates", 3 * M * 3 * 16 * 16)


def test_where_views_lie_is_sent_once(graph, geometry):
    opened = Device()
    found = gpu_pass(graph, geometry, opened, batch_size=10)
    for _ in range(3):
        found(X, ["logits"])
        found(X, ["logits"], [1])
    assert found._grid.cache_info().misses == 2
    for first in range(40):
        found(X[:1], ["logits"], [first % M] * (first // M + 1))
    assert found._grid.cache_info().currsize == 16


def test_newer_weights_are_taken(source, graph, geometry, expected):
    opened = Device()
    found = gpu_pass(graph, geometry, opened)
    other = NetworkGraph(source.model.network_owner.module_, (3, 16, 16))
    doubled = type(graph)()
    doubled.CopyFrom(other.model)
    for one in doubled.graph.initializer:
        if one.name.endswith("head.weight"):
            one.raw_data = (2 * np.frombuffer(one.raw_data, np.float32)).tobytes()
    found(X, ["logits"])
    found.load(doubled)
    bias = source.model.network_owner.module_.head.bias.detach().numpy()
    logits = found(X, ["logits"])[0]
    assert_allclose(logits - bias, 2 * (expected[0] - bias), atol=1e-4)
    assert (len(opened.options), len(opened.predicting)) == (3, 2), "patches are cut as before"


def test_half_precision_is_near_and_asks_for_fast_kernels(graph, geometry, expected):
    opened = Device()
    found = gpu_pass(graph, geometry, opened, is_half=True)
    logits = found(X, ["logits"])[0]
    assert logits.dtype == np.float32
    assert_allclose(logits, expected[0], atol=0.05)
    assert not np.array_equal(logits, expected[0])
    assert opened.options[0]["prefer_nhwc"] == "1"


def test_single_precision_is_that_of_all_digits(graph, geometry):
    opened = Device()
    gpu_pass(graph, geometry, opened)(X, ["logits"])
    assert opened.options[0] == {"use_tf32": "0"}


@pytest.mark.parametrize("most", [1, 3, 8])
def test_batches_are_halved_until_they_fit_the_device(most, graph, geometry, expected):
    def refuse(options, shape):
        return "CUDA out of memory" if shape[0] > most else None

    found = gpu_pass(graph, geometry, Device(refuse), batch_size=64)
    assert_allclose(found(X, ["logits"])[0], expected[0], atol=1e-4)
    assert most / 2 < found.batch_size <= most


def test_a_patch_that_does_not_fit_is_told_of(graph, geometry):
    found = gpu_pass(graph, geometry, Device(lambda *_: "CUDA out of memory"))
    with pytest.raises(OutOfMemoryError, match="1 patches of 16 x 16 pixels do not fit"):
        found(X, ["logits"])


def test_what_the_fast_kernels_cannot_do_is_done_by_plain_ones(graph, geometry, expected):
    def refuse(options, shape):
        return "No valid engine configs" if options.get("fuse_conv_bias") else None

    opened = Device(refuse)
    found = gpu_pass(graph, geometry, opened, is_half=True, batch_size=16)
    with pytest.warns(BackendWarning, match="fastest kernels .No valid engine configs"):
        assert_allclose(found(X, ["logits"])[0], expected[0], atol=0.05)
    n_opened = len(opened.options)
    found(X, ["logits"])
    found.load(graph)
    assert "fuse_conv_bias" not in opened.options[-1], "not tried again"
    assert len(opened.options) == n_opened + 1


def test_options_that_a_session_refuses_are_left_away(graph, geometry, expected):
    class Picky(Device):
        def __call__(self, model, **options):
            if "prefer_nhwc" in (options.get("cuda_options") or {}):
                raise RuntimeError("unknown option")
            return super().__call__(model, **options)

    with pytest.warns(BackendWarning, match="unknown option"):
        found = gpu_pass(graph, geometry, Picky(), is_half=True)
    assert_allclose(found(X, ["logits"])[0], expected[0], atol=0.05)


def test_what_cannot_be_opened_at_all_is_raised(graph, geometry):
    def refuse(model, **options):
        raise RuntimeError("no such device")

    with pytest.raises(RuntimeError, match="no such device"):
        gpu_pass(graph, geometry, refuse)
    with (
        pytest.warns(BackendWarning, match="fastest kernels"),
        pytest.raises(RuntimeError, match="no such device"),
    ):
        gpu_pass(graph, geometry, refuse, is_half=True)


@pytest.mark.parametrize(
    ("n", "views", "sizes"),
    [
        # Of 64 patches 48 are saved by batches of 16: 134 times that are 100 full ones.
        (3, None, {64: 133, 16: 567}),
        (1, [4], {64: 133, 16: 533, 4: 34}),
        (9, None, {64: 700}),
    ],
)
def test_smaller_batches_are_planned_once_much_was_filled_up(
    n, views, sizes, graph, geometry, expected
):
    found = gpu_pass(graph, geometry, Device(), batch_size=64)
    shapes = []

    def predict(session, patches, outputs):
        # What fills up is cheap enough for a test, and the network is not.
        shapes.append(patches.shape()[0])
        return [np.zeros((shapes[-1], 9))]

    found._predict = predict
    for _ in range(700):
        found(X[:n], ["logits"], views)
    assert Counter(shapes) == sizes
    del found._predict
    places = slice(None) if views is None else views
    assert_allclose(found(X[:n], ["logits"], views)[0], expected[0][:n, places], atol=1e-4)


def test_other_errors_are_raised(graph, geometry):
    with pytest.raises(RuntimeError, match="the device is gone"):
        gpu_pass(graph, geometry, Device(lambda *_: "the device is gone"))(X, ["logits"])


def test_a_session_that_cannot_be_opened_anew_is_tried_again(graph, geometry, expected):
    left = [1]

    class Full(Device):
        def __call__(self, model, **options):
            if len(self.predicting) == 1 and options["cuda_options"] and left:
                left.pop()
                raise RuntimeError("CUDA out of memory")
            return super().__call__(model, **options)

    def refuse(options, shape):
        return "CUDA out of memory" if shape[0] > 8 else None

    found = gpu_pass(graph, geometry, Full(refuse), batch_size=16)
    with pytest.raises(RuntimeError, match="out of memory"):
        found(X, ["logits"])
    assert_allclose(found(X, ["logits"])[0], expected[0], atol=1e-4)


@pytest.mark.parametrize("reason", ["CUDA out of memory", "No valid engine configs"])
def test_several_workers_adapt_together(reason, graph, geometry, expected):
    def refuse(options, shape):
        ok = shape[0] <= 8 if "memory" in reason else not options.get("fuse_conv_bias")
        return None if ok else reason

    found = gpu_pass(graph, geometry, Device(refuse), is_half=True, batch_size=16)
    warns = contextlib.nullcontext() if "memory" in reason else pytest.warns(BackendWarning)
    barrier = threading.Barrier(4)

    def work(k):
        barrier.wait()
        return found(X[k::4], ["logits"])[0]

    with warns, ThreadPoolExecutor(4) as workers:
        for k, logits in enumerate(workers.map(work, range(4))):
            assert_allclose(logits, expected[0][k::4], atol=0.05)
    assert found.batch_size == (8 if "memory" in reason else 16)


# --- which of the two it is -----------------------------------------------------------------------


def loads_cuda(model, *, providers, **options):
    return SimpleNamespace(get_providers=lambda: providers)


@pytest.mark.parametrize(
    ("precision", "is_half"), [("auto", True), ("float16", True), ("float32", False)]
)
def test_a_gpu_that_loads_is_used(precision, is_half, graph, geometry, monkeypatch):
    monkeypatch.setattr(passes, "choose_providers", lambda wanted: [CUDA, CPU])
    found = passes.open_pass(graph, precision=precision, open_session=loads_cuda, **geometry)
    assert isinstance(found, GpuPass)
    assert (found.is_half, found.where, found.provider) == (is_half, "CUDA", CUDA)


def test_a_gpu_that_does_not_load_leaves_the_work_to_the_cpu(
    graph, geometry, expected, monkeypatch
):
    monkeypatch.setattr(passes, "choose_providers", lambda wanted: [CUDA, CPU])
    asked = []

    def open_(model, *, providers, **options):
        asked.append(list(providers))
        return open_session(model, providers=CPU, **options)

    found = passes.open_pass(graph, open_session=open_, **geometry)
    assert isinstance(found, HostPass)
    assert not found.is_half
    assert asked == [[CUDA, CPU], [CPU]], "asked, and warned of, once"
    assert_allclose(found(X, ["logits"])[0], expected[0], atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"precision": "double"}, {"batch_size": 0}, {"n_threads": 0}, {"providers": "TPU"}]
)
def test_options_that_do_not_exist_are_refused(wrong, graph, geometry):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        passes.open_pass(graph, **geometry, **wrong)


# --- what it is compared with ---------------------------------------------------------------------


class OneByOne(SimpleNamespace):
    """Settings that the user has made for each operator."""

    @property
    def allow_tf32(self):
        raise RuntimeError("You have used a mix of the legacy and new APIs to set the TF32 flags.")


def settings_of_torch(one_by_one):
    if not one_by_one:
        parts = [SimpleNamespace(allow_tf32=allowed) for allowed in (True, False)]
        return SimpleNamespace(cudnn=parts[0], cuda=SimpleNamespace(matmul=parts[1])), parts
    parts = [OneByOne(fp32_precision=precision) for precision in ("tf32", "none", "none")]
    cudnn = OneByOne(conv=parts[0], rnn=parts[1])
    return SimpleNamespace(cudnn=cudnn, cuda=SimpleNamespace(matmul=parts[2])), parts


@pytest.mark.parametrize("one_by_one", [False, True])
def test_torch_computes_without_tf32_while_it_is_compared(one_by_one):
    backends, parts = settings_of_torch(one_by_one)
    name, exact = ("fp32_precision", "ieee") if one_by_one else ("allow_tf32", False)

    def told():
        return [getattr(part, name) for part in parts]

    before = told()

    def fail():
        with without_tf32(backends):
            assert told() == [exact] * len(parts)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert told() == before


def test_the_estimator_is_asked_without_tf32(source, monkeypatch):
    import torch

    convolution = torch.backends.cudnn
    allowed, seen = convolution.allow_tf32, []
    predict = source.model.network_owner.predict_proba

    def noting(patches):
        seen.append(convolution.allow_tf32)
        return predict(patches)

    monkeypatch.setattr(source.model.network_owner, "predict_proba", noting)
    OnnxEngine(source).begin(X)
    assert set(seen) == {False}
    assert convolution.allow_tf32 == allowed
