"""What the tests of faults count; the conftest above says it at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def count_line(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Add a line to the end of what pytest prints."""
    return lambda line: record_property("counted", line)
