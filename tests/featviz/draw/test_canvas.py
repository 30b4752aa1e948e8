from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from toys import toy_model

from featviz.draw.canvas import CANVASES, CanvasMaker, Cppn, Fourier, Maco, Pixels, calm, canvas_maker, with_alpha
from featviz.draw.color import to_rgb
from featviz.draw.maximize import maximize
from featviz.draw.objectives import channel
from featviz.draw.spectrum import Spectrum, before_sigmoid
from featviz.draw.transforms import Affine
from featviz.errors import UserError
from featviz.seeds import generator_for

CPU = torch.device("cpu")


def _photographs(count: int, channels: int = 3, size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    coarse = torch.rand(count, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size, mode="bicubic").clamp(0.05, 0.95)


def _maker(name: str, channels: int = 3) -> CanvasMaker:
    return canvas_maker(name, Spectrum.of(_photographs(32, channels)))


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


@pytest.mark.parametrize(("name", "lr", "steps"), [("fourier", 0.1, 300), ("pixel", 0.1, 300), ("cppn", 0.01, 600)])
def test_a_canvas_can_fit_a_photograph(name: str, lr: float, steps: int) -> None:
    photograph = _photographs(1)
    canvas = _maker(name)(_generators(1), 3, (32, 32), CPU)
    optimizer = torch.optim.Adam(canvas.parameters, lr=lr)
    first = F.mse_loss(canvas.images(), photograph).item()
    for _ in range(steps):
        loss = F.mse_loss(canvas.images(), photograph)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < (1e-3 if name != "cppn" else first / 4)


def test_maco_fits_a_photograph_of_its_own_spectrum_by_phase_alone() -> None:
    photograph = _photographs(1)
    inner = before_sigmoid(photograph)
    amplitude = torch.fft.rfft2(inner, norm="ortho").abs()[0]
    amplitude[:, 0, 0] = 0
    own = Spectrum(amplitude, inner.mean((0, 2, 3)))
    canvas = Maco(_generators(1), 3, (32, 32), CPU, spectrum=own)
    canvas.begin_at(photograph)
    assert (canvas.images() - photograph).abs().max() < 1e-3
    with torch.no_grad():
        canvas.phase.add_(0.3 * torch.randn(canvas.phase.shape, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam(canvas.parameters, lr=0.05)
    for _ in range(300):
        loss = F.mse_loss(canvas.images(), photograph)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 1e-3


@pytest.mark.parametrize("size", [(32, 32), (48, 40)])
def test_maco_keeps_the_natural_amplitude_whatever_its_phases(size: tuple[int, int]) -> None:
    spectrum = Spectrum.of(_photographs(64))
    canvas = Maco(_generators(4), 3, size, CPU, spectrum=spectrum)
    drawn = before_sigmoid(canvas.images().clamp(0.011, 0.989))
    inner = torch.fft.rfft2(drawn, norm="ortho").abs()
    # The first and last column of a real transform mirror themselves, so free phases partly cancel there.
    assert torch.allclose(inner[..., 1:-1].mean(0), spectrum.at(size)[..., 1:-1], atol=0.05, rtol=0.05)
    assert torch.allclose(drawn.mean((0, 2, 3)), spectrum.mean, atol=0.05)


def test_maco_takes_a_spectrum_that_fits() -> None:
    with pytest.raises(UserError, match="takes the spectrum of images"):
        canvas_maker("maco")
    with pytest.raises(UserError, match="a spectrum of 3 channels does not fit images of 1"):
        _maker("maco")(_generators(1), 1, (16, 16), CPU)


def test_a_cppn_equals_its_network_pixel_by_pixel() -> None:
    canvas = Cppn(_generators(2), 3, (5, 9), CPU, layers=3, width=4)
    with torch.no_grad():
        for weight in canvas.weights:
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    images = canvas.images()
    extent = 3**0.5
    for row, column, picture in ((0, 0, 0), (4, 8, 1), (2, 4, 0), (1, 7, 1)):
        signal = torch.tensor([(row / 2 - 1) * extent * 5 / 9, (column / 4 - 1) * extent])
        for weight in canvas.weights[:-1]:
            turned = torch.atan(weight[picture] @ signal)
            signal = torch.cat([turned / 0.67, turned**2 / 0.6])
        drawn = to_rgb((canvas.weights[-1][picture] @ signal)[None, :, None, None]).sigmoid().flatten()
        assert torch.allclose(images[picture, :, row, column], drawn, atol=1e-5)


def test_a_cppn_begins_grey_and_cannot_begin_at_an_image() -> None:
    canvas = Cppn(_generators(1), 3, (16, 16), CPU)
    assert torch.equal(canvas.images(), torch.full((1, 3, 16, 16), 0.5))
    with pytest.raises(UserError, match="cannot begin at an image"):
        canvas.begin_at(_photographs(1, size=(16, 16)))


@pytest.mark.parametrize("maker", [Fourier, partial(Fourier, decay=1.5), Pixels])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_canvas_begins_at_the_image_given(maker: CanvasMaker, channels: int) -> None:
    images = _photographs(2, channels, (24, 33))
    canvas = maker(_generators(2), channels, (24, 33), CPU)
    canvas.begin_at(images)
    assert (canvas.images() - images).abs().max() < 1e-4


@pytest.mark.parametrize("name", list(CANVASES))
def test_every_canvas_climbs(name: str) -> None:
    made = [
        maximize(
            toy_model(), channel("4", [0, 1]), size=32, steps=steps, transform=Affine(), canvas=_maker(name), chunk=2
        ).clean
        for steps in (1, 60)
    ]
    assert (made[1] > made[0]).all()


def test_with_alpha_an_opacity_stands_beside_the_colours() -> None:
    canvas = with_alpha(Pixels)(_generators(2), 3, (16, 24), CPU)
    assert canvas.images().shape == (2, 4, 16, 24)
    assert len(canvas.parameters) == 2
    photographs = _photographs(2, size=(16, 24))
    canvas.begin_at(photographs)
    assert (canvas.images()[:, :3] - photographs).abs().max() < 1e-4


@pytest.mark.parametrize("name", list(CANVASES))
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_lie_between_0_and_1_for_any_number_of_channels(name: str, channels: int) -> None:
    canvas = _maker(name, channels)(_generators(2), channels, (16, 24), CPU)
    with torch.no_grad():
        last = canvas.parameters[-1]
        last.add_(torch.randn(last.shape, generator=torch.Generator().manual_seed(0))).mul_(1e4)
    images = canvas.images()
    assert images.shape == (2, channels, 16, 24)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("name", list(CANVASES))
def test_a_pictures_noise_depends_on_its_own_generator_alone(name: str) -> None:
    alone, among = (
        _maker(name)([generator_for(0, key) for key in keys], 3, (16, 16), CPU).parameters[0] for keys in ("b", "abc")
    )
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(among[0], among[1])


def test_an_unknown_canvas_names_those_there_are() -> None:
    with pytest.raises(UserError, match="no canvas 'forier'; the closest are 'fourier'"):
        canvas_maker("forier")
    assert canvas_maker(Fourier) is Fourier


@pytest.mark.parametrize("size", [(32, 32), (24, 48)])
def test_a_calm_border_keeps_the_middle_and_fades_towards_the_mean_colour(size: tuple[int, int]) -> None:
    noisy = calm(partial(Pixels, sd=2.0), edge=0.25)(_generators(2), 3, size, CPU)
    plain = Pixels(_generators(2), 3, size, CPU, sd=2.0)
    images, before = noisy.images(), plain.images()
    rows, columns = (slice(length // 4 + 1, -length // 4 - 1) for length in size)
    assert torch.allclose(images[..., rows, columns], before[..., rows, columns], atol=1e-6)
    corner = images[..., 0, 0] - before.mean((2, 3))
    assert torch.allclose(corner, 0.25 * (before[..., 0, 0] - before.mean((2, 3))), atol=1e-5)
    assert noisy.parameters[0].shape == plain.parameters[0].shape
