"""The examples run, and say what they found."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from search.stimuli import bars, edges, orientation_selectivity, tuning

EXAMPLES = Path(__file__).parent.parent / "examples"


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_mnist_study_runs_and_writes_its_page(tmp_path: Path) -> None:
    found = _example("mnist").study(tmp_path / "out", quick=True)
    assert found["accuracy"] > 0.6
    assert sum(found["channels_after"]) < sum(found["channels_before"])
    assert len(found["rounds"]) == 3
    assert found["by_hand"] > 0.5
    assert (tmp_path / "out" / "index.html").is_file()
    assert (tmp_path / "out" / "conv1-orientations.png").is_file()


def test_lines_and_edges_made_by_hand_are_found_at_their_orientation() -> None:
    mnist = _example("mnist")
    network = mnist.SimpleConvNet((8, 12, 12), 10)
    with torch.no_grad():
        for number in range(8):
            network.conv1.weight[number, 0] = mnist.line_kernel(45.0 * (number % 4), edge=number >= 4)
    model = mnist.wrapped(network)
    for family, period, channels in ((bars, 180, range(4)), (edges, 360, range(4, 8))):
        angles, strengths = orientation_selectivity(tuning(model, "conv1", family((28, 28), 12.0)), period=period)
        for number in channels:
            off = (float(angles[number]) - 45.0 * (number % 4)) % 180
            assert min(off, 180 - off) <= 10, (family.__name__, number, float(angles[number]))
            assert strengths[number] > 0.3
    assert math.isclose(float(mnist.line_kernel(30.0, edge=False).sum()), 0, abs_tol=1e-6)
