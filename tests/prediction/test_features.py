"""Candidates are embedded by the network there is, or by the pre-trained one, built once."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, CNNFeatures, JitterPatches
from aift_sklearn.errors import ModelNotFittedError
from aift_sklearn.prediction import as_features
from aift_sklearn.scanning.model import PatchModel

X, Y = make_blobs(12, size=20)
TABLE = np.random.default_rng(0).normal(size=(12, 4))


class OnDisk:
    """A pool that notes how many candidates are read."""

    def __init__(self, X):
        self.X, self.shape, self.dtype, self.n_read = X, X.shape, X.dtype, 0

    def __getitem__(self, key):
        self.n_read += len(self.X[key])
        return self.X[key]


def model_of(estimator, patches, pool):
    n_features = pool.shape[1 if pool.ndim == 2 else -3]
    return PatchModel(estimator, patches, np.empty(0), pool.ndim, n_features)


POOLS = {
    "images": (nn.Conv2d(3, 6, 5), AffinePatches(1).fit(X), X),
    "patches": (nn.Conv2d(3, 6, 5), None, np.stack([X, 255 - X], axis=1)),
    "features": (nn.Linear(4, 6), JitterPatches(1).fit(TABLE), TABLE),
}


@pytest.mark.parametrize("kind", POOLS)
def test_before_the_first_label_one_candidate_shows_what_the_network_will_see(kind):
    backbone, patches, X = POOLS[kind]
    model = model_of(CNNClassifier(backbone, batch_size=5, device="cpu"), patches, X)
    pool = OnDisk(X)
    found = as_features(model, pool)
    assert pool.n_read == 1
    features = found.estimator
    assert isinstance(features, CNNFeatures)
    assert hasattr(features, "module_")
    assert features.backbone is backbone
    assert (features.batch_size, features.device) == (5, "cpu")
    assert (found.patches, found.n_dims) == (patches, X.ndim)


def test_before_the_first_label_the_pre_trained_network_embeds():
    linear, images = nn.Linear(4, 6), nn.Conv2d(3, 6, 5)
    with torch.no_grad():
        expected = linear(torch.from_numpy(TABLE).float()).numpy()
    found = AIFTClassifier(CNNClassifier(linear), patches=JitterPatches(3)).embed(TABLE)
    assert_allclose(found, expected, atol=1e-5)
    patches = AffinePatches(3)
    found = AIFTClassifier(CNNClassifier(images), patches=patches, backend="torch").embed(X)
    whole = patches.fit(X).transform(X)[:, 0]
    assert_array_equal(found, CNNFeatures(images).fit_transform(whole))


def test_what_has_learnt_embeds_itself():
    cnn = CNNClassifier(nn.Conv2d(3, 6, 5), max_epochs=1, lr=0.1)
    model = AIFTClassifier(cnn, patches=AffinePatches(2), backend="torch", random_state=0)
    before = model.embed(X)
    model.fit(X, Y)
    parts = PatchModel.from_classifier(model)
    assert as_features(parts, X) is parts
    whole = model.patches_.transform(X)[:, 0]
    assert_allclose(model.embed(X), model.estimator_.embed(whole), atol=1e-6)
    assert np.abs(model.embed(X) - before).max() > 1e-3


def test_a_network_that_is_not_pre_trained_embeds_nothing_before_the_first_label():
    cnn = CNNClassifier(nn.Conv2d(3, 6, 5), pretrained=False)
    model = model_of(cnn, AffinePatches(2).fit(X), X)
    assert as_features(model, X) is model
    with pytest.raises(ModelNotFittedError):
        AIFTClassifier(cnn, patches=AffinePatches(2)).embed(X)


def test_an_estimator_of_another_package_embeds_itself():
    class Halves(LogisticRegression):
        def embed(self, X):
            return X / 2

    model = model_of(Halves(), JitterPatches(2).fit(TABLE), TABLE)
    assert as_features(model, TABLE) is model
