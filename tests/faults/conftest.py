"""What the tests of faults counted, said at the end whichever process ran them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_COUNTED = "counted"


@pytest.fixture
def count_line(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Add a line to the end of what pytest prints."""
    return lambda line: record_property(_COUNTED, line)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    here = Path(__file__).parent.relative_to(config.rootpath).as_posix()
    reports = [
        report
        for kind in ("passed", "failed", "skipped", "error")
        for report in terminalreporter.stats.get(kind, [])
        if report.nodeid.startswith(here)
    ]
    for report in reports:
        for name, line in report.user_properties:
            if name == _COUNTED and report.when == "call":
                terminalreporter.write_line(line)
    spent = sum(report.duration for report in reports)
    if reports:
        terminalreporter.write_line(f"faults: {len(reports)} tests in {spent:.0f} s")
