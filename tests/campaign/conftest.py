"""Places where ledgers lie: files, and a server of PostgreSQL that is started for the tests."""

import pytest
from ledgers import Files, Schemas
from postgres import running_server, why_not


@pytest.fixture(scope="session")
def server():
    """A server of PostgreSQL."""
    if why_not():
        pytest.skip(why_not())
    with running_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request, tmp_path):
    """Places for ledgers: `fresh` names one where there is none."""
    if request.param == "sqlite":
        return Files(tmp_path)
    return Schemas(request.getfixturevalue("server"))


@pytest.fixture
def ledger(places):
    """A ledger of two classes that asks for nothing yet, with a clock that stands still."""
    with places.create() as ledger:
        yield ledger
