"""Milliseconds by the size of a batch: of micro-batches while drawing, of batches while scanning.

The evidence behind CPU_PIXELS in featviz/network/batch_size.py and CPU_BATCH in search/scan/scan.py. A table goes to
standard error, JSON to standard output. Every size does the same work, in turns; the fastest turn of each counts.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import machine, wait
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atlas.icons import DECAY, icon_views
from featviz import Model, Trunk, load_model, maximize
from featviz.draw import objectives
from featviz.draw.canvas import Fourier
from search.scan.scan import CPU_BATCH

CHUNKS = (1, 2, 4, 8, 16, 32)
BATCHES = (1, 4, 8, 16, 32, 64)

# A size of batch -> how many units of work were done with it.
Work = Callable[[int], int]
# Heading of a column -> size -> milliseconds per unit of work.
Figures = dict[str, dict[int, float]]


def drawing(model: Model, *, pictures: int, steps: int) -> dict[str, Work]:
    """Pictures of channels and icons of directions, their network prepared beforehand; a unit is a picture's step."""
    return {
        "channels of blocks.3, 128 px": channels(model, "blocks.3", 128, pictures, steps),
        "directions of blocks.5, 96 px": icons(model, "blocks.5", 96, pictures, steps),
    }


def channels(model: Model, layer: str, size: int, pictures: int, steps: int) -> Work:
    """Channels as `atlas render` draws them."""
    trunk = Trunk(model, [layer])
    wish = objectives.channel(layer, range(pictures))

    def work(chunk: int) -> int:
        maximize(model, wish, size=size, steps=steps, chunk=chunk, trunk=trunk)
        return pictures * steps

    return work


def icons(model: Model, layer: str, size: int, pictures: int, steps: int) -> Work:
    """Directions, random ones, as an atlas draws them."""
    trunk = Trunk(model, [layer])
    width = trunk.map_size(layer)[0]
    wish = objectives.direction(layer, torch.randn(pictures, width, generator=torch.Generator().manual_seed(0)))
    canvas, transform = partial(Fourier, decay=DECAY), icon_views(size)

    def work(chunk: int) -> int:
        maximize(model, wish, size=size, steps=steps, canvas=canvas, transform=transform, chunk=chunk, trunk=trunk)
        return pictures * steps

    return work


def scanning(model: Model, *, images: int) -> dict[str, Work]:
    """Forward passes at the network's own size; a unit is an image."""
    layer = str(model.default_layer)
    last = [name for name, _ in model.network.named_children()][-1]
    pixels = torch.rand(images, 3, *model.preprocess.size, generator=torch.Generator().manual_seed(0))
    plain = copy.deepcopy(model.network).to(model.device)
    return {
        f"trunk, up to {layer}": forward(Trunk(model, [layer]), pixels, model),
        f"trunk, up to {last}": forward(Trunk(model, [last]), pixels, model),
        f"plain network, up to {last}": forward(normalized(plain, model), pixels, model),
    }


def normalized(network: nn.Module, model: Model) -> Callable[[Tensor], Any]:
    """The network as it comes, fed with images in [0, 1]."""
    return lambda images: network(model.preprocess.normalize(images))


def forward(function: Callable[[Tensor], Any], pixels: Tensor, model: Model) -> Work:
    """All pixels through a function, batch by batch."""

    def work(batch: int) -> int:
        with torch.inference_mode():
            for start in range(0, len(pixels), batch):
                function(pixels[start : start + batch].to(model.device))
        return len(pixels)

    return work


def measure(
    works: Mapping[str, Work], sizes: Sequence[int], model: Model, repeats: int, say: Callable[[str], None]
) -> Figures:
    """Milliseconds per unit of work, by heading and size: the fastest of `repeats` turns."""
    best: Figures = {heading: dict.fromkeys(sizes, float("inf")) for heading in works}
    for work in works.values():
        for size in sizes:
            work(size)  # the first pass of each shape prepares its kernels
    for repeat in range(repeats):
        for heading, work in works.items():
            for size in sizes:
                best[heading][size] = min(best[heading][size], milliseconds(work, size, model))
        say(f"turn {repeat + 1} of {repeats} done")
    return {heading: {size: round(ms, 3) for size, ms in column.items()} for heading, column in best.items()}


def milliseconds(work: Work, size: int, model: Model) -> float:
    """Per unit of work, at this size of batch."""
    wait(model)
    start = time.perf_counter()
    units = work(size)
    wait(model)
    return 1000 * (time.perf_counter() - start) / units


def table(title: str, figures: Figures) -> Table:
    """A row per size of batch."""
    drawn = Table(title=title, box=box.SIMPLE)
    drawn.add_column("size", justify="right")
    for heading in figures:
        drawn.add_column(heading, justify="right")
    for size in next(iter(figures.values())):
        drawn.add_row(str(size), *(f"{column[size]:.2f}" for column in figures.values()))
    return drawn


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Milliseconds by the size of a batch.")
    parser.add_argument(
        "--quick", action="store_true", help="few steps and sizes: does it run? The figures say nothing"
    )
    parser.add_argument("--repeats", type=int, default=2, help="turns of each size; its fastest counts")
    parser.add_argument("--json-out", type=Path, help="also write the JSON to this file")
    return parser.parse_args()


def main() -> None:
    """Measure both and print them."""
    options = arguments()
    console = Console(stderr=True)
    model = load_model()
    chunks, batches, steps = (CHUNKS[:3], BATCHES[:2], 2) if options.quick else (CHUNKS, BATCHES, 16)
    repeats = max(1, options.repeats)
    drawn = measure(drawing(model, pictures=max(chunks), steps=steps), chunks, model, repeats, console.print)
    scanned = measure(scanning(model, images=max(batches)), batches, model, repeats, console.print)
    console.print(table("Milliseconds per picture and step, by micro-batch", drawn))
    console.print(table(f"Milliseconds per image of a scan, {model.preprocess.size[0]} px", scanned))
    figures = {"drawing": drawn, "scanning": scanned, "CPU_BATCH": CPU_BATCH}
    text = json.dumps({**machine(model), "quick": options.quick, **figures}, indent=2)
    print(text)
    if options.json_out:
        options.json_out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
