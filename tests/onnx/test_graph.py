"""The exported graph predicts as the network does, and its weights are replaced bit for bit."""

import copy
import functools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from aift_sklearn.errors import ExportError
from aift_sklearn.networks.backbones import Backbone, build_backbone
from aift_sklearn.networks.network import Network

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

from aift_sklearn.onnx import NetworkGraph, open_session

SHAPE = (3, 16, 16)


def plain():
    return nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU6())


def normed():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.BatchNorm2d(6, affine=False),
        nn.SiLU(),
    )


class Residual(nn.Module):
    """A skip connection, and a batch-norm that no convolution feeds."""

    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.down = nn.Conv2d(3, 5, 1)

    def forward(self, x):
        x = self.first(x)
        return self.down(torch.relu(self.norm(self.conv(x)) + x))


class Shared(nn.Module):
    """A convolution whose output is used besides its batch-norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + x


BODIES = {"plain": plain, "normed": normed, "residual": Residual, "shared": Shared}


def build(body, n_classes=3, seed=0):
    torch.manual_seed(seed)
    backbone = Backbone(body(), in_channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    backbone.measure(torch.rand(1, *SHAPE))
    return Network(backbone, n_classes).eval()


def shake(network, seed):
    """Change every parameter and every statistic."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.add_(0.2 * noise + 0.01)
    return network


def logits(graph, X):
    session = open_session(graph.to_bytes(), providers="CPUExecutionProvider", n_threads=1)
    return session.run(None, {"patches": X})[0]


def of_torch(network, X):
    with torch.no_grad():
        return network(torch.from_numpy(X)).numpy()


def patches(n, shape=SHAPE):
    return np.random.default_rng(n).random((n, *shape)).astype(np.float32)


@pytest.fixture(scope="module")
def exported():
    """Network and graph of each body, to read from."""

    @functools.cache
    def export(name):
        network = shake(build(BODIES[name]), 0)
        return network, NetworkGraph(network, SHAPE)

    return export


@pytest.mark.parametrize("name", BODIES)
def test_the_graph_predicts_as_torch_does_for_any_number_of_patches(name, exported):
    network, graph = exported(name)
    for n in (1, 2, 7):
        X = patches(n)
        assert_allclose(logits(graph, X), of_torch(network, X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BODIES)
def test_refreshed_weights_are_those_of_a_fresh_export_bit_for_bit(name):
    # Freshly made: its head is zero, and so is many a bias.
    network = build(BODIES[name])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    floating = [key for key, value in before.items() if value.is_floating_point()]
    X = patches(5)
    graphs = [NetworkGraph(network, SHAPE)]
    at_first = logits(graphs[0], X)
    for seed in (1, 2):
        shake(network, seed)
        changed = [
            key for key, value in network.state_dict().items() if (value != before[key]).all()
        ]
        assert changed == floating
        fresh = NetworkGraph(network, SHAPE)
        expected = logits(fresh, X)
        assert_allclose(expected, of_torch(network, X), rtol=1e-4, atol=1e-4)
        for graph in graphs:
            assert np.abs(expected - logits(graph, X)).max() > 1e-3
            graph.refresh(network)
            assert_array_equal(logits(graph, X), expected)
        graphs.append(fresh)
    network.load_state_dict(before)
    for graph in graphs:
        graph.refresh(network)
        assert_array_equal(logits(graph, X), at_first)


def test_each_tensor_alone_reaches_the_graph():
    network = shake(build(normed), 0)
    graph = NetworkGraph(network, SHAPE)
    X = patches(4)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            with torch.no_grad():
                tensor.mul_(1.3)
            graph.refresh(network)
            assert_allclose(
                logits(graph, X), of_torch(network, X), rtol=1e-4, atol=1e-4, err_msg=name
            )


def test_the_network_is_left_alone():
    network = shake(build(normed), 0)
    before = copy.deepcopy(network)
    NetworkGraph(network, SHAPE)
    assert all(
        torch.equal(a, b)
        for a, b in zip(before.state_dict().values(), network.state_dict().values(), strict=True)
    )
    assert not network.backbone._forward_hooks


def test_the_default_backbone_is_exported_without_its_imagenet_head_and_refreshed():
    backbone = build_backbone("efficientnet_lite0", pretrained=True).eval()
    backbone.measure(torch.rand(1, 3, 32, 32))
    network = Network(backbone, 2).eval()
    graph = NetworkGraph(network, (3, 32, 32))
    names = {constant.name for constant in graph.model.graph.initializer}
    assert {"network.head.weight", "network.backbone.mean", "network.backbone.std"} <= names
    assert not any(name.startswith("network.backbone.head") for name in names)
    shake(network.head, 3)
    with torch.no_grad():
        for parameter in network.backbone.body.parameters():
            parameter.mul_(1.01)
    graph.refresh(network)
    X = patches(3, (3, 32, 32))
    assert_allclose(logits(graph, X), of_torch(network, X), rtol=1e-3, atol=1e-3)


def test_another_network_is_refused_and_the_graph_stays(exported):
    network, graph = exported("normed")
    X, before = patches(2), graph.to_bytes()
    with pytest.raises(ExportError, match=r"head.* has shape \(4, 6\) .* holds \(3, 6\)"):
        graph.refresh(build(normed, n_classes=4))
    other = build(normed)
    other.backbone.body.append(nn.Conv2d(6, 6, 1))
    with pytest.raises(ExportError, match="other tensors than the graph"):
        graph.refresh(other)
    assert graph.to_bytes() == before
    assert_allclose(logits(graph, X), of_torch(network, X), rtol=1e-4, atol=1e-5)


class Odd(nn.Module):
    def forward(self, x):
        return torch.from_numpy(np.sort(x.numpy(), axis=-1))


def test_what_cannot_be_exported_says_so():
    with pytest.raises(ExportError, match="cannot be exported to ONNX"):
        NetworkGraph(nn.Sequential(nn.Conv2d(3, 3, 1), Odd()).eval(), SHAPE)
