from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from featviz.network.models import Model
from search.scan.receptive import effective_size, receptive_fields

# A layer in one dimension: (kernel, stride, padding, dilation).
Step = tuple[int, int, int, int]


def _analytic(steps: list[Step], place: int, length: int) -> tuple[int, int]:
    """Half-open hull of the input places that a place of the last layer reads, layer by layer backwards."""
    lengths = [length]
    for kernel, stride, padding, dilation in steps:
        lengths.append((lengths[-1] + 2 * padding - (kernel - 1) * dilation - 1) // stride + 1)
    read = {place}
    for (kernel, stride, padding, dilation), limit in zip(reversed(steps), reversed(lengths[:-1]), strict=True):
        taps = {each * stride - padding + tap * dilation for each in read for tap in range(kernel)}
        read = {tap for tap in taps if 0 <= tap < limit}
    return min(read), max(read) + 1


STACKS: dict[str, list[Step]] = {
    "one": [(3, 1, 1, 1)],
    "strides": [(3, 2, 1, 1), (5, 2, 2, 1), (3, 1, 0, 1)],
    "dilation": [(3, 1, 2, 2), (3, 2, 4, 4)],
    "no padding": [(4, 2, 0, 1), (3, 1, 0, 1)],
    "one by one": [(1, 1, 0, 1), (3, 2, 1, 1), (1, 2, 0, 1)],
}


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("name", STACKS)
def test_boxes_equal_the_analytic_answer(name: str, pooled: bool) -> None:
    steps = list(STACKS[name])
    layers: list[nn.Module] = []
    channels = 3
    for kernel, stride, padding, dilation in steps:
        layers += [nn.Conv2d(channels, 4, kernel, stride, padding, dilation), nn.BatchNorm2d(4), nn.ReLU6()]
        channels = 4
    if pooled:
        layers.append(nn.MaxPool2d(3, 2, 1))
        steps.append((3, 2, 1, 1))
    network = nn.Sequential(*layers)
    height, width = 40, 32
    found = receptive_fields(Model.wrap(network, size=(height, width)), [str(len(layers) - 1)])[str(len(layers) - 1)]
    shape = network(torch.zeros(1, 3, height, width)).shape
    assert (len(found.rows), len(found.columns)) == (shape[2], shape[3])
    for row in range(shape[2]):
        for column in range(shape[3]):
            top, bottom = _analytic(steps, row, height)
            left, right = _analytic(steps, column, width)
            assert found.box(row, column) == (left, top, right, bottom)
    assert not found.is_global


@pytest.mark.parametrize("name", STACKS)
def test_the_middle_of_a_field_is_the_analytic_one_even_where_an_edge_cuts_the_field_off(name: str) -> None:
    steps = STACKS[name]
    layers = [nn.Conv2d(3, 3, *step) for step in steps]
    found = receptive_fields(Model.wrap(nn.Sequential(*layers), size=64), [str(len(layers) - 1)])[str(len(layers) - 1)]
    for place in range(len(found.rows)):
        first = last = place  # what it reads on an input without edges
        for kernel, stride, padding, dilation in reversed(steps):
            first, last = first * stride - padding, last * stride - padding + (kernel - 1) * dilation
        assert found.middle(place, place) == ((first + last + 1) / 2,) * 2


class _Residual(nn.Module):
    """A short and a long way that meet: the field is that of the longer."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 5, padding=2))
        self.sum = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.sum(images + self.long(images))
        return result


def test_where_ways_meet_the_longer_one_counts() -> None:
    found = receptive_fields(Model.wrap(_Residual(), size=16), ["sum", "long.0"])
    assert found["sum"].box(8, 5) == (2, 5, 9, 12)
    assert found["long.0"].box(8, 5) == (4, 7, 7, 10)


class _Squeezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.out = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        result: Tensor = self.out(maps * self.gate(maps))
        return result


def test_squeeze_and_excitation_is_global() -> None:
    found = receptive_fields(Model.wrap(_Squeezed(), size=16), ["conv", "out"])
    assert not found["conv"].is_global
    assert found["out"].is_global
    assert found["out"].box(3, 3) == (0, 0, 16, 16)


def test_weights_that_are_zero_hide_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
    nn.init.zeros_(network[0].weight)  # type: ignore[arg-type]
    assert receptive_fields(Model.wrap(network, size=12), ["1"])["1"].box(5, 5) == (4, 4, 7, 7)


def test_a_box_is_mapped_through_resize_and_crop_to_the_original() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 2, 2))
    found = receptive_fields(Model.wrap(network, size=(8, 16)), ["0"])["0"]
    # The input is the part from (100, 40) to (132, 56) of the original, twice as large as the input each way.
    assert found.box(1, 3) == (6, 2, 8, 4)
    assert found.in_image(found.box(1, 3), (100.0, 40.0, 132.0, 56.0)) == (112, 44, 116, 48)
    assert found.effective_box(1, 3, (4.0, 6.0)) == (4, 1, 10, 5)
    assert found.effective_box(0, 0, (4.0, 6.0)) == (0, 0, 6, 4)
    assert found.effective_box(0, 0, (40.0, 60.0)) == (0, 0, 16, 8)


def test_the_users_network_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).train()
    receptive_fields(Model.wrap(network, size=12), ["1"])
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert network.training
    assert norm.running_mean is not None
    assert norm.running_mean.isfinite().all()


def test_the_effective_size_of_a_box_filter_is_nine_tenths_of_it() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 21, padding=10, bias=False))
    nn.init.ones_(network[0].weight)  # type: ignore[arg-type]
    model = Model.wrap(network, size=64, mean=(0.0,), std=(1.0,))
    height, width = effective_size(model, "0", torch.rand(2, 1, 64, 64))
    assert height == width
    assert 18 <= height <= 20


def test_a_filter_that_is_nearly_a_point_is_effectively_small_though_its_field_is_large() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 21, padding=10, bias=False))
    weight = network[0].weight
    with torch.no_grad():
        weight.fill_(1e-4)  # type: ignore[operator]
        weight[0, 0, 9:12, 8:13] = 1  # type: ignore[index]
    model = Model.wrap(network, size=64, mean=(0.0,), std=(1.0,))
    assert receptive_fields(model, ["0"])["0"].box(32, 32) == (22, 22, 43, 43)
    assert effective_size(model, "0", torch.rand(2, 1, 64, 64)) == (3, 5)
