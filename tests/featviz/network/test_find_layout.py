from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz import Model
from featviz.errors import NetworkWarning, UserError
from featviz.network.layers import OUTPUT
from featviz.network.layout import Layout, UndecidedError
from featviz.network.trunk import Trunk


class Patches(nn.Module):
    """Square patches, overlapping where the stride is smaller than the patch, as tokens; `turn` may move them about."""

    def __init__(self, patch: int = 8, stride: int = 8, *, before: int = 1, after: int = 0, width: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, width, patch, stride)
        self.before, self.after = (
            nn.Parameter(torch.randn(1, before, width)),
            nn.Parameter(torch.randn(1, after, width)),
        )
        self.block = nn.TransformerEncoderLayer(width, 2, 24, batch_first=True, dropout=0.0)
        self.head = nn.Linear(width, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.turned(self.patch(images))
        n = len(maps)
        tokens = [self.before.expand(n, -1, -1), maps.flatten(2).transpose(1, 2), self.after.expand(n, -1, -1)]
        logits: Tensor = self.head(self.block(torch.cat(tokens, 1))[:, 0])
        return logits

    def turned(self, maps: Tensor) -> Tensor:
        return maps


class ByColumns(Patches):
    def turned(self, maps: Tensor) -> Tensor:
        return maps.transpose(2, 3)


class Shuffled(Patches):
    def turned(self, maps: Tensor) -> Tensor:
        places = torch.randperm(maps.shape[2] * maps.shape[3], generator=torch.Generator().manual_seed(1))
        return maps.flatten(2)[:, :, places].reshape(maps.shape)


def layout_of(network: nn.Module, layer: str, size: int | tuple[int, int] = 64, **stated: object) -> Layout:
    model = Model.wrap(network.eval(), size=size, **stated)  # type: ignore[arg-type]
    return model.layouts.of(Trunk(model, [layer]).network, layer)


@pytest.mark.parametrize(
    ("size", "patch", "stride", "before"),
    [
        *(((64, 64), 8, 8, before) for before in (0, 1, 5)),
        *(((96, 48), 16, 12, before) for before in (0, 1, 5)),
        ((80, 112), 7, 7, 1),
        ((128, 64), 16, 12, 4),
        # 1 + 21 x 10 tokens, which are also 11 + 20 x 10.
        ((256, 128), 16, 12, 1),
    ],
)
def test_tokens_lie_on_the_grid_that_their_patches_had(
    size: tuple[int, int], patch: int, stride: int, before: int
) -> None:
    rows, columns = ((side - patch) // stride + 1 for side in size)
    found = layout_of(Patches(patch, stride, before=before), "block", size)
    assert (found.prefix, found.grid) == (before, (rows, columns))


def test_tokens_behind_the_patches_are_not_taken_for_some_before_them() -> None:
    network = Patches(before=0, after=2)
    found = layout_of(network, "block")
    assert (found.prefix, found.grid) == (0, (8, 8))
    assert found.maps(torch.arange(66.0)[None, :, None])[0, 0, -1, -1] == 63


def test_the_grid_at_another_size_follows_from_the_patches_too() -> None:
    model = Model.wrap(Patches(16, 12).eval(), size=(256, 128))
    network = Trunk(model, ["block"]).network
    assert model.layouts.of(network, "block", size=(128, 128)).grid == (10, 10)
    assert model.layouts.of(network, "block", size=(128, 128)).prefix == 1


@pytest.mark.parametrize(("network", "why"), [(ByColumns(), "column by column"), (Shuffled(), "tokens could be")])
def test_tokens_in_another_order_than_the_images_are_refused(network: nn.Module, why: str) -> None:
    with pytest.raises(UndecidedError, match=why):
        layout_of(network, "block")


def test_what_is_stated_of_tokens_is_taken() -> None:
    network = Patches()
    assert layout_of(network, "block", tokens=(8, 8, 1)) == layout_of(network, "block")
    with pytest.raises(UndecidedError, match="do not fit"):
        layout_of(network, "block", tokens=(4, 16, 1))
    with pytest.raises(UserError, match=r"such as \(14, 14, 1\)"):
        Model.wrap(Shuffled(), tokens=(8, 8))  # type: ignore[arg-type]


def test_a_sequence_that_comes_before_the_images_is_read() -> None:
    class First(Patches):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0)

        def forward(self, images: Tensor) -> Tensor:
            tokens = torch.cat([self.before.expand(len(images), -1, -1), self.patch(images).flatten(2).mT], 1)
            logits: Tensor = self.head(self.block(tokens.transpose(0, 1))[0])
            return logits

    model = Model.wrap(First().eval(), size=64)
    trunk = Trunk(model, ["block"])
    image = torch.rand(3, 3, 64, 64)
    assert trunk(image)["block"].shape == (3, 12, 8, 8)
    assert torch.allclose(trunk(image[1:2])["block"][0], trunk(image)["block"][1], atol=1e-5)


class Last(nn.Module):
    """As many channels as rows and columns, channels last behind the norm."""

    def __init__(self, side: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm, self.act = nn.Conv2d(3, side, 2, 2), nn.LayerNorm(side), nn.GELU()
        self.mix = nn.Linear(side, side)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.stem(images).permute(0, 2, 3, 1))
        mixed: Tensor = self.mix(self.act(maps))
        return (maps + mixed).mean((1, 2))


@pytest.mark.parametrize(("layer", "kind"), [("stem", "nchw"), ("norm", "nhwc"), ("act", "nhwc"), ("mix", "nhwc")])
def test_a_cube_of_three_equal_sides_has_its_channels_where_it_was_made_or_does_not_change(
    layer: str, kind: str
) -> None:
    assert layout_of(Last(), layer, 32).kind == kind


def test_what_has_one_row_or_one_place_keeps_its_channels() -> None:
    strip = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.AdaptiveAvgPool2d((None, 1)), nn.Conv2d(16, 64, 1)).eval()
    trunk = Trunk(Model.wrap(strip, size=64), ["2", "1"])
    assert trunk.map_size("2") == (64, 32, 1)
    unflattened = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1)).eval()
    assert Trunk(Model.wrap(unflattened, size=(64, 32)), [OUTPUT]).map_size(OUTPUT) == (3, 1, 1)


def test_a_row_for_each_token_of_every_head_is_no_map() -> None:
    class Heads(Patches):
        def __init__(self) -> None:
            super().__init__()
            self.keep, self.inner = nn.Identity(), nn.Linear(12, 12)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.inner(self.patch(images).flatten(2).transpose(1, 2))
            split = tokens.unflatten(2, (2, 6)).transpose(1, 2)
            mixed = self.keep((split @ split.mT).softmax(-1)) @ split
            logits: Tensor = self.head(mixed.transpose(1, 2).flatten(2).mean(1))
            return logits

    with pytest.raises(UndecidedError, match="heads of attention"):
        layout_of(Heads(), "keep")


def test_windows_of_an_image_are_no_images() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            cut = images.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1)
            inner: Tensor = self.inner(cut)
            return inner.unflatten(0, (-1, 2)).mean((1, 3, 4))

    with pytest.raises(UserError, match=r"\(4, 3, 16, 32\) for 2 image"):
        layout_of(Windows(), "inner", 32)


def test_a_tuple_whose_first_part_is_not_of_images_is_read_at_the_first_that_is() -> None:
    class Both(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.flatten(0, 1), images

    network = nn.Sequential(Both()).eval()
    found = layout_of(network, "0", 16)
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(found.maps(network(image)), image)


def test_what_depends_on_the_batch_or_the_pass_is_said_once() -> None:
    batchwise = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Conv2d(4, 2, 1))
    model = Model.wrap(batchwise.eval(), size=16)
    with pytest.warns(NetworkWarning, match="other images of its batch"):
        Trunk(model, ["2"]).map_size("2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trunk(model, ["1"]).map_size("1")

    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> Tensor:
            maps: Tensor = self.last(F.dropout(images))
            return maps

    dropped = Model.wrap(Dropped().eval(), size=16)
    with pytest.warns(NetworkWarning, match="another result each time"):
        Trunk(dropped, ["last"]).map_size("last")
    assert dropped.layouts.unsteady == ["last"]
    assert dropped.layouts.together == []


def test_a_module_called_output_is_not_the_networks_result() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output, self.fc = (
                nn.Sequential(nn.Conv2d(3, 24, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                nn.Linear(24, 5),
            )

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.fc(self.output(images))
            return logits

    trunk = Trunk(Model.wrap(Net().eval(), size=16), [OUTPUT, ".output", "output.0"])
    assert [trunk.map_size(layer)[0] for layer in trunk.layers] == [5, 24, 24]


class Mixing(nn.Module):
    """Convolutions so wide that after ten of them every place sees the whole image; `places`: their order then."""

    def __init__(self, blocks: int, places: Tensor | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.blocks = nn.Sequential(*(self._block() for _ in range(blocks)))
        self.last = nn.BatchNorm2d(16)
        self.places = places

    def _block(self) -> nn.Sequential:
        wide = nn.Conv2d(16, 16, 7, padding=3, groups=16)
        return nn.Sequential(wide, nn.GELU(), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 1), nn.GELU(), nn.BatchNorm2d(16))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.blocks(self.patch(images))
        if self.places is not None:
            maps = maps.flatten(2)[:, :, self.places].reshape(maps.shape)
        return self.last(maps).mean((2, 3))  # type: ignore[no-any-return]

    def calibrated(self) -> Mixing:
        """With running statistics of noise: random weights alone leave nothing of it."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # type: ignore[assignment]
        with torch.no_grad():
            self.train()(torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        return self.eval()


def test_deep_in_wide_convolutions_where_every_place_sees_all_of_the_image_maps_are_read() -> None:
    network = Mixing(12).calibrated()
    assert [layout_of(network, layer).kind for layer in ("blocks.2", "blocks.10", "last")] == ["nchw"] * 3


@pytest.mark.parametrize("order", ["shuffled", "columns", "backwards"])
def test_places_in_another_order_than_the_images_are_refused_behind_a_norm_of_channels(order: str) -> None:
    places = torch.arange(256).reshape(16, 16)
    places = {
        "shuffled": places.flatten()[torch.randperm(256, generator=torch.Generator().manual_seed(1))],
        "columns": places.T.flatten(),
        "backwards": places.flatten().flip(0),
    }[order]
    with pytest.raises(UndecidedError, match="another order"):
        layout_of(Mixing(2, places).calibrated(), "last")


class Rows(nn.Module):
    """Sequences along rows and columns, as of recurrent layers, put together as channels-last maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.norm = nn.LayerNorm(12)
        self.join = Join()
        self.head = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.patch(images).permute(0, 2, 3, 1)
        along = self.norm(maps.flatten(0, 1)).reshape(maps.shape)  # sequences of as many tokens as there are columns
        return self.head(self.join(along).mean((1, 2)))  # type: ignore[no-any-return]


class Join(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps + 1


def test_channels_last_maps_are_no_heads_though_sequences_are_as_long_as_their_columns() -> None:
    assert layout_of(Rows(), "join").kind == "nhwc"
