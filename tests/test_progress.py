"""Progress of long work: bars in a terminal, lines in a log, silence where nobody asked."""

import pytest

from aift_sklearn import progress
from aift_sklearn.progress import ProgressBar, track


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


def test_silent_unless_enabled(terminal, capsys):
    assert list(track([1, 2, 3], "working", enabled=False)) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_bars_inside_each_other_share_a_terminal(terminal, capsys):
    with ProgressBar("outer", 2) as outer:
        for _ in range(2):
            for item in track([1, 2], "inner"):
                assert item in (1, 2)
            outer.advance()
        outer.describe("closing")
    out, err = capsys.readouterr()
    assert out == ""
    assert "outer" in err or "closing" in err
    assert ProgressBar._drawn is None


def test_a_failure_inside_closes_the_bar(terminal, capsys):
    with pytest.raises(ValueError, match="inside"), ProgressBar("a", 2), ProgressBar("b", 1):
        raise ValueError("inside")
    assert ProgressBar._drawn is None
    with ProgressBar("again", 1) as bar:
        bar.advance()


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with ProgressBar("scoring", 10) as bar:
        for k in range(10):
            now[0] = 12.0 * (k + 1)
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scoring 3/10, about 1 min left"
    assert len(lines) == 3
