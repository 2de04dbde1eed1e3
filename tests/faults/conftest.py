"""What tests of faults share: a database, and a report at the end, whichever process ran them."""

from __future__ import annotations

from collections import Counter

import pytest
from postgres import running_server, why_not


@pytest.fixture
def server():
    """A server of PostgreSQL."""
    if why_not():
        pytest.skip(why_not())
    with running_server() as server:
        yield server


@pytest.fixture
def report(record_property):
    """Tell a title, and how often each phase was hit: of all that are possible, or those hit."""

    def tell(title, hits, phases=()):
        counts = Counter(hits)
        lines = [f"  {counts[phase]:3} x {phase}" for phase in phases or sorted(counts)]
        record_property("fault", "\n".join([title, *lines]))

    return tell


def pytest_terminal_summary(terminalreporter):
    told = [
        text
        for result in terminalreporter.getreports("passed")
        for name, text in result.user_properties
        if name == "fault" and result.when == "call"
    ]
    if told:
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(told))
