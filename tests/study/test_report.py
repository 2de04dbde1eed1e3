"""The page of a study: honest sentences, safe HTML, pictures of what was asked."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import os
import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from samples import GOLDEN, binary

from aift_sklearn import _page_pictures
from aift_sklearn.errors import ParameterError
from aift_sklearn.scores import prediction_pattern
from aift_sklearn.study.comparisons import paired_interval
from aift_sklearn.study.datasets import Dataset
from aift_sklearn.study.metrics import area_under_curve, summarise
from aift_sklearn.study.report import figures, headline, plot_learning_curves, write_report
from aift_sklearn.study.report.levels import labels_by_level
from aift_sklearn.study.report.patterns import draw_patches, pattern_legend, pattern_shares

NAN = float("nan")
CLASSES = ("benign", "malignant")
PNG = "data:image/png;base64,"


def fake_dataset(channels=3, classes=CLASSES, n=40, groups=True, **changed):
    rng = np.random.default_rng(0)
    y = np.array([classes[i % len(classes)] for i in range(n)])
    dataset = Dataset(
        name="Fake nuclei",
        X=rng.integers(0, 256, (n, channels, 12, 12), dtype=np.uint8),
        y=y,
        X_test=np.zeros((4, channels, 12, 12), np.uint8),
        y_test=y[:4],
        groups=np.arange(n) // 4 if groups else None,
        groups_test=np.arange(4) + 100 if groups else None,
        description="Drawn at random.",
        source="https://example.org/nuclei",
        licence="CC0",
    )
    return dataclasses.replace(dataset, **changed)


def table_of(curves, batch=5, classes=CLASSES):
    """Tidy table from {(strategy, seed): [auc per round]}; classes alternate among the asked."""
    rows = []
    for position, ((strategy, seed), values) in enumerate(curves.items()):
        for i, auc in enumerate(values):
            first = 0 if i == 0 else batch * i + position
            known = batch * (i + 1)
            rows.append(
                {
                    "strategy": strategy, "seed": seed, "round": i, "n_labels": known, "auc": auc,
                    "balanced_accuracy": 0.5, "score_seconds": 0.5, "train_seconds": 2.0,
                    "asked": list(range(first, first + batch)),
                }
                | {f"n_{c}": len(range(k, known, len(classes))) for k, c in enumerate(classes)}
            )  # fmt: skip
    return pd.DataFrame(rows)


WIN = table_of({("random", 0): [0.6, 0.7, 0.75, 0.8], ("aift", 0): [0.6, 0.85, 0.9, 0.9]})


class _Page(HTMLParser):
    """Collects tags and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.html = html
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        self.text += data

    def rows(self) -> list[list[str]]:
        """Text of the cells of every table row."""
        rows = re.findall(r"<tr>(.*?)</tr>", self.html, re.DOTALL)
        cells = (re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL) for row in rows)
        return [[unescape(re.sub("<[^>]*>", "", cell)) for cell in row] for row in cells]

    def candidates(self) -> list[str]:
        return [
            str(a["alt"]) for t, a in self.tags if t == "img" and "candidate" in str(a.get("alt"))
        ]


@pytest.fixture(autouse=True)
def coarse_figures(monkeypatch):
    """Figures of few pixels: most of the time of a page goes into drawing them."""
    monkeypatch.setattr(_page_pictures, "FIGURE_DPI", 20)


@pytest.fixture
def report(tmp_path):
    def write(table=WIN, dataset=None, **options) -> _Page:
        path = write_report(table, dataset or fake_dataset(), tmp_path / "r.html", **options)
        return _Page(path.read_text(encoding="utf-8"))

    return write


# Headline: the sentence is the claim of the page, so each outcome is fixed word by word.


ALONE = "One seed shows nothing yet. "


def of_seeds(curves, n=3, spread=0.004):
    """Curves {strategy: values} for n seeds, a little apart."""
    rng = np.random.default_rng(0)
    return table_of(
        {
            (name, seed): np.array(values) + rng.uniform(0, spread)
            for name, values in curves.items()
            for seed in range(n)
        }
    )


def test_headline_of_one_seed() -> None:
    assert headline(WIN) == ALONE + (
        "aift needed 10 labels to reach the AUC of 0.800 for which random needed 20: 50 % fewer."
    )
    lose = table_of({("random", 0): [0.6, 0.8, 0.8], ("aift", 0): [0.6, 0.7, 0.8]})
    assert headline(lose) == ALONE + (
        "aift needed 15 labels to reach the AUC of 0.800 for which random needed 10: 50 % more."
    )
    draw = table_of({("random", 0): [0.6, 0.8], ("aift", 0): [0.6, 0.9]})
    assert headline(draw).endswith("random needed 10: it saved none.")


def test_headline_never_reached() -> None:
    never = table_of({("random", 0): [0.6, 0.7, 0.8], ("aift", 0): [0.6, 0.65, 0.7]})
    assert headline(never) == ALONE + (
        "aift did not reach, within its 15 labels, the AUC of 0.800 for which random needed 15: "
        "it saved no labels here."
    )
    # A run that was stopped early has not lost yet.
    early = table_of({("random", 0): [0.6, 0.7, 0.8], ("aift", 0): [0.6, 0.65]})
    assert headline(early).endswith("within its 10 labels, the AUC of 0.800 for which random "
                                    "needed 15.")  # fmt: skip


def test_headline_of_a_gain_that_was_shown() -> None:
    won = table_of(
        {("random", seed): [0.6, 0.7, 0.8 + seed / 1000] for seed in range(3)}
        | {("aift", seed): [0.6, 0.84 + seed / 1000, 0.9] for seed in range(3)}
    )
    area = area_under_curve(won)
    mean, low, high = paired_interval(area.loc["aift"], area.loc["random"])
    assert low > 0
    assert headline(won.drop(columns="balanced_accuracy")) == (
        "aift needed 10 labels to reach the AUC of 0.801 for which random needed 15: 33 % fewer "
        f"(medians over 3 seeds). The area under its curve differs by +{mean:.3f} (95 % interval "
        f"+{low:.3f} to +{high:.3f}, 3 paired seeds)."
    )


@pytest.mark.parametrize(
    ("late", "told"), [(0, "5 to 10"), (2, "0 to 10"), (3, "none to 10")], ids=str
)
def test_headline_tells_the_interval_of_labels_saved(late, told) -> None:
    runs = {("random", seed): [0.6, 0.7, 0.8 + seed / 1000] for seed in range(9)}
    curves = {0: [0.6, 0.85, 0.9], 1: [0.82, 0.85, 0.9]}
    for seed in range(9):
        runs[("aift", seed)] = curves[seed % 2]
    for seed in range(late):
        # As late as random, or never.
        runs[("aift", seed)] = [0.6, 0.79, 0.9] if late < 3 else [0.6, 0.79, 0.795]
    # Of nine values the second and the eighth hold the median in 96 % of all studies.
    text = headline(table_of(runs).drop(columns="balanced_accuracy"))
    assert f"; labels saved, 95 % interval of the median: {told})" in text
    few = {key: curve for key, curve in runs.items() if key[1] < 5}
    assert "labels saved" not in headline(table_of(few))


def test_headline_that_shows_no_difference_says_so_first() -> None:
    runs = {("random", seed): [0.6, 0.7, 0.8] for seed in range(3)}
    runs |= {("aift", 0): [0.6, 0.8, 0.9], ("aift", 1): [0.6, 0.9, 0.9]}
    most = table_of(runs | {("aift", 2): [0.6, 0.6, 0.6]})
    text = headline(most)
    assert text.startswith(
        "No difference shown: the area under its curve differs by +0.033 (95 % interval −0.260 to "
        "+0.327, 3 paired seeds). aift needed 10 labels to reach the AUC of 0.800 for which random "
        "needed 15 (medians over 3 seeds, of which 2 got there)."
    )
    assert "fewer" not in text
    # A seed that only one of the two ran is no pair.
    assert "2 paired seeds" in headline(table_of(runs))
    few = table_of(runs | {("aift", 1): [0.6, 0.6, 0.6], ("aift", 2): [0.6, 0.6, 0.6]})
    assert headline(few).startswith("No difference shown")
    assert "did not reach, within its 15 labels" in headline(few)
    assert "of which 1 got there" in headline(few)


def test_headline_of_a_loss_says_so_first() -> None:
    # The level is reached earlier, but nearly everywhere else the curve lies lower.
    curves = {"random": [0.8, 0.9, 0.9, 0.9, 0.91], "aift": [0.8, 0.5, 0.5, 0.92, 0.5]}
    table = of_seeds(curves)
    text = headline(table)
    assert text.startswith("aift did worse: the area under its curve differs by −0.")
    assert "fewer" not in text
    worse = of_seeds({"random": [0.6, 0.8, 0.8], "aift": [0.6, 0.65, 0.7]})
    assert headline(worse).startswith("aift did worse: ")


@settings(max_examples=15)
@given(st.lists(st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05)), min_size=2, max_size=6))
def test_no_headline_claims_what_its_interval_leaves_open(shifts) -> None:
    runs = {}
    for seed, (theirs, ours) in enumerate(shifts):
        runs[("random", seed)] = [0.6, 0.7 + theirs, 0.8, 0.85]
        runs[("aift", seed)] = [0.6, 0.72 + ours, 0.86 + ours, 0.87]
    table = table_of(runs)
    area = area_under_curve(table)
    _, low, high = paired_interval(area.loc["aift"], area.loc["random"])
    text = headline(table)
    assert text.startswith("No difference shown") == (low <= 0 <= high)
    assert text.startswith("aift did worse") == (high < 0)
    assert "fewer" not in text or low > 0


def test_the_other_metric_is_named_where_it_disagrees() -> None:
    gain = {"random": [0.6, 0.7, 0.8], "aift": [0.6, 0.85, 0.9]}
    table = of_seeds(gain, 4)
    loss = of_seeds({"random": [0.6, 0.7, 0.8], "aift": [0.6, 0.55, 0.5]}, 4)["auc"]
    rng = np.random.default_rng(1)
    level = table["seed"].mul(0) + rng.uniform(0.6, 0.9, len(table))
    worse = headline(table.assign(balanced_accuracy=loss))
    assert "fewer" in worse
    assert "In balanced accuracy it did worse: the area differs by −0." in worse
    assert "no difference is shown" in headline(table.assign(balanced_accuracy=level))
    assert "balanced" not in headline(table.assign(balanced_accuracy=table["auc"]))
    assert "balanced" not in headline(table.assign(balanced_accuracy=NAN))
    turned = table.assign(balanced_accuracy=table["auc"], auc=loss)
    says = headline(turned, metric="balanced_accuracy")
    assert "In AUC it did worse: the area differs by −0." in says
    # Nothing shown in one, much lost in the other.
    open_ = headline(table.assign(auc=level, balanced_accuracy=loss))
    assert open_.startswith("No difference shown")
    assert "In balanced accuracy it did worse" in open_
    # One seed: only a difference of sign can be told.
    one = WIN.assign(balanced_accuracy=1 - WIN["auc"])
    assert headline(one).endswith(
        "In balanced accuracy one seed shows nothing: the area differs by −0.117 (one seed, no "
        "interval)."
    )


def test_headline_when_the_baseline_learns_nothing() -> None:
    flat = table_of({("random", 0): [0.7, 0.65, 0.7], ("aift", 0): [0.7, 0.8, 0.85]})
    assert headline(flat) == ALONE + (
        "random ended no better than it began (AUC 0.700), so there is no level for which labels "
        "could be saved; aift ended at 0.850."
    )


def test_a_pool_that_is_too_easy_is_called_so(report) -> None:
    easy = table_of({("random", 0): [1.0, 1.0, 1.0], ("aift", 0): [1.0, 0.999, 1.0]})
    for table in (easy, of_seeds({"random": [0.996] * 3, "aift": [0.996] * 3}, 3, 0.001)):
        text = headline(table)
        assert text.startswith("This pool is too easy to tell: with the first batch alone aift and")
        assert "cannot be told" not in text
        assert "fewer" not in text
        page = report(table)
        words = " ".join(page.text.split())
        assert "Start with fewer labels, or take harder images" in words
        assert "aift simulate --data FOLDER --batch 4" in words
        assert "cannot be told" not in words
    nearly = table_of({("random", 0): [0.99, 0.99, 1.0], ("aift", 0): [0.99, 1.0, 1.0]})
    assert "too easy" not in headline(nearly)


def test_headline_when_nothing_can_be_compared() -> None:
    assert headline(table_of({("random", 0): [0.6]})).startswith("Only random was run")
    assert headline(table_of({("aift", 0): [0.6]})).startswith("Only aift was run")
    apart = table_of({("random", 0): [0.6, 0.8], ("aift", 1): [0.6, 0.8]})
    assert "share no seed" in headline(apart)
    undefined = table_of({("random", 0): [NAN, NAN], ("aift", 0): [NAN, NAN]})
    assert "could not be computed" in headline(undefined)


def test_headline_without_baseline() -> None:
    table = table_of({("badge", 0): [0.6, 0.7, 0.8], ("aift", 0): [0.6, 0.85, 0.9]})
    assert headline(table) == (
        "Labels needed for the AUC of 0.800 that every strategy reached: badge 15, aift 10."
    )


def test_headline_does_not_pick_the_winner() -> None:
    table = table_of(
        {
            ("random", 0): [0.6, 0.7, 0.8],
            ("badge", 0): [0.6, 0.9, 0.9],
            ("aift", 0): [0.6, 0.7, 0.8],
        }
    )
    assert headline(table).startswith(ALONE + "aift needed 15")
    assert headline(table, focus="badge").startswith(ALONE + "badge needed 10")
    with pytest.raises(ParameterError, match=r"focus is 'core'.*\['random', 'badge', 'aift'\]"):
        headline(table, focus="core")


# The page.


def test_page_loads_nothing_from_outside(report) -> None:
    page = report(parameters={"url": "https://example.org/p"}, reference={"auc": 0.95})
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data", "action"):
            assert str(attributes.get(name, PNG)).startswith(PNG)
    assert "@import" not in page.text
    assert "url(" not in page.text
    assert "https://example.org/nuclei" in page.text  # the source is still named


def test_every_picture_has_an_alternative_text(report) -> None:
    images = [attributes for tag, attributes in report().tags if tag == "img"]
    assert len(images) > 3
    assert all(attributes["alt"] for attributes in images)


def test_names_and_descriptions_are_escaped(report) -> None:
    nasty = "<b>a & b</b>"
    hurt = "<script>alert('x')</script>"
    table = table_of(
        {("random", 0): [0.6, 0.8], ("a<i>ft $x_$", 0): [0.6, 0.9]}, classes=(nasty, "$\\frac$")
    )
    page = report(
        table,
        fake_dataset(classes=(nasty, "$\\frac$"), description=hurt, licence=hurt),
        title=hurt,
        parameters={hurt: hurt},
    )
    assert not {"script", "b", "i"} & {tag for tag, _ in page.tags}
    assert page.text.count(hurt) == 6  # twice the title, description, licence, name and value
    assert nasty in page.text
    assert "a<i>ft $x_$ needed 10 labels" in page.text


def test_page_says_what_it_should(report) -> None:
    page = report(
        parameters={"batch_size": 5, "alpha": 0.25}, reference={"auc": 0.9571}, title="My study"
    )
    words = " ".join(page.text.split())
    assert headline(WIN) in words.replace("\u00a0", " ")
    for part in (
        "My study", "One seed proves nothing", "Drawn at random.", "CC0", "batch_size", "0.957",
        "10 groups in the pool, 4 in the test set, none on both sides", "whole pool", "numpy",
        np.__version__, "Labels needed, by level of AUC", "First batch, shared by all strategies",
    ):  # fmt: skip
        assert part in words, part


def test_few_seeds_are_said_to_prove_little(report) -> None:
    values = {"random": [0.6, 0.7, 0.8], "aift": [0.6, 0.8, 0.9], "badge": [0.6, 0.9, 0.95]}
    runs = {(name, seed): np.array(v) + seed / 99 for name, v in values.items() for seed in (0, 1)}
    text = report(table_of(runs)).text
    words = " ".join(text.split())
    assert "2 seeds prove little" in words
    assert "differs by +0.075 (95\u00a0% interval" in text
    assert "The largest area under the curve was that of badge." in words
    both = table_of({("random", 0): [0.6, 0.8], ("aift", 0): [0.6, 0.9], ("random", 1): [0.6, 0.8],
                     ("aift", 1): [0.6, 0.7]})  # fmt: skip
    assert "No difference shown" in " ".join(report(both).text.split())


def test_one_class_auc_is_explained_without_a_warning(report) -> None:
    table = table_of({("random", 0): [NAN, 0.7, 0.8], ("aift", 0): [NAN, NAN, 0.9]})
    assert "In 3 rounds of single runs the AUC was undefined" in report(table).text
    nowhere = table_of({("random", 0): [NAN, NAN], ("aift", 0): [NAN, NAN]})
    assert "could not be computed" in report(nowhere).text


@pytest.mark.parametrize(("ran", "other"), [("AIFT", "random"), ("random", "AIFT")])
def test_a_single_strategy_is_told_how_to_go_on(report, ran, other) -> None:
    page = report(table_of({(ran, seed): [0.6, 0.7, 0.8] for seed in range(3)}))
    words = " ".join(page.text.split())
    for part in (
        f"Only {ran} was run",
        "A curve that rises shows that the model learns",
        f'aift simulate --data FOLDER --strategy "{ran}" --strategy {other} --out study',
    ):
        assert part in words, part
    assert "seeds prove little" not in words


def test_every_page_says_how_to_try_ones_own_data(report) -> None:
    page = report()
    assert "aift simulate --data FOLDER" in page.text
    # What is told to be typed is what the command line knows.
    for command in re.findall(r"<pre[^>]*>(aift [^<]*)</pre>", page.html):
        known = subprocess_help()
        assert all(option in known for option in re.findall(r"--[a-z]+", unescape(command)))


def subprocess_help() -> str:
    from typer.testing import CliRunner

    from aift_sklearn.cli.app import app

    return CliRunner().invoke(app, ["simulate", "--help"], env={"COLUMNS": "200"}).output


def test_p_values_and_the_number_of_comparisons_are_shown(report) -> None:
    rng = np.random.default_rng(0)
    names = ("random", "aift", "badge")
    table = table_of(
        {(name, seed): rng.uniform(0.5, 0.9, 4) for name in names for seed in range(7)}
    )
    summary = summarise(table)
    page = report(table)
    words = " ".join(page.text.split())
    assert "corrected for 2 comparisons with random (Holm)" in words
    row = summary.loc["aift"]
    cells = next(cells for cells in page.rows() if cells[0] == "aift" and len(cells) == 9)
    assert cells[7] == f"{row['alc_p']:.3f}({row['alc_wilcoxon_p']:.3f})"
    assert f"Paired t-test p = {row['alc_p']:.3f} and Wilcoxon signed-rank test" in words
    assert "corrected for 2 comparisons by Holm's method" in words
    few = report(table[(table["seed"] < 5) & (table["strategy"] != "badge")])
    assert "Wilcoxon" not in few.text
    assert "corrected for" not in few.text
    assert "where one includes 0, no difference is shown" in few.text
    one = report(table[table["seed"] == 0])
    assert "One seed gives no interval." in one.text


def test_wide_contents_scroll_on_a_narrow_screen(report) -> None:
    page = report(with_probabilities(WIN), reference={"auc": 0.9})
    outside = re.sub(r'<div class="scroll">.*?</div>', "", page.html, flags=re.DOTALL)
    assert "<table" not in outside
    assert all("scroll" in tag for tag in re.findall(r"<pre[^>]*>", page.html))
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", page.html)


def test_groups_on_both_sides_are_called_out(report) -> None:
    assert "1 ON BOTH SIDES" in report(dataset=fake_dataset(groups_test=np.array([0, 90, 91]))).text
    assert "No groups" in report(dataset=fake_dataset(groups=False)).text


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_asked_candidates_are_shown_as_they_are(report, channels) -> None:
    dataset = fake_dataset(channels)
    page = report(dataset=dataset)
    # A first batch of 5 shown once, then three rounds of 5 for both strategies.
    assert len(page.candidates()) == 5 + 2 * 15
    index = 6  # the first that aift asks after the shared batch
    source = next(
        a["src"] for t, a in page.tags if str(a.get("alt")).startswith(f"candidate {index},")
    )
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))
    image = dataset.X[index]
    expected = image[:3].transpose(1, 2, 0) if channels >= 3 else image.mean(axis=0)
    np.testing.assert_array_equal(shown, expected.astype(np.uint8))


def test_pictures_are_limited_and_counted(report) -> None:
    page = report(max_pictures=2)
    assert len(page.candidates()) == 2 + 2 * 6
    assert page.text.count("and 3 more") == 7
    assert not report(max_pictures=0).candidates()
    large = fake_dataset(X=np.zeros((40, 3, 300, 200), np.uint8))
    image = next(a for t, a in report(dataset=large).tags if "candidate" in str(a.get("alt")))
    assert Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))).size == (64, 96)


def test_first_batches_that_differ_are_shown_with_their_strategy(report) -> None:
    table = WIN.copy()
    table.at[0, "asked"] = [9, 8, 7, 6, 5]
    page = report(table)
    assert "shared by all" not in page.text
    assert len(page.candidates()) == 40


def test_float_pictures_and_numpy_lists(report) -> None:
    table = WIN.assign(asked=[np.array(asked) for asked in WIN["asked"]])  # as Parquet returns
    page = report(table, fake_dataset(X=np.full((40, 1, 6, 6), 0.5, np.float32)))
    image = next(a for t, a in page.tags if "candidate" in str(a.get("alt")))
    shown = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
    assert np.unique(np.asarray(shown)).tolist() == [127]


def test_any_object_with_the_fields_will_do(report) -> None:
    fields = {f.name: getattr(fake_dataset(), f.name) for f in dataclasses.fields(Dataset)}
    assert report(dataset=SimpleNamespace(**fields)).candidates()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.drop(columns="auc"), r"lacks the columns \['auc'\]"),
        (lambda t: t.drop(columns="n_malignant"), r"lacks the columns \['n_malignant'\]"),
        (lambda t: t.assign(asked="[1, 2]"), "keep tables as JSON lines"),
        (lambda t: t.assign(asked=[[0, 40]] * len(t)), "from 0 to 40, and the pool 40 candidates"),
        (lambda t: t.assign(asked=[[-1]] * len(t)), "from -1 to -1"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, changed, says) -> None:
    with pytest.raises(ParameterError, match=says):
        write_report(changed(WIN), fake_dataset(), tmp_path / "r.html")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ParameterError, match="max_pictures is -1"):
        write_report(WIN, fake_dataset(), tmp_path / "r.html", max_pictures=-1)


def test_a_failed_write_keeps_the_old_page(tmp_path, monkeypatch) -> None:
    path = write_report(WIN, fake_dataset(), tmp_path / "new" / "r.html")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_report(WIN, fake_dataset(), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["r.html"]


# Figures.


def test_curves_hold_the_numbers_of_the_table() -> None:
    runs = {("random", s): [0.6, 0.7 + s / 10] for s in range(2)} | {("aift", 0): [NAN, 0.9]}
    ax = plot_learning_curves(table_of(runs), reference=0.95)
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert lines["random"] == pytest.approx(np.array([[5, 0.6], [10, 0.75]]))
    assert lines["aift"] == pytest.approx(np.array([[5, 0.5], [10, 0.9]]))
    thin = [line for line in ax.lines if line.get_linewidth() == 0.8]
    assert len(thin) == 2  # one run needs no thin line beside its own
    assert [text.get_text() for text in ax.texts] == ["random", "aift", "whole pool"]
    assert not ax.collections


def test_a_band_stands_for_four_seeds_or_more() -> None:
    runs = {("random", seed): [0.6, 0.7 + seed / 100] for seed in range(4)}
    ax = plot_learning_curves(table_of(runs), "balanced_accuracy")
    assert len(ax.collections) == 1
    assert len(ax.lines) == 1
    assert ax.get_ylabel() == "balanced accuracy on the test set"
    ax = plot_learning_curves(table_of(runs))
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.6)
    _, low, high = paired_interval([0.7, 0.71, 0.72, 0.73], [0.0] * 4)
    assert heights.max() == pytest.approx(high)
    assert np.isclose(heights, low).any()


def test_a_round_that_not_every_seed_has_is_left_out_of_the_mean() -> None:
    ax = plot_learning_curves(table_of({("random", 0): [0.6, 0.7, 0.9], ("random", 1): [0.4, 0.5]}))
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([0.5, 0.6])


def test_curves_are_a_picture_in_a_notebook() -> None:
    ax = plot_learning_curves(WIN)
    shown = Image.open(io.BytesIO(ax._repr_png_()))
    assert shown.format == "PNG"
    assert len(np.unique(np.asarray(shown).reshape(-1, shown.size[0]), axis=0)) > 20
    ax.set_title("mine")
    assert (np.asarray(Image.open(io.BytesIO(ax._repr_png_()))) != np.asarray(shown)).any()
    # Axes of one's own are drawn on as they are.
    mine = Figure().subplots()
    assert plot_learning_curves(WIN, ax=mine) is mine


def test_names_at_the_right_edge_do_not_overlap() -> None:
    runs = {(f"strategy {i}", 0): [0.5, 0.9 + i / 1000] for i in range(7)}
    ax = plot_learning_curves(table_of(runs), ax=Figure().subplots())
    bottom, top = ax.get_ylim()
    heights = [text.xy[1] for text in ax.texts]
    assert np.diff(heights).min() >= 0.06 * (top - bottom)
    assert max(heights) <= top
    assert [text.get_text() for text in ax.texts] == [f"strategy {i}" for i in range(7)]


def test_drawing_leaves_settings_alone(report) -> None:
    before = dict(mpl.rcParams)
    report()
    assert dict(mpl.rcParams) == before


def test_class_balance_by_hand() -> None:
    table = table_of({("random", 0): [0.6, 0.7], ("random", 1): [0.6, 0.7]}, batch=5)
    y = np.array(["benign"] * 3 + ["malignant"])
    ax = figures.plot_class_balance(table, y, CLASSES).axes[0]
    bars = {(round(bar.get_center()[0], 1), round(bar.get_y(), 3)): bar.get_height()
            for bar in ax.patches}  # fmt: skip
    # Of 5 labels 3 are benign, of 10 labels 5: the second batch holds 2 of 5.
    assert bars == pytest.approx(
        {(0, 0): 0.6, (0, 0.6): 0.4, (1, 0): 0.4, (1, 0.4): 0.6, (2.6, 0): 0.75, (2.6, 0.75): 0.25}
    )


def test_a_round_without_answers_has_no_bar() -> None:
    table = table_of({("random", 0): [0.6, 0.7]}).assign(n_benign=3, n_malignant=2, n_labels=5)
    ax = figures.plot_class_balance(table, np.array(CLASSES), CLASSES).axes[0]
    assert [bar.get_height() for bar in ax.patches if round(bar.get_center()[0]) == 1] == [0, 0]


def test_class_marks_tell_classes_apart() -> None:
    def marks(*names: str) -> list[str]:
        dataset = fake_dataset(classes=names, n=20)
        return [entry["mark"] for entry in figures.class_entries(dataset)]

    assert marks("benign", "malignant") == ["B", "M"]
    assert marks("DAB-negative", "DAB-positive") == ["N", "P"]
    assert marks("grade 1", "grade 2") == ["1", "2"]
    assert marks("stage IV A", "stage IV B", "stage") == ["1", "2", "3"]
    assert marks("monocyte", "mast") == ["MA", "MO"]
    many = figures.class_entries(fake_dataset(classes=[f"c{i}" for i in range(12)]))
    assert len(many) == 12
    assert all(re.fullmatch("#[0-9A-F]{6}", entry["colour"]) for entry in many)


# Another metric, several heads.

IMBALANCED = WIN.assign(auc=0.9, balanced_accuracy=WIN["auc"])


def test_headline_of_another_metric() -> None:
    assert headline(IMBALANCED, metric="balanced_accuracy") == ALONE + (
        "aift needed 10 labels to reach the balanced accuracy of 0.800 for which random needed "
        "20: 50 % fewer."
    )
    # The column that is not asked about need not be there.
    assert "10 labels" in headline(WIN.drop(columns="balanced_accuracy"))
    flat = headline(IMBALANCED)
    assert flat.startswith(ALONE + "random ended no better than it began (AUC 0.900)")
    lost = IMBALANCED.assign(balanced_accuracy=1 - IMBALANCED["balanced_accuracy"])
    assert "ended no better than it began (balanced accuracy 0.200)" in headline(
        lost, metric="balanced_accuracy"
    )
    undefined = IMBALANCED.assign(balanced_accuracy=NAN)
    says = headline(undefined, metric="balanced_accuracy")
    assert says.startswith("The balanced accuracy could not be computed")
    with pytest.raises(ParameterError, match=r"metric is 'accuracy'; expected one of \['auc'"):
        headline(WIN, metric="accuracy")


def test_page_of_another_metric(report, tmp_path) -> None:
    page = report(IMBALANCED, metric="balanced_accuracy")
    words = " ".join(page.text.split()).replace("\u00a0", " ")
    for part in (
        headline(IMBALANCED, metric="balanced_accuracy"),
        "read off the curves of balanced accuracy",
        "Labels needed, by level of balanced accuracy",
    ):
        assert part in words, part
    curves = [str(a["alt"]) for t, a in page.tags if "Learning curves" in str(a.get("alt"))]
    assert [alt.split(" on the")[0] for alt in curves] == [
        "Learning curves: balanced accuracy",
        "Learning curves: ROC AUC",
    ]
    with pytest.raises(ParameterError, match="metric is 'f1'"):
        write_report(WIN, fake_dataset(), tmp_path / "x.html", metric="f1")


def test_a_level_that_is_never_reached_is_told_by_the_budget(report) -> None:
    runs = {("random", seed): [0.6, 0.7, 0.8, 0.9] for seed in range(3)}
    runs |= {("aift", seed): [0.6, 0.65, 0.65, 0.7] for seed in range(3)}
    needed = labels_by_level(table_of(runs), summarise(table_of(runs)), "auc")
    assert needed[-1] == {
        "level": "0.90",
        "seeds": {"random": "20", "aift": ">20"},
        "mean": {"random": "20", "aift": ">20"},
    }
    assert [row["seeds"]["aift"] for row in needed] == ["20", *[">20"] * 4]
    assert "within its 20 labels" in headline(table_of(runs))
    cells = [cell for row in report(table_of(runs)).rows() for cell in row]
    # The level of the baseline, and those from 0.75 to 0.9 with both kinds of reading.
    assert cells.count(">20") == 1
    assert cells.count(">20mean curve >20") == 4


def two_heads() -> pd.DataFrame:
    lose = table_of({("random", 0): [0.5, 0.7, 0.8], ("badge", 0): [0.5, 0.6, 0.7]})
    return pd.concat([WIN.assign(head="cnn"), lose.assign(head="fo<rest")], ignore_index=True)


def test_every_head_has_its_sentence_and_its_own_baseline() -> None:
    assert headline(two_heads()).split("\n") == [
        f"cnn: {headline(WIN)}",
        f"fo<rest: {ALONE}badge did not reach, within its 15 labels, the AUC of 0.800 for which "
        "random needed 15: it saved no labels here.",
    ]
    # A focus that one head lacks is met where it is.
    assert headline(two_heads(), focus="badge").startswith(f"cnn: {ALONE}aift needed")
    with pytest.raises(ParameterError, match=r"focus is 'core'.*'aift', 'badge'"):
        headline(two_heads(), focus="core")


def test_every_head_has_its_section(report) -> None:
    page = report(two_heads(), reference={"fo<rest": {"auc": 0.9417}})
    words = " ".join(page.text.split()).replace("\u00a0", " ")
    for part in (*headline(two_heads()).split("\n"), "Results with cnn", "Results with fo<rest",
                 "With cnn, the first of the 2 models", "0.942"):  # fmt: skip
        assert part in words, part
    assert sum("Learning curves with" in str(a.get("alt")) for _, a in page.tags) == 4
    side_by_side = next(cells[1:] for cells in page.rows() if cells[0] == "aift")
    assert side_by_side == ["0.900area 0.833", "–"]
    assert words.count("whole pool") == 2  # a row of results, and the caption of the classes
    # Pictures of the first head alone: a batch of 5, then three rounds of both strategies.
    assert len(page.candidates()) == 5 + 2 * 15
    timed = [cells[:2] for cells in page.rows() if cells[0] in ("cnn", "fo<rest")]
    assert timed == [
        ["cnn", "random"], ["cnn", "aift"], ["fo<rest", "random"], ["fo<rest", "badge"],
    ]  # fmt: skip


def test_a_reference_without_head_is_that_of_the_first(report) -> None:
    def with_reference(reference) -> list[list[str]]:
        rows = report(two_heads(), reference=reference).rows()
        return [cells for cells in rows if cells[0] == "whole pool"]

    assert with_reference({"auc": 0.9}) == with_reference({"cnn": {"auc": 0.9}})
    assert len(with_reference({"auc": 0.9})) == 1
    assert not with_reference(None)
    with pytest.raises(ParameterError, match=r"heads \['vit'\]; expected some of \['cnn', 'fo"):
        with_reference({"vit": {"auc": 0.9}})


def test_one_named_head_is_no_comparison(report) -> None:
    named, plain = report(WIN.assign(head="cnn")), report(WIN)
    assert re.sub(r"\d\d:\d\d UTC", "", named.text) == re.sub(r"\d\d:\d\d UTC", "", plain.text)


# What the model saw.


def with_probabilities(table, n_classes=2, m=7, seed=0):
    """Patch probabilities for every round but the first, and their patterns."""
    rng = np.random.default_rng(seed)
    P = [
        None if row.round == 0 else rng.dirichlet([0.4] * n_classes, (len(row.asked), m)).round(4)
        for row in table.itertuples()
    ]
    return table.assign(
        patch_proba=[None if each is None else each.tolist() for each in P],
        pattern=[None if each is None else prediction_pattern(each).tolist() for each in P],
    )


def areas(svg: str) -> list[tuple[str, np.ndarray]]:
    """Height of every path at the middle of each unit of width, by literal tracing."""
    width = int(re.search(r'viewBox="0 0 (\d+) 20"', svg)[1])
    found = []
    for name, path in re.findall(r'<path class="(\w+)" d="([^"]*)"/>', svg):
        heights, x, y = np.zeros(width), 0.0, 0.0
        for command, rest in re.findall(r"([MVHhvz])([-\d. ]*)", path):
            numbers = [float(number) for number in rest.split()]
            if command == "M":
                x, y = numbers
            elif command == "V":
                y = numbers[0]
            elif command == "h":
                heights[int(x) : int(x + numbers[0])] = 20 - y
                x += numbers[0]
        found.append((name, heights))
    return found


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
def test_the_histogram_of_two_classes_counts_patches(thousandths) -> None:
    p = np.array(thousandths) / 1000
    drawn = areas(draw_patches(binary(p)))
    counts = [
        sum(low * 100 <= value < low * 100 + 100 + (low == 9) for value in thousandths)
        for low in range(10)
    ]
    heights = sum(height for _, height in drawn)
    assert heights.reshape(10, 5)[:, 0] == pytest.approx(
        np.round(20 * np.array(counts) / max(counts))
    )
    assert (heights.reshape(10, 5)[:, 4] == 0).all()  # a gap between bars
    for name, height in drawn:
        elsewhere = slice(25, 50) if name == "k0" else slice(0, 25)
        assert not height[elsewhere].any()


@settings(max_examples=30)
@given(st.integers(3, 9), st.integers(1, 24), st.integers(0, 99))
def test_the_columns_of_several_classes_hold_the_probabilities(n_classes, m, seed) -> None:
    P = np.random.default_rng(seed).dirichlet([0.3] * n_classes, m)
    drawn = areas(draw_patches(P))
    leading = P.mean(axis=0).argmax()
    ranked = P[np.argsort(P[:, leading], kind="stable")]
    # Painted from the back: what shows of an area is what the next ones leave.
    shown = {}
    for (name, height), (_, below) in itertools.pairwise([*drawn, ("", np.zeros(m))]):
        shown[int(name[1:])] = (height - below) / 20
    assert drawn[-1][0] == f"k{leading}"
    kept = ranked[:, list(shown)] / ranked[:, list(shown)].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.transpose(list(shown.values())), kept, atol=0.011)
    assert all(P[:, k].max() < 0.03 for k in set(range(n_classes)) - set(shown))


def test_many_patches_are_drawn_in_few_columns() -> None:
    P = np.random.default_rng(0).dirichlet([0.3] * 8, 200)
    drawn = areas(draw_patches(P))
    assert {len(height) for _, height in drawn} == {24}
    leading = P.mean(axis=0).argmax()
    assert (drawn[-1][1] / 20).mean() == pytest.approx(P[:, leading].mean(), abs=0.02)
    assert len(draw_patches(P)) < 2000


def test_the_legend_shows_the_published_shapes() -> None:
    entries = pattern_legend(CLASSES, [])
    assert [entry["letter"] for entry in entries] == list("ABCDEFG")
    for entry in entries:
        assert entry["drawn"] == draw_patches(binary(GOLDEN[entry["letter"]][0]))
    meanings = {entry["letter"]: entry["meaning"] for entry in entries}
    assert meanings["D"] == "already known (malignant)"
    assert meanings["F"] == "known (benign), with outliers"
    several = pattern_legend("abc", ["A", "E"])
    assert [entry["letter"] for entry in several] == list("ABCDEG")
    assert several[4]["meaning"] == "already known (by the runner-up)"
    lead = dict(areas(several[1]["drawn"]))["lead"]
    np.testing.assert_allclose(lead, 20 * np.array(GOLDEN["B"][0]), atol=0.1)


@given(
    st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 3), st.text("ABCDEFG", max_size=5)))
)
def test_patterns_are_counted_as_a_loop_would(asked) -> None:
    table = pd.DataFrame(
        [{"strategy": s, "round": r, "pattern": list(letters)} for s, r, letters in asked]
        + [{"strategy": "x", "round": 0, "pattern": missing} for missing in (None, NAN)]
    )
    oracle = Counter((s, r, letter) for s, r, letters in asked for letter in letters)
    counts = pattern_shares(table)
    assert set(counts.index) == {(s, r) for s, r, _ in asked}
    for (strategy, number), row in counts.iterrows():
        assert row.to_dict() == {c: oracle[strategy, number, c] for c in "ABCDEFG"}
        assert row.sum() == sum(len(a) for s, r, a in asked if (s, r) == (strategy, number))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_every_asked_candidate_comes_with_what_the_model_saw(report, n_classes) -> None:
    classes = ("alpha", "beta", "gamma", "delta")[:n_classes]
    table = with_probabilities(table_of({("random", 0): [0.6] * 3, ("aift", 0): [0.6] * 3},
                                        classes=classes), n_classes)  # fmt: skip
    page = report(table, fake_dataset(classes=classes))
    letters = [letter for row in table["pattern"] if row for letter in row]
    titles = [str(a["title"]) for t, a in page.tags if str(a.get("title")).startswith("pattern")]
    assert [title[len("pattern ")] for title in titles] == letters
    means = [np.mean(P, axis=0) for row in table["patch_proba"] if row for P in row]
    # Columns come in the order of the sorted classes.
    assert [re.search(r"expected (\w+)", title)[1] for title in titles] == [
        sorted(classes)[mean.argmax()] for mean in means
    ]
    drawings = sum(tag == "svg" for tag, _ in page.tags)
    legend = 7 if n_classes == 2 else 5 + len(set(letters) & set("EF"))
    assert drawings == 20 + legend + 2 * legend  # candidates, legend, shares by strategy
    assert page.text.count("no scores yet") == 1  # the shared first batch
    shares = pattern_shares(table).groupby(level="strategy").sum()
    row = next(cells for cells in page.rows() if cells[:2] == ["aift", "10"])
    shown = [
        letter for letter in "ABCDEFG" if n_classes == 2 or letter not in "EF" or letter in letters
    ]
    assert row[2:] == [f"{10 * shares.loc['aift', letter]}\u00a0%" for letter in shown]


def test_tables_without_probabilities_still_work(report) -> None:
    page = report()
    assert "svg" not in {tag for tag, _ in page.tags}
    assert "no scores yet" not in page.text
    # Patterns are found where only the probabilities are there.
    table = with_probabilities(WIN)
    titles = [
        [a["title"] for _, a in report(t).tags if str(a.get("title")).startswith("pattern")]
        for t in (table, table.drop(columns="pattern"))
    ]
    assert len(titles[0]) == 30
    assert titles[0] == titles[1]
    for changed, legend, shares in (
        (table.drop(columns="pattern"), 1, 0),
        (table.drop(columns="patch_proba"), 1, 1),
    ):
        words = report(changed).text
        assert words.count("uncertain everywhere") == legend
        assert words.count("Share of each pattern") == shares
        assert ("Under each picture" in words) == ("patch_proba" in changed)


def test_probabilities_as_other_formats_return_them(report) -> None:
    table = with_probabilities(WIN)

    def nested(value):
        if not isinstance(value, list):
            return value
        result = np.empty(len(value), dtype=object)
        result[:] = [nested(each) if isinstance(each, list) else each for each in value]
        return result

    strange = table.assign(
        patch_proba=[NAN if row is None else nested(row) for row in table["patch_proba"]],
        pattern=[NAN if row is None else np.array(row) for row in table["pattern"]],
    )
    assert report(strange).tags == report(table).tags


@pytest.mark.parametrize(
    "changed",
    [
        lambda row: row[:-1],
        lambda row: [[[0.2, 0.3, 0.5]]] * len(row),
        lambda row: [[0.5, 0.5]] * len(row),
        lambda row: [[[0.5, 0.5], [1.0]]] * len(row),
    ],
)
def test_probabilities_that_do_not_fit_are_refused(tmp_path, changed) -> None:
    table = with_probabilities(WIN)
    bad = table.assign(patch_proba=[row and changed(row) for row in table["patch_proba"]])
    with pytest.raises(ParameterError, match=r"patch_proba of random, round 1 .*\(m, 2\) for each "
                                             r"of the 5 .* or drop the column"):  # fmt: skip
        write_report(bad, fake_dataset(), tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_pictures_of_a_big_study_stay_small(report, tmp_path) -> None:
    names = [f"strategy {i}" for i in range(5)]
    classes = [f"class {i}" for i in range(5)]
    runs = {(name, 0): [0.6, 0.7, 0.8, 0.85] for name in names}
    table = with_probabilities(table_of(runs, batch=20, classes=classes), 5, m=16)
    X = np.random.default_rng(0).integers(0, 256, (100, 1, 28, 28), dtype=np.uint8)
    dataset = fake_dataset(classes=classes, n=100, X=X)
    sizes = [
        write_report(table, dataset, tmp_path / "r.html", max_pictures=most).stat().st_size
        for most in (0, 20)
    ]
    # 1,340 pictures of ten strategies and twelve rounds: below 5 MB even where all is noise.
    assert (sizes[1] - sizes[0]) / (20 + 5 * 3 * 20) < 3400


def test_large_pictures_in_colour_are_stored_as_jpeg(report) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 3, 96, 96), dtype=np.uint8)
    for X, kind in ((noise, "jpeg"), (np.zeros_like(noise), "png")):
        image = next(a for t, a in report(dataset=fake_dataset(X=X)).tags
                     if "candidate" in str(a.get("alt")))  # fmt: skip
        assert image["src"].startswith(f"data:image/{kind};base64,")
        shown = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
        assert (shown.size, shown.format) == ((96, 96), kind.upper())
    assert Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))).mode == "L"


def test_only_the_first_strategies_are_unfolded(report) -> None:
    def unfolded(n: int) -> list[bool]:
        runs = {(f"s{i}", 0): [0.6, 0.7] for i in range(n)}
        return ["open" in a for t, a in report(table_of(runs)).tags if t == "details"]

    assert unfolded(3) == [True] * 4  # the shared first batch, then the strategies
    assert unfolded(5) == [True] * 3 + [False] * 3


def test_what_was_left_out_is_said(report) -> None:
    assert "Left out" not in report().text
    assert "2 images <twice>" in report(dataset=fake_dataset(notes=("2 images <twice>",))).text


def test_many_strategies_are_told_apart() -> None:
    names = [f"strategy {i}" for i in range(30)]
    ax = plot_learning_curves(table_of({(name, s): [0.5, 0.6] for name in names for s in range(4)}))
    looks = {(line.get_color(), line.get_marker()) for line in ax.lines}
    assert len(looks) == len(ax.lines) == 30
    assert not ax.collections
    bottom, top = ax.get_ylim()
    heights = [text.xy[1] for text in ax.texts]
    assert np.diff(heights).min() > 0
    assert bottom <= min(heights) <= max(heights) <= top
