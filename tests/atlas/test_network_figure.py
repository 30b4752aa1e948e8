from __future__ import annotations

import pytest
import torch
from torch import nn
from toys import toy_model

from atlas.network_figure import maps_figure, weights_figure
from featviz.errors import UserError
from featviz.network.models import Model


def test_every_kernel_of_the_first_layer_has_a_tile() -> None:
    figure = weights_figure(toy_model(), "0")
    assert len(figure.axes) == 8
    kernel = toy_model().network.get_submodule("0").weight[3].detach()  # type: ignore[union-attr, index]
    shown = torch.as_tensor(figure.axes[3].images[0].get_array())
    assert torch.allclose(shown, (kernel / kernel.abs().max() / 2 + 0.5).permute(1, 2, 0), atol=1e-6)
    grey = Model.wrap(nn.Sequential(nn.Conv2d(1, 4, 5)), size=12, mean=(0.0,), std=(1.0,))
    figure = weights_figure(grey, "0")
    scale = float(grey.network.get_submodule("0").weight.detach().abs().max())  # type: ignore[union-attr, operator]
    assert figure.axes[0].images[0].get_clim() == pytest.approx((-scale, scale))
    with pytest.raises(UserError, match="are no pictures"):
        weights_figure(toy_model(), "3")


@pytest.mark.parametrize("by", ["activation", "variation"])
def test_the_strongest_or_most_varying_channels_come_first(by: str) -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    figure = maps_figure(toy_model(), "2", image, most=3, by=by)
    model = toy_model()
    with torch.inference_mode():
        maps = model.network.eval()[:3](model.preprocess.normalize(image[None]))[0]  # type: ignore[index]
    values = maps.amax((1, 2)) if by == "activation" else maps.std((1, 2), correction=0)
    assert len(figure.axes) == 3
    for axes, channel in zip(figure.axes, values.argsort(descending=True)[:3].tolist(), strict=True):
        assert torch.allclose(torch.as_tensor(axes.images[0].get_array()), maps[channel], atol=1e-5)
    with pytest.raises(UserError, match="activation or variation"):
        maps_figure(toy_model(), "2", image, by="size")
