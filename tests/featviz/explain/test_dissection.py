from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import toy_model

from featviz.errors import UserError
from featviz.explain.dissection import dissect
from featviz.explain.target import Target
from featviz.network.models import Model
from featviz.network.units import Unit


def _image(side: int, seed: int = 0) -> Tensor:
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"groups": 2, "dilation": 2, "padding": 2},
        {"groups": 4, "padding": "same"},
        {"padding": 1, "padding_mode": "reflect", "bias": False},
    ],
)
def test_contributions_equal_a_loop_over_input_channels(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, **options))  # type: ignore[arg-type]
    model = Model.wrap(network, size=12)
    image = _image(12)
    found = dissect(model, Unit("2", 5), image)
    maps, layer = network[:2](model.preprocess.normalize(image[None])).detach(), network[2]
    assert isinstance(layer, nn.Conv2d)
    size = 4 // layer.groups
    first = 5 // (8 // layer.groups) * size
    assert found.channels.tolist() == list(range(first, first + size))
    for number, channel in enumerate(found.channels.tolist()):
        assert torch.allclose(found.inputs[number], maps[0, channel], atol=1e-6)
        assert torch.equal(found.weights[number], layer.weight[5, number])
        alone = maps[:, channel : channel + 1]
        if layer.padding_mode == "reflect":
            alone = F.pad(alone, (1, 1, 1, 1), mode="reflect")
        padding = 0 if layer.padding_mode == "reflect" else layer.padding
        slow = F.conv2d(alone, layer.weight[5:6, number : number + 1], None, layer.stride, padding, layer.dilation)
        assert torch.allclose(found.contributions[number], slow[0, 0], atol=1e-6)
    assert torch.allclose(found.output, layer(maps)[0, 5], atol=1e-6)
    assert found.bias == (0.0 if layer.bias is None else pytest.approx(layer.bias[5].item()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lite0", "resnet"])
def test_of_every_convolution_bias_and_contributions_add_up_to_the_real_output(lite0: Model, name: str) -> None:
    torch.manual_seed(0)
    resnet = Model.wrap(timm.create_model("resnet18", pretrained=False).eval(), name="resnet18", size=64)
    model = lite0 if name == "lite0" else resnet
    image = _image(model.preprocess.size[0])
    layers = [layer for layer, module in model.network.named_modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) >= 20
    for layer in layers:
        found = dissect(model, Unit(layer, 3), image)
        scale = max(1.0, float(found.output.abs().max()))
        assert (found.running_sums()[-1] - found.output).abs().max() <= 1e-5 * scale, layer


def test_the_strongest_come_first_and_sums_run_from_the_bias() -> None:
    found = dissect(toy_model(), Unit("3", 2), _image(32))
    ordered = found.strongest_first()
    sizes = ordered.at_place.abs()
    assert (sizes[:-1] >= sizes[1:]).all()
    assert sorted(ordered.channels.tolist()) == found.channels.tolist()
    for number, channel in enumerate(ordered.channels.tolist()):
        assert torch.equal(ordered.contributions[number], found.contributions[channel])
        assert torch.equal(ordered.weights[number], found.weights[channel])
    row, column = found.place
    assert found.output[row, column] == found.output.max()
    sums = ordered.running_sums()
    assert torch.allclose(sums[0], found.bias + ordered.contributions[0])
    assert torch.allclose(sums[-1], found.output, atol=1e-5)


def test_an_image_smaller_than_the_kernel_is_said_to_be() -> None:
    tiny = Model.wrap(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU()), name="tiny", size=3)
    for unit in (Unit("0", 1), Unit("output", 1)):
        with pytest.raises(UserError, match=r"tiny.* fails in layer '0' \(Conv2d\).*too small"):
            dissect(tiny, unit, _image(3)) if unit.layer == "0" else Target(tiny, unit)


def test_what_is_no_convolution_is_refused() -> None:
    with pytest.raises(UserError, match="is no convolution but ReLU; convolutions are 0, 3"):
        dissect(toy_model(), Unit("2", 0), _image(32))
    with pytest.raises(UserError, match="has channels 0 to 5"):
        dissect(toy_model(), Unit("3", 6), _image(32))
