"""What finding exemplars costs beside a bare loop, beside the loop everybody writes, and beside zennit-crp.

One run, the same images, EfficientNet-Lite0. `bare`: decode, and forward through the same prepared network, nothing
else. `everybody's`: the network as it comes, batches of 32, the same decoding. `zennit-crp`, where it is installed: its
FeatureVisualization on one layer. Ours: `search.exemplars` with one and with five layers, receptive fields and all.
Contenders take turns; the fastest turn of each counts. A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Decoded, fastest, machine, missing, part, take_turns
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from featviz import Model, Trunk, load_model
from search import Images, exemplars, open_images, scan
from search.scan.record import Record
from search.scan.scan import CPU_BATCH

ONE = ["blocks.3"]
FIVE = ["blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5"]
CRP = "zennit-crp"


def bare(model: Model, images: Images, layers: list[str]) -> None:
    """Decode and forward through the prepared network, as many images at a time as a scan takes."""
    trunk = Trunk(model, layers)
    with torch.inference_mode():
        for pixels in DataLoader(Decoded(model, images), batch_size=CPU_BATCH, num_workers=1):
            trunk(pixels.float() / 255)


def everybodys(model: Model, images: Images, layers: list[str]) -> None:
    """The network as it comes, hooks, batches of 32, everything kept and sorted."""
    network = model.network.eval()
    kept: dict[str, list[Any]] = {layer: [] for layer in layers}
    handles = [
        network.get_submodule(layer).register_forward_hook(
            lambda module, inputs, output, layer=layer: kept[layer].append(output.amax((2, 3)))
        )
        for layer in layers
    ]
    with torch.no_grad():
        for inputs, _ in DataLoader(Decoded(model, images, normalized=True), batch_size=32, num_workers=1):
            network(inputs)
    for handle in handles:
        handle.remove()
    for parts in kept.values():
        torch.cat(parts).topk(min(9, len(images)), dim=0)


def zennit_crp(model: Model, images: Images, layers: list[str]) -> None:
    """zennit-crp's own pass over one layer."""
    from crp.attribution import CondAttribution
    from crp.concepts import ChannelConcept
    from crp.visualization import FeatureVisualization
    from zennit.composites import EpsilonPlusFlat

    with tempfile.TemporaryDirectory() as folder:
        maps = dict.fromkeys(layers, ChannelConcept())
        dataset = Decoded(model, images, normalized=True)
        visualization = FeatureVisualization(CondAttribution(model.network), dataset, maps, path=folder)
        visualization.run(EpsilonPlusFlat(), 0, len(images), batch_size=8)


def ours(model: Model, images: Images, layers: list[str]) -> None:
    """Exemplars of every channel, strongest and weakest, positions, statistics, correlations, receptive fields."""
    exemplars(model, images, layers, workers=1)


def only_the_pass(model: Model, images: Images, layers: list[str]) -> None:
    """The same without what does not grow with the number of images: the receptive fields."""
    scan(model, images, layers, [Record(layer, 9) for layer in layers], workers=1)


def memory(options: argparse.Namespace) -> dict[str, float]:
    """Largest resident megabytes of a process that makes one pass over 500 and over 5,000 images, workers aside."""
    return {str(count): one_pass(options.images, count) for count in (500, 5000)}


def one_pass(folder: str, count: int) -> float:
    """Peak megabytes of a fresh process that looks at five layers of `count` images."""
    script = (
        "from pathlib import Path\n"
        "from exemplars import FIVE, load_model, only_the_pass, open_images, part\n"
        f"only_the_pass(load_model(device='cpu'), part(open_images({folder!r}), {count}), FIVE)\n"
        # Not getrusage: on Linux its peak is inherited from the process that started this one.
        "print(*(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM')))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return round(float(ran.stdout.split()[-2]) / 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The cost of finding exemplars.")
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--count", type=int, default=500, help="how many images")
    parser.add_argument("--crp", type=int, default=100, help="how many of them for zennit-crp, which is slow")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contender; its fastest counts")
    parser.add_argument("--memory", action="store_true", help="also the resident memory at 500 and 5,000 images")
    options = parser.parse_args()
    console, model = Console(stderr=True), load_model(device="cpu")
    images = part(open_images(options.images), options.count)
    contenders = {
        "bare, one layer": (bare, ONE),
        "ours, one layer, the pass": (only_the_pass, ONE),
        "ours, one layer, all": (ours, ONE),
        "bare, five layers": (bare, FIVE),
        "ours, five layers, the pass": (only_the_pass, FIVE),
        "ours, five layers, all": (ours, FIVE),
        "everybody's, one layer": (everybodys, ONE),
    }
    works = {name: partial(work, model, images, layers) for name, (work, layers) in contenders.items()}
    turns, _ = take_turns(works, options.repeats, console.print)
    best = {name: min(seconds) for name, seconds in turns.items()}
    figures = {name: {"ms per image": round(1000 * value / len(images), 2)} for name, value in best.items()}
    absent = missing(CRP)
    if absent is None:
        some = part(images, options.crp)
        figures[CRP] = {
            "ms per image": round(1000 * fastest(lambda: zennit_crp(model, some, ONE), 1)[0] / len(some), 2)
        }
    ratios = {
        "one layer / bare": best["ours, one layer, the pass"] / best["bare, one layer"],
        "five layers / bare": best["ours, five layers, the pass"] / best["bare, five layers"],
        "one layer / everybody's": best["ours, one layer, all"] / best["everybody's, one layer"],
    }
    if CRP in figures:
        ratios["zennit-crp / one layer"] = (
            figures[CRP]["ms per image"] / figures["ours, one layer, all"]["ms per image"]
        )
    table = Table(title=f"{len(images)} images")
    for heading in ("", "ms per image"):
        table.add_column(heading)
    for name, row in figures.items():
        table.add_row(name, str(row["ms per image"]))
    console.print(table)
    console.print({name: round(value, 3) for name, value in ratios.items()})
    result = {**machine(model), "images": len(images), "missing": absent, "figures": figures, "ratios": ratios}
    if options.memory:
        result["resident MB after"] = memory(options)
        console.print(result["resident MB after"])
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
