"""What the effects of one activation on every class cost beside one backward pass per class.

EfficientNet-Lite0, three layers, photographs and positions drawn with a seed. `ours`: one pass in forward mode for all
1000 classes. `kept graph`: through the same prepared network, from the layer on, a backward pass for each of some
classes, reckoned up to 1000; `pass after pass` runs the network anew for each. Results are compared for the classes
that both have. Figures go to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from common import fastest, machine
from rich.console import Console
from torch import Tensor

from featviz import load_model
from featviz.effects import ClassEffects
from search import open_images
from search.decode import central_view

LAYERS = ["blocks.3", "blocks.5", "blocks.6"]


def by_backward(found: ClassEffects, images: Tensor, positions: Tensor, classes: list[int]) -> Tensor:
    """(n, classes) h . dlogit / dh, a backward pass per class through a graph that is kept."""
    kept: list[Tensor] = []

    def hook(module: Any, inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()

    handle = found.trunk.network.get_submodule(found.layer).register_forward_hook(hook)
    logits = found.trunk.network(found.trunk.preprocess.normalize(images))
    handle.remove()
    rows = torch.arange(len(images))
    effects = []
    for label in classes:
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), kept[0], retain_graph=True)
        effects.append((gradient * kept[0].detach())[rows, :, positions[:, 0], positions[:, 1]].sum(1))
    return torch.stack(effects, 1)


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description="Effects on all classes.")
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--count", type=int, default=8, help="images at once")
    parser.add_argument("--classes", type=int, default=50, help="classes that get a backward pass")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model, images = load_model(device="cpu"), open_images(options.images)
    views = torch.stack([central_view(images.open(number), model.preprocess) for number in range(options.count)])
    generator = torch.Generator().manual_seed(0)
    classes = torch.randperm(1000, generator=generator)[: options.classes].tolist()
    rows: dict[str, dict[str, float]] = {}
    for layer in LAYERS:
        found = ClassEffects(model, layer)
        _, height, width = found.trunk.map_size(layer)
        places = [torch.randint(limit, (options.count,), generator=generator) for limit in (height, width)]
        positions = torch.stack(places, 1)
        ours, effects = fastest(lambda: found(views, positions[:, None])[:, 0], options.repeats)  # noqa: B023
        forward, _ = fastest(lambda: found._logits(views), options.repeats)  # noqa: B023
        theirs, expected = fastest(lambda: by_backward(found, views, positions, classes), 1)  # noqa: B023
        one, _ = fastest(lambda: by_backward(found, views, positions, classes[:1]), options.repeats)  # noqa: B023
        per_class = (theirs - one) / (len(classes) - 1)
        rows[layer] = {
            "ours, ms an image": 1000 * ours / options.count,
            "forwards": ours / forward,
            "backward, ms an image and class": 1000 * per_class / options.count,
            "times as fast as through a kept graph": (one + 999 * per_class) / ours,
            "times as fast as pass after pass": 1000 * one / ours,
            "largest difference": float((effects[:, classes] - expected).abs().max()),
        }
    Console(stderr=True).print(rows)
    print(json.dumps({**machine(model), "layers": rows}, indent=2))


if __name__ == "__main__":
    main()
