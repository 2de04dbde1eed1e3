"""The README's code runs, and its claims about the project hold."""

import re
from pathlib import Path

import numpy as np
import pytest
from samples import make_blobs
from scipy import stats

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier
from aift_sklearn.errors import ParameterError
from aift_sklearn.study import open_dataset, read_table
from aift_sklearn.study.report import headline

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def lines_of(block):
    return [line for line in block.splitlines() if line.strip() and not line.startswith("#")]


def test_the_examples_are_as_short_as_promised():
    assert len(BLOCKS) == 4
    assert len(lines_of(BLOCKS[0])) <= 15
    assert len(lines_of(BLOCKS[1])) <= 10
    assert len(lines_of(BLOCKS[2])) <= 5
    assert len(lines_of(BLOCKS[3])) <= 5


@pytest.mark.parametrize(
    ("n", "batches"), [(45, [20, 20, 5]), (40, [20, 20]), (7, [7]), (105, [20] * 5)]
)
def test_the_active_learning_example_ends_well_whatever_the_pool_holds(n, batches):
    images, _ = make_blobs(n, size=32)
    X_test, _ = make_blobs(20, seed=1, size=32)
    asked = []

    def expert(images):
        asked.append(len(images))
        bright = images.reshape(len(images), -1).max(axis=1) > 130
        return np.where(bright, "malignant", "benign")

    names = {"X_pool": images, "X_test": X_test, "ask_expert": expert}
    # A network of one step per round: what is tried is the loop.
    quick = BLOCKS[0].replace("class_weight=", 'trainable="head", max_epochs=1, class_weight=')
    exec(quick.replace("n_patches=8", "n_patches=2"), names)
    assert asked == batches
    assert len(names["X_pool"]) == n - sum(batches)
    assert names["proba"].shape == (20, 2)


def test_the_active_learning_example_runs_as_printed():
    images, _ = make_blobs(6, size=32)
    names = {"X_pool": images, "X_test": images[:3], "ask_expert": lambda X: ["benign"] * len(X)}
    exec(BLOCKS[0], names)
    assert names["learner"].y_training.tolist() == ["benign"] * 6


def test_the_pipeline_example_runs():
    X, y = make_blobs(40, size=32)
    names = {"X": X, "y": y, "groups": np.arange(40) // 4}
    exec(BLOCKS[1], names)
    assert len(names["accuracy"]) == 3


def test_the_saving_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = make_blobs(40, size=32)
    learner = AIFTLearner(
        AIFTClassifier(CNNClassifier(trainable="head", max_epochs=1), patches=AffinePatches(2))
    )
    learner.teach(X[:10], y[:10])
    names = {"learner": learner, "X_pool": X[10:]}
    exec(BLOCKS[2], names)
    assert len(names["indices"]) == 20
    assert names["learner"] is not learner


def test_the_scoring_example_runs(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="the extra cpu is not installed")
    monkeypatch.chdir(tmp_path)
    X, y = make_blobs(40, size=32)
    cnn = CNNClassifier(trainable="head", max_epochs=1)
    learner = AIFTLearner(AIFTClassifier(cnn, patches=AffinePatches(2)))
    learner.teach(X[:10], y[:10])
    names = {"learner": learner, "pool": X}
    exec(BLOCKS[3], names)
    assert len(names["indices"]) == 20
    np.testing.assert_array_equal(names["scores"][names["indices"]], names["best"])
    assert (tmp_path / "model.onnx").exists()


def test_every_kind_of_data_that_is_promised_is_told_apart():
    kinds = re.findall(r"^\| `([^`]+)` \| ", README, flags=re.MULTILINE)
    sources = [kind for kind in kinds if not kind.startswith(("aift", "--"))]
    assert sources == [
        "tissue", "fundus", "FILE.npz", "medmnist:NAME", "FOLDER", "FILE.csv", "boxes:FOLDER"
    ]  # fmt: skip
    with pytest.raises(ParameterError) as caught:
        open_dataset("nothing such")
    assert all(source in str(caught.value) for source in sources)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_the_two_commands_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_modal_is_called_by_the_name_that_installs_it():
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text("utf-8")):
        assert not re.search("pip install modal(?!-python)", text.lower())
    assert "modAL-python" in README


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("blood-cells-frozen", "balanced_accuracy"),
        ("blood-cells-fine-tuned", "balanced_accuracy"),
        ("tissue", "auc"),
    ],
)
def test_findings_are_those_of_the_kept_tables_with_their_t_intervals(name, metric):
    table = read_table(ROOT / "docs" / "data" / f"{name}.jsonl")
    assert headline(table, metric=metric) in README
    area = {
        key: np.sum((run[metric] + run[metric].shift()) / 2 * run["n_labels"].diff())
        / np.ptp(run["n_labels"])
        for key, run in table.sort_values("round").groupby(["strategy", "seed"])
    }
    seeds = table["seed"].unique()
    difference = [area["AIFT", seed] - area["random", seed] for seed in seeds]
    interval = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    told = re.search(r"95 % interval (\S+) to (\S+), (\d+) paired", headline(table, metric=metric))
    ends = [float(end.replace("−", "-")) for end in told.groups()[:2]]
    assert ends == pytest.approx(list(interval), abs=0.0006)
    assert int(told[3]) == len(difference)
