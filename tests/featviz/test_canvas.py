from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from featviz.canvas import CANVASES, CanvasMaker, Fourier, canvas_maker
from featviz.errors import UserError
from featviz.maximize import generator_for

CPU = torch.device("cpu")


def _generators(count: int) -> list[torch.Generator]:
    return [generator_for(0, str(number)) for number in range(count)]


@pytest.mark.parametrize("size", [(64, 64), (128, 96)])
def test_the_first_fourier_images_are_almost_grey(size: tuple[int, int]) -> None:
    images = Fourier(_generators(16), 3, size, CPU).images().detach()
    assert images.shape == (16, 3, *size)
    assert images.mean() == pytest.approx(0.5, abs=0.01)
    # 0.011 before the sigmoid, whose slope at grey is 1/4; a factor of the size too many would burn every picture.
    assert images.std() == pytest.approx(0.011 / 4, rel=0.15)


def test_the_first_fourier_images_have_a_one_over_f_spectrum() -> None:
    images = Fourier(_generators(64), 1, (64, 64), CPU).images().detach() - 0.5
    amplitude = torch.fft.rfft2(images).abs().mean((0, 1))
    along = amplitude[0, 1:24].log()
    slope = torch.linalg.lstsq(torch.stack([torch.arange(1.0, 24).log(), torch.ones(23)], 1), along[:, None]).solution[
        0
    ]
    assert slope.item() == pytest.approx(-1, abs=0.1)


def test_more_decay_dims_high_frequencies_and_leaves_four_cycles_alone() -> None:
    plain, steep = (Fourier(_generators(1), 1, (64, 64), CPU, decay=decay).scale for decay in (1.0, 1.5))
    assert steep[0, 4] == pytest.approx(plain[0, 4].item())
    assert steep[0, 16] == pytest.approx(plain[0, 16].item() / 2)
    assert steep[0, 1] == pytest.approx(plain[0, 1].item() * 2)


@pytest.mark.parametrize("name", list(CANVASES))
def test_a_canvas_can_fit_a_photograph(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    photograph = F.interpolate(coarse, (32, 32), mode="bicubic").clamp(0.05, 0.95)
    canvas = CANVASES[name](_generators(1), 3, (32, 32), CPU)
    optimizer = torch.optim.Adam(canvas.parameters, lr=0.1)
    for _ in range(300):
        loss = F.mse_loss(canvas.images(), photograph)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 1e-3


@pytest.mark.parametrize("maker", [*CANVASES.values(), partial(Fourier, decay=1.5)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_lie_between_0_and_1_for_any_number_of_channels(maker: CanvasMaker, channels: int) -> None:
    canvas = maker(_generators(2), channels, (16, 24), CPU)
    with torch.no_grad():
        canvas.parameters[0].mul_(1e4)
    images = canvas.images()
    assert images.shape == (2, channels, 16, 24)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("name", list(CANVASES))
def test_a_pictures_noise_depends_on_its_own_generator_alone(name: str) -> None:
    alone = CANVASES[name]([generator_for(0, "b")], 3, (16, 16), CPU).images()
    among = CANVASES[name]([generator_for(0, key) for key in "abc"], 3, (16, 16), CPU).images()
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(among[0], among[1])


def test_an_unknown_canvas_names_those_there_are() -> None:
    with pytest.raises(UserError, match="no canvas 'forier'; the closest are 'fourier'"):
        canvas_maker("forier")
    assert canvas_maker(Fourier) is Fourier
