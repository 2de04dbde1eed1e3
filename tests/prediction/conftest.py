"""Exports of tiny networks, at half their time."""

from __future__ import annotations

import pytest
from exporter import read_operators_once


@pytest.fixture(autouse=True, scope="session")
def quick_exports():
    with pytest.MonkeyPatch.context() as monkeypatch:
        read_operators_once(monkeypatch)
        yield
