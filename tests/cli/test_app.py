"""The command line: every command is documented, errors are readable, results appear."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from fakes import Pixels
from PIL import Image
from samples import make_blobs
from sklearn.base import clone
from typer.testing import CliRunner

import aift_sklearn
from aift_sklearn import AffinePatches, AIFTClassifier, cli, models
from aift_sklearn.cli import options
from aift_sklearn.study import STRATEGIES, demo, read_table, simulate, studies
from aift_sklearn.study.frozen import can_freeze
from aift_sklearn.study.strategies import RIVALS

README = Path(__file__).parents[2] / "README.md"
HEAVY = {"torch", "sklearn", "pandas", "onnxruntime", "matplotlib", "PIL", "numpy"}
COMMANDS = list(typer.main.get_command(cli.app).commands)


@pytest.fixture
def fast(monkeypatch):
    """Train logistic regressions on thumbnails instead of CNNs."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: model)
    monkeypatch.setitem(models.MODELS, "features", lambda patches: clone(model))


def run(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def test_version():
    assert run("--version").output.strip() == f"aift-sklearn {aift_sklearn.__version__}"


def test_help_names_every_command_and_option():
    assert all(name in run("--help").output for name in COMMANDS)
    for command in typer.main.get_command(cli.app).commands.values():
        assert command.help
        assert "Example: aift" in command.help
        assert all(p.help for p in command.params if p.name != "help")


def test_every_command_is_in_the_readme():
    text = README.read_text("utf-8")
    assert all(f"aift {name}" in text for name in COMMANDS)


def test_the_demo_is_a_campaign_that_goes_on(fast, tmp_path, capsys):
    out, how = tmp_path / "demo", {"n_instances": 5, "onnx": False, "trusted": ["fakes.Pixels"]}
    demo.run_demo(out, n_rounds=1, **how)
    capsys.readouterr()
    demo.run_demo(out, n_rounds=2, **how)
    said = capsys.readouterr().out
    assert re.search(r"round 2: 10 labels taught; balanced accuracy 0\.\d{3}", said)
    assert "round 1" not in said
    last = said.splitlines()[-1]
    assert last.endswith(f"To open the page on them: aift annotate {out / 'campaign'}")
    assert "With 10 labels the model reaches" in (out / "report.html").read_text("utf-8")


def test_simulate_writes_table_and_report(fast, tmp_path):
    out = tmp_path / "new" / "study"
    result = run(
        *("simulate", "--data", "tissue", "--strategy", "margin", "--strategy", "random"),
        *("--rounds", "2", "--batch", "6", "--seeds", "2", "--out", str(out)),
    )
    assert result.exit_code == 0, result.output
    table = read_table(out / "table.jsonl")
    assert table.groupby(["strategy", "seed"]).size().tolist() == [2, 2, 2, 2]
    assert (out / "report.html").stat().st_size > 10_000


def test_errors_are_one_readable_line(fast, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["simulate", "--strategy", "magic", "--out", str(tmp_path)])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert "strategy 'magic' is unknown" in captured.err
    assert "Traceback" not in captured.err


def test_errors_keep_their_brackets(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(SystemExit):
        cli.main(["simulate", "--out", str(tmp_path)])
    assert 'pip install ".[study]" in a clone' in capsys.readouterr().err


def test_restart_and_strategies_reach_the_simulation(fast, monkeypatch, tmp_path):
    seen = {}

    def spy(*args, **options):
        seen.update(options)
        return simulate(*args, **options)

    monkeypatch.setattr(studies, "simulate", spy)
    out = str(tmp_path)
    result = run(
        *("simulate", "--restart", "--strategy", "margin", "--strategy", "aift", "--quiet"),
        *("--rounds", "2", "--batch", "4", "--seeds", "1", "--out", out),
    )
    assert result.exit_code == 0, result.output
    assert seen["restart"]
    assert seen["strategies"] == ["margin", "AIFT"]
    assert "area" in result.output
    assert "labels to reach" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "moon"], "expected tissue, fundus, FILE.npz"),
        (["--data", "boxes:moon"], "no file moon/boxes.csv"),
        (["--max-pool", "20"], "option --max-pool does not apply to the data 'tissue'"),
        (["--groups", "--data", "FOLDER", "--rounds", "2"], "--groups, but the data set"),
        (["--rounds", "40", "--data", "FOLDER"], "--rounds x --batch = 480 labels"),
        (["--data", "SIZES"], "Pass --size 64, say"),
    ],
)
def test_data_that_cannot_be_read_is_refused_in_one_line(arguments, message, capsys, folder):
    Image.new("RGB", (20, 30)).save(folder.parent / "data" / "disc" / "long.png")
    if "SIZES" not in arguments:
        (folder / "disc" / "long.png").unlink()
    names = {"FOLDER": str(folder), "SIZES": str(folder)}
    arguments = [names.get(word, word) for word in arguments]
    with pytest.raises(SystemExit) as stop:
        cli.main(["simulate", "--quiet", "--out", str(folder.parent / "out"), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path):
    """Pictures of discs and of none, a subfolder for each."""
    for k, (image, label) in enumerate(zip(*make_blobs(60), strict=True)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        file = tmp_path / "data" / label / f"{k}.png"
        Image.fromarray(image.transpose(1, 2, 0)).save(file)
    return tmp_path / "data"


def test_a_folder_is_studied_with_two_models_and_resumed(fast, folder):
    out = folder.parent / "study"
    arguments = [
        *("simulate", "--data", str(folder), "--model", "finetune", "--model", "features"),
        *("--metric", "balanced_accuracy", "--whole-pool", "--rounds", "2", "--batch", "5"),
        *("--size", "12", "--max-pool", "30", "--test-fraction", "0.4", "--out", str(out)),
    ]
    result = run(*arguments, "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert "Balanced accuracy on the test set, features" in result.output
    assert "The whole pool gives" in result.output
    table = read_table(out / "table.jsonl")
    assert table.groupby(["head", "strategy"]).size().tolist() == [2] * 4
    result = run(*arguments, "--seeds", "2")
    assert result.exit_code == 0, result.output
    longer = read_table(out / "table.jsonl")
    assert len(longer) == 16
    assert longer["train_seconds"][:8].tolist() == table["train_seconds"].tolist()
    with pytest.raises(SystemExit):
        cli.main([*arguments[:-1], str(out), "--batch", "6"])


def test_the_models_fine_tune_a_pretrained_cnn_or_use_its_features():
    model = models.build_model()
    assert model.estimator.pretrained
    assert model.estimator.trainable != "head"
    features = models.build_model("features", views="radiographs", n_patches=3)
    assert can_freeze(features)
    assert features.patches.get_params() == AffinePatches.for_radiographs(n_patches=3).get_params()


@pytest.mark.parametrize("start", [["aift"], [sys.executable, "-m", "aift_sklearn"]])
def test_the_command_is_installed(start):
    command = [str(Path(sys.executable).with_name("aift"))] if start == ["aift"] else start
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert aift_sklearn.__version__ in done.stdout


def test_names_of_the_help_are_those_of_the_library():
    assert tuple(STRATEGIES) == options.STRATEGY_NAMES
    assert tuple(RIVALS) == options.RIVAL_NAMES
    assert list(models.MODELS) == list(options.Model)
    assert list(models.VIEWS) == list(options.Views)
    assert list(studies.METRICS) == list(options.Metric)
    text = " ".join(run("simulate", "--help").output.replace("│", " ").split())
    for name in [*STRATEGIES, *RIVALS, *models.MODELS, *models.VIEWS, *studies.METRICS]:
        assert name in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["simulate", "--help"],
        ["export", "model", "--size", "3x4"],
        ["simulate", "--rounds", "none"],
    ],
)
def test_help_and_mistakes_wait_for_nothing_heavy(arguments):
    code = f"""
import sys
from aift_sklearn.cli import main
try:
    main({arguments})
except SystemExit:
    pass
print("loaded:", sorted({HEAVY} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo"], "rounds of 16 labels"),
        (["simulate", "--data", "cells"], "rounds of 12 labels"),
        (["init", "cells", "--classes", "a,b"], "Beginning a campaign on cells"),
        (["annotate"], "Opening campaign"),
    ],
)
def test_the_first_words_come_before_anything_heavy_is_loaded(arguments, words, tmp_path):
    code = f"""
import sys
from aift_sklearn.cli import main, terminal
class Noting:
    encoding = "utf-8"
    def write(self, text):
        print(text, sorted({HEAVY} & set(sys.modules)))
        sys.exit(0)
    def flush(self):
        pass
sys.stderr = Noting()
main({arguments})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert words in done.stdout
    assert done.stdout.endswith("[]\n")


def test_the_demo_says_how_long_it_takes(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(demo, "run_demo", lambda out, **options: ran.append(options))
    arguments = ["demo", "--out", str(tmp_path / "a"), "--rounds", "2", "--batch", "4"]
    assert "2 rounds of 4 labels, about 1 minute" in " ".join(run(*arguments).stderr.split())
    assert run(*arguments, "--quiet").stderr == ""
    options = {"n_rounds": 2, "n_instances": 4}
    assert ran == [options | {"verbose": True}, options | {"verbose": False}]


def test_errors_of_files_are_one_line_and_others_are_shown_whole(monkeypatch, capsys):
    def refused(*args, **options):
        raise PermissionError(13, "Permission denied", "/report.html")

    monkeypatch.setattr(demo, "run_demo", refused)
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--quiet"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "Error: [Errno 13] Permission denied: '/report.html'\n"

    def wrong(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(demo, "run_demo", wrong)
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo", "--quiet"])
