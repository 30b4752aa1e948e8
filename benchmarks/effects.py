"""Effects of one activation on every class: measured, beside the derivative that estimates them.

EfficientNet-Lite0, three layers, photographs and positions drawn with a seed. `ours`: the rest of the network once more
with the usual activation in the position's place. `derivative`: Carter et al. 2019, h . dlogit / dh, all classes in one
pass in forward mode. How often is the class that the derivative names first among the five that really change most?
Figures go to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json

import torch
import torch.autograd.forward_ad as forward_ad
from common import fastest, machine
from rich.console import Console
from torch import Tensor

from featviz import load_model
from featviz.network.effects import ClassEffects, usual_activation
from featviz.network.layers import replaced
from search import open_images
from search.images.decode import central_view

LAYERS = ["blocks.3", "blocks.5", "blocks.6"]
AMONG = 5


def derivative(found: ClassEffects, images: Tensor, positions: Tensor) -> Tensor:
    """(n, classes) h . dlogit / dh at positions (n, 2), by one pass in forward mode."""
    rows, columns = positions[:, None].unbind(2)
    place = (torch.arange(len(images))[:, None], found.channels, rows, columns)

    def dual(maps: Tensor) -> Tensor:
        tangent = torch.zeros_like(maps)
        found._layout.maps(tangent)[place] = found._layout.maps(maps)[place]
        return forward_ad.make_dual(maps.clone(), tangent)

    network, inputs = found.trunk.network, found.trunk.preprocess.normalize(images)
    with torch.no_grad(), forward_ad.dual_level(), replaced(network, found.layer, dual):
        return forward_ad.unpack_dual(network(inputs)).tangent.clone()


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description="Effects on all classes.")
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--count", type=int, default=64, help="images")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model, images = load_model(device="cpu"), open_images(options.images)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(images), generator=generator)[: options.count].tolist()
    views = torch.stack([central_view(images.open(number), model.preprocess) for number in chosen])
    rows: dict[str, dict[str, float]] = {}
    for layer in LAYERS:
        found = ClassEffects(model, layer, usual_activation(model, layer, views))
        _, height, width = found.trunk.map_size(layer)
        places = [torch.randint(1, limit - 1, (len(views),), generator=generator) for limit in (height, width)]
        positions = torch.stack(places, 1)
        few, where = views[:8], positions[:8]
        ours, _ = fastest(lambda: found(few, where[:, None]), options.repeats)  # noqa: B023
        theirs, _ = fastest(lambda: derivative(found, few, where), options.repeats)  # noqa: B023
        forward, _ = fastest(lambda: found._logits(few, lambda maps: maps), options.repeats)  # noqa: B023
        measured, estimated = found(views, positions[:, None])[:, 0], derivative(found, views, positions)
        among = (measured.topk(AMONG, 1).indices == estimated.argmax(1, keepdim=True)).any(1)
        rows[layer] = {
            "ours, ms an image": 1000 * ours / len(few),
            "forwards": ours / forward,
            "derivative, ms an image": 1000 * theirs / len(few),
            "derivative right": float(among.float().mean()),
        }
    Console(stderr=True).print(rows)
    print(json.dumps({**machine(model), "images": len(views), "among": AMONG, "layers": rows}, indent=2))


if __name__ == "__main__":
    main()
