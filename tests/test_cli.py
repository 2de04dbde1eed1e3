"""The command line: every command is documented, errors are readable, results appear."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import aift_sklearn
from aift_sklearn import AffinePatches, AIFTClassifier, cli
from aift_sklearn.errors import MissingDependencyError
from aift_sklearn.study import demo, read_table, simulate

README = Path(__file__).parents[1] / "README.md"
COMMANDS = [command.callback.__name__ for command in cli.app.registered_commands]


class Pixels(LogisticRegression):
    def fit(self, X, y):
        return super().fit(X.reshape(len(X), -1), y)

    def predict_proba(self, X):
        return super().predict_proba(X.reshape(len(X), -1))


@pytest.fixture
def fast(monkeypatch):
    """Train logistic regressions on thumbnails instead of CNNs."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setattr(demo, "default_classifier", lambda: model)


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


def test_demo_prints_a_table_and_writes_a_report(fast, tmp_path):
    out = tmp_path / "demo.html"
    result = run("demo", "--out", str(out), "--rounds", "3", "--batch", "5", "--quiet")
    assert result.exit_code == 0, result.output
    assert "342" in result.output
    assert re.search(r"15 .* 0\.\d{3} .* 0\.\d{3}", result.output)
    assert "random" in result.output
    assert "AIFT" in result.output
    page = out.read_text("utf-8")
    assert "not given by an expert" in page
    assert "AffinePatches" in page


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
    def missing():
        raise MissingDependencyError("scikit-image", extra="study", purpose="load_tissue()")

    monkeypatch.setitem(demo.DATASETS, "tissue", missing)
    with pytest.raises(SystemExit):
        cli.main(["simulate", "--out", str(tmp_path)])
    assert 'pip install "aift-sklearn[study]"' in capsys.readouterr().err


def test_restart_and_strategies_reach_the_simulation(fast, monkeypatch, tmp_path):
    seen = {}

    def spy(*args, **options):
        seen.update(options)
        return simulate(*args, **options)

    monkeypatch.setattr(demo, "simulate", spy)
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


def test_unknown_data_is_refused():
    result = run("simulate", "--data", "moon")
    assert result.exit_code == 2
    assert "tissue" in result.output


def test_the_default_classifier_fine_tunes_a_pretrained_cnn():
    model = demo.default_classifier()
    assert model.estimator.pretrained
    assert model.estimator.trainable != "head"


def test_the_command_is_installed():
    command = Path(sys.executable).with_name("aift")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert aift_sklearn.__version__ in done.stdout
