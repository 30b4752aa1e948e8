from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from featviz.draw.maximize import maximize
from featviz.draw.objectives import channel, on
from featviz.network.models import Model
from featviz.network.trunk import Trunk

SIZE, SMALL = 64, (40, 40)


def _timm(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224",
        **{"img_size": SIZE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5, **options},
    )


def _torchvision() -> nn.Module:
    torch.manual_seed(0)
    network = VisionTransformer(SIZE, 8, 2, 2, 24, 48, num_classes=5)
    nn.init.normal_(network.encoder.pos_embedding)
    return network


def _of_transformers() -> nn.Module:
    pytest.importorskip("transformers")
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
                       image_size=SIZE, patch_size=8)  # fmt: skip
    return ViTModel(config, add_pooling_layer=False)


class _Clip(nn.Module):
    """A transformer that holds its positions as CLIP's does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(3, 24, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(24))
        self.positional_embedding = nn.Parameter(torch.randn(1 + (SIZE // 8) ** 2, 24))
        self.block = nn.TransformerEncoderLayer(24, 2, 48, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], 1)
        return self.block(tokens + self.positional_embedding)


# network, a layer of patch tokens, and what of its state are positions
NETWORKS: dict[str, tuple[Any, str, str]] = {
    "timm": (_timm, "blocks.1", "pos_embed"),
    "timm, registers": (lambda: _timm(reg_tokens=2, no_embed_class=True), "blocks.1", "pos_embed"),
    "torchvision": (_torchvision, "encoder.layers.encoder_layer_1", "encoder.pos_embedding"),
    "transformers": (_of_transformers, "layers.1", ""),
    "clip": (_Clip, "block", "positional_embedding"),
}


def _model(network: nn.Module) -> Model:
    return Model.wrap(network.eval(), size=SIZE)


@pytest.mark.parametrize("name", NETWORKS)
def test_small_images_go_through_a_twin_of_their_size(name: str) -> None:
    make, layer, _ = NETWORKS[name]
    network = make()
    before = copy.deepcopy(network.state_dict())
    model = _model(network)
    trunk, plain = Trunk(model, [layer], resizes=True), Trunk(model, [layer])
    images = torch.rand(2, 3, *SMALL, generator=torch.Generator().manual_seed(1))
    assert trunk.input_size(SMALL) == SMALL
    assert trunk.input_size((42, 42)) == SMALL  # whole patches
    assert plain.input_size(SMALL) == (SIZE, SIZE)
    assert trunk(images)[layer].shape == (2, 24, 5, 5)
    whole = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(trunk(whole)[layer], plain(whole)[layer])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["timm", "timm, registers", "torchvision", "clip"])
def test_a_twin_is_the_network_with_its_positions_resampled(name: str) -> None:
    """Of positions that are alike everywhere, the small network's are the same: it is one that was built small."""
    make, layer, positions = NETWORKS[name]
    network = make()
    holder = dict(network.named_parameters())[positions]
    with torch.no_grad():
        tokens = holder if holder.dim() == 3 else holder[None]
        tokens[:, 1:] = tokens[:, -1:]
        if "no_embed" in name or "registers" in name:
            tokens[:, :1] = tokens[:, -1:]
    trunk = Trunk(_model(network), [layer], resizes=True)
    images = torch.rand(2, 3, *SMALL, generator=torch.Generator().manual_seed(1))
    found = trunk(images)[layer]
    # By hand: a 5 x 5 piece of the positions, which are all alike.
    twin = copy.deepcopy(network)
    owner, _, last = positions.rpartition(".")
    count = 25 + (0 if "registers" in name else 1)
    piece = holder.detach()[:, :count] if holder.dim() == 3 else holder.detach()[:count]
    setattr(twin.get_submodule(owner), last, nn.Parameter(piece))
    if "timm" in name:
        twin.patch_embed.strict_img_size = False  # type: ignore[union-attr]
    twin.image_size = SMALL[0]  # type: ignore[assignment]
    by_hand = Trunk(Model.wrap(twin, size=SMALL[0]), [layer])(images)[layer]
    assert torch.allclose(found, by_hand, atol=1e-4)


def test_neither_larger_images_nor_other_networks_get_a_twin() -> None:
    trunk = Trunk(_model(_timm()), ["blocks.1"], resizes=True)
    assert trunk.input_size((120, 120)) == (SIZE, SIZE)
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(4 * 64, 2))
    assert Trunk(_model(network), ["2"], resizes=True).input_size(SMALL) == (SIZE, SIZE)


def test_pictures_are_drawn_small_and_judged_at_the_size_that_they_are_drawn_at() -> None:
    model = _model(_timm())
    wish = channel("blocks.1", [0, 1])
    made = maximize(model, wish, size=40, steps=12, chunk=2)
    by_hand = Trunk(model, ["blocks.1"], resizes=True)(made.images.float() / 255)["blocks.1"].mean((2, 3))
    assert made.clean.tolist() == pytest.approx([float(by_hand[0, 0]), float(by_hand[1, 1])], abs=1e-5)
    enlarged = maximize(model, wish, size=40, steps=12, chunk=2, trunk=Trunk(model, ["blocks.1"]))
    assert not torch.equal(made.images, enlarged.images)  # another network size drew them


def test_a_place_by_row_and_column_is_one_of_the_networks_own_map() -> None:
    model = _model(_timm())
    at_own = channel("blocks.1", [0], at=(7, 6))
    assert not at_own.free
    assert not on("blocks.1", lambda maps: maps[:, 0, 7, 6]).free
    assert not (at_own + channel("blocks.1", [1])).free
    assert maximize(model, at_own, size=40, steps=2, chunk=1).clean.isfinite().all()
