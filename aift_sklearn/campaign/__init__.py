"""Labelling campaigns: ask, show, record, learn, and ask again, with every answer safe.

Needs the extra ``campaign``.
"""

from .._optional import load_optional as _load

for _module in ("sqlalchemy", "PIL"):
    _load(
        _module,
        purpose="aift_sklearn.campaign",
        extra="campaign",
        package="pillow" if _module == "PIL" else "",
    )

from .campaign import Campaign  # noqa: E402
from .ledger import Ledger  # noqa: E402
from .records import Answer, Ask, Kind, Purpose, Question, Round  # noqa: E402
from .settings import Settings  # noqa: E402

__all__ = [
    "Answer",
    "Ask",
    "Campaign",
    "Kind",
    "Ledger",
    "Purpose",
    "Question",
    "Round",
    "Settings",
]
