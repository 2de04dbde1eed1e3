"""The command ``aift``."""

from .._threads import passive_waiting

with passive_waiting():
    from .app import app, main

__all__ = ["app", "main"]
