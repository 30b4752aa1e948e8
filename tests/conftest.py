"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import noise_folder

from featviz.network.models import Model, load_model
from featviz.run.memory import keep_freed_memory


def pytest_configure(config: pytest.Config) -> None:
    """Of several processes of tests, each takes one core, and so do the processes that they start."""
    keep_freed_memory()  # as the command does
    # Each process that tests start would compile the three packages anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if os.environ.get("PYTEST_XDIST_WORKER"):
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests come first: whichever process got one of them last would end alone."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    """A test, or what it calls, that leaves torch with other threads changes bytes and slows all that follow."""
    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before


@pytest.fixture(scope="session")
def lite0() -> Model:
    """EfficientNet-Lite0 with its ImageNet weights."""
    return load_model("efficientnet_lite0", device="cpu")


@pytest.fixture(scope="session")
def image_sample() -> Path:
    """The folder of labelled ImageNet photographs that ACTIVATION_ATLAS_IMAGES names."""
    folder = os.environ.get("ACTIVATION_ATLAS_IMAGES")
    if not folder:
        pytest.skip("ACTIVATION_ATLAS_IMAGES names no folder of labelled ImageNet photographs")
    return Path(folder)


@pytest.fixture(scope="session")
def noise_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 small random images."""
    return noise_folder(tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; CI requires it (ACTIVATION_ATLAS_BROWSER=required), elsewhere tests are skipped without."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("ACTIVATION_ATLAS_BROWSER") == "required":
            pytest.fail("no chromium on the path, and ACTIVATION_ATLAS_BROWSER requires one")
        pytest.skip("no chromium on the path")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what the tests of faults counted, whichever process ran them: of conftests, pytest-xdist asks this one."""
    here = "tests/faults"
    reports = [
        report
        for kind in ("passed", "failed", "skipped", "error")
        for report in terminalreporter.stats.get(kind, [])
        if report.nodeid.startswith(here)
    ]
    for report in reports:
        for name, line in report.user_properties:
            if name == "counted" and report.when == "call":
                terminalreporter.write_line(line)
    spent = sum(report.duration for report in reports)
    if reports:
        terminalreporter.write_line(f"faults: {len(reports)} tests in {spent:.0f} s")
