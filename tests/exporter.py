"""torch's exporter in half of its time: many tests do little else than export a tiny network."""

from __future__ import annotations

import functools

import pytest


@pytest.fixture(autouse=True, scope="session")
def quick_exports():
    """Keep the list of onnxscript's operators, which every export makes anew from their source.

    With a release that keeps the list elsewhere, the tests are slower and no different.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        try:
            from torch.onnx._internal.exporter import _registration

            apis = _registration.onnxscript_apis
            read = functools.cache(apis.get_torchlib_ops)
        except (ImportError, AttributeError):
            pass
        else:
            monkeypatch.setattr(apis, "get_torchlib_ops", read)
        yield
