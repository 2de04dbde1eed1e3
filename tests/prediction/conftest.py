"""Exports of tiny networks, at half their time."""

from exporter import quick_exports

__all__ = ["quick_exports"]
