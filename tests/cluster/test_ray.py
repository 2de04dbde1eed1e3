"""Scoring on Ray: the scores of one machine, whatever the blocks and workers."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from samples import make_blobs
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, cluster
from aift_sklearn import score_pool as score_here
from aift_sklearn.batch_scoring import pack_model
from aift_sklearn.cluster import places, pools
from aift_sklearn.cluster.places import connected, find_places
from aift_sklearn.cluster.workers import ReadRows, ScoreBatches
from aift_sklearn.errors import DataError, NonFiniteOutputError, ParameterError
from aift_sklearn.onnx import OnnxScorer
from aift_sklearn.pools import ArrayPool, ImageFolder
from aift_sklearn.pools.array_layout import plan_layout

ray = pytest.importorskip("ray", reason="Ray is an extra")
# Ray's own.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"
)

X, Y = make_blobs(60)


@pytest.fixture(scope="module")
def classifier():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    cnn = CNNClassifier(network, pretrained=False, max_epochs=2, lr=0.01, random_state=0)
    return AIFTClassifier(cnn, patches=AffinePatches(3), random_state=0).fit(X[:20], Y[:20])


@pytest.fixture(scope="module")
def running():
    """A Ray of two cores on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "count_threads", lambda: 2)
        with connected(None):
            # What stands here is no module that workers could import.
            ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
            ray.data.DataContext.get_current().enable_progress_bars = False
            yield


@pytest.mark.parametrize(("block", "shard", "actors"), [(2**24, 60, 1), (4000, 13, 2)])
def test_the_table_is_that_of_one_machine(
    block, shard, actors, classifier, running, tmp_path, monkeypatch
):
    monkeypatch.setattr(pools, "_BLOCK_BYTES", block)
    (tmp_path / "images").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:02}.png")
    path = tmp_path / "images" / "07.png"
    path.write_bytes(path.read_bytes()[:-60])
    pool = ImageFolder(tmp_path / "images", groups="folder")
    how = {"shard_size": shard, "embeddings": True}
    expected = score_here(
        ImageFolder(path.parent, groups="folder"), classifier, tmp_path / "a", **how
    )
    table = cluster.score_pool(pool, classifier, tmp_path / "b", actors=actors, **how)
    assert table.read().equals(expected.read())
    assert table.broken() == expected.broken() == pool.broken


def test_what_one_machine_began_goes_on_on_ray(classifier, running, tmp_path):
    expected = score_here(X, classifier, tmp_path, shard_size=10).read()
    kept = sorted(tmp_path.glob("*.parquet"))
    for path in kept[2:]:
        path.unlink()
    then = [path.stat().st_mtime_ns for path in kept[:2]]
    table = cluster.score_pool(ArrayPool(X), classifier, tmp_path)
    assert table.read().equals(expected)
    assert [path.stat().st_mtime_ns for path in kept[:2]] == then


def test_datasets_keep_their_columns_and_have_the_same_best(classifier, running):
    rows = [{"id": f"c{k:02}", "n": k, "image": X[k].transpose(1, 2, 0)} for k in range(60)]
    dataset = ray.data.from_items(rows, override_num_blocks=7)
    scores, proba = OnnxScorer(classifier, alpha=0.5).score(X)
    how = {"alpha": 0.5, "actors": 1}
    scored = cluster.score_dataset(dataset, classifier, keep=("id", "n"), **how).take_all()
    assert sorted(scored[0]) == ["id", "n", "proba", "score"]
    scored.sort(key=lambda row: row["n"])
    assert [row["id"] for row in scored] == [f"c{k:02}" for k in range(60)]
    assert_array_equal([row["score"] for row in scored], scores)
    assert_array_equal([row["proba"] for row in scored], proba)
    keys, best = cluster.top_dataset(dataset, classifier, 9, **how)
    expected, their_scores = OnnxScorer(classifier, alpha=0.5).top(X, 9, racing=False)
    assert keys.tolist() == [f"c{k:02}" for k in expected]
    assert_array_equal(best, their_scores)
    with pytest.raises(DataError, match="asked for n_instances=61 of a pool of 60"):
        cluster.top_dataset(dataset, classifier, 61, **how)


def test_actors_that_would_starve_the_readers_are_refused(classifier, running, tmp_path):
    for options, message in [
        ({"actors": 2, "num_cpus": 1}, r"actors=2 of num_cpus=1 .* would leave no room .* most 1"),
        ({"num_cpus": 2}, r"num_cpus=2 and num_gpus=0 has no room in a cluster of 2 cores"),
        ({"num_gpus": 1}, r"num_gpus=1 has no room .* and 0 GPUs"),
        ({"actors": 0}, "actors=0"),
        ({"num_cpus": -1}, "num_cpus=-1"),
    ]:
        with pytest.raises(ParameterError, match=message):
            find_places(**options)
        with pytest.raises(ParameterError, match=message):
            cluster.score_pool(X, classifier, tmp_path, **options)
    assert find_places().actors == 2
    assert find_places(num_cpus=0.1).actors == 2
    assert find_places(actors=1, num_cpus=1.75).num_cpus == 1.75
    assert not list(tmp_path.glob("*.parquet"))


def test_columns_that_are_missing_are_named(classifier, running):
    dataset = ray.data.from_items([{"name": "a", "image": X[0]}])
    with pytest.raises(DataError, match=r"columns \['image', 'name'\]; expected id among them"):
        cluster.score_dataset(dataset, classifier)
    with pytest.raises(DataError, match=r"the model was fitted .* 3 channels"):
        cluster.score_dataset(dataset.rename_columns({"name": "id"}), classifier, channels="last")


def test_a_connection_that_stands_is_used_and_kept(running):
    with connected(None):
        assert ray.is_initialized()
    assert ray.is_initialized()
    with (
        pytest.raises(ParameterError, match="is connected to Ray already"),
        connected("192.0.2.77:1"),
    ):
        pass


class Gaps(ArrayPool):
    """A pool of which two candidates cannot be read, or can again."""

    gaps = (4, 7)

    def _read_all(self, rows):
        images, _ = super()._read_all(rows)
        broken = {k: "no such file" for k, row in enumerate(rows.tolist()) if row in self.gaps}
        images[list(broken)] = 0
        return images, broken


def scoring_of(classifier, keep, layout=None, embeddings=False, image="__image"):
    shipped = pack_model(classifier, X.shape[1:])
    where = "CPUExecutionProvider", "float32"
    return ScoreBatches(lambda: shipped, image, keep, layout, embeddings, *where)


def test_workers_read_and_score_what_can_be_read(classifier, monkeypatch):
    monkeypatch.setattr(ray, "get", lambda held: held())
    pool = Gaps(X, ids=[f"c{k}" for k in range(60)])
    (block,) = ReadRows(lambda: pool)({"data": np.array([[2, 7]])})
    assert block["__row"].tolist() == [2, 3, 4, 5, 6]
    assert_array_equal(np.delete(block["__image"], 2, 0), X[[2, 3, 5, 6]])
    assert block["__broken"].tolist() == ["", "", "no such file", "", ""]
    scoring = scoring_of(classifier, ("__row", "__broken"), embeddings=True)
    scored = scoring(block)
    expected = OnnxScorer(classifier).score(X)[0][2:7]
    expected[2] = np.nan
    assert_array_equal(scored["score"], expected)
    assert np.isnan(scored["proba"][2]).all()
    assert scored["embedding"].shape == (5, 8)
    (block,) = ReadRows(lambda: pool)({"data": np.array([[7, 8]])})
    assert np.isnan(scoring(block)["score"]).all()
    assert scoring({"__image": X[:0], "__row": [], "__broken": []}) == {}


def test_what_was_mended_has_a_score_and_no_reason(classifier, running, tmp_path):
    pool = Gaps(X)
    table = cluster.score_pool(pool, classifier, tmp_path, shard_size=6)
    assert table.broken() == pool.broken == {"000004": "no such file", "000007": "no such file"}
    pool.gaps = (7,)
    kept = sorted(tmp_path.glob("*.parquet"))[2:]
    then = [path.stat().st_mtime_ns for path in kept]
    table = cluster.score_pool(pool, classifier, tmp_path)
    assert sorted(table.broken()) == ["000004", "000007"]
    table = cluster.score_pool(pool, classifier, tmp_path, retry_broken=True)
    assert table.broken() == pool.broken == {"000007": "no such file"}
    assert table.read()["score"].null_count == 1
    assert [path.stat().st_mtime_ns for path in kept] == then


def test_a_pool_that_workers_cannot_open_is_told(classifier, running, tmp_path):
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    try:
        with pytest.raises(DataError, match=r"a worker cannot open the pool .* No module named"):
            cluster.score_pool(Gaps(X), classifier, tmp_path)
    finally:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_what_fails_in_a_worker_is_told_as_here(classifier, running, tmp_path):
    pool = Gaps(X, strict=True)
    # No one that is looked at before.
    pool.gaps = (4,)
    with pytest.raises(DataError) as told:
        cluster.score_pool(pool, classifier, tmp_path)
    assert str(told.value) == "000004 cannot be read: no such file."
    assert type(told.value) is DataError
    floats = X.astype(np.float32) / 255
    floats[30] = np.nan
    with pytest.raises(DataError, match="NaN") as told:
        cluster.score_pool(floats, classifier, tmp_path / "floats")
    assert "ray" not in str(told.value).lower()


def test_a_candidate_whose_score_is_not_finite_is_named(classifier, monkeypatch):
    monkeypatch.setattr(ray, "get", lambda held: held())

    class Whole:
        def score_into(self, images, sink, **how):
            raise NonFiniteOutputError("the model gives NaN.", index=2)

    layout = plan_layout((1, 16, 16, 3), np.dtype(np.uint8), "last")
    scoring = scoring_of(classifier, ("id", "__row"), layout, image="picture")
    scoring.whole = Whole()
    batch = {"picture": X.transpose(0, 2, 3, 1), "id": np.array([f"c{k}" for k in range(60)])}
    with pytest.raises(NonFiniteOutputError, match="for the candidate of id c2, row 102, and"):
        scoring(batch | {"__row": np.arange(100, 160)})


def test_columns_of_results_are_not_handed_on(classifier, running):
    dataset = ray.data.from_items([{"id": "a", "image": X[0], "broken": "no"}])
    with pytest.raises(ParameterError, match="and score is a column of the results"):
        cluster.score_dataset(dataset, classifier, keep=("id", "score"))
    (row,) = cluster.score_dataset(dataset, classifier, keep=("id", "broken")).take_all()
    assert row["broken"] == "no"
    assert row["score"] == OnnxScorer(classifier).score(X[:1])[0][0]
    with pytest.raises(DataError, match="the dataset is empty"):
        cluster.score_dataset(dataset.limit(0), classifier)
