"""The papers' pattern table, number by number, and its figure."""

import runpy
import sys
from pathlib import Path

import pytest

from aift_sklearn.study.report.pattern_table import (
    SHAPES,
    pattern_scores,
    plot_pattern_table,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "pattern_table.py"

# Published: entropy and diversity; their sums follow from the authors' code.
GOLDEN = {
    "A": [7.52, 2.02, 4.38, 0, 11.90, 2.02],
    "B": [4.57, 0.83, 1237.21, 20.79, 1241.77, 21.62],
    "C": [1.30, 0, 2816.66, 0, 2817.96, 0],
    "D": [1.30, 0, 189.54, 0, 190.84, 0],
    "E": [1.30, 0, 189.54, 0, 190.84, 0],
    "F": [3.24, 0.33, 1076.87, 13.54, 1080.11, 13.86],
    "G": [3.24, 0.33, 1076.87, 13.54, 1080.11, 13.86],
}


@pytest.mark.parametrize("letter", GOLDEN)
def test_every_number_is_the_published_one(letter):
    told = [round(value, 2) for value in pattern_scores()[letter].values()]
    assert told == GOLDEN[letter]


def test_the_diversity_of_saturated_shapes_depends_on_eps():
    assert pattern_scores(eps=1e-3)["C"]["D"] == pytest.approx(602.1, abs=0.1)


def test_the_figure_shows_every_shape_and_number():
    *histograms, table = plot_pattern_table().axes
    assert [ax.get_ylabel() for ax in histograms] == list(GOLDEN)
    heights = [[round(bar.get_height()) for bar in ax.patches] for ax in histograms]
    assert heights[0] == [0, 0, 0, 0, 3, 6, 2, 0, 0, 0, 0]
    assert all(sum(row) == 11 for row in heights)
    texts = [text.get_text() for text in table.texts]
    assert {f"{value:.2f}" for row in GOLDEN.values() for value in row} <= set(texts)
    assert all(any(text.startswith(shape) for text in texts) for shape in SHAPES.values())
    # The most useful shape is asked for first once majority selection is on, and C last.
    shades = [sum(cell.get_facecolor()[:3]) for cell in table.patches]
    last = shades[5::6]
    assert min(last) == last[1]
    assert max(last) == last[2]


def test_the_example_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pattern_table.py", str(tmp_path / "table.png")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert (tmp_path / "table.png").stat().st_size > 10_000
    assert capsys.readouterr().out.strip() == str(tmp_path / "table.png")
