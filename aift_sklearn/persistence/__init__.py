"""Save and load models as folders of plain data: nothing that is loaded can run code."""

from .folder import hash_of, load, save

__all__ = ["hash_of", "load", "save"]
