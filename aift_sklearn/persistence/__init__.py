"""Save and load models as folders of plain data: nothing that is loaded can run code."""

from .folder import load, save

__all__ = ["load", "save"]
