"""The spectrum of images: how strong each spatial frequency is, in decorrelated colour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from . import color

# Frequencies, in cycles per pixel, between which a picture's slope is fitted: below, too few coefficients; above, what
# resampling left of the image.
LOWEST, HIGHEST = 1 / 32, 0.35
_BANDS = 12


@dataclass(frozen=True)
class Spectrum:
    """Mean amplitude of images by frequency, in the coordinates of a canvas: decorrelated, before the sigmoid.

    `amplitude`: (channels, h, w // 2 + 1) of the orthonormal real FFT, the rows in the order of `fftfreq`, zero at
    frequency zero; `mean`: (channels,) the images' mean colour.
    """

    amplitude: Tensor
    mean: Tensor

    @classmethod
    def of(cls, images: Tensor) -> Spectrum:
        """The mean over images (n, channels, h, w) in [0, 1]; raises `UserError` where there are none."""
        if images.dim() != 4 or not len(images):
            raise UserError(f"a spectrum is measured on images (n, channels, h, w); got {tuple(images.shape)}.")
        return cls(amplitudes(images).mean(0), before_sigmoid(images).mean((0, 2, 3)))

    def at(self, size: tuple[int, int]) -> Tensor:
        """The amplitude for images of (height, width): each frequency per pixel keeps its strength.

        Natural images look alike at every scale, which in an orthonormal transform leaves the amplitude at a number of
        cycles per pixel the same. Ruderman 1994, "The statistics of natural images".
        """
        height, width = size
        if self.amplitude.shape[1:] == (height, width // 2 + 1):
            return self.amplitude
        filled = self.amplitude.clone()
        # Below the lowest frequency measured, 1 / f goes on: half-way to zero it is twice as strong.
        filled[:, 0, 0] = 3 * (filled[:, 1, 0] + filled[:, -1, 0] + filled[:, 0, 1]) / 3
        ordered = torch.fft.fftshift(filled, dim=1)
        rows = torch.fft.fftshift(torch.fft.fftfreq(height))
        columns = torch.fft.rfftfreq(width)
        own_rows = torch.fft.fftshift(torch.fft.fftfreq(self.amplitude.shape[1]))
        step = float(own_rows[1] - own_rows[0])
        y = (rows - own_rows[0]) / step / (len(own_rows) - 1) * 2 - 1
        x = columns / 0.5 * 2 - 1
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
        found: Tensor = F.grid_sample(ordered[None], grid[None].to(ordered), padding_mode="border", align_corners=True)[
            0
        ]
        found = torch.fft.ifftshift(found, dim=1)
        found[:, 0, 0] = 0
        return found


def before_sigmoid(images: Tensor) -> Tensor:
    """Images (n, channels, h, w) in [0, 1] in a canvas's coordinates: the inverse of its colours and its sigmoid."""
    return color.from_rgb(torch.logit(images.clamp(0.01, 0.99)))


def amplitudes(images: Tensor) -> Tensor:
    """(n, channels, h, w // 2 + 1) of each image under a Hann window; zero at frequency zero, the mean colour.

    Without the window the jump from edge to opposite edge puts a cross into the spectrum, and cross-hatching into the
    pictures of a canvas that takes it for natural. The window's own mean square is divided out.
    """
    inner = before_sigmoid(images)
    window = _hann(images)
    inner = (inner - inner.mean((2, 3), keepdim=True)) * window / window.square().mean().sqrt()
    found: Tensor = torch.fft.rfft2(inner, norm="ortho").abs()
    found[..., 0, 0] = 0
    return found


def slopes(images: Tensor) -> Tensor:
    """(n,) exponent of each image's spectrum: log amplitude over log frequency; natural photographs lie near -1.

    images: (n, channels, h, w) in [0, 1], at least 16 x 16. Brightness alone counts, under a Hann window, without which
    the jump from edge to edge adds an exponent of its own. The amplitude is averaged (root mean square) in rings of
    equal ratio, from 1/32 (2 cycles per picture where it is small) to 0.35 cycles per pixel.
    """
    height, width = images.shape[-2:]
    grey = images.mean(1)
    grey = grey - grey.mean((1, 2), keepdim=True)
    power = torch.fft.rfft2(grey * _hann(images)).abs().square()
    frequency = torch.sqrt(torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width)[None] ** 2)
    lowest = max(LOWEST, 2 / min(height, width))
    edges = torch.logspace(torch.tensor(lowest).log10().item(), torch.tensor(HIGHEST).log10().item(), _BANDS + 1)
    band = torch.bucketize(frequency, edges) - 1
    rings = [number for number in range(_BANDS) if (band == number).any()]
    strength = torch.stack([power[:, band == number].mean(1) for number in rings], 1).clamp(min=1e-20).log() / 2
    place = torch.stack([frequency[band == number].log().mean() for number in rings]).to(strength)
    place = place - place.mean()
    return (strength * place).sum(1) / place.square().sum()


def _hann(images: Tensor) -> Tensor:
    """(h, w) window that falls to nothing at the images' edges."""
    rows, columns = (torch.hann_window(length, periodic=False) for length in images.shape[-2:])
    return torch.outer(rows, columns).to(images)
