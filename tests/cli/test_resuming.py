"""An interrupted command loses no finished round."""

import pytest
from fakes import Pixels
from typer.testing import CliRunner

from aift_sklearn import AffinePatches, AIFTClassifier, cli
from aift_sklearn.study import demo, simulate


def run(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def one_line(text):
    return " ".join(text.split())


@pytest.fixture
def rounds_run(monkeypatch):
    """Rounds that are run, as (strategy, seed, round, auc); the list ``stop_after`` interrupts."""
    model = AIFTClassifier(Pixels(C=0.1), patches=AffinePatches.for_microscopy(n_patches=3, size=8))
    monkeypatch.setitem(demo.MODELS, "finetune", lambda patches: model)
    seen = []

    def watched(*args, **options):
        def note(row):
            seen.append((row["strategy"], row["seed"], row["round"], row["auc"]))
            if len(seen) == watched.stop_after:
                raise KeyboardInterrupt

        return simulate(*args, **options, on_round=note)

    watched.stop_after = None
    watched.seen = seen
    monkeypatch.setattr(demo, "simulate", watched)
    return watched


ARGUMENTS = ("--rounds", "3", "--batch", "5", "--seeds", "2")


def test_a_demo_goes_on_where_it_was_interrupted(rounds_run, tmp_path):
    assert run("demo", *ARGUMENTS, "--out", str(tmp_path / "whole.html")).exit_code == 0
    whole = sorted(rounds_run.seen)
    assert len(whole) == 12
    rounds_run.seen.clear()

    out = tmp_path / "report.html"
    rounds_run.stop_after = 5
    result = run("demo", *ARGUMENTS, "--out", str(out))
    assert result.exit_code not in (0, 2)
    assert f"5 finished rounds are in {tmp_path / 'report.rounds.jsonl'}" in result.output
    assert "the same command goes on" in one_line(result.output)
    assert not out.exists()

    result = run("demo", *ARGUMENTS, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "Going on from 5 finished rounds" in one_line(result.output)
    assert sorted(rounds_run.seen) == whole
    # The report holds everything: the next demonstration starts afresh.
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "whole.html"]


def test_a_demo_of_other_settings_does_not_mix_with_an_interrupted_one(
    rounds_run, tmp_path, capsys
):
    out = str(tmp_path / "report.html")
    rounds_run.stop_after = 3
    run("demo", *ARGUMENTS, "--out", out)
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--rounds", "3", "--batch", "6", "--seeds", "2", "--out", out])
    assert stop.value.code == 2
    assert "other settings (batch: 5 before, 6 now)" in one_line(capsys.readouterr().err)
    assert (tmp_path / "report.rounds.jsonl").exists()


def test_an_interrupt_before_the_first_round_says_that_nothing_is_kept(
    rounds_run, tmp_path, monkeypatch
):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "simulate", interrupted)
    result = run("demo", *ARGUMENTS, "--out", str(tmp_path / "report.html"))
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


def test_a_folder_for_a_report_is_refused_before_anything_is_run(rounds_run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["demo", "--quiet", "--out", str(tmp_path)])
    assert "is a folder; expected a file such as" in one_line(capsys.readouterr().err)
    assert not rounds_run.seen
