"""A campaign's ledger: an append-only record in SQLite or PostgreSQL."""

from ..operations import Lease, Operation, Release, Saw, Undo
from .counts import Counts
from .ledger import Ledger
from .rows import Note

__all__ = ["Counts", "Lease", "Ledger", "Note", "Operation", "Release", "Saw", "Undo"]
