from __future__ import annotations

import pytest
import torch
import torchvision

from featviz.network.default_layer import default_layer


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer3"),
        ("alexnet", "features.11"),
        ("googlenet", "inception5a"),
        ("mnasnet0_5", "layers.12"),
        ("maxvit_t", "blocks.2"),
        ("vit_b_16", "encoder.layers.encoder_layer_10"),
    ],
)
def test_the_last_but_one_of_the_longest_row_of_blocks_is_looked_at(name: str, layer: str) -> None:
    more = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, **more)
    assert default_layer(network, ()) == layer


def test_a_row_without_blocks_is_none() -> None:
    assert default_layer(torch.nn.Linear(2, 2), ()) is None
