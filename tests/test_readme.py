"""The README's code runs, and its claims about the project hold."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import make_blobs
from scipy import stats

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier
from aift_sklearn.errors import ParameterError
from aift_sklearn.study import open_dataset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
CAMPAIGN, FOLDER, LOOP, PIPELINE, SAVING, SCORING = BLOCKS


def lines_of(block):
    return [line for line in block.splitlines() if line.strip() and not line.startswith("#")]


def test_the_examples_are_as_short_as_promised():
    assert len(lines_of(LOOP)) <= 15
    assert len(lines_of(PIPELINE)) <= 10
    assert all(len(lines_of(block)) <= 5 for block in (FOLDER, SAVING, SCORING))
    assert len(lines_of(CAMPAIGN)) <= 8


def test_the_example_of_a_campaign_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, _ = make_blobs(30, size=32)
    (tmp_path / "images").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:02}.png")
    said = []

    def expert(picture):
        said.append(picture[1:4])
        return ["benign", "malignant"][len(said) % 2]

    # Frozen features and few labels: what is tried is the loop.
    quick = CAMPAIGN.replace("batch=20", 'batch=6, yardstick=6, model="features"')
    names = {"ask_expert": expert}
    exec(quick, names)
    names["campaign"].close()
    assert set(said) == {b"PNG"}
    assert len(said) == 6 + 6


def test_the_example_of_a_folder_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, _ = make_blobs(30, size=32)
    (tmp_path / "images").mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / f"{k:02}.png")
    names = {"learner": AIFTLearner(AIFTClassifier(CNNClassifier()))}
    exec(FOLDER, names)
    assert len(names["indices"]) == len(names["images"]) == 20


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
    quick = LOOP.replace("class_weight=", 'trainable="head", max_epochs=1, class_weight=')
    exec(quick.replace("n_patches=8", "n_patches=2"), names)
    assert asked == batches
    assert len(names["X_pool"]) == n - sum(batches)
    assert names["proba"].shape == (20, 2)


def test_the_active_learning_example_runs_as_printed():
    images, _ = make_blobs(6, size=32)
    names = {"X_pool": images, "X_test": images[:3], "ask_expert": lambda X: ["benign"] * len(X)}
    exec(LOOP, names)
    assert names["learner"].y_training.tolist() == ["benign"] * 6


def test_the_pipeline_example_runs():
    X, y = make_blobs(40, size=32)
    names = {"X": X, "y": y, "groups": np.arange(40) // 4}
    exec(PIPELINE, names)
    assert len(names["accuracy"]) == 3


def test_the_saving_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = make_blobs(40, size=32)
    learner = AIFTLearner(
        AIFTClassifier(CNNClassifier(trainable="head", max_epochs=1), patches=AffinePatches(2))
    )
    learner.teach(X[:10], y[:10])
    names = {"learner": learner, "X_pool": X[10:]}
    exec(SAVING, names)
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
    exec(SCORING, names)
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


def kept(name):
    """Balanced accuracy of the first setting of a study that is kept: pool → (n, seeds) tables."""
    lines = (ROOT / "docs" / "data" / name / "campaigns.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    first = [row for row in rows if row["setting"] == rows[0]["setting"]]
    pools = {}
    for row in first:
        pools.setdefault(row["pool"], {}).setdefault(row["strategy"], {})[row["seed"]] = row
    return pools


STUDIES = [path.parent.name for path in sorted(ROOT.glob("docs/data/*/campaigns.jsonl"))]


@pytest.mark.parametrize("name", STUDIES)
def test_what_is_said_to_be_saved_follows_from_the_kept_campaigns(name):
    facts = json.loads((ROOT / "docs" / "data" / name / "study.json").read_text("utf-8"))
    title = facts["title"]
    for pool, strategies in kept(name).items():
        seeds = sorted(strategies["AIFT"])

        def height(run):
            n, y = np.array(run["n_labels"]), np.array(run["balanced_accuracy"])
            return np.sum((y[1:] + y[:-1]) / 2 * np.diff(n)) / (n[-1] - n[0])

        def needed(run, level):
            reached = [n for n, y in zip(run["n_labels"], run["balanced_accuracy"], strict=True)
                       if y >= level]  # fmt: skip
            return reached[0] if reached else np.inf

        runs = {s: [strategies[s][seed] for seed in seeds] for s in ("AIFT", "random")}
        difference = np.subtract(*([*map(height, runs[s])] for s in ("AIFT", "random")))
        interval = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
        ends = [run["balanced_accuracy"][-1] for run in runs["random"]]
        ours, theirs = (
            np.array([needed(run, end) for run, end in zip(runs[s], ends, strict=True)])
            for s in ("AIFT", "random")
        )
        section = README.split(f"**{title}**")[1].split("**")[0]
        (line,) = re.findall(rf"^\| {pool}, {len(seeds)} seeds \| (.*)$", section, re.MULTILINE)
        told = [float(x.replace("−", "-")) for x in re.findall(r"[+−]\d\.\d{3}", line)[:3]]
        assert told == pytest.approx([difference.mean(), *interval], abs=0.0006)
        labels = f"{np.median(ours):g} for {np.median(theirs):g}".replace("inf", "more")
        assert line.startswith(labels)
        share = np.median(1 - ours / theirs)
        shown = f"{share:.0%}".replace("-", "−") if np.isfinite(share) else "–"
        assert f"| {shown} (" in line


def test_the_evidence_is_what_one_command_writes(tmp_path):
    """The kept campaigns give the page and the README as they stand."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    script = folder / "evidence.py"
    script.write_text((ROOT / "benchmarks" / "evidence.py").read_text("utf-8"), "utf-8")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "README.md").write_text(README, "utf-8")
    subprocess.run([sys.executable, script], check=True)
    assert (tmp_path / "README.md").read_text("utf-8") == README
    page = ROOT / "docs" / "evidence.md"
    assert (tmp_path / "docs" / "evidence.md").read_text("utf-8") == page.read_text("utf-8")
