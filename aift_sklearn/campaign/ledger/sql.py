"""SQLAlchemy, which an extra brings."""

from __future__ import annotations

from ...errors import MissingDependencyError

try:
    import sqlalchemy as sa
except ImportError as error:
    raise MissingDependencyError(
        "sqlalchemy", extra="campaign", purpose="aift_sklearn.campaign.ledger"
    ) from error

__all__ = ["sa"]
