"""The objective climbs on every kind of network, random weights, through the whole of maximize."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from featviz.draw.maximize import maximize
from featviz.draw.objectives import channel
from featviz.draw.transforms import Affine
from featviz.network.models import Model

# name, input size, a layer in the middle, the shape that the layer's own output has for one image.
# Some are slimmer than they come: what has to be coped with is how they are laid out.
NETWORKS = [
    ("resnet18", 64, "layer2", (1, 128, 8, 8)),
    ("vgg11_bn", 32, "features.10", (1, 256, 8, 8)),
    ("efficientnet_b0", 64, "blocks.3", (1, 80, 4, 4)),
    ("convnext_tiny", 64, "stages.1.blocks.0.mlp.fc1", (1, 8, 8, 768)),
    ("vit_tiny_patch16_224", 224, "blocks.3", (1, 197, 96)),
    ("deit3_small_patch16_224", 224, "blocks.1", (1, 197, 96)),
    ("vit_small_patch14_reg4_dinov2", 56, "blocks.1", (1, 21, 384)),
    ("swin_tiny_patch4_window7_224", 224, "layers.1", (1, 28, 28, 48)),
]
_SLIM: dict[str, dict[str, Any]] = {
    "vgg11_bn": {"mlp_ratio": 1 / 64},
    "vit_small_patch14_reg4_dinov2": {"img_size": 56, "depth": 2},
    "vit_tiny_patch16_224": {"depth": 4, "embed_dim": 96},
    "deit3_small_patch16_224": {"depth": 2, "embed_dim": 96},
    "swin_tiny_patch4_window7_224": {"depths": (1, 2, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 4, 8)},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "size", "layer", "shape"), NETWORKS, ids=[entry[0] for entry in NETWORKS])
def test_channels_and_neurons_climb(name: str, size: int, layer: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, **_SLIM.get(name, {})).eval()
    seen: list[tuple[int, ...]] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    handle.remove()
    assert tuple(seen[0]) == shape
    model = Model.wrap(network, name=name, size=size)
    for at in (None, "center"):
        wish = channel(layer, [1, 5], at=at)
        first, last = (maximize(model, wish, size=size, steps=steps, chunk=2, transform=Affine()) for steps in (1, 25))
        assert (last.clean > first.clean).all()
    assert network.training is False
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


@pytest.mark.slow
def test_a_network_of_one_size_gets_pictures_of_any_at_that_size() -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, **_SLIM["vit_tiny_patch16_224"]).eval()
    made = maximize(Model.wrap(network, size=224), channel("blocks.2", [0]), size=96, steps=3, chunk=1)
    assert made.images.shape == (1, 3, 96, 96)
