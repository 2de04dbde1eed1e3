"""What a campaign is about, and its folder."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aift_sklearn.campaign.folder import CampaignFolder
from aift_sklearn.campaign.settings import Settings
from aift_sklearn.errors import DataError, ParameterError


def test_settings_survive_json():
    settings = Settings("cells", ("a", "b"), "images", {"size": 64}, readers=2, overlap=0.3)
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_what_a_newer_release_added_is_left_alone():
    values = Settings("cells", ("a", "b"), "images").to_json() | {"haptics": True}
    assert Settings.from_json(values).classes == ("a", "b")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"classes": ["a"]}, "at least two"),
        ({"classes": ["a", "a"]}, "twice"),
        ({"classes": ["a", "b\n"]}, None),
        ({"classes": ["a", "b\x07"]}, "one line"),
        ({"classes": ["a", "x" * 101]}, "1 to 100 letters"),
        ({"show": "never"}, "show"),
        ({"batch": 0}, "batch"),
        ({"overlap": 0.5, "readers": 1}, "readers=2"),
        ({"overlap": 1.5, "readers": 2}, "overlap"),
    ],
)
def test_settings_out_of_range(change, match):
    values = {"name": "cells", "classes": ["a", "b"], "source": "images"} | change
    values["classes"] = tuple(values["classes"])
    if match is None:
        assert Settings(**values).classes == ("a", "b")
        return
    with pytest.raises(ParameterError, match=match):
        Settings(**values)
    with pytest.raises(DataError, match="damaged"):
        Settings.from_json(values)


def test_one_text_is_no_list_of_classes():
    with pytest.raises(ParameterError, match=r"\('a', 'b'\)"):
        Settings("cells", "a,b", "images")


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())))
def test_damaged_settings_are_told(values):
    with pytest.raises(DataError, match="damaged"):
        Settings.from_json(values)


def begin(folder, ledger=None):
    folder.prepare()
    folder.finish(ledger)


def test_a_folder_begins_and_is_found(tmp_path):
    folder = CampaignFolder(tmp_path / "a" / "b")
    assert not folder.exists
    begin(folder)
    assert folder.exists
    assert folder.ledger() == str(tmp_path / "a" / "b" / "ledger.sqlite")
    with pytest.raises(ParameterError, match="already"):
        folder.prepare()


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DataError, match="holds other files"):
        CampaignFolder(tmp_path).prepare()
    with pytest.raises(DataError, match="is a file"):
        CampaignFolder(tmp_path / "thesis.tex").prepare()


def test_a_password_is_not_written_down(tmp_path):
    folder = CampaignFolder(tmp_path / "a")
    begin(folder, "postgresql+psycopg://ann:secret@host/cells")
    assert folder.ledger() == "postgresql+psycopg://ann@host/cells"
    assert "secret" not in (tmp_path / "a" / "campaign.json").read_text()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"format": "x", "version": 1}', "no head"),
        ('{"format": "aift-sklearn campaign", "version": 1, "ledger": 7}', "no head"),
        ('{"format": "aift-sklearn campaign", "version": "x"}', "damaged"),
        ('{"format": "aift-sklearn campaign", "version": 2}', "newer"),
    ],
)
def test_heads_that_are_none(tmp_path, text, match):
    (tmp_path / "campaign.json").write_text(text)
    with pytest.raises(DataError, match=match):
        CampaignFolder(tmp_path).ledger()
    with pytest.raises(DataError, match="no campaign"):
        CampaignFolder(tmp_path / "other").ledger()
