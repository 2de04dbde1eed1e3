"""Splits by whole groups, and what a data set shows of itself."""

from __future__ import annotations

import dataclasses
import itertools
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aift_sklearn.errors import DataError
from aift_sklearn.study import Dataset, split_dataset


def split(y, groups, fraction, seed=0):
    """Candidates whose pixels are their positions."""
    X = np.arange(len(y), dtype=np.float32).reshape(-1, 1, 1, 1)
    return split_dataset(
        "x", X, y, groups=np.asarray(groups), test_fraction=fraction, random_state=seed
    )


def share(data):
    return len(data.y_test) / (len(data.y) + len(data.y_test))


@pytest.mark.parametrize("fraction", [0.03, 0.1, 0.2, 0.3, 0.4, 0.45, 0.55, 0.6, 0.75, 0.8, 0.97])
def test_the_share_with_groups_is_the_one_that_was_asked(fraction):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 12, 60)
    groups = rng.permutation(np.repeat(np.arange(60), sizes))
    y = rng.choice(["a", "b", "c"], len(groups), p=[0.7, 0.2, 0.1])
    data = split(y, groups, fraction)
    assert abs(share(data) - fraction) <= 0.01
    assert not data.notes
    assert not set(data.groups) & set(data.groups_test)
    for c in "abc":
        assert abs((data.y_test == c).sum() / (y == c).sum() - fraction) <= 0.06


@settings(max_examples=80)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=14),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_the_share_is_met_to_within_a_group_or_said(sizes, fraction, seed, data):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = st.lists(st.sampled_from("ab"), min_size=len(groups), max_size=len(groups))
    y = np.array(data.draw(labels))
    if min((y == "a").sum(), (y == "b").sum()) < 2:
        return
    try:
        drawn = split(y, groups, fraction, seed)
    except DataError:
        # Only where no choice of groups has both classes on both sides.
        members = [set(y[groups == g]) for g in range(len(sizes))]
        for chosen in itertools.product([False, True], repeat=len(sizes)):
            sides = [
                set().union(*(m for m, c in zip(members, chosen, strict=True) if c is side))
                for side in (False, True)
            ]
            assert sides != [{"a", "b"}] * 2
        return
    assert sorted([*drawn.X.ravel(), *drawn.X_test.ravel()]) == list(range(len(y)))
    assert not set(drawn.groups) & set(drawn.groups_test)
    assert set(drawn.y) == set(drawn.y_test) == {"a", "b"}
    missed = abs(share(drawn) - fraction)
    assert missed <= max(sizes) / len(y) + 1e-9 or drawn.notes
    if missed > 0.02:
        assert (
            f"the test set is {share(drawn):.0%} of the candidates, not the {fraction:.0%}"
            in (drawn.notes[0])
        )
    again = split(y, groups, fraction, seed)
    np.testing.assert_array_equal(drawn.X_test, again.X_test)


def test_other_seeds_draw_other_groups():
    groups = np.repeat(np.arange(30), 5)
    y = np.tile(["a", "b"], 75)
    drawn = {tuple(np.unique(split(y, groups, 0.4, seed).groups_test)) for seed in range(5)}
    assert len(drawn) == 5


def test_two_groups_are_split_and_the_share_is_said():
    data = split(["a", "b"] * 6, np.repeat(["left", "right"], 6), 0.3)
    assert (len(data.y), len(data.y_test)) == (6, 6)
    assert "50% of the candidates, not the 30% asked for" in data.notes[0]
    assert data.notes[0] in repr(data)


def test_a_class_that_lies_in_two_groups_is_on_both_sides():
    y = np.full(200, "common")
    y[[3, 197]] = "rare"
    for seed in range(6):
        data = split(y, np.arange(200) // 5, 0.1, seed)
        assert "rare" in data.y
        assert "rare" in data.y_test


def test_many_groups_are_split_in_little_time():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(2000), 2)
    data = split(rng.choice(["a", "b"], 4000), groups, 0.35)
    assert share(data) == pytest.approx(0.35, abs=0.001)


# What is shown.


def dataset(classes=("benign", "malignant"), shape=(3, 12, 12), **changed):
    rng = np.random.default_rng(0)
    y = np.array([classes[i % len(classes)] for i in range(40)])
    X = rng.integers(0, 256, (40, *shape), dtype=np.uint8)
    whole = Dataset("nuclei", X, y, X[:20], y[:20], None, None, "Drawn.", "here", "CC0")
    return dataclasses.replace(whole, **changed)


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_notebook_shows_candidates_of_each_class():
    page = Tags(dataset(notes=("2 images left out",))._repr_html_())
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 12
    assert all(image["src"].startswith("data:image/") for image in images)
    assert [image["alt"] for image in images[:2]] == ["candidate 0", "candidate 2"]
    for part in ("nuclei", "3 × 12 × 12", "benign2010", "all4020", "2 images left out", "CC0"):
        assert part in page.text.replace("\n", ""), part
    assert not page.open


def test_names_are_text_in_a_notebook_too():
    hurt = "<script>alert(1)</script>"
    shown = dataset((hurt, "b"), name=hurt, licence=hurt, notes=(hurt,))
    page = Tags(shown._repr_html_())
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(hurt) == 4


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 8), (5, 8, 8)])
def test_any_channels_are_shown(shape):
    assert dataset(shape=shape)._repr_html_().count("<img") == 12


def test_positions_in_the_place_of_images_have_no_pictures():
    positions = np.arange(40.0)[:, None]
    page = dataset(X=positions, X_test=positions[:20])._repr_html_()
    assert "<img" not in page
    assert "malignant" in page


def test_a_data_set_of_many_classes_says_little():
    many = dataset(tuple(f"class {i}" for i in range(40)), notes=[f"note {i}" for i in range(30)])
    assert len(repr(many).splitlines()) == 3 + 8 + 1
    assert "and 32 more classes" in repr(many)
    assert "and 22 more notes" in repr(many)
    assert all(len(line) < 200 for line in repr(many).splitlines())
    assert many._repr_html_().count("<img") == 8
