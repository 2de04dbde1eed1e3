"""Exports of tiny networks, at half their time; what ONNX Runtime is given."""

import pytest
from exporter import quick_exports

__all__ = ["quick_exports"]


@pytest.fixture
def begun(monkeypatch):
    """Numbers of candidates in the pools that ONNX Runtime has begun."""
    from aift_sklearn.onnx import engine

    seen = []
    begin = engine.OnnxEngine.begin

    def began(self, pool):
        begin(self, pool)
        seen.append(len(pool))

    monkeypatch.setattr(engine.OnnxEngine, "begin", began)
    return seen
