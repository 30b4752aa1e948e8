"""How much of a GPU's speed is left: a scan beside the bare forward pass, drawing beside the bare forward and backward.

The bare passes run the same prepared network (BatchNorm folded, channels_last), up to the same layer, with the same
batch and precision, on images that are on the device already. `consumer`: the same with a `Record` of every channel
behind it. `scan`: `search.scan` with that consumer, from images in memory that are cut, sent and counted; as a rule it
is the processor that limits it. `maximize`: channels, transforms, canvas and all; `draw_icons`: an atlas's icons, the
network prepared within the time. Batches are those that scans and drawings find best, unless given (`draw_icons` finds
its own in any case); a picture takes `--steps` steps. Contenders take turns, the fastest turn of each counts. A table
goes to standard error, JSON to standard output, with `"device": null` where there is no CUDA device. `--device cpu`
runs the very same on a processor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from common import machine, take_turns, wait
from PIL import Image
from rich.console import Console
from torch import Tensor

from atlas.grid import Cell
from atlas.icons import draw_icons
from featviz import Model, Trunk, load_model, maximize
from featviz.draw import objectives
from featviz.network.batch_size import chunk_by_trying
from featviz.network.layers import outputs_at
from search import Batch, Images, Record, from_dataset, scan
from search.scan.scan import batch_for

LAYER = "blocks.5"
TOP = 9
# Pictures for which the best size of a micro-batch is looked for: as many as an atlas has cells.
MOST_PICTURES = 400


def noise_images(count: int, side: int) -> Images:
    """Random images in memory."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(min(count, 64))]
    return from_dataset([pictures[number % len(pictures)] for number in range(count)], "noise")


def bare(trunk: Trunk, inputs: Tensor) -> Tensor:
    """The layer of the prepared network, nothing around it."""
    with torch.autocast(trunk.device.type, torch.bfloat16, enabled=trunk.precision == "bfloat16"):
        found: Tensor = outputs_at(trunk.network, inputs, trunk.layers)[LAYER]
    return found


def on_device(model: Model, batch: int, side: int) -> Tensor:
    """Random images in [0, 1]."""
    pixels = torch.rand(batch, model.preprocess.channels, side, side, generator=torch.Generator().manual_seed(0))
    return pixels.to(model.device).contiguous(memory_format=torch.channels_last)


def scanning(model: Model, trunk: Trunk, count: int, batch: int, workers: int | None) -> dict[str, Callable[[], int]]:
    """Ways to look at images; each returns how many it has seen."""
    side = model.preprocess.size[0]
    pixels, images = on_device(model, batch, side), noise_images(count, side)
    inputs = model.preprocess.normalize(pixels).contiguous(memory_format=torch.channels_last)
    numbers, passes = torch.arange(batch), max(1, count // batch)

    def forward() -> int:
        with torch.inference_mode():
            for _ in range(passes):
                bare(trunk, inputs)
        wait(model)
        return passes * batch

    def consumer() -> int:
        record = Record(LAYER, TOP)
        with torch.inference_mode():
            for number in range(passes):
                index = numbers + number * batch
                label, box = torch.full((batch,), -1), torch.zeros(batch, 4)
                record.update(Batch(trunk(pixels), index, torch.zeros_like(index), label, box, pixels))
        wait(model)
        return passes * batch

    def whole() -> int:
        seen = scan(model, images, [LAYER], [Record(LAYER, TOP)], batch=batch, workers=workers, trunk=trunk)
        wait(model)
        return seen.images

    return {"bare": forward, "consumer": consumer, "scan": whole}


def drawing(model: Model, trunk: Trunk, side: int, steps: int, chunk: int, blocks: int) -> dict[str, Callable[[], int]]:
    """Ways to go forward and backward so often as pictures of channels take; each returns how many pictures."""
    count = chunk * blocks
    width = trunk.map_size(LAYER)[0]
    inputs = model.preprocess.normalize(on_device(model, chunk, side)).contiguous(memory_format=torch.channels_last)
    wish = objectives.channel(LAYER, [number % width for number in range(count)])
    rng = np.random.default_rng(0)
    cells = [Cell(count, 0, n, 1, (0.0, 0.0), rng.random(width, np.float32)) for n in range(count)]

    def both() -> int:
        for _ in range(blocks * steps):
            leaf = inputs.detach().requires_grad_()
            torch.autograd.grad(bare(trunk, leaf).float().mean((2, 3)).sum(), leaf)
        wait(model)
        return count

    def pictures() -> int:
        maximize(model, wish, size=side, steps=steps, chunk=chunk, trunk=trunk)
        wait(model)
        return count

    def icons() -> int:
        how = {"precision": trunk.precision, "compiled": trunk.compiled}
        draw_icons(model, LAYER, cells, torch.eye(width), icon=side, steps=steps, **how)
        wait(model)
        return count

    return {"bare": both, "maximize": pictures, "draw_icons": icons}


def rates(works: dict[str, Callable[[], int]], repeats: int, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Units per second of each contender's fastest turn, and the share of the bare pass's that it keeps."""
    for work in works.values():
        work()
    turns, units = take_turns(works, repeats, say)
    speed = {name: units[name] / min(seconds) for name, seconds in turns.items()}
    return {
        name: {"per_second": float(f"{value:.4g}"), "share_of_bare": round(value / speed["bare"], 3)}
        for name, value in speed.items()
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What a scan and drawing keep of a GPU's speed.")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to see that it runs")
    parser.add_argument("--count", type=int, default=8192, help="images of a scan")
    parser.add_argument("--batch", type=int, default=0, help="images in a forward pass; 0: what a scan finds best")
    parser.add_argument("--workers", type=int, help="processes that cut images; default: the scan's own choice")
    parser.add_argument("--side", type=int, default=128, help="pixels of a picture")
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--chunk", type=int, default=0, help="pictures in a pass; 0: what drawing finds best")
    parser.add_argument("--blocks", type=int, default=2, help="how many times so many pictures")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--compiled", action="store_true", help="the prepared network goes through torch.compile")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contender; its fastest counts")
    return parser.parse_args()


def main() -> None:
    """Measure where there is something to measure, and print."""
    options = arguments()
    console = Console(stderr=True)
    say = partial(console.print, soft_wrap=True)
    if options.device != "cpu" and not torch.cuda.is_available():
        reason = "there is no CUDA device here"
        say(f"{reason}: nothing is measured.")
        print(json.dumps({**machine(load_model(device="cpu")), "device": None, "reason": reason}, indent=2))
        return
    model = load_model(device=options.device)
    found: dict[str, Any] = {}
    for precision in options.precisions:
        trunk = Trunk(model, [LAYER], precision=precision, compiled=options.compiled)
        batch = options.batch or batch_for(trunk)
        chunk = options.chunk or chunk_by_trying(trunk, (options.side, options.side), MOST_PICTURES)
        scanned = scanning(model, trunk, options.count, batch, options.workers)
        drawn = drawing(model, trunk, options.side, options.steps, chunk, options.blocks)
        found[precision] = {
            "batch": batch,
            "chunk": chunk,
            "images": rates(scanned, options.repeats, lambda line: say(f"{precision}, {line}")),  # noqa: B023
            "icons": rates(drawn, options.repeats, lambda line: say(f"{precision}, {line}")),  # noqa: B023
        }
        say(str(found[precision]))
    asked = {name: value for name, value in vars(options).items() if name not in ("device", "repeats", "precisions")}
    print(json.dumps({**machine(model), "task": asked, "precisions": found}, indent=2))


if __name__ == "__main__":
    main()
