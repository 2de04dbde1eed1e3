"""docs/label-studio.md: its pictures are there, and its code runs."""

import json
import re
from pathlib import Path

import pytest
from exchanges import FakeLedger

from aift_sklearn.campaign.exchange import export_label_studio
from aift_sklearn.campaign.records import Ask
from aift_sklearn.campaign.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "label-studio.md").read_text("utf-8")


@pytest.mark.parametrize("name", re.findall(r"\]\(([^)#:]+)\)", PAGE))
def test_what_it_points_to_is_there_and_small(name):
    assert (DOCS / name).exists()
    if name.endswith(".png"):
        assert (DOCS / name).stat().st_size < 150_000


def test_it_names_the_fields_of_tasks(tmp_path):
    settings = Settings("cells", ("RBC", "WBC"), "images")
    export_label_studio(tmp_path / "tasks.json", [Ask("a", 1)], settings, "https://x/{}".format)
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert set(re.findall(r"^\| `(\w+)`", PAGE, flags=re.MULTILINE)) - {"completed_by"} == set(
        task["data"]
    ) - {"image"}


def test_its_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = {"from_name": "label", "to_name": "image", "type": "choices"}
    result["value"] = {"choices": ["WBC"]}
    annotation = {"id": 1, "completed_by": 2, "result": [result], "was_cancelled": False}
    task = {"id": 1, "data": {"aift_id": "a"}, "annotations": [annotation]}
    Path("annotations.json").write_text(json.dumps([task]))
    ledger = FakeLedger()
    ledger.asks, ledger.answers = lambda: [Ask("a", 1)], lambda: ledger.rows
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(code, {"ledger": ledger, "classes": ("RBC", "WBC")})
    assert [(a.annotator, a.label) for a in ledger.current()] == [("ben", "WBC")]
    assert "1 answer to store" in capsys.readouterr().out
