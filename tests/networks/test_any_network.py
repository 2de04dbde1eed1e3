"""Networks of any kind: memory layouts, what forward returns, failures, and what was built before.

A network that works by itself works here, or is refused by one message that says what came, what
was expected and what to pass.
"""

import copy
import gc
import pickle
import re
import threading

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from aift_sklearn import AIFTClassifier, CNNClassifier, CNNFeatures, load
from aift_sklearn.errors import (
    AIFTError,
    DataError,
    NonFiniteLossError,
    NonFiniteOutputError,
    OutOfMemoryError,
    ParameterError,
)
from aift_sklearn.networks import _cache
from aift_sklearn.networks._forward import is_out_of_memory
from aift_sklearn.networks._inference import infer
from aift_sklearn.networks.backbones import Backbone


class Convolved(nn.Module):
    """A convolution, and a function of its output."""

    def __init__(self, then, width=8):
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3, stride=2)
        self.then = then

    def forward(self, x):
        return self.then(self.convolution(x))


def small(backbone, **params):
    defaults = {"pretrained": False, "max_epochs": 2, "batch_size": 16, "random_state": 0}
    return CNNClassifier(backbone, **defaults | params)


# --- memory layouts -------------------------------------------------------------------------------


class ViewsItsWeight(nn.Conv2d):
    """Standardises its weight by a view of it."""

    def forward(self, x):
        flat = self.weight.view(len(self.weight), -1)
        weight = (flat - flat.mean(1, keepdim=True)).view(self.weight.shape)
        return nn.functional.conv2d(x, weight, self.bias, self.stride)


class ViewsGradient(torch.autograd.Function):
    """A backward pass that asks for contiguous memory; the forward pass does not."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient.view(-1).view(gradient.shape) * 2


class Volume(nn.Module):
    """Takes channels as depth: its weights have five axes."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv3d(1, 4, 3)

    def forward(self, x):
        return self.convolution(x[:, None]).mean(dim=(2, 3, 4))


def memory_order(x):
    """Values as they lie in memory: an embedding that silently depends on strides."""
    rows = [torch.as_strided(row, (row.numel(),), (1,), row.storage_offset()) for row in x]
    return torch.stack([row[:16] for row in rows])


class Normed(nn.Conv2d):
    """Normalises what needs no gradient: of such images torch's backward ends the process."""

    def __init__(self):
        super().__init__(3, 4, 3)

    def forward(self, x):
        return super().forward(nn.functional.group_norm(x, 1))


LAYOUTS = {
    "view": lambda: Convolved(lambda x: x.view(x.size(0), -1)),
    "view of rows": lambda: Convolved(lambda x: x.view(len(x) * 8, -1).mean(1).view(len(x), 8)),
    "view of a transpose": lambda: Convolved(lambda x: x.transpose(2, 3).reshape(len(x), -1)),
    "view in training only": lambda: Convolved(
        lambda x: x.view(len(x), -1) if torch.is_grad_enabled() else x.reshape(len(x), -1)
    ),
    "view of weights": lambda: nn.Sequential(ViewsItsWeight(3, 4, 3), nn.Flatten()),
    "view of gradients": lambda: Convolved(lambda x: ViewsGradient.apply(x).mean((2, 3))),
    "strides": lambda: Convolved(memory_order),
    "volume": Volume,
    "group norm": lambda: nn.Sequential(nn.GroupNorm(3, 3), nn.Conv2d(3, 4, 3)),
    "group norm, by its function": Normed,
    "pooled": lambda: Convolved(lambda x: x),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_network_that_works_by_itself_works_and_gives_the_same(name):
    X, y = make_blobs(40)
    net = LAYOUTS[name]()
    cnn = small(net, early_stopping=2, calibration="temperature", lr=0.01)
    cnn.fit(X[:30], y[:30]).partial_fit(X[30:], y[30:]).partial_fit(X, y)
    own = copy.deepcopy(cnn.module_.backbone.body).to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        expected = own((torch.from_numpy(X) / 255).contiguous())
        expected = expected.mean((2, 3)) if expected.ndim == 4 else expected
    assert_allclose(cnn.embed(X), expected.numpy(), rtol=1e-4, atol=1e-5)
    logits = expected @ cnn.module_.head.weight.T + cnn.module_.head.bias
    proba = torch.softmax(logits.detach() / cnn.temperature_, dim=1)
    assert_allclose(cnn.predict_proba(X), proba.numpy(), rtol=1e-3, atol=1e-5)
    assert CNNFeatures(net).transform(X).shape == expected.shape


@pytest.mark.parametrize("name", ["view", "pooled"])
def test_a_loaded_network_predicts_and_learns_on(name, tmp_path):
    X, y = make_blobs(20)
    cnn = small(LAYOUTS[name](), lr=0.01).fit(X, y)
    cnn.save(tmp_path / "model")
    loaded = load(tmp_path / "model", estimator=small(LAYOUTS[name](), lr=0.01))
    assert_allclose(loaded.predict_proba(X), cnn.predict_proba(X), rtol=1e-5)
    again = load(tmp_path / "model", estimator=small(LAYOUTS[name](), lr=0.01))
    for learner in (cnn, loaded, again):
        learner.partial_fit(X, y)
        assert_allclose(learner.predict_proba(X), cnn.predict_proba(X), rtol=1e-4)


def test_channels_last_is_used_where_the_network_allows_it():
    X, y = make_blobs(8)
    assert small(LAYOUTS["pooled"]).fit(X, y).module_.backbone.channels_last
    assert not small(LAYOUTS["view"]).fit(X, y).module_.backbone.channels_last
    assert not small(LAYOUTS["strides"]).fit(X, y).module_.backbone.channels_last
    assert not small(LAYOUTS["group norm"]).fit(X, y).module_.backbone.channels_last
    assert not small(Normed).fit(X, y).module_.backbone.channels_last


def test_a_size_at_which_a_view_no_longer_fits_is_predicted_too():
    # At 3 x 3 pixels the map has one pixel, of which every view fits.
    net = Convolved(lambda x: x.view(len(x) * 8, -1).mean(1).view(len(x), 8))
    cnn = small(net).fit(np.zeros((4, 3, 3, 3), np.uint8), [0, 1] * 2)
    assert cnn.module_.backbone.channels_last
    X, y = make_blobs(4)
    assert cnn.predict_proba(X).shape == (4, 2)
    # What was made in inference can still be trained.
    cnn.partial_fit(X, np.where(y == "disc", 1, 0))


@pytest.mark.parametrize("constant", [0, 255])
def test_black_examples_tell_a_layout_too(constant):
    X = np.full((8, 3, 16, 16), constant, np.uint8)
    cnn = small(LAYOUTS["strides"]).fit(X, [0, 1] * 4)
    assert not cnn.module_.backbone.channels_last


# --- what forward returns -------------------------------------------------------------------------


class Spare(Convolved):
    """Has a lazy layer that its forward does not use."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.spare = nn.LazyLinear(3)


class Silent(nn.Module):
    def forward(self, x):
        return None


RETURNS = {
    "tuple": (lambda: Convolved(lambda x: (x, x)), r"type tuple \(0: \(2, 8, 7, 7\)"),
    "list": (lambda: Convolved(lambda x: [x]), r"type list"),
    "dict": (lambda: Convolved(lambda x: {"out": x}), r"type dict \('out': \(2, 8"),
    "none": (Silent, "type NoneType"),
    "array": (lambda: Convolved(lambda x: x.detach().numpy()), "type ndarray"),
    "double": (lambda: Convolved(lambda x: x.double()), r"torch.float64, shape .* net.float\(\)"),
    "half": (lambda: Convolved(lambda x: x.half()), r"torch.float16"),
    "whole numbers": (lambda: Convolved(lambda x: x.argmax(1).flatten(1)), r"torch.int64"),
    "one axis": (lambda: Convolved(lambda x: x.flatten(1).mean(1)), r"shape \(2,\)"),
    "three axes": (lambda: Convolved(lambda x: x.flatten(2)), r"shape \(2, 8, 49\).*flatten\(1\)"),
    "five axes": (lambda: Convolved(lambda x: x[..., None]), r"shape \(2, 8, 7, 7, 1\)"),
    "scalar": (lambda: Convolved(lambda x: x.sum()), r"shape \(\)"),
    "rows": (lambda: Convolved(lambda x: x.reshape(-1, 8)), r"shape \(98, 8\)"),
    "batch as one": (lambda: Convolved(lambda x: x.mean(0, keepdim=True)), r"shape \(1, 8"),
    "empty": (lambda: Convolved(lambda x: x.flatten(1)[:, :0]), r"shape \(2, 0\)"),
    "squeezed": (lambda: Convolved(lambda x: x.mean((2, 3)).squeeze()), r"shape \(8,\).*\(1, E\)"),
    "device": (lambda: Convolved(lambda x: x.to("meta")), "on meta; .* on cpu"),
}
PARTS = {
    "double weights": (
        lambda: LAYOUTS["pooled"]().double(),
        r"weights are of torch.float64: pass net.flo",
    ),
    "half weights": (lambda: LAYOUTS["pooled"]().half(), r"torch.float16"),
    "two inputs": (lambda: nn.Bilinear(3, 3, 4), "TypeError: .*missing 1 required"),
    "channels": (lambda: nn.Conv2d(5, 4, 3), r"shape \(8, 3, 16, 16\), which this backbone"),
    "unused lazy": (Spare, "lazy layers take no part"),
}

ASKS = {
    "fit": lambda net, X, y: small(net).fit(X, y),
    "partial_fit": lambda net, X, y: small(net).partial_fit(X, y),
    "embed": lambda net, X, y: small(net, pretrained=True).embed(X),
    "features": lambda net, X, y: CNNFeatures(net).fit(X),
    "transform": lambda net, X, y: CNNFeatures(net).transform(X),
    "candidates": lambda net, X, y: AIFTClassifier(small(net)).fit(X, y),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("kind", [*RETURNS, *PARTS])
def test_what_is_no_embedding_is_refused_with_what_came_and_what_to_pass(kind, ask):
    net, message = (RETURNS | PARTS)[kind]
    X, y = make_blobs(8)
    with pytest.raises(AIFTError, match=message) as caught:
        ASKS[ask](net(), X, y)
    assert isinstance(caught.value, ValueError)
    assert re.search("expected|pass", str(caught.value), re.IGNORECASE)


def test_another_precision_inside_is_nobody_elses_business():
    class Precise(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3).double()

        def forward(self, x):
            return self.convolution(x.double()).float()

    X, y = make_blobs(8)
    assert small(Precise()).fit(X, y).predict_proba(X).shape == (8, 2)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("make", ["script", "trace"])
def test_torchscript_is_refused(make):
    X, y = make_blobs(8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    scripted = (
        torch.jit.script(net)
        if make == "script"
        else torch.jit.trace(net, torch.rand(2, 3, 16, 16))
    )
    for net in (scripted, lambda: scripted, nn.Sequential(scripted, nn.Flatten())):
        for ask in ASKS.values():
            with pytest.raises(ParameterError, match=r"TorchScript.*pass the nn\.Module"):
                ask(net, X, y)


def test_lazy_layers_get_their_shapes_from_each_call():
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(6))
    features = CNNFeatures(lazy)
    for shape in ((4, 3, 16, 16), (4, 1, 16, 16), (4, 3, 12, 12), (4, 3, 16, 16)):
        X = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        found = features.transform(X)
        assert found.shape == (4, 6)
        assert_array_equal(found, CNNFeatures(lazy).transform(X))
        cnn = small(lazy).fit(X, [0, 1] * 2)
        assert cnn.partial_fit(X, [0, 1] * 2).predict(X).shape == (4,)


def test_a_fitted_network_says_which_inputs_it_cannot_take():
    X, y = make_blobs(8)
    cnn = small(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(4))).fit(X, y)
    for ask in (cnn.predict_proba, cnn.predict, cnn.embed):
        with pytest.raises(DataError, match=r"X has shape \(8, 3, 12, 12\), which this backbone"):
            ask(X[:, :, :12, :12])


# --- outputs that are not finite ------------------------------------------------------------------


class Standardised(nn.Module):
    """Divides by the standard deviation, which a constant image lacks."""

    def forward(self, x):
        return (x / x.std((1, 2, 3), keepdim=True))[:, :, :4, :4].flatten(1)


@pytest.mark.parametrize("row", [0, 5, 19])
@pytest.mark.parametrize("ask", ["predict", "predict_proba", "embed", "unfitted", "transform"])
def test_an_output_that_is_not_finite_is_refused_by_the_number_of_its_image(ask, row):
    X, y = make_blobs(20)
    cnn = small(Standardised(), batch_size=4, pretrained=True).fit(X, y)
    spoilt = X.copy()
    spoilt[row] = 0
    calls = {
        "predict": cnn.predict,
        "predict_proba": cnn.predict_proba,
        "embed": cnn.embed,
        "unfitted": clone(cnn).embed,
        "transform": CNNFeatures(Standardised(), batch_size=4).transform,
    }
    assert np.isfinite(np.asarray(calls[ask](X) != "")).all()
    with pytest.raises(NonFiniteOutputError, match=f"for image {row};") as caught:
        calls[ask](spoilt)
    assert isinstance(caught.value, DataError)
    assert caught.value.index == row
    assert pickle.loads(pickle.dumps(caught.value)).index == row


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_too_and_rows_are_called_so(value):
    X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)

    class Overflows(nn.Module):
        def forward(self, x):
            return torch.where(x > 50, value, x)

    cnn = small(Overflows()).fit(X, [0, 1] * 6)
    X[7, 1] = 100
    for ask in (cnn.embed, cnn.predict_proba, CNNFeatures(Overflows()).transform):
        with pytest.raises(NonFiniteOutputError, match="for row 7;"):
            ask(X)


def test_pretrained_probabilities_are_finite_or_refused():
    cnn = CNNClassifier(random_state=0)
    X = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    cnn.pretrained_proba(X)
    built = _cache.built_before(cnn)
    with torch.no_grad():
        built.head.bias[4] = torch.nan
    with pytest.raises(NonFiniteOutputError, match="for image 0;"):
        cnn.pretrained_proba(X)


def test_a_held_out_image_that_spoils_the_loss_is_reported():
    X, y = make_blobs(40)

    class Blind(nn.Module):
        """Gives NaN for every image while it is not trained."""

        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            spoilt = not torch.is_grad_enabled() and len(x) == 8
            return self.convolution(x) * (torch.nan if spoilt else 1)

    cnn = small(Blind(), early_stopping=1, batch_size=32)
    with pytest.raises(NonFiniteLossError, match="held-out images became nan"):
        cnn.fit(X, y)


# --- networks built before ------------------------------------------------------------------------


class Counted:
    """A factory that counts its networks."""

    def __init__(self, make=lambda: nn.Conv2d(3, 4, 3)):
        self.make, self.n_made = make, 0

    def __call__(self):
        self.n_made += 1
        return self.make()


def images(n=4, channels=3, size=16):
    rng = np.random.default_rng(n)
    return rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8)


@pytest.mark.parametrize("make", [CNNClassifier, CNNFeatures])
def test_an_unfitted_network_is_built_once(make):
    factory = Counted()
    estimator = make(factory)
    before = dict(vars(estimator))
    for n in (3, 4, 5):
        assert estimator.embed(images(n)).shape == (n, 4)
    assert factory.n_made == 1
    assert vars(estimator) == before
    assert_array_equal(estimator.embed(images()), make(Counted()).embed(images()))


def test_pretrained_predictions_and_embeddings_share_one_network():
    cnn = CNNClassifier()
    X = images(2, size=32)
    proba, embedding = cnn.pretrained_proba(X), cnn.embed(X)
    built = _cache.built_before(cnn)
    # By name: grey images and other sizes are taken by the same network.
    for shape in ((2, 1, 32, 32), (2, 3, 48, 48)):
        cnn.embed(np.zeros(shape, np.uint8))
    cnn.pretrained_proba(X)
    assert _cache.built_before(cnn) is built
    assert_array_equal(cnn.pretrained_proba(X), proba)
    with pytest.raises(DataError, match="5 channels"):
        cnn.embed(images(channels=5))
    assert_array_equal(cnn.embed(X), embedding)


def test_copies_do_not_take_the_network_along(tmp_path):
    factory = Counted()
    features = CNNFeatures(factory)
    features.transform(images())
    for other in (clone(features), copy.copy(features)):
        assert _cache.built_before(other) is None
    made = factory.n_made
    module = CNNFeatures(nn.Conv2d(3, 4, 3))
    module.transform(images())
    size = len(pickle.dumps(CNNFeatures(module.backbone)))
    assert len(pickle.dumps(module)) == size
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert _cache.built_before(other) is None
        assert_array_equal(other.transform(images()), module.transform(images()))
    assert factory.n_made == made
    lite = CNNFeatures()
    lite.transform(images(size=32))
    lite.save(tmp_path / "lite")
    assert sum(path.stat().st_size for path in (tmp_path / "lite").rglob("*")) < 100_000


def test_a_parameter_that_changes_builds_the_network_again():
    first, second = Counted(), Counted(lambda: nn.Conv2d(3, 6, 3))
    features = CNNFeatures(first)
    assert features.transform(images()).shape == (4, 4)
    features.set_params(backbone=second)
    assert features.transform(images()).shape == (4, 6)
    features.backbone = first
    assert features.transform(images()).shape == (4, 4)
    assert (first.n_made, second.n_made) == (2, 1)
    features.set_params(batch_size=2)
    features.transform(images())
    assert first.n_made == 2


def put_data(net):
    net[0].weight.data.mul_(2)


def put_step(net):
    with torch.no_grad():
        net[0].bias.add_(1)


def put_layer(net):
    net[1] = nn.Tanh()


def put_attribute(net):
    net[1].negative_slope = 3.0


def put_buffer(net):
    net[2].running_mean += 1


def put_hook(net):
    net[1].register_forward_hook(lambda module, given, output: output * 2)


@pytest.mark.parametrize(
    "put", [put_data, put_step, put_layer, put_attribute, put_buffer, put_hook]
)
def test_a_module_that_changed_since_is_copied_again(put):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.BatchNorm2d(4))
    features = CNNFeatures(net)
    before = features.transform(images())
    built = _cache.built_before(features)
    assert_array_equal(features.transform(images()), before)
    assert _cache.built_before(features) is built
    put(net)
    after = features.transform(images())
    assert_array_equal(after, CNNFeatures(net).transform(images()))
    assert not np.array_equal(after, before)


def test_channels_in_turn_and_a_network_that_was_fitted():
    factory = Counted(lambda: nn.LazyConv2d(4, 3))
    cnn = small(factory, pretrained=True)
    for channels in (1, 3, 1, 3):
        assert cnn.embed(images(channels=channels)).shape == (4, 4)
    assert factory.n_made == 2
    X, y = make_blobs(8)
    cnn.set_params(lr=0.1).fit(X, y)
    assert np.abs(cnn.embed(X) - clone(cnn).embed(X)).max() > 0


def test_threads_share_one_network():
    factory = Counted()
    features = CNNFeatures(factory)
    found, start = [], threading.Barrier(4)

    def work():
        start.wait()
        found.append(features.transform(images()))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert factory.n_made == 1
    for embedding in found:
        assert_array_equal(embedding, found[0])


def test_a_network_is_forgotten_with_its_estimator():
    features = CNNFeatures(Counted())
    features.transform(images())
    n_known = len(_cache._BUILT)
    del features
    gc.collect()
    assert len(_cache._BUILT) < n_known


# --- memory that runs out -------------------------------------------------------------------------

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_out_of_memory_is_told_from_other_failures(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory")],
    ids=str,
)
def test_other_failures_are_no_lack_of_memory(error):
    assert not is_out_of_memory(error)


class Crowded(Backbone):
    """Takes so many images at once, and notes how many it was given."""

    def __init__(self, body, most, error, seen):
        super().__init__(body)
        self.most, self.error, self.seen = most, error, seen

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > self.most:
            raise self.error
        return super().forward(x)


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
@pytest.mark.parametrize("most", [1, 2, 3, 8, 99])
def test_the_batch_is_halved_until_it_fits(most, error):
    X, seen = images(21), []
    net = nn.Conv2d(3, 4, 3)
    backbone = Crowded(net, most, error, seen).eval()
    backbone.channels_last = False
    found = infer(backbone, backbone, X, batch_size=16, device="cpu")
    assert_allclose(found, CNNFeatures(net).transform(X), atol=1e-6)
    assert seen[0] == 16
    fitting = next(k for k in (16, 8, 4, 2, 1) if k <= most)
    failed = [16 // 2**k for k in range(5) if 16 // 2**k > fitting]
    assert seen[: len(failed)] == failed
    assert max(seen[len(failed) :]) == fitting


def test_the_batch_that_was_asked_for_is_used_and_not_more():
    seen = []
    backbone = Crowded(nn.Conv2d(3, 4, 3), 99, None, seen).eval()
    CNNFeatures(backbone, batch_size=5).fit(images()).transform(images(12))
    assert seen[-3:] == [5, 5, 2]
    assert max(seen) == 5


@pytest.mark.parametrize(
    ("size", "expected"), [(64, [12]), (224, [10, 2]), (600, [1] * 12)], ids=str
)
def test_a_cpu_is_given_fewer_of_large_images(size, expected):
    seen = []
    backbone = Crowded(nn.AvgPool2d(size), 99, None, seen).eval()
    backbone.channels_last = False
    X = np.random.default_rng(0).integers(0, 256, (12, 3, size, size), dtype=np.uint8)
    found = infer(backbone, backbone, X, batch_size=16, device="cpu")
    assert seen == expected
    assert_allclose(found, (X / 255).mean(axis=(2, 3)), atol=1e-3)


@pytest.mark.parametrize("ask", ["fit", "embed", "transform"])
def test_not_even_one_image_fits(ask):
    net = Crowded(nn.Conv2d(3, 4, 3), 0, NO_MEMORY[0], [])
    X, y = make_blobs(4)
    calls = {
        "fit": lambda: small(net).fit(X, y),
        "embed": lambda: small(net, pretrained=True).embed(X),
        "transform": lambda: CNNFeatures(net).transform(X),
    }
    with pytest.raises(OutOfMemoryError, match=r"\(3, 16, 16\).*memory.*AffinePatches"):
        calls[ask]()
    net.most = 2
    fitted = small(net, lr=0.01, batch_size=2).fit(X, y)
    net.most = 0
    for predict in (fitted.predict, fitted.predict_proba, fitted.embed):
        with pytest.raises(OutOfMemoryError, match=r"a single input of shape \(3, 16, 16\)"):
            predict(X)


@pytest.mark.parametrize("error", NO_MEMORY[:3], ids=str)
def test_a_training_step_that_does_not_fit_says_so_and_changes_nothing(error):
    X, y = make_blobs(20)
    net = Crowded(nn.Conv2d(3, 4, 3), 99, error, [])
    cnn = small(net, lr=0.01).fit(X, y)
    before, history = cnn.predict_proba(X), cnn.history_
    net.most = 10
    with pytest.raises(OutOfMemoryError, match=r"batch_size=16 .*\(3, 16, 16\).*Lower batch_size"):
        cnn.partial_fit(X, y)
    net.most = 99
    assert_array_equal(cnn.predict_proba(X), before)
    assert cnn.history_ is history
    cnn.set_params(batch_size=8).partial_fit(X, y)


# --- names of columns -----------------------------------------------------------------------------


@pytest.mark.parametrize("fitted", [True, False])
def test_features_are_put_into_frames(fitted):
    pd = pytest.importorskip("pandas", reason="frames are those of pandas")
    X = images(size=32)
    features = CNNFeatures().set_output(transform="pandas")
    if fitted:
        features.fit(X)
    frame = features.transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == [f"cnnfeatures{k}" for k in range(1280)]
    assert_array_equal(frame.to_numpy(), CNNFeatures().transform(X))
    assert isinstance(features.embed(X), np.ndarray)
    assert features.get_feature_names_out().tolist() == frame.columns.tolist()
    assert isinstance(features.fit_transform(X), pd.DataFrame)


def test_features_in_a_pipeline_of_frames():
    pytest.importorskip("pandas", reason="frames are those of pandas")
    X, y = make_blobs(12)
    net = nn.Conv2d(3, 4, 3)
    pipeline = make_pipeline(CNNFeatures(net), LogisticRegression()).set_output(transform="pandas")
    pipeline.fit(X, y)
    names = [f"cnnfeatures{k}" for k in range(4)]
    assert pipeline[:-1].get_feature_names_out().tolist() == names
    assert pipeline[-1].feature_names_in_.tolist() == names
    plain = make_pipeline(CNNFeatures(net), LogisticRegression()).fit(X, y)
    assert_array_equal(pipeline.predict_proba(X), plain.predict_proba(X))


def test_names_of_features_are_known_once_their_number_is():
    assert len(CNNFeatures().get_feature_names_out()) == 1280
    own = CNNFeatures(nn.Conv2d(3, 4, 3))
    with pytest.raises(NotFittedError):
        own.get_feature_names_out()
    own.transform(images())
    assert own.get_feature_names_out().tolist() == [f"cnnfeatures{k}" for k in range(4)]
    with pytest.raises(NotFittedError):
        CNNFeatures(pretrained=False).get_feature_names_out()
