from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer
from toys import toy_model

from featviz.explain.attribution import attribute
from featviz.explain.target import NotAllowedError
from featviz.network.models import Model
from featviz.network.units import Unit

GRID, SIZE = 4, 16
TOKENS = 1 + GRID * GRID


class _OneLayer(nn.Module):
    """A class token of 0 and patches of their brightness attend by known logits; classes are +1 and -1 times token 0.

    way: how attention is worked out.
    """

    def __init__(self, way: str, reads: str = "class") -> None:
        super().__init__()
        self.way, self.reads, self.num_prefix_tokens = way, reads, 1
        self.register_buffer("logits", torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(3)))
        self.norm = nn.LayerNorm(1, elementwise_affine=False)  # runs beside, so that the number of tokens is seen
        self.mixed = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        patches = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), GRID).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)
        self.norm(tokens)
        query = (self.logits + 0 * tokens[:, :1])[:, None]  # hangs on the image, as in a real network
        key, value = torch.eye(TOKENS).expand_as(query), tokens[:, None]
        if self.way == "fused":
            mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        else:
            scores = query @ key.transpose(-2, -1)
            mixed = (scores.softmax(dim=-1) if self.way == "method" else F.softmax(scores, -1)) @ value
        tokens = self.mixed(tokens + mixed[:, 0])
        read = tokens[:, 0] if self.reads == "class" else tokens[:, 1:].mean(1)
        return torch.cat([read, -read], 1)


def _model(network: nn.Module, size: int = SIZE) -> Model:
    return Model.wrap(network.eval(), size=size, mean=(0.0,) * 3, std=(1.0,) * 3)


def _image(size: int = SIZE) -> Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", ["fused", "method", "function"])
def test_one_layer_whose_attention_is_known(way: str) -> None:
    model, image = _model(_OneLayer(way)), _image()
    network = model.network
    known = network.logits.softmax(1)  # type: ignore[operator]
    brightness = F.adaptive_avg_pool2d(image.mean(0)[None], GRID)[0]
    from_class = known[0, 1:].reshape(GRID, GRID)
    found = attribute(model, image, Unit("output", 0), "rollout")
    assert torch.allclose(found.raw, from_class / 2, atol=1e-6)
    assert "class token" in found.note
    for number, sign in ((0, 1), (1, -1)):  # what is attended to speaks for the first class by its brightness
        found = attribute(model, image, Unit("output", number), "attention")
        assert torch.allclose(found.raw, (sign * from_class * brightness).relu(), atol=1e-6)


def test_a_unit_is_read_at_its_own_tokens() -> None:
    image, logits = _image(), _OneLayer("fused").logits
    known = logits.softmax(1)  # type: ignore[operator]
    brightness = F.adaptive_avg_pool2d(image.mean(0)[None], GRID)[0]
    mean = _model(_OneLayer("fused", reads="mean"))
    found = attribute(mean, image, Unit("output", 0), "rollout")
    own = torch.eye(TOKENS)[1:, 1:].mean(0)
    assert torch.allclose(found.raw.flatten(), (known[1:, 1:].mean(0) + own) / 2, atol=1e-6)
    assert "mean of 16 tokens" in found.note
    one = attribute(mean, image, Unit("mixed", 0, (1, 2)), "attention")
    row = 1 + 1 * GRID + 2
    assert torch.allclose(one.raw.flatten(), known[row, 1:] * brightness.flatten(), atol=1e-6)
    assert "one patch" in one.note


def _timm(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224",
        **{"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5, **options},
    )


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}, {"global_pool": "avg"}], ids=str)
def test_of_a_deep_network_as_its_matrices_say_one_by_one(options: dict[str, Any]) -> None:
    """The slow twin: attention by timm's own unfused path, derivatives by `retain_grad`, products in a loop."""
    network, image = _timm(**options).eval(), _image(32)
    model, unit = _model(network, 32), Unit("output", 3)
    found = {name: attribute(model, image, unit, name).raw for name in ("rollout", "attention")}
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    for block in network.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(keep)
    network(image[None])[0, 3].backward()
    prefix = network.num_prefix_tokens
    size = 16 + int(prefix)  # type: ignore[arg-type]
    flow, relevance = torch.eye(size), torch.eye(size)
    for matrix in kept:
        assert matrix.grad is not None
        flow = (0.5 * matrix[0].detach().mean(0) + 0.5 * torch.eye(size)) @ flow
        relevance = relevance + (matrix[0].detach() * matrix.grad[0]).clamp(min=0).mean(0) @ relevance
    rows = slice(prefix, None) if "global_pool" in options else slice(0, 1)  # type: ignore[misc]
    expected = {"rollout": flow, "attention": relevance - torch.eye(size)}
    for name, whole in expected.items():
        wanted = whole[rows].mean(0)[prefix:].reshape(4, 4)  # type: ignore[misc]
        assert torch.allclose(found[name], wanted, rtol=1e-3, atol=float(wanted.max()) * 1e-4)


def test_a_shut_unit_is_read_where_it_is() -> None:
    network, image = _timm(reg_tokens=2, act_layer=nn.ReLU).eval(), _image(32)
    with torch.no_grad():
        for block in network.blocks:  # type: ignore[union-attr]
            block.attn.qkv.weight.mul_(40)
    act = "blocks.1.mlp.act"
    units = [Unit(f"{act}@cls", 3), Unit(f"{act}@register1", 3), Unit(act, 3), Unit(act, 3, (1, 2))]
    found = []
    for bias in (100.0, -100.0):
        with torch.no_grad():
            network.blocks[1].mlp.fc1.bias[3] = bias  # type: ignore[index, union-attr]
        found.append([attribute(_model(network, 32), image, unit, "rollout") for unit in units])
    for open_, shut in zip(*found, strict=True):
        assert torch.allclose(open_.raw, shut.raw, atol=1e-6)
        assert open_.note == shut.note
    told = ("the class token;", "the token register1;", "the mean of 16 tokens;", "one patch's token;")
    assert all(f"read at {where}" in each.note for where, each in zip(told, found[0], strict=True))
    assert not torch.allclose(found[0][0].raw, found[0][3].raw, atol=1e-3)


def test_a_register_is_no_class_token() -> None:
    network = timm.create_model("vit_wee_patch16_reg1_gap_256", img_size=32, patch_size=8, depth=2, embed_dim=24,
                                num_heads=2, num_classes=5)  # fmt: skip
    found = attribute(_model(network, 32), _image(32), Unit("blocks.0@register0", 3), "rollout")
    assert "read at the token register0" in found.note


def test_multihead_attention_is_met_too() -> None:
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, 2, 2, 24, 48, num_classes=5).eval()
    nn.init.normal_(network.heads.head.weight)
    image = _image(32)
    found = attribute(_model(network, 32), image, Unit("output", 1), "rollout")
    flow = torch.eye(17)
    with torch.no_grad():
        tokens = network._process_input(image[None])
        tokens = torch.cat([network.class_token, tokens], 1) + network.encoder.pos_embedding
        for layer in network.encoder.layers:
            normed = layer.ln_1(tokens)
            _, weights = layer.self_attention(normed, normed, normed, average_attn_weights=True)
            flow = (0.5 * weights[0] + 0.5 * torch.eye(17)) @ flow
            tokens = layer(tokens)
    assert torch.allclose(found.raw, flow[0, 1:].reshape(4, 4), atol=1e-5)
    by = attribute(_model(network, 32), image, Unit("output", 1), "attention").raw
    assert by.min() >= 0
    assert by.max() > 0


def test_a_pass_in_the_open_gives_what_the_fused_one_gives() -> None:
    from featviz.explain.attention import Attention

    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 6, 8)
    few = torch.randn(2, 2, 6, 8)
    mask = torch.rand(6, 6) > 0.3
    mask.fill_diagonal_(True)
    cases: list[tuple[tuple[Tensor, ...], dict[str, Any]]] = [
        ((query, key, value), {}),
        ((query, key, value, mask), {}),
        ((query, key, value, torch.randn(6, 6)), {"scale": 0.3}),
        ((query, key, value), {"is_causal": True}),
        ((query, few, few), {"enable_gqa": True}),
    ]
    for given, options in cases:
        with Attention() as watched:
            found = F.scaled_dot_product_attention(*given, **options)
        assert torch.allclose(found, F.scaled_dot_product_attention(*given, **options), atol=1e-5)
        assert len(watched.met) == 1


class _Pooled(nn.Module):
    """Every patch attends to four places of the map."""

    def forward(self, images: Tensor) -> Tensor:
        tokens = F.avg_pool2d(images, 4).flatten(2).transpose(1, 2)
        few = F.avg_pool2d(images, 8).flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(tokens[:, None], few[:, None], few[:, None])[:, 0].mean(1)


@pytest.mark.parametrize("method", ["rollout", "attention"])
def test_other_attention_is_refused_with_the_reason(method: str) -> None:
    with pytest.raises(NotAllowedError, match="has no attention that class:1 depends on"):
        attribute(toy_model(), _image(32), Unit("output", 1), method)
    with pytest.raises(NotAllowedError, match="16 queries on 4 keys"):
        attribute(_model(_Pooled()), _image(), Unit("output", 1), method)
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=8, depths=(2, 1), num_heads=(2, 2)
    )
    with pytest.raises(NotAllowedError, match="within 4 windows"):
        attribute(_model(swin, 32), _image(32), Unit("output", 1), method)
    channels = timm.create_model("xcit_nano_12_p8_224", img_size=64, depth=1, embed_dim=32, num_heads=2)
    with pytest.raises(NotAllowedError, match="mixes 16 things"):
        attribute(_model(channels, 64), _image(64), Unit("output", 1), method)
