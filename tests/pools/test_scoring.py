"""Pools of files go wherever arrays go; what cannot be read has no score and is never asked for."""

import numpy as np
import pytest
from fakes import Pixels
from numpy.testing import assert_array_equal
from PIL import Image
from samples import make_blobs
from sklearn.linear_model import LogisticRegression
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier
from aift_sklearn.errors import DataError
from aift_sklearn.onnx import OnnxScorer
from aift_sklearn.pools import ArrayPool, ImageFolder
from aift_sklearn.query import aift_sampling, random_sampling

X, Y = make_blobs(60)


@pytest.fixture
def folder(tmp_path):
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{k:02}.png")
    return tmp_path


@pytest.fixture(scope="module")
def classifier():
    patches = AffinePatches.for_microscopy(n_patches=3, size=8)
    return AIFTClassifier(Pixels(C=0.1), patches=patches).fit(X[:20], Y[:20])


def small_network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())


@pytest.fixture(scope="module")
def scorer():
    cnn = CNNClassifier(small_network, pretrained=False, max_epochs=2, lr=0.01, random_state=0)
    classifier = AIFTClassifier(cnn, patches=AffinePatches(3), random_state=0)
    return OnnxScorer(classifier.fit(X[:20], Y[:20]))


def cut_short(pool, *rows):
    for row in rows:
        path = pool.paths[row]
        path.write_bytes(path.read_bytes()[:-60])


def test_a_classifier_predicts_and_scores_a_pool_as_an_array(folder, classifier):
    pool = ImageFolder(folder)
    assert_array_equal(classifier.predict_patch_proba(pool), classifier.predict_patch_proba(X))
    assert_array_equal(classifier.score_candidates(pool), classifier.score_candidates(X))
    found, scores = classifier.top_candidates(pool, 5)
    expected, their_scores = classifier.top_candidates(X, 5, racing=False)
    assert_array_equal(found, expected)
    assert_array_equal(scores, their_scores)


def test_what_cannot_be_read_has_no_score_and_is_not_among_the_best(folder, scorer):
    pool = ImageFolder(folder)
    best = scorer.score(pool)[0].argsort()[::-1]
    cut_short(pool, *best[:2])
    scores, proba = scorer.score(pool)
    bad = np.zeros(60, dtype=bool)
    bad[best[:2]] = True
    assert_array_equal(np.isnan(scores), bad)
    assert_array_equal(np.isnan(proba).all(axis=1), bad)
    assert sorted(pool.broken) == sorted(pool.ids[best[:2]])
    assert_array_equal(scorer.top(pool, 3)[0], best[2:5])
    with pytest.raises(DataError, match="2 of 60 candidates cannot be read"):
        scorer.top(pool, 59)


def test_scores_that_were_kept_remember_what_could_not_be_read(folder, scorer, tmp_path_factory):
    kept_in = tmp_path_factory.mktemp("scores")
    pool = ImageFolder(folder)
    cut_short(pool, 7)
    first, _ = scorer.score(pool, kept_in)
    again = ImageFolder(folder)
    kept, _ = scorer.score(again, kept_in)
    assert_array_equal(kept, first)
    assert np.flatnonzero(np.isnan(kept)).tolist() == [7]
    assert not again.broken


@pytest.mark.parametrize("strategy", [aift_sampling, random_sampling])
def test_a_learner_asks_a_pool_as_it_asks_an_array(folder, classifier, strategy):
    learner = AIFTLearner(classifier, strategy)
    pool = ImageFolder(folder)
    rows, images = learner.query(pool, n_instances=6, random_state=0)
    expected, _ = learner.query(X, n_instances=6, random_state=0)
    assert_array_equal(rows, expected)
    assert_array_equal(images, X[rows])


def test_a_learner_never_asks_for_what_turns_out_to_be_broken(folder, classifier):
    learner = AIFTLearner(classifier)
    pool = ImageFolder(folder)
    asked, _ = learner.query(pool, n_instances=6, random_state=0)
    cut_short(pool, *asked[:3])
    groups = np.arange(60) // 2
    again, images = learner.query(pool, n_instances=6, groups=groups, random_state=0)
    assert set(pool.broken) == set(pool.ids[asked[:3]])
    sound = np.setdiff1d(np.arange(60), asked[:3])
    rows, _ = learner.query(X[sound], n_instances=6, groups=groups[sound], random_state=0)
    assert_array_equal(again, sound[rows])
    assert_array_equal(images, X[again])
    with pytest.raises(DataError, match="groups"):
        learner.query(pool, n_instances=6, groups=groups[:9])


def test_labels_stand_for_what_can_be_read_of_a_pool(folder):
    pool = ImageFolder(folder)
    cut_short(pool, 3, 40)
    patches = AffinePatches.for_microscopy(n_patches=2, size=8)
    learners = []
    sound = np.setdiff1d(np.arange(60), [3, 40])
    for whole in (pool, X[sound]):
        learner = AIFTLearner(AIFTClassifier(Pixels(), patches=patches), pool_weights=True)
        learner.set_pool(whole).teach(X[10:20], Y[10:20])
        learners.append(learner)
    assert_array_equal(*(learner.estimator.memory_.sample_weight for learner in learners))


def test_a_network_reads_a_pool_and_embeds_it(folder):
    cnn = CNNClassifier(trainable="head", max_epochs=1, random_state=0)
    classifier = AIFTClassifier(cnn, patches=AffinePatches(2), random_state=0)
    pool = ImageFolder(folder, size=16)
    assert_array_equal(classifier.embed(pool), classifier.embed(X))


def test_features_of_a_pool_are_told_apart_from_images(folder):
    classifier = AIFTClassifier(LogisticRegression(C=1e-3)).fit(X[:, 0, 0] / 255, Y)
    with pytest.raises(DataError, match="images"):
        classifier.predict(ImageFolder(folder))


def test_a_candidate_has_a_file_also_in_a_part_of_a_pool(folder):
    pool = ImageFolder(folder)
    assert pool.path_of("07.png") == folder / "07.png"
    assert pool[np.arange(60) > 5].path_of("07.png") == folder / "07.png"
    with pytest.raises(
        DataError, match=r"not in the pool .*: nine.png. Expected ids such as '00.png'"
    ):
        pool.path_of("nine.png")
    with pytest.raises(DataError, match="'000003' has no file of its own: it is number 3"):
        ArrayPool(X).path_of("000003")
