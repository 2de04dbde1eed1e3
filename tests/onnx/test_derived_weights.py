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


def move(tensors, seed=0):
    """Move weights and statistics by a tenth to a half of themselves, and off zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in {id(one): one for one in tensors}.values():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(tensor * (1.1 + 0.4 * noise) + 0.01)


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


def parameter(*shape, around=0.0, spread=0.5):
    return nn.Parameter(around + spread * torch.randn(shape))


def with_buffers(network, **buffers):
    for name, value in buffers.items():
        network.register_buffer(name, value)
    return network


def scaled(change):
    """Channels times what is computed from a parameter of each."""
    return lambda: Function(lambda s, x: x.mean((2, 3)) * change(s.p), p=parameter(3, around=1.5))


def convolved(change, *shape):
    """A convolution with what is computed from its weights."""
    return lambda: Function(
        lambda s, x: F.conv2d(x, change(s.w)).mean((2, 3)), w=parameter(*shape or (4, 3, 3, 3))
    )


def standardised(w):
    return (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)


class Symmetric(nn.Module):
    def forward(self, w):
        return (w + w.flip(-1)) / 2


def symmetric():
    conv = nn.Conv2d(3, 4, 3)
    nn.utils.parametrize.register_parametrization(conv, "weight", Symmetric())
    return conv


def blurred(s, x):
    at = torch.arange(3.0) - 1
    line = torch.exp(-(at**2) / (2 * s.width**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    return F.conv2d(x, kernel.expand(3, 1, 3, 3), groups=3).amax((2, 3))


def batch_norm_by_hand(s, x):
    x = (x - s.mean[:, None, None]) / (s.var[:, None, None] + s.eps).sqrt()
    return (x * s.weight[:, None, None] + s.bias[:, None, None]).amax((2, 3))


def batch_norm_in_the_weights(s, x):
    factor = s.gain / (s.var + 1e-5).sqrt()
    return F.conv2d(x, s.w * factor[:, None, None, None], s.bias - s.mean * factor).amax((2, 3))


def statistics(n):
    return {"mean": torch.rand(n), "var": torch.rand(n) + 0.5}


def mixed_kernels(s, x):
    return F.conv2d(x, (s.mix.softmax(0)[:, None, None, None, None] * s.w).sum(0)).mean((2, 3))


def mixed_branches(s, x):
    a = s.mix.softmax(0)
    return a[0] * x.mean((2, 3)) + a[1] * x.amax((2, 3)) + a[2] * x.amin((2, 3))


def to_and_fro(s, x):
    return F.conv_transpose2d(torch.relu(F.conv2d(x, s.w)), s.w).mean((2, 3))


def binary_weights(w):
    return w.sign() * w.abs().mean((1, 2, 3), keepdim=True)


def positions(s, x):
    at = F.interpolate(s.p[None], size=x.shape[-2:], mode="bilinear", align_corners=False)
    return (x * at).mean((2, 3))


def tokens(s, x):
    t = x.flatten(2).transpose(1, 2)
    bias = s.table[s.index]
    return ((t @ t.transpose(1, 2) + bias).softmax(-1) @ t).amax(1)


def cosines(s, x):
    return F.normalize(x.mean((2, 3))) @ F.normalize(s.w).T * s.t.exp()


# Networks of several parts, whose outputs stand side by side; of each part all tensors matter.
DERIVED = {
    "numbers of a parameter": {
        "reciprocal": scaled(lambda p: 1 / p),
        "softplus": scaled(F.softplus),
        "exp": scaled(torch.exp),
        "sigmoid": scaled(torch.sigmoid),
        "logarithm": scaled(lambda p: p.abs().log1p()),
        "inverse root": scaled(lambda p: torch.rsqrt(p.abs() + 1e-2)),
        "clamped": scaled(lambda p: p.clamp(0.01, 10.0)),
        "where": scaled(lambda p: torch.where(p > 0, p, p * 0.5)),
        "detached": scaled(lambda p: p.detach() * 0.5 + p * 0.5),
    },
    "powers and gates": {
        "generalised mean": lambda: Function(
            lambda s, x: x.clamp(min=1e-3).pow(s.p).mean((2, 3)).pow(1 / s.p),
            p=parameter(around=3.0),
        ),
        "generalised mean of each channel": lambda: Function(
            lambda s, x: x.clamp(min=1e-3).pow(s.p[:, None, None]).mean((2, 3)).pow(1 / s.p),
            p=parameter(3, around=3.0),
        ),
        "gate": lambda: Function(
            lambda s, x: s.a * x.mean((2, 3)) + (1 - s.a) * x.amax((2, 3)),
            a=parameter(around=0.4, spread=0.1),
        ),
        "squashed gate": lambda: Function(
            lambda s, x: torch.lerp(x.mean((2, 3)), 3 * x.amax((2, 3)), torch.sigmoid(s.a)),
            a=parameter(3),
        ),
        "temperature": lambda: Function(
            lambda s, x: (x.amax((2, 3)) / s.t.exp()).softmax(1), t=parameter(around=-1.0)
        ),
        "threshold": lambda: Function(
            lambda s, x: torch.sigmoid((x - s.t) * 5).mean((2, 3)), t=parameter(around=0.5)
        ),
    },
    "numbers of several": {
        "softmax": scaled(lambda p: p.softmax(0)),
        "share": scaled(lambda p: p / p.abs().sum()),
        "running sum": scaled(lambda p: p.cumsum(0).flip(0)),
        "used twice": scaled(lambda p: p * p.roll(1, 0) + p.mean()),
        "sorted": scaled(lambda p: p.sort().values),
        "indexed": scaled(lambda p: p[[2, 0, 1]] + p[1]),
        "stacked": scaled(lambda p: torch.stack([p, 1 - p]).amax(0)),
        "triangle": scaled(lambda p: torch.tril(torch.outer(p, p)).sum(0)),
    },
    "types": {
        "doubled": lambda: Function(
            lambda s, x: x.mean((2, 3)) * s.p.double().exp().float(), p=parameter(around=0.5)
        ),
        "halved": scaled(lambda p: p.half().float()),
        "brain float": scaled(lambda p: p.bfloat16().float()),
        "kept in double": lambda: Function(
            lambda s, x: x.mean((2, 3)) / s.p.float(), p=nn.Parameter(torch.rand(3).double() + 0.5)
        ),
        "buffer and weight": lambda: with_buffers(
            Function(lambda s, x: x.mean((2, 3)) * (s.p * s.b + s.b.exp()), p=parameter(3)),
            b=torch.rand(3),
        ),
        "batch-norm by hand": lambda: with_buffers(
            Function(
                batch_norm_by_hand, weight=parameter(3, around=1.0), bias=parameter(3), eps=1e-5
            ),
            **statistics(3),
        ),
        "batch-norm in the weights": lambda: with_buffers(
            Function(
                batch_norm_in_the_weights,
                w=parameter(4, 3, 3, 3),
                gain=parameter(4, around=1.0),
                bias=parameter(4),
            ),
            **statistics(4),
        ),
    },
    "convolutions": {
        "standardised": convolved(standardised),
        "of length 1": convolved(lambda w: F.normalize(w.flatten(1)).view_as(w)),
        "absolute": convolved(torch.abs),
        "transposed": convolved(lambda w: w.transpose(2, 3) * torch.arange(3.0)),
        "flipped": convolved(lambda w: w.flip((2, 3)) * torch.arange(9.0).view(3, 3)),
        "running sum": convolved(lambda w: w.cumsum(1)),
        "einsum": convolved(lambda w: torch.einsum("oihw,pi->ophw", w, w.mean((2, 3)))[:, :3]),
        "binary": convolved(binary_weights),
        "softmax": convolved(lambda w: w.flatten(2).softmax(-1).view_as(w) * torch.arange(3.0)),
        "both signs": convolved(lambda w: torch.cat([w, -w.relu()])),
    },
    "shapes of weights": {
        "reshaped": convolved(lambda w: w.reshape(4, 3, 3, 3), 12, 9),
        "permuted": convolved(lambda w: w.permute(3, 2, 0, 1), 3, 3, 3, 4),
        "sliced": convolved(lambda w: w[1:, :3, ::2, ::2] + w[:-1, 1:, 1:4, 1:4], 5, 4, 5, 5),
        "repeated": convolved(lambda w: w.expand(4, 3, -1, -1) * torch.arange(3.0), 1, 1, 3, 3),
        "outer product": lambda: Function(
            lambda s, x: F.conv2d(x, torch.outer(s.a, s.b).expand(2, 3, 3, 3)).mean((2, 3)),
            a=parameter(3),
            b=parameter(3),
        ),
        "masked": lambda: with_buffers(
            Function(lambda s, x: F.conv2d(x, s.w * s.mask).mean((2, 3)), w=parameter(4, 3, 3, 3)),
            mask=torch.ones(3, 3).tril(),
        ),
        "generated": lambda: Function(
            lambda s, x: F.conv2d(x, torch.tanh(s.z @ s.g).view(4, 3, 3, 3)).mean((2, 3)),
            z=parameter(2),
            g=parameter(2, 108),
        ),
        "of a width": lambda: Function(blurred, width=parameter(around=1.0, spread=0.1)),
        "to and fro": lambda: Function(to_and_fro, w=parameter(4, 3, 3, 3)),
    },
    "products and mixtures": {
        "low rank": lambda: Function(
            lambda s, x: x.mean((2, 3)) @ (s.u @ s.v), u=parameter(3, 2), v=parameter(2, 4)
        ),
        "cosines": lambda: Function(cosines, w=parameter(4, 3), t=parameter()),
        "mixed kernels": lambda: Function(
            mixed_kernels, w=parameter(3, 4, 3, 3, 3), mix=parameter(3)
        ),
        "mixed branches": lambda: Function(mixed_branches, mix=parameter(3)),
        "positions": lambda: Function(positions, p=parameter(3, 3, 3)),
        "table": lambda: with_buffers(
            Function(tokens, table=parameter(5, spread=2.0)),
            index=torch.randint(0, 5, (36, 36), generator=torch.Generator().manual_seed(0)),
        ),
    },
    "parametrizations": {
        "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
        "symmetric": symmetric,
    },
}


class Together(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = nn.ModuleDict({name.replace(" ", "_"): part for name, part in parts.items()})

    def forward(self, x):
        return torch.cat([part(x).flatten(1) for part in self.parts.values()], 1)


@pytest.mark.parametrize("kind", DERIVED)
def test_what_is_computed_from_weights_is_computed_of_the_newest(kind):
    torch.manual_seed(0)
    network = Together({name: build() for name, build in DERIVED[kind].items()}).eval()
    graph, X = NetworkGraph(network, SHAPE), patches()
    found = of_torch(network, X)
    tensors = named_tensors(network)
    weights = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    for k, name in enumerate([*weights, ""]):
        before = found
        move([tensors[name]] if name else tensors.values(), seed=k)
        graph.refresh(network)
        wanted, found = of_torch(network, X), run(graph, X)
        assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=name)
        changed = np.abs(wanted - before).max(axis=0)
        assert changed.max() > 1e-3, f"{name} does not matter"
    assert (changed > 1e-3).all(), "every output has followed"


def older_norms():
    conv = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(conv, nn.utils.spectral_norm(nn.Conv2d(4, 4, 3)), nn.Flatten())


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_what_a_network_keeps_and_does_not_use_may_change_while_it_predicts():
    torch.manual_seed(0)
    network, X = older_norms().eval(), patches()
    before = of_torch(network, X)
    graph = NetworkGraph(network, SHAPE)
    move([tensor for name, tensor in named_tensors(network).items() if not name.endswith("weight")])
    graph.refresh(network)
    wanted = of_torch(network, X)
    assert_allclose(run(graph, X), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(wanted - before).max() > 1e-3


def test_what_the_exporter_does_not_know_is_written_as_what_it_knows():
    def forward(s, x):
        x = s.conv(x).clamp(-0.25, 1)
        pooled = F.adaptive_max_pool2d(x, (4, 3)), F.adaptive_max_pool2d(x, (None, 2))
        return torch.cat([one.flatten(1) for one in pooled], 1)

    network, X = Function(forward, conv=nn.Conv2d(3, 4, 2)).eval(), patches()
    graph = NetworkGraph(network, SHAPE)
    assert_allclose(run(graph, X), of_torch(network, X), rtol=1e-4, atol=1e-5)


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


def where_the_largest_lie(s, x):
    return F.adaptive_max_pool2d(x, 4, return_indices=True)[1].flatten(1) * s.p


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (centred_on_the_batch, "depend on the other patches|differ from the network's"),
        (by_the_number_of_patches, "number of patches|depend on the other patches|differ from"),
        (random_each_time, "depend on the other patches|differ from the network's"),
        (counting, "changes its own calls while it predicts"),
        (counting_in_a_buffer, "changes its own n while it predicts|depend on the other patches"),
        (never_a_number, "not finite"),
        (by_its_values, r"cannot be exported .* goes on by the values of a tensor"),
        (double_convolution, "ONNX Runtime cannot run the network"),
        (where_the_largest_lie, "differ from the network's"),
        (of_data, r"Use the parameter itself instead of its \.data"),
        (of_data_of_a_buffer, r"reaches a tensor by \.data in its forward"),
        (of_data_of_patches, r"reaches a tensor by \.data in its forward"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_graph_cannot_be_is_refused_with_the_reason(function, reason, capfd):
    network = Function(
        function, p=nn.Parameter(torch.tensor(1.5)), w=torch.rand(3, 3, 2, 2), calls=0
    )
    network.register_buffer("n", torch.tensor(1.0))
    with pytest.raises(ExportError, match=reason):
        NetworkGraph(network.eval(), SHAPE)
    assert network.calls == 0
    assert network.n == 1
    assert capfd.readouterr() == ("", ""), "torch prints nothing of its own"


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
