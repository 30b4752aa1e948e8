from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn
from toys import Positions, toy_model

from featviz.draw.maximize import maximize
from featviz.errors import UserError
from featviz.network.layers import find_layer, find_layers
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.network.units import Unit, parse_units


def _model(**options: Any) -> Model:
    torch.manual_seed(0)
    network = timm.create_model(
        "vit_tiny_patch16_224",
        **{"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5, **options},
    )
    return Model.wrap(network.eval(), size=32)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, {"cls": 0}),
        ({"reg_tokens": 2}, {"cls": 0, "register0": 1, "register1": 2}),
        ({"reg_tokens": 2, "class_token": False, "global_pool": "avg"}, {"register0": 0, "register1": 1}),
    ],
    ids=["class", "class and registers", "registers"],
)
def test_tokens_before_the_patches_are_read_by_their_names(options: dict[str, Any], tokens: dict[str, int]) -> None:
    model = _model(**options)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = []
    handle = model.network.blocks[1].register_forward_hook(lambda module, given, output: seen.append(output))  # type: ignore[union-attr,index]
    model.network(model.preprocess.normalize(image))
    handle.remove()
    for token, row in tokens.items():
        (unit,) = parse_units(f"-blocks.1:7@{token}", model)
        assert unit == Unit(f"blocks.1@{token}", 7, sign=-1)
        assert str(unit) == f"-blocks.1:7@{token}"
        trunk = Trunk(model, [unit.layer, "blocks.1"])
        maps = trunk(image)
        assert maps[unit.layer].shape == (1, 24, 1, 1)
        assert torch.allclose(maps[unit.layer][0, :, 0, 0], seen[0][0, row], atol=1e-5)
        assert maps["blocks.1"].shape == (1, 24, 4, 4)
    missing = "register2" if "cls" in tokens else "cls"
    with pytest.raises(
        UserError, match=f"has no token '{missing}': the tokens before its patches are .*{list(tokens)[-1]}"
    ):
        parse_units(f"blocks.1:7@{missing}", model)


def test_a_class_tokens_channel_is_drawn() -> None:
    model = _model()
    for module in model.network.modules():
        if isinstance(module, nn.Linear):  # timm's own first weights hardly let anything through
            nn.init.normal_(module.weight, std=0.3)
    made = maximize(model, "blocks.1:3@cls", size=32, steps=24, chunk=1)
    grey = Trunk(model, ["blocks.1@cls"])(torch.full((1, 3, 32, 32), 0.5))["blocks.1@cls"][0, 3, 0, 0]
    by_hand = Trunk(model, ["blocks.1@cls"])(made.images.float() / 255)["blocks.1@cls"][0, 3, 0, 0]
    assert float(by_hand) == pytest.approx(float(made.clean), abs=1e-5)
    assert by_hand > grey + 0.2


def test_a_tokens_address_is_a_layers_name() -> None:
    model = _model()
    assert find_layers(model.network, "blocks.?@cls") == ["blocks.0@cls", "blocks.1@cls"]
    assert find_layer(model.network, "blocks.1@cls") is find_layer(model.network, "blocks.1")
    with pytest.raises(UserError, match="no layer"):
        find_layers(model.network, "blocks.1@here")


def test_layers_without_tokens_say_so() -> None:
    with pytest.raises(UserError, match="has none before its patches"):
        parse_units("4:0@cls", toy_model())
    bare = Model.wrap(Positions(4, 4, layout="tokens"), size=16)
    with pytest.raises(UserError, match="has none before its patches"):
        parse_units("encode:0@register0", bare)
    behind = Model.wrap(Positions(4, 4, layout="tokens", prefix=2), size=16)
    images = torch.zeros(1, 3, 16, 16)
    assert Trunk(behind, ["encode@register0"])(images)["encode@register0"].flatten().tolist() == [-1, -1, -1]
