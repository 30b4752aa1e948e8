"""Are the exemplars what sorting the full matrix gives? EfficientNet-Lite0, three layers, every channel.

The twin keeps every layer's whole maps of every image, sorts each channel's column with Python's own sort (value, then
image number) and takes the argmax of the map. For each batch size, once in one piece and once in three: images and
positions must be equal, values within 1e-5. Then a run is killed (SIGKILL) after its first shard and started again. The
twin reads the same batches as ours does, since a convolution's last bits differ between batch sizes. A line per case
goes to standard error, JSON to standard output; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import machine
from rich.console import Console
from torch import Tensor

from featviz import Model, Trunk, load_model
from featviz.run.output import OutputFolder
from search import Exemplars, Images, exemplars, open_images
from search.images.decode import central_view

LAYERS = ["blocks.1", "blocks.3", "blocks.5"]
K = 9


def full_matrix(model: Model, images: Images, batch: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> (images, channels) maxima and their positions, everything kept."""
    trunk, kept = Trunk(model, LAYERS), {layer: ([], []) for layer in LAYERS}
    for start in range(0, len(images), batch):
        numbers = range(start, min(start + batch, len(images)))
        views = torch.stack([central_view(images.open(number), model.preprocess) for number in numbers])
        with torch.inference_mode():
            for layer, maps in trunk(views).items():
                values, positions = maps.flatten(2).max(2)
                kept[layer][0].append(values)
                kept[layer][1].append(positions)
    return {layer: (torch.cat(values), torch.cat(positions)) for layer, (values, positions) in kept.items()}


def differences(found: Exemplars, matrix: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """How many units have other images or positions than sorting gives, and the largest difference of a value."""
    wrong, largest = 0, 0.0
    for layer, (values, positions) in matrix.items():
        for channel in range(values.shape[1]):
            column = values[:, channel].tolist()
            for weakest in (False, True):
                order = sorted(range(len(column)), key=lambda i: (column[i] if weakest else -column[i], i))[:K]
                entries = found.of(layer, channel, weakest=weakest)
                columns = found.layers[layer].grid[1]
                ours = [(entry.image, entry.row * columns + entry.column) for entry in entries]
                wrong += ours != [(i, int(positions[i, channel])) for i in order]
                gaps = [abs(entry.value - column[i]) for entry, i in zip(entries, order, strict=True)]
                largest = max(largest, *gaps)
    return {"rankings that differ": wrong, "largest difference of a value": largest}


def killed_and_resumed(model: Model, images: Images, batch: int, shard: int) -> Exemplars:
    """Exemplars of a run that was killed after its first shard and started again."""
    with tempfile.TemporaryDirectory() as folder:
        script = (
            "from exactness import LAYERS, K, OutputFolder, exemplars, load_model\n"
            f"exemplars(load_model(device='cpu'), {images.source!r}, LAYERS, k=K, batch={batch}, shard={shard}, "
            f"keep=OutputFolder.claim({folder!r}, {{}}))\n"
        )
        process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parent)
        while process.poll() is None and not list(Path(folder).glob("draft/exemplars-*.npz")):
            time.sleep(0.02)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            raise SystemExit("the run ended before it could be killed")
        seen: list[int] = []
        found = exemplars(
            model, images, LAYERS, k=K, batch=batch, shard=shard, keep=OutputFolder.claim(folder, {}),
            progress=lambda stage, done, total: seen.append(done),
        )  # fmt: skip
        if min(seen) < shard:
            raise SystemExit("the second run began anew")
        return found


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description="Exemplars against sorting the full matrix.")
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 7, 64])
    options = parser.parse_args()
    console, model, images = Console(stderr=True), load_model(device="cpu"), open_images(options.images)
    cases: dict[str, dict[str, Any]] = {}
    for batch in options.batches:
        matrix = full_matrix(model, images, batch)
        for shards in (1, 3):
            # Whole batches, so that both see the same ones.
            shard = -(-len(images) // shards // batch) * batch
            found = exemplars(model, images, LAYERS, k=K, batch=batch, shard=shard)
            cases[f"batches of {batch}, {shards} shard(s)"] = differences(found, matrix)
            console.print(f"batches of {batch}, {shards} shard(s)", cases[f"batches of {batch}, {shards} shard(s)"])
        if batch == options.batches[-1]:
            found = killed_and_resumed(model, images, batch, shard)
            cases["killed and resumed"] = differences(found, matrix)
            console.print("killed and resumed", cases["killed and resumed"])
    print(json.dumps({**machine(model), "images": len(images), "layers": LAYERS, "k": K, "cases": cases}, indent=2))
    worst = max(case["largest difference of a value"] for case in cases.values())
    sys.exit(1 if worst > 1e-5 or any(case["rankings that differ"] for case in cases.values()) else 0)


if __name__ == "__main__":
    main()
