"""Whatever a network computes from its weights, a refresh reaches it, or the network is refused."""

import copy
import functools
import time
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from torch import nn
from torch.nn.utils import parametrizations

from aift_sklearn.errors import ExportError

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

from aift_sklearn.onnx import NetworkGraph, _trial, open_session
from aift_sklearn.onnx.tensors import named_tensors, settings_of

SHAPE = (3, 6, 6)


def run(graph, X):
    session = open_session(graph.to_bytes(), providers="CPUExecutionProvider", n_threads=1)
    return session.run(["logits"], {"patches": X})[0]


def of_torch(network, X):
    with torch.no_grad():
        return network(torch.from_numpy(X)).numpy()


def patches(n=4):
    return np.random.default_rng(n).random((n, *SHAPE)).astype(np.float32)


def move(network, seed=0):
    """Move every weight and statistic by up to half of itself, and off zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in {id(one): one for one in named_tensors(network).values()}.values():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(tensor * (0.5 + noise) + 0.01)


class Function(nn.Module):
    """A module of a function and what it uses."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, value in parts.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(self, x)


def tied():
    one, other = nn.Linear(12, 12), nn.Linear(12, 12)
    other.weight = one.weight
    return nn.Sequential(nn.Conv2d(3, 12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), one, other)


def normalised():
    return nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)),
        nn.Flatten(),
    )


def buffered():
    network = Function(
        lambda s, x: s.conv(x - s.mean)[:, s.order].mean((2, 3)) * s.scale / s.n,
        conv=nn.Conv2d(3, 4, 3),
        scale=torch.tensor([2.0, 3.0, 1.0, 0.5]),
    )
    network.register_buffer("mean", torch.rand(3, 1, 1), persistent=False)
    network.register_buffer("order", torch.tensor([3, 0, 2, 1]))
    network.register_buffer("n", torch.tensor(3), persistent=False)
    return network


def recurrent():
    return Function(
        lambda s, x: s.cell(x.flatten(2))[0][:, -1], cell=nn.GRU(36, 4, batch_first=True)
    )


def doubled():
    w = nn.Parameter(torch.rand(3, 4))
    return Function(lambda s, x: (x.double().mean((2, 3)) @ s.w.double()).exp(), w=w)


@pytest.mark.parametrize(
    "build", [tied, normalised, buffered, recurrent, doubled], ids=lambda f: f.__name__
)
def test_tensors_of_every_sort_are_refreshed(build):
    torch.manual_seed(0)
    network = build().eval()
    graph, X = NetworkGraph(network, SHAPE), patches()
    assert graph.is_current(network)
    names = [name for name, tensor in named_tensors(network).items() if tensor.is_floating_point()]
    for name in names:
        tensor, stale = named_tensors(network)[name], run(graph, X)
        with torch.no_grad():
            tensor.mul_(1.5).add_(0.05)
        assert not graph.is_current(network), name
        graph.refresh(network)
        assert graph.is_current(network)
        assert_allclose(run(graph, X), of_torch(network, X), rtol=1e-4, atol=1e-5, err_msg=name)
        if build is buffered:
            assert np.abs(run(graph, X) - stale).max() > 1e-3, name


def test_integers_are_refreshed_and_other_shapes_or_types_are_refused():
    network = buffered().eval()
    graph, X = NetworkGraph(network, SHAPE), patches()
    network.order.copy_(torch.tensor([0, 1, 2, 3]))
    network.n.fill_(5)
    graph.refresh(network)
    assert_allclose(run(graph, X), of_torch(network, X), rtol=1e-5)
    before = graph.to_bytes()
    for name, value in (("scale", torch.rand(3)), ("n", torch.tensor(5.0))):
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.conv.weight.mul_(2)
        setattr(other, name, value)
        assert not graph.is_current(other)
        with pytest.raises(ExportError, match=rf"{name} has shape"):
            graph.refresh(other)
        assert graph.to_bytes() == before


def test_tied_weights_that_came_apart_are_refused():
    network = tied().eval()
    graph = NetworkGraph(network, SHAPE)
    apart = copy.deepcopy(network)
    apart[4].weight = nn.Parameter(apart[3].weight.detach().clone())
    assert graph.is_current(apart), "apart, and still equal"
    with torch.no_grad():
        apart[4].weight[0, 0] += 1
    assert not graph.is_current(apart)
    with pytest.raises(ExportError, match="are one tensor in the graph"):
        graph.refresh(apart)


def test_a_graph_is_current_only_bit_for_bit():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()).eval()
    with torch.no_grad():
        network[0].bias[:] = torch.tensor([0.0, 1.0])
    graph = NetworkGraph(network, SHAPE)
    assert graph.is_current(copy.deepcopy(network))
    for value in (-0.0, 1e-45):
        other = copy.deepcopy(network)
        with torch.no_grad():
            other[0].bias[0] = value
        assert not graph.is_current(other)
    assert not graph.is_current(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Identity(), nn.Flatten()))


SETTINGS = {
    "a number": lambda s: setattr(s, "power", 3),
    "a flag": lambda s: setattr(s, "doubled", True),
    "a function": lambda s: setattr(s, "act", torch.sin),
    "a partial function": lambda s: setattr(
        s, "slope", functools.partial(F.leaky_relu, negative_slope=0.4)
    ),
    "a closure": lambda s: setattr(s, "scaled", scaled_by(3.0)),
    "a constant in a lambda": lambda s: setattr(s, "shifted", lambda x: x + 3),
    "an array": lambda s: s.array.__setitem__(0, 3),
    "a tensor in a list": lambda s: s.listed[0].fill_(3),
    "a record": lambda s: setattr(s.config, "offset", 3.0),
    "a layer": lambda s: setattr(s, "layer", nn.Tanh()),
}


def scaled_by(factor):
    return lambda x: x * factor


def with_settings():
    def forward(s, x):
        x = s.layer(s.shifted(s.scaled(s.slope(s.act(x.mean((2, 3)) - 0.5)))))
        x = x**s.power * torch.from_numpy(s.array) + s.listed[0] + s.config.offset
        return x * s.weight * (2 if s.doubled else 1)

    return Function(
        forward,
        power=2,
        doubled=False,
        act=torch.tanh,
        slope=functools.partial(F.leaky_relu, negative_slope=0.1),
        scaled=scaled_by(2.0),
        shifted=lambda x: x + 1,
        array=np.ones(3, dtype=np.float32),
        listed=[torch.ones(3)],
        config=types.SimpleNamespace(offset=1.0),
        layer=nn.ReLU(),
        weight=nn.Parameter(torch.ones(3)),
    ).eval()


def test_other_settings_with_the_same_tensors_are_another_network():
    network = with_settings()
    graph = NetworkGraph(network, SHAPE)
    X, before = patches(), graph.to_bytes()
    assert_allclose(run(graph, X), of_torch(network, X), rtol=1e-5)
    for what, change in SETTINGS.items():
        other = with_settings()
        assert settings_of(other) == settings_of(network)
        change(other)
        assert not np.allclose(of_torch(other, X), of_torch(network, X)), what
        assert not graph.is_current(other), what
        with pytest.raises(ExportError, match="other layers or settings than the graph"):
            graph.refresh(other)
    assert graph.to_bytes() == before


def centred_on_the_batch(s, x):
    return (x - x.mean(0)).mean((2, 3)) * s.p


def by_the_number_of_patches(s, x):
    return x.mean((2, 3)) * (s.p if x.shape[0] > 1 else 2 * s.p)


def random_each_time(s, x):
    return x.mean((2, 3)) * s.p + torch.rand(len(x), 1)


def counting(s, x):
    s.calls += 1
    return x.mean((2, 3)) * s.p


def counting_in_a_buffer(s, x):
    s.n.add_(1)
    return x.mean((2, 3)) * s.p * s.n


def never_a_number(s, x):
    return (x.mean((2, 3)) - 2).log() * s.p


def by_its_values(s, x):
    return x.mean((2, 3)) * (s.p if x.sum() > 5 else -s.p)


def double_convolution(s, x):
    return F.conv2d(x.double(), s.w.double()).float().mean((2, 3)) * s.p


def of_data(s, x):
    return x.mean((2, 3)) * s.p.data


def of_data_of_a_buffer(s, x):
    return x.mean((2, 3)) * s.p * s.n.data.exp()


def of_data_of_patches(s, x):
    return x.data.mean((2, 3)) * s.p


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (centred_on_the_batch, "depend on the other patches|differ from the network's"),
        (by_the_number_of_patches, "number of patches|depend on the other patches|differ from"),
        (random_each_time, "depend on the other patches|differ from the network's"),
        (counting, "changes its own calls while it predicts"),
        (counting_in_a_buffer, "changes its own n while it predicts|depend on the other patches"),
        (never_a_number, "not finite"),
        (by_its_values, "cannot be exported to ONNX"),
        (double_convolution, "ONNX Runtime cannot run the network"),
        (of_data, r"Use the parameter itself instead of its \.data"),
        (of_data_of_a_buffer, r"reaches a tensor by \.data in its forward"),
        (of_data_of_patches, r"reaches a tensor by \.data in its forward"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_graph_cannot_be_is_refused_with_the_reason(function, reason):
    network = Function(
        function, p=nn.Parameter(torch.tensor(1.5)), w=torch.rand(3, 3, 2, 2), calls=0
    )
    network.register_buffer("n", torch.tensor(1.0))
    with pytest.raises(ExportError, match=reason):
        NetworkGraph(network.eval(), SHAPE)
    assert network.calls == 0
    assert network.n == 1


def test_a_network_that_cannot_be_copied_is_refused():
    class Single(nn.Conv2d):
        def __deepcopy__(self, memo):
            raise RuntimeError("there is one of me")

    with pytest.raises(ExportError, match=r"cannot be copied: there is one of me"):
        NetworkGraph(nn.Sequential(Single(3, 3, 1)).eval(), SHAPE)


def outputs(values):
    return {"logits": np.array(values, dtype=np.float32)}


def test_outputs_agree_only_where_both_are_numbers_or_neither_is():
    rows = [[1.0, 2.0], [3.0, -1.0], [np.nan, np.nan], [np.inf, 1.0], [0.5, 0.1], [0.2, 0.3]]
    wanted = outputs(rows)
    _trial.compare(wanted, outputs(rows), "")
    for row, value in ((2, 0.0), (3, np.nan), (3, -np.inf), (0, np.nan), (0, 1.01)):
        found = outputs(rows)
        found["logits"][row, 0] = value
        with pytest.raises(ExportError, match="differ from the network's"):
            _trial.compare(wanted, found, "")


def test_a_small_part_of_the_change_that_is_missing_is_noticed():
    before, after = np.ones((6, 3)), np.ones((6, 3))
    after[:, 0] += 1e-2
    stale = after - 0.05e-2
    _trial.compare(outputs(after), outputs(after + 1e-6), "", change_from=outputs(before))
    with pytest.raises(ExportError, match="differ"):
        _trial.compare(outputs(after), outputs(stale), "", change_from=outputs(before))


def test_trial_weights_keep_their_signs_and_leave_zero():
    tensors = {
        "w": nn.Parameter(torch.tensor([-2.0, 0.0, 3.0])),
        "variance": torch.tensor([1e-8, 4.0]),
        "repeated": torch.ones(1).expand(3),
        "n": torch.tensor(7),
    }
    before = {name: one.detach().clone() for name, one in tensors.items()}
    _trial.perturb(tensors)
    assert (tensors["w"].sign() == torch.tensor([-1, 1, 1])).all()
    assert (tensors["variance"] > 0).all()
    assert tensors["n"] == 7
    for name in ("w", "variance", "repeated"):
        assert (tensors[name] != before[name]).all()


def test_a_graph_holds_neither_source_code_nor_paths():
    graph = NetworkGraph(buffered().eval(), SHAPE)
    data = graph.to_bytes()
    assert b"test_derived_weights" not in data
    assert b"stack_trace" not in data


def test_a_refresh_takes_a_small_part_of_an_export():
    network = buffered().eval()
    start = time.perf_counter()
    graph = NetworkGraph(network, SHAPE)
    exported = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(10):
        graph.refresh(network)
    assert (time.perf_counter() - start) / 10 < exported / 50
