"""Pools through ONNX Runtime: the numbers of torch, streamed, resumed, and never lost."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from aift_sklearn import (
    AffinePatches,
    AIFTClassifier,
    AIFTLearner,
    CNNClassifier,
    CNNFeatures,
    JitterPatches,
)
from aift_sklearn.errors import (
    DataError,
    DataTypeError,
    ExportError,
    OutOfMemoryError,
    ParameterError,
)

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

from aift_sklearn.onnx import OnnxScorer, engine, host_pass, open_session, passes, scorer, shelf
from aift_sklearn.onnx.host_pass import HostPass
from aift_sklearn.onnx.shelf import GraphShelf
from aift_sklearn.scanning import pool_pass

X, Y = make_blobs(61, size=20)


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 9, 3)
    )


def cnn(**params):
    return CNNClassifier(network, **{"pretrained": False, "max_epochs": 2, "lr": 0.02} | params)


def classifier(estimator=None, patches=None, **params):
    patches = AffinePatches(4, rotation=90, flip=True) if patches is None else patches
    return AIFTClassifier(
        cnn() if estimator is None else estimator,
        patches=None if patches == "cut" else patches,
        backend="torch",
        random_state=0,
        **params,
    )


@pytest.fixture(scope="module")
def fitted():
    return classifier(classes=["disc", "empty", "other"]).fit(X[:30], Y[:30])


@pytest.fixture(scope="module")
def scorer_for():
    """Makes scorers as OnnxScorer does, but of all of one model the first alone exports it."""
    shelf = GraphShelf()

    def make(model, **options):
        found = OnnxScorer(model, **options)
        found._shelf = found._source._shelf = shelf
        return found

    return make


@pytest.fixture
def scorer_of_it(fitted, scorer_for):
    return scorer_for(fitted)


def assert_same_scores(found, expected):
    """As the design asks: 1e-4 relative on 99.5 % of the candidates."""
    assert np.isclose(found, expected, rtol=1e-4, atol=1e-9).mean() >= 0.995


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_scores_are_those_of_torch(dtype, fitted, scorer_of_it):
    pool = X if dtype == np.uint8 else (X / 255).astype(dtype)
    scores, proba = scorer_of_it.score(pool)
    assert_same_scores(scores, fitted.score_candidates(pool))
    assert_allclose(proba, fitted.predict_proba(pool), atol=1e-6)
    assert_allclose(scorer_of_it.patch_proba(pool), fitted.predict_patch_proba(pool), atol=1e-6)
    assert_allclose(scorer_of_it.embed(pool), fitted.embed(pool), rtol=1e-4, atol=1e-5)
    assert scores.dtype == np.float64
    assert proba.dtype == np.float32
    assert scorer_of_it.provider == "CPUExecutionProvider"


MODELS = {
    "shrunk patches": lambda: classifier(patches=AffinePatches(3, size=11)).fit(X[:20], Y[:20]),
    "patches cut already": lambda: classifier(patches="cut").fit(cut(X[:20]), Y[:20]),
    "temperature": lambda: classifier(cnn(calibration="temperature")).fit(X[:40], Y[:40]),
    "features and a head": lambda: classifier(
        make_pipeline(
            CNNFeatures(network, pretrained=False), StandardScaler(), LogisticRegression()
        )
    ).fit(X[:20], Y[:20]),
    "a head that saw two of three classes": lambda: classifier(
        make_pipeline(CNNFeatures(network, pretrained=False), LogisticRegression()),
        classes=["another", "disc", "empty"],
    ).fit(X[:20], Y[:20]),
}


def cut(images):
    return AffinePatches(3, rotation=30).fit_transform(images)


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_is_scored_as_it_scores_itself(name):
    model = MODELS[name]()
    pool = cut(X) if name == "patches cut already" else X
    found = OnnxScorer(model, alpha=0.6, reduction="mean")
    scores, proba = found.score(pool)
    assert_same_scores(scores, model.score_candidates(pool, alpha=0.6, reduction="mean"))
    assert_allclose(proba, model.predict_proba(pool), atol=1e-6)
    assert proba.shape == (61, len(model.classes_))


@settings(max_examples=15)
@given(
    n=st.integers(1, 61),
    batch_size=st.integers(1, 9),
    n_threads=st.integers(1, 3),
    alpha=st.floats(0.1, 1),
)
def test_neither_batches_nor_threads_matter(fitted, scorer_for, n, batch_size, n_threads, alpha):
    found = scorer_for(fitted, batch_size=batch_size, n_threads=n_threads, alpha=alpha)
    scores, proba = found.score(X[:n])
    assert_same_scores(scores, fitted.score_candidates(X[:n], alpha=alpha))
    assert_allclose(proba, fitted.predict_proba(X[:n]), atol=1e-6)


ROOT = Path(__file__).parents[2]


def test_half_precision_keeps_the_best(fitted, scorer_for):
    pool = np.concatenate([X, 255 - X, np.roll(X, 3, axis=3)])
    single = scorer_for(fitted).score(pool)[0]
    half = scorer_for(fitted, precision="float16").score(pool)[0]
    assert not np.array_equal(single, half)
    b = 50
    best = [set(np.argsort(-scores, kind="stable")[:b]) for scores in (single, half)]
    assert len(best[0] & best[1]) / b >= 0.98


def test_candidates_too_large_to_keep_weights_for_are_cut_in_the_graph(
    fitted, scorer_for, monkeypatch
):
    expected = scorer_for(fitted).score(X)
    monkeypatch.setattr(host_pass, "resampling", lambda *args: None)
    for pool in (X, (X / 255).astype(np.float32)):
        found = scorer_for(fitted, batch_size=9).score(pool)
        assert_same_scores(found[0], expected[0])
    indices, scores = scorer_for(fitted).top(X, 5)
    assert_same_scores(scores, expected[0][indices])


# --- the newest weights ---------------------------------------------------------------------------


@pytest.fixture
def exports(monkeypatch):
    """Networks that were exported."""
    seen = []
    real = shelf._export
    monkeypatch.setattr(
        shelf, "_export", lambda network, shape: seen.append(network) or real(network, shape)
    )
    return seen


def test_new_weights_are_taken_without_an_export(exports):
    model = classifier(classes=["disc", "empty"]).partial_fit(X[:20], Y[:20])
    found = OnnxScorer(model)
    stale = found.score(X)[0]
    for start in (20, 30):
        model.partial_fit(X[start : start + 10], Y[start : start + 10])
        scores = found.score(X)[0]
        assert not np.allclose(scores, stale)
        assert_same_scores(scores, model.score_candidates(X))
        stale = scores
    with torch.no_grad():
        model.estimator_.module_.head.weight *= 2
    assert_same_scores(found.score(X)[0], model.score_candidates(X))
    assert len(exports) == 1


def test_shapes_that_take_turns_are_exported_once_each(fitted, exports):
    found, half = OnnxScorer(fitted), X[:, :, :10]
    for pool in (X, half, X, half):
        assert_same_scores(found.score(pool)[0], fitted.score_candidates(pool))
    assert len(exports) == 2


def test_another_architecture_is_exported_anew():
    model = classifier().fit(X[:20], Y[:20])
    found = OnnxScorer(model)
    found.score(X)
    three = np.array(["a", "b", "c"])[np.arange(20) % 3]
    model.fit(X[:20], three)
    scores, proba = found.refresh().score(X)
    assert proba.shape == (61, 3)
    assert_same_scores(scores, model.score_candidates(X))


def test_candidates_of_another_shape_come_along(fitted, scorer_of_it):
    wide = np.concatenate([X, X], axis=3)
    assert_same_scores(scorer_of_it.score(wide)[0], fitted.score_candidates(wide))
    assert_same_scores(scorer_of_it.score(X)[0], fitted.score_candidates(X))


def test_a_learner_is_unwrapped(fitted, scorer_for):
    learner = AIFTLearner(fitted)
    assert_array_equal(scorer_for(learner).score(X)[0], scorer_for(fitted).score(X)[0])


# --- streaming ------------------------------------------------------------------------------------


class OnlySlices:
    """A source that knows its shape and gives slices, to one thread."""

    def __init__(self, X, stop_after=10**9):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype
        self.reads, self.thread, self.stop_after = [], threading.get_ident(), stop_after

    def __getitem__(self, item):
        assert isinstance(item, slice)
        assert threading.get_ident() == self.thread
        if len(self.reads) >= self.stop_after:
            raise KeyboardInterrupt
        self.reads.append((item.start, item.stop))
        return self.X[item]


@pytest.fixture
def small_parts(monkeypatch):
    """Eight candidates to a part, twenty to a shard."""
    monkeypatch.setattr(engine, "_PART_PIXELS", 8 * 4 * 400)
    monkeypatch.setattr(scorer, "_SHARD_PATCHES", 20 * 4)


def test_anything_that_slices_is_read_once_and_in_order(small_parts, scorer_of_it):
    pool = OnlySlices(X)
    scores, _ = scorer_of_it.score(pool)
    # The first two are compared with the estimator's own.
    assert pool.reads == [(0, 2), *((k, min(k + 8, 61)) for k in range(0, 61, 8))]
    assert_array_equal(scores, scorer_of_it.score(X)[0])


def test_reading_is_few_parts_ahead(small_parts, fitted, scorer_for, monkeypatch):
    found = scorer_for(fitted, n_threads=2)
    most, running = [0], [0]
    pool = OnlySlices(X)
    call = HostPass.__call__

    def counting(self, *args):
        running[0] += 1
        # The comparison reads once, and runs four times.
        most[0] = max(most[0], len(pool.reads) - 1 - (running[0] - 4))
        return call(self, *args)

    monkeypatch.setattr(HostPass, "__call__", counting)
    found.score(pool)
    assert most[0] <= 5


@pytest.mark.parametrize("given", [X[:43], X[:, :, :10], X[:0]])
def test_a_pool_that_gives_less_than_it_says_is_refused(given, small_parts, scorer_of_it):
    pool = OnlySlices(given)
    pool.shape = X.shape
    with pytest.raises(DataError, match=r"has shape .*; expected \(\d, 3, 20, 20\), as the pool's"):
        scorer_of_it.score(pool)


def test_an_error_in_a_worker_reaches_the_caller(small_parts, scorer_of_it):
    broken = (X / 255).astype(np.float32)
    broken[40, 1, 2, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        scorer_of_it.score(broken)


def test_progress_is_shown_where_asked(fitted, scorer_for, capsys, monkeypatch):
    advanced = []
    monkeypatch.setattr(
        pool_pass.ProgressBar,
        "advance",
        lambda self, k=1: advanced.append((self.enabled, self.description, k)),
    )
    scorer_for(fitted, verbose=1).score(X)
    assert sum(k for *_, k in advanced) == 61
    assert all(what[:2] == (True, "scoring on CPU") for what in advanced)


def test_a_run_that_was_interrupted_goes_on(small_parts, scorer_of_it, tmp_path):
    expected = scorer_of_it.score(X)
    with pytest.raises(KeyboardInterrupt):
        scorer_of_it.score(OnlySlices(X, stop_after=12), tmp_path)
    kept = {int(path.stem[-6:]) for path in tmp_path.glob("shard-*")}
    assert {0, 1} <= kept < {0, 1, 2, 3}
    pool = OnlySlices(X)
    found = scorer_of_it.score(pool, tmp_path)
    # Three reads tell which pool it is, one is compared.
    assert {start // 20 for start, _ in pool.reads[4:]} == {0, 1, 2, 3} - kept
    assert_array_equal(found[0], expected[0])
    assert_array_equal(found[1], expected[1])
    again = OnlySlices(X)
    assert_array_equal(scorer_of_it.score(again, tmp_path)[0], expected[0])
    assert len(again.reads) == 4


def test_a_run_that_was_killed_goes_on(small_parts, fitted, scorer_of_it, tmp_path):
    path = fitted.save(tmp_path / "model")
    np.save(tmp_path / "pool.npy", X)
    code = (
        "import sys, time; import numpy as np\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from tests.onnx.test_scorer import OnnxScorer, OnlySlices, engine, scorer, network\n"
        "from aift_sklearn import load, CNNClassifier, AIFTClassifier\n"
        "engine._PART_PIXELS, scorer._SHARD_PATCHES = 8 * 4 * 400, 20 * 4\n"
        "class Slow(OnlySlices):\n"
        "    def __getitem__(self, item):\n"
        "        time.sleep(0.05 if len(self.reads) < 9 else 60)\n"
        "        return super().__getitem__(item)\n"
        f"model = load({str(path)!r}, estimator=AIFTClassifier(CNNClassifier(network)))\n"
        f"pool = Slow(np.load({str(tmp_path / 'pool.npy')!r}))\n"
        f"OnnxScorer(model).score(pool, {str(tmp_path / 'scores')!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    shard = tmp_path / "scores" / "shard-000000.npz"
    deadline = time.monotonic() + 120
    while not shard.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = shard.stat().st_mtime_ns
    pool = OnlySlices(X)
    found = scorer_of_it.score(pool, tmp_path / "scores")[0]
    assert (0, 8) not in pool.reads
    assert shard.stat().st_mtime_ns == written
    assert_same_scores(found, fitted.score_candidates(X))


@pytest.mark.parametrize("damage", ["truncated", "emptied", "changed", "foreign", "gone"])
def test_a_damaged_shard_is_computed_again(damage, small_parts, scorer_of_it, tmp_path):
    expected = scorer_of_it.score(X, tmp_path)[0]
    path = tmp_path / "shard-000001.npz"
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "foreign":
        np.savez(path, other=np.zeros(3))
    elif damage == "changed":
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays["score"][0] += 1
        np.savez(path, **arrays)
    else:
        path.unlink()
    pool = OnlySlices(X)
    assert_array_equal(scorer_of_it.score(pool, tmp_path)[0], expected)
    assert pool.reads[4:] == [(20, 28), (28, 36), (36, 40)]


def test_scores_of_something_else_are_never_mixed(
    small_parts, fitted, scorer_for, scorer_of_it, tmp_path
):
    scorer_of_it.score(X, tmp_path)
    other = X.copy()
    other[-1] ^= 1
    for found, pool, word in (
        (scorer_of_it, other, "pool"),
        (scorer_of_it, X[:50], "pool"),
        (scorer_for(fitted, alpha=0.5), X, "consistency"),
        (OnnxScorer(classifier().fit(X[:30], Y[:30])), X, "model"),
    ):
        with pytest.raises(DataError, match=f"scores of something else: .*{word}.* differs"):
            found.score(pool, tmp_path)
    (tmp_path / "scoring.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        scorer_of_it.score(X, tmp_path)
    (tmp_path / "scoring.json").write_text("[]")
    with pytest.raises(DataError, match="not of this package"):
        scorer_of_it.score(X, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        scorer_of_it.score(X, tmp_path / "file")


def test_a_race_that_was_interrupted_goes_on(small_parts, scorer_of_it, tmp_path):
    expected = scorer_of_it.top(X, 3)
    with pytest.raises(KeyboardInterrupt):
        scorer_of_it.top(OnlySlices(X, stop_after=6), 3, tmp_path)
    first = OnlySlices(X)
    found = scorer_of_it.top(first, 3, tmp_path)
    again = OnlySlices(X)
    scorer_of_it.top(again, 3, tmp_path)
    fresh = OnlySlices(X)
    scorer_of_it.top(fresh, 3)
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)
    assert len(again.reads) <= len(first.reads) <= len(fresh.reads) + 3
    assert len(again.reads) == 4, "three reads tell which pool it is, one is compared"


CHANGES = {
    "patches": [
        lambda model: model.patches_.set_params(size=12),
        lambda model: model.patches_.views_.__setitem__((2, 1), 1.4),
    ],
    "model": [
        lambda model: model.estimator_.module_.backbone.body.__setitem__(2, nn.ReLU()),
        lambda model: model.estimator_.module_.head.bias.data.add_(1),
        lambda model: setattr(model.estimator_, "temperature_", 3.0),
    ],
}


@pytest.mark.parametrize("word", CHANGES)
def test_scores_in_a_folder_are_of_all_that_they_depend_on(
    word, fitted, scorer_of_it, small_parts, tmp_path
):
    scorer_of_it.score(X, tmp_path)
    for change in CHANGES[word]:
        model = copy.deepcopy(fitted)
        change(model)
        with pytest.raises(DataError, match=f"scores of something else: .*{word}.* differs"):
            OnnxScorer(model).score(X, tmp_path)


def test_scores_in_a_folder_are_of_their_precision_and_of_an_equal_model(
    fitted, scorer_for, scorer_of_it, small_parts, tmp_path
):
    expected = scorer_of_it.score(X, tmp_path)[0]
    with pytest.raises(DataError, match="precision differs"):
        scorer_for(fitted, precision="float16").score(X, tmp_path)
    pool = OnlySlices(X)
    assert_array_equal(OnnxScorer(copy.deepcopy(fitted)).score(pool, tmp_path)[0], expected)
    assert len(pool.reads) == 4, "nothing was scored again"


@pytest.mark.parametrize(
    "consistency",
    [{"alpha": 0.25}, {"alpha": np.float64(0.25), "eps": 2.0**-52}, {"entropy_weight": 1}],
)
def test_equal_settings_may_be_written_differently(
    consistency, fitted, scorer_for, scorer_of_it, small_parts, tmp_path
):
    scorer_of_it.score(X, tmp_path)
    pool = OnlySlices(X)
    scorer_for(fitted, **consistency).score(pool, tmp_path)
    assert len(pool.reads) == 4, "nothing was scored again"


def test_a_folder_keeps_the_size_of_its_shards(small_parts, scorer_of_it, tmp_path, monkeypatch):
    expected = scorer_of_it.score(X, tmp_path)[0]
    monkeypatch.setattr(scorer, "_SHARD_PATCHES", 33 * 4)
    (tmp_path / "shard-000002.npz").unlink()
    assert_array_equal(scorer_of_it.score(X, tmp_path)[0], expected)
    assert len(list(tmp_path.glob("shard-*"))) == 4


def test_memory_stays_flat_over_a_pool_larger_than_it(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("anonymous memory is read from /proc")
    tiny = AffinePatches(2, size=8)
    model = classifier(CNNClassifier(nn.Conv2d(1, 2, 3), pretrained=False, max_epochs=1), tiny)
    model.fit(X[:20, :1, :16, :16], Y[:20])
    # Sparse: 8 GB that take no space on the disk.
    pool = np.memmap(tmp_path / "pool", np.uint8, "w+", shape=(2**25, 1, 16, 16))
    found = OnnxScorer(model)
    found.score(pool[:2000])
    before = anonymous_memory()
    grown = []
    for part in range(3):
        found.score(pool[part * 8000 : (part + 1) * 8000])
        grown.append(anonymous_memory() - before)
    assert max(grown) < 100 * 2**20, grown


def anonymous_memory():
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


# --- memory that runs out -------------------------------------------------------------------------


def sessions_that_fit(most, error=MemoryError):
    """Sessions that run out of memory above so many patches."""

    def open_(model, **options):
        session = open_session(model, **options)

        class Small:
            def run(self, outputs, inputs):
                if len(next(iter(inputs.values()))) > most:
                    raise error("Failed to allocate memory for requested buffer of size 1")
                return session.run(outputs, inputs)

        return Small()

    return open_


def passes_of(model, network_of, **options):
    image_shape, size, matrices = model.geometry(X.shape)
    return passes.open_pass(
        network_of, image_shape=image_shape, size=size, matrices=matrices, **options
    )


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_batches_are_halved_until_they_fit(error, fitted, scorer_of_it):
    model = scorer_of_it._source
    graph = model.take_network((3, 20, 20))[0]
    expected = passes_of(model, graph)(X, ["logits"])[0]
    tight = passes_of(
        model, graph, batch_size=64, open_session=sessions_that_fit(3, error), n_threads=1
    )
    assert_allclose(tight(X, ["logits"])[0], expected, atol=1e-5)
    assert tight.batch_size in (2, 3)
    hopeless = passes_of(model, graph, open_session=sessions_that_fit(0, error), n_threads=1)
    with pytest.raises(OutOfMemoryError, match="1 patches of 20 x 20 pixels do not fit"):
        hopeless(X, ["logits"])[0]


def test_two_workers_that_run_out_of_memory_together_halve_once(scorer_of_it):
    graph = scorer_of_it._source.take_network((3, 20, 20))[0]

    def open_(model, **options):
        session = open_session(model, **options)

        class Shared:
            def run(self, outputs, inputs):
                if len(inputs["patches"]) > 1:
                    # The other worker was here a moment before.
                    found.batch_size = 1
                    raise MemoryError
                return session.run(outputs, inputs)

        return Shared()

    found = passes_of(scorer_of_it._source, graph, batch_size=2, open_session=open_, n_threads=1)
    assert len(found(X[:3], ["logits"])[0]) == 3
    assert found.batch_size == 1


def test_other_errors_of_a_session_are_not_hidden(scorer_of_it):
    def open_(model, **options):
        class Broken:
            def run(self, outputs, inputs):
                raise RuntimeError("broken")

        return Broken()

    graph = scorer_of_it._source.take_network((3, 20, 20))[0]
    with pytest.raises(RuntimeError, match="broken"):
        passes_of(scorer_of_it._source, graph, open_session=open_)(X, ["logits"])[0]


def test_a_scorer_shows_what_it_scores_and_how(fitted):
    shown = repr(OnnxScorer(fitted, alpha=0.5, batch_size=8))
    assert shown == "OnnxScorer(CNNClassifier of 3 classes, batch_size=8, alpha=0.5)"


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "error", "message"),
    [
        (X[:0], DataError, "at least one candidate"),
        (X[0], DataError, r"expected \(n, C, H, W\)"),
        (X[:, :1], DataError, "1 channels; the model was fitted on 3"),
        (X[:, None], DataError, r"expected \(n, C, H, W\), images"),
        (X.astype(np.int16), DataTypeError, "dtype int16"),
        (X.astype(np.float32), DataError, "Divide 8-bit values by 255"),
        ([[1.0, 2.0]], DataError, r"expected \(n, C, H, W\)"),
    ],
)
def test_pools_that_do_not_fit_are_refused(pool, error, message, scorer_of_it):
    with pytest.raises(error, match=message):
        scorer_of_it.score(pool)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha=0"),
        ({"precision": "int8"}, "precision='int8'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "large"}, "batch_size='large'"),
        ({"providers": "NoneSuch"}, "NoneSuch"),
        ({"n_threads": 0}, "n_threads=0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(options, message, fitted):
    with pytest.raises(ParameterError, match=message):
        OnnxScorer(fitted, **options).score(X)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (classifier, "not a fitted AIFTClassifier"),
        (LogisticRegression, "not a fitted AIFTClassifier"),
        (
            lambda: AIFTClassifier(LogisticRegression()).fit([[0.0], [1.0]], [0, 1]),
            "LogisticRegression is no CNN",
        ),
        (lambda: classifier(patches=Halves()).fit(X[:20], Y[:20]), "patches of Halves"),
        (
            lambda: classifier(JITTERED, JitterPatches(2)).fit(np.eye(6), [0, 1] * 3),
            "JitterPatches",
        ),
    ],
)
def test_what_cannot_be_exported_says_why(model, message):
    with pytest.raises(ExportError, match=message):
        OnnxScorer(model())


JITTERED = CNNClassifier(nn.Linear(6, 3), pretrained=False, max_epochs=1)


class Halves(AffinePatches):
    """Somebody's own patches."""

    matrices_of = property()

    def transform(self, X, views=None):
        views = [0, 1] if views is None else views
        return np.stack([X, X[:, :, ::-1]], axis=1)[:, views] / np.float32(255)


def test_one_class_is_no_network():
    model = classifier(
        make_pipeline(CNNFeatures(network, pretrained=False), LogisticRegression()),
        classes=["disc", "empty"],
    ).fit(X[:3], ["disc"] * 3)
    with pytest.raises(ExportError, match="_OneClass is no CNN"):
        OnnxScorer(model)


def test_threads_follow_the_affinity(fitted, scorer_for):
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert scorer_for(fitted).prepare(X.shape)._engine.n_workers == 1
    finally:
        os.sched_setaffinity(0, cores)
