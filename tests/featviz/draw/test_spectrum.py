from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featviz.draw.spectrum import Spectrum, amplitudes, before_sigmoid, slopes
from featviz.errors import UserError


def _power_law(exponent: float, size: int, count: int = 24) -> Tensor:
    """Images whose amplitude falls as frequency to the exponent, of random phase."""
    generator = torch.Generator().manual_seed(0)
    frequency = torch.sqrt(torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size)[None] ** 2)
    frequency[0, 0] = 1
    phase = torch.rand(count, size, size // 2 + 1, generator=generator) * 2 * torch.pi
    images = torch.fft.irfft2(torch.polar((frequency**exponent).expand_as(phase), phase), s=(size, size))
    images = images / images.std((1, 2), keepdim=True)
    return (0.5 + 0.1 * images)[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("exponent", [0.0, -1.0, -1.5])
@pytest.mark.parametrize("size", [96, 224])
def test_the_slope_of_a_power_law_is_its_exponent(exponent: float, size: int) -> None:
    assert slopes(_power_law(exponent, size)).mean().item() == pytest.approx(exponent, abs=0.12)


def test_the_spectrum_is_the_mean_amplitude_of_the_canvas_coordinates() -> None:
    images = torch.rand(3, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    found = Spectrum.of(images)
    inner = before_sigmoid(images)
    rows, columns = ((1 - torch.cos(2 * torch.pi * torch.arange(n) / (n - 1))) / 2 for n in (16, 12))
    window = rows[:, None] * columns[None]
    inner = (inner - inner.mean((2, 3), keepdim=True)) * window / window.square().mean().sqrt()
    expected = torch.stack([torch.fft.fft2(image, norm="ortho").abs()[:, :, :7] for image in inner]).mean(0)
    expected[:, 0, 0] = 0
    assert torch.allclose(found.amplitude, expected, atol=1e-5)
    assert torch.allclose(found.mean, before_sigmoid(images).mean((0, 2, 3)), atol=1e-5)
    assert amplitudes(images).shape == (3, 3, 16, 7)
    with pytest.raises(UserError, match=r"got \(0, 3, 16, 16\)"):
        Spectrum.of(torch.rand(0, 3, 16, 16))


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (128, 160)])
def test_resized_a_power_law_keeps_its_strength_per_cycles_per_pixel(size: tuple[int, int]) -> None:
    rows, columns = torch.fft.fftfreq(128)[:, None], torch.fft.rfftfreq(128)[None]
    own = Spectrum((1 / (torch.sqrt(rows**2 + columns**2) + 0.05))[None], torch.zeros(1))
    found = own.at(size)[0]
    for row, column in ((3, 5), (-7, 2), (10, 20)):
        frequency = ((row / size[0]) ** 2 + (column / size[1]) ** 2) ** 0.5
        assert found[row, column].item() == pytest.approx(1 / (frequency + 0.05), rel=0.02)
    assert found[0, 0] == 0


def test_white_noise_keeps_its_variance_at_another_size() -> None:
    noise = torch.sigmoid(torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    spectrum = Spectrum.of(noise)
    assert spectrum.at((96, 96)).mean() == pytest.approx(spectrum.amplitude.mean().item(), rel=0.03)


def test_twice_as_large_the_lowest_frequencies_go_on_as_one_over_f() -> None:
    rows, columns = torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64)[None]
    frequency = torch.sqrt(rows**2 + columns**2)
    frequency[0, 0] = torch.inf
    found = Spectrum((1 / frequency)[None], torch.zeros(1)).at((128, 128))[0]
    for place in ((0, 1), (1, 0), (-1, 0)):
        assert found[place].item() == pytest.approx(128, rel=0.01)
    assert found[0, 0] == 0
