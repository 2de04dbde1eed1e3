"""An interrupted command loses no finished round."""

import pytest
from fakes import Pixels
from typer.testing import CliRunner

from aift_sklearn import AffinePatches, AIFTClassifier, cli, models
from aift_sklearn.study import simulate, studies


def run(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def one_line(text):
    return " ".join(text.split())


@pytest.fixture
def rounds_run(monkeypatch):
    """Rounds that are run, as (strategy, seed, round, auc); the list ``stop_after`` interrupts."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(models.MODELS, "finetune", lambda patches: model)
    seen = []

    def watched(*args, **options):
        def note(row):
            seen.append((row["strategy"], row["seed"], row["round"], row["auc"]))
            if len(seen) == watched.stop_after:
                raise KeyboardInterrupt

        return simulate(*args, **options, on_round=note)

    watched.stop_after = None
    watched.seen = seen
    monkeypatch.setattr(studies, "simulate", watched)
    return watched


ARGUMENTS = ("--rounds", "3", "--batch", "5", "--seeds", "2")


def test_a_study_goes_on_where_it_was_interrupted(rounds_run, tmp_path):
    assert run("simulate", *ARGUMENTS, "--out", str(tmp_path / "whole")).exit_code == 0
    whole = sorted(rounds_run.seen)
    assert len(whole) == 12
    rounds_run.seen.clear()

    out = tmp_path / "study"
    rounds_run.stop_after = 5
    result = run("simulate", *ARGUMENTS, "--out", str(out))
    assert result.exit_code not in (0, 2)
    assert f"5 finished rounds are in {out / 'table.jsonl'}" in result.output
    assert "the same command goes on" in one_line(result.output)
    assert not (out / "report.html").exists()

    result = run("simulate", *ARGUMENTS, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "Going on from 5 finished rounds" in one_line(result.output)
    assert sorted(rounds_run.seen) == whole
    assert (out / "report.html").exists()


def test_an_interrupt_before_the_first_round_says_that_nothing_is_kept(
    rounds_run, tmp_path, monkeypatch
):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "simulate", interrupted)
    result = run("simulate", *ARGUMENTS, "--out", str(tmp_path / "study"))
    assert "before the first round was finished" in one_line(result.output)


def test_a_study_says_where_its_rounds_are(rounds_run, tmp_path):
    rounds_run.stop_after = 4
    out = tmp_path / "study"
    result = run("simulate", *ARGUMENTS, "--quiet", "--out", str(out))
    assert result.exit_code not in (0, 2)
    assert "4 finished rounds are in" in one_line(result.output)
    assert run("simulate", *ARGUMENTS, "--quiet", "--out", str(out)).exit_code == 0
    assert len(rounds_run.seen) == 12
    assert (out / "table.jsonl").read_text().count("\n") == 12
