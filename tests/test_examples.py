"""The examples run, and say what they found."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import torch

from search.card.stimuli import bars, edges, orientation_selectivity, tuning

EXAMPLES = Path(__file__).parent.parent / "examples"


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


# The example that each tutorial is made from.
TUTORIALS = {"first-atlas": "layer", "neuron": "neuron", "classes": "two_classes"}


@pytest.mark.parametrize(("page", "name"), TUTORIALS.items())
def test_the_python_of_a_tutorial_is_that_of_its_example(page: str, name: str) -> None:
    text = (EXAMPLES.parent / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = [
        block for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "load_model" in block
    ]
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(blocks) == 1
    imports, _, code = blocks[0].partition("\nmodel = ")
    assert textwrap.indent(f"model = {code}", "    ") in source
    for line in imports.splitlines():
        if line.startswith(("import", "from")):
            assert line in source.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS.values())
def test_the_examples_of_the_tutorials_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--quick", "--out", str(tmp_path / "out")])
    _example(name).main()
    made = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"layer": "tabby.png", "neuron": "sheet.png", "two_classes": "both.png"}[name] in made


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
